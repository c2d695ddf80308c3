// Passes 3 and 4 for VA spaces: the difference between the pieces that there were and those that there should be, in
// the touched ranges that are looked at, and the commands in between.

import {
  ACCESS_ALL,
  CLASS_CHANGED,
  ERR_BAD_KIND,
  ERR_BAD_RANGE,
  ERR_PAST_LIMIT,
  ERR_PRIVATE_TWICE,
  ERR_UNALIGNED,
  OP_VA_LIMIT,
  OP_VA_MAP,
  OP_VA_PARK,
  OP_VA_PROTECT,
  OP_VA_UNMAP,
  OP_VA_UNPARK,
  SINK_VA,
} from '../abi';
import { largestPageMask } from '../asked/mapping';
import { objectOf, sinkOf, spaceOf } from '../asked/records';
import { ShownStretch } from '../asked/views';
import { zeroWords } from '../base/bytes';
import { fail } from '../base/failure';
import { sortByKeys } from '../base/radix';
import { isPageAligned, LAST_BYTE, lengthOf, pageLast, pageStart } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { editOf, enterNote, enterNotes, When } from '../tree/before';
import * as spans from '../tree/spans';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { WALK_SIZE, Walk } from '../tree/walk';
import { ensureStep } from '../undo/journal';
import {
  addTouched,
  group,
  isGroupOfEdits,
  putInOrder,
  TOUCHED_BYTES,
  takeGroup,
  touchedAt,
  touchedSinks,
} from '../undo/touched';
import { additionsOf, Command, disturb, emit, joinLast, removalsOf } from './command';
import { forgetRetried, heldLast, isHeld, isLosing, sendHome } from './lost';
import { editedParts, heldParts, PIECE_BYTES, Piece, showSame, wantedParts } from './parts';
import { differFromParts, Limit, limitsOf, makeWhole } from './pieces';
import { CHANGE_BYTES, Change, changes } from './va-changes';
import { verifyChanges } from './va-verify';

/** A stretch in which the monitor may use another access than before: ACCESS_ALL for all that is mapped. */
@unmanaged
class LimitChange {
  start: u64;
  last: u64;
  sink: u32;
  accessBefore: u8;
  accessNow: u8;

  /** Whether it takes something away. */
  get isTighter(): bool {
    return (this.accessBefore & ~this.accessNow) != 0;
  }
}

/** The access that a limit of which nothing is known may leave: more than any other. */
const UNKNOWN_ACCESS: u32 = 0xff;
const LIMIT_CHANGE_BYTES: u32 = offsetof<LimitChange>();

const shown = changetype<Cursor<ShownStretch>>(memory.data(CURSOR_SIZE, 8));
const pieceWalk = changetype<Walk<Piece>>(memory.data(WALK_SIZE, 8));
const limitWalk = changetype<Walk<Limit>>(memory.data(WALK_SIZE, 8));

const piecesBefore = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const piecesNow = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Parts that the pieces above are made of, and their limits, where they differ. */
const partsBefore = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const partsNow = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const limitsBefore = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const limitsNow = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const limitChanges = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Numbers of edits that are to be entered, 16 bytes each: u64 number, u64 0 (the major key of `sortByKeys`). */
const numbers = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const NUMBER_BYTES: u32 = 16;

/** Admits a linear reservation that mirrors the space from GPA 0 on: see `Kind.admit`. */
export function admitVa(_space: u32, owner: u32, via: u32, offset: u64, last: u64): i32 {
  if (owner != 0 || via != 0) return fail(ERR_BAD_KIND, 0, max(owner, via));
  if (offset != 0) return fail(ERR_BAD_RANGE, 0, 0, offset);
  return isPageAligned(last + 1) ? 0 : fail(ERR_UNALIGNED, 0, 0, last + 1);
}

export function beginVa(): void {
  changes.clear();
  limitChanges.clear();
}

// ---- The difference ------------------------------------------------------------------------

/** Notes what is to change in the VA sink's touched ranges, a run of `touchedSinks`. Returns 0 or a code. */
export function compareVa(id: u32, from: u32, end: u32): i32 {
  let reached: u64 = 0;
  for (let at = from; at < end; ) {
    const first = at;
    at = takeGroup(touchedSinks, first);
    const start = max(reached, pageStart(group.start) & ~largestPageMask);
    const last = pageLast(group.last) | largestPageMask;
    if (start <= last) {
      if (!differFromParts()) findPieces(id, start, last, first, at);
      // The first part that is cut is found here.
      let error = differFromParts() ? findWholePieces(id, start, last) : 0;
      if (error == 0) error = diffPieces(id);
      if (error != 0) return error;
    }
    if (last == LAST_BYTE) break;
    reached = last + 1;
  }
  return 0;
}

/** Finds the pieces before and now in `group`, which is made of the touched ranges from `at` to `end`. */
function findPieces(id: u32, start: u64, last: u64, at: u32, end: u32): void {
  const sink = sinkOf(id);
  piecesBefore.clear();
  piecesNow.clear();
  if (group.edit != 0 && sink.lost == 0 && editedParts(sink, start, last, editOf(group.edit), piecesBefore, piecesNow))
    return;
  if (isGroupOfEdits) enterEdits(at, end);
  else enterNotes();
  heldParts(sink, start, last, When.Before, piecesBefore);
  wantedParts(sink, start, last, piecesNow);
}

/** `findPieces` where pieces may be other than parts: [start, last] are whole pages of every size. Notes changes of
 *  limits. Returns 0 or a code. */
function findWholePieces(id: u32, start: u64, last: u64): i32 {
  const sink = sinkOf(id);
  partsBefore.clear();
  partsNow.clear();
  const isWithin = pageStart(group.start) <= start && pageLast(group.last) == last;
  const mayFollow = isWithin && group.edit != 0 && sink.lost == 0;
  if (!mayFollow || !editedParts(sink, start, last, editOf(group.edit), partsBefore, partsNow)) {
    enterNotes();
    heldParts(sink, start, last, When.Before, partsBefore);
    wantedParts(sink, start, last, partsNow);
  }
  piecesBefore.clear();
  piecesNow.clear();
  makeWhole(partsBefore, piecesBefore);
  const error = makeWhole(partsNow, piecesNow);
  if (error == 0) {
    forgetLimits(id, start, last);
    diffLimits(id);
  }
  return error;
}

/** Notes that the limits of lost ranges, which nobody knows, are to be taken away. */
function forgetLimits(id: u32, start: u64, last: u64): void {
  const sink = sinkOf(id);
  for (let at = start; ; at = heldLast + 1) {
    const isLost = !isHeld(sink, at);
    const end = min(last, heldLast);
    if (isLost) addLimitChange(id, at, end, UNKNOWN_ACCESS, ACCESS_ALL);
    if (end == last) return;
  }
}

function diffLimits(id: u32): void {
  limitsBefore.clear();
  limitsNow.clear();
  limitsOf(piecesBefore, partsBefore, limitsBefore);
  limitsOf(piecesNow, partsNow, limitsNow);
  limitWalk.begin(limitsBefore, limitsNow);
  while (limitWalk.next()) {
    const before = limitWalk.inLeft;
    const now = limitWalk.inRight;
    const accessBefore = before == null ? ACCESS_ALL : before.access;
    const accessNow = now == null ? ACCESS_ALL : now.access;
    if (accessBefore != accessNow) addLimitChange(id, limitWalk.start, limitWalk.last, accessBefore, accessNow);
  }
}

/** Notes that the limit of [start, last] changes. Does nothing once memory has run out. */
function addLimitChange(id: u32, start: u64, last: u64, accessBefore: u32, accessNow: u32): void {
  if (!limitChanges.ensure(LIMIT_CHANGE_BYTES)) return;
  const change = changetype<LimitChange>(limitChanges.extend(LIMIT_CHANGE_BYTES));
  change.start = start;
  change.last = last;
  change.sink = id;
  change.accessBefore = <u8>accessBefore;
  change.accessNow = <u8>accessNow;
}

/** Marks as touched, in the attachments of a VA space, the ranges whose limits change: where nothing may be used
 *  there is no slot. */
function markLimited(): void {
  if (limitChanges.length == 0) return;
  for (let at: u32 = 0; at < limitChanges.length; at += LIMIT_CHANGE_BYTES) {
    const change = changetype<LimitChange>(limitChanges.at(at));
    for (let sink = spaceOf(sinkOf(change.sink).space - 1).sinks; sink != 0; sink = sinkOf(sink - 1).nextOfSpace) {
      if (sinkOf(sink - 1).va == change.sink + 1) addTouched(touchedSinks, sink - 1, change.start, change.last);
    }
  }
  putInOrder(touchedSinks);
}

function planLimits(list: Vector, isTighter: bool): void {
  for (let at: u32 = 0; at < limitChanges.length; at += LIMIT_CHANGE_BYTES) {
    const change = changetype<LimitChange>(limitChanges.at(at));
    if (change.isTighter != isTighter) continue;
    emit(list, OP_VA_LIMIT, change.sink, change.start, lengthOf(change.start, change.last)).access = change.accessNow;
    joinLast(list);
  }
}

/** Enters the edits of touched ranges in the order in which they were made. */
function enterEdits(at: u32, end: u32): void {
  numbers.clear();
  for (; at < end; at += TOUCHED_BYTES) {
    if (!numbers.ensure(NUMBER_BYTES)) return;
    numbers.push64(touchedAt(touchedSinks, at).edit);
    numbers.push64(0);
  }
  sortByKeys(numbers, NUMBER_BYTES, 0, 8);
  for (let i: u32 = 0; i < numbers.length; i += NUMBER_BYTES) enterNote(load<u32>(numbers.at(i)));
}

/** Notes where the pieces are not the same. */
function diffPieces(id: u32): i32 {
  const sink = sinkOf(id);
  if (piecesNow.length != 0) {
    const end = changetype<Piece>(piecesNow.end - PIECE_BYTES);
    if (end.last > sink.last) return fail(ERR_PAST_LIMIT, end.region + 1, id + 1, end.last);
  }
  pieceWalk.begin(piecesBefore, piecesNow);
  while (pieceWalk.next()) {
    const before = pieceWalk.inLeft;
    const now = pieceWalk.inRight;
    const start = pieceWalk.start;
    if (showSame(before, now, start)) continue;
    if (!changes.ensure(CHANGE_BYTES)) return 0;
    const change = changetype<Change>(changes.extend(CHANGE_BYTES));
    zeroWords(changetype<usize>(change), CHANGE_BYTES);
    change.sink = id;
    change.start = start;
    change.last = pieceWalk.last;
    if (before != null) {
      change.pieceBefore = true;
      change.accessBefore = <u8>before.access;
      change.objectBefore = before.object;
      change.offsetBefore = before.objectOffsetAt(start);
    }
    if (now != null) {
      change.pieceNow = true;
      change.accessNow = <u8>now.access;
      change.objectNow = now.object;
      change.offsetNow = now.objectOffsetAt(start);
      change.region = now.region;
      change.offsetInRegion = now.offsetInRegion + (start - now.start);
    }
  }
  return 0;
}

// ---- The commands --------------------------------------------------------------------------

/** Emits commands for all that has changed; what other kinds refer to is settled then. Returns 0 or a code. */
export function planVa(): i32 {
  if (DEBUG) verifyChanges();
  planRemovals();
  const error = planAdditions();
  if (error != 0) return error;
  markLimited();
  if (!isLosing) forgetRetried();
  return 0;
}

/** Emits commands for everything that goes. What is mapped over directly needs none, unless its bytes must be kept. */
function planRemovals(): void {
  for (let at: u32 = 0; at < changes.length; at += CHANGE_BYTES) {
    if (!ensureStep()) return;
    const change = changetype<Change>(changes.at(at));
    if (!change.pieceBefore) continue;
    if (change.sameBytes) continue;
    if (objectOf(change.objectBefore).isMoved) {
      emitRemoval(OP_VA_PARK, change).access = change.accessBefore;
      const lastBefore = change.offsetBefore + (change.last - change.start);
      spans.erase(objectOf(change.objectBefore).shownTree, change.offsetBefore, lastBefore);
      if (change.pieceNow && change.accessBefore != 0) disturb(CLASS_CHANGED);
    } else if (!change.pieceNow || cutsPages(change)) {
      emitRemoval(OP_VA_UNMAP, change);
      if (change.pieceNow) disturb(CLASS_CHANGED);
    }
    joinLast(removalsOf(SINK_VA));
  }
  planLimits(removalsOf(SINK_VA), true);
}

function emitRemoval(op: u32, change: Change): Command {
  const length = lengthOf(change.start, change.last);
  const command = emit(removalsOf(SINK_VA), op, change.sink, change.start, length);
  command.object = change.objectBefore;
  command.offset = change.offsetBefore;
  return command;
}

/** Whether what comes has smaller pages than what it replaces, which can only go as a whole then. */
function cutsPages(change: Change): bool {
  return objectOf(change.objectNow).pageShift < objectOf(change.objectBefore).pageShift;
}

/** Emits commands for everything that comes. Returns 0 or a code. */
function planAdditions(): i32 {
  for (let at: u32 = 0; at < changes.length; at += CHANGE_BYTES) {
    if (!ensureStep()) return 0;
    const change = changetype<Change>(changes.at(at));
    if (!change.pieceNow) continue;
    let op = OP_VA_MAP;
    if (change.sameBytes) {
      op = OP_VA_PROTECT;
    } else if (objectOf(change.objectNow).isMoved) {
      op = OP_VA_UNPARK;
      const error = enterShown(change);
      if (error != 0) return error;
    }
    const length = lengthOf(change.start, change.last);
    const command = emit(additionsOf(SINK_VA), op, change.sink, change.start, length);
    command.object = change.objectNow;
    command.offset = change.offsetNow;
    command.access = change.accessNow;
    command.region = change.region;
    command.offsetInRegion = change.offsetInRegion;
    joinLast(additionsOf(SINK_VA));
  }
  planLimits(additionsOf(SINK_VA), false);
  return 0;
}

/** Notes that the sink shows private pages that come, wherever they were held. Returns 0 or a code. */
function enterShown(change: Change): i32 {
  const tree = objectOf(change.objectNow).shownTree;
  const lastNow = change.offsetNow + (change.last - change.start);
  shown.seek(tree, change.offsetNow);
  const span = shown.span;
  if (span != null && span.start <= lastNow && !sendHome(change.objectNow, change.offsetNow, lastNow)) {
    return fail(ERR_PRIVATE_TWICE, change.region + 1, change.objectNow + 1, change.start);
  }
  spans.put(tree, change.offsetNow, lastNow, change.start, change.sink, 0);
  return 0;
}
