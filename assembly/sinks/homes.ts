// Homes: where a VA space maps private pages that are seen at several places of it; the other places are echoes (see
// echoes.ts). Home is where the region itself stands, as long as the pages are seen there; else where they came into
// view first. A plan goes this way:
//
//   what goes has no home any more  ->  assignHomes  ->  commands for what comes  ->  settleEchoes

import { ACCESS_ALL, ACCESS_WRITE, ERR_PRIVATE_TWICE, OP_VA_PARK, OP_VA_UNPARK, SINK_VA } from '../abi';
import { hasPrivateObjects } from '../asked/mapping';
import { isMemory, objectOf, regionOf, sinkOf, spaceOf } from '../asked/records';
import { Echo, FlatRange, ShownStretch } from '../asked/views';
import { fail } from '../base/failure';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { enterNotes, When } from '../tree/before';
import * as spans from '../tree/spans';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { ensureStep } from '../undo/journal';
import { additionsOf, joinMemory, removalsOf } from './command';
import { ECHO_BYTES, echoLast, enterEcho, eraseEcho, findEchoes, isEcho, lastEcho } from './echoes';
import { heldLast, isHeld, sendHome } from './lost';
import { PIECE_BYTES, Piece } from './parts';
import { differFromParts, emitPiece, heldLimits, heldPieces, LIMIT_BYTES, Limit, wantedPieces } from './pieces';
import { touchUsers } from './users';
import { CHANGE_BYTES, Change, changeAt, changeLast, changes } from './va-changes';

const shown = changetype<Cursor<ShownStretch>>(memory.data(CURSOR_SIZE, 8));
const flat = changetype<Cursor<FlatRange>>(memory.data(CURSOR_SIZE, 8));
const pieces = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const limits = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Echoes of pages whose home has changed. */
const found = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

// ---- What comes ----------------------------------------------------------------------------

/** Finds a home for all private pages that come into view. Precondition: what goes has no home any more. Returns 0 or
 *  a code. */
export function assignHomes(): i32 {
  if (!hasPrivateObjects) return 0;
  // Regions where they stand come first, so that nothing that has just come is sent away again.
  const error = assign(true);
  return error == 0 ? assign(false) : error;
}

function assign(isOwnPlace: bool): i32 {
  for (let at: u32 = 0; at < changes.length; at += CHANGE_BYTES) {
    if (!ensureStep()) return 0;
    const change = changetype<Change>(changes.at(at));
    if (!change.pieceNow || change.sameBytes || !objectOf(change.objectNow).isMoved) continue;
    if (standsAt(change.sink, change.region, change.offsetInRegion, change.start) != isOwnPlace) continue;
    const error = enterShown(change, isOwnPlace);
    if (error != 0) return error;
  }
  return 0;
}

/** Whether a byte of a region is seen at `gpa` because the region stands there, and through no alias. */
function standsAt(sink: u32, region: u32, offsetInRegion: u64, gpa: u64): bool {
  const space = spaceOf(sinkOf(sink).space - 1);
  let at = offsetInRegion;
  let top = region;
  for (; regionOf(top).parent != 0; top = regionOf(top).parent - 1) at += regionOf(top).offset;
  return space.root == top + 1 && at + space.offset == gpa;
}

/** Whether the page at an object's `offset` has a home: that is `homeAt` in `homeSink`. The answer holds up to the
 *  offset `homeEnd`, at most `last`. */
function hasHome(object: u32, offset: u64, last: u64): bool {
  homeEnd = last;
  shown.seek(objectOf(object).shownTree, offset);
  const span = shown.span;
  if (span == null) return false;
  if (span.start > offset) {
    homeEnd = min(last, span.start - 1);
    return false;
  }
  homeSink = span.sink;
  homeAt = span.gpaAt(offset);
  homeEnd = min(last, span.last);
  return true;
}

/** VA sink that `hasHome` has found. */
let homeSink: u32 = 0;
/** Offset in the object up to which what is known of a home holds. */
let homeEnd: u64 = 0;

/** Makes `homeEnd` nearer, if what is known of the home of the page at `offset` holds up to the GPA `last` alone. */
function endHomeAt(last: u64, offset: u64): void {
  homeEnd = offset + min(homeEnd - offset, last - homeAt);
}

/** Notes that the sink shows private pages that come, or that they are echoes there. Returns 0 or a code. */
function enterShown(change: Change, isOwnPlace: bool): i32 {
  const object = change.objectNow;
  const last = change.offsetNow + (change.last - change.start);
  let offset = change.offsetNow;
  while (ensureStep()) {
    const gpa = change.start + (offset - change.offsetNow);
    if (!hasHome(object, offset, last)) {
      spans.put(objectOf(object).shownTree, offset, homeEnd, gpa, change.sink, 0);
    } else {
      if (isVacated(change, offset, isOwnPlace)) continue;
      const gpaLast = gpa + (homeEnd - offset);
      if (homeSink != change.sink || !isWhole(change.sink, gpa, gpaLast))
        return fail(ERR_PRIVATE_TWICE, change.region + 1, object + 1, gpa);
      enterEcho(change.sink, gpa, gpaLast, object, offset);
    }
    if (homeEnd == last) return 0;
    offset = homeEnd + 1;
  }
  return 0;
}

/** Whether the pages that a change shows leave their home, of which `hasHome` was true just now, for the new place: if
 *  they are only held there, or if this is the region's own place and that is not. */
function isVacated(change: Change, offset: u64, isOwnPlace: bool): bool {
  const isThere = isHeld(sinkOf(homeSink), homeAt);
  endHomeAt(heldLast, offset);
  if (!isThere) {
    // What is lost and changes has been made anew by this plan.
    const made = changeAt(homeSink, homeAt);
    endHomeAt(changeLast, offset);
    if (made == null) return sendHome(change.objectNow, offset, homeEnd);
  }
  if (!isOwnPlace || homeSink != change.sink) return false;
  flat.seek(spaceOf(sinkOf(homeSink).space - 1).flatTree, homeAt);
  const range = flat.span;
  assert(range != null);
  if (range == null) return false;
  endHomeAt(range.last, offset);
  if (standsAt(homeSink, range.region, range.offsetInRegionAt(homeAt), homeAt)) return false;
  const gpaLast = homeAt + (homeEnd - offset);
  if (!isWhole(homeSink, homeAt, gpaLast)) return false;
  sendAway(homeSink, homeAt, gpaLast, change.objectNow, offset);
  return true;
}

/** Parks the pages at [start, last] of a VA sink, which is an echo from now on. */
function sendAway(va: u32, start: u64, last: u64, object: u32, offset: u64): void {
  enterNotes();
  pieces.clear();
  heldPieces(sinkOf(va), start, last, When.Before, pieces);
  for (let at: u32 = 0; at < pieces.length; at += PIECE_BYTES) {
    emitPiece(removalsOf(SINK_VA), OP_VA_PARK, va, changetype<Piece>(pieces.at(at)));
    joinMemory(removalsOf(SINK_VA));
  }
  spans.erase(objectOf(object).shownTree, offset, offset + (last - start));
  enterEcho(va, start, last, object, offset);
}

/** Whether all bytes of the pages at [start, last] of a VA sink are seen there. */
function isWhole(va: u32, start: u64, last: u64): bool {
  if (!differFromParts()) return true;
  limits.clear();
  heldLimits(sinkOf(va), start, last, limits);
  for (let at: u32 = 0; at < limits.length; at += LIMIT_BYTES) {
    const limit = changetype<Limit>(limits.at(at));
    if (limit.start <= last && limit.last >= start) return false;
  }
  return true;
}

// ---- What is seen elsewhere ----------------------------------------------------------------

/** Gives echoes a home whose pages have none any more, and marks those as touched whose home is another one now.
 *  Precondition: what comes has a home. Returns 0 or a code. */
export function settleEchoes(): i32 {
  if (!hasPrivateObjects) return 0;
  for (let at: u32 = 0; at < changes.length; at += CHANGE_BYTES) {
    const change = changetype<Change>(changes.at(at));
    const distance = change.last - change.start;
    let error = 0;
    if (change.pieceBefore) error = settle(change.sink, change.objectBefore, change.offsetBefore, distance);
    if (error == 0 && change.pieceNow && !change.sameBytes)
      error = settle(change.sink, change.objectNow, change.offsetNow, distance);
    if (error != 0) return error;
  }
  return 0;
}

/** `settleEchoes` for the `distance` + 1 bytes of an object from `offset` on. */
function settle(va: u32, object: u32, offset: u64, distance: u64): i32 {
  if (objectOf(object).echoedPages == 0) return 0;
  found.clear();
  findEchoes(sinkOf(va), object, offset, offset + distance, found);
  for (let at: u32 = 0; at < found.length; at += ECHO_BYTES) {
    const echo = changetype<Echo>(found.at(at));
    touchUsers(va, echo.start, echo.last);
    const error = settleEcho(va, echo);
    if (error != 0) return error;
  }
  return 0;
}

/** Makes an echo home of the pages of it that have none. Returns 0 or a code. */
function settleEcho(va: u32, echo: Echo): i32 {
  const object = echo.object;
  const last = echo.objectOffsetAt(echo.last);
  let offset = echo.a;
  while (ensureStep()) {
    const gpa = echo.start + (offset - echo.a);
    if (!hasHome(object, offset, last)) makeHome(va, gpa, gpa + (homeEnd - offset), object, offset);
    else if (homeSink != va) return refuseEcho(va, gpa);
    if (homeEnd == last) return 0;
    offset = homeEnd + 1;
  }
  return 0;
}

function makeHome(va: u32, start: u64, last: u64, object: u32, offset: u64): void {
  eraseEcho(va, start, last);
  spans.put(objectOf(object).shownTree, offset, offset + (last - start), start, va, 0);
  pieces.clear();
  wantedPieces(sinkOf(va), start, last, pieces);
  for (let at: u32 = 0; at < pieces.length; at += PIECE_BYTES) {
    const piece = changetype<Piece>(pieces.at(at));
    const command = emitPiece(additionsOf(SINK_VA), OP_VA_UNPARK, va, piece);
    command.region = piece.region;
    command.offsetInRegion = piece.offsetInRegion;
    joinMemory(additionsOf(SINK_VA));
  }
}

/** Code for an echo that cannot be one, at [start, last]; 0 if there is none. */
export function refuseEchoes(va: u32, start: u64, last: u64): i32 {
  const isAtStart = isEcho(sinkOf(va), start);
  if (!isAtStart && echoLast >= last) return 0;
  return refuseEcho(va, isAtStart ? start : echoLast + 1);
}

/** Names the memory that is seen at an echo, or behind what covers the start of it. */
function refuseEcho(va: u32, gpa: u64): i32 {
  flat.seek(spaceOf(sinkOf(va).space - 1).flatTree, gpa);
  while (flat.span != null && !isMemory(changetype<FlatRange>(flat.span).region)) flat.next();
  const range = flat.span;
  const region = range == null ? 0 : range.region + 1;
  assert(isEcho(sinkOf(va), gpa));
  return fail(ERR_PRIVATE_TWICE, region, lastEcho().object + 1, gpa);
}

// ---- Where it is mapped --------------------------------------------------------------------

/** Whether a VA space has memory for what is seen at `gpa`: at the GPA `homeAt`, for the access `homeAccess` at most.
 *  The answer holds up to `homeLast`; nobody asks behind `last`. */
export function isMapped(va: u32, gpa: u64, last: u64): bool {
  const sink = sinkOf(va);
  homeAt = gpa;
  homeAccess = ACCESS_ALL;
  if (isEcho(sink, gpa)) return isMappedAtHome(va, gpa, min(last, echoLast));
  homeLast = echoLast;
  const isThere = isHeld(sink, gpa);
  homeLast = min(homeLast, heldLast);
  return isThere;
}

/** GPA in the VA space at which pages are mapped. */
export let homeAt: u64 = 0;
/** Last GPA up to which what `isMapped` said holds. */
export let homeLast: u64 = 0;
/** ACCESS_* that the home has at most. */
export let homeAccess: u32 = 0;

/** `isMapped` for the echo of which `isEcho` was true just now. */
function isMappedAtHome(va: u32, gpa: u64, last: u64): bool {
  const echo = lastEcho();
  const offset = echo.objectOffsetAt(gpa);
  let isThere = hasHome(echo.object, offset, offset + (last - gpa));
  if (isThere) {
    isThere = isHeld(sinkOf(va), homeAt);
    endHomeAt(heldLast, offset);
  }
  if (isThere) {
    pieces.clear();
    wantedPieces(sinkOf(va), homeAt, homeAt + (homeEnd - offset), pieces);
    isThere = pieces.length != 0;
  }
  if (isThere) endHomeAt(lastOfAccess(), offset);
  homeLast = gpa + (homeEnd - offset);
  return isThere;
}

/** Makes `homeAccess` that of the first piece at home, and gives the end of the last that goes on with it. */
function lastOfAccess(): u64 {
  const first = changetype<Piece>(pieces.at(0));
  assert(first.start == homeAt);
  if (!(first.access & ACCESS_WRITE)) homeAccess = ACCESS_ALL & ~ACCESS_WRITE;
  let last = first.last;
  for (let at = PIECE_BYTES; at < pieces.length; at += PIECE_BYTES) {
    const piece = changetype<Piece>(pieces.at(at));
    if (piece.start != last + 1 || piece.access != first.access) break;
    last = piece.last;
  }
  return last;
}
