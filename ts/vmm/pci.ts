// PCI: configuration space behind ports cf8 and cfc, and functions whose BARs the guest places.

import { bytesOf, littleEndian, type PortBus, type PortClaim, type PortDevice } from './ports.ts';

/** A range that a function decodes at an address that the guest chooses. */
export interface Bar {
  /** Space that it is decoded in: I/O ports or memory. */
  readonly kind: 'io' | 'memory';
  /** Bytes or ports: a power of two. */
  readonly size: number;
  /** Decodes at `at`, and nowhere else any more, until `hide`. Where that is refused: nowhere at all, and gives
   *  false. */
  show(at: number): boolean;
  /** Decodes nowhere any more. */
  hide(): void;
}

/** Identity of a PCI function, as its configuration header tells it. */
export interface PciIdentity {
  /** Vendor ID, 16 bits. */
  readonly vendor: number;
  /** Device ID, 16 bits. */
  readonly device: number;
  /** Class, subclass and interface, 8 bits each, as in `0x060000`. */
  readonly classCode: number;
  /** Subsystem ID, 16 bits; the subsystem's vendor is `vendor`. Default 0. */
  readonly subsystem?: number;
}

/** State of a PCI function. */
export type FunctionState = {
  /** Configuration space. */
  readonly registers: Uint8Array;
  /** Numbers that its device holds beside that, by name. */
  readonly device: Readonly<Record<string, number>>;
};

const COMMAND = 0x04;
const COMMAND_BITS = 0x07;
const IO_ENABLED = 0x1;
const MEMORY_ENABLED = 0x2;
const FIRST_BAR = 0x10;
const HEADER_TYPE = 0x0e;
const HAS_MORE_FUNCTIONS = 0x80;
const INTERRUPT_LINE = 0x3c;
const INTERRUPT_PIN = 0x3d;
/** Devices that a bus has room for. */
export const PCI_SLOTS = 32;
const IO_SPACE = 0x1;
const PREFETCHABLE = 0x8;

/** 256 bytes of registers, of which the guest may change what a mask allows. That a BAR's low address bits cannot be
 *  changed is all that it takes for the guest to find its size. */
export class PciFunction {
  readonly #registers = new Uint8Array(256);
  readonly #writable = new Uint8Array(256);
  readonly #bars: { readonly bar: Bar; readonly register: number; shownAt: number | undefined }[] = [];
  #initial: Uint8Array = this.#registers;
  #interrupt = (_isRaised: boolean) => {};

  /** Makes a function without BARs and without an interrupt pin. */
  constructor({ vendor, device, classCode, subsystem = 0 }: PciIdentity) {
    this.define(0x00, 2, vendor);
    this.define(0x02, 2, device);
    this.define(COMMAND, 2, 0, COMMAND_BITS);
    this.define(0x08, 4, classCode << 8);
    this.define(0x2c, 4, subsystem * 0x10000 + vendor);
    this.define(INTERRUPT_LINE, 1, 0, 0xff);
  }

  /** A register: its value after a reset, and the bits that the guest may change. */
  protected define(register: number, size: number, value: number, writable = 0): void {
    this.#registers.set(bytesOf(value, size), register);
    this.#writable.set(bytesOf(writable, size), register);
    this.#initial = this.#registers.slice();
  }

  /** Adds a BAR: `index` from 0 to 5. */
  protected addBar(index: number, bar: Bar): void {
    const register = FIRST_BAR + 4 * index;
    this.define(register, 4, bar.kind === 'io' ? IO_SPACE : PREFETCHABLE, -bar.size);
    this.#bars.push({ bar, register, shownAt: undefined });
  }

  /** Says that the function raises and lowers its first interrupt pin. */
  protected useInterruptPin(): void {
    this.define(INTERRUPT_PIN, 1, 1);
  }

  /** Puts its interrupt pin on a wire. `line`: where it leads after a reset, for guests that ask the function. */
  connect(interrupt: (isRaised: boolean) => void, line: number): void {
    this.#interrupt = interrupt;
    this.define(INTERRUPT_LINE, 1, line, 0xff);
  }

  /** Says that its device has other functions too. */
  shareDevice(): void {
    this.define(HEADER_TYPE, 1, HAS_MORE_FUNCTIONS);
  }

  /** Raises or lowers its interrupt pin. */
  protected setInterrupt(isRaised: boolean): void {
    this.#interrupt(isRaised);
  }

  /** Address at which each BAR is decoded now, by its number; undefined for none. A place that was refused is tried
   *  again with each write of the guest to the function's registers. */
  get bars(): (number | undefined)[] {
    return this.#bars.map(({ shownAt }) => shownAt);
  }

  /** Value of `size` bytes, 1, 2 or 4, from register `at` on. */
  register(at: number, size = 1): number {
    return littleEndian(this.#registers.subarray(at, at + size));
  }

  /** Takes a write of the guest to configuration space. */
  write(at: number, size: number, value: number): void {
    for (const [i, byte] of bytesOf(value, size).entries()) this.setRegister(at + i, byte);
    this.changed();
    this.#placeBars();
  }

  /** One byte of a write. */
  protected setRegister(at: number, byte: number): void {
    const writable = this.#writable[at]!;
    this.#registers[at] = (this.#registers[at]! & ~writable) | (byte & writable);
  }

  /** Called when registers have changed, before BARs follow. */
  protected changed(): void {}

  /** Makes registers and BARs as they are after a reset. */
  reset(): void {
    this.#registers.set(this.#initial);
    this.changed();
    this.#placeBars();
  }

  /** State of the function. */
  save(): FunctionState {
    return { registers: this.#registers.slice(), device: {} };
  }

  /** Makes its state what `save` gave; BARs and all that registers say follow. */
  restore({ registers }: FunctionState): void {
    this.#registers.set(registers);
    this.changed();
    this.#placeBars();
  }

  #placeBars(): void {
    const command = this.register(COMMAND);
    for (const each of this.#bars) {
      const { bar, register, shownAt } = each;
      const isEnabled = (command & (bar.kind === 'io' ? IO_ENABLED : MEMORY_ENABLED)) !== 0;
      const at = isEnabled ? (this.register(register, 4) & -bar.size) >>> 0 : undefined;
      if (at === shownAt) continue;
      if (at === undefined) bar.hide();
      each.shownAt = at !== undefined && bar.show(at) ? at : undefined;
    }
  }
}

/** Ports that a BAR places. */
export function portBar(ports: PortBus, size: number, device: PortDevice): Bar {
  let claim: PortClaim | undefined;
  const hide = () => {
    if (claim !== undefined) ports.release(claim);
    claim = undefined;
  };
  const show = (at: number) => {
    hide();
    claim = ports.claim(at & 0xffff, size, device);
    return true;
  };
  return { kind: 'io', size, show, hide };
}

const ENABLED = 0x8000_0000;

/** Links that interrupt pins share. */
const LINKS = 4;

/** The link of a slot's first pin. */
export function linkOf(slot: number): number {
  return (slot + LINKS - 1) % LINKS;
}

/** Interrupts of the bus: four links, which lead to lines of the interrupt controllers. */
export interface PciInterrupts {
  /** Raises or lowers a link, 0 to 3. */
  set(link: number, isRaised: boolean): void;
  /** The line of a link after a reset. */
  readonly lines: readonly number[];
}

/** Bus 0. */
export class PciBus {
  /** Functions of each device, by their numbers. */
  readonly #devices: PciFunction[][] = [];
  readonly #interrupts: PciInterrupts;
  /** Slots that hold their link raised. */
  readonly #raised = new Set<number>();
  #address = 0;

  /** Claims ports cf8 to cff for configuration space (PCI Local Bus Specification, mechanism #1). */
  constructor(ports: PortBus, interrupts: PciInterrupts) {
    this.#interrupts = interrupts;
    ports.claim(0xcf8, 4, {
      widest: 4,
      read: (_, size) => (size === 4 ? this.#address : 0xffff_ffff),
      write: (_, size, value) => {
        if (size === 4) this.#address = value;
      },
    });
    ports.claim(0xcfc, 4, {
      widest: 4,
      read: (offset, size) => this.#target?.register((this.#address & 0xfc) + offset, size) ?? 0xffff_ffff,
      write: (offset, size, value) => this.#target?.write((this.#address & 0xfc) + offset, size, value),
    });
  }

  /** Puts function 0 of a device into the next free slot. */
  add<Added extends PciFunction>(added: Added): Added {
    const slot = this.#devices.push([added]) - 1;
    added.connect((isRaised) => this.#setPin(slot, isRaised), this.#interrupts.lines[linkOf(slot)]!);
    return added;
  }

  /** Puts a function without an interrupt pin beside the last device's function 0. `number`: 1 to 7. */
  addBeside<Added extends PciFunction>(number: number, added: Added): Added {
    const device = this.#devices.at(-1)!;
    device[0]!.shareDevice();
    device[number] = added;
    return added;
  }

  /** A link is raised as long as any of its pins is. */
  #setPin(slot: number, isRaised: boolean): void {
    const link = linkOf(slot);
    if (isRaised) this.#raised.add(slot);
    else this.#raised.delete(slot);
    this.#interrupts.set(
      link,
      [...this.#raised].some((each) => linkOf(each) === link),
    );
  }

  /** Resets the bus and all functions. */
  reset(): void {
    this.#address = 0;
    for (const each of this.#devices.flat()) each.reset();
  }

  /** State of the bus and all functions. */
  save() {
    return { address: this.#address, functions: this.#devices.flat().map((each) => each.save()) };
  }

  /** Makes its state what `save` gave, of a bus with the same functions. */
  restore({ address, functions }: ReturnType<PciBus['save']>): void {
    this.#address = address;
    for (const [i, each] of this.#devices.flat().entries()) each.restore(functions[i]!);
  }

  get #target(): PciFunction | undefined {
    const device = (this.#address >>> 11) & 0x1f;
    const number = (this.#address >>> 8) & 0x7;
    const bus = this.#address & 0x00ff_0000;
    return this.#address >= ENABLED && bus === 0 ? this.#devices[device]?.[number] : undefined;
  }
}
