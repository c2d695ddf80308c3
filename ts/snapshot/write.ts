// Writing a whole snapshot: blocks of RAM, wherever their bytes come from, and the layout that goes with them.

import { randomUUID } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import * as validate from '../core/validate.ts';
import { writeFolder } from './folder.ts';
import type { SnapshotLayout, SnapshotRam } from './layout.ts';
import { aborted, inFile, type Source, writeBlock } from './memory-writer.ts';
import { bytesOf } from './page-list.ts';

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
  readonly onProgress?: (done: number, total: number) => void;
}

/** Writes a snapshot into a folder. Rejects as `writeFolder` and `writeBlock` do: nothing of it is left then. */
export async function writeSnapshot(
  folder: string,
  blocks: readonly PlannedBlock[],
  rest: Omit<SnapshotLayout, 'id' | 'memory' | 'ram'>,
  work: SnapshotWork,
): Promise<SnapshotLayout> {
  const id = randomUUID();
  const size = memorySize(blocks);
  return writeFolder(folder, { id, size }, async (memory, file) => {
    const ram = await writeBlocks(memory, blocks, work);
    return { id, memory: { file, size }, ram, ...rest };
  });
}

/** Bytes of a memory file of blocks. */
export function memorySize(blocks: readonly PlannedBlock[]): number {
  return blocks.reduce((bytes, { ram }) => bytes + ram.size, 0);
}

/** Writes blocks into a memory file of zeroes, one behind the other. Rejects as `writeBlock` does. */
export async function writeBlocks(
  memory: FileHandle,
  blocks: readonly PlannedBlock[],
  { signal, onProgress }: SnapshotWork,
): Promise<SnapshotRam[]> {
  const onStep = stepCounter(
    blocks.map(({ source }) => source.candidates),
    onProgress,
  );
  const ram: SnapshotRam[] = [];
  let fileOffset = 0;
  for (const { ram: block, source } of blocks) {
    const written = await writeBlock(source, inFile(memory, fileOffset), { signal, onStep });
    ram.push({ ...block, fileOffset, ...written });
    fileOffset += block.size;
  }
  return ram;
}

/** Listener of steps that adds them up for one of progress. */
export function stepCounter(
  all: readonly Source['candidates'][],
  onProgress: SnapshotWork['onProgress'],
): (bytes: number) => void {
  const total = all.reduce((bytes, ranges) => bytes + bytesOf(ranges), 0);
  let done = 0;
  return (bytes) => {
    done += bytes;
    onProgress?.(done, total);
  };
}

/** Checks options of what goes through the memory of snapshots. Throws INVALID_ARGUMENT, and ABORTED where it was given
 *  up already. */
export function checkWork({ signal, onProgress }: SnapshotWork): void {
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw validate.invalid('onProgress must be a function');
  }
  if (signal !== undefined && validate.instance(AbortSignal, signal, 'signal').aborted) throw aborted(signal.reason);
}
