// Snapshots of a guest that runs, for `boot` and `restore`: when they are taken, and what is said of them.

import type { SnapshotLayout } from '../index.ts';
import type { Monitor, Stop } from '../vmm/index.ts';
import { type Arguments, UsageError } from './command.ts';
import { complain } from './output.ts';
import { withProgress } from './progress.ts';

/** Options that say of snapshots. */
export const SNAPSHOT_OPTIONS = {
  snapshot: { type: 'string' },
  'snapshot-at': { type: 'string' },
} as const;

/** Lines of the help that say of them. */
export const SNAPSHOT_HELP = `  --snapshot DIR   write a snapshot of the machine there, for "membacking restore": at SIGUSR1 and, on a terminal, at
                   Ctrl-A S, while the guest goes on; where none was taken, when it has ended. Of the disk, it keeps the
                   name
  --snapshot-at TEXT
                   take it when the guest has sent TEXT to its serial port, such as "login: ", and hold it meanwhile`;

/** Snapshots of one guest in one folder, of which the last stays. */
export class Snapshots {
  readonly #folder: string | undefined;
  readonly #text: string;
  /** End of what the guest has sent, as long as the text; the text is waited for once. */
  #sent = '';
  #isTextDone: boolean;
  #monitor: Monitor | undefined;
  #taken: Promise<void> | undefined;
  #isTaking = false;
  /** Error of the last one. */
  #failure: unknown;

  /** Reads the options. Throws UsageError. */
  constructor({ snapshot, 'snapshot-at': text }: Arguments['options']) {
    if (text !== undefined && snapshot === undefined) throw new UsageError('--snapshot-at is for a --snapshot');
    this.#folder = snapshot === undefined ? undefined : String(snapshot);
    this.#text = String(text ?? '');
    this.#isTextDone = this.#text === '';
  }

  /** The guest has sent a byte. */
  serial(byte: number): void {
    if (this.#isTextDone) return;
    this.#sent = (this.#sent + String.fromCharCode(byte)).slice(-this.#text.length);
    if (this.#sent !== this.#text) return;
    this.#isTextDone = true;
    this.#take(false);
  }

  /** The guest begins to run. */
  begin(monitor: Monitor): void {
    if (this.#folder === undefined) return;
    this.#monitor = monitor;
    process.on('SIGUSR1', this.take);
  }

  /** Takes one while the guest goes on, unless one is being taken. */
  readonly take = () => this.#take(true);

  #take(live: boolean): void {
    if (this.#isTaking || this.#folder === undefined || this.#monitor === undefined) return;
    this.#isTaking = true;
    this.#taken = this.#write(this.#folder, this.#monitor, live);
  }

  async #write(folder: string, monitor: Monitor, live: boolean): Promise<void> {
    const began = performance.now();
    try {
      const layout = await withProgress(`snapshot ${folder}`, (work) => monitor.snapshot(folder, { ...work, live }));
      const time = ((performance.now() - began) / 1000).toFixed(2);
      complain('note', `snapshot ${folder}: ${written(layout)}, in ${time} s`);
      this.#failure = undefined;
    } catch (error) {
      this.#failure = error;
    } finally {
      this.#isTaking = false;
    }
  }

  /** The guest has ended, and can go on from there unless it has crashed. Throws what the last snapshot has failed
   *  with. */
  async end({ kind }: Stop): Promise<void> {
    if (this.#taken === undefined && kind !== 'crashed') this.take();
    await this.#taken;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Nobody takes snapshots any more. */
  close(): void {
    process.off('SIGUSR1', this.take);
  }
}

function written({ ram }: SnapshotLayout): string {
  const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  const pages = ram.flatMap((block) => block.pages);
  const total = ram.reduce((bytes, { size }) => bytes + size, 0);
  return `${mib(pages.reduce((bytes, { length }) => bytes + length, 0))} of ${mib(total)} MiB written`;
}
