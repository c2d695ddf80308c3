// Passes 3 and 4 for VA spaces: the difference between the pieces that there were and those that there should be, in
// the touched ranges that are looked at, and the commands in between.

import {
  ACCESS_ALL,
  CLASS_CHANGED,
  ERR_BAD_KIND,
  ERR_BAD_RANGE,
  ERR_NO_STRETCHES,
  ERR_PAST_LIMIT,
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
import { objectOf, sinkOf } from '../asked/records';
import { zeroWords } from '../base/bytes';
import { fail } from '../base/failure';
import { sortByKeys } from '../base/radix';
import { isPageAligned, LAST_BYTE, lengthOf, pageLast, pageStart } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { editOf, enterNote, enterNotes, When } from '../tree/before';
import { Stretch } from '../tree/node';
import * as spans from '../tree/spans';
import { WALK_SIZE, Walk } from '../tree/walk';
import { ensureStep } from '../undo/journal';
import { group, isGroupOfEdits, putInOrder, TOUCHED_BYTES, takeGroup, touchedAt, touchedSinks } from '../undo/touched';
import { additionsOf, Command, disturb, emit, emitOfBytes, joinMemory, joinRange, removalsOf } from './command';
import { echoLast, eraseEcho, isEcho } from './echoes';
import { assignHomes, refuseEchoes, settleEchoes } from './homes';
import { forgetRetried, heldLast, isHeld, isLosing } from './lost';
import { editedParts, heldParts, PIECE_BYTES, Piece, showSame, wantedParts } from './parts';
import { differFromParts, hasLargePages, Limit, limitsOf, makeWhole } from './pieces';
import { beginStretches, findComing, fitsStretches, planComing, planReleases, reachOf } from './stretches';
import { touchUsers } from './users';
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

/** A stretch that a removal leaves empty, until something else comes. */
@unmanaged
class Emptied extends Stretch {
  sink: u32;
  unused: u32;
}

const EMPTIED_BYTES: u32 = offsetof<Emptied>();

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
/** Stretches that are empty for a moment, or from now on where an echo is to be. */
const emptied = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Admits a VA space whose first stretch mirrors the space from GPA 0 on: see `Kind.admit`. */
export function admitVa(_space: u32, owner: u32, via: u32, offset: u64, last: u64): i32 {
  if (owner != 0 || via != 0) return fail(ERR_BAD_KIND, 0, max(owner, via));
  if (offset != 0) return fail(ERR_BAD_RANGE, 0, 0, offset);
  return isPageAligned(last + 1) ? 0 : fail(ERR_UNALIGNED, 0, 0, last + 1);
}

export function beginVa(): void {
  changes.clear();
  limitChanges.clear();
  emptied.clear();
  beginStretches();
}

// ---- The difference ------------------------------------------------------------------------

/** Notes what is to change in the VA sink's touched ranges, a run of `touchedSinks`. Returns 0 or a code. */
export function compareVa(id: u32, from: u32, end: u32): i32 {
  findComing(id, from, end);
  let reached: u64 = 0;
  for (let at = from; at < end; ) {
    const first = at;
    at = takeGroup(touchedSinks, first);
    const start = max(reached, pageStart(group.start) & ~largestPageMask);
    const last = min(pageLast(group.last) | largestPageMask, sinkOf(id).shownLast);
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

/** Marks as touched, in the users of a VA space, the ranges whose limits change: where nothing may be used there is no
 *  slot. Returns 0, or a code for an echo of which a part may not be used. */
function markLimited(): i32 {
  for (let at: u32 = 0; at < limitChanges.length; at += LIMIT_CHANGE_BYTES) {
    const change = changetype<LimitChange>(limitChanges.at(at));
    touchUsers(change.sink, change.start, change.last);
    const error = change.accessNow == ACCESS_ALL ? 0 : refuseEchoes(change.sink, change.start, change.last);
    if (error != 0) return error;
  }
  return 0;
}

function planLimits(list: Vector, isTighter: bool): void {
  for (let at: u32 = 0; at < limitChanges.length; at += LIMIT_CHANGE_BYTES) {
    const change = changetype<LimitChange>(limitChanges.at(at));
    if (change.isTighter != isTighter) continue;
    const command = emitOfBytes(list, OP_VA_LIMIT, change.sink, change.start, lengthOf(change.start, change.last));
    command.access = change.accessNow;
    joinRange(list);
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
    if (end.last > reachOf(sink)) return fail(ERR_PAST_LIMIT, end.region + 1, id + 1, end.last);
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
  const touched = touchedSinks.length;
  planComing();
  let error = planPieces();
  if (error == 0 && hasLargePages()) error = checkLargePages();
  if (error != 0) return error;
  if (touchedSinks.length != touched) putInOrder(touchedSinks);
  if (isLosing) return 0;
  forgetRetried();
  return planReleases();
}

/** Code for a large page that would lie in two stretches, or not wholly in one; 0 if there is none. */
function checkLargePages(): i32 {
  for (let at: u32 = 0; at < changes.length; at += CHANGE_BYTES) {
    const change = changetype<Change>(changes.at(at));
    if (!change.pieceNow || sinkOf(change.sink).maxStretches == 0) continue;
    const mask = objectOf(change.objectNow).pageMask;
    if (!fitsStretches(sinkOf(change.sink), change.start & ~mask, change.last | mask, mask))
      return fail(ERR_NO_STRETCHES, change.region + 1, change.sink + 1, change.start);
  }
  return 0;
}

/** Emits commands for the pieces that have changed, and for limits. Returns 0 or a code. */
function planPieces(): i32 {
  if (changes.length == 0 && limitChanges.length == 0) return 0;
  planRemovals();
  let error = assignHomes();
  if (error != 0) return error;
  noteDisturbance();
  planAdditions();
  error = settleEchoes();
  return error == 0 ? markLimited() : error;
}

/** Emits commands for everything that goes. What is mapped over directly needs none, unless its bytes must be kept. */
function planRemovals(): void {
  for (let at: u32 = 0; at < changes.length; at += CHANGE_BYTES) {
    if (!ensureStep()) return;
    const change = changetype<Change>(changes.at(at));
    if (!change.pieceBefore) continue;
    if (change.sameBytes) continue;
    if (objectOf(change.objectBefore).isMoved) {
      planParking(change);
    } else if (!change.pieceNow || cutsPages(change)) {
      emitUnmap(change, change.start, change.last);
      if (change.pieceNow) addEmptied(change.sink, change.start, change.last);
    }
  }
  planLimits(removalsOf(SINK_VA), true);
}

/** Emits commands that park the private pages that were there, as far as they were no echoes. */
function planParking(change: Change): void {
  let at = change.start;
  while (true) {
    const isEchoed = isEcho(sinkOf(change.sink), at);
    const last = min(change.last, echoLast);
    if (isEchoed) {
      eraseEcho(change.sink, at, last);
    } else {
      const command = emitRemoval(OP_VA_PARK, change, at, last);
      command.access = change.accessBefore;
      spans.erase(objectOf(change.objectBefore).shownTree, command.offset, command.offset + (last - at));
      joinMemory(removalsOf(SINK_VA));
      if (change.pieceNow && change.accessBefore != 0) addEmptied(change.sink, at, last);
    }
    if (last == change.last) return;
    at = last + 1;
  }
}

function emitUnmap(change: Change, start: u64, last: u64): void {
  emitRemoval(OP_VA_UNMAP, change, start, last);
  joinRange(removalsOf(SINK_VA));
}

/** Notes that [start, last] is empty between removals and additions. Does nothing once memory has run out. */
function addEmptied(id: u32, start: u64, last: u64): void {
  if (!emptied.ensure(EMPTIED_BYTES)) return;
  const stretch = changetype<Emptied>(emptied.extend(EMPTIED_BYTES));
  stretch.start = start;
  stretch.last = last;
  stretch.sink = id;
  stretch.unused = 0;
}

/** Says how much the plan disturbs those who use VA spaces: bytes that change are absent where one was emptied, unless
 *  nothing comes there, as the memory that is seen is mapped elsewhere. Precondition: private pages have homes. */
function noteDisturbance(): void {
  for (let at: u32 = 0; at < emptied.length; at += EMPTIED_BYTES) {
    const stretch = changetype<Emptied>(emptied.at(at));
    if (!isAllEchoes(stretch.sink, stretch.start, stretch.last)) disturb(CLASS_CHANGED);
  }
}

/** Whether nothing of [start, last] is mapped there, but elsewhere. */
function isAllEchoes(id: u32, start: u64, last: u64): bool {
  for (let at = start; isEcho(sinkOf(id), at); at = echoLast + 1) if (echoLast >= last) return true;
  return false;
}

function emitRemoval(op: u32, change: Change, start: u64, last: u64): Command {
  const command = emit(removalsOf(SINK_VA), op, change.sink, start, lengthOf(start, last));
  command.object = change.objectBefore;
  command.offset = change.offsetBefore + (start - change.start);
  return command;
}

/** Whether what comes has smaller pages than what it replaces, which can only go as a whole then. */
function cutsPages(change: Change): bool {
  return objectOf(change.objectNow).pageShift < objectOf(change.objectBefore).pageShift;
}

/** Emits commands for everything that comes. Precondition: private pages have homes. */
function planAdditions(): void {
  for (let at: u32 = 0; at < changes.length; at += CHANGE_BYTES) {
    if (!ensureStep()) return;
    const change = changetype<Change>(changes.at(at));
    if (!change.pieceNow) continue;
    if (objectOf(change.objectNow).isMoved) planShown(change);
    else emitAddition(OP_VA_MAP, change, change.start, change.last);
  }
  planLimits(additionsOf(SINK_VA), false);
}

/** Emits commands for private pages that are to be there, as far as they are no echoes: in their place is nothing. */
function planShown(change: Change): void {
  const isOver = change.pieceBefore && !objectOf(change.objectBefore).isMoved && !cutsPages(change);
  let at = change.start;
  while (true) {
    const isEchoed = isEcho(sinkOf(change.sink), at);
    const last = min(change.last, echoLast);
    if (!isEchoed) emitAddition(OP_VA_UNPARK, change, at, last);
    else if (isOver) emitUnmap(change, at, last);
    if (last == change.last) return;
    at = last + 1;
  }
}

/** Emits the command `op` that shows memory; of bytes that stay, the one that gives them their access. */
function emitAddition(op: u32, change: Change, start: u64, last: u64): void {
  const additions = additionsOf(SINK_VA);
  const command = emit(additions, change.sameBytes ? OP_VA_PROTECT : op, change.sink, start, lengthOf(start, last));
  command.object = change.objectNow;
  command.offset = change.offsetNow + (start - change.start);
  command.access = change.accessNow;
  command.region = change.region;
  command.offsetInRegion = change.offsetInRegion + (start - change.start);
  if (change.sameBytes) joinRange(additions);
  else joinMemory(additions);
}
