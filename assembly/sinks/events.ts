// Passes 3 and 4 for events: those that an attachment of a partition should have, those that it has, and the commands
// in between. An event is seen or not, as a whole; one that stays where it is, is not touched. The state is a tree,
// whose spans may overlap:
//
//   [start, last] -> a = offset in the region, b = event, c = EVENT_*
//
// A lost range has none of the events with a byte in it.

import {
  ACCESS_WRITE,
  ERR_BAD_ID,
  ERR_BAD_KIND,
  ERR_BAD_RANGE,
  ERR_IN_USE,
  ERR_NO_MEMORY,
  OP_EVENT_ADD,
  OP_EVENT_REMOVE,
  SINK_EVENTS,
  SINK_PARTITION,
} from '../abi';
import { eventLength } from '../asked/event';
import { eventOf, Sink, sinkOf, sinks } from '../asked/records';
import { fail } from '../base/failure';
import { clearExhausted, exhausted } from '../base/heap';
import { pageLast, pageStart } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { SEEN_EVENT_BYTES, SeenEvent, seenEvents } from '../seen/events';
import { When } from '../tree/before';
import { clearRows, hasRoom, newRow, rowCount } from '../tree/rows';
import * as tree from '../tree/tree';
import { ensureStep } from '../undo/journal';
import { group, takeGroup, touchedSinks } from '../undo/touched';
import { additionsOf, emitOfBytes, removalsOf } from './command';
import { heldLast, isHeld, noteLost } from './lost';

/** The events that there are and that there should be in a stretch. */
const current = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const wanted = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Admits the events of a partition's attachment, `via`, which has none yet: see `Kind.admit`. */
export function admitEvents(space: u32, owner: u32, via: u32, offset: u64, last: u64): i32 {
  if (owner != 0) return fail(ERR_BAD_KIND, 0, owner);
  if (via == 0 || !sinks.isAlive(via - 1)) return fail(ERR_BAD_ID);
  const attachment = sinkOf(via - 1);
  if (attachment.kind != <u8>SINK_PARTITION || attachment.space != space + 1 || attachment.detaching)
    return fail(ERR_BAD_KIND, 0, via);
  if (attachment.users != 0) return fail(ERR_IN_USE, 0, via);
  return offset == attachment.offset && last - offset == attachment.last ? 0 : fail(ERR_BAD_RANGE, 0, via, last);
}

// ---- What should be there ------------------------------------------------------------------

/** Appends the events with bytes at [start, last] that the sink should have. */
function appendWanted(sink: Sink, start: u64, last: u64, out: Vector): void {
  if (sink.detaching) return;
  const first = out.length;
  seenEvents(sink.space - 1, start, last, out);
  // What is past the sink's end, or lost, is left out.
  let to = first;
  for (let at = first; at < out.length; at += SEEN_EVENT_BYTES) {
    const event = changetype<SeenEvent>(out.at(at));
    if (event.last > sink.last || !isHeld(sink, event.start) || heldLast < event.last) continue;
    if (to != at) memory.copy(out.at(to), out.at(at), SEEN_EVENT_BYTES);
    to += SEEN_EVENT_BYTES;
  }
  out.shrink(out.length - to);
}

// ---- The difference, and the commands ------------------------------------------------------

/** Plans which events come and go in the touched ranges of a sink, a run of `touchedSinks`. */
export function compareEvents(id: u32, from: u32, end: u32): i32 {
  for (let at = from; at < end && ensureStep(); ) {
    at = takeGroup(touchedSinks, at);
    diffStretch(id, pageStart(group.start), pageLast(group.last));
  }
  return 0;
}

/** Walks the two lists side by side, which are both in order of GPA and id. (A `Walk` goes over ranges that do not
 *  overlap, and events may.) */
function diffStretch(id: u32, start: u64, last: u64): void {
  const sink = sinkOf(id);
  current.clear();
  wanted.clear();
  tree.collectSpans(sink.stateTree, start, last, current);
  appendWanted(sink, start, last, wanted);
  let at: u32 = 0;
  let to: u32 = 0;
  while ((at < current.length || to < wanted.length) && ensureStep()) {
    const order = compare(eventIn(current, at), eventIn(wanted, to));
    if (order < 0) planRemoval(id, changetype<SeenEvent>(current.at(at)));
    else if (order > 0) planAddition(id, changetype<SeenEvent>(wanted.at(to)));
    if (order <= 0) at += SEEN_EVENT_BYTES;
    if (order >= 0) to += SEEN_EVENT_BYTES;
  }
}

/** The event at an offset in a list; null past its end. */
function eventIn(list: Vector, at: u32): SeenEvent | null {
  return at < list.length ? changetype<SeenEvent>(list.at(at)) : null;
}

/** -1 if the first one comes before the other, 1 if behind it, 0 if they are one; null comes last. */
function compare(one: SeenEvent | null, other: SeenEvent | null): i32 {
  if (one == null) return 1;
  if (other == null) return -1;
  if (one.start != other.start) return one.start < other.start ? -1 : 1;
  return one.event == other.event ? 0 : one.event < other.event ? -1 : 1;
}

function planRemoval(id: u32, event: SeenEvent): void {
  emitEvent(removalsOf(SINK_EVENTS), OP_EVENT_REMOVE, id, event);
  tree.remove(sinkOf(id).stateTree, event.start, event.event);
}

function planAddition(id: u32, event: SeenEvent): void {
  emitEvent(additionsOf(SINK_EVENTS), OP_EVENT_ADD, id, event);
  tree.insert(sinkOf(id).stateTree, event.start, event.last, event.a, event.b, event.c);
}

/** Emits a command about an event, which may have been destroyed by this transaction: its record is there. */
function emitEvent(list: Vector, op: u32, id: u32, seen: SeenEvent): void {
  const event = eventOf(seen.event);
  const command = emitOfBytes(list, op, id, seen.start + sinkOf(id).offset, eventLength(event));
  command.offset = seen.start;
  command.event = seen.event;
  command.access = ACCESS_WRITE;
  command.slot = event.flags;
  command.region = event.region;
  command.offsetInRegion = seen.offsetInRegion;
  command.match = event.match;
}

// ---- Lost, and out -------------------------------------------------------------------------

/** Enters [start, last] of a sink as lost: the events there are not. Returns 0 or a code. */
export function loseEvents(id: u32, start: u64, last: u64, _object: u32, _offset: u64): i32 {
  const sink = sinkOf(id);
  current.clear();
  tree.collectSpans(sink.stateTree, start, last, current);
  for (let at: u32 = 0; at < current.length && ensureStep(); at += SEEN_EVENT_BYTES) {
    const event = changetype<SeenEvent>(current.at(at));
    tree.remove(sink.stateTree, event.start, event.event);
  }
  noteLost(sink, start, last);
  return 0;
}

/** Fills rows with the first events that a sink has in [from, last]. */
export function readEventSink(id: u32, from: u64, last: u64, _when: When): i32 {
  current.clear();
  tree.collectSpans(sinkOf(id).stateTree, from, last, current);
  return fillRows(current, 0);
}

/** Fills rows with the events that a sink has, without the first `skip`. */
export function readEventsOf(id: u32, skip: u32): i32 {
  if (sinkOf(id).kind != <u8>SINK_EVENTS) return fail(ERR_BAD_KIND, 0, id + 1);
  current.clear();
  tree.collectSpans(sinkOf(id).stateTree, 0, u64.MAX_VALUE, current);
  return fillRows(current, skip);
}

/** Fills rows with the events that a space shows at bytes of [from, last], without the first `skip`. */
export function readSeenEvents(space: u32, from: u64, last: u64, skip: u32): i32 {
  wanted.clear();
  seenEvents(space, from, last, wanted);
  return fillRows(wanted, skip);
}

function fillRows(list: Vector, skip: u32): i32 {
  clearRows();
  if (exhausted) {
    clearExhausted();
    return fail(ERR_NO_MEMORY);
  }
  for (let at = skip * SEEN_EVENT_BYTES; at < list.length && hasRoom(); at += SEEN_EVENT_BYTES) {
    const seen = changetype<SeenEvent>(list.at(at));
    const row = newRow();
    row.id = seen.event;
    row.flags = seen.flags;
    row.start = seen.start;
    row.last = seen.last;
    row.offset = seen.offsetInRegion;
    row.other = eventOf(seen.event).region;
    row.extent = eventOf(seen.event).match;
  }
  return <i32>rowCount;
}

// ---- Invariants ----------------------------------------------------------------------------

/** Asserts that the events of a sink are those that it should have. */
export function verifyEvents(id: u32): void {
  const sink = sinkOf(id);
  current.clear();
  wanted.clear();
  tree.collectSpans(sink.stateTree, 0, u64.MAX_VALUE, current);
  appendWanted(sink, 0, u64.MAX_VALUE, wanted);
  if (exhausted) {
    clearExhausted();
    return;
  }
  assert(current.length == wanted.length);
  for (let at: u32 = 0; at < current.length; at += SEEN_EVENT_BYTES) {
    const has = changetype<SeenEvent>(current.at(at));
    const expected = changetype<SeenEvent>(wanted.at(at));
    assert(has.start == expected.start && has.last == expected.last && has.event == expected.event);
    assert(has.offsetInRegion == expected.offsetInRegion && has.flags == expected.flags);
  }
}
