// Snapshots of a guest's memory: what there is now, written with its layout.

import { readlinkSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { relative, resolve } from 'node:path';
import { Writable } from 'node:stream';
import { type MemoryObject, PrivateMemory, SharedMemory } from '../asked/object.ts';
import { MembackingError } from '../core/errors.ts';
import * as validate from '../core/validate.ts';
import { type PlainState, stateJson } from '../snapshot/caller-state.ts';
import { BlockImage, closeChain, inFolder, type Link, type OpenLink, openChain } from '../snapshot/chain.ts';
import type { SnapshotDevice, SnapshotLayout, SnapshotRam } from '../snapshot/layout.ts';
import { inFile, readAll, type Source } from '../snapshot/memory-writer.ts';
import { checksumOf } from '../snapshot/page-copy.ts';
import { joined, PAGE, type PageRange, within } from '../snapshot/page-list.ts';
import { RECORD } from '../snapshot/records.ts';
import { orAborted, RecordWriter } from '../snapshot/stream.ts';
import {
  checkWork,
  type LayoutBeside,
  memorySize,
  type PlannedBlock,
  SnapshotStream,
  type SnapshotWork,
  writeBlocks,
  writeFilled,
  writeSnapshot,
  writeStream,
} from '../snapshot/write.ts';
import { type Bases, WrittenSince } from './bases.ts';
import type { MappedRegion } from './device.ts';
import { hold, holdable } from './hold.ts';
import { type BlockPages, copyLive, type LiveGuest, type LiveOptions, methodsWithin } from './live.ts';
import { openMemory, pathOf } from './memory-file.ts';
import type { GuestMemoryParts } from './parts.ts';
import { visibilityOf } from './ram.ts';
import type { RamBlock } from './ram-store.ts';
import { type ForkMaker, Template } from './template.ts';
import type { VtlAccess } from './vtl.ts';
import type { VtlState } from './vtl-state.ts';

const DEFAULT_DOWNTIME = 300;

/** Options of `GuestMemoryManager.snapshot`. */
export interface SnapshotOptions extends FreezeOptions {
  /** Snapshot that this one is a diff of, its folder or a template: only pages that were written since are in it. */
  readonly base?: string | Template<unknown>;
  /** Whether the guest goes on meanwhile: its partitions are held for the last part of the copying alone.
   *  Default false. */
  readonly live?: boolean;
  /** Milliseconds for which a live snapshot may hold the guest to find and copy what it wrote last. Default 300. Where
   *  a scan of all pages may take more than a quarter of that, writes are tracked by `faults` (see `DirtyMethod`). */
  readonly maxDowntime?: number;
}

/** Options of `GuestMemoryManager.freeze`. */
export interface FreezeOptions extends SnapshotWork {
  /** State to be kept beside the memory: of vCPUs, of devices. Of a function, what it returns: for a live snapshot, it
   *  is called when the partitions are held; the caller holds devices that write until the memory is copied. */
  readonly state?: PlainState | (() => PlainState | Promise<PlainState>);
}

/** Memory of one guest, as its manager hands it over. */
export interface SnapshotSubject {
  readonly parts: GuestMemoryParts;
  readonly levels: readonly VtlState[];
  readonly devices: readonly MappedRegion[];
  readonly bases: Bases;
}

/** Writes a snapshot into a folder or a stream. Rejects as `GuestMemoryManager.snapshot` does. */
export async function snapshot(
  subject: SnapshotSubject,
  target: string | Writable,
  options: SnapshotOptions | undefined,
): Promise<SnapshotLayout> {
  const known = ['base', 'live', 'maxDowntime', 'state', 'signal', 'progress'] as const;
  const { base, live, maxDowntime, state, ...work } = validate.options(options, known, 'snapshot');
  const folder = target instanceof Writable ? undefined : validate.text(target, 'the target');
  const openBase = base === undefined ? undefined : openerOf(base, folder);
  const liveFor = downtimeOf(live, maxDowntime);
  checkNow(subject, work);
  if (liveFor !== undefined) holdable(subject.parts.map);
  const now = liveFor === undefined ? await stateOf(state) : undefined;
  const taking = { openBase, liveFor, signal: work.signal };
  return withBlocks(subject, taking, async (blocks, beside) => {
    const onBase = beside.base && { id: beside.base.id, folder: placeOf(base!, folder) };
    const rest = { ...beside.rest, base: onBase, state: now };
    if (liveFor !== undefined) {
      const guest = liveGuest(subject, { blocks, ...beside }, { base: onBase, state });
      return writeLive(target, guest, rest, { ...work, maxDowntime: liveFor });
    }
    return target instanceof Writable
      ? writeStream(target, blocks, rest, work)
      : writeSnapshot(target, blocks, rest, work);
  });
}

/** Writes a live snapshot. `rest`: what it is announced with in a stream. */
async function writeLive(
  target: string | Writable,
  guest: LiveGuest,
  rest: LayoutBeside,
  options: LiveOptions,
): Promise<SnapshotLayout> {
  const { blocks } = guest;
  if (target instanceof Writable) {
    const writer = new RecordWriter(target, options.signal);
    const stream = await SnapshotStream.begin(writer, blocks, rest, RECORD.begin);
    const { at } = stream;
    const announceLast = (pages: BlockPages, beside: LayoutBeside) =>
      stream.announceLast(copiedRam(blocks, pages), beside);
    const { pages, beside } = await copyLive({ at, announceLast }, guest, options);
    const layout = await stream.end(copiedRam(blocks, pages), beside);
    writer.end();
    return layout;
  }
  return writeFilled(target, memorySize(blocks), async (memory) => {
    const { pages, beside } = await copyLive({ at: (fileOffset) => inFile(memory, fileOffset) }, guest, options);
    const summed = copiedRam(blocks, pages).map(async (block) => {
      const crc32 = await checksumOf({ file: memory, offset: block.fileOffset }, block.pages, () => {});
      return { ...block, crc32: crc32! };
    });
    return { ram: await Promise.all(summed), beside };
  });
}

/** Blocks of RAM that were copied, without checksums: in a stream, each record has its own. */
export function copiedRam(blocks: readonly PlannedBlock[], pages: BlockPages): SnapshotRam[] {
  return blocks.map(({ ram }, i) => {
    const fileOffset = memorySize(blocks.slice(0, i));
    return { ...ram, fileOffset, pages: pages[i]!, crc32: 0 };
  });
}

/** Milliseconds that a live snapshot may hold vCPUs for; undefined for one that is not live. */
function downtimeOf(live: unknown, maxDowntime: unknown): number | undefined {
  if (validate.flag(live ?? false, 'live')) return checkedDowntime(maxDowntime);
  if (maxDowntime === undefined) return undefined;
  throw validate.invalid('maxDowntime is for a live snapshot: say live, too');
}

/** Milliseconds that vCPUs may be held for. Throws INVALID_ARGUMENT. */
export function checkedDowntime(maxDowntime: unknown): number {
  return validate.integer(maxDowntime ?? DEFAULT_DOWNTIME, 'maxDowntime', 1, 3_600_000);
}

function openerOf(base: string | Template<unknown>, target: string | undefined): OpenLink {
  if (base instanceof Template) return () => base.openLink();
  const folder = validate.text(base, 'base');
  if (target === undefined || resolve(folder) !== resolve(target)) return inFolder(folder);
  throw validate.invalid('a diff must be in another folder than its base, which it needs');
}

/** Folder of a base: from that of its diff on, or from the root where that is a stream; a template has none. */
function placeOf(base: string | Template<unknown>, target: string | undefined): string | undefined {
  if (base instanceof Template) return undefined;
  return target === undefined ? resolve(base) : relative(resolve(target), resolve(base));
}

/** Keeps a snapshot in memory. Rejects as `GuestMemoryManager.freeze` does. */
export async function freeze<Guest>(
  subject: SnapshotSubject,
  options: FreezeOptions | undefined,
  maker: ForkMaker<Guest>,
): Promise<Template<Guest>> {
  const { state: given, ...work } = validate.options(options, ['state', 'signal', 'progress'], 'freeze');
  checkNow(subject, work);
  const state = await stateOf(given);
  const taking = { openBase: undefined, liveFor: undefined, signal: work.signal };
  return withBlocks(subject, taking, async (blocks, { rest }) => {
    const memory = SharedMemory.create(Math.max(memorySize(blocks), PAGE), { name: 'template' });
    try {
      const file = await openMemory(memory, 'r+');
      const into = (fileOffset: number) => inFile(file, fileOffset);
      const ram = await writeBlocks(into, blocks, work).finally(() => file.close());
      return new Template(memory, { ...rest, id: crypto.randomUUID(), ram, state }, maker);
    } catch (error) {
      memory.close();
      throw error;
    }
  });
}

/** Checks that a snapshot can be begun now. Throws INVALID_ARGUMENT, PLAN_PENDING, ABORTED. */
export function checkNow({ parts: { map } }: SnapshotSubject, work: SnapshotWork): void {
  map.context.checkIdle(() => validate.invalid('a snapshot is taken when no transaction is open'));
  checkWork(work);
}

/** State that a caller adds, as it is now. Rejects with INVALID_ARGUMENT. */
async function stateOf(state: FreezeOptions['state']): Promise<PlainState | undefined> {
  const now = typeof state === 'function' ? await state() : state;
  if (now !== undefined) stateJson(now);
  return now;
}

/** Facts of blocks that are copied. */
interface Beside {
  /** All but the memory, as it was when the blocks were. */
  readonly rest: LayoutWithoutMemory;
  /** Snapshot that they are compared with. */
  readonly base: { readonly id: string } | undefined;
  readonly objects: readonly MemoryObject[];
  /** Pages that are written from now on; undefined where the system cannot track. */
  readonly since: WrittenSince | undefined;
}

/** A guest as a live copy needs it. */
export function liveGuest(
  subject: SnapshotSubject,
  { blocks, objects, since }: Beside & { readonly blocks: readonly PlannedBlock[] },
  { base, state }: { readonly base: LayoutBeside['base']; readonly state: FreezeOptions['state'] },
): LiveGuest {
  const { map, store } = subject.parts;
  const held = async () => {
    while (map.context.isInTurns) await map.context.settled();
    return hold(map);
  };
  const facts = async () => {
    const given = await stateOf(state);
    const now = { ...layoutWithoutMemory(subject), base, state: given };
    if (store.blocks.length === objects.length && store.blocks.every(({ object }, i) => object === objects[i]))
      return now;
    throw new MembackingError('RAM_CHANGED', 'RAM has come or gone while a live snapshot was taken: take it again');
  };
  return { blocks, objects, since: since!, hold: held, facts };
}

/** Way to take a snapshot. */
interface Taking {
  readonly openBase: OpenLink | undefined;
  /** Milliseconds for which vCPUs may be held at its end; undefined: they are held all the time. */
  readonly liveFor: number | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Calls `body`, which makes a snapshot of the blocks of RAM as they are now; what they are read from is open until it
 *  is done. What is written later is known to be written since that snapshot. */
export async function withBlocks<Result extends { readonly id: string }>(
  subject: SnapshotSubject,
  { openBase, liveFor, signal }: Taking,
  body: (blocks: readonly PlannedBlock[], beside: Beside) => Promise<Result>,
): Promise<Result> {
  const { bases, parts } = subject;
  const { map, va, store } = parts;
  const { blocks } = store;
  const rest = layoutWithoutMemory(subject);
  const objects = blocks.map(({ object }) => object);
  if (liveFor === undefined) bases.findOwn(map, va, objects);
  const since =
    liveFor === undefined
      ? WrittenSince.begin(map, va, objects)
      : WrittenSince.start(map, va, objects, methodsWithin(liveFor, objects));
  const opening = openFiles(objects);
  let chain: readonly Link[] = [];
  try {
    if (openBase !== undefined) chain = await openChain(openBase, bases.template && (() => bases.template!.openLink()));
    const files = await opening;
    const base = chain[0]?.layout;
    const known = base && bases.since(base.id);
    known?.collect(since);
    const planned = blocks.map((block, i) => plan(block, { file: files[i], chain, known, since, bases, signal }));
    const made = await body(planned, { rest, base, objects, since });
    bases.remember(made.id, since, base?.id);
    return made;
  } catch (error) {
    since?.close();
    throw error;
  } finally {
    const files = await opening;
    await Promise.allSettled([closeChain(chain), ...files.map((file) => file?.close())]);
  }
}

// ---- Memory ------------------------------------------------------------------------------------

/** Descriptors of the files of shared RAM, each with a position of its own and open whatever becomes of the RAM. None
 *  where the memory alone can be read. Never rejects. */
function openFiles(objects: readonly MemoryObject[]): Promise<(FileHandle | undefined)[]> {
  return Promise.all(objects.map((object) => (object.kind === 'shared' ? openFile(object) : undefined)));
}

async function openFile(object: MemoryObject): Promise<FileHandle | undefined> {
  const file = await openMemory(object, 'r').catch(() => undefined);
  const isFile = await file?.stat().then(
    (facts) => facts.isFile(),
    () => false,
  );
  // Closed meanwhile, its number may be another file's.
  if (isFile && !object.closed) return file;
  await file?.close().catch(() => {});
  return undefined;
}

/** Things that are known when a block is planned. */
interface Found {
  readonly file: FileHandle | undefined;
  readonly chain: readonly Link[];
  /** Pages that were written since the base. */
  readonly known: WrittenSince | undefined;
  /** Pages that are written from now on. */
  readonly since: WrittenSince | undefined;
  readonly bases: Bases;
  readonly signal: AbortSignal | undefined;
}

function plan({ name, ranges, object }: RamBlock, found: Found): PlannedBlock {
  const { file, chain } = found;
  const size = Number(object.size);
  const kind = object.kind === 'private' ? 'private' : 'shared';
  const ofBase = chain[0]?.layout.ram.find((each) => each.name === name && each.size === size);
  const base = ofBase === undefined ? undefined : new BlockImage(chain, name);
  const { own, ...chosen } = choose(object, base, found);
  const isReadable = file !== undefined || object.kind === 'private';
  return {
    ram: { name, kind, pageSize: object.granularity, ranges, size, onBase: base !== undefined },
    source: {
      ...chosen,
      ...(object instanceof PrivateMemory && object.hasSource
        ? { origin: undefined, read: (offset, into) => readGiven(object, offset, into, found.signal) }
        : {
            origin: isReadable ? { file, offset: 0, memory: object, own } : undefined,
            read: (offset, into) => readObject(object, file, offset, into),
            readNow: (offset, into) => object.read(offset, into),
          }),
    },
  };
}

/** Pages of a block that are looked at. */
interface Chosen extends Pick<Source, 'candidates' | 'leftOut'> {
  /** Pages that its memory has for itself, where that was asked. */
  readonly own?: readonly PageRange[];
}

/** Chooses the pages of a block that are looked at, and those of them that are left out. */
function choose(object: MemoryObject, base: BlockImage | undefined, { known, since, bases, chain }: Found): Chosen {
  const written = base && known?.pagesOf(object);
  if (written !== undefined) return { candidates: written, leftOut: 'nothing' };
  const changed = base && object instanceof PrivateMemory && bases.changedSince(object, chain[0]!.layout.id);
  if (base && changed) return { candidates: changed, leftOut: base };
  const own = bases.ownPages(object, since);
  // All else is in both as in the snapshot that this RAM is an image of, and the base a diff.
  if (base && bases.imageOf(object) === base.lowest.id) {
    return { candidates: joined(own, base.pagesAbove), leftOut: base, own };
  }
  const data = joined(object.fileRanges() as readonly PageRange[], own);
  // What was there and is gone is zeroes now, which a diff has to say.
  return base
    ? { candidates: joined(data, base.pages), leftOut: base, own }
    : { candidates: data, leftOut: 'zeroes', own };
}

/** Reads RAM when the source of its pages has given them. */
async function readGiven(
  object: PrivateMemory,
  offset: number,
  into: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const absent = object.absentRanges() as readonly PageRange[];
  for (const part of within(absent, offset, offset + into.length)) {
    await orAborted(object.ask(part.offset, part.length), signal);
  }
  object.read(offset, into);
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
      protections.map(({ gpa, length, access, nearest }) => ({
        ...{ vtl, gpa, length, nearest },
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
      file: readlinkSync(pathOf(object)),
    })),
  };
}
