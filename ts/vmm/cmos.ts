// The clock and its 128 bytes of battery-backed memory, at ports 70 and 71: there PC firmware looks for the memory size
// and the boot order.

import type { PortBus } from './ports.ts';

/** Status registers: no update is in progress; 24 hours; the battery is good. */
const STATUS: Readonly<Record<number, number>> = { 10: 0x26, 11: 0x02, 13: 0x80 };
const KIB = 1024;
const MIB = 1024 * KIB;

interface RamSizes {
  /** Bytes of RAM from address 0 on. */
  readonly low: number;
  /** Bytes of RAM from 4 GiB on. */
  readonly high: number;
}

export class Cmos {
  readonly #bytes = new Uint8Array(128);
  #index = 0;

  constructor(ports: PortBus, { low, high }: RamSizes, cpus: number) {
    this.#store(0x15, 640, 2);
    for (const at of [0x17, 0x30]) this.#store(at, Math.min(low - MIB, 63 * MIB) / KIB, 2);
    this.#store(0x34, Math.max(low - 16 * MIB, 0) / (64 * KIB), 2);
    this.#store(0x5b, high / (64 * KIB), 3);
    this.#store(0x5f, cpus - 1, 1);
    this.#store(0x3d, 0x02, 1); // boots from the first hard disk
    ports.claim(0x70, 2, {
      widest: 1,
      read: (offset) => (offset === 0 ? 0xff : this.#read()),
      write: (offset, _, value) => {
        if (offset === 0) this.#index = value & 0x7f;
        else this.#bytes[this.#index] = value;
      },
    });
  }

  save() {
    return { bytes: this.#bytes.slice(), index: this.#index };
  }

  restore({ bytes, index }: ReturnType<Cmos['save']>): void {
    this.#bytes.set(bytes);
    this.#index = index & 0x7f;
  }

  #store(at: number, value: number, size: number): void {
    for (let i = 0; i < size; i++) this.#bytes[at + i] = Math.floor(value / 2 ** (8 * i));
  }

  /** The time is that of this machine, in UTC and binary-coded decimal. */
  #read(): number {
    const now = new Date();
    const time: Readonly<Record<number, number>> = {
      0: now.getUTCSeconds(),
      2: now.getUTCMinutes(),
      4: now.getUTCHours(),
      6: now.getUTCDay() + 1,
      7: now.getUTCDate(),
      8: now.getUTCMonth() + 1,
      9: now.getUTCFullYear() % 100,
      50: Math.floor(now.getUTCFullYear() / 100),
    };
    const part = time[this.#index];
    return part === undefined ? (STATUS[this.#index] ?? this.#bytes[this.#index]!) : decimal(part);
  }
}

function decimal(value: number): number {
  return Math.floor(value / 10) * 16 + (value % 10);
}
