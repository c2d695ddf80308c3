// What there is, as rows (see abi.ts): each read fills as many as fit, from the asked-for address on.

import {
  ERR_NO_MEMORY,
  FLAT_READONLY,
  KIND_ALIAS,
  KIND_CONTAINER,
  MAX_DEPTH,
  REGION_DISABLED,
  REGION_EMPTY,
  ROW_CAPACITY,
  ROW_SIZE,
} from './abi';
import { isWritable, regionOf, sinkOf, spaceOf } from './asked/records';
import { resetVisits, visit } from './asked/touch';
import { fail } from './base/failure';
import { clearExhausted, exhausted } from './base/heap';
import { LAST_BYTE, plusClipped, sumFits } from './base/range';
import { VECTOR_SIZE, Vector } from './base/vector';
import { isPlanned } from './plan';
import { childInRun, dropRun, inherited, pushChildren, runMark, sortRun } from './seen/flatten';
import {
  formerParts,
  heldParts,
  isMappedReadonly,
  PIECE_BYTES,
  Piece,
  stretchStart,
  writabilityLast,
} from './sinks/parts';
import { formerPieces, hasLargePages, heldPieces } from './sinks/pieces';
import { slotAccess, slotNumber } from './sinks/slots';
import { enterNotes, NOTHING } from './tree/before';
import { Span } from './tree/node';
import { canJoin } from './tree/spans';
import { CURSOR_SIZE, Cursor } from './tree/tree';

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
  extent: u64;
}

export const rows: usize = memory.data(ROW_SIZE * ROW_CAPACITY, 8);
const cursor = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));
/** Pieces that are looked at together. */
const pieces = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const MOST_PIECES: u32 = 64 * PIECE_BYTES;

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
    fillRow(span);
    cursor.next();
  }
  return <i32>filled;
}

function fillRow(span: Span): void {
  const row = newRow();
  row.id = span.b;
  row.flags = span.c;
  row.start = span.start;
  row.last = span.last;
  row.offset = span.a;
}

// Precondition of all: the id is alive and of the right kind.

export function readFlat(space: u32, from: u64): i32 {
  filled = 0;
  cursor.seek(spaceOf(space).flatSlot, from);
  for (let range = cursor.span; range != null && filled < <u32>ROW_CAPACITY; range = cursor.span) {
    fillFlat(range, from);
    cursor.next();
  }
  return <i32>filled;
}

/** Rows for a flat range, cut where what is mapped is read-only by its mapping alone: those that reach `from` or lie behind. */
function fillFlat(range: Span, from: u64): void {
  const region = regionOf(range.b);
  const mayWrite = isWritable(range.b, range.c);
  let last = range.last;
  for (let start = range.start; filled < <u32>ROW_CAPACITY; start = last + 1) {
    const isReadonly = mayWrite && isMappedReadonly(range, start, range.last);
    if (mayWrite) last = writabilityLast;
    if (last >= from) {
      const row = newRow();
      row.id = range.b;
      row.flags = isReadonly ? range.c | FLAT_READONLY : range.c;
      row.start = start;
      row.last = last;
      row.offset = range.aAt(start);
      row.kind = region.kind;
      row.priority = region.priority;
    }
    if (last == range.last) return;
  }
}

export function readMappings(region: u32, from: u64): i32 {
  return readSpans(regionOf(region).mappingsSlot, from);
}

/** What there is, or while a plan is pending what it makes, from the part that reaches `from` on. */
export function readParts(va: u32, from: u64): i32 {
  filled = 0;
  const sink = sinkOf(va);
  const former = !isPlanned();
  if (former) enterNotes();
  let at = stretchStart(sink, from, former);
  do {
    pieces.clear();
    if (former) formerParts(sink, at, LAST_BYTE, pieces, MOST_PIECES);
    else heldParts(sink, at, LAST_BYTE, pieces, MOST_PIECES);
    for (let i: u32 = 0; i < pieces.length; i += PIECE_BYTES) {
      const part = changetype<Piece>(pieces.at(i));
      at = part.last;
      // Pages that are held without access are nobody's to use.
      if (at >= from && part.c != 0 && !addPiece(part)) return <i32>filled;
    }
  } while (pieces.length >= MOST_PIECES && at++ != LAST_BYTE);
  return filledOrExhausted();
}

/** The same for pieces. */
export function readPieces(va: u32, from: u64): i32 {
  if (!hasLargePages()) return readParts(va, from);
  filled = 0;
  const former = !isPlanned();
  if (former) enterNotes();
  pieces.clear();
  if (former) formerPieces(sinkOf(va), 0, LAST_BYTE, pieces);
  else heldPieces(sinkOf(va), 0, LAST_BYTE, pieces);
  for (let i: u32 = 0; i < pieces.length; i += PIECE_BYTES) {
    const piece = changetype<Piece>(pieces.at(i));
    if (piece.last >= from && piece.c != 0 && !addPiece(piece)) break;
  }
  return filledOrExhausted();
}

function filledOrExhausted(): i32 {
  if (!exhausted) return <i32>filled;
  clearExhausted();
  return fail(ERR_NO_MEMORY);
}

/** As a row of its own, or a part of the last one; false if there is no room. */
function addPiece(piece: Piece): bool {
  if (filled != 0) {
    const row = changetype<Row>(rows + (filled - 1) * ROW_SIZE);
    const isNext = row.last == piece.start - 1;
    if (isNext && canJoin(row.start, row.offset, row.id, row.flags, piece.start, piece.a, piece.b, piece.c)) {
      row.last = piece.last;
      return true;
    }
  }
  if (filled == ROW_CAPACITY) return false;
  fillRow(piece);
  return true;
}

export function readProtections(sink: u32, from: u64): i32 {
  return readSpans(sinkOf(sink).protectionsSlot, from);
}

/** What is lost of a sink; id: object + 1 whose private pages are held there, 0 for none. */
export function readLost(sink: u32, from: u64): i32 {
  const count = readSpans(sinkOf(sink).lostSlot, from);
  for (let i = 0; i < count; ++i) {
    const row = changetype<Row>(rows + i * ROW_SIZE);
    row.id = row.id == NOTHING ? 0 : row.id + 1;
    if (row.id == 0) row.offset = 0;
  }
  return count;
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
  row.extent = region.last;
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
