// Stretches of VA spaces: host addresses are reserved stretch by stretch, and HVA = base of its stretch + GPA. The
// first stretch, from GPA 0 on, is there from the beginning. Behind it, others come with the memory that is seen
// there and go with it: firmware places BARs at the top of the guest's addresses, of which no process could reserve
// all.
//
//   flat view  |ram  |..mmio..|ram|         ...        |bar||bar|       ...       |bar     |
//   stretches  |the first, whole        |              |unit    |                 |unit|unit|
//
// A stretch is whole units. It never changes while anything of it is seen: what comes beside it gets another one. A
// plan reserves stretches before it maps anything; those of which nothing is seen any more are given back when it has
// been adopted, so that taking a plan back never needs addresses that are gone.

import {
  ERR_BAD_KIND,
  ERR_BAD_RANGE,
  ERR_NO_STRETCHES,
  MAX_PAGE_SHIFT,
  OP_VA_RELEASE,
  OP_VA_RESERVE,
  PAGE_SHIFT,
  SINK_VA,
} from '../abi';
import { largestPageMask } from '../asked/mapping';
import { Sink, sinkOf, sinks, spaceOf, writableSink } from '../asked/records';
import { FlatRange, LostRange } from '../asked/views';
import { copyWords } from '../base/bytes';
import { fail } from '../base/failure';
import { clearExhausted, exhausted } from '../base/heap';
import { LAST_BYTE, lengthOf } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { Span } from '../tree/node';
import * as tree from '../tree/tree';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { ensureStep } from '../undo/journal';
import { group, runEnd, takeGroup, touchedAt, touchedSinks } from '../undo/touched';
import { additionsOf, emit, releases } from './command';
import { fitsPages } from './parts';

const SPAN_BYTES: u32 = offsetof<Span>();

const cursor = changetype<Cursor<Span>>(memory.data(CURSOR_SIZE, 8));
const flat = changetype<Cursor<FlatRange>>(memory.data(CURSOR_SIZE, 8));
const lost = changetype<Cursor<LostRange>>(memory.data(CURSOR_SIZE, 8));

/** Stretches that come with the plan, as Spans: b = VA sink, c = region whose memory is seen there first. */
const coming = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Stretches that are looked at, as Spans. */
const found = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

// ---- Where what lies -----------------------------------------------------------------------

/** The last GPA that a sink can have anything at: a VA space with stretches, as far as those may come. */
export function reachOf(sink: Sink): u64 {
  return sink.maxStretches == 0 ? sink.last : sink.shownLast;
}

/** Last GPA of the stretch of a VA space that has `gpa`; where none has it, the last before the next one. */
export function stretchLast(va: Sink, gpa: u64): u64 {
  if (gpa <= va.last) return va.last;
  cursor.seek(va.stretchesTree, gpa);
  const stretch = cursor.span;
  if (stretch == null) return LAST_BYTE;
  return stretch.start <= gpa ? stretch.last : stretch.start - 1;
}

/** Whether [start, last] of a VA space lies in stretches, none of which ends inside of a page of a `pageMask`. */
export function fitsStretches(va: Sink, start: u64, last: u64, pageMask: u64): bool {
  let at = start;
  while (true) {
    let end = va.last;
    if (at > end) {
      cursor.seek(va.stretchesTree, at);
      const stretch = cursor.span;
      if (stretch == null || stretch.start > at) return false;
      end = stretch.last;
    }
    if (end >= last) return true;
    if (((end + 1) & pageMask) != 0) return false;
    at = end + 1;
  }
}

/** Lets a VA sink that the transaction attaches have stretches behind its first one: so many, of so many bytes
 *  together, of whole units of 2^`shift` bytes. Returns 0 or a code. */
export function allowStretches(id: u32, count: u32, bytes: u64, shift: u32): i32 {
  const sink = sinkOf(id);
  if (sink.kind != <u8>SINK_VA || !sink.attaching) return fail(ERR_BAD_KIND, 0, id + 1);
  if (shift < <u32>PAGE_SHIFT || shift > <u32>MAX_PAGE_SHIFT) return fail(ERR_BAD_RANGE, 0, id + 1, shift);
  const limited = writableSink(id);
  limited.maxStretches = count;
  limited.maxStretchBytes = bytes;
  limited.stretchShift = shift;
  return 0;
}

// ---- What comes ----------------------------------------------------------------------------

/** Forgets what came with the plan before. */
export function beginStretches(): void {
  coming.clear();
}

/** Finds the stretches that come for what is seen in the touched ranges of a VA sink, a run of `touchedSinks`. */
export function findComing(id: u32, from: u32, end: u32): void {
  const sink = sinkOf(id);
  if (sink.maxStretches == 0 || sink.detaching) return;
  for (let at = from; at < end && ensureStep(); ) {
    at = takeGroup(touchedSinks, at);
    const last = min(group.last, sink.shownLast);
    if (last > sink.last) coverSeen(id, max(group.start, sink.last + 1), last);
  }
}

/** Covers the memory that reaches into [start, last] by stretches. */
function coverSeen(id: u32, start: u64, last: u64): void {
  const sink = sinkOf(id);
  const unitMask = max(((<u64>1) << sink.stretchShift) - 1, largestPageMask);
  flat.seek(spaceOf(sink.space - 1).flatTree, start);
  for (let range = flat.span; range != null && range.start <= last; range = flat.span) {
    if (fitsPages(range)) {
      const from = max(sink.last + 1, range.start & ~unitMask);
      cover(id, from, min(sink.shownLast, range.last | unitMask), range.region);
    }
    flat.next();
  }
}

/** Adds to the stretches that come what none has yet of [start, last]. Precondition: the ranges of a sink come in
 *  order. */
function cover(id: u32, start: u64, last: u64, region: u32): void {
  const stretches = sinkOf(id).stretchesTree;
  let at = start;
  if (coming.length != 0) {
    const before = changetype<Span>(coming.end - SPAN_BYTES);
    if (before.b == id && before.last >= at) at = before.last + 1;
  }
  while (at <= last) {
    cursor.seek(stretches, at);
    const stretch = cursor.span;
    if (stretch == null || stretch.start > last) {
      addComing(id, at, last, region);
      return;
    }
    if (stretch.start > at) addComing(id, at, stretch.start - 1, region);
    at = stretch.last + 1;
  }
}

/** Adds a stretch that comes, or makes the last one longer. Does nothing once memory has run out. */
function addComing(id: u32, start: u64, last: u64, region: u32): void {
  if (coming.length != 0) {
    const before = changetype<Span>(coming.end - SPAN_BYTES);
    if (before.b == id && before.last + 1 == start) {
      before.last = last;
      return;
    }
  }
  if (!coming.ensure(SPAN_BYTES)) return;
  const stretch = changetype<Span>(coming.extend(SPAN_BYTES));
  stretch.start = start;
  stretch.last = last;
  stretch.a = 0;
  stretch.b = id;
  stretch.c = region;
}

/** Emits commands for the stretches that come. */
export function planComing(): void {
  for (let at: u32 = 0; at < coming.length; at += SPAN_BYTES) {
    if (!ensureStep()) return;
    const stretch = changetype<Span>(coming.at(at));
    emit(additionsOf(SINK_VA), OP_VA_RESERVE, stretch.b, stretch.start, lengthOf(stretch.start, stretch.last));
    enter(stretch.b, stretch.start, stretch.last);
  }
}

function enter(id: u32, start: u64, last: u64): void {
  tree.insert(sinkOf(id).stretchesTree, start, last, 0, 0, 0);
  const sink = writableSink(id);
  sink.stretchCount += 1;
  sink.stretchBytes += lengthOf(start, last);
}

/** Enters [start, last] of a VA sink as a stretch, unless it is one: one that came with a plan that was taken back, but
 *  for what is lost in it. */
export function keepStretch(id: u32, start: u64, last: u64): void {
  const sink = sinkOf(id);
  if (last <= sink.last || !ensureStep()) return;
  cursor.seek(sink.stretchesTree, start);
  const stretch = cursor.span;
  if (stretch == null || stretch.start > last) enter(id, start, last);
}

// ---- What goes -----------------------------------------------------------------------------

/** Emits commands for the stretches of which nothing is seen any more. Precondition: what is lost and tried again is
 *  lost no more. Returns 0, or a code where a sink has more stretches than it may. */
export function planReleases(): i32 {
  for (let at: u32 = 0; at < touchedSinks.length; ) {
    const id = touchedAt(touchedSinks, at).owner;
    const end = runEnd(touchedSinks, at);
    if (sinks.isAlive(id) && sinkOf(id).stretches != 0) releaseUnused(id, at, end);
    at = end;
  }
  for (let at: u32 = 0; at < coming.length; at += SPAN_BYTES) {
    const stretch = changetype<Span>(coming.at(at));
    const sink = sinkOf(stretch.b);
    if (sink.stretchCount > sink.maxStretches || sink.stretchBytes > sink.maxStretchBytes)
      return fail(ERR_NO_STRETCHES, stretch.c + 1, stretch.b + 1, stretch.start);
  }
  return 0;
}

/** Gives back stretches in the touched ranges of a VA sink, a run of `touchedSinks`. */
function releaseUnused(id: u32, from: u32, end: u32): void {
  const sink = sinkOf(id);
  for (let at = from; at < end && ensureStep(); ) {
    at = takeGroup(touchedSinks, at);
    findStretches(sink, group.start, group.last);
    for (let i: u32 = 0; i < found.length && ensureStep(); i += SPAN_BYTES) {
      const stretch = changetype<Span>(found.at(i));
      if (isUsed(sink, stretch.start, stretch.last)) continue;
      const bytes = lengthOf(stretch.start, stretch.last);
      emit(releases, OP_VA_RELEASE, id, stretch.start, bytes);
      tree.remove(sink.stretchesTree, stretch.start, 0);
      const changed = writableSink(id);
      changed.stretchCount -= 1;
      changed.stretchBytes -= bytes;
    }
  }
}

/** Makes `found` of the stretches of a sink that reach into [start, last]. */
function findStretches(sink: Sink, start: u64, last: u64): void {
  found.clear();
  cursor.seek(sink.stretchesTree, start);
  for (let span = cursor.span; span != null && span.start <= last; span = cursor.span) {
    if (!found.ensure(SPAN_BYTES)) return;
    copyWords(found.extend(SPAN_BYTES), changetype<usize>(span), SPAN_BYTES);
    cursor.next();
  }
}

/** Whether something is seen in [start, last] that takes host addresses, or is lost there. */
function isUsed(sink: Sink, start: u64, last: u64): bool {
  lost.seek(sink.lostTree, start);
  const range = lost.span;
  if (range != null && range.start <= last) return true;
  if (sink.detaching) return false;
  flat.seek(spaceOf(sink.space - 1).flatTree, start);
  for (let seen = flat.span; seen != null && seen.start <= last; seen = flat.span) {
    if (fitsPages(seen)) return true;
    flat.next();
  }
  return false;
}

// ---- Invariants ----------------------------------------------------------------------------

/** Asserts that stretches of a VA sink lie behind its first one, that all are used, and that all memory is in one. */
export function verifyStretches(id: u32): void {
  const sink = sinkOf(id);
  let count: u32 = 0;
  let bytes: u64 = 0;
  findStretches(sink, 0, LAST_BYTE);
  if (exhausted) {
    clearExhausted();
    return;
  }
  for (let at: u32 = 0; at < found.length; at += SPAN_BYTES) {
    const stretch = changetype<Span>(found.at(at));
    assert(stretch.start > sink.last && isUsed(sink, stretch.start, stretch.last));
    count += 1;
    bytes += lengthOf(stretch.start, stretch.last);
  }
  assert(count == sink.stretchCount && bytes == sink.stretchBytes);
  if (sink.maxStretches == 0) return;
  const last = sink.shownLast;
  flat.seek(spaceOf(sink.space - 1).flatTree, min(sink.last, last));
  for (let range = flat.span; range != null && range.start <= last; range = flat.span) {
    if (fitsPages(range)) verifyCovered(sink, max(range.start, sink.last + 1), min(range.last, last));
    flat.next();
  }
}

/** Asserts that all of [start, last], behind the first stretch, is in stretches. */
function verifyCovered(sink: Sink, start: u64, last: u64): void {
  for (let at = start; at <= last; at = cursor.last + 1) {
    cursor.seek(sink.stretchesTree, at);
    assert(cursor.span != null && cursor.start <= at);
  }
}
