// Reads: rows that say what there is. Each fills as many as fit.

import { FLAT_READONLY, KIND_HAS_TARGET, KIND_SHOWS, MAX_DEPTH, REGION_DISABLED, REGION_EMPTY } from './abi';
import { regionOf, sinkOf, spaceOf } from './asked/records';
import { resetVisits, visit } from './asked/touch';
import { FlatRange, isWritable } from './asked/views';
import { firstFree, MAX_SHIFT } from './base/heap';
import { LAST_BYTE, plusClipped, sumFits } from './base/range';
import { giveBackVectors } from './base/vector';
import { isPlanned } from './plan';
import { childInRun, dropRun, inherited, pushChildren, runMark, sortRun } from './seen/flatten';
import { kindOfSink } from './sinks/kinds';
import { isMappedReadonly, writabilityLast } from './sinks/parts';
import { NOTHING, When } from './tree/before';
import { clearRows, hasRoom, newRow, readSpans, rowAt, rowCount } from './tree/rows';
import { CURSOR_SIZE, Cursor } from './tree/tree';

const cursor = changetype<Cursor<FlatRange>>(memory.data(CURSOR_SIZE, 8));

// Reads of a range: each fills rows for the items that reach into [from, last]. Precondition: the id is alive and of
// the right kind.

export function readFlat(space: u32, from: u64, last: u64): i32 {
  clearRows();
  cursor.seek(spaceOf(space).flatTree, from);
  for (let range = cursor.span; range != null && range.start <= last && hasRoom(); range = cursor.span) {
    fillFlat(range, from, last);
    cursor.next();
  }
  return <i32>rowCount;
}

/** Rows for a flat range, cut where what is mapped is read-only by its mapping alone: those that reach into [from,
 *  last]. */
function fillFlat(range: FlatRange, from: u64, last: u64): void {
  const region = regionOf(range.region);
  const mayWrite = isWritable(range);
  let end = range.last;
  for (let start = range.start; start <= last && hasRoom(); start = end + 1) {
    const isReadonly = mayWrite && isMappedReadonly(range, start, range.last);
    if (mayWrite) end = writabilityLast;
    if (end >= from) {
      const row = newRow();
      row.id = range.region;
      row.flags = isReadonly ? range.flags | FLAT_READONLY : range.flags;
      row.start = start;
      row.last = end;
      row.offset = range.offsetInRegionAt(start);
      row.kind = region.kind;
      row.priority = region.priority;
    }
    if (end == range.last) return;
  }
}

export function readMappings(region: u32, from: u64, last: u64): i32 {
  return <i32>readSpans(regionOf(region).mappingsTree, from, last);
}

/** Fills rows with what a sink has; while a plan is pending, with what it will have. */
export function readSink(sink: u32, from: u64, last: u64): i32 {
  return kindOfSink(sink).read(sink, from, last, isPlanned() ? When.Now : When.Before);
}

/** Fills rows with the parts that may be used through a sink; while a plan is pending, that may be then. The last one
 *  is cut with the page of `last`. */
export function readParts(sink: u32, from: u64, last: u64): i32 {
  return kindOfSink(sink).readParts(sink, from, last, isPlanned() ? When.Now : When.Before);
}

export function readProtections(sink: u32, from: u64, last: u64): i32 {
  return <i32>readSpans(sinkOf(sink).protectionsTree, from, last);
}

/** Rows of what is withheld from a sink; flags: ACCESS_* that are left. */
export function readWithheld(sink: u32, from: u64, last: u64): i32 {
  return <i32>readSpans(sinkOf(sink).withheldTree, from, last);
}

/** Rows of the lost ranges of a sink; id: object + 1 whose private pages are held there, 0 for none. */
export function readLost(sink: u32, from: u64, last: u64): i32 {
  const count = readSpans(sinkOf(sink).lostTree, from, last);
  for (let i: u32 = 0; i < count; ++i) {
    const row = rowAt(i);
    row.id = row.id == NOTHING ? 0 : row.id + 1;
    if (row.id == 0) row.offset = 0;
  }
  return <i32>count;
}

/** Rows of the stretches of a VA space behind its first one; while a plan is pending, those that there will be. */
export function readStretches(sink: u32, from: u64, last: u64): i32 {
  return <i32>readSpans(sinkOf(sink).stretchesTree, from, last);
}

export function readRegion(id: u32): i32 {
  clearRows();
  describeRegion(id);
  return 1;
}

/** The children in order of precedence, without the first `skip`; those of size 0 are not among them. */
export function readChildren(id: u32, skip: u32): i32 {
  clearRows();
  const mark = runMark();
  const end = pushChildren(regionOf(id), 0, LAST_BYTE);
  sortRun(mark, end);
  for (let at = mark + (skip << 2); at < end && hasRoom(); at += 4) describeRegion(childInRun(at));
  dropRun(mark);
  return <i32>rowCount;
}

function describeRegion(id: u32): void {
  const region = regionOf(id);
  const row = newRow();
  row.id = id;
  row.flags = region.flags;
  row.start = region.offset;
  row.last = plusClipped(region.offset, region.last);
  row.offset = region.targetOffset;
  row.kind = region.kind;
  row.other = region.target;
  row.priority = region.priority;
  row.aux = region.parent;
  row.extent = region.last;
}

/** Smallest free block that is worth a row. */
const SPARE_SHIFT: u32 = 14;

/** Fills rows with ranges of this module's own memory that mean nothing, [start, last], the largest first: those of
 *  lists that were large become such. Precondition: no transaction is open, no plan is pending. */
export function readSpare(): i32 {
  giveBackVectors();
  clearRows();
  for (let shift = MAX_SHIFT; shift >= SPARE_SHIFT; --shift) {
    for (let block = firstFree(shift); block != 0 && hasRoom(); block = load<usize>(block)) {
      const row = newRow();
      row.start = block + sizeof<usize>();
      row.last = block + ((<usize>1) << shift) - 1;
    }
  }
  return <i32>rowCount;
}

// ---- Explaining a byte -------------------------------------------------------------

/** Every region that would be seen at the address, in order: the first row is, the others are hidden. */
export function explain(space: u32, gpa: u64): i32 {
  clearRows();
  resetVisits();
  const record = spaceOf(space);
  const root = record.root - 1;
  if (gpa < record.offset || gpa - record.offset > regionOf(root).last) return 0;
  explained = gpa;
  const last = plusClipped(record.offset, regionOf(root).last);
  explainRegion(root, gpa - record.offset, record.offset, last, 0, 0, 0);
  return <i32>rowCount;
}

/** The GPA that is explained. */
let explained: u64 = 0;

/** Adds rows for a region whose byte `at` stands there, and for what is in it. [start, last]: the GPAs at which its
 *  bytes around that one stand. `via` is the alias passed last, + 1. */
function explainRegion(id: u32, at: u64, start: u64, last: u64, flags: u32, via: u32, depth: u32): void {
  const region = regionOf(id);
  if (region.flags & (REGION_DISABLED | REGION_EMPTY) || at > region.last) return;
  if (depth == MAX_DEPTH || !hasRoom() || !visit()) return;
  if (explained - start > at) start = explained - at;
  if (last - explained > region.last - at) last = explained + (region.last - at);
  flags |= inherited(region);
  if (region.kind & KIND_HAS_TARGET) {
    if (!sumFits(at, region.targetOffset)) return;
    explainRegion(region.target - 1, at + region.targetOffset, start, last, flags, id + 1, depth + 1);
    return;
  }
  const mark = runMark();
  const end = pushChildren(region, at, at);
  for (let i = mark; i < end; i += 4) {
    const childId = childInRun(i);
    explainRegion(childId, at - regionOf(childId).offset, start, last, flags, via, depth + 1);
  }
  dropRun(mark);
  if (!(region.kind & KIND_SHOWS) || !hasRoom()) return;
  const row = newRow();
  row.id = id;
  row.flags = flags;
  row.start = start;
  row.last = last;
  row.offset = at;
  row.kind = region.kind;
  row.other = via;
  row.priority = region.priority;
  row.aux = depth;
}
