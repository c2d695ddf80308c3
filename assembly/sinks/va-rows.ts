// Rows of what VA spaces have: pieces, and the parts that may be used of them.

import { ERR_NO_MEMORY } from '../abi';
import { Sink, sinkOf } from '../asked/records';
import { Opening } from '../asked/views';
import { fail } from '../base/failure';
import { clearExhausted, exhausted } from '../base/heap';
import { LAST_BYTE, pageLast } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { enterNotes, When } from '../tree/before';
import { clearRows, hasRoom, newRow, rowAt, rowCount } from '../tree/rows';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { echoLast, isEcho } from './echoes';
import { heldParts, PIECE_BYTES, Piece, stretchStart } from './parts';
import { differFromParts, heldPieces } from './pieces';

/** Pieces that are looked at together. */
const pieces = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const MOST_BYTES: u32 = 64 * PIECE_BYTES;
/** Openings of a view, and what one of them lets be used of a part. */
const openings = changetype<Cursor<Opening>>(memory.data(CURSOR_SIZE, 8));
const seen = changetype<Piece>(memory.data(offsetof<Piece>(), 8));
/** Stretch of a part that is no echo. */
const mapped = changetype<Piece>(memory.data(offsetof<Piece>(), 8));

/** Fills the rows with parts of a sink in [from, last], the last one cut with the page of `last`. */
export function fillParts(id: u32, from: u64, last: u64, when: When): i32 {
  return fillSeen(sinkOf(id), 0, from, last, when);
}

/** Fills the rows with parts of a sink in [from, last] as far as a view lets them be used: `opened` is the tree of its
 *  openings, 0 for no view. */
export function fillSeen(sink: Sink, opened: usize, from: u64, last: u64, when: When): i32 {
  clearRows();
  last = pageLast(last);
  if (when == When.Before) enterNotes();
  let at = stretchStart(sink, from, when);
  do {
    pieces.clear();
    heldParts(sink, at, last, when, pieces, MOST_BYTES);
    for (let i: u32 = 0; i < pieces.length; i += PIECE_BYTES) {
      const part = changetype<Piece>(pieces.at(i));
      at = pageLast(part.last);
      // Pages that are held without access are nobody's to use.
      if (part.last >= from && part.access != 0 && !addMapped(sink, part, opened, from)) return <i32>rowCount;
    }
  } while (pieces.length >= MOST_BYTES && at++ < last);
  return countOrExhausted();
}

/** Fills the rows with pieces of a VA sink that reach into [from, last]. */
export function fillPieces(id: u32, from: u64, last: u64, when: When): i32 {
  if (!differFromParts()) return fillParts(id, from, last, when);
  clearRows();
  if (when == When.Before) enterNotes();
  pieces.clear();
  const sink = sinkOf(id);
  heldPieces(sink, 0, LAST_BYTE, when, pieces);
  for (let i: u32 = 0; i < pieces.length; i += PIECE_BYTES) {
    const piece = changetype<Piece>(pieces.at(i));
    if (piece.start > last) break;
    if (piece.last >= from && piece.access != 0 && !addMapped(sink, piece, 0, from)) break;
  }
  return countOrExhausted();
}

function countOrExhausted(): i32 {
  if (!exhausted) return <i32>rowCount;
  clearExhausted();
  return fail(ERR_NO_MEMORY);
}

/** `addSeen` for as much of a part as is mapped where it is seen. */
function addMapped(sink: Sink, part: Piece, opened: usize, from: u64): bool {
  if (sink.echoes == 0) return addSeen(part, opened, from);
  let at = part.start;
  while (true) {
    const isEchoed = isEcho(sink, at);
    const last = min(part.last, echoLast);
    if (!isEchoed && last >= from) {
      mapped.start = at;
      mapped.last = last;
      mapped.objectOffset = part.objectOffsetAt(at);
      mapped.object = part.object;
      mapped.access = part.access;
      if (!addSeen(mapped, opened, from)) return false;
    }
    if (last == part.last) return true;
    at = last + 1;
  }
}

/** Adds what openings let be used of a part, where they reach `from`; false if there is no room. */
function addSeen(part: Piece, opened: usize, from: u64): bool {
  if (opened == 0) return addPiece(part);
  openings.seek(opened, max(from, part.start));
  for (let opening = openings.span; opening != null && opening.start <= part.last; opening = openings.span) {
    const start = max(part.start, opening.start);
    seen.objectOffset = part.objectOffsetAt(start);
    seen.start = start;
    seen.last = min(part.last, opening.last);
    seen.object = part.object;
    seen.access = part.access & opening.access;
    if (!addPiece(seen)) return false;
    openings.next();
  }
  return true;
}

/** Adds a piece as a row of its own, or to the last row; false if there is no room. */
function addPiece(piece: Piece): bool {
  if (rowCount != 0) {
    const row = rowAt(rowCount - 1);
    const isNext = row.last == piece.start - 1;
    const isSame = row.id == piece.object && row.flags == piece.access;
    if (isNext && isSame && row.offset + (piece.start - row.start) == piece.objectOffset) {
      row.last = piece.last;
      return true;
    }
  }
  if (!hasRoom()) return false;
  const row = newRow();
  row.id = piece.object;
  row.flags = piece.access;
  row.start = piece.start;
  row.last = piece.last;
  row.offset = piece.objectOffset;
  return true;
}
