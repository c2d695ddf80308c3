// Guests from streams: their memory is written as it comes, and the rest is made when all of it is there.

import { Duplex, type Readable } from 'node:stream';
import { MembackingError } from '../core/errors.ts';
import * as validate from '../core/validate.ts';
import { baseImages, closeChain, openBase } from '../snapshot/chain.ts';
import { parseLayout, type SnapshotLayout, type SnapshotRam } from '../snapshot/layout.ts';
import { bytesOf, STEP, stepsOf } from '../snapshot/page-list.ts';
import { RECORD, strange } from '../snapshot/records.ts';
import { type Received, RecordReader, RecordWriter } from '../snapshot/stream.ts';
import { checkWork, type SnapshotWork } from '../snapshot/write.ts';
import type { GuestMemoryManager, RestoredGuest } from './manager.ts';
import { RamWriter } from './ram-writer.ts';
import { checkedOther, type OtherLayout, relaid } from './relaid.ts';
import { arranged, type Begin, build, fresh } from './remade.ts';
import type { GuestOptions } from './template.ts';

/** Kinds of the first record of a snapshot. */
export const FIRST = [RECORD.begin, RECORD.still] as const;

/** Codes of errors of a machine that has not the huge pages that a guest had. */
const NO_HUGE_PAGES: readonly string[] = ['HUGE_PAGES_MISSING', 'HUGE_PAGE_SIZE'];

/** Options of guests from streams. */
interface ReceiveOptions extends GuestOptions, SnapshotWork {
  readonly layout?: OtherLayout;
}

/** Makes a guest of the snapshot in a stream. Rejects as `GuestMemoryBuilder.fromSnapshot` does. */
export async function restoreStream(stream: Readable, options: ReceiveOptions, begin: Begin): Promise<RestoredGuest> {
  const reader = new RecordReader(stream, options.signal);
  try {
    const announced = layoutOf(await reader.next(FIRST));
    return await receiveGuest(reader, announced, options, begin);
  } finally {
    reader.end();
  }
}

/** Makes the guest that a stream has announced. */
async function receiveGuest(
  reader: RecordReader,
  announced: SnapshotLayout,
  { signal, progress, layout: other = {}, ...options }: ReceiveOptions,
  begin: Begin,
): Promise<RestoredGuest> {
  const manager = buildAnew(relaid(announced, other, true), options, begin);
  try {
    return arranged(manager, relaid(await receive(reader, announced, manager, progress), other, true));
  } catch (error) {
    manager.close();
    throw error;
  }
}

/** Builds the guest on new RAM, of huge pages where it had them and this machine has them. */
function buildAnew(announced: SnapshotLayout, options: GuestOptions, begin: Begin): GuestMemoryManager {
  try {
    return build(announced, announced.ram.map(fresh), options, begin);
  } catch (error) {
    const isWithoutPages = error instanceof MembackingError && NO_HUGE_PAGES.includes(error.code);
    if (!isWithoutPages) throw error;
    const ordinary = announced.ram.map(({ kind }) => ({ kind }));
    return build(announced, ordinary, options, begin);
  }
}

/** Makes the guest that comes through a duplex stream. Rejects as `GuestMemoryBuilder.migrateIn` does. */
export async function migrateIn(
  stream: Duplex,
  options: ReceiveOptions | undefined,
  begin: Begin,
): Promise<RestoredGuest> {
  const { layout, ...work } = validate.options(
    options,
    ['layout', 'signal', 'progress', 'record', 'debug'],
    'migrateIn',
  );
  validate.instance(Duplex, stream, 'the stream');
  checkWork(work);
  const given = { ...work, layout: checkedOther(layout) };
  const reader = new RecordReader(stream, given.signal);
  try {
    const announced = layoutOf(await reader.next([RECORD.begin]));
    if (announced.base !== undefined) throw strange('a guest that migrates is no diff');
    const guest = await receiveGuest(reader, announced, given, begin);
    try {
      await takeOver(reader, new RecordWriter(stream, given.signal), announced.id);
      return guest;
    } catch (error) {
      guest.manager.close();
      throw error;
    }
  } finally {
    reader.end();
  }
}

/** Says that the guest is there, and waits for the word that it is this side's. */
async function takeOver(reader: RecordReader, writer: RecordWriter, id: string): Promise<void> {
  await writer.writeText(RECORD.ready, id);
  const { payload } = await reader.next([RECORD.go]);
  if (payload.toString() !== id) throw strange('the word to go on is for another guest');
  writer.end();
}

/** Layout of a record that has one. Throws SNAPSHOT_LAYOUT, SNAPSHOT_VERSION. */
export function layoutOf({ payload }: Received): SnapshotLayout {
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
      const record = await reader.next([RECORD.pages, RECORD.last, RECORD.end]);
      if (record.kind === RECORD.end) return settledLayout(record, announced);
      if (record.kind === RECORD.last) continue;
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
async function writeBase(layout: SnapshotLayout, writers: readonly RamWriter[]): Promise<void> {
  const chain = await openBase(layout);
  const buffer = Buffer.allocUnsafeSlow(STEP);
  try {
    for (const [i, image] of baseImages(layout, chain).entries()) {
      for (const { offset, length } of stepsOf(image?.pages ?? [])) {
        const bytes = buffer.subarray(0, length);
        await image!.read(offset, bytes);
        await writers[i]!.write(offset, bytes);
      }
    }
  } finally {
    await closeChain(chain);
  }
}

/** Block of RAM that a record's pages are in, and their offset in it. Throws SNAPSHOT_DAMAGED. */
export function placeOf({ offset, payload }: Received, ram: readonly SnapshotRam[]): { index: number; offset: number } {
  const index = ram.findLastIndex(({ fileOffset }) => fileOffset <= offset);
  const block = ram[index];
  if (block === undefined || offset + payload.length > block.fileOffset + block.size) {
    throw strange('a record has pages of no RAM');
  }
  return { index, offset: offset - block.fileOffset };
}

/** Layout as it is to be, of the RAM that was announced. Throws SNAPSHOT_DAMAGED. */
export function settledLayout(record: Received, announced: SnapshotLayout): SnapshotLayout {
  const layout = layoutOf(record);
  if (identityOf(layout) === identityOf(announced)) return layout;
  throw strange('it ends with the layout of another snapshot');
}

/** Text of a snapshot's identity and its RAM, but for the pages. */
function identityOf({ id, ram }: SnapshotLayout): string {
  const inText = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value);
  return JSON.stringify([id, ram.map(({ pages, crc32, ...block }) => block)], inText);
}
