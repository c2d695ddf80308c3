// Snapshots of a guest's memory: what there is now, written with its layout.

import { readlinkSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { relative, resolve } from 'node:path';
import { type DataRange, united } from '../asked/data-range.ts';
import { type MemoryObject, SharedMemory } from '../asked/object.ts';
import * as validate from '../core/validate.ts';
import { type PlainState, stateJson } from '../snapshot/caller-state.ts';
import { BlockImage, closeChain, type Link, openChain } from '../snapshot/chain.ts';
import type { SnapshotDevice, SnapshotLayout } from '../snapshot/layout.ts';
import { readAll } from '../snapshot/memory-writer.ts';
import { PAGE, type PageRange } from '../snapshot/page-list.ts';
import {
  checkWork,
  memorySize,
  type PlannedBlock,
  type SnapshotWork,
  writeBlocks,
  writeSnapshot,
} from '../snapshot/write.ts';
import type { MappedRegion } from './device.ts';
import type { GuestMemoryParts } from './parts.ts';
import { visibilityOf } from './ram.ts';
import type { RamBlock } from './ram-store.ts';
import { Template } from './template.ts';
import type { VtlAccess } from './vtl.ts';
import type { VtlState } from './vtl-state.ts';

/** Options of `GuestMemoryManager.snapshot`. */
export interface SnapshotOptions extends FreezeOptions {
  /** Folder of the snapshot that this one is a diff of: only pages that differ from it are written. */
  readonly base?: string;
}

/** Options of `GuestMemoryManager.freeze`. */
export interface FreezeOptions extends SnapshotWork {
  /** State to be kept beside the memory: of vCPUs, of devices. */
  readonly state?: PlainState;
}

/** Memory of one guest, as its manager hands it over. */
export interface SnapshotSubject {
  readonly parts: GuestMemoryParts;
  readonly levels: readonly VtlState[];
  readonly devices: readonly MappedRegion[];
}

/** Writes a snapshot into a folder. Rejects as `GuestMemoryManager.snapshot` does. */
export async function snapshot(
  subject: SnapshotSubject,
  folder: string,
  options: SnapshotOptions | undefined,
): Promise<SnapshotLayout> {
  const { base, state, ...work } = validate.options(options, ['base', 'state', 'signal', 'onProgress'], 'snapshot');
  const target = resolve(validate.text(folder, 'the folder'));
  if (base !== undefined && resolve(validate.text(base, 'base')) === target) {
    throw validate.invalid('a diff must be in another folder than its base, which it needs');
  }
  checkState(state);
  checkWork(work);
  return withBlocks(subject, base, async (blocks, { rest, chain }) => {
    const onBase = chain[0] && { id: chain[0].layout.id, folder: relative(target, resolve(base!)) };
    return writeSnapshot(folder, blocks, { ...rest, base: onBase, state }, work);
  });
}

/** Keeps a snapshot in memory. Rejects as `GuestMemoryManager.freeze` does. */
export async function freeze(subject: SnapshotSubject, options: FreezeOptions | undefined): Promise<Template> {
  const { state, ...work } = validate.options(options, ['state', 'signal', 'onProgress'], 'freeze');
  checkState(state);
  checkWork(work);
  return withBlocks(subject, undefined, async (blocks, { rest }) => {
    const size = memorySize(blocks);
    const memory = SharedMemory.create(Math.max(size, PAGE), { name: 'template' });
    try {
      const file = await open(`/proc/self/fd/${memory.fd}`, 'r+');
      const ram = await writeBlocks(file, blocks, work).finally(() => file.close());
      return new Template(memory, { ...rest, ram, state });
    } catch (error) {
      memory.close();
      throw error;
    }
  });
}

function checkState(state: PlainState | undefined): void {
  if (state !== undefined) stateJson(state);
}

/** Calls `body` with the blocks of RAM as they are now; what they are read from is open until it is done. */
async function withBlocks<Result>(
  subject: SnapshotSubject,
  base: string | undefined,
  body: (
    blocks: readonly PlannedBlock[],
    also: { readonly rest: LayoutWithoutMemory; readonly chain: readonly Link[] },
  ) => Promise<Result>,
): Promise<Result> {
  const { map, store } = subject.parts;
  if (map.context.isBusy) throw validate.invalid('a snapshot is taken when no transaction is open');
  const rest = layoutWithoutMemory(subject);
  const { blocks } = store;
  const data = blocks.map(({ object }) => object.dataRanges());
  const files = await openFiles(blocks);
  let chain: readonly Link[] = [];
  try {
    if (base !== undefined) chain = await openChain(base);
    const planned = blocks.map((block, i) => plan(block, { data: data[i]!, file: files[i], chain }));
    return await body(planned, { rest, chain });
  } finally {
    await closeChain(chain);
    await Promise.allSettled(files.map((file) => file?.close()));
  }
}

// ---- Memory ------------------------------------------------------------------------------------

/** Descriptors of the files of shared RAM, each with a position of its own and open whatever becomes of the RAM. None
 *  where the memory alone can be read. */
async function openFiles(blocks: readonly RamBlock[]): Promise<(FileHandle | undefined)[]> {
  return Promise.all(
    blocks.map(async ({ object }) => {
      if (!(object instanceof SharedMemory) || object.kind === 'driver') return undefined;
      const file = await open(`/proc/self/fd/${object.fd}`, 'r').catch(() => undefined);
      // Closed meanwhile, its number may be another file's.
      if (file === undefined || ((await file.stat()).isFile() && !object.closed)) return file;
      await file.close();
      return undefined;
    }),
  );
}

/** Things that are known of a block when it is planned. */
interface Found {
  readonly data: readonly DataRange[];
  readonly file: FileHandle | undefined;
  readonly chain: readonly Link[];
}

function plan({ name, ranges, object }: RamBlock, { data, file, chain }: Found): PlannedBlock {
  const size = Number(object.size);
  const kind = object.kind === 'private' ? 'private' : 'shared';
  const ofBase = chain[0]?.layout.ram.find((each) => each.name === name && each.size === size);
  const base = ofBase === undefined ? undefined : new BlockImage(chain, name);
  // What was there and is gone is zeroes now, which a diff has to say.
  const candidates = (base === undefined ? data : united(data, base.pages)) as readonly PageRange[];
  return {
    ram: { name, kind, pageSize: object.granularity, ranges, size, onBase: base !== undefined },
    source: { candidates, base, read: (offset, into) => readObject(object, file, offset, into) },
  };
}

async function readObject(
  object: MemoryObject,
  file: FileHandle | undefined,
  offset: number,
  into: Uint8Array,
): Promise<void> {
  if (file !== undefined && (await readAll(file, into, offset))) return;
  // Says what is missing, where the file has become shorter.
  object.read(offset, into);
}

// ---- Layout ------------------------------------------------------------------------------------

type LayoutWithoutMemory = Pick<SnapshotLayout, 'options' | 'visibility' | 'writableRam' | 'protections' | 'devices'>;

function layoutWithoutMemory({ parts, levels, devices }: SnapshotSubject): LayoutWithoutMemory {
  const { map, store, maxAddress, aliasMap: vtl0AliasMap, slotBudget } = parts;
  const { x86LegacySupport, pinMappings } = store.limits;
  return {
    options: { maxAddress, vtl0AliasMap, x86LegacySupport, pinMappings, policy: map.context.policy, slotBudget },
    visibility: store.pieces.flatMap((piece) => {
      const visibility = visibilityOf(piece);
      return visibility === 'read-write' ? [] : [{ gpa: piece.gpa, length: piece.length, visibility }];
    }),
    writableRam: store.writable.map(({ gpa, length }) => ({ gpa, length })),
    protections: levels.flatMap(({ vtl, protections }) =>
      protections.map(({ start, end, access, nearest }) => ({
        ...{ vtl, gpa: start, length: end - start, nearest },
        access: access as Exclude<VtlAccess, 'rwx'>,
      })),
    ),
    devices: devices.map(deviceLayout),
  };
}

function deviceLayout(device: MappedRegion): SnapshotDevice {
  const { region, length, priority } = device;
  return {
    ...{ name: region.name, length, priority, holes: device.holes() },
    gpa: region.offset,
    writable: !region.flags.readonly,
    mappings: device.shownFiles().map(({ offset, length: bytes, object, objectOffset, writable }) => ({
      ...{ offset: Number(offset), length: Number(bytes), fileOffset: Number(objectOffset), writable },
      file: readlinkSync(`/proc/self/fd/${(object as SharedMemory).fd}`),
    })),
  };
}
