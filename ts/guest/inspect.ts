// Facts of a guest's memory as plain data that JSON can hold: for logs, for people, for other programs.

import type { LeaseFacts } from '../access/held-lease.ts';
import type { PlanCounters } from '../apply/plan-events.ts';
import { type Address, type PlainAddress, toPlain } from '../core/address.ts';
import type { EventKind } from '../core/kinds.ts';
import type { LostRange } from '../map/map.ts';
import type { VaSpace } from '../sinks/va-space.ts';
import { type TrappingPages, trappingPages } from '../text/trapping-pages.ts';
import type { DeviceMapping, MappedRegion } from './device.ts';
import type { GpaRange } from './layout.ts';
import type { GuestMemoryParts } from './parts.ts';
import { type RamVisibility, visibilityOf } from './ram.ts';
import type { RamBlock } from './ram-store.ts';
import type { Vtl } from './vtl.ts';
import type { VtlState } from './vtl-state.ts';

/** Facts of a guest's memory. Addresses and lengths are in bytes. */
export interface GuestMemoryFacts {
  /** Regions that there are, placed or not. */
  readonly regions: number;
  /** Highest GPA that RAM and devices may have. */
  readonly maxAddress: PlainAddress;
  /** Addresses of this process that are reserved for the guest, stretch by stretch: RAM's first. */
  readonly stretches: readonly { readonly gpa: PlainAddress; readonly length: PlainAddress }[];
  /** Number of stretches that there may be behind RAM's. */
  readonly maxStretches: number;
  /** Bytes that those may have together. */
  readonly maxStretchBytes: PlainAddress;
  /** GPA from which VTL2 sees all of VTL0's memory again; undefined: nowhere. */
  readonly vtl0AliasMap: PlainAddress | undefined;
  /** Blocks of RAM, with the pieces that can be switched. */
  readonly ram: readonly {
    readonly name: string;
    /** Kind of the backing: see `RamBacking`. */
    readonly backing: string;
    /** Bytes. */
    readonly size: PlainAddress;
    /** Bytes of memory or disk in use; undefined for private memory. */
    readonly allocatedBytes: PlainAddress | undefined;
    /** Whether the system was asked for transparent huge pages, and gives them. */
    readonly transparentHugePages: boolean;
    /** Pieces in order of GPA, and how the guest sees them. */
    readonly pieces: readonly {
      readonly gpa: PlainAddress;
      readonly length: PlainAddress;
      readonly visibility: RamVisibility;
    }[];
  }[];
  /** Ranges of RAM that stay readable and writable, whatever their pieces are switched to. */
  readonly writableRam: readonly { readonly gpa: PlainAddress; readonly length: PlainAddress }[];
  /** Device regions that are open, placed or not. */
  readonly devices: readonly {
    readonly name: string;
    readonly length: number;
    /** GPA that it is placed at; undefined: nowhere. */
    readonly gpa: PlainAddress | undefined;
    /** Whether it is placed and the guest sees nothing of it: it is hidden wholly, or past the highest address. */
    readonly hidden: boolean;
    /** Files that it shows, in order of offset. */
    readonly mappings: readonly DeviceMapping[];
  }[];
  /** Partitions that are attached. */
  readonly partitions: readonly {
    readonly name: string;
    readonly vtl: Vtl;
    /** Memory slots that it has. */
    readonly slots: number;
    /** Number of them beyond the fewest that show the same: they stay cut where something was over them. */
    readonly slotSplits: number;
    /** Number of events that it has. */
    readonly events: number;
    /** Whether it was shut down, because memory could not be taken away from it: it gets no slots any more. */
    readonly isShutDown: boolean;
    /** Whether a memory slot that goes costs it the page tables of all others; undefined where it does not say so. */
    readonly zapsAllSlots: boolean | undefined;
  }[];
  /** Events that are seen at VTL0, in order of GPA: writes of the guest that do not exit. */
  readonly events: readonly {
    readonly kind: EventKind;
    readonly gpa: PlainAddress;
    /** Bytes; 0 for a write of any length. */
    readonly length: PlainAddress;
    /** Value that counts; undefined where any does. */
    readonly match: PlainAddress | undefined;
    /** Name of the region that has it. */
    readonly region: string;
  }[];
  /** Protections of trust levels, in order of GPA: `access` is what is left. */
  readonly protections: readonly {
    readonly vtl: Vtl;
    readonly gpa: PlainAddress;
    readonly length: PlainAddress;
    readonly access: string;
  }[];
  /** Pages with memory that trap for the guest at VTL0, in order of GPA: the monitor alone has the memory there. */
  readonly trappingPages: readonly TrappingPages<PlainAddress>[];
  /** Ranges that should show something and do not, because it could not be put back: `repair` tries again. */
  readonly lost: readonly LostRange[];
  /** Leases that are held. */
  readonly leases: readonly LeaseFacts[];
  /** Counts of plans since the manager was built. */
  readonly plans: PlanCounters;
}

export function inspect(
  { maxAddress, aliasMap, store, map, space, va }: GuestMemoryParts,
  levels: readonly VtlState[],
  devices: readonly MappedRegion[],
): GuestMemoryFacts {
  const hidden = new Set(space.hidden);
  return {
    regions: map.context.regions.size,
    maxAddress: toPlain(maxAddress),
    ...stretchFacts(va),
    vtl0AliasMap: plainOrNone(aliasMap),
    ram: store.blocks.map(ramFacts),
    writableRam: store.writable.map(plainRange),
    devices: devices.map((device) => ({
      name: device.region.name,
      length: device.length,
      gpa: plainOrNone(device.region.offset),
      hidden: hidden.has(device.region),
      mappings: device.mappings(),
    })),
    partitions: levels.flatMap(partitionFacts),
    events: space.events().map(({ kind, gpa, length, match, region }) => ({
      ...{ kind, ...plainRange({ gpa, length }), match: plainOrNone(match), region: region.name },
    })),
    protections: levels.flatMap(({ vtl, protections }) =>
      protections.map(({ gpa, length, access }) => ({ vtl, gpa, length, access })),
    ),
    trappingPages: trappingPages(map.context.core.flat(space.id), map.context.names).map((pages) => ({
      ...pages,
      ...plainRange(pages),
    })),
    lost: map.lost(),
    leases: map.leases(),
    plans: { ...map.context.events.counters, classes: { ...map.context.events.counters.classes } },
  };
}

/** Facts of a VA space's addresses. */
function stretchFacts(va: VaSpace): Pick<GuestMemoryFacts, 'stretches' | 'maxStretches' | 'maxStretchBytes'> {
  const { maxStretches, maxStretchBytes } = va;
  return { stretches: va.stretches().map(plainRange), maxStretches, maxStretchBytes: toPlain(maxStretchBytes) };
}

function ramFacts({ name, kind, object, pieces, transparentHugePages }: RamBlock): GuestMemoryFacts['ram'][number] {
  return {
    name,
    backing: kind,
    size: toPlain(object.size),
    allocatedBytes: plainOrNone(object.allocatedBytes),
    transparentHugePages,
    pieces: pieces.map((piece) => ({ ...plainRange(piece), visibility: visibilityOf(piece) })),
  };
}

/** Facts of all partitions at a trust level. */
function partitionFacts({ vtl, partitions }: VtlState): GuestMemoryFacts['partitions'] {
  return partitions.map(({ attachments }) => ({
    name: attachments[0]!.partition.name,
    vtl,
    slots: attachments.reduce((count, attachment) => count + attachment.slots().length, 0),
    slotSplits: attachments.reduce((count, attachment) => count + attachment.slotSplits, 0),
    events: attachments.reduce((count, attachment) => count + attachment.events().length, 0),
    isShutDown: attachments[0]!.isShutDown,
    zapsAllSlots: attachments[0]!.partition.zapsAllSlots,
  }));
}

function plainRange({ gpa, length }: GpaRange): { gpa: PlainAddress; length: PlainAddress } {
  return { gpa: toPlain(gpa), length: toPlain(length) };
}

function plainOrNone(value: Address | undefined): PlainAddress | undefined {
  return value === undefined ? undefined : toPlain(value);
}
