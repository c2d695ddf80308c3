// Guests made anew from a layout: options, RAM on backings that others choose, devices, visibility, protections.
// Layouts are of anybody: what is refused is told by the field.

import type { Address } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import type { Policy } from '../core/kinds.ts';
import { refused } from '../snapshot/field.ts';
import type { GuestLayout, SnapshotDevice, SnapshotRam } from '../snapshot/layout.ts';
import { PAGE } from '../snapshot/page-list.ts';
import type { TraceOutput } from '../trace/recorder.ts';
import type { AnyBacking, RamBacking } from './backing.ts';
import type { GuestMemoryManager, RestoredDevice, RestoredGuest } from './manager.ts';
import type { RamOptions } from './ram-options.ts';
import type { GuestOptions } from './template.ts';

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

/** Maker of a builder. */
export type Begin = (options: BuilderOptions) => Builder;

/** Builds the guest, on a backing for each block of RAM. */
export function build(
  { options, ram }: GuestLayout,
  backings: readonly AnyBacking[],
  { record, debug }: GuestOptions,
  begin: Begin,
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
    for (const [i, { name, ranges }] of ram.entries()) {
      // A builder takes the package's own, too.
      builder.addRam({ name, ranges, backing: backings[i] as RamBacking });
    }
    return applying('ram', () => builder.build());
  });
}

/** Backing of RAM that shows a file from `fileOffset` on, copied where it is written. */
export function copyOnWrite(fd: number, fileOffset: number): RamBacking {
  return { kind: 'fd', fd, copyOnWrite: true, fileOffset };
}

/** Backing of new RAM of the kind that a block was of. */
export function fresh({ kind, pageSize }: SnapshotRam): RamBacking {
  return kind === 'shared' && pageSize > PAGE ? { kind, hugePageSize: pageSize } : { kind };
}

/** A guest with the rest as it was, too. Where that fails, its manager is closed. */
export function arranged(manager: GuestMemoryManager, layout: GuestLayout): RestoredGuest {
  try {
    return { manager, ...arrange(manager, layout), state: layout.state };
  } catch (error) {
    manager.close();
    throw error;
  }
}

/** Makes the rest as it was: devices, visibility, protections. */
function arrange(manager: GuestMemoryManager, layout: GuestLayout): Omit<RestoredGuest, 'manager' | 'state'> {
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
