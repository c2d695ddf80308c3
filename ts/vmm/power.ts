// Power management (PIIX4), as much as switches a machine off and tells time: ACPI's registers at ports 600 to 60b,
// status, enable, control and timer. A function beside the ISA bridge, where firmware looks for it.

import { type FunctionState, PciFunction } from './pci.ts';
import type { PortBus } from './ports.ts';

/** Registers by their ports; `FADT` tells the guest of them. */
export const POWER_PORTS = { event: 0x600, control: 0x604, timer: 0x608 } as const;
/** Number of the function in its device. */
export const POWER_FUNCTION = 3;
/** Kind of sleep that is no sleep but the end; the guest finds it in `\_S5`. */
export const POWER_OFF = 0;

const STATUS = 0;
const ENABLE = 2;
const CONTROL = 4;
/** Interrupts are ACPI's, and no firmware's: always. */
const IS_ACPI = 0x0001;
const SLEEP = 0x2000;
/** Ticks of the timer in a millisecond (ACPI 4.8.3.3), which counts to 2^24. */
const TICKS = 3579.545;
const MOST_TICKS = 0xff_ffff;

// The function's registers (82371AB data sheet, function 3): the ports cannot be moved, and are always on.
const PORTS = 0x40;
const DEVICE_ACTIVITY = 0x58;
/** Says that system management mode is set up, so that firmware does not: the monitor has none. */
const MANAGEMENT_IS_SET_UP = 0x0200_0000;
const PORTS_ARE_ON = 0x80;

export class PowerManagement extends PciFunction {
  readonly #words = new Uint16Array(3);
  /** Ticks by which its time is ahead of this machine's. */
  #ahead = 0;

  /** `off` is called when the guest switches the machine off. */
  constructor(ports: PortBus, off: () => void) {
    super({ vendor: 0x8086, device: 0x7113, classCode: 0x068000 });
    this.define(PORTS, 4, POWER_PORTS.event + 1);
    this.define(DEVICE_ACTIVITY, 4, MANAGEMENT_IS_SET_UP);
    this.define(PORTS_ARE_ON, 1, 1);
    ports.claim(POWER_PORTS.timer, 4, {
      widest: 4,
      read: (offset) => this.#ticks >> (8 * offset),
      write: () => {},
    });
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

  get #ticks(): number {
    return (performance.now() * TICKS + this.#ahead) & MOST_TICKS;
  }

  override save(): FunctionState {
    const [, enable, control] = this.#words;
    return { ...super.save(), device: { enable: enable!, control: control!, ticks: this.#ticks } };
  }

  /** The timer goes on from where it was. */
  override restore(state: FunctionState): void {
    super.restore(state);
    const { enable, control, ticks } = state.device as { enable: number; control: number; ticks: number };
    this.#words.set([0, enable, control]);
    this.#ahead += (ticks & MOST_TICKS) - this.#ticks;
  }

  override reset(): void {
    super.reset();
    this.#words.fill(0);
  }
}
