// Views: a VA space as one of its users may use it, by protections that are the view's own. Nothing is mapped for a
// view: accesses through it are checked. Its state is the tree of what may be used:
//
//   [start, last] -> c = ACCESS_READ, or that and ACCESS_WRITE (a counts on from the GPA, b is 0)
//
// Where nothing is in the tree, nothing may be used. Whether something is there to be used, is the VA space's matter.

import {
  ACCESS_ALL,
  ACCESS_READ,
  ACCESS_WRITE,
  ERR_BAD_KIND,
  ERR_BAD_RANGE,
  ERR_UNALIGNED,
  OP_VIEW_LIMIT,
  SINK_VIEW,
} from '../abi';
import { Sink, sinkOf, sinks } from '../asked/records';
import { Opening } from '../asked/views';
import { fail } from '../base/failure';
import { clearExhausted, exhausted } from '../base/heap';
import { isPageAligned, lastOf, lengthOf, pageLast, pageStart } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { When } from '../tree/before';
import * as spans from '../tree/spans';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { WALK_SIZE, Walk } from '../tree/walk';
import { ensureStep } from '../undo/journal';
import { group, takeGroup, touchedSinks } from '../undo/touched';
import { additionsOf, Command, emit, inversePlan, joinRange, removalsOf } from './command';
import { heldLast, isHeld, noteLost } from './lost';
import { protectedAccess, protectionLast } from './parts';
import { reachOf } from './stretches';
import { refuseVa } from './users';
import { fillSeen } from './va-rows';

const OPENING_BYTES: u32 = offsetof<Opening>();

const state = changetype<Cursor<Opening>>(memory.data(CURSOR_SIZE, 8));
const walk = changetype<Walk<Opening>>(memory.data(WALK_SIZE, 8));
/** Openings that there are in a stretch, and that there should be. */
const current = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const wanted = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Openings that new ones replace, which nobody looks at. */
const replaced = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** A view of the VA sink `via`, of the GPAs that this has, up to `last`. */
export function admitView(space: u32, owner: u32, via: u32, offset: u64, last: u64): i32 {
  if (owner != 0) return fail(ERR_BAD_KIND, 0, owner);
  const error = refuseVa(via, space);
  if (error != 0) return error;
  if (offset != 0 || last > reachOf(sinkOf(via - 1))) return fail(ERR_BAD_RANGE, 0, via, last);
  return isPageAligned(last + 1) ? 0 : fail(ERR_UNALIGNED, 0, 0, last + 1);
}

// ---- The difference, and the commands ------------------------------------------------------

/** Plans what is to be used otherwise than before in the touched ranges of a view, a run of `touchedSinks`. */
export function compareView(id: u32, from: u32, end: u32): i32 {
  for (let at = from; at < end && ensureStep(); ) {
    at = takeGroup(touchedSinks, at);
    const start = pageStart(group.start);
    const last = min(pageLast(group.last), sinkOf(id).last);
    if (start <= last) diffStretch(id, start, last);
  }
  return 0;
}

function diffStretch(id: u32, start: u64, last: u64): void {
  const tree = sinkOf(id).stateTree;
  current.clear();
  wanted.clear();
  state.seek(tree, start);
  for (let span = state.span; span != null && span.start <= last; span = state.span) {
    append(current, max(start, span.start), min(last, span.last), span.access);
    state.next();
  }
  appendWanted(sinkOf(id), start, last, wanted);
  walk.begin(current, wanted);
  while (walk.next() && ensureStep()) {
    const before = walk.inLeft;
    const now = walk.inRight;
    const accessBefore = before == null ? 0 : before.access;
    const accessNow = now == null ? 0 : now.access;
    if (accessBefore == accessNow) continue;
    const isTighter = (accessBefore & ~accessNow) != 0;
    emitLimit(isTighter ? removalsOf(SINK_VIEW) : additionsOf(SINK_VIEW), id, walk.start, walk.last, accessNow);
    replaced.clear();
    if (accessNow == 0) spans.erase(tree, walk.start, walk.last);
    else spans.overwrite(tree, walk.start, walk.last, walk.start, 0, accessNow, replaced);
  }
}

/** Appends the openings that the view should have in [start, last]. */
function appendWanted(view: Sink, start: u64, last: u64, out: Vector): void {
  if (view.detaching) return;
  for (let at = start; ; ) {
    const left = protectedAccess(view, at, last, ACCESS_ALL, When.Now);
    let partLast = min(last, protectionLast);
    const isThere = isHeld(view, at);
    partLast = min(partLast, heldLast);
    if (isThere && (left & ACCESS_READ) != 0) append(out, at, partLast, left & (ACCESS_READ | ACCESS_WRITE));
    if (partLast == last) return;
    at = partLast + 1;
  }
}

/** Appends an opening, or makes the last one reach on. Does nothing once memory has run out. */
function append(out: Vector, start: u64, last: u64, access: u32): void {
  if (out.length != 0) {
    const before = changetype<Opening>(out.end - OPENING_BYTES);
    if (before.last == start - 1 && before.access == access) {
      before.last = last;
      return;
    }
  }
  if (!out.ensure(OPENING_BYTES)) return;
  const opening = changetype<Opening>(out.extend(OPENING_BYTES));
  opening.start = start;
  opening.last = last;
  opening.a = start;
  opening.b = 0;
  opening.c = access;
}

function emitLimit(list: Vector, id: u32, start: u64, last: u64, access: u32): void {
  emit(list, OP_VIEW_LIMIT, id, start, lengthOf(start, last)).access = access;
  joinRange(list);
}

// ---- Back, lost, and out -------------------------------------------------------------------

/** Emits what lets the range of a command be used as the rolled back state says. */
export function takeViewBack(command: Command): void {
  const id = command.sink;
  const last = lastOf(command.gpa, command.length);
  let at = command.gpa;
  // A view that came with the transaction lets nothing be used.
  if (sinks.isAlive(id)) {
    state.seek(sinkOf(id).stateTree, at);
    for (let span = state.span; span != null && span.start <= last; span = state.span) {
      if (span.start > at) emitLimit(inversePlan, id, at, span.start - 1, 0);
      at = max(at, span.start);
      const to = min(last, span.last);
      emitLimit(inversePlan, id, at, to, span.access);
      if (to == last) return;
      at = to + 1;
      state.next();
    }
  }
  emitLimit(inversePlan, id, at, last, 0);
}

export function takeHalfViewBack(command: Command, _moved: u64): void {
  takeViewBack(command);
}

/** Notes that nothing of [start, last] may be used. */
export function loseView(id: u32, start: u64, last: u64, _object: u32, _offset: u64): i32 {
  if (!ensureStep()) return 0;
  spans.erase(sinkOf(id).stateTree, start, last);
  noteLost(sinkOf(id), start, last);
  return 0;
}

/** Fills rows with the parts of the VA space in [from, last] that may be used. What may be used has no other time: a
 *  plan enters it as it is made. */
export function readView(id: u32, from: u64, last: u64, when: When): i32 {
  const view = sinkOf(id);
  return fillSeen(sinkOf(view.va - 1), view.stateTree, from, last, when);
}

// ---- Invariants ----------------------------------------------------------------------------

/** Asserts that what may be used is what should be. */
export function verifyView(id: u32): void {
  const view = sinkOf(id);
  wanted.clear();
  appendWanted(view, 0, view.last, wanted);
  if (exhausted) {
    clearExhausted();
    return;
  }
  let at: u32 = 0;
  state.seek(view.stateTree, 0);
  for (let span = state.span; span != null; span = state.span) {
    assert(at < wanted.length);
    const expected = changetype<Opening>(wanted.at(at));
    assert(span.start == expected.start && span.last == expected.last && span.access == expected.access);
    at += OPENING_BYTES;
    state.next();
  }
  assert(at == wanted.length);
}
