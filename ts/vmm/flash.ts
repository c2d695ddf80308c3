// Flash that the guest may write: a NOR chip with Intel's command set. Reads of its array are memory, and only writes
// trap; while the chip answers with something else, reads trap too.

import type { MemoryMap, Region, SharedMemory } from '../index.ts';
import { PRIORITY } from './layout.ts';

/** Bytes that are erased together. */
const FLASH_BLOCK = 0x1000;

// Commands (Intel StrataFlash data sheet, "Command Definitions").
const READ_ARRAY = 0xff;
const READ_STATUS = 0x70;
const CLEAR_STATUS = 0x50;
const PROGRAM = 0x40;
const PROGRAM_TOO = 0x10;
const ERASE = 0x20;
const CONFIRM = 0xd0;

// The status register.
const READY = 0x80;
const WRONG_SEQUENCE = 0x30;
const ERASED = 0xff;

export class Flash {
  readonly gpa: number;
  readonly #object: SharedMemory;
  readonly #region: Region;
  #status = 0;
  /** Command that awaits its second write. */
  #command: typeof PROGRAM | typeof ERASE | undefined;

  /** Shows `object` from `gpa` on; what the guest writes is kept in it. */
  constructor(map: MemoryMap, root: Region, gpa: number, object: SharedMemory) {
    this.gpa = gpa;
    this.#object = object;
    this.#region = map.createRegion({ name: object.name, kind: 'rom', size: object.size });
    this.#region.map({ object, writable: false });
    this.#region.place(root, { offset: gpa, priority: PRIORITY.firmware });
  }

  has(gpa: number): boolean {
    return gpa >= this.gpa && gpa - this.gpa < Number(this.#object.size);
  }

  /** Answers an access that trapped: a write, or a read while the array is not seen. */
  access(gpa: number, isWrite: boolean, data: Uint8Array): void {
    if (!isWrite) data.fill(this.#status);
    else if (this.#command === undefined) this.#start(data[0]!);
    else this.#finish(this.#command, gpa - this.gpa, data);
  }

  /** Takes the first write of a command. One that is not known does nothing. */
  #start(command: number): void {
    switch (command) {
      case READ_ARRAY:
        this.#showArray(true);
        break;
      case READ_STATUS:
        this.#showArray(false);
        break;
      case CLEAR_STATUS:
        this.#status = 0;
        break;
      case PROGRAM:
      case PROGRAM_TOO:
        this.#command = PROGRAM;
        this.#showArray(false);
        break;
      case ERASE:
        this.#command = ERASE;
        this.#showArray(false);
        break;
    }
  }

  /** Takes the second write of a command, which is done at once. */
  #finish(command: typeof PROGRAM | typeof ERASE, offset: number, data: Uint8Array): void {
    this.#command = undefined;
    this.#status = READY;
    if (command === PROGRAM) this.#program(offset, data);
    else if (data[0] === CONFIRM) this.#erase(offset);
    else this.#status |= WRONG_SEQUENCE;
  }

  /** Clears bits; only erasing sets them. */
  #program(offset: number, data: Uint8Array): void {
    const bytes = new Uint8Array(Math.min(data.length, Number(this.#object.size) - offset));
    this.#object.read(offset, bytes);
    this.#object.write(
      offset,
      bytes.map((byte, i) => byte & data[i]!),
    );
  }

  #erase(offset: number): void {
    this.#object.write(offset - (offset % FLASH_BLOCK), new Uint8Array(FLASH_BLOCK).fill(ERASED));
  }

  #showArray(isShown: boolean): void {
    if (this.#region.flags.enabled !== isShown) this.#region.setFlags({ enabled: isShown });
  }

  /** State of the chip; what is in its array is memory. */
  save() {
    return { status: this.#status, command: this.#command ?? 0, isArrayShown: this.#region.flags.enabled };
  }

  restore({ status, command, isArrayShown }: ReturnType<Flash['save']>): void {
    this.#status = status;
    this.#command = ([PROGRAM, ERASE] as const).find((each) => each === command);
    this.#showArray(isArrayShown);
  }

  reset(): void {
    this.#status = 0;
    this.#command = undefined;
    this.#showArray(true);
  }
}
