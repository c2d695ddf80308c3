// ACPI's power registers, as much as switches a machine off: at ports 600 to 605, status, enable and control.

import type { PortBus } from './ports.ts';

/** Registers by their ports; `FADT` tells the guest of them. */
export const POWER_PORTS = { event: 0x600, control: 0x604 } as const;
/** Kind of sleep that is no sleep but the end; the guest finds it in `\_S5`. */
export const POWER_OFF = 5;

const STATUS = 0;
const ENABLE = 2;
const CONTROL = 4;
/** Interrupts are ACPI's, and no firmware's: always. */
const IS_ACPI = 0x0001;
const SLEEP = 0x2000;

export class PowerRegisters {
  readonly #words = new Uint16Array(3);

  /** `off` is called when the guest switches the machine off. */
  constructor(ports: PortBus, off: () => void) {
    ports.claim(POWER_PORTS.event, 2 * this.#words.length, {
      widest: 2,
      read: (offset, size) => (this.#read(offset & ~1) >> (8 * (offset & 1))) & (size === 2 ? 0xffff : 0xff),
      write: (offset, size, value) => {
        if (size !== 2 || offset % 2 !== 0) return;
        if (offset === ENABLE) this.#words[1] = value;
        if (offset === CONTROL && value & SLEEP && ((value >> 10) & 7) === POWER_OFF) off();
        if (offset === CONTROL) this.#words[2] = value & ~SLEEP;
      },
    });
  }

  #read(offset: number): number {
    if (offset === STATUS) return 0; // nothing ever happens
    return offset === CONTROL ? this.#words[2]! | IS_ACPI : this.#words[1]!;
  }

  reset(): void {
    this.#words.fill(0);
  }
}
