// Live copies of a guest's memory: taken while it runs, then, in rounds, of what it has written meanwhile. The guest is
// held for the last round alone, and for no longer than it takes to copy that within this process.

import type { MemoryObject } from '../asked/object.ts';
import { MembackingError } from '../core/errors.ts';
import { checkGoingOn, type Source, type Target, writeBlock } from '../snapshot/memory-writer.ts';
import { bytesOf, joined, type PageRange, stepsOf } from '../snapshot/page-list.ts';
import { type LayoutBeside, memorySize, type PlannedBlock, type SnapshotWork } from '../snapshot/write.ts';
import type { WrittenSince } from './bases.ts';
import type { DirtyMethod } from './dirty-tracker.ts';

/** A guest that is copied while it runs. */
export interface LiveGuest {
  /** Blocks of RAM, and the objects behind them. */
  readonly blocks: readonly PlannedBlock[];
  readonly objects: readonly MemoryObject[];
  /** Pages that were written since the copying began. */
  readonly since: WrittenSince;
  /** Holds all vCPUs. Returns what lets them go on. */
  hold(): Promise<() => void>;
  /** Everything but the memory, while vCPUs are held. */
  facts(): Promise<LayoutBeside>;
}

/** Options of a live copy. */
export interface LiveOptions extends SnapshotWork {
  /** Milliseconds for which vCPUs may be held. */
  readonly maxDowntime: number;
}

/** Rounds in which a guest is given time to write less. */
const MOST_ROUNDS = 30;
/** Bytes that are so few that another round makes them no fewer. */
const LITTLE = 2 ** 18;
/** Bytes that are copied within a millisecond, on slow machines too. */
const BYTES_A_MILLISECOND = 2 ** 19;
/** Bytes that the last round has at most: they are kept in memory. */
const MOST_HELD = 2 ** 28;

/** Pages that a scan looks at within a millisecond, on slow machines too. */
const SCANNED_A_MILLISECOND = 2 ** 18;
/** Part of the time for which vCPUs may be held that the last scan takes at most. */
const SCANNING = 1 / 4;

/** Ways to find out what a guest writes while it is copied, the better one first. By a scan, a write costs the guest
 *  least, but the last one is at all of its pages, while it is held; by faults, that is as long as what was written. */
export function methodsWithin(maxDowntime: number, objects: readonly MemoryObject[]): readonly DirtyMethod[] {
  const pages = objects.reduce((sum, { size, granularity }) => sum + Number(size) / granularity, 0);
  return pages <= maxDowntime * SCANNING * SCANNED_A_MILLISECOND ? ['scan', 'faults'] : ['faults', 'scan'];
}

/** Pages of each block. */
export type BlockPages = readonly (readonly PageRange[])[];

/** Target of a live copy. */
interface LiveTarget {
  /** Place of a block, from an offset in the memory file on. */
  at(fileOffset: number): Target;
  /** Is told which pages are still to be written, each once, in order, and what there is beside the memory. */
  announceLast?(pages: BlockPages, beside: LayoutBeside): Promise<void>;
}

/** Copies a guest's memory to places of zeroes. Returns the pages of each block that were written, and the rest as it
 *  was at the moment that the memory is of. Rejects with DOWNTIME_EXCEEDED where the guest writes too fast, with
 *  ABORTED, CLOSED, and what the places reject with. */
export async function copyLive(
  target: LiveTarget,
  guest: LiveGuest,
  options: LiveOptions,
): Promise<{ pages: BlockPages; beside: LayoutBeside }> {
  const copy = new LiveCopy(target, guest, options);
  const limit = Math.min(options.maxDowntime * BYTES_A_MILLISECOND, MOST_HELD);
  const beside = await copy.untilItFits(
    () => limit,
    (left) => copy.finish(left, limit),
  );
  return { pages: copy.pages, beside };
}

/** Source of a round: all of its pages are written, zeroes too. They are the memory's own by now. */
function again(source: Source, candidates: readonly PageRange[]): Source {
  const origin = source.origin && { ...source.origin, own: undefined };
  return { ...source, candidates, leftOut: 'nothing', origin };
}

function total(pages: BlockPages): number {
  return pages.reduce((bytes, ranges) => bytes + bytesOf(ranges), 0);
}

/** Bytes of a block, and their offset in it. */
interface Held {
  readonly target: Target;
  readonly offset: number;
  readonly bytes: Buffer;
}

/** A copy that is under way. */
export class LiveCopy {
  readonly #target: LiveTarget;
  readonly #targets: readonly Target[];
  readonly #guest: LiveGuest;
  readonly #options: LiveOptions;
  /** Pages of each block that were written. */
  pages: BlockPages;
  /** Rounds of copying so far. */
  rounds = 0;
  /** Pages of each block that were found written, and are not copied again yet. */
  #left: BlockPages;
  #done = 0;

  constructor(target: LiveTarget, guest: LiveGuest, options: LiveOptions) {
    this.#target = target;
    this.#guest = guest;
    this.#options = options;
    this.#targets = guest.blocks.map((_, i) => target.at(memorySize(guest.blocks.slice(0, i))));
    this.pages = guest.blocks.map(() => []);
    this.#left = this.pages;
  }

  /** Copies all, and again what is written meanwhile, as long as that halves what is left, and until it is at most
   *  `limit()` bytes: then `finish` copies the rest, and gives what there is beside the memory; undefined where there
   *  was more. Rejects with DOWNTIME_EXCEEDED where it never fits. */
  async untilItFits(
    limit: () => number,
    finish: (left: number) => Promise<LayoutBeside | undefined>,
  ): Promise<LayoutBeside> {
    await this.#copy(this.#guest.blocks.map(({ source }) => source));
    for (let before = Number.POSITIVE_INFINITY; this.rounds <= MOST_ROUNDS; ) {
      const left = this.written();
      const isFalling = left > LITTLE && left < before / 2;
      before = left;
      if (isFalling || left > limit()) {
        await this.copyLeft();
        continue;
      }
      const beside = await finish(left);
      if (beside !== undefined) return beside;
      this.rounds++;
    }
    const message = `the guest writes too fast: what is left takes more than the ${this.#options.maxDowntime} ms that it may be held; raise maxDowntime, or hold it yourself`;
    throw new MembackingError('DOWNTIME_EXCEEDED', message);
  }

  /** Bytes of pages that are not copied as they are now. */
  written(): number {
    const taken = this.#guest.since.take();
    this.#left = this.#guest.objects.map((object, i) => {
      // Where nobody knows, all may have been written.
      const now = taken.get(object) ?? (object.dataRanges() as readonly PageRange[]);
      return joined(this.#left[i]!, now);
    });
    return total(this.#left);
  }

  /** Copies what `written` has found. */
  copyLeft(): Promise<void> {
    return this.#copy(this.#guest.blocks.map(({ source }, i) => again(source, this.#left[i]!)));
  }

  async #copy(sources: readonly Source[]): Promise<void> {
    this.#left = sources.map(() => []);
    this.rounds++;
    const wanted = this.#done + total(sources.map(({ candidates }) => candidates));
    const { signal, progress } = this.#options;
    for (const [i, source] of sources.entries()) {
      const onStep = (bytes: number) => {
        this.#done += bytes;
        progress?.(this.#done, wanted);
      };
      const { pages } = await writeBlock(source, this.#targets[i]!, { signal, onStep, isSummed: false });
      this.pages = this.pages.with(i, joined(this.pages[i]!, pages));
    }
  }

  /** Copies the rest, of which `expected` bytes were known, while the guest is held, if that is at most `limit` bytes:
   *  the copy is of that moment then. Returns what there is beside the memory; undefined where there was more. */
  async finish(expected: number, limit: number): Promise<LayoutBeside | undefined> {
    checkGoingOn(this.#options.signal);
    // Touched now: fresh memory costs more than the copying.
    const room = Buffer.alloc(Math.min(limit, 2 * expected + 2 ** 20));
    const letGo = await this.#guest.hold();
    let held: Held[];
    let beside: LayoutBeside;
    try {
      beside = await this.#guest.facts();
      if (this.written() > room.length) return undefined;
      held = this.#copyInto(room);
      this.pages = this.pages.map((pages, i) => joined(pages, this.#left[i]!));
    } finally {
      letGo();
    }
    await this.#target.announceLast?.(this.#left, beside);
    for (const { target, offset, bytes } of held) await target.write(bytes, offset);
    return beside;
  }

  /** Copies what is left into memory of this process. */
  #copyInto(room: Buffer): Held[] {
    let end = 0;
    return this.#guest.objects.flatMap((object, i) =>
      [...stepsOf(this.#left[i]!)].map(({ offset, length }) => {
        const bytes = room.subarray(end, end + length);
        end += length;
        object.read(offset, bytes);
        return { target: this.#targets[i]!, offset, bytes };
      }),
    );
  }
}
