// The words for what the core knows as numbers.

import * as abi from '../../assembly/abi.ts';
import type { Address } from './address.ts';

/** Kinds of region; an alias is made of another region and has no kind to choose. */
export const REGION_KINDS = ['ram', 'rom', 'device', 'mmio', 'container'] as const;
/** Kind of a region that is no alias. */
export type RegionKind = (typeof REGION_KINDS)[number];

const REGION_KIND_NUMBERS: Readonly<Record<RegionKind | 'alias', number>> = {
  ram: abi.KIND_RAM,
  rom: abi.KIND_ROM,
  device: abi.KIND_DEVICE,
  mmio: abi.KIND_MMIO,
  container: abi.KIND_CONTAINER,
  alias: abi.KIND_ALIAS,
};

export function regionKindNumber(kind: RegionKind): number {
  return REGION_KIND_NUMBERS[kind];
}

export function regionKindName(kind: number): RegionKind | 'alias' {
  return REGION_KINDS.find((name) => REGION_KIND_NUMBERS[name] === kind) ?? 'alias';
}

/** Flags of a region. */
export interface RegionFlags {
  /** Whether nothing is written through the region. Default false. */
  readonly readonly?: boolean;
  /** Whether contents survive power loss: said of the flat ranges, changes nothing else. Default false. */
  readonly nonvolatile?: boolean;
  /** Whether the region is seen, with everything under or behind it. Default true. */
  readonly enabled?: boolean;
}

/** REGION_* that are set; those that are left out are not. */
export function regionFlags({ readonly, nonvolatile, enabled }: RegionFlags): number {
  return (
    (readonly ? abi.REGION_READONLY : 0) |
    (nonvolatile ? abi.REGION_NONVOLATILE : 0) |
    (enabled === false ? abi.REGION_DISABLED : 0)
  );
}

/** REGION_* that something is said of. */
export function regionFlagsMask({ readonly, nonvolatile, enabled }: RegionFlags): number {
  return (
    (readonly === undefined ? 0 : abi.REGION_READONLY) |
    (nonvolatile === undefined ? 0 : abi.REGION_NONVOLATILE) |
    (enabled === undefined ? 0 : abi.REGION_DISABLED)
  );
}

/** `shared`: a file, seen at any number of places. `private`: exists only as its mapping, at one place at a time.
 *  `driver`: seen as a file is; a driver gives it, and may take it away. */
export const OBJECT_KINDS = ['shared', 'private', 'driver'] as const;
/** Kind of a memory object. */
export type ObjectKind = (typeof OBJECT_KINDS)[number];

const OBJECT_NUMBERS: Readonly<Record<ObjectKind, number>> = {
  shared: abi.OBJECT_SHARED,
  private: abi.OBJECT_PRIVATE,
  driver: abi.OBJECT_DRIVER,
};

export function objectKindNumber(kind: ObjectKind): number {
  return OBJECT_NUMBERS[kind];
}

export function objectKindName(kind: number): ObjectKind {
  return OBJECT_KINDS.find((name) => OBJECT_NUMBERS[name] === kind)!;
}

/** `eventfd`: a guest's write signals it. `coalesced`: writes are kept until somebody takes them. */
export const EVENT_KINDS = ['eventfd', 'coalesced'] as const;
/** Kind of an event. */
export type EventKind = (typeof EVENT_KINDS)[number];

/** Facts of the writes that an event is for. */
export interface EventFacts {
  /** Kind of the event. */
  readonly kind: EventKind;
  /** Bytes: of an eventfd, those of the write, 0 for a write of any length. */
  readonly length: Address;
  /** Value that counts; undefined where any does. */
  readonly match: Address | undefined;
}

/** An event as the core is told of it: EVENT_*, and a length that is never 0. */
export function eventNumbers({ kind, length, match }: Partial<EventFacts> & Pick<EventFacts, 'kind' | 'length'>): {
  readonly flags: number;
  readonly length: Address;
  readonly match: Address;
} {
  const flags =
    (kind === 'coalesced' ? abi.EVENT_COALESCED : 0) |
    (match === undefined ? 0 : abi.EVENT_MATCH) |
    (kind === 'eventfd' && length === 0 ? abi.EVENT_ANY_LENGTH : 0);
  return { flags, length: flags & abi.EVENT_ANY_LENGTH ? 1 : length, match: match ?? 0 };
}

/** Facts of an event that the core says by these numbers. */
export function eventFacts(flags: number, length: Address, match: Address): EventFacts {
  return {
    kind: flags & abi.EVENT_COALESCED ? 'coalesced' : 'eventfd',
    length: flags & abi.EVENT_ANY_LENGTH ? 0 : length,
    match: flags & abi.EVENT_MATCH ? match : undefined,
  };
}

/** Kinds of access to memory: any of r, w and x, in this order. */
export const ACCESSES = ['none', 'r', 'w', 'x', 'rw', 'rx', 'wx', 'rwx'] as const;
/** Access to memory: `none`, or letters for read, write and execute. */
export type Access = (typeof ACCESSES)[number];

export function accessNumber(access: Access): number {
  return (
    (access.includes('r') ? abi.ACCESS_READ : 0) |
    (access.includes('w') ? abi.ACCESS_WRITE : 0) |
    (access.includes('x') ? abi.ACCESS_EXECUTE : 0)
  );
}

export function accessName(access: number): Access {
  const letters =
    (access & abi.ACCESS_READ ? 'r' : '') +
    (access & abi.ACCESS_WRITE ? 'w' : '') +
    (access & abi.ACCESS_EXECUTE ? 'x' : '');
  return (letters === '' ? 'none' : letters) as Access;
}

/** A protection as a number: ACCESS_* that are left, perhaps with ACCESS_NEAREST. */
export function protectionNumber({ access, nearest }: { readonly access: Access; readonly nearest?: boolean }): number {
  return accessNumber(access) | (nearest ? abi.ACCESS_NEAREST : 0);
}

/** Policies for overlaps: any is allowed, or only of a lower priority inside a higher one. */
export const POLICIES = ['layered', 'nested'] as const;
/** A policy for overlaps of regions. */
export type Policy = (typeof POLICIES)[number];

/** Disturbance classes, by number. */
export const DISTURBANCES = ['none', 'changed', 'unchanged-bytes'] as const;
/** Disturbance of the guest by a plan: nothing that stays was absent, only bytes that changed were, or bytes that stay
 *  the same were. */
export type Disturbance = (typeof DISTURBANCES)[number];

/** Facts that the commands of an operation tell, each with those before it: a range alone; the access to it; the thing
 *  that they are about; the region that this is seen in. */
const TOLD = ['range', 'access', 'thing', 'region'] as const;

/** An operation of plans: its name in their text form, and the last of what its commands tell. */
type Operation = readonly [name: string, told: (typeof TOLD)[number]];

/** A kind of sink, as far as its commands concern ts/. What else there is to it stands in its file in ts/sinks/. */
interface SinkKind {
  /** SINK_* of abi.ts. */
  readonly number: number;
  readonly operations: Readonly<Record<number, Operation>>;
  /** Thing that its commands are about: a memory object or a VA space of which they show a part, an event; undefined
   *  where they show nothing. */
  readonly shows: 'object' | 'va' | 'event' | undefined;
}

/** All kinds of sinks: a row each, in the order of their numbers. */
const SINK_KINDS: readonly SinkKind[] = [
  {
    number: abi.SINK_VA,
    operations: {
      [abi.OP_VA_MAP]: ['va-map', 'region'],
      [abi.OP_VA_UNMAP]: ['va-unmap', 'thing'],
      [abi.OP_VA_PROTECT]: ['va-protect', 'region'],
      [abi.OP_VA_PARK]: ['va-park', 'thing'],
      [abi.OP_VA_LIMIT]: ['va-limit', 'access'],
      [abi.OP_VA_UNPARK]: ['va-unpark', 'region'],
      [abi.OP_VA_RESERVE]: ['va-reserve', 'range'],
      [abi.OP_VA_RELEASE]: ['va-release', 'range'],
    },
    shows: 'object',
  },
  {
    number: abi.SINK_PARTITION,
    operations: { [abi.OP_SLOT_ADD]: ['slot-add', 'region'], [abi.OP_SLOT_DELETE]: ['slot-delete', 'region'] },
    shows: 'va',
  },
  {
    number: abi.SINK_VIEW,
    operations: { [abi.OP_VIEW_LIMIT]: ['view-limit', 'access'] },
    shows: undefined,
  },
  {
    number: abi.SINK_EVENTS,
    operations: { [abi.OP_EVENT_ADD]: ['event-add', 'region'], [abi.OP_EVENT_REMOVE]: ['event-remove', 'region'] },
    shows: 'event',
  },
];

/** Kind of sink that an operation of a plan is done to: its number says so. */
export function sinkKindOf(op: number): SinkKind {
  const kind = SINK_KINDS[(op >> abi.OP_KIND_SHIFT) - 1];
  if (kind === undefined) throw unknownOperation(op);
  return kind;
}

function operationOf(op: number): Operation {
  const operation = sinkKindOf(op).operations[op];
  if (operation === undefined) throw unknownOperation(op);
  return operation;
}

/** Whether an operation of a plan is done to the host addresses of a VA space. */
export function isOfVaSpace(op: number): boolean {
  return sinkKindOf(op).number === abi.SINK_VA;
}

/** Name of an operation in the text form of a plan. */
export function operationName(op: number): string {
  return operationOf(op)[0];
}

/** Whether the commands of an operation tell a fact. */
export function tells(op: number, fact: (typeof TOLD)[number]): boolean {
  return TOLD.indexOf(operationOf(op)[1]) >= TOLD.indexOf(fact);
}

/** Whether an operation of a plan is about host addresses alone, and no memory. */
export function isAboutAddresses(op: number): boolean {
  return !tells(op, 'access');
}

function unknownOperation(op: number): Error {
  return new Error(`assertion failed: there is no operation ${op}`);
}
