// Debian's kernels for clouds with a program of ours, as the lab has them: what the program finds, it says; then it
// reads a line and switches the machine off.

import { existsSync, readFileSync } from 'node:fs';
import { type Monitor, type MonitorOptions, memoryDisk } from '../../ts/vmm/index.ts';
import { SEABIOS } from './pc-guests.ts';

/** A kernel that the monitor starts, or a disk from which SeaBIOS starts it. */
interface DebianGuest {
  readonly name: string;
  readonly commandLine: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly disk?: string;
}

export const DEBIAN_MEMORY = 512 * 2 ** 20;
/** First bytes of the disk of a guest that does not start from it. */
export const DISK = 'MEMBACKING 123';
/** Line that the program hears. */
export const TYPED = 'hello, guest';

const list = process.env.MEMBACKING_GUESTS;

/** Guests of the lab; elsewhere there are none. */
export const DEBIAN_GUESTS: readonly DebianGuest[] =
  list !== undefined && existsSync(list) ? JSON.parse(readFileSync(list, 'utf8')) : [];

export function startOf(guest: DebianGuest): Pick<MonitorOptions, 'start' | 'disk'> {
  const { kernel, initrd, commandLine, disk } = guest;
  if (disk !== undefined) return { start: { firmware: readFileSync(SEABIOS) }, disk: memoryDisk(readFileSync(disk)) };
  const linux = { kernel: readFileSync(kernel), initrd: readFileSync(initrd), commandLine };
  return { start: { linux }, disk: memoryDisk(Buffer.from(DISK)) };
}

/** Talk on the console of a guest, whose question is answered. */
export class Conversation {
  said = '';

  /** Hears a byte of the guest of `monitor`. */
  hear(monitor: Monitor, byte: number): void {
    this.said += String.fromCharCode(byte);
    if (this.said.endsWith('say something:\r\n')) void monitor.type(Buffer.from(`${TYPED}\n`));
  }
}
