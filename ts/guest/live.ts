// Live copies of a guest's memory: taken while it runs, then, in rounds, of what it has written meanwhile. The guest is
// held for the last round alone, and for no longer than it takes to copy that within this process.

import type { FileHandle } from 'node:fs/promises';
import type { MemoryObject } from '../asked/object.ts';
import { MembackingError } from '../core/errors.ts';
import type { SnapshotRam } from '../snapshot/layout.ts';
import { aborted, checksumOf, inFile, type Source, writeAll, writeBlock } from '../snapshot/memory-writer.ts';
import { bytesOf, joined, type PageRange } from '../snapshot/page-list.ts';
import { type LayoutBeside, memorySize, type PlannedBlock, type SnapshotWork } from '../snapshot/write.ts';
import type { WrittenSince } from './bases.ts';

/** A guest that is copied while it runs. */
export interface LiveGuest {
  /** Blocks of RAM, and the objects behind them. */
  readonly blocks: readonly PlannedBlock[];
  readonly objects: readonly MemoryObject[];
  /** Pages that were written since the copying began. */
  readonly since: WrittenSince;
  /** Holds all vCPUs. Returns what lets them go on. */
  hold(): () => void;
  /** Everything but the memory, while vCPUs are held. */
  facts(): Promise<LayoutBeside>;
}

/** Options of a live copy. */
interface LiveOptions extends SnapshotWork {
  /** Milliseconds for which vCPUs may be held. */
  readonly maxDowntime: number;
}

/** Rounds in which a guest is given time to write less. */
const MOST_ROUNDS = 30;
/** Bytes that are copied within a millisecond, on slow machines too. */
const BYTES_A_MILLISECOND = 2 ** 19;
/** Bytes that the last round has at most: they are kept in memory. */
const MOST_HELD = 2 ** 28;

/** Copies a guest's memory into a file of zeroes. Returns its blocks, and the rest as it was at the moment that the
 *  memory is of. Rejects with DOWNTIME_EXCEEDED where the guest writes too fast, with ABORTED, CLOSED, SYSTEM. */
export async function copyLive(
  file: FileHandle,
  guest: LiveGuest,
  options: LiveOptions,
): Promise<{ ram: SnapshotRam[]; beside: LayoutBeside }> {
  const copy = new LiveCopy(file, guest, options);
  const limit = Math.min(options.maxDowntime * BYTES_A_MILLISECOND, MOST_HELD);
  await copy.write(guest.blocks.map(({ source }) => source));
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const written = copy.written();
    if (total(written) <= limit) {
      const beside = await copy.finish(written, limit);
      if (beside !== undefined) return { ram: await copy.blocks(), beside };
    } else await copy.write(guest.blocks.map(({ source }, i) => again(source, written[i]!)));
  }
  const message = `the guest writes too fast: what is left takes more than the ${options.maxDowntime} ms that it may be held; raise maxDowntime, or hold it yourself`;
  throw new MembackingError('DOWNTIME_EXCEEDED', message);
}

/** Source of a round: all of its pages are written, zeroes too. */
function again(source: Source, candidates: readonly PageRange[]): Source {
  return { ...source, candidates, leftOut: 'nothing' };
}

function total(pages: readonly (readonly PageRange[])[]): number {
  return pages.reduce((bytes, ranges) => bytes + bytesOf(ranges), 0);
}

/** A stretch of the memory file, and its bytes. */
interface Held {
  readonly position: number;
  readonly bytes: Buffer;
}

/** A copy that is under way. */
class LiveCopy {
  readonly #file: FileHandle;
  readonly #guest: LiveGuest;
  readonly #work: SnapshotWork;
  readonly #offsets: readonly number[];
  /** Pages of each block that the file has. */
  #pages: readonly (readonly PageRange[])[];
  /** Pages of each block that were found written, and are not copied again yet. */
  #left: readonly (readonly PageRange[])[];
  #done = 0;

  constructor(file: FileHandle, guest: LiveGuest, work: SnapshotWork) {
    this.#file = file;
    this.#guest = guest;
    this.#work = work;
    this.#offsets = guest.blocks.map((_, i) => memorySize(guest.blocks.slice(0, i)));
    this.#pages = guest.blocks.map(() => []);
    this.#left = this.#pages;
  }

  /** Pages of each block that the file has not as they are now. */
  written(): readonly (readonly PageRange[])[] {
    const taken = this.#guest.since.take();
    this.#left = this.#guest.objects.map((object, i) => {
      // Where nobody knows, all may have been written.
      const now = taken.get(object) ?? (object.dataRanges() as readonly PageRange[]);
      return joined(this.#left[i]!, now);
    });
    return this.#left;
  }

  /** Copies pages of each block while the guest runs. */
  async write(sources: readonly Source[]): Promise<void> {
    this.#left = sources.map(() => []);
    const wanted = this.#done + total(sources.map(({ candidates }) => candidates));
    const { signal, progress } = this.#work;
    for (const [i, source] of sources.entries()) {
      const onStep = (bytes: number) => {
        this.#done += bytes;
        progress?.(this.#done, wanted);
      };
      const { pages } = await writeBlock(source, inFile(this.#file, this.#offsets[i]!), { signal, onStep });
      this.#pages = this.#pages.with(i, joined(this.#pages[i]!, pages));
    }
  }

  /** Copies the rest while the guest is held, if that is at most `limit` bytes: the copy is of that moment then.
   *  Returns what there is beside the memory; undefined where there was more. */
  async finish(expected: readonly (readonly PageRange[])[], limit: number): Promise<LayoutBeside | undefined> {
    if (this.#work.signal?.aborted) throw aborted(this.#work.signal.reason);
    // Touched now: fresh memory costs more than the copying.
    const room = Buffer.alloc(Math.min(limit, 2 * total(expected) + 2 ** 20));
    const letGo = this.#guest.hold();
    let held: Held[];
    let beside: LayoutBeside;
    try {
      beside = await this.#guest.facts();
      if (total(this.written()) > room.length) return undefined;
      held = this.#copyInto(room);
      this.#pages = this.#pages.map((pages, i) => joined(pages, this.#left[i]!));
    } finally {
      letGo();
    }
    for (const { position, bytes } of held) await writeAll(this.#file, bytes, position);
    return beside;
  }

  /** Copies what is left into memory of this process. */
  #copyInto(room: Buffer): Held[] {
    let end = 0;
    return this.#guest.objects.flatMap((object, i) =>
      this.#left[i]!.map(({ offset, length }) => {
        const bytes = room.subarray(end, end + length);
        end += length;
        object.read(offset, bytes);
        return { position: this.#offsets[i]! + offset, bytes };
      }),
    );
  }

  /** Blocks as the file has them. */
  async blocks(): Promise<SnapshotRam[]> {
    const ram: SnapshotRam[] = [];
    for (const [i, block] of this.#guest.blocks.entries()) {
      const [fileOffset, pages] = [this.#offsets[i]!, this.#pages[i]!];
      const crc32 = await checksumOf(this.#file, fileOffset, pages, () => {});
      ram.push({ ...block.ram, fileOffset, pages, crc32: crc32! });
    }
    return ram;
  }
}
