// Writing a whole snapshot: blocks of RAM, wherever their bytes come from, and the layout that goes with them.

import type { FileHandle } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import * as validate from '../core/validate.ts';
import { writeFolder } from './folder.ts';
import { formatLayout, type SnapshotLayout, type SnapshotRam } from './layout.ts';
import { checkGoingOn, inFile, type Source, type Target, writeBlock } from './memory-writer.ts';
import { bytesOf } from './page-list.ts';
import { RECORD } from './records.ts';
import { RecordWriter } from './stream.ts';

/** A block of RAM on its way into a memory file. */
export interface PlannedBlock {
  readonly ram: Omit<SnapshotRam, 'fileOffset' | 'pages' | 'crc32'>;
  readonly source: Source;
}

/** Options of what goes through the memory of snapshots. */
export interface SnapshotWork {
  /** Gives up: before anything is done, or between two steps. */
  readonly signal?: AbortSignal;
  /** Listener that is told after each step: bytes that were looked at, and that there are to look at. */
  readonly progress?: (done: number, total: number) => void;
}

/** Layout of a snapshot, but for its memory. */
export type LayoutBeside = Omit<SnapshotLayout, 'id' | 'memory' | 'ram'>;

/** Writes a snapshot into a folder. Rejects as `writeFolder` and `writeBlock` do: nothing of it is left then. */
export async function writeSnapshot(
  folder: string,
  blocks: readonly PlannedBlock[],
  rest: LayoutBeside,
  work: SnapshotWork,
): Promise<SnapshotLayout> {
  return writeFilled(folder, memorySize(blocks), async (memory) => {
    const ram = await writeBlocks((fileOffset) => inFile(memory, fileOffset), blocks, work);
    return { ram, beside: rest };
  });
}

/** Writes a snapshot into a folder, of a memory file that `fill` fills. Rejects as `writeFolder` and `fill` do: nothing
 *  of it is left then. */
export async function writeFilled(
  folder: string,
  size: number,
  fill: (memory: FileHandle) => Promise<{ readonly ram: readonly SnapshotRam[]; readonly beside: LayoutBeside }>,
): Promise<SnapshotLayout> {
  const id = crypto.randomUUID();
  return writeFolder(folder, { id, size }, async (memory, file) => {
    const { ram, beside } = await fill(memory);
    return { id, memory: { file, size }, ram, ...beside };
  });
}

/** Writes a snapshot into a stream, which stays open. Rejects with STREAM_FAILED, and as `writeBlock` does: the stream
 *  has then a part of it. */
export async function writeStream(
  stream: Writable,
  blocks: readonly PlannedBlock[],
  rest: LayoutBeside,
  work: SnapshotWork,
): Promise<SnapshotLayout> {
  const writer = new RecordWriter(stream, work.signal);
  const target = await SnapshotStream.begin(writer, blocks, rest, RECORD.still);
  const layout = await target.end(await writeBlocks(target.at, blocks, { ...work, isSummed: false }), rest);
  writer.end();
  return layout;
}

/** Kinds of a stream's first record. */
type FirstRecord = typeof RECORD.begin | typeof RECORD.still;

/** A snapshot on its way through a stream. */
export class SnapshotStream {
  readonly id = crypto.randomUUID();
  /** Bytes of pages that were written. */
  bytes = 0;
  readonly #writer: RecordWriter;
  readonly #memory: SnapshotLayout['memory'];

  private constructor(writer: RecordWriter, size: number) {
    this.#writer = writer;
    this.#memory = { file: `memory-${this.id}`, size };
  }

  /** Writes its first record. Rejects as `RecordWriter.writeText` does. */
  static async begin(
    writer: RecordWriter,
    blocks: readonly PlannedBlock[],
    rest: LayoutBeside,
    kind: FirstRecord,
  ): Promise<SnapshotStream> {
    const stream = new SnapshotStream(writer, memorySize(blocks));
    await stream.#write(kind, announced(blocks), rest);
    return stream;
  }

  /** Place of a block, from `fileOffset` on. */
  readonly at = (fileOffset: number): Target => ({
    write: (bytes, offset) => {
      this.bytes += bytes.length;
      return this.#writer.writePages(fileOffset + offset, bytes);
    },
  });

  /** Writes which pages are still to come. Rejects as `RecordWriter.writeText` does. */
  async announceLast(ram: readonly SnapshotRam[], rest: LayoutBeside): Promise<void> {
    await this.#write(RECORD.last, ram, rest);
  }

  /** Writes its last record. Rejects as `RecordWriter.writeText` does. */
  end(ram: readonly SnapshotRam[], rest: LayoutBeside): Promise<SnapshotLayout> {
    return this.#write(RECORD.end, ram, rest);
  }

  async #write(
    kind: FirstRecord | typeof RECORD.last | typeof RECORD.end,
    ram: readonly SnapshotRam[],
    rest: LayoutBeside,
  ): Promise<SnapshotLayout> {
    const layout = { id: this.id, memory: this.#memory, ram, ...rest };
    await this.#writer.writeText(kind, formatLayout(layout));
    return layout;
  }
}

/** Blocks before their pages are looked at: all that may come are named. */
function announced(blocks: readonly PlannedBlock[]): SnapshotRam[] {
  let fileOffset = 0;
  return blocks.map(({ ram, source }) => {
    const block = { ...ram, fileOffset, pages: source.candidates, crc32: 0 };
    fileOffset += ram.size;
    return block;
  });
}

/** Bytes of a memory file of blocks. */
export function memorySize(blocks: readonly PlannedBlock[]): number {
  return blocks.reduce((bytes, { ram }) => bytes + ram.size, 0);
}

/** Writes blocks to their places in a memory file of zeroes, one behind the other. `isSummed`: whether the pages of
 *  each are to have a CRC-32. Rejects as `writeBlock` does. */
export async function writeBlocks(
  targetAt: (fileOffset: number) => Target,
  blocks: readonly PlannedBlock[],
  { signal, progress, isSummed = true }: SnapshotWork & { readonly isSummed?: boolean },
): Promise<SnapshotRam[]> {
  const onStep = stepCounter(
    blocks.map(({ source }) => source.candidates),
    progress,
  );
  const ram: SnapshotRam[] = [];
  let fileOffset = 0;
  for (const { ram: block, source } of blocks) {
    const written = await writeBlock(source, targetAt(fileOffset), { signal, onStep, isSummed });
    ram.push({ ...block, fileOffset, ...written });
    fileOffset += block.size;
  }
  return ram;
}

/** Listener of steps that adds them up for one of progress. */
export function stepCounter(
  all: readonly Source['candidates'][],
  progress: SnapshotWork['progress'],
): (bytes: number) => void {
  const total = all.reduce((bytes, ranges) => bytes + bytesOf(ranges), 0);
  let done = 0;
  return (bytes) => {
    done += bytes;
    progress?.(done, total);
  };
}

/** Checks options of what goes through the memory of snapshots. Throws INVALID_ARGUMENT, and ABORTED where it was given
 *  up already. */
export function checkWork(work: SnapshotWork): void {
  validate.work(work);
  checkGoingOn(work.signal);
}
