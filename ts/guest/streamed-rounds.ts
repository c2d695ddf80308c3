// Rounds of a live snapshot that come by a stream: pages of a later one replace those of the ones before, until the
// stream says which pages are still to come, or ends.

import type { PrivateMemory } from '../asked/object.ts';
import type { Pager } from '../asked/pager.ts';
import type { BlockImage } from '../snapshot/chain.ts';
import type { SnapshotLayout } from '../snapshot/layout.ts';
import { bytesOf, joined, type PageRange, stepsOf, within, without } from '../snapshot/page-list.ts';
import { RECORD } from '../snapshot/records.ts';
import type { Received, RecordReader } from '../snapshot/stream.ts';
import type { SnapshotWork } from '../snapshot/write.ts';
import { placeOf, settledLayout } from './restore-stream.ts';

/** Memory that rounds come to, which nobody uses yet. */
interface RoundsParts {
  readonly reader: RecordReader;
  /** Layout of the stream's first record. */
  readonly announced: SnapshotLayout;
  /** Blocks of RAM as the base has them; undefined for those of which the stream has all. */
  readonly images: readonly (BlockImage | undefined)[];
  readonly memories: readonly PrivateMemory[];
  readonly pager: Pager;
  readonly progress: SnapshotWork['progress'];
}

/** A guest of which all pages are there as they are to be, but those that are still to come. */
export interface Settled {
  /** Layout, which says for each block which those are. */
  readonly layout: SnapshotLayout;
  /** Pages of each block that are not zeroes by themselves. */
  readonly pages: readonly (readonly PageRange[])[];
  /** Bytes of pages that have come. */
  readonly done: number;
  /** Whether the stream has ended: none is to come. */
  readonly isEnd: boolean;
}

/** Pages that have yet to come. */
export function absentOf(memory: PrivateMemory): readonly PageRange[] {
  return memory.absentRanges() as readonly PageRange[];
}

/** Receives the rounds. Rejects with SNAPSHOT_DAMAGED, and as `RecordReader.next` does. */
export async function receiveRounds(parts: RoundsParts): Promise<Settled> {
  const { reader, announced, memories, progress } = parts;
  const absent = memories.map(absentOf);
  const all = [...absent];
  const total = bytesOf(announced.ram.flatMap(({ pages }) => pages));
  for (let done = 0; ; ) {
    const record = await reader.next([RECORD.pages, RECORD.last, RECORD.end]);
    if (record.kind !== RECORD.pages) {
      const layout = await settle(record, parts, absent);
      return {
        layout,
        pages: layout.ram.map(({ pages }, i) => joined(all[i]!, pages)),
        done,
        isEnd: record.kind === RECORD.end,
      };
    }
    const { index, offset } = placeOf(record, announced.ram);
    all[index] = joined(all[index]!, [{ offset, length: record.payload.length }]);
    absent[index] = put(record.payload, offset, {
      memory: memories[index]!,
      absent: absent[index]!,
      pager: parts.pager,
    });
    done += record.payload.length;
    progress?.(done, Math.max(done, total));
  }
}

/** A block, and which of its pages were never given. */
interface Block {
  readonly memory: PrivateMemory;
  readonly absent: readonly PageRange[];
  readonly pager: Pager;
}

/** Puts pages where they belong, whatever is there. Returns which of the block's are absent then. */
function put(bytes: Buffer, offset: number, { memory, absent, pager }: Block): readonly PageRange[] {
  const range = { offset, length: bytes.length };
  const partOf = (part: PageRange) => bytes.subarray(part.offset - offset, part.offset - offset + part.length);
  for (const part of within(absent, offset, offset + bytes.length))
    pager.supply(memory.block!, part.offset, partOf(part));
  for (const part of without([range], absent)) memory.write(part.offset, partOf(part));
  return without(absent, [range]);
}

/** Leaves out the pages that have not come, and makes those absent that are still to come. Returns the guest's layout,
 *  with these. */
async function settle(
  record: Received,
  { announced, images, memories, pager }: RoundsParts,
  absent: readonly (readonly PageRange[])[],
): Promise<SnapshotLayout> {
  const layout = settledLayout(record, announced);
  const ram = layout.ram.map((block) => (record.kind === RECORD.end ? { ...block, pages: [] } : block));
  for (const [i, { pages }] of ram.entries()) {
    const left = announced.ram[i]!.pages.flatMap(({ offset, length }) => [
      ...within(absent[i]!, offset, offset + length),
    ]);
    await leaveOut(memories[i]!, images[i], left, pager);
    for (const { offset, length } of pages) pager.expect(memories[i]!.block!, offset, length);
  }
  return { ...layout, ram };
}

/** Makes zeroes, or what the base has, of pages that were announced, and do not come: all absent ones between the first
 *  and the last. */
export async function leaveOut(
  memory: PrivateMemory,
  image: BlockImage | undefined,
  pages: readonly PageRange[],
  pager: Pager,
): Promise<void> {
  if (pages.length === 0 || memory.closed) return;
  if (image === undefined) memory.drop(pages[0]!.offset, lengthOf(pages));
  else await fill(memory, image, pages, pager);
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
