// Explanations of a byte of guest memory: who is seen there, whom that hides, and what memory it is.

import * as abi from '../../assembly/abi.ts';
import { type Address, lastByte, lengthOf, pageEnd, pageStart, sum, toAddress } from '../core/address.ts';
import type { Core, Row } from '../core/core.ts';
import {
  type Access,
  accessName,
  type EventFacts,
  eventFacts,
  type ObjectKind,
  objectKindName,
  type RegionKind,
  regionKindName,
} from '../core/kinds.ts';
import type { Names } from '../core/names.ts';
import { type TrappingPages, trappingPages } from './trapping-pages.ts';

/** Explanation of one byte of an address space. */
export interface Explanation<Region extends ExplainedRegion = ExplainedRegion> {
  /** Name of the address space. */
  readonly space: string;
  /** Address of the byte. */
  readonly gpa: Address;
  /** The region that the guest sees; undefined where there is none. */
  readonly visible: Region | undefined;
  /** Regions that it would see instead, each if those before it were not there. */
  readonly hidden: readonly Region[];
  /** The memory behind the visible byte, if any is mapped. */
  readonly mapping: ExplainedMapping | undefined;
  /** The slots that show this byte, of all attachments asked about. */
  readonly slots: readonly ExplainedSlot[];
  /** Events that a write of the byte may be for, with others of theirs. */
  readonly events: readonly ExplainedEvent[];
  /** Names of attachments whose hypervisor keeps the page for itself, so that no slot shows it. */
  readonly keptBy: readonly string[];
  /** Reason why the guest's accesses trap although memory is mapped at the byte; undefined where the map has none. */
  readonly traps: TrappingPages | undefined;
  /** The next visible range, where nothing is visible at the byte. */
  readonly next: { readonly name: string; readonly start: Address } | undefined;
}

/** A region that shows a byte, or would. */
export interface ExplainedRegion {
  /** Name of the region. */
  readonly name: string;
  /** Kind of the region. */
  readonly kind: RegionKind;
  /** Offset of the byte in the region. */
  readonly offset: Address;
  /** GPAs at which the bytes around this one are seen; of a hidden region, would be, if nothing hid them. `last` is
   *  included. */
  readonly start: Address;
  /** Last GPA of the range that begins at `start`. */
  readonly last: Address;
  /** Priority in its container. */
  readonly priority: number;
  /** The region's own flag, or that of a container or alias on the way to it. */
  readonly readonly: boolean;
  /** Whether it, or a container or alias on the way to it, is marked nonvolatile. */
  readonly nonvolatile: boolean;
  /** Whether some of it is seen, anywhere in the address space. */
  readonly seen: boolean;
  /** The alias that shows it here; of several, the nearest to the region. */
  readonly through: string | undefined;
}

/** Memory that is mapped at a byte. */
export interface ExplainedMapping {
  /** Name of the object. */
  readonly object: string;
  /** Kind of the object. */
  readonly kind: ObjectKind;
  /** Offset of the byte in the object. */
  readonly offset: Address;
  /** Whether the mapping may be written. */
  readonly writable: boolean;
}

/** A memory slot that shows a byte. */
export interface ExplainedSlot {
  /** Name of the attachment. */
  readonly sink: string;
  /** Number of the slot. */
  readonly slot: number;
  /** GPAs of the address space; `last` is included. */
  readonly start: Address;
  /** Last GPA of the range that begins at `start`. */
  readonly last: Address;
  /** Access of the guest. */
  readonly access: Access;
  /** GPA at which the monitor has the byte: private memory that is seen at several places is mapped at one of them.
   *  Left out where that is this one. */
  readonly home?: Address;
}

/** An event at a byte. */
export interface ExplainedEvent extends EventFacts {
  /** First GPA. */
  readonly start: Address;
  /** Last GPA, which is included; a write of any length begins at the first. */
  readonly last: Address;
}

/** `attachments`: sinks of kind partition on this address space. `explained`: what is said of a region. */
export function explain<Region extends ExplainedRegion>(
  core: Core,
  space: number,
  gpa: Address,
  names: Names,
  attachments: Iterable<number>,
  explained: (row: Row, seen: boolean) => Region,
): Explanation<Region> {
  const [visible, ...hidden] = core.explain(space, gpa);
  const seen = new Set(hidden.length === 0 ? [] : core.flat(space).map(({ id }) => id));
  const range = core.flatFrom(space, gpa);
  const sinks = [...attachments];
  const mapping = visible && mappingOf(core, visible);
  return {
    space: names.spaces.get(space)!,
    gpa,
    visible: visible && explained({ ...visible, start: range!.start, last: range!.last }, true),
    hidden: hidden.map((row) => explained(row, seen.has(row.id))),
    mapping: mapping && explainedMapping(core, mapping, names),
    slots: sinks.flatMap((sink) => explainedSlots(core, sink, gpa, mapping, names)),
    events: core.events(space, gpa, gpa).map(({ flags, start, last, match }) => ({
      ...{ start, last, ...eventFacts(flags, lengthOf(start, last), match) },
    })),
    keptBy: sinks.filter((sink) => core.isKept(sink, gpa)).map((sink) => names.sinks.get(sink)!),
    traps: mapping && trapAt(core, space, gpa, names),
    next: visible || !range ? undefined : { name: names.regions.get(range.id)!, start: range.start },
  };
}

/** Trap of the page of a byte at which memory is seen, if it is one that traps. */
function trapAt(core: Core, space: number, gpa: Address, names: Names): TrappingPages | undefined {
  const page = pageStart(BigInt(gpa));
  const seen = core.flatRowsFrom(space, toAddress(page)).filter(({ start }) => start < pageEnd(page + 1n));
  return trappingPages(seen, names).find((pages) => gpa >= pages.gpa && gpa < sum(pages.gpa, pages.length));
}

export function explainedRegion(row: Row, seen: boolean, names: Names): ExplainedRegion {
  return {
    name: names.regions.get(row.id)!,
    kind: regionKindName(row.kind) as RegionKind,
    offset: row.offset,
    start: row.start,
    last: row.last,
    priority: row.priority,
    readonly: (row.flags & abi.FLAT_READONLY) !== 0,
    nonvolatile: (row.flags & abi.FLAT_NONVOLATILE) !== 0,
    seen,
    through: row.other === 0 ? undefined : names.regions.get(row.other - 1),
  };
}

/** Mapping of a region's byte, with the offset of that byte in the object. */
function mappingOf(core: Core, { id, offset }: Row): Row | undefined {
  const mapping = core.mappingAt(id, offset);
  return mapping && { ...mapping, offset: sum(mapping.offset, lastByte(lengthOf(mapping.start, offset))) };
}

function explainedMapping(core: Core, mapping: Row, names: Names): ExplainedMapping {
  return {
    object: names.objects.get(mapping.id)!,
    kind: objectKindName(core.objectKind(mapping.id)),
    offset: mapping.offset,
    writable: (mapping.flags & abi.MAPPING_WRITABLE) !== 0,
  };
}

function explainedSlots(
  core: Core,
  sink: number,
  gpa: Address,
  mapping: Row | undefined,
  names: Names,
): ExplainedSlot[] {
  const slot = core.someSinkRows(sink, gpa, gpa)[0];
  if (slot === undefined) return [];
  const { kind, start, last, flags, other } = slot;
  const home = homeOf(core, other, gpa, mapping);
  const facts = { sink: names.sinks.get(sink)!, slot: kind, start, last, access: accessName(flags) };
  return [home === undefined ? facts : { ...facts, home }];
}

/** GPA at which a VA space has a byte of private memory that it does not have at `gpa`. */
function homeOf(core: Core, va: number, gpa: Address, mapping: Row | undefined): Address | undefined {
  if (mapping === undefined || !(core.objectKind(mapping.id) & abi.OBJECT_IS_MOVED)) return undefined;
  if (core.someSinkRows(va, gpa, gpa).length > 0) return undefined;
  const pieces = core.sinkRows(va).filter(({ id }) => id === mapping.id);
  const home = pieces.find(({ start, last, offset }) => {
    return mapping.offset >= offset && mapping.offset <= sum(offset, lastByte(lengthOf(start, last)));
  });
  return home && sum(home.start, BigInt(mapping.offset) - BigInt(home.offset));
}
