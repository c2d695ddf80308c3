// The ISA bridge (PIIX3): it says which interrupt line each of the four links of the PCI bus leads to.

import { PciFunction } from './pci.ts';

const FIRST_LINK = 0x60;
const IS_OFF = 0x80;
/** Lines of the links, as SeaBIOS sets them too. */
export const LINK_LINES = [10, 10, 11, 11] as const;

export class IsaBridge extends PciFunction {
  constructor() {
    super({ vendor: 0x8086, device: 0x7000, classCode: 0x060100 });
    for (const [link, line] of LINK_LINES.entries()) this.define(FIRST_LINK + link, 1, line, IS_OFF | 0x0f);
  }

  /** The line of a link; undefined where it is off. */
  lineOf(link: number): number | undefined {
    const route = this.register(FIRST_LINK + link);
    return route & IS_OFF ? undefined : route;
  }
}
