// Pages of a lazy restore that come by a stream: each is there when the stream has reached it, and who wants one before
// waits for that.

import type { PrivateMemory } from '../asked/object.ts';
import type { PageGiver, Pager, PagesWanted } from '../asked/pager.ts';
import { type BlockImage, baseImages, closeChain, type Link } from '../snapshot/chain.ts';
import { formatLayout, type SnapshotLayout, type SnapshotRam } from '../snapshot/layout.ts';
import { bytesOf, type PageRange, stepsOf, within } from '../snapshot/page-list.ts';
import { RECORD, strange } from '../snapshot/records.ts';
import type { Received, RecordReader } from '../snapshot/stream.ts';
import type { SnapshotWork } from '../snapshot/write.ts';
import { layoutOf, placeOf } from './restore-stream.ts';

/** Parts of what streams pages. */
interface StreamedParts {
  /** Reader of the stream, behind its first record. */
  readonly reader: RecordReader;
  /** Layout of that record. */
  readonly announced: SnapshotLayout;
  /** Snapshots that the one in the stream is a diff of. */
  readonly base: readonly Link[];
  /** Milliseconds that a page may take. */
  readonly timeout: number;
  readonly progress: SnapshotWork['progress'];
  /** Ends the reading. */
  readonly ending: AbortController;
}

/** Somebody who waits until the stream has reached a place in the memory file. */
interface Waiter {
  readonly place: number;
  readonly arrived: () => void;
  readonly failed: (error: unknown) => void;
}

/** Giver of the pages that come by a stream. The reader of the stream and the base are its own. */
export class StreamedPages implements PageGiver {
  readonly #parts: StreamedParts;
  readonly #images: readonly (BlockImage | undefined)[];
  /** RAM of the layout, by the pager's numbers. */
  readonly #ram = new Map<number, SnapshotRam>();
  #waiters: Waiter[] = [];
  /** Place in the memory file before which all is as it is to be. */
  #reached = 0;
  #failure: { readonly error: unknown } | undefined;
  #ended: Promise<void> = Promise.resolve();

  /** Begins nothing yet. Throws SNAPSHOT_BASE. */
  constructor(parts: StreamedParts) {
    this.#parts = parts;
    this.#images = baseImages(parts.announced, parts.base);
  }

  /** Blocks of RAM as the base has them; undefined for those of which the stream has all. */
  get images(): readonly (BlockImage | undefined)[] {
    return this.#images;
  }

  get timeout(): number {
    return this.#parts.timeout;
  }

  get ended(): Promise<void> {
    return this.#ended;
  }

  /** Begins to read, into the memory of each block. */
  begin(memories: readonly PrivateMemory[], pager: Pager): void {
    for (const [i, { block }] of memories.entries()) this.#ram.set(block!, this.#parts.announced.ram[i]!);
    this.#ended = this.#read(memories, pager);
    this.#ended.catch(() => {}); // those who wait, and who loads, are told
  }

  async give({ block, offset, length }: PagesWanted): Promise<number> {
    const { fileOffset, size, pages } = this.#ram.get(block)!;
    const [streamed] = within(pages, offset, offset + length);
    if (streamed === undefined) return length;
    if (streamed.offset > offset) return streamed.offset - offset;
    await this.#untilBehind(fileOffset + offset);
    return Math.min(this.#reached - fileOffset, size) - offset;
  }

  /** Ends the reading, and lets go of stream and base. */
  async close(): Promise<void> {
    this.#parts.ending.abort();
    this.#parts.reader.end();
    await closeChain(this.#parts.base);
  }

  #untilBehind(place: number): Promise<void> {
    if (this.#reached > place) return Promise.resolve();
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    return new Promise((arrived, failed) => this.#waiters.push({ place, arrived, failed }));
  }

  async #read(memories: readonly PrivateMemory[], pager: Pager): Promise<void> {
    try {
      await this.#receive(memories, pager);
    } catch (error) {
      this.#failure = { error };
      for (const { failed } of this.#waiters.splice(0)) failed(error);
      throw error;
    } finally {
      await this.close();
    }
  }

  async #receive(memories: readonly PrivateMemory[], pager: Pager): Promise<void> {
    const { reader, announced, progress } = this.#parts;
    const total = bytesOf(announced.ram.flatMap(({ pages }) => pages));
    for (let done = 0; ; ) {
      const record = await reader.next([RECORD.pages, RECORD.end]);
      if (record.kind === RECORD.end) {
        if (textOf(layoutOf(record)) !== textOf(announced)) throw strange('it ends with another layout');
        return this.#leaveOut(announced.memory.size, memories, pager);
      }
      const { index, offset } = this.#placeOf(record);
      await this.#leaveOut(record.offset, memories, pager);
      pager.supply(memories[index]!.block!, offset, record.payload);
      this.#arrive(record.offset + record.payload.length);
      done += record.payload.length;
      progress?.(done, total);
    }
  }

  /** Place of the next pages. Throws SNAPSHOT_DAMAGED where they are not those that were announced, in order. */
  #placeOf(record: Received): { index: number; offset: number } {
    const { ram } = this.#parts.announced;
    const place = placeOf(record, ram);
    const { length } = record.payload;
    const known = bytesOf([...within(ram[place.index]!.pages, place.offset, place.offset + length)]);
    if (known !== length || record.offset < this.#reached)
      throw strange('its pages are not those that it has announced');
    return place;
  }

  /** Makes zeroes, or what the base has, of the pages that were announced, and have not come before `end`. */
  async #leaveOut(end: number, memories: readonly PrivateMemory[], pager: Pager): Promise<void> {
    for (const [i, { fileOffset, pages }] of this.#parts.announced.ram.entries()) {
      const left = [...within(pages, this.#reached - fileOffset, end - fileOffset)];
      const [memory, image] = [memories[i]!, this.#images[i]];
      if (left.length === 0 || memory.closed) continue;
      if (image === undefined) memory.drop(left[0]!.offset, lengthOf(left));
      else await fill(memory, image, left, pager);
    }
    this.#arrive(end);
  }

  #arrive(place: number): void {
    this.#reached = place;
    const waiters = this.#waiters;
    this.#waiters = waiters.filter((waiter) => waiter.place >= place);
    for (const waiter of waiters) if (waiter.place < place) waiter.arrived();
  }
}

/** Bytes from the first of some ranges to the last. */
function lengthOf(ranges: readonly PageRange[]): number {
  const last = ranges.at(-1)!;
  return last.offset + last.length - ranges[0]!.offset;
}

/** Supplies pages as an image has them. */
async function fill(
  { block }: PrivateMemory,
  image: BlockImage,
  pages: readonly PageRange[],
  pager: Pager,
): Promise<void> {
  for (const { offset, length } of stepsOf(pages)) {
    const bytes = Buffer.allocUnsafeSlow(length);
    await image.read(offset, bytes);
    pager.supply(block!, offset, bytes);
  }
}

/** Text of a layout, but for the pages. */
function textOf(layout: SnapshotLayout): string {
  return formatLayout({ ...layout, ram: layout.ram.map((block) => ({ ...block, pages: [], crc32: 0 })) });
}
