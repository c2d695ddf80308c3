// Lost ranges: stretches of a sink that show nothing, although something should be there, because a command that was to
// put it back has failed. Each sink has a tree of them:
//
//   GPA -> b = NOTHING: nothing is there (a counts on from the GPA)
//          b = object: its private pages from offset a on are held there, without access
//
// A VA space's lost ranges have no memory slots in the partitions that use it. What a later transaction touches of one
// is compared with nothing (or with what is held), made again as a whole, and then lost no more.

import { ERR_BAD_ID, ERR_BAD_RANGE, ERR_PRIVATE_TWICE, OP_VA_PARK, SINK_VA } from '../abi';
import { largestPageMask } from '../asked/mapping';
import { objectOf, objects, Sink, sinkOf, sinks, spaceOf } from '../asked/records';
import { Echo, LostRange, ShownStretch } from '../asked/views';
import { fail, refusePages } from '../base/failure';
import { isPageAligned, LAST_BYTE, lengthOf, pageLast, pageStart } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { NOTHING, When } from '../tree/before';
import * as spans from '../tree/spans';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { ensureStep } from '../undo/journal';
import { addTouched, TOUCHED_BYTES, touchedAt, touchedSinks } from '../undo/touched';
import { emit, joinMemory, removalsOf } from './command';
import { ECHO_BYTES, echoLast, eraseEcho, findEchoes, isEcho } from './echoes';
import { PIECE_BYTES, Piece } from './parts';
import { heldPieces } from './pieces';
import { keepStretch, reachOf } from './stretches';
import { touchUsers } from './users';

const cursor = changetype<Cursor<LostRange>>(memory.data(CURSOR_SIZE, 8));
const shown = changetype<Cursor<ShownStretch>>(memory.data(CURSOR_SIZE, 8));
/** Pieces or spans that are looked at together. */
const held = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Echoes that are lost with their home. */
const echoed = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Whether the transaction says what is lost: its plan arranges the rest around that, and tries nothing again. */
export let isLosing: bool = false;
/** Last address up to which the last answer of `isHeld` holds. */
export let heldLast: u64 = 0;

/** Notes that the transaction says what is lost. */
export function startLosing(): void {
  isLosing = true;
}

/** Forgets that the transaction, which has ended, said what is lost. */
export function forgetLosing(): void {
  isLosing = false;
}

/** Whether the sink has what it should at `gpa`. */
export function isHeld(sink: Sink, gpa: u64): bool {
  heldLast = LAST_BYTE;
  if (sink.lost == 0) return true;
  cursor.seek(sink.lostTree, gpa);
  const span = cursor.span;
  if (span == null) return true;
  const isLost = span.start <= gpa;
  heldLast = isLost ? span.last : span.start - 1;
  return !isLost;
}

/** Enters [start, last] as lost: nothing is there. */
export function noteLost(sink: Sink, start: u64, last: u64): void {
  held.clear();
  spans.overwrite(sink.lostTree, start, last, start, NOTHING, 0, held);
}

// ---- What is said to be lost ---------------------------------------------------------------

/** Code that says why [start, last] of the sink cannot be lost; 0 if it can. */
export function checkRange(id: u32, start: u64, last: u64): i32 {
  const error = refusePages(start, last, id + 1);
  if (error != 0) return error;
  return last > reachOf(sinkOf(id)) ? fail(ERR_BAD_RANGE, 0, id + 1, last) : 0;
}

/** Notes that a VA space shows nothing in [start, last], nor in the rest of large pages of which that is a part. Of
 *  `object` (its id + 1), if it is private, the pages from `offset` on are held there. */
export function loseVa(id: u32, start: u64, last: u64, object: u32, offset: u64): i32 {
  const sink = sinkOf(id);
  keepStretch(id, start, last);
  held.clear();
  heldPieces(sink, start, last, When.Now, held);
  const first = wholeStartOf(start);
  const end = wholeLastOf(last);
  forgetShown(id);
  noteLost(sink, first, end);
  touchUsers(id, first, end);
  return object == 0 ? 0 : hold(id, start, last, object - 1, offset);
}

/** Start of the page that the first of the `held` pieces shows at `start`. */
function wholeStartOf(start: u64): u64 {
  if (held.length == 0) return start;
  const first = changetype<Piece>(held.at(0));
  return min(start, first.start & ~objectOf(first.object).pageMask);
}

/** End of the page that the last of the `held` pieces shows at `last`. */
function wholeLastOf(last: u64): u64 {
  if (held.length == 0) return last;
  const end = changetype<Piece>(held.end - PIECE_BYTES);
  return max(last, end.last | objectOf(end.object).pageMask);
}

/** Notes that private pages of the `held` pieces, which are those of a VA sink, are parked. */
function forgetShown(id: u32): void {
  echoed.clear();
  for (let at: u32 = 0; at < held.length; at += PIECE_BYTES) {
    const piece = changetype<Piece>(held.at(at));
    if (!objectOf(piece.object).isMoved) continue;
    let last: u64 = 0;
    for (let start = piece.start; ensureStep(); start = last + 1) {
      const isEchoed = isEcho(sinkOf(id), start);
      last = min(piece.last, echoLast);
      if (isEchoed) eraseEcho(id, start, last);
      else forgetHome(id, piece.object, piece.objectOffsetAt(start), piece.objectOffsetAt(last));
      if (last == piece.last) break;
    }
  }
  for (let at: u32 = 0; at < echoed.length; at += ECHO_BYTES) {
    const echo = changetype<Echo>(echoed.at(at));
    noteLost(sinkOf(id), echo.start, echo.last);
  }
}

/** Notes that [offset, last] of a private object is parked, and lost where the VA sink had an echo of it. */
function forgetHome(id: u32, object: u32, offset: u64, last: u64): void {
  spans.erase(objectOf(object).shownTree, offset, last);
  if (objectOf(object).echoedPages == 0) return;
  const first = echoed.length;
  findEchoes(sinkOf(id), object, offset, last, echoed);
  for (let at = first; at < echoed.length; at += ECHO_BYTES) {
    const echo = changetype<Echo>(echoed.at(at));
    eraseEcho(id, echo.start, echo.last);
  }
}

function hold(id: u32, start: u64, last: u64, object: u32, offset: u64): i32 {
  if (!objects.isAlive(object)) return fail(ERR_BAD_ID, 0, object + 1);
  if (!objectOf(object).isMoved) return 0;
  const bytes = lengthOf(start, last);
  const size = pageLast(objectOf(object).size - 1);
  if (!isPageAligned(offset) || offset > size || bytes - 1 > size - offset)
    return fail(ERR_BAD_RANGE, 0, object + 1, offset);
  const tree = objectOf(object).shownTree;
  shown.seek(tree, offset);
  const span = shown.span;
  if (span != null && span.start <= offset + (bytes - 1)) return fail(ERR_PRIVATE_TWICE, 0, object + 1, start);
  if (!ensureStep()) return 0;
  spans.put(tree, offset, offset + (bytes - 1), start, id, 0);
  held.clear();
  spans.overwrite(sinkOf(id).lostTree, start, last, offset, object, 0, held);
  return 0;
}

// ---- What is tried again -------------------------------------------------------------------

/** Marks the lost ranges of the sink in [start, last], to be made again. */
export function repair(id: u32, start: u64, last: u64): i32 {
  if (last < start) return fail(ERR_BAD_RANGE, 0, id + 1, last);
  markLost(id, start, last);
  return 0;
}

/** Marks as touched the whole of every lost range that one of `touchedSinks` touches in any sink of the same address
 *  space. */
export function retryLost(): void {
  const end = touchedSinks.length;
  for (let at: u32 = 0; at < end; at += TOUCHED_BYTES) {
    const touched = touchedAt(touchedSinks, at);
    if (!sinks.isAlive(touched.owner)) continue;
    const start = pageStart(touched.start);
    const last = pageLast(touched.last);
    for (
      let other = spaceOf(sinkOf(touched.owner).space - 1).sinks;
      other != 0;
      other = sinkOf(other - 1).nextOfSpace
    ) {
      markLost(other - 1, start, last);
    }
  }
}

/** Marks as touched the lost ranges in [start, last], and those that share large pages with one that is marked. */
function markLost(id: u32, start: u64, last: u64): void {
  const sink = sinkOf(id);
  if (sink.lost == 0) return;
  seekTogether(sink, start);
  last |= largestPageMask;
  for (let span = cursor.span; span != null && span.start <= last; span = cursor.span) {
    last = max(last, span.last | largestPageMask);
    addTouched(touchedSinks, id, span.start, span.last);
    // Memory slots come back with what they show.
    touchUsers(id, span.start, span.last);
    cursor.next();
  }
}

/** Goes to the first lost range that reaches `start`, or shares a large page with that or with one that does, and so
 *  on. */
function seekTogether(sink: Sink, start: u64): void {
  while (true) {
    start &= ~largestPageMask;
    cursor.seek(sink.lostTree, start);
    const span = cursor.span;
    if (span == null || span.start >= start) return;
    start = span.start;
  }
}

/** Forgets that touched ranges were lost: the plan makes them. Precondition: VA spaces have been compared, slots
 *  have not. */
export function forgetRetried(): void {
  for (let at: u32 = 0; at < touchedSinks.length; at += TOUCHED_BYTES) {
    const touched = touchedAt(touchedSinks, at);
    if (!sinks.isAlive(touched.owner) || sinkOf(touched.owner).lost == 0) continue;
    if (!ensureStep()) return;
    spans.erase(sinkOf(touched.owner).lostTree, pageStart(touched.start), pageLast(touched.last));
  }
}

/** Sends private pages home that lost ranges hold, of [offset, last] of the object, wherever that is; false if some
 *  of it is shown, not held. */
export function sendHome(object: u32, offset: u64, last: u64): bool {
  const tree = objectOf(object).shownTree;
  while (ensureStep()) {
    shown.seek(tree, offset);
    const span = shown.span;
    if (span == null || span.start > last) return true;
    const id = span.sink;
    const start = span.gpaAt(max(offset, span.start));
    const from = max(offset, span.start);
    const to = min(last, span.last);
    assert(sinkOf(id).kind == <u8>SINK_VA);
    if (isHeld(sinkOf(id), start) || heldLast < start + (to - from)) return false;
    const command = emit(removalsOf(SINK_VA), OP_VA_PARK, id, start, lengthOf(from, to));
    command.object = object;
    command.offset = from;
    joinMemory(removalsOf(SINK_VA));
    spans.erase(tree, from, to);
    noteLost(sinkOf(id), start, start + (to - from));
  }
  return true;
}
