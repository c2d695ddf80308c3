// Writing a whole snapshot: blocks of RAM, wherever their bytes come from, and the layout that goes with them.

import { randomUUID } from 'node:crypto';
import { writeFolder } from './folder.ts';
import type { SnapshotLayout, SnapshotRam } from './layout.ts';
import { inFile, type Source, writeBlock } from './memory-writer.ts';
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
  { signal, onProgress }: SnapshotWork,
): Promise<SnapshotLayout> {
  const id = randomUUID();
  const size = blocks.reduce((bytes, { ram }) => bytes + ram.size, 0);
  const onStep = stepCounter(
    blocks.map(({ source }) => source.candidates),
    onProgress,
  );
  return writeFolder(folder, { id, size }, async (memory, file) => {
    const ram: SnapshotRam[] = [];
    let fileOffset = 0;
    for (const { ram: block, source } of blocks) {
      const written = await writeBlock(source, inFile(memory, fileOffset), { signal, onStep });
      ram.push({ ...block, fileOffset, ...written });
      fileOffset += block.size;
    }
    return { id, memory: { file, size }, ram, ...rest };
  });
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
