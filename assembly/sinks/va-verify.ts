// The invariants of VA spaces, and the debug build's check of a plan: the touched ranges have held every difference
// between the pieces before and those that should be now. Everything that was noted is entered for it, and all of every
// VA space compared.

import { SINK_VA } from '../abi';
import { objectOf, sinkOf, sinks } from '../asked/records';
import { Echo, ShownStretch } from '../asked/views';
import { clearExhausted, exhausted } from '../base/heap';
import { LAST_BYTE, lengthOf } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { enterNotes, When } from '../tree/before';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { WALK_SIZE, Walk } from '../tree/walk';
import { echoLast, isEcho, lastEcho } from './echoes';
import { heldLast, isHeld } from './lost';
import { PIECE_BYTES, Piece, showSame } from './parts';
import { heldPieces, wantedPieces } from './pieces';
import { reachOf, verifyStretches } from './stretches';
import { CHANGE_BYTES, Change, changes } from './va-changes';

const held = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const wanted = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const walk = changetype<Walk<Piece>>(memory.data(WALK_SIZE, 8));
const shown = changetype<Cursor<ShownStretch>>(memory.data(CURSOR_SIZE, 8));
const echoes = changetype<Cursor<Echo>>(memory.data(CURSOR_SIZE, 8));

/** Asserts that the pieces of a VA sink lie in it, and that private ones are known to their objects. */
export function verifyVa(id: u32): void {
  verifyStretches(id);
  assert(sinkOf(id).state == 0);
  held.clear();
  heldPieces(sinkOf(id), 0, LAST_BYTE, When.Now, held);
  if (exhausted) {
    clearExhausted();
    return;
  }
  let echoedBytes: u64 = 0;
  for (let at: u32 = 0; at < held.length; at += PIECE_BYTES) {
    const piece = changetype<Piece>(held.at(at));
    assert(piece.last <= reachOf(sinkOf(id)));
    if (objectOf(piece.object).isMoved) echoedBytes += verifyPrivate(id, piece);
  }
  echoes.seek(sinkOf(id).echoesTree, 0);
  for (let echo = echoes.span; echo != null; echo = echoes.span) {
    echoedBytes -= lengthOf(echo.start, echo.last);
    echoes.next();
  }
  assert(echoedBytes == 0);
}

/** Asserts that all private pages that a piece shows are at home in the sink, there or elsewhere. Returns how many
 *  bytes of it are echoes. */
function verifyPrivate(id: u32, piece: Piece): u64 {
  const tree = objectOf(piece.object).shownTree;
  let echoed: u64 = 0;
  let gpa = piece.start;
  while (true) {
    const offset = piece.objectOffsetAt(gpa);
    const isEchoed = isEcho(sinkOf(id), gpa);
    const last = min(piece.last, echoLast);
    if (isEchoed) {
      assert(lastEcho().object == piece.object && lastEcho().objectOffsetAt(gpa) == offset);
      echoed += lengthOf(gpa, last);
    }
    verifyHome(tree, id, isEchoed, gpa, offset, offset + (last - gpa));
    if (last == piece.last) return echoed;
    gpa = last + 1;
  }
}

/** Asserts that the pages of [offset, last] of an object are at home in a sink, at `gpa` unless that shows an echo. */
function verifyHome(tree: usize, id: u32, isEchoed: bool, gpa: u64, offset: u64, last: u64): void {
  let at = offset;
  shown.seek(tree, offset);
  for (let span = shown.span; ; span = shown.span) {
    assert(span != null && span.start <= at);
    if (span == null) return;
    assert(span.sink == id && (span.gpaAt(at) == gpa + (at - offset)) != isEchoed);
    if (span.last >= last) return;
    at = span.last + 1;
    shown.next();
  }
}

/** Asserts that the changes are all that is different. */
export function verifyChanges(): void {
  enterNotes();
  let at: u32 = 0;
  for (let id: u32 = 0; id < sinks.count && !exhausted; ++id) {
    if (sinks.isAlive(id) && sinkOf(id).kind == <u8>SINK_VA) at = verifySink(id, at);
  }
  assert(exhausted || at == changes.length);
}

/** Asserts that the changes from `at` on are all that is different in a sink. Returns the first that is not its. */
function verifySink(id: u32, at: u32): u32 {
  const sink = sinkOf(id);
  held.clear();
  wanted.clear();
  heldPieces(sink, 0, LAST_BYTE, When.Before, held);
  wantedPieces(sink, 0, LAST_BYTE, wanted);
  if (exhausted) return at;
  walk.begin(held, wanted);
  while (walk.next()) {
    const before = walk.inLeft;
    const now = walk.inRight;
    if (showSame(before, now, walk.start)) continue;
    for (let gpa = walk.start; ; gpa = heldLast + 1) {
      // What is lost and was not touched stays so.
      const isTried = isHeld(sink, gpa) || isChanged(id, at, gpa);
      if (isTried) at = verifyDifference(id, at, before, now, gpa, min(walk.last, heldLast));
      if (heldLast >= walk.last) break;
    }
  }
  return at;
}

function isChanged(id: u32, at: u32, gpa: u64): bool {
  if (at >= changes.length) return false;
  const change = changetype<Change>(changes.at(at));
  return change.sink == id && change.start <= gpa && change.last >= gpa;
}

/** Asserts that the difference in [gpa, last] was noted, as one change or several that follow each other, from `at`
 *  on. */
function verifyDifference(id: u32, at: u32, before: Piece | null, now: Piece | null, gpa: u64, last: u64): u32 {
  while (true) {
    assert(at < changes.length);
    const change = changetype<Change>(changes.at(at));
    assert(change.sink == id && change.start <= gpa && change.last >= gpa);
    const offset = gpa - change.start;
    assert(change.pieceBefore == (before != null) && change.pieceNow == (now != null));
    if (before != null) {
      assert(change.objectBefore == before.object && change.accessBefore == <u8>before.access);
      assert(change.offsetBefore + offset == before.objectOffsetAt(gpa));
    }
    if (now != null) {
      assert(change.objectNow == now.object && change.accessNow == <u8>now.access);
      assert(change.offsetNow + offset == now.objectOffsetAt(gpa));
    }
    if (change.last > last) return at;
    at += CHANGE_BYTES;
    if (change.last == last) return at;
    gpa = change.last + 1;
  }
}
