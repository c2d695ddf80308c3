// Pagers: what brings the pages of private memory when somebody touches them first. One serves all memory of one map.

import { channel } from 'node:diagnostics_channel';
import * as abi from '../../assembly/abi.ts';
import { formatHex } from '../core/address.ts';
import { obtained } from '../core/collected.ts';
import type { MembackingError } from '../core/errors.ts';
import { type Pager as AddonPager, native } from '../core/native.ts';
import { systemError, withRemedy, wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import type { DataRange } from './data-range.ts';

/** A stretch of memory whose bytes a file has, or the source. */
export interface FilePart extends DataRange {
  /** Index of the file among those of the memory, or FROM_SOURCE. */
  readonly file: number;
  /** Offset in the file of the first byte. */
  readonly fileOffset: number;
}

/** Number of a file that stands for the source. */
export const FROM_SOURCE = 2 ** 32 - 1;

/** Source of pages that no file of this machine has: gives whole pages of 4 KiB of the RAM of that name, from `offset`
 *  on, one at least. */
export type PageSource = (ram: string, offset: number) => Uint8Array | PromiseLike<Uint8Array>;

/** A source, and the milliseconds that it has for a page. */
interface TimedSource {
  readonly pageSource: PageSource;
  readonly timeout: number;
}

/** A message of the channel `membacking:page-lost`: a page could not be had from where a lazy restore has it. */
export interface PageLostMessage {
  /** Name of the memory. */
  readonly memory: string;
  /** Offset in the memory of the page's first byte. */
  readonly offset: number;
  /** Error with the code SYSTEM; its `cause` is the system's, or what the page source threw. */
  readonly error: MembackingError;
}

const LOST_CHANNEL = channel('membacking:page-lost');

/** Reasons why a machine cannot page, by the system's error, and what to do. */
const REMEDIES: Readonly<Record<string, string>> = {
  EINVAL: 'this kernel cannot: Linux has what it takes since 6.6',
  ENOSYS: 'this kernel is built without userfaultfd',
  EPERM:
    'this process may not use userfaultfd: let it (CAP_SYS_PTRACE, /dev/userfaultfd or vm.unprivileged_userfaultfd)',
};

/** A pager. It goes on as long as there is memory whose pages it brings. */
export class Pager {
  /** The addon's handle. */
  readonly addon: AddonPager;
  readonly #source: TimedSource | undefined;
  /** Names of memory by the pager's numbers. */
  readonly #names = new Map<number, string>();
  /** Errors of the source, by block and offset, until they are told. */
  readonly #failures = new Map<string, unknown>();
  #closed = false;

  private constructor(addon: AddonPager, source: TimedSource | undefined) {
    this.addon = addon;
    this.#source = source;
    addon.listen(() => this.#hear());
    if (source !== undefined) addon.beginSource(source.timeout);
  }

  /** Makes one. Throws SYSTEM. */
  static open(source?: TimedSource): Pager {
    return systemError('memory cannot be restored lazily', () =>
      withRemedy(
        REMEDIES,
        () =>
          new Pager(
            obtained(() => native().Pager.create()),
            source,
          ),
      ),
    );
  }

  /** Whether pages come from a source. */
  get hasSource(): boolean {
    return this.#source !== undefined;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Names memory of this pager. */
  name(block: number, name: string): void {
    this.#names.set(block, name);
  }

  /** Has the source give pages from `offset` on. Returns their bytes. Rejects with what it throws, or INVALID_ARGUMENT
   *  where that is no whole page. */
  async give(block: number, offset: number): Promise<number> {
    const bytes = await this.#source!.pageSource(this.#names.get(block)!, offset);
    if (!(bytes instanceof Uint8Array) || bytes.length === 0 || bytes.length % abi.PAGE_SIZE !== 0) {
      const given = bytes instanceof Uint8Array ? `${bytes.length} bytes` : String(bytes);
      throw validate.invalid(`a page source must give whole pages of ${abi.PAGE_SIZE} bytes, not ${given}`);
    }
    if (!this.#closed) this.addon.supply(block, offset, bytes);
    return bytes.length;
  }

  close(): void {
    this.#closed = true;
    this.addon.close();
  }

  #hear(): void {
    if (this.#closed) return;
    const asked = this.addon.takeAsked();
    for (let i = 0; i < asked.length; i += 2) void this.#answer(asked[i]!, asked[i + 1]!);
    for (const { block, offset, error } of this.addon.takeLosses()) {
      const memory = this.#names.get(block)!;
      const key = `${block} ${offset}`;
      const lost = wrapped(`page ${formatHex(offset)} of RAM "${memory}" cannot be read`, error);
      if (this.#failures.has(key)) lost.cause = this.#failures.get(key);
      this.#failures.delete(key);
      LOST_CHANNEL.publish({ memory, offset, error: lost } satisfies PageLostMessage);
    }
  }

  async #answer(block: number, offset: number): Promise<void> {
    try {
      await this.give(block, offset);
    } catch (error) {
      if (this.#closed) return;
      this.#failures.set(`${block} ${offset}`, error);
      this.addon.refuse(block, offset);
    }
  }
}

/** Parts as the addon takes them. */
export function partsForAddon(parts: readonly FilePart[]): BigUint64Array {
  return BigUint64Array.from(
    parts.flatMap(({ offset, length, file, fileOffset }) => [offset, length, file, fileOffset].map(BigInt)),
  );
}
