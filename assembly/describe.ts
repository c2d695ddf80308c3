// What there is, as rows (see abi.ts): each read fills as many as fit, from the asked-for address on.

import { KIND_ALIAS, KIND_CONTAINER, MAX_DEPTH, REGION_DISABLED, REGION_EMPTY, ROW_CAPACITY, ROW_SIZE } from './abi';
import { resetVisits, visit } from './dirty';
import { childInRun, dropRun, inherited, pushChildren, runMark, sortRun } from './flatten';
import { LAST_BYTE, plusClipped, sumFits } from './range';
import { regionOf, sinkOf, spaceOf } from './records';
import { slotAccess, slotNumber } from './slots';
import { CURSOR_SIZE, Cursor } from './tree';

/** The row of abi.ts. */
@unmanaged
class Row {
  id: u32;
  flags: u32;
  start: u64;
  last: u64;
  offset: u64;
  kind: u32;
  other: u32;
  priority: i32;
  aux: u32;
}

export const rows: usize = memory.data(ROW_SIZE * ROW_CAPACITY, 8);
const cursor = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));

let filled: u32 = 0;

function newRow(): Row {
  const at = rows + filled * ROW_SIZE;
  memory.fill(at, 0, ROW_SIZE);
  filled += 1;
  return changetype<Row>(at);
}

/** Copies a tree's spans from the first that reaches `from`; id = b, flags = c. */
function readSpans(slot: usize, from: u64): i32 {
  filled = 0;
  cursor.seek(slot, from);
  for (let span = cursor.span; span != null && filled < <u32>ROW_CAPACITY; span = cursor.span) {
    const row = newRow();
    row.id = span.b;
    row.flags = span.c;
    row.start = span.start;
    row.last = span.last;
    row.offset = span.a;
    cursor.next();
  }
  return <i32>filled;
}

// Precondition of all: the id is alive and of the right kind.

export function readFlat(space: u32, from: u64): i32 {
  const count = readSpans(spaceOf(space).flatSlot, from);
  for (let i = 0; i < count; ++i) {
    const row = changetype<Row>(rows + i * ROW_SIZE);
    const region = regionOf(row.id);
    row.kind = region.kind;
    row.priority = region.priority;
  }
  return count;
}

export function readMappings(region: u32, from: u64): i32 {
  return readSpans(regionOf(region).mappingsSlot, from);
}

export function readPieces(va: u32, from: u64): i32 {
  return readSpans(sinkOf(va).stateSlot, from);
}

export function readProtections(sink: u32, from: u64): i32 {
  return readSpans(sinkOf(sink).protectionsSlot, from);
}

export function readSlots(sink: u32, from: u64): i32 {
  const count = readSpans(sinkOf(sink).stateSlot, from);
  for (let i = 0; i < count; ++i) {
    const row = changetype<Row>(rows + i * ROW_SIZE);
    const packed = row.flags;
    row.flags = slotAccess(packed);
    row.kind = slotNumber(packed);
    row.other = sinkOf(sink).va - 1;
  }
  return count;
}

export function readRegion(id: u32): i32 {
  filled = 0;
  describeRegion(id);
  return 1;
}

/** The children in order of precedence, without the first `skip`; those of size 0 are not among them. */
export function readChildren(id: u32, skip: u32): i32 {
  filled = 0;
  const mark = runMark();
  const end = pushChildren(regionOf(id), 0, LAST_BYTE);
  sortRun(mark, end);
  for (let at = mark + (skip << 2); at < end && filled < <u32>ROW_CAPACITY; at += 4) describeRegion(childInRun(at));
  dropRun(mark);
  return <i32>filled;
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
}

// ---- Why is a byte what it is? -------------------------------------------------------------

/** Every region that would be seen at the address, in order: the first row is, the others are hidden. */
export function explain(space: u32, gpa: u64): i32 {
  filled = 0;
  resetVisits();
  const record = spaceOf(space);
  const root = record.root - 1;
  if (gpa < record.offset || gpa - record.offset > regionOf(root).last) return 0;
  explainRegion(
    root,
    gpa - record.offset,
    record.offset,
    plusClipped(record.offset, regionOf(root).last),
    gpa,
    0,
    0,
    0,
  );
  return <i32>filled;
}

/** [low, high]: the GPAs at which the region's bytes around this one are seen. `via` is the alias passed last, + 1. */
function explainRegion(id: u32, at: u64, low: u64, high: u64, gpa: u64, flags: u32, via: u32, depth: u32): void {
  const region = regionOf(id);
  if (region.flags & (REGION_DISABLED | REGION_EMPTY) || at > region.last) return;
  if (depth == MAX_DEPTH || filled == ROW_CAPACITY || !visit()) return;
  if (gpa - low > at) low = gpa - at;
  if (high - gpa > region.last - at) high = gpa + (region.last - at);
  flags |= inherited(region);
  if (region.kind == KIND_ALIAS) {
    if (!sumFits(at, region.targetOffset)) return;
    explainRegion(region.target - 1, at + region.targetOffset, low, high, gpa, flags, id + 1, depth + 1);
    return;
  }
  const mark = runMark();
  const end = pushChildren(region, at, at);
  for (let i = mark; i < end; i += 4) {
    const childId = childInRun(i);
    explainRegion(childId, at - regionOf(childId).offset, low, high, gpa, flags, via, depth + 1);
  }
  dropRun(mark);
  if (region.kind == KIND_CONTAINER || filled == ROW_CAPACITY) return;
  const row = newRow();
  row.id = id;
  row.flags = flags;
  row.start = low;
  row.last = high;
  row.offset = at;
  row.kind = region.kind;
  row.other = via;
  row.priority = region.priority;
  row.aux = depth;
}
