// Pages of a lazy restore that come by a stream: each is there when the stream has reached it, and who wants one before
// waits for that. Of a live snapshot, these are the pages of its last round: those before are replaced while they come.

import type { PrivateMemory } from '../asked/object.ts';
import type { PageGiver, Pager, PagesWanted } from '../asked/pager.ts';
import { type BlockImage, baseImages, closeChain, type Link } from '../snapshot/chain.ts';
import { formatLayout, type SnapshotLayout, type SnapshotRam } from '../snapshot/layout.ts';
import { bytesOf, within } from '../snapshot/page-list.ts';
import { RECORD, strange } from '../snapshot/records.ts';
import type { Received, RecordReader } from '../snapshot/stream.ts';
import type { SnapshotWork } from '../snapshot/write.ts';
import { layoutOf, placeOf } from './restore-stream.ts';
import { absentOf, leaveOut, receiveRounds, type Settled } from './streamed-rounds.ts';

/** Parts of what streams pages. */
interface StreamedParts {
  /** Reader of the stream, behind its first record. */
  readonly reader: RecordReader;
  /** Layout of that record. */
  readonly announced: SnapshotLayout;
  /** Whether the guest went on while it was written: its pages come in rounds. */
  readonly isLive: boolean;
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
  /** Layout whose pages are still to come: the first record's, or of a live snapshot what is settled later. */
  #layout: SnapshotLayout;
  /** Place in the memory file before which all is as it is to be. */
  #reached = 0;
  /** Bytes of pages that have come. */
  #done = 0;
  #failure: { readonly error: unknown } | undefined;
  #ended: Promise<void> = Promise.resolve();

  /** Begins nothing yet. Throws SNAPSHOT_BASE. */
  constructor(parts: StreamedParts) {
    this.#parts = parts;
    this.#layout = parts.announced;
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

  /** Begins to read, into the memory of each block. Returns the layout of the guest, and the pages of each block that
   *  are not zeroes by themselves: of a live snapshot when all of its rounds but the last have come. Rejects with
   *  SNAPSHOT_DAMAGED, and as `RecordReader.next` does. */
  async begin(memories: readonly PrivateMemory[], pager: Pager): Promise<Settled> {
    const { announced, isLive } = this.#parts;
    const settled = isLive
      ? await receiveRounds({ ...this.#parts, images: this.#images, memories, pager })
      : { layout: announced, pages: memories.map(absentOf), done: 0, isEnd: false };
    this.#layout = settled.layout;
    this.#done = settled.done;
    for (const [i, { block }] of memories.entries()) this.#ram.set(block!, this.#layout.ram[i]!);
    this.#ended = settled.isEnd ? this.close() : this.#read(memories, pager);
    this.#ended.catch(() => {}); // those who wait, and who loads, are told
    return settled;
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
    const { reader, progress } = this.#parts;
    const { ram, memory } = this.#layout;
    const total = this.#done + bytesOf(ram.flatMap(({ pages }) => pages));
    for (;;) {
      const record = await reader.next([RECORD.pages, RECORD.end]);
      if (record.kind === RECORD.end) {
        if (textOf(layoutOf(record)) !== textOf(this.#layout)) throw strange('it ends with another layout');
        return this.#leaveOut(memory.size, memories, pager);
      }
      const { index, offset } = this.#placeOf(record);
      await this.#leaveOut(record.offset, memories, pager);
      pager.supply(memories[index]!.block!, offset, record.payload);
      this.#arrive(record.offset + record.payload.length);
      this.#done += record.payload.length;
      progress?.(this.#done, total);
    }
  }

  /** Place of the next pages. Throws SNAPSHOT_DAMAGED where they are not those that were announced, in order. */
  #placeOf(record: Received): { index: number; offset: number } {
    const { ram } = this.#layout;
    const place = placeOf(record, ram);
    const { length } = record.payload;
    const known = bytesOf([...within(ram[place.index]!.pages, place.offset, place.offset + length)]);
    if (known !== length || record.offset < this.#reached)
      throw strange('its pages are not those that it has announced');
    return place;
  }

  /** Makes zeroes, or what the base has, of the pages that were announced, and have not come before `end`. Throws
   *  SNAPSHOT_DAMAGED where all are to come. */
  async #leaveOut(end: number, memories: readonly PrivateMemory[], pager: Pager): Promise<void> {
    for (const [i, { fileOffset, pages }] of this.#layout.ram.entries()) {
      const left = [...within(pages, this.#reached - fileOffset, end - fileOffset)];
      if (left.length > 0 && this.#parts.isLive) throw strange('pages that it has announced as its last do not come');
      await leaveOut(memories[i]!, this.#images[i], left, pager);
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

/** Text of a layout, but for the pages. */
function textOf(layout: SnapshotLayout): string {
  return formatLayout({ ...layout, ram: layout.ram.map((block) => ({ ...block, pages: [], crc32: 0 })) });
}
