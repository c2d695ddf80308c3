// Regions: a fixed length with a name, placed and mapped as the monitor likes.

import * as abi from '../../assembly/abi.ts';
import { type Address, difference, formatHex, lengthOf, pageEnd, toAddress } from '../core/address.ts';
import { type RegionFlags, type RegionKind, regionFlags, regionFlagsMask } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import { renderTrees } from '../text/render.ts';
import {
  addCoalesced,
  addEvent,
  type CoalesceOptions,
  type EventContext,
  type EventOptions,
  type RegionEvent,
} from './event.ts';
import { MapHandle } from './map-handle.ts';
import { MemoryObject } from './object.ts';
import type { ObjectTable } from './object-table.ts';

/** Options of `Region.place`. */
export interface PlaceOptions {
  /** Offset of the region's first byte in the container. Default 0. */
  readonly offset?: Address;
  /** Signed, 32 bits: the higher one is seen; at equal priority, the one that was placed first. Default 0. */
  readonly priority?: number;
}

/** Options of `Region.map`. */
export interface MapOptions {
  /** Offset in the region, a multiple of the page size. Default 0. */
  readonly offset?: Address;
  /** Object that is shown. */
  readonly object: MemoryObject;
  /** Offset in the object, a multiple of the page size. Default 0. */
  readonly objectOffset?: Address;
  /** Bytes, whole pages. Default: from `objectOffset` to the end of the object. */
  readonly length?: Address;
  /** Whether the guest may write. Default: whether the object may be written. */
  readonly writable?: boolean;
}

/** One stretch of a region that shows a part of an object. */
export interface Mapping {
  /** Offset in the region. */
  readonly offset: Address;
  /** Bytes. */
  readonly length: Address;
  /** Object that is shown. */
  readonly object: MemoryObject;
  /** Offset in the object of the mapping's first byte. */
  readonly objectOffset: Address;
  /** Whether the guest may write. */
  readonly writable: boolean;
}

const PLACE_OPTIONS = ['offset', 'priority'] as const;
const MAP_OPTIONS = ['offset', 'object', 'objectOffset', 'length', 'writable'] as const;
const FLAG_NAMES = ['readonly', 'nonvolatile', 'enabled'] as const;

/** The map of a region. */
export interface RegionContext extends EventContext {
  readonly regions: Map<number, Region>;
  readonly objects: ObjectTable;
}

/** A length with a name, placed in a container with a priority, or nowhere. Its changes are transactions of their own,
 *  or part of the one that is open; each throws what the core refuses (see ErrorCode) and PLAN_FAILED, and has then
 *  changed nothing. Closing it destroys it: throws PLACED while it is in a container, IN_USE while something refers to
 *  it. */
export class Region extends MapHandle {
  /** @internal */
  declare readonly context: RegionContext;
  /** Name for people: in messages, flat views and traces; not unique. */
  readonly name: string;
  /** Kind of the region, for good. */
  readonly kind: RegionKind | 'alias';

  /** @internal Made by MemoryMap. */
  constructor(context: RegionContext, id: number, name: string, kind: RegionKind | 'alias') {
    super(context, id);
    this.name = name;
    this.kind = kind;
    context.enter(context.regions, id, this);
    context.enter(context.names.regions, id, name);
  }

  protected override get what(): string {
    return `region "${this.name}"`;
  }

  /** Bytes. */
  get size(): Address {
    this.checkOpen();
    return this.context.core.regionSize(this.id);
  }

  /** Flags that it has now: inside a transaction, with its changes. */
  get flags(): Required<RegionFlags> {
    this.checkOpen();
    const flags = this.context.core.regionFlags(this.id);
    return {
      readonly: (flags & abi.REGION_READONLY) !== 0,
      nonvolatile: (flags & abi.REGION_NONVOLATILE) !== 0,
      enabled: (flags & abi.REGION_DISABLED) === 0,
    };
  }

  /** Offset of its first byte in the container that it is in; undefined while it is in none. */
  get offset(): Address | undefined {
    this.checkOpen();
    const row = this.context.core.region(this.id);
    return row.aux === 0 ? undefined : row.start;
  }

  /** Puts the region into a container: any region that is no alias, else BAD_KIND. Throws PLACED, CYCLE. */
  place(parent: Region, options?: PlaceOptions): this {
    this.checkOpen();
    const { offset = 0, priority = 0 } = validate.options(options, PLACE_OPTIONS, 'place');
    const parentId = validate.instance(Region, parent, 'the container').idIn(this.context);
    const at = validate.address(offset, 'offset');
    const level = validate.priority(priority);
    this.context.perform(() => {
      this.context.core.place(this.id, parentId, at, level);
      this.context.recorder?.record({ op: 'place', id: this.id, parent: parentId, offset: at, priority: level });
    });
    return this;
  }

  /** Takes the region out of its container. Throws NOT_PLACED. */
  remove(): void {
    this.checkOpen();
    this.context.perform(() => {
      this.context.core.remove(this.id);
      this.context.recorder?.record({ op: 'remove', id: this.id });
    });
  }

  /** Moves it to another offset in its container; its rank among equals stays. Throws NOT_PLACED. */
  move(offset: Address): void {
    this.checkOpen();
    const to = validate.address(offset, 'offset');
    this.context.perform(() => {
      this.context.core.move(this.id, to);
      this.context.recorder?.record({ op: 'move', id: this.id, offset: to });
    });
  }

  /** Bytes are added or taken at the end; mappings past the new end are gone. */
  resize(size: Address): void {
    this.checkOpen();
    const bytes = validate.size(size, 'size');
    this.context.perform(() => {
      this.context.core.resize(this.id, bytes);
      this.context.recorder?.record({ op: 'resize', id: this.id, size: bytes });
    });
  }

  /** Changes its priority: signed, 32 bits. Throws NOT_PLACED. */
  setPriority(priority: number): void {
    this.checkOpen();
    const level = validate.priority(priority);
    this.context.perform(() => {
      this.context.core.setPriority(this.id, level);
      this.context.recorder?.record({ op: 'priority', id: this.id, priority: level });
    });
  }

  /** Changes the flags that are given; the others stay. */
  setFlags(flags: RegionFlags): void {
    this.checkOpen();
    const checked = checkedFlags(flags);
    this.context.perform(() => {
      const { core, recorder } = this.context;
      core.setFlags(this.id, regionFlags(checked), regionFlagsMask(checked));
      recorder?.record({ op: 'flags', id: this.id, ...said(checked) });
    });
  }

  /** Alias: shows the target from another offset. Throws BAD_KIND for other regions. */
  retarget(offset: Address): void {
    this.checkOpen();
    const to = validate.address(offset, 'offset');
    this.context.perform(() => {
      this.context.core.retarget(this.id, to);
      this.context.recorder?.record({ op: 'retarget', id: this.id, offset: to });
    });
  }

  /** Shows a part of an object, over whatever was mapped there: in one step that nobody sees half of. Throws BAD_KIND
   *  for regions that hold no memory, BAD_RANGE, UNALIGNED, READONLY_OBJECT; PRIVATE_TWICE. */
  map(options: MapOptions): void {
    this.checkOpen();
    const { offset = 0, object, objectOffset = 0, length, writable } = validate.options(options, MAP_OPTIONS, 'map');
    const { context } = this;
    const at = validate.address(offset, 'offset');
    const from = validate.address(objectOffset, 'objectOffset');
    // Asked here, where it is compiled for this one class, it costs a tenth of what `instance` takes.
    if (!(object instanceof MemoryObject)) validate.instance(MemoryObject, object, 'object');
    const { size, writable: isWritable } = object;
    const bytes = length === undefined ? pagesBehind(from, size, object.name) : validate.length(length, 'length');
    const mayWrite = writable === undefined ? isWritable : validate.flag(writable, 'writable');
    const known = context.objects.knownId(object);
    const change = () => {
      const objectId = known ?? context.objects.add(object);
      context.core.map(this.id, at, bytes, objectId, from, mayWrite ? abi.MAPPING_WRITABLE : 0);
      context.recorder?.record({
        op: 'map',
        region: this.id,
        ...{ offset: at, length: bytes, object: objectId, objectOffset: from, writable: mayWrite },
      });
    };
    // An object that is new to the map is entered with its mapping, or not at all.
    if (known !== undefined) context.perform(change);
    else context.transaction(change);
  }

  /** Takes away what is mapped in a range; where nothing is, nothing happens. Throws BAD_KIND, BAD_RANGE, UNALIGNED. */
  unmap(offset: Address, length: Address): void {
    this.checkOpen();
    const at = validate.address(offset, 'offset');
    const bytes = validate.length(length, 'length');
    this.context.perform(() => {
      this.context.core.unmap(this.id, at, bytes);
      this.context.recorder?.record({ op: 'unmap', region: this.id, offset: at, length: bytes });
    });
  }

  /** The mappings, in order of offset. */
  mappings(): Mapping[] {
    this.checkOpen();
    return this.context.core.mappings(this.id).map((row) => ({
      offset: row.start,
      length: lengthOf(row.start, row.last),
      object: this.context.objects.objectOf(row.id),
      objectOffset: row.offset,
      writable: (row.flags & abi.MAPPING_WRITABLE) !== 0,
    }));
  }

  /** Lets a guest's writes of `length` bytes at `offset` (of the value `match`, if that is given) signal an eventfd,
   *  and not exit: wherever the region is seen there, in every partition that can be told of events. What the guest
   *  writes without a trap, as in RAM, signals nothing. The region is in use until the event is closed. Throws BAD_KIND
   *  for containers and aliases, BAD_RANGE, EVENT_TAKEN where a write could be for another event too, SYSTEM for what
   *  is no eventfd, PLAN_FAILED. */
  addEvent(options: EventOptions): RegionEvent {
    this.checkOpen();
    return addEvent(this.context, this.id, options);
  }

  /** Lets a guest's writes to some of its bytes be kept by the hypervisor until somebody takes them
   *  (`Vcpu.takeWrites`), and not exit; otherwise as `addEvent`. Those bytes have no other event. */
  coalesceWrites(options?: CoalesceOptions): RegionEvent {
    this.checkOpen();
    const { offset = 0, length } = validate.options(options, ['offset', 'length'], 'coalesceWrites');
    const at = validate.address(offset, 'offset');
    const bytes = length === undefined ? difference(this.size, at) : validate.length(length, 'length');
    return addCoalesced(this.context, this.id, at, bytes);
  }

  protected override release(): void {
    const { context, id } = this;
    context.perform(() => {
      context.core.destroyRegion(id);
      context.recorder?.record({ op: 'destroy', id });
      context.leave(context.regions, id);
      context.leave(context.names.regions, id);
      this.end();
    });
  }

  /** @internal */
  override text(most?: number): string[] {
    return [this.what, ...renderTrees(this.context.core, [this.id], this.context.names, most)];
  }

  /** Kind and name, for messages: `ram "pc.ram"`. */
  override toString(): string {
    return `${this.kind} "${this.name}"`;
  }
}

/** Bytes from `offset` to the end of an object's last page. Throws INVALID_ARGUMENT. */
function pagesBehind(offset: Address, size: Address, name: string): Address {
  const end = pageEnd(BigInt(size));
  if (BigInt(offset) < end) return toAddress(end - BigInt(offset));
  throw validate.invalid(`objectOffset ${formatHex(offset)} is past the end of "${name}", at ${formatHex(size)}`);
}

/** Checks flags, and gives those that are said. Throws INVALID_ARGUMENT. */
function checkedFlags(flags: RegionFlags): RegionFlags {
  const given = validate.options(flags, FLAG_NAMES, 'setFlags');
  const { readonly, nonvolatile, enabled } = given;
  if (readonly !== undefined) validate.flag(readonly, 'readonly');
  if (nonvolatile !== undefined) validate.flag(nonvolatile, 'nonvolatile');
  if (enabled !== undefined) validate.flag(enabled, 'enabled');
  return given;
}

/** The flags that something is said of, wherever the caller's object has them from. */
function said({ readonly, nonvolatile, enabled }: RegionFlags): RegionFlags {
  return {
    ...(readonly !== undefined && { readonly }),
    ...(nonvolatile !== undefined && { nonvolatile }),
    ...(enabled !== undefined && { enabled }),
  };
}
