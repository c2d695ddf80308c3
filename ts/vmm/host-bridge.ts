// The i440FX host bridge: its PAM registers say which parts of the memory between 768 KiB and 1 MiB are RAM for reads
// and which for writes; its SMRAM register, whether RAM or the VGA window is seen at a0000.

import type { RamVisibility, RamVisibilityControl, Region } from '../index.ts';
import { PciFunction } from './pci.ts';

const FIRST_PAM = 0x59;
const PAM_BITS = 0x33;
const SMRAM = 0x72;
const SMRAM_DEFAULT = 0x02;
const SMRAM_OPEN = 0x40;
const SMRAM_LOCKED = 0x10;
const SMRAM_ENABLED = 0x08;
const SMRAM_SEES_RAM = SMRAM_OPEN | SMRAM_ENABLED;

/** A stretch of memory that two bits of a PAM register switch (82441FX data sheet, PAM registers 59h-5Fh). */
export interface PamSegment {
  /** First GPA. */
  readonly gpa: number;
  /** Bytes. */
  readonly length: number;
  /** The PAM register that has its two bits. */
  readonly register: number;
  /** The lower of its two bits. */
  readonly shift: number;
}

/** f0000-fffff in the high half of register 59; then 16 KiB each, two to a register. */
export const SEGMENTS: readonly PamSegment[] = [
  { gpa: 0xf0000, length: 0x10000, register: FIRST_PAM, shift: 4 },
  ...Array.from({ length: 12 }, (_, i) => ({
    ...{ gpa: 0xc0000 + i * 0x4000, length: 0x4000 },
    ...{ register: FIRST_PAM + 1 + (i >> 1), shift: (i & 1) * 4 },
  })),
];

/** Visibility by the two bits of a segment: bit 0, reads are of RAM; bit 1, writes are to RAM. Else they go to what
 *  lies below. */
const VISIBILITIES: readonly RamVisibility[] = ['unmapped', 'read-only', 'unmapped', 'read-write'];
const WRITE_ONLY = 2;

export class HostBridge extends PciFunction {
  readonly #ram: RamVisibilityControl;
  readonly #vgaWindow: Region;
  #isSmramOpen = false;

  /** Makes the bridge as it is after a reset. `vgaWindow`: the region over a0000-bffff that SMRAM hides. */
  constructor(ram: RamVisibilityControl, vgaWindow: Region) {
    super({ vendor: 0x8086, device: 0x1237, classCode: 0x060000 });
    this.#ram = ram;
    this.#vgaWindow = vgaWindow;
    for (let register = FIRST_PAM; register < FIRST_PAM + 7; register++) this.define(register, 1, 0, PAM_BITS);
    this.define(SMRAM, 1, SMRAM_DEFAULT, SMRAM_OPEN | SMRAM_LOCKED | SMRAM_ENABLED);
    this.reset();
  }

  protected override setRegister(at: number, byte: number): void {
    if (at !== SMRAM) super.setRegister(at, byte);
    else if (byte & SMRAM_LOCKED) super.setRegister(at, byte & ~SMRAM_OPEN);
    else if (!(this.register(SMRAM) & SMRAM_LOCKED)) super.setRegister(at, byte);
  }

  /** The memory map follows, all segments of one write at once. */
  protected override changed(): void {
    this.#ram.setAll(
      SEGMENTS.map(({ gpa, length, register, shift }) => ({
        ...{ gpa, length },
        visibility: VISIBILITIES[(this.register(register) >> shift) & 3]!,
      })),
    );
    const isOpen = (this.register(SMRAM) & SMRAM_SEES_RAM) === SMRAM_SEES_RAM;
    if (isOpen === this.#isSmramOpen) return;
    this.#vgaWindow.setFlags({ enabled: !isOpen });
    this.#isSmramOpen = isOpen;
  }

  /** Sets all PAM registers, as firmware does. */
  setLegacyArea(visibility: RamVisibility): void {
    const bits = VISIBILITIES.lastIndexOf(visibility);
    for (const { register, shift } of SEGMENTS) {
      this.setRegister(register, (this.register(register) & ~(3 << shift)) | (bits << shift));
    }
    this.changed();
  }

  /** Whether a write at this address is to RAM that reads do not see: then the exit has to do it. */
  isWriteOnly(gpa: number): boolean {
    const segment = SEGMENTS.find((each) => gpa >= each.gpa && gpa < each.gpa + each.length);
    return segment !== undefined && ((this.register(segment.register) >> segment.shift) & 3) === WRITE_ONLY;
  }
}
