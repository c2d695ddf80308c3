// Pages of a lazy restore: those that are still where the snapshot has them, how they are brought, and which were
// wanted.

import type { PrivateMemory } from '../asked/object.ts';
import type { Pager } from '../asked/pager.ts';
import { higher, lower } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import * as validate from '../core/validate.ts';
import type { VaSpace } from '../sinks/va-space.ts';
import type { SnapshotLayout } from '../snapshot/layout.ts';
import { checkGoingOn } from '../snapshot/memory-writer.ts';
import { bytesOf, PAGE, type PageRange, pairsOf, stepsOf, within } from '../snapshot/page-list.ts';
import { orAborted } from '../snapshot/stream.ts';
import { inLargeSteps, inStretches, type WantedPages, writeWorkingSet } from '../snapshot/working-set.ts';
import { checkWork, type SnapshotWork, stepCounter } from '../snapshot/write.ts';
import { checkedRange, type GpaRange, lastOf } from './layout.ts';

/** Options of `LazyPages.load`. */
export interface LoadOptions extends SnapshotWork {
  /** Guest memory that is loaded, as the guest sees it now. Default: all RAM. */
  readonly range?: GpaRange;
}

/** Parts of a lazy restore. */
interface LazyParts {
  /** Folder of the snapshot; undefined where it is in none. */
  readonly folder: string | undefined;
  readonly layout: SnapshotLayout;
  readonly pager: Pager;
  /** Pages that earlier restores have wanted. */
  readonly workingSet: readonly WantedPages[];
  /** Memory of each block of the layout. */
  readonly memories: readonly PrivateMemory[];
  readonly va: VaSpace;
}

/** Pages of some memory. */
interface MemoryPages {
  readonly memory: PrivateMemory;
  readonly pages: readonly PageRange[];
}

/** Has files read ahead. */
function bringAhead({ addon }: Pager, { memory, pages }: MemoryPages): void {
  addon.bringAhead(memory.block!, pairsOf(pages));
}

/** Pages of a guest that was restored lazily. One comes when somebody touches it, and all of them when they are loaded;
 *  those that earlier restores of the snapshot have wanted (see `saveWorkingSet`) come by themselves, in the
 *  background. */
export class LazyPages {
  readonly #parts: LazyParts;

  /** @internal Made by GuestMemoryBuilder.fromSnapshot. */
  constructor(parts: LazyParts) {
    this.#parts = parts;
    const { pager, workingSet, layout, memories } = parts;
    const wanted = workingSet.map(({ ram, pages }) => {
      const memory = memories[layout.ram.findIndex(({ name }) => name === ram)]!;
      return { memory, pages: inLargeSteps(pages) };
    });
    if (pager.hasSource) void this.#askAhead(wanted);
    else for (const each of wanted) bringAhead(pager, each);
  }

  /** Bytes that the snapshot alone has. What was discarded is not among them, nor what has gone. */
  get absentBytes(): number {
    return this.#absent().reduce((bytes, { pages }) => bytes + bytesOf(pages), 0);
  }

  /** Number of pages that somebody has waited for. Throws CLOSED. */
  get waits(): number {
    return this.#wanted().length;
  }

  /** Brings all of them, in the background; who touches one meanwhile comes first. The snapshot's files are of no use
   *  any more then, and a stream has been read to the end of the snapshot. Rejects with SYSTEM where one cannot be
   *  read, with what the page source throws, with what the stream has failed with, CLOSED where RAM goes meanwhile,
   *  ABORTED: what has come stays. */
  async load(options?: LoadOptions): Promise<void> {
    const { range, ...work } = validate.options(options, ['range', 'signal', 'progress'], 'load');
    checkWork(work);
    const absent = range === undefined ? this.#absent() : this.#absentIn(checkedRange(range, 'the range'));
    const onStep = stepCounter(
      absent.map(({ pages }) => pages),
      work.progress,
    );
    for (const { memory, pages } of absent) {
      for (const step of stepsOf(pages)) {
        checkGoingOn(work.signal);
        await orAborted(this.#bring(memory, step), work.signal);
        onStep(step.length);
      }
    }
    if (range === undefined) await orAborted(this.#parts.pager.ended, work.signal);
  }

  /** Writes beside the snapshot which pages were wanted, by this restore and earlier ones, in order. The next restore
   *  of the snapshot brings these in the background, in large steps. Rejects with SYSTEM, CLOSED, and INVALID_ARGUMENT
   *  where the snapshot has come by a stream. */
  async saveWorkingSet(): Promise<void> {
    const { folder, layout, workingSet } = this.#parts;
    if (folder === undefined) throw validate.invalid('a snapshot that has come by a stream is in no folder');
    await writeWorkingSet(folder, layout, [...workingSet, ...inStretches(this.#wanted())]);
  }

  async #bring(memory: PrivateMemory, range: PageRange): Promise<void> {
    await memory.ask(range.offset, range.length);
    await memory.fetch(range.offset, range.length);
  }

  /** Has the source give pages when nobody waits for another one. What it does not give is left. */
  async #askAhead(wanted: readonly MemoryPages[]): Promise<void> {
    const { pager } = this.#parts;
    for (const { memory, pages } of wanted) {
      for (const { offset, length } of pages) {
        const absent = memory.closed ? [] : (memory.absentRanges() as readonly PageRange[]);
        for (const step of stepsOf([...within(absent, offset, offset + length)])) {
          await pager.quiet();
          if (pager.isClosed) return;
          await memory.ask(step.offset, step.length).catch(() => {});
        }
      }
    }
  }

  #wanted(): { ram: string; offset: number }[] {
    const { pager, layout, memories } = this.#parts;
    if (pager.isClosed) throw new MembackingError('CLOSED', 'the guest memory manager is closed');
    const names = new Map(memories.map(({ block }, i) => [block, layout.ram[i]!.name]));
    const pairs = pager.addon.wanted();
    return Array.from({ length: pairs.length / 2 }, (_, i) => ({
      ram: names.get(pairs[2 * i])!,
      offset: pairs[2 * i + 1]!,
    }));
  }

  #absent(): MemoryPages[] {
    const open = this.#parts.memories.filter((memory) => !memory.closed);
    return open.map((memory) => ({ memory, pages: memory.absentRanges() as readonly PageRange[] }));
  }

  /** Absent pages that a range of guest memory shows. */
  #absentIn(range: GpaRange): MemoryPages[] {
    const absent = new Map(this.#absent().map(({ memory, pages }) => [memory, pages]));
    return this.#parts.va.pieces().flatMap((piece) => {
      const pages = absent.get(piece.object as PrivateMemory);
      const [from, last] = [higher(piece.gpa, range.gpa), lower(lastOf(piece), lastOf(range))];
      if (pages === undefined || from > last) return [];
      const start = Number(piece.objectOffset) + Number(from) - Number(piece.gpa);
      const [first, end] = [Math.floor(start / PAGE) * PAGE, start + Number(last) - Number(from) + 1];
      return [
        { memory: piece.object as PrivateMemory, pages: [...within(pages, first, Math.ceil(end / PAGE) * PAGE)] },
      ];
    });
  }
}
