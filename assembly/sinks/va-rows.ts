// Rows of what VA spaces have: pieces, and the parts that may be used of them.

import { ERR_NO_MEMORY } from '../abi';
import { sinkOf } from '../asked/records';
import { fail } from '../base/failure';
import { clearExhausted, exhausted } from '../base/heap';
import { LAST_BYTE, pageLast } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { enterNotes } from '../tree/before';
import { clearRows, hasRoom, rowAt, rowCount, spanRow } from '../tree/rows';
import { canJoin } from '../tree/spans';
import { formerParts, heldParts, PIECE_BYTES, Piece, stretchStart } from './parts';
import { formerPieces, hasLargePages, heldPieces } from './pieces';

/** Pieces that are looked at together. */
const pieces = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const MOST_BYTES: u32 = 64 * PIECE_BYTES;

/** Fills the rows with parts of a sink in [from, last], the last one cut with the page of `last`. `former`: as they were when the
 *  transaction began. */
export function fillParts(id: u32, from: u64, last: u64, former: bool): i32 {
  clearRows();
  last = pageLast(last);
  const sink = sinkOf(id);
  if (former) enterNotes();
  let at = stretchStart(sink, from, former);
  do {
    pieces.clear();
    if (former) formerParts(sink, at, last, pieces, MOST_BYTES);
    else heldParts(sink, at, last, pieces, MOST_BYTES);
    for (let i: u32 = 0; i < pieces.length; i += PIECE_BYTES) {
      const part = changetype<Piece>(pieces.at(i));
      at = part.last;
      // Pages that are held without access are nobody's to use.
      if (at >= from && part.c != 0 && !addPiece(part)) return <i32>rowCount;
    }
  } while (pieces.length >= MOST_BYTES && at++ < last);
  return countOrExhausted();
}

/** Fills the rows with pieces of a VA sink, likewise. */
export function fillPieces(id: u32, from: u64, last: u64, former: bool): i32 {
  if (!hasLargePages()) return fillParts(id, from, last, former);
  clearRows();
  if (former) enterNotes();
  pieces.clear();
  if (former) formerPieces(sinkOf(id), 0, LAST_BYTE, pieces);
  else heldPieces(sinkOf(id), 0, LAST_BYTE, pieces);
  for (let i: u32 = 0; i < pieces.length; i += PIECE_BYTES) {
    const piece = changetype<Piece>(pieces.at(i));
    if (piece.start > last) break;
    if (piece.last >= from && piece.c != 0 && !addPiece(piece)) break;
  }
  return countOrExhausted();
}

function countOrExhausted(): i32 {
  if (!exhausted) return <i32>rowCount;
  clearExhausted();
  return fail(ERR_NO_MEMORY);
}

/** Adds a piece as a row of its own, or to the last row; false if there is no room. */
function addPiece(piece: Piece): bool {
  if (rowCount != 0) {
    const row = rowAt(rowCount - 1);
    const isNext = row.last == piece.start - 1;
    if (isNext && canJoin(row.start, row.offset, row.id, row.flags, piece.start, piece.a, piece.b, piece.c)) {
      row.last = piece.last;
      return true;
    }
  }
  if (!hasRoom()) return false;
  spanRow(piece);
  return true;
}
