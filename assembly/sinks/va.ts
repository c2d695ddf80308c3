// Passes 3 and 4 for VA spaces: the difference between the pieces that there were and those that there should be, in the windows
// that are looked at, and the commands in between.

import {
  ACCESS_ALL,
  CLASS_CHANGED,
  CLASS_NONE,
  CLASS_UNCHANGED_BYTES,
  ERR_PAST_LIMIT,
  ERR_PRIVATE_TWICE,
  OBJECT_PRIVATE,
  OP_VA_LIMIT,
  OP_VA_MAP,
  OP_VA_PARK,
  OP_VA_PROTECT,
  OP_VA_UNMAP,
  OP_VA_UNPARK,
} from '../abi';
import { largestPageMask } from '../asked/mapping';
import { objectOf, sinkOf, spaceOf } from '../asked/records';
import { zeroWords } from '../base/bytes';
import { fail } from '../base/failure';
import { sortByKeys } from '../base/radix';
import { LAST_BYTE, lengthOf, pageLast, pageStart } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { editOf, enterNote, enterNotes } from '../tree/before';
import { Span } from '../tree/node';
import * as spans from '../tree/spans';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { WALK_SIZE, Walk } from '../tree/walk';
import { ensureStep } from '../undo/journal';
import {
  addWindow,
  group,
  isGroupOfEdits,
  putInOrder,
  sinkWindows,
  takeGroup,
  WINDOW_BYTES,
  windowAt,
} from '../undo/touched';
import { emitVa, vaAdditions, vaRemovals } from './command';
import { heldLast, isHeld, sendHome } from './lost';
import { editedParts, formerParts, PIECE_BYTES, Piece, showSame, wantedParts } from './parts';
import { hasLargePages, heldLimits, heldPieces, limitsOf, makeWhole } from './pieces';

/** A stretch whose piece is not what it was. */
@unmanaged
export class Change {
  sink: u32;
  hadPiece: bool;
  hasPiece: bool;
  oldAccess: u8;
  newAccess: u8;
  start: u64;
  last: u64;
  oldOffset: u64;
  newOffset: u64;
  oldObject: u32;
  newObject: u32;
  region: u32;
  unused: u32;
  offsetInRegion: u64;

  get sameBytes(): bool {
    return this.hadPiece && this.hasPiece && this.oldObject == this.newObject && this.oldOffset == this.newOffset;
  }
}

export const CHANGE_BYTES: u32 = offsetof<Change>();

/** A stretch in which the monitor may use another access than before: ACCESS_ALL for all that is mapped. */
@unmanaged
class LimitChange {
  start: u64;
  last: u64;
  sink: u32;
  oldAccess: u8;
  newAccess: u8;

  /** Whether it takes something away. */
  get isTighter(): bool {
    return (this.oldAccess & ~this.newAccess) != 0;
  }
}

/** The access that a limit of which nothing is known may leave: more than any other. */
const UNKNOWN_ACCESS: u32 = 0xff;
const LIMIT_CHANGE_BYTES: u32 = offsetof<LimitChange>();
const SPAN_BYTES: u32 = offsetof<Span>();

const shown = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));
const walk = changetype<Walk>(memory.data(WALK_SIZE, 8));

const former = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const wanted = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** With large pages: the parts that the pieces above are made of, and what may not be used of them. */
const partsBefore = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const partsNow = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const limitsBefore = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const limitsNow = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const limitChanges = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Numbers of edits, each with a word of nothing behind it. */
const numbers = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const NUMBER_BYTES: u32 = 16;
export const changes = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** How much VA spaces themselves disturb the guest by this plan. */
export let vaClass: u32 = CLASS_NONE;

export function beginVa(): void {
  changes.clear();
  limitChanges.clear();
  vaClass = CLASS_NONE;
}

// ---- The difference ------------------------------------------------------------------------

/** Notes what is to change in the VA sink's windows, a run of `sinkWindows`. Returns 0 or a code. */
export function diffVa(id: u32, from: u32, end: u32): i32 {
  let reached: u64 = 0;
  for (let at = from; at < end; ) {
    const first = at;
    at = takeGroup(sinkWindows, first);
    const start = max(reached, pageStart(group.start) & ~largestPageMask);
    const last = pageLast(group.last) | largestPageMask;
    if (start <= last) {
      let error = hasLargePages() ? findLargePieces(id, start, last) : findPieces(id, start, last, first, at);
      if (error == 0) error = diffPieces(id);
      if (error != 0) return error;
    }
    if (last == LAST_BYTE) break;
    reached = last + 1;
  }
  return 0;
}

/** The pieces in `group`, which is made of the windows from `at` to `end`. */
function findPieces(id: u32, start: u64, last: u64, at: u32, end: u32): i32 {
  const sink = sinkOf(id);
  former.clear();
  wanted.clear();
  if (group.edit != 0 && sink.lost == 0 && editedParts(sink, start, last, editOf(group.edit), former, wanted)) return 0;
  if (isGroupOfEdits) enterEdits(at, end);
  else enterNotes();
  formerParts(sink, start, last, former);
  wantedParts(sink, start, last, wanted);
  return 0;
}

/** The same where pages may be large: [start, last] are whole ones. Notes what is to change in limits. Returns 0 or a code. */
function findLargePieces(id: u32, start: u64, last: u64): i32 {
  const sink = sinkOf(id);
  partsBefore.clear();
  partsNow.clear();
  const isWithin = pageStart(group.start) <= start && pageLast(group.last) == last;
  const mayFollow = isWithin && group.edit != 0 && sink.lost == 0;
  if (!mayFollow || !editedParts(sink, start, last, editOf(group.edit), partsBefore, partsNow)) {
    enterNotes();
    formerParts(sink, start, last, partsBefore);
    wantedParts(sink, start, last, partsNow);
  }
  former.clear();
  wanted.clear();
  makeWhole(partsBefore, former);
  const error = makeWhole(partsNow, wanted);
  if (error == 0) {
    forgetLimits(id, start, last);
    diffLimits(id);
  }
  return error;
}

/** Nobody knows the limits of lost ranges: they are taken away before others are set. */
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
  limitsOf(former, partsBefore, limitsBefore);
  limitsOf(wanted, partsNow, limitsNow);
  walk.begin(limitsBefore.at(0), limitsBefore.end, limitsNow.at(0), limitsNow.end, SPAN_BYTES);
  while (walk.next()) {
    const had = walk.inLeft;
    const has = walk.inRight;
    const oldAccess = had == null ? ACCESS_ALL : had.c;
    const newAccess = has == null ? ACCESS_ALL : has.c;
    if (oldAccess != newAccess) addLimitChange(id, walk.start, walk.last, oldAccess, newAccess);
  }
}

/** Does nothing once memory has run out. */
function addLimitChange(id: u32, start: u64, last: u64, oldAccess: u32, newAccess: u32): void {
  if (!limitChanges.ensure(LIMIT_CHANGE_BYTES)) return;
  const change = changetype<LimitChange>(limitChanges.extend(LIMIT_CHANGE_BYTES));
  change.start = start;
  change.last = last;
  change.sink = id;
  change.oldAccess = <u8>oldAccess;
  change.newAccess = <u8>newAccess;
}

/** Partitions have no slots where the monitor may use nothing: they are looked at where that changes. */
export function markLimited(): void {
  if (limitChanges.length == 0) return;
  for (let at: u32 = 0; at < limitChanges.length; at += LIMIT_CHANGE_BYTES) {
    const change = changetype<LimitChange>(limitChanges.at(at));
    for (let sink = spaceOf(sinkOf(change.sink).space - 1).sinks; sink != 0; sink = sinkOf(sink - 1).nextOfSpace) {
      if (sinkOf(sink - 1).va == change.sink + 1) addWindow(sinkWindows, sink - 1, change.start, change.last);
    }
  }
  putInOrder(sinkWindows);
}

function planLimits(list: Vector, isTighter: bool): void {
  for (let at: u32 = 0; at < limitChanges.length; at += LIMIT_CHANGE_BYTES) {
    const change = changetype<LimitChange>(limitChanges.at(at));
    if (change.isTighter != isTighter) continue;
    emitVa(list, OP_VA_LIMIT, change.sink, change.start, lengthOf(change.start, change.last), 0, 0, change.newAccess);
  }
}

/** Enters the edits of windows in the order in which they were made. */
function enterEdits(at: u32, end: u32): void {
  numbers.clear();
  for (; at < end; at += WINDOW_BYTES) {
    if (!numbers.ensure(NUMBER_BYTES)) return;
    numbers.push64(windowAt(sinkWindows, at).edit);
    numbers.push64(0);
  }
  sortByKeys(numbers, NUMBER_BYTES, 0, 8);
  for (let i: u32 = 0; i < numbers.length; i += NUMBER_BYTES) enterNote(load<u32>(numbers.at(i)));
}

/** Notes where the pieces are not the same. */
function diffPieces(id: u32): i32 {
  const sink = sinkOf(id);
  if (wanted.length != 0) {
    const end = changetype<Piece>(wanted.end - PIECE_BYTES);
    if (end.last > sink.last) return fail(ERR_PAST_LIMIT, end.region + 1, id + 1, end.last);
  }
  walk.begin(former.at(0), former.end, wanted.at(0), wanted.end, PIECE_BYTES);
  while (walk.next()) {
    const had = walk.inLeft;
    const has = changetype<Piece | null>(walk.inRight);
    if (showSame(had, has, walk.start)) continue;
    if (!changes.ensure(CHANGE_BYTES)) return 0;
    const change = changetype<Change>(changes.extend(CHANGE_BYTES));
    zeroWords(changetype<usize>(change), CHANGE_BYTES);
    change.sink = id;
    change.start = walk.start;
    change.last = walk.last;
    if (had != null) {
      change.hadPiece = true;
      change.oldAccess = <u8>had.c;
      change.oldObject = had.b;
      change.oldOffset = had.aAt(walk.start);
    }
    if (has != null) {
      change.hasPiece = true;
      change.newAccess = <u8>has.c;
      change.newObject = has.b;
      change.newOffset = has.aAt(walk.start);
      change.region = has.region;
      change.offsetInRegion = has.offsetInRegion + (walk.start - has.start);
    }
  }
  return 0;
}

// ---- The commands --------------------------------------------------------------------------

/** Commands for everything that goes. What is mapped over directly needs none, unless its bytes must be kept. */
export function planVaRemovals(): void {
  for (let at: u32 = 0; at < changes.length; at += CHANGE_BYTES) {
    if (!ensureStep()) return;
    const change = changetype<Change>(changes.at(at));
    if (!change.hadPiece) continue;
    const length = lengthOf(change.start, change.last);
    if (!change.sameBytes) {
      if (objectOf(change.oldObject).kind == OBJECT_PRIVATE) {
        emitVa(
          vaRemovals,
          OP_VA_PARK,
          change.sink,
          change.start,
          length,
          change.oldObject,
          change.oldOffset,
          change.oldAccess,
        );
        spans.erase(objectOf(change.oldObject).shownSlot, change.oldOffset, change.oldOffset + (length - 1));
        if (change.hasPiece && change.oldAccess != 0) vaClass = CLASS_CHANGED;
      } else if (!change.hasPiece || cutsPages(change)) {
        emitVa(vaRemovals, OP_VA_UNMAP, change.sink, change.start, length, change.oldObject, change.oldOffset, 0);
        if (change.hasPiece) vaClass = CLASS_CHANGED;
      }
    }
  }
  planLimits(vaRemovals, true);
}

/** Whether what comes has smaller pages than what it replaces, which can only go as a whole then. */
function cutsPages(change: Change): bool {
  return objectOf(change.newObject).pageShift < objectOf(change.oldObject).pageShift;
}

/** Commands for everything that comes. Returns 0 or a code. */
export function planVaAdditions(): i32 {
  for (let at: u32 = 0; at < changes.length; at += CHANGE_BYTES) {
    if (!ensureStep()) return 0;
    const change = changetype<Change>(changes.at(at));
    if (!change.hasPiece) continue;
    const length = lengthOf(change.start, change.last);
    let op = OP_VA_MAP;
    if (change.sameBytes) {
      op = OP_VA_PROTECT;
    } else if (objectOf(change.newObject).kind == OBJECT_PRIVATE) {
      op = OP_VA_UNPARK;
      const slot = objectOf(change.newObject).shownSlot;
      shown.seek(slot, change.newOffset);
      const span = shown.span;
      const newLast = change.newOffset + (length - 1);
      if (span != null && span.start <= newLast && !sendHome(change.newObject, change.newOffset, newLast)) {
        return fail(ERR_PRIVATE_TWICE, change.region + 1, change.newObject + 1, change.start);
      }
      spans.put(slot, change.newOffset, newLast, change.start, change.sink, 0);
    }
    const command = emitVa(
      vaAdditions,
      op,
      change.sink,
      change.start,
      length,
      change.newObject,
      change.newOffset,
      change.newAccess,
    );
    if (command.length == length) {
      command.region = change.region;
      command.offsetInRegion = change.offsetInRegion;
    }
  }
  planLimits(vaAdditions, false);
  return 0;
}

/**
 * What of [start, last] of a VA sink is mapped before and after the plan: CLASS_UNCHANGED_BYTES if some byte of it stays
 * the same, CLASS_CHANGED if all of it changes, CLASS_NONE if there is none. Precondition: the plan's VA part is made.
 */
export function bytesKept(va: u32, start: u64, last: u64): u32 {
  let result: u32 = CLASS_NONE;
  let at = start;
  let index = firstChange(va, start);
  while (true) {
    const change = changetype<Change>(changes.at(index));
    const isLast = index == changes.length || change.sink != va || change.start > last;
    // Up to the next change everything is as it was.
    if (isLast || change.start > at) {
      wanted.clear();
      wantedParts(sinkOf(va), at, isLast ? last : change.start - 1, wanted, PIECE_BYTES);
      if (wanted.length != 0) return CLASS_UNCHANGED_BYTES;
    }
    if (isLast) return result;
    if (change.sameBytes) return CLASS_UNCHANGED_BYTES;
    if (change.hadPiece && change.hasPiece) result = CLASS_CHANGED;
    if (change.last >= last) return result;
    at = change.last + 1;
    index += CHANGE_BYTES;
  }
}

/** Where in `changes`, which are in order of sink and address, the first is that ends at or after `at`. */
function firstChange(va: u32, at: u64): u32 {
  let low: u32 = 0;
  let high: u32 = changes.length / CHANGE_BYTES;
  while (low < high) {
    const middle = (low + high) >> 1;
    const change = changetype<Change>(changes.at(middle * CHANGE_BYTES));
    if (change.sink < va || (change.sink == va && change.last < at)) low = middle + 1;
    else high = middle;
  }
  return low * CHANGE_BYTES;
}

/** Appends commands that make [start, last] what the rolled back state says. Private pieces come by their own, and large pages
 *  that lie in it only in part by the command that took them away. */
export function restoreRange(id: u32, start: u64, last: u64, out: Vector): void {
  wanted.clear();
  heldPieces(sinkOf(id), start, last, wanted);
  // Smaller pages cannot be mapped over a part of a large one that is there now.
  if (hasLargePages()) emitVa(out, OP_VA_UNMAP, id, start, lengthOf(start, last), 0, 0, 0);
  let at = start;
  for (let i: u32 = 0; i < wanted.length; i += PIECE_BYTES) {
    const piece = changetype<Piece>(wanted.at(i));
    const object = objectOf(piece.b);
    if (object.kind == OBJECT_PRIVATE || ((piece.start | (piece.last + 1)) & object.pageMask) != 0) continue;
    if (at < piece.start) emitVa(out, OP_VA_UNMAP, id, at, piece.start - at, 0, 0, 0);
    emitVa(out, OP_VA_MAP, id, piece.start, lengthOf(piece.start, piece.last), piece.b, piece.a, piece.c);
    if (piece.last == last) return;
    at = piece.last + 1;
  }
  emitVa(out, OP_VA_UNMAP, id, at, lengthOf(at, last), 0, 0, 0);
}

/** Appends commands that give every piece in [start, last] the access that the rolled back state says. */
export function restoreAccess(id: u32, start: u64, last: u64, out: Vector): void {
  wanted.clear();
  heldPieces(sinkOf(id), start, last, wanted);
  for (let i: u32 = 0; i < wanted.length; i += PIECE_BYTES) {
    const piece = changetype<Piece>(wanted.at(i));
    emitVa(out, OP_VA_PROTECT, id, piece.start, lengthOf(piece.start, piece.last), piece.b, piece.a, piece.c);
  }
}

/** Appends commands that limit what may be used of [start, last] as it should be. */
export function restoreLimits(id: u32, start: u64, last: u64, out: Vector): void {
  limitsNow.clear();
  heldLimits(sinkOf(id), start, last, limitsNow);
  let at = start;
  for (let i: u32 = 0; i < limitsNow.length; i += SPAN_BYTES) {
    const limit = changetype<Span>(limitsNow.at(i));
    if (limit.last < at || limit.start > last) continue;
    if (limit.start > at) emitVa(out, OP_VA_LIMIT, id, at, limit.start - at, 0, 0, ACCESS_ALL);
    const from = max(at, limit.start);
    const to = min(last, limit.last);
    emitVa(out, OP_VA_LIMIT, id, from, lengthOf(from, to), 0, 0, limit.c);
    if (to == last) return;
    at = to + 1;
  }
  emitVa(out, OP_VA_LIMIT, id, at, lengthOf(at, last), 0, 0, ACCESS_ALL);
}
