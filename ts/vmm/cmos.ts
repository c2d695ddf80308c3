// The clock and its 128 bytes of battery-backed memory, at ports 70 and 71: there PC firmware looks for the memory size
// and the boot order.

import type { PortBus } from './ports.ts';

const STATUS_A = 0x0a;
const STATUS_B = 0x0b;
const STATUS_D = 0x0d;
const KIB = 1024;
const MIB = 1024 * KIB;

export interface RamSizes {
  /** Bytes of RAM from address 0 on. */
  readonly low: number;
  /** Bytes of RAM from 4 GiB on. */
  readonly high: number;
}

export class Cmos {
  readonly #bytes = new Uint8Array(128);
  #index = 0;

  constructor(ports: PortBus, { low, high }: RamSizes) {
    this.#store(0x15, 640, 2);
    for (const at of [0x17, 0x30]) this.#store(at, Math.min(low - MIB, 63 * MIB) / KIB, 2);
    this.#store(0x34, Math.max(low - 16 * MIB, 0) / (64 * KIB), 2);
    this.#store(0x5b, high / (64 * KIB), 3);
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

  #store(at: number, value: number, size: number): void {
    for (let i = 0; i < size; i++) this.#bytes[at + i] = Math.floor(value / 2 ** (8 * i));
  }

  /** The time is that of this machine, in UTC and binary-coded decimal. */
  #read(): number {
    const now = new Date();
    switch (this.#index) {
      case 0x00:
        return decimal(now.getUTCSeconds());
      case 0x02:
        return decimal(now.getUTCMinutes());
      case 0x04:
        return decimal(now.getUTCHours());
      case 0x06:
        return decimal(now.getUTCDay() + 1);
      case 0x07:
        return decimal(now.getUTCDate());
      case 0x08:
        return decimal(now.getUTCMonth() + 1);
      case 0x09:
        return decimal(now.getUTCFullYear() % 100);
      case 0x32:
        return decimal(Math.floor(now.getUTCFullYear() / 100));
      case STATUS_A:
        return 0x26; // no update in progress
      case STATUS_B:
        return 0x02; // 24 hours
      case STATUS_D:
        return 0x80; // the battery is good
      default:
        return this.#bytes[this.#index]!;
    }
  }
}

function decimal(value: number): number {
  return Math.floor(value / 10) * 16 + (value % 10);
}
