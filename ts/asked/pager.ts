// Pagers: what brings the pages of private memory when somebody touches them first. One serves all memory of one map.

import { channel } from 'node:diagnostics_channel';
import * as abi from '../../assembly/abi.ts';
import { formatHex, isPageAligned } from '../core/address.ts';
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
 *  on, one at least. `length`: bytes that are wanted; those of one page where somebody waits for it. */
export type PageSource = (ram: string, offset: number, length: number) => Uint8Array | PromiseLike<Uint8Array>;

/** Pages of memory that a pager brings. */
export interface PagesWanted {
  /** Number of the memory, and its name. */
  readonly block: number;
  readonly ram: string;
  readonly offset: number;
  readonly length: number;
}

/** Giver of the pages that no file has: what a pager asks. */
export interface PageGiver {
  /** Milliseconds that it has for a page that somebody waits for. */
  readonly timeout: number;
  /** Promise of the end of what it gives by itself, if it does; rejects where that fails. */
  readonly ended?: Promise<void>;
  /** Supplies a pager with pages from the first wanted one on. Returns how many bytes are there then; rejects where
   *  that one cannot be had. */
  give(wanted: PagesWanted, pager: Pager): Promise<number>;
  /** Is told that nobody needs pages any more. */
  close?(): void;
}

/** Giver of what a source gives. */
export function givenBy(pageSource: PageSource, timeout: number): PageGiver {
  return {
    timeout,
    async give({ block, ram, offset, length }, pager) {
      const bytes = await pageSource(ram, offset, length);
      if (!(bytes instanceof Uint8Array) || bytes.length === 0 || !isPageAligned(bytes.length)) {
        const given = bytes instanceof Uint8Array ? `${bytes.length} bytes` : String(bytes);
        throw validate.invalid(`a page source must give whole pages of ${abi.PAGE_SIZE} bytes, not ${given}`);
      }
      pager.supply(block, offset, bytes);
      return bytes.length;
    },
  };
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
  readonly #giver: PageGiver | undefined;
  /** Names of memory by the pager's numbers. */
  readonly #names = new Map<number, string>();
  /** Errors of the source, by block and offset, until they are told. */
  readonly #failures = new Map<string, unknown>();
  /** Pages that somebody waits for, by block and offset, as far as the giver was asked for them. */
  readonly #awaited = new Set<string>();
  #whenQuiet: (() => void)[] = [];
  #closed = false;

  private constructor(addon: AddonPager, giver: PageGiver | undefined) {
    this.addon = addon;
    this.#giver = giver;
    addon.listen(() => this.#hear());
    if (giver !== undefined) addon.beginSource(giver.timeout);
  }

  /** Makes one. `giver`: of the pages that are FROM_SOURCE. Throws SYSTEM. */
  static open(giver?: PageGiver): Pager {
    return systemError('memory cannot be restored lazily', () =>
      withRemedy(
        REMEDIES,
        () =>
          new Pager(
            obtained(() => native().Pager.create()),
            giver,
          ),
      ),
    );
  }

  /** Whether pages come from a source. */
  get hasSource(): boolean {
    return this.#giver !== undefined;
  }

  /** Promise of the end of what comes by itself. */
  get ended(): Promise<void> {
    return this.#giver?.ended ?? Promise.resolve();
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Names memory of this pager. */
  name(block: number, name: string): void {
    this.#names.set(block, name);
  }

  /** Has the source give pages from `offset` on, `length` bytes if it likes. Returns how many are there then. Rejects
   *  with what it throws, or INVALID_ARGUMENT where that is no whole page. */
  give(block: number, offset: number, length: number): Promise<number> {
    return this.#giver!.give({ block, ram: this.#names.get(block)!, offset, length }, this);
  }

  /** Puts pages where they belong, unless they are there, or nobody needs them any more. */
  supply(block: number, offset: number, bytes: Uint8Array): void {
    if (!this.#closed) this.addon.supply(block, offset, bytes);
  }

  /** Has the giver give pages that are there already, or that a file has: they are absent from now on. */
  expect(block: number, offset: number, length: number): void {
    if (!this.#closed) this.addon.expect(block, offset, length);
  }

  /** Waits until nobody waits for a page of the source. */
  async quiet(): Promise<void> {
    while (this.#awaited.size > 0) await new Promise<void>((resolve) => this.#whenQuiet.push(resolve));
  }

  close(): void {
    this.#closed = true;
    this.addon.close();
    this.#giver?.close?.();
    for (const key of [...this.#awaited]) this.#noLongerAwaited(key);
  }

  #hear(): void {
    if (this.#closed) return;
    const asked = this.addon.takeAsked();
    for (let i = 0; i < asked.length; i += 2) void this.#answer(asked[i]!, asked[i + 1]!);
    for (const { block, offset, error } of this.addon.takeLosses()) {
      const memory = this.#names.get(block)!;
      const key = keyOf(block, offset);
      this.#noLongerAwaited(key);
      const lost = wrapped(`page ${formatHex(offset)} of RAM "${memory}" cannot be read`, error);
      if (this.#failures.has(key)) lost.cause = this.#failures.get(key);
      this.#failures.delete(key);
      LOST_CHANNEL.publish({ memory, offset, error: lost } satisfies PageLostMessage);
    }
  }

  async #answer(block: number, offset: number): Promise<void> {
    const key = keyOf(block, offset);
    this.#awaited.add(key);
    try {
      await this.give(block, offset, abi.PAGE_SIZE);
    } catch (error) {
      if (this.#closed) return;
      this.#failures.set(key, error);
      this.addon.refuse(block, offset);
    } finally {
      this.#noLongerAwaited(key);
    }
  }

  #noLongerAwaited(key: string): void {
    if (!this.#awaited.delete(key) || this.#awaited.size > 0) return;
    for (const resolve of this.#whenQuiet.splice(0)) resolve();
  }
}

function keyOf(block: number, offset: number): string {
  return `${block} ${offset}`;
}

/** Parts as the addon takes them. */
export function partsForAddon(parts: readonly FilePart[]): BigUint64Array {
  return BigUint64Array.from(
    parts.flatMap(({ offset, length, file, fileOffset }) => [offset, length, file, fileOffset].map(BigInt)),
  );
}
