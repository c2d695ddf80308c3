// The records of what was asked for: regions, events, address spaces, mappable objects, sinks, partitions. References
// that may be none are id + 1, so that 0 is none.

import {
  GPA_BITS,
  KIND_HOLDS_MEMORY,
  MAX_EVENTS,
  MAX_OBJECTS,
  MAX_PARTITIONS,
  MAX_REGIONS,
  MAX_SINKS,
  MAX_SPACES,
  OBJECT_IS_MOVED,
} from '../abi';
import { Entry, TABLE_SIZE, Table } from '../undo/table';

@unmanaged
export class Region extends Entry {
  /** Precedence among siblings: the higher one is seen. */
  priority: i32;
  /** Offset in the parent of the first byte. */
  offset: u64;
  /** The last byte, counted from the region's own start. */
  last: u64;
  /** Offset of the byte of the target that an alias shows at its first. */
  targetOffset: u64;
  /** Number of its placement: among equal priority the lower one is seen. */
  order: u64;
  parent: u32;
  target: u32;
  /** Tree of the children that are not empty, by offset; b = id; they may overlap. */
  children: u32;
  /** Tree of its mappings, by offset in the region; c = MAPPING_*. See views.ts. */
  mappings: u32;
  /** Root of the *before* tree of `mappings`, see before.ts. */
  mappingsBefore: u32;
  /** Tree of the aliases that show a part of this region, by offset of that part; b = id; they may overlap. */
  referrers: u32;
  /** Tree of its events, by offset in it; b = id; they may overlap. See event.ts. */
  events: u32;
  /** First address space of which this is the root. */
  spaces: u32;
  /** Pages that are mapped and not writable. */
  readonlyPages: u64;
  /** Number of children, aliases, events and address spaces that refer to it. */
  uses: u32;
  kind: u8;
  flags: u8;

  get childrenTree(): usize {
    return changetype<usize>(this) + offsetof<Region>('children');
  }
  get mappingsTree(): usize {
    return changetype<usize>(this) + offsetof<Region>('mappings');
  }
  get referrersTree(): usize {
    return changetype<usize>(this) + offsetof<Region>('referrers');
  }
  get eventsTree(): usize {
    return changetype<usize>(this) + offsetof<Region>('events');
  }
}

@unmanaged
export class RegionEvent extends Entry {
  region: u32;
  /** Offsets in the region of its first and last byte. */
  offset: u64;
  last: u64;
  /** Value that counts, with EVENT_MATCH; else 0. */
  match: u64;
  /** EVENT_*. */
  flags: u32;
}

@unmanaged
class Space extends Entry {
  root: u32;
  /** GPA of the root's first byte. */
  offset: u64;
  nextOfRoot: u32;
  /** The flat view: tree of its ranges, by GPA. See views.ts. */
  flat: u32;
  flatBefore: u32;
  /** First sink that is attached here. */
  sinks: u32;

  get flatTree(): usize {
    return changetype<usize>(this) + offsetof<Space>('flat');
  }
}

@unmanaged
class MappableObject extends Entry {
  kind: u8;
  flags: u8;
  size: u64;
  /** Pages of the object that regions map, counted as often as they are mapped. */
  mappedPages: u64;
  /** Tree of the stretches of a private object that VA sinks show, by offset in it. See views.ts. */
  shown: u32;
  /** Size of its pages, as a power of 2: a VA space shows only whole ones. */
  pageShift: u8;
  /** Pages of a private object's echoes (see sinks/echoes.ts), counted as often as they are seen. */
  echoedPages: u64;

  /** Whether its pages exist only as their mapping: see OBJECT_IS_MOVED. */
  get isMoved(): bool {
    return (this.kind & OBJECT_IS_MOVED) != 0;
  }
  /** The bits of an address inside one of its pages. */
  get pageMask(): u64 {
    return ((<u64>1) << this.pageShift) - 1;
  }
  get shownTree(): usize {
    return changetype<usize>(this) + offsetof<MappableObject>('shown');
  }
}

@unmanaged
export class Sink extends Entry {
  kind: u8;
  /** Kinds of difference (bits of touch.ts) beside VIEW for which it must be looked at. */
  heeds: u8;
  /** 1: it was detached by this transaction, and should have nothing. */
  detaching: u8;
  /** 1: it was attached by this transaction, and had nothing before. */
  attaching: u8;
  space: u32;
  nextOfSpace: u32;
  /** Partition that it belongs to; 0 for none. */
  partition: u32;
  /** Sink that it stands on: the VA sink whose HVAs it uses, of events the attachment; 0 for none. */
  va: u32;
  /** Sinks that stand on it. */
  users: u32;
  /** Distance that is added to a GPA of the space to give the sink's own. */
  offset: u64;
  /** The last GPA of the space that it can be given; of a VA space, the last of its first stretch. */
  last: u64;
  /** Bytes that stretches of a VA space behind its first one have, and may have. */
  stretchBytes: u64;
  maxStretchBytes: u64;
  /** Tree of these stretches, see sinks/stretches.ts. */
  stretches: u32;
  stretchCount: u32;
  /** Stretches that it may have; 0: the first is all. */
  maxStretches: u32;
  /** Stretches are whole units of that many bytes, as a power of 2. */
  stretchShift: u32;
  /** Tree of what the kind keeps of it: of a partition's attachment, its slots (see sinks/slots.ts); of a view, what
   *  may be used (see sinks/view.ts); events (see sinks/events.ts). */
  state: u32;
  /** Tree of its protections, by GPA; where there is none, all access is left. See views.ts. */
  protections: u32;
  protectionsBefore: u32;
  /** Tree of what is withheld from it for now, whatever is protected; as `protections`. */
  withheld: u32;
  withheldBefore: u32;
  /** Tree of its lost ranges, see sinks/lost.ts. */
  lost: u32;
  /** Tree of a VA space's echoes, see sinks/echoes.ts. */
  echoes: u32;
  /** Tree of an attachment's slots that show echoes, with the homes whose HVAs they have. See sinks/slots.ts. */
  homes: u32;
  padding: u32;

  /** VA space: the last GPA at which it shows what is seen. With stretches, that is the last that a guest can have;
   *  else what does not fit is refused. */
  get shownLast(): u64 {
    return this.maxStretches == 0 ? u64.MAX_VALUE : max(this.last, ((<u64>1) << GPA_BITS) - 1);
  }

  get stateTree(): usize {
    return changetype<usize>(this) + offsetof<Sink>('state');
  }
  get protectionsTree(): usize {
    return changetype<usize>(this) + offsetof<Sink>('protections');
  }
  get withheldTree(): usize {
    return changetype<usize>(this) + offsetof<Sink>('withheld');
  }
  get lostTree(): usize {
    return changetype<usize>(this) + offsetof<Sink>('lost');
  }
  get echoesTree(): usize {
    return changetype<usize>(this) + offsetof<Sink>('echoes');
  }
  get homesTree(): usize {
    return changetype<usize>(this) + offsetof<Sink>('homes');
  }
  get stretchesTree(): usize {
    return changetype<usize>(this) + offsetof<Sink>('stretches');
  }
}

@unmanaged
class Partition extends Entry {
  /** The bits of a GPA inside the stretches at whose ends slots are cut. */
  slotMask: u64;
  slotLimit: u32;
  slotsUsed: u32;
  /** Number below which no slot is free. */
  lowestFree: u32;
  /** Attachments. */
  uses: u32;
  /** One bit a slot, set when taken: address and shift of the block. */
  bitmap: u32;
  bitmapShift: u32;
  /** 1: it is shut down, and gets no slots any more. */
  isDown: u32;
  /** Pages that the hypervisor keeps for itself. Span tree: GPA of the partition's own -> a = GPA. */
  kept: u32;

  get keptTree(): usize {
    return changetype<usize>(this) + offsetof<Partition>('kept');
  }
}

export const regions = changetype<Table>(memory.data(TABLE_SIZE, 8));
export const spaces = changetype<Table>(memory.data(TABLE_SIZE, 8));
export const objects = changetype<Table>(memory.data(TABLE_SIZE, 8));
export const sinks = changetype<Table>(memory.data(TABLE_SIZE, 8));
export const partitions = changetype<Table>(memory.data(TABLE_SIZE, 8));
export const events = changetype<Table>(memory.data(TABLE_SIZE, 8));

export function defineTables(): void {
  regions.define(offsetof<Region>(), MAX_REGIONS, memory.data(MAX_REGIONS / 64, 8));
  spaces.define(offsetof<Space>(), MAX_SPACES, memory.data(MAX_SPACES / 64, 8));
  objects.define(offsetof<MappableObject>(), MAX_OBJECTS, memory.data(MAX_OBJECTS / 64, 8));
  sinks.define(offsetof<Sink>(), MAX_SINKS, memory.data(MAX_SINKS / 64, 8));
  partitions.define(offsetof<Partition>(), MAX_PARTITIONS, memory.data(8, 8));
  events.define(offsetof<RegionEvent>(), MAX_EVENTS, memory.data(MAX_EVENTS / 64, 8));
}

/** Makes ids of what was freed available again. Precondition: the outermost transaction has ended. */
export function recycleTables(): void {
  regions.recycle();
  spaces.recycle();
  objects.recycle();
  sinks.recycle();
  partitions.recycle();
  events.recycle();
}

export function regionOf(id: u32): Region {
  return changetype<Region>(regions.address(id));
}
export function spaceOf(id: u32): Space {
  return changetype<Space>(spaces.address(id));
}
export function objectOf(id: u32): MappableObject {
  return changetype<MappableObject>(objects.address(id));
}
export function sinkOf(id: u32): Sink {
  return changetype<Sink>(sinks.address(id));
}
export function partitionOf(id: u32): Partition {
  return changetype<Partition>(partitions.address(id));
}
export function eventOf(id: u32): RegionEvent {
  return changetype<RegionEvent>(events.address(id));
}

/** Whether the region itself is memory: the guest reads and writes it without a trap. */
export function isMemory(id: u32): bool {
  return (regionOf(id).kind & KIND_HOLDS_MEMORY) != 0;
}

// Records to write to: their images are in the journal.
export function writableRegion(id: u32): Region {
  return changetype<Region>(regions.touch(id));
}
export function writableSpace(id: u32): Space {
  return changetype<Space>(spaces.touch(id));
}
export function writableObject(id: u32): MappableObject {
  return changetype<MappableObject>(objects.touch(id));
}
export function writableSink(id: u32): Sink {
  return changetype<Sink>(sinks.touch(id));
}
export function writablePartition(id: u32): Partition {
  return changetype<Partition>(partitions.touch(id));
}
