// Guests from streams: their memory is written as it comes, and the rest is made when all of it is there.

import type { Readable } from 'node:stream';
import { BlockImage, closeChain, inFolder, openChain } from '../snapshot/chain.ts';
import { parseLayout, type SnapshotLayout, type SnapshotRam } from '../snapshot/layout.ts';
import { STEP, stepsOf } from '../snapshot/memory-writer.ts';
import { bytesOf } from '../snapshot/page-list.ts';
import { RECORD, strange } from '../snapshot/records.ts';
import { type Received, RecordReader } from '../snapshot/stream.ts';
import type { SnapshotWork } from '../snapshot/write.ts';
import type { GuestMemoryManager, RestoredGuest } from './manager.ts';
import { RamWriter } from './ram-writer.ts';
import { arranged, type Begin, build, fresh } from './remade.ts';
import type { GuestOptions } from './template.ts';

/** Makes a guest of the snapshot in a stream. Rejects as `GuestMemoryBuilder.fromSnapshot` does. */
export async function restoreStream(
  stream: Readable,
  { signal, progress, ...options }: GuestOptions & SnapshotWork,
  begin: Begin,
): Promise<RestoredGuest> {
  const reader = new RecordReader(stream, signal);
  try {
    const announced = layoutOf(await reader.next([RECORD.begin]));
    const manager = build(announced, announced.ram.map(fresh), options, begin);
    try {
      return arranged(manager, await receive(reader, announced, manager, progress));
    } catch (error) {
      manager.close();
      throw error;
    }
  } finally {
    reader.end();
  }
}

/** Layout of a record that has one. Throws SNAPSHOT_LAYOUT, SNAPSHOT_VERSION. */
function layoutOf({ payload }: Received): SnapshotLayout {
  return parseLayout(payload.toString('utf8'));
}

/** Writes the memory that comes into the RAM that was announced. Returns the layout that ends it. */
async function receive(
  reader: RecordReader,
  announced: SnapshotLayout,
  manager: GuestMemoryManager,
  progress: SnapshotWork['progress'],
): Promise<SnapshotLayout> {
  const writers = await Promise.all(announced.ram.map(({ name }) => RamWriter.open(manager.ramObject(name))));
  try {
    await writeBase(announced, writers);
    const total = announced.ram.reduce((bytes, { pages }) => bytes + bytesOf(pages), 0);
    for (let done = 0; ; ) {
      const record = await reader.next([RECORD.pages, RECORD.end]);
      if (record.kind === RECORD.end) return ended(record, announced);
      const { index, offset } = placeOf(record, announced.ram);
      await writers[index]!.write(offset, record.payload);
      done += record.payload.length;
      progress?.(done, Math.max(done, total));
    }
  } finally {
    await Promise.allSettled(writers.map((writer) => writer.close()));
  }
}

/** Writes what the base of a diff has. */
async function writeBase({ base, ram }: SnapshotLayout, writers: readonly RamWriter[]): Promise<void> {
  if (base === undefined) return;
  const { folder } = base;
  if (folder === undefined) throw strange('it is a diff of a template');
  const chain = await openChain(inFolder(folder));
  const buffer = Buffer.allocUnsafeSlow(STEP);
  try {
    for (const [i, { name, onBase }] of ram.entries()) {
      if (!onBase) continue;
      const image = new BlockImage(chain, name);
      for (const { offset, length } of stepsOf(image.pages)) {
        const bytes = buffer.subarray(0, length);
        await image.read(offset, bytes);
        await writers[i]!.write(offset, bytes);
      }
    }
  } finally {
    await closeChain(chain);
  }
}

/** Block of RAM that a record's pages are in, and their offset in it. Throws SNAPSHOT_DAMAGED. */
function placeOf({ offset, payload }: Received, ram: readonly SnapshotRam[]): { index: number; offset: number } {
  const index = ram.findLastIndex(({ fileOffset }) => fileOffset <= offset);
  const block = ram[index];
  if (block === undefined || offset + payload.length > block.fileOffset + block.size) {
    throw strange('a record has pages of no RAM');
  }
  return { index, offset: offset - block.fileOffset };
}

/** Layout at the end, of the RAM that was announced. Throws SNAPSHOT_DAMAGED. */
function ended(record: Received, announced: SnapshotLayout): SnapshotLayout {
  const layout = layoutOf(record);
  if (identityOf(layout) === identityOf(announced)) return layout;
  throw strange('it ends with the layout of another snapshot');
}

/** Text of a snapshot's identity and its RAM, but for the pages. */
function identityOf({ id, ram }: SnapshotLayout): string {
  const inText = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);
  return JSON.stringify([id, ram.map(({ pages, crc32, ...block }) => block)], inText);
}
