// Guests made from snapshots: as the one was that the snapshot was taken of, and ordinary ones.

import { type FileHandle, open } from 'node:fs/promises';
import { type MemoryObject, SharedMemory } from '../asked/object.ts';
import type { Address } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import type { Policy } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import type { PlainState } from '../snapshot/caller-state.ts';
import { BlockImage, closeChain, openChain } from '../snapshot/chain.ts';
import { refused } from '../snapshot/field.ts';
import type { SnapshotDevice, SnapshotRam } from '../snapshot/layout.ts';
import { aborted, STEP, stepsOf, writeAll } from '../snapshot/memory-writer.ts';
import { PAGE } from '../snapshot/page-list.ts';
import { checkWork, type SnapshotWork, stepCounter } from '../snapshot/write.ts';
import type { TraceOutput } from '../trace/recorder.ts';
import type { RamBacking } from './backing.ts';
import type { DeviceRegionControl, MappedRegion } from './device.ts';
import type { GuestMemoryManager } from './manager.ts';
import type { RamOptions } from './ram-options.ts';
import { layoutOf, memoryOfTemplate, Template, type TemplateLayout } from './template.ts';
import type { WritableRam } from './writable-ram.ts';

/** Ways to bring a snapshot's memory into a guest: `copy` reads all of it into new memory. `map` shows the file, copied
 *  page by page where the guest writes: there at once, and the file has to stay as it is. */
const RESTORE_MODES = ['copy', 'map'] as const;
/** A way to bring a snapshot's memory into a guest. */
export type RestoreMode = (typeof RESTORE_MODES)[number];

/** Options of `GuestMemoryBuilder.fromSnapshot`. */
export interface RestoreOptions extends SnapshotWork, ForkOptions {
  /** Way to bring the memory in. Default `copy`. */
  readonly mode?: RestoreMode;
}

/** Options of `GuestMemoryBuilder.fromTemplate`. */
export interface ForkOptions {
  /** Takes a trace of everything that happens. */
  readonly record?: TraceOutput;
  /** Checks every invariant around every step: slow, for tests. */
  readonly debug?: boolean;
}

/** A device region that a snapshot had: where it was, and empty. */
export interface RestoredDevice {
  /** Control that places it. */
  readonly control: DeviceRegionControl;
  /** The device's own side. */
  readonly region: MappedRegion;
  /** Files that it showed, for its device to open and map again. */
  readonly mappings: SnapshotDevice['mappings'];
}

/** A guest from a snapshot. */
export interface RestoredGuest {
  /** Manager of the memory, to be closed by the caller. */
  readonly manager: GuestMemoryManager;
  /** Device regions, in the order in which they were made. */
  readonly devices: readonly RestoredDevice[];
  /** Ranges of RAM that stay writable: see `RamVisibilityControl.keepWritable`. */
  readonly writableRam: readonly WritableRam[];
  /** State that the snapshot's caller had added. */
  readonly state: PlainState | undefined;
}

/** Maker of a guest, as far as a snapshot has use for it. */
interface Builder {
  addRam(options: RamOptions): unknown;
  build(): GuestMemoryManager;
}

/** Options of a guest's memory, as a snapshot has them. */
interface BuilderOptions {
  readonly maxAddress: Address;
  readonly vtl0AliasMap?: Address;
  readonly x86LegacySupport: boolean;
  readonly pinMappings: boolean;
  readonly policy: Policy;
  readonly slotBudget?: number;
  readonly record?: TraceOutput;
  readonly debug?: boolean;
}

/** Makes a guest of the snapshot in a folder. Rejects as `GuestMemoryBuilder.fromSnapshot` does. */
export async function restore(
  folder: string,
  options: RestoreOptions | undefined,
  begin: (options: BuilderOptions) => Builder,
): Promise<RestoredGuest> {
  const given = checkedOptions(options);
  const chain = await openChain(validate.text(folder, 'the folder'));
  try {
    const { layout } = chain[0]!;
    const images = layout.ram.map(({ name }) => new BlockImage(chain, name));
    const backings = images.map((image) => (given.mode === 'map' ? mapped(image) : fresh(image.block)));
    const manager = build(layout, backings, given, begin);
    try {
      await fill(manager, images, given);
      return { manager, ...arrange(manager, layout), state: layout.state };
    } catch (error) {
      manager.close();
      throw error;
    }
  } finally {
    await closeChain(chain);
  }
}

/** Makes a guest of a template. Throws as `GuestMemoryBuilder.fromTemplate` does. */
export function fork(
  template: Template,
  options: ForkOptions | undefined,
  begin: (options: BuilderOptions) => Builder,
): RestoredGuest {
  const given = validate.options(options, ['record', 'debug'], 'fromTemplate');
  const { fd } = memoryOfTemplate(validate.instance(Template, template, 'the template'));
  const layout = layoutOf(template);
  const backings = layout.ram.map(({ fileOffset }) => copyOnWrite(fd, fileOffset));
  const manager = build(layout, backings, given, begin);
  try {
    return { manager, ...arrange(manager, layout), state: layout.state };
  } catch (error) {
    manager.close();
    throw error;
  }
}

interface Checked extends RestoreOptions {
  readonly mode: RestoreMode;
}

function checkedOptions(options: RestoreOptions | undefined): Checked {
  const known = ['mode', 'signal', 'onProgress', 'record', 'debug'] as const;
  const given = validate.options(options, known, 'fromSnapshot');
  const mode = validate.oneOf(RESTORE_MODES, given.mode ?? 'copy', 'mode');
  checkWork(given);
  return { ...given, mode };
}

/** Builds the guest, on a backing for each block of RAM. */
function build(
  { options, ram }: TemplateLayout,
  backings: readonly RamBacking[],
  { record, debug }: ForkOptions,
  begin: (options: BuilderOptions) => Builder,
): GuestMemoryManager {
  const { vtl0AliasMap, slotBudget, ...others } = options;
  return applying('options', () => {
    const builder = begin({
      ...others,
      ...(vtl0AliasMap !== undefined && { vtl0AliasMap }),
      ...(slotBudget !== undefined && { slotBudget }),
      ...(record !== undefined && { record }),
      ...(debug !== undefined && { debug }),
    });
    for (const [i, { name, ranges }] of ram.entries()) builder.addRam({ name, ranges, backing: backings[i]! });
    return applying('ram', () => builder.build());
  });
}

function mapped({ lowest: { memory, block } }: BlockImage): RamBacking {
  return copyOnWrite(memory.fd, block.fileOffset);
}

function copyOnWrite(fd: number, fileOffset: number): RamBacking {
  return { kind: 'fd', fd, copyOnWrite: true, fileOffset };
}

function fresh({ kind, pageSize }: SnapshotRam): RamBacking {
  return kind === 'shared' && pageSize > PAGE ? { kind, hugePageSize: pageSize } : { kind };
}

/** Writes the pages that are not there yet. Rejects with ABORTED, SNAPSHOT_DAMAGED, SYSTEM. */
async function fill(manager: GuestMemoryManager, images: readonly BlockImage[], options: Checked): Promise<void> {
  const { mode, signal, onProgress } = options;
  const all = images.map((image) => ({ image, pages: mode === 'map' ? image.pagesAbove : image.pages }));
  const onStep = stepCounter(
    all.map(({ pages }) => pages),
    onProgress,
  );
  const buffer = Buffer.allocUnsafeSlow(STEP);
  for (const { image, pages } of all) {
    const memory = manager.ramObject(image.block.name);
    const file = await openFile(memory);
    try {
      for (const { offset, length } of stepsOf(pages)) {
        if (signal?.aborted) throw aborted(signal.reason);
        const bytes = buffer.subarray(0, length);
        await image.read(offset, bytes);
        if (file === undefined) memory.write(offset, bytes);
        else await writeAll(file, bytes, offset);
        onStep(length);
      }
    } finally {
      await file?.close();
    }
  }
}

/** File of new shared RAM: written, it gets its pages without a fault for each. None of huge pages, which are not
 *  written so. */
async function openFile(memory: MemoryObject): Promise<FileHandle | undefined> {
  if (!(memory instanceof SharedMemory) || memory.granularity > PAGE) return undefined;
  return open(`/proc/self/fd/${memory.fd}`, 'r+').catch(() => undefined);
}

/** Makes the rest as it was: devices, visibility, protections. */
function arrange(manager: GuestMemoryManager, layout: TemplateLayout): Omit<RestoredGuest, 'manager' | 'state'> {
  const { visibility, writableRam, protections } = layout;
  applying('visibility', () => manager.ramVisibility.setAll(visibility));
  const kept = writableRam.map((range, i) =>
    applying(`writableRam[${i}]`, () => manager.ramVisibility.keepWritable(range)),
  );
  const devices = layout.devices.map((device, i) => applying(`devices[${i}]`, () => addDevice(manager, device)));
  for (const [i, { vtl, gpa, length, access, nearest }] of protections.entries()) {
    applying(`protections[${i}]`, () => manager.setVtlProtection(vtl, { gpa, length }, access, { nearest }));
  }
  return { devices, writableRam: kept };
}

function addDevice({ deviceMapper }: GuestMemoryManager, device: SnapshotDevice): RestoredDevice {
  const { name, length, priority, holes, gpa, writable, mappings } = device;
  const { control, region } = deviceMapper.newRegion(length, name, { priority, holes });
  if (gpa !== undefined) control.mapToGuest(gpa, { writable });
  return { control, region, mappings };
}

/** Refusals that say something of the machine, not of the snapshot. */
const MACHINE = ['SYSTEM', 'ALLOCATION_FAILED', 'HUGE_PAGES_MISSING', 'HUGE_PAGE_SIZE', 'PIN_REFUSED', 'CORE_MISSING'];

/** Makes something of a field of the layout; what is refused is the field's fault. */
function applying<Result>(path: string, body: () => Result): Result {
  try {
    return body();
  } catch (error) {
    if (!(error instanceof MembackingError) || MACHINE.includes(error.code)) throw error;
    if (error.code === 'SNAPSHOT_LAYOUT') throw error;
    throw refused(path, `cannot be had: ${error.message}`, error);
  }
}
