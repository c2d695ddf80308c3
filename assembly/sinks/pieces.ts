// Pieces: what a VA space maps, each a stretch of whole pages of one object. Where parts (see parts.ts) are whole pages
// of their objects, pieces are parts. A page is mapped as a whole as soon as a part of it is seen: nobody may use more
// of it than its parts (limits). In the rest of a page that is larger than PAGE_SIZE there must be no memory of another
// kind.
//
//   flat view   |ram  |mmio|ram      |rom (same object)|
//   parts       |rw   |    |rw       |r                |
//   pages       |                    |                 |
//   piece       |rw                  |r                |
//   limits            |none|
//
// A lost range (see lost.ts) has no parts, so that it has no pieces and no limits; it is whole pages of what should be
// there.

import { ACCESS_WRITE, ERR_SPLIT_PAGE, ERR_UNALIGNED, PAGE_SIZE } from '../abi';
import { largestPageMask } from '../asked/mapping';
import { objectOf, Sink } from '../asked/records';
import { fail } from '../base/failure';
import { lengthOf } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { When } from '../tree/before';
import { Stretch } from '../tree/node';
import { WALK_SIZE, Walk } from '../tree/walk';
import { Command, emit } from './command';
import { hasCutPages, heldParts, PIECE_BYTES, Piece, wantedParts } from './parts';

/** A stretch of pieces that may be used less than it is mapped. */
@unmanaged
export class Limit extends Stretch {
  /** ACCESS_* that is left. */
  access: u32;
  unused: u32;
}

export const LIMIT_BYTES: u32 = offsetof<Limit>();

const parts = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const pieces = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const walk = changetype<Walk<Piece>>(memory.data(WALK_SIZE, 8));

/** Whether some object has, or had, pages larger than PAGE_SIZE. */
export function hasLargePages(): bool {
  return largestPageMask >= <u64>PAGE_SIZE;
}

/** Whether pieces may be other than parts, and have limits, as far as parts have been found. */
export function differFromParts(): bool {
  return hasCutPages || hasLargePages();
}

/** Appends the pieces that the sink should have in [start, last], which are whole pages of PAGE_SIZE, to `out`. */
export function wantedPieces(sink: Sink, start: u64, last: u64, out: Vector): void {
  if (!differFromParts()) {
    wantedParts(sink, start, last, out);
    return;
  }
  parts.clear();
  wantedParts(sink, start & ~largestPageMask, last | largestPageMask, parts);
  appendClipped(start, last, out);
}

/** Appends the pieces that the sink has in [start, last]; see `heldParts`. */
export function heldPieces(sink: Sink, start: u64, last: u64, when: When, out: Vector): void {
  if (!differFromParts()) {
    heldParts(sink, start, last, when, out);
    return;
  }
  parts.clear();
  heldParts(sink, start & ~largestPageMask, last | largestPageMask, when, parts);
  appendClipped(start, last, out);
}

/** Appends, of the pieces that follow from `parts`, what lies in [start, last]. Precondition: their plan was not
 *  refused. */
function appendClipped(start: u64, last: u64, out: Vector): void {
  pieces.clear();
  makeWhole(parts, pieces);
  for (let at: u32 = 0; at < pieces.length; at += PIECE_BYTES) {
    const piece = changetype<Piece>(pieces.at(at));
    if (piece.last < start || piece.start > last) continue;
    const from = max(start, piece.start);
    append(piece, from, min(last, piece.last), out);
  }
}

// ---- Whole pages ---------------------------------------------------------------------------

/** Appends the pieces that show these parts, which are in order and begin and end with whole pages of every size.
 *  Returns 0, ERR_UNALIGNED, or ERR_SPLIT_PAGE with the regions of both memories that cannot share a page. */
export function makeWhole(parts: Vector, out: Vector): i32 {
  let before: Piece | null = null;
  for (let at: u32 = 0; at < parts.length; at += PIECE_BYTES) {
    const part = changetype<Piece>(parts.at(at));
    const mask = objectOf(part.object).pageMask;
    if (((part.objectOffset - part.start) & mask) != 0)
      return fail(ERR_UNALIGNED, part.region + 1, part.object + 1, part.start);
    const start = part.start & ~mask;
    const last = part.last | mask;
    if (before == null || before.last < start) {
      append(part, start, last, out);
    } else {
      if (before.object != part.object || before.objectOffsetAt(start) != part.objectOffsetAt(start))
        return refuse(before, part);
      join(before, part, start, last, mask, out);
    }
    if (out.length == 0) return 0;
    before = changetype<Piece>(out.end - PIECE_BYTES);
  }
  return 0;
}

/** ERR_SPLIT_PAGE, naming the memory that was there for a part of a page, then the memory whose page it is. */
function refuse(before: Piece, part: Piece): i32 {
  const isSplit = objectOf(part.object).pageShift > objectOf(before.object).pageShift;
  return isSplit
    ? fail(ERR_SPLIT_PAGE, before.region + 1, part.region + 1, before.last)
    : fail(ERR_SPLIT_PAGE, part.region + 1, before.region + 1, part.start);
}

/** Appends a part that begins in the last page of the piece before it: that page has the access of both. */
function join(before: Piece, part: Piece, start: u64, last: u64, mask: u64, out: Vector): void {
  const pageLast = start | mask;
  if (before.access == part.access) {
    before.last = last;
  } else if (before.access & ACCESS_WRITE) {
    if (last > pageLast) append(part, pageLast + 1, last, out);
  } else {
    if (before.start == start) out.shrink(PIECE_BYTES);
    else before.last = start - 1;
    append(part, start, last, out);
  }
}

/** Appends a piece, made longer or shorter. Does nothing once memory has run out. */
function append(piece: Piece, start: u64, last: u64, out: Vector): void {
  if (!out.ensure(PIECE_BYTES)) return;
  const copy = changetype<Piece>(out.extend(PIECE_BYTES));
  copy.start = start;
  copy.last = last;
  copy.objectOffset = piece.objectOffsetAt(start);
  copy.object = piece.object;
  copy.access = piece.access;
  copy.region = piece.region;
  copy.offsetInRegion = piece.offsetInRegion + (start - piece.start);
}

/** Emits a command about a piece of a VA sink. */
export function emitPiece(list: Vector, op: u32, va: u32, piece: Piece): Command {
  const command = emit(list, op, va, piece.start, lengthOf(piece.start, piece.last));
  command.object = piece.object;
  command.offset = piece.objectOffset;
  command.access = piece.access;
  return command;
}

// ---- Limits --------------------------------------------------------------------------------

/** Appends the limits of pieces, which follow from their parts. */
export function limitsOf(pieces: Vector, parts: Vector, out: Vector): void {
  walk.begin(pieces, parts);
  while (walk.next()) {
    const piece = walk.inLeft;
    const part = walk.inRight;
    if (piece == null || (part != null && part.access == piece.access)) continue;
    const left = part == null ? 0 : part.access;
    if (out.length != 0) {
      const before = changetype<Limit>(out.end - LIMIT_BYTES);
      if (before.last == walk.start - 1 && before.access == left) {
        before.last = walk.last;
        continue;
      }
    }
    if (!out.ensure(LIMIT_BYTES)) return;
    const limit = changetype<Limit>(out.extend(LIMIT_BYTES));
    limit.start = walk.start;
    limit.last = walk.last;
    limit.access = left;
    limit.unused = 0;
  }
}

/** Appends the limits that the sink has now in [start, last]; some may lie outside of it. In lost ranges there are
 *  none. */
export function heldLimits(sink: Sink, start: u64, last: u64, out: Vector): void {
  parts.clear();
  pieces.clear();
  heldParts(sink, start & ~largestPageMask, last | largestPageMask, When.Now, parts);
  makeWhole(parts, pieces);
  limitsOf(pieces, parts, out);
}
