// Passes 3 and 4 for partitions: which memory slots there should be, which there are, and the commands in between.
//
// One slot is one flat range of memory, in whole pages, or the part of it that one protection covers, or that is
// mapped read-only, or that is not a hidden part of a large page, or that the hypervisor does not keep for itself;
// cut where a stretch of the VA space ends (see stretches.ts), and where an address is a multiple of the largest
// power of two that a slot may have, so that where it is cut depends on nothing else; and where it was cut before (see
// splits.ts). Its HVA is that of its GPA in the VA space, so a slot of the same GPAs and access is the same slot,
// whatever it shows: it is not touched. Slots cannot be resized or re-flagged where they are: they are deleted, then
// added.
//
// A slot that shows an echo (see echoes.ts) has the HVA of the home instead, and no more access than that has; where
// the home is another one, so is the slot. The attachment's tree of homes has them: GPA -> a = GPA of the home.

import {
  ACCESS_ALL,
  ACCESS_READ,
  ACCESS_WRITE,
  CLASS_UNCHANGED_BYTES,
  ERR_ATTACHMENT_OVERLAP,
  ERR_BAD_ID,
  ERR_BAD_RANGE,
  ERR_NO_MEMORY,
  ERR_NO_SLOTS,
  ERR_PAST_LIMIT,
  MAX_SLOTS,
  OP_SLOT_ADD,
  OP_SLOT_DELETE,
  SINK_PARTITION,
} from '../abi';
import { partitionOf, partitions, Sink, sinkOf, sinks, spaceOf, writablePartition } from '../asked/records';
import { FlatRange, isWritable } from '../asked/views';
import { copyWords } from '../base/bytes';
import { fail } from '../base/failure';
import { clearExhausted, exhausted } from '../base/heap';
import {
  hasWholePage,
  LAST_BYTE,
  lengthOf,
  pageLast,
  pageStart,
  plusClipped,
  wholeLast,
  wholeStart,
} from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { When } from '../tree/before';
import { Span } from '../tree/node';
import { readSpans, rowAt } from '../tree/rows';
import * as spans from '../tree/spans';
import * as tree from '../tree/tree';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { WALK_SIZE, Walk } from '../tree/walk';
import { ensureStep } from '../undo/journal';
import { TOUCHED_BYTES, touchedAt, touchedSinks } from '../undo/touched';
import { additionsOf, disturb, emit, planRecord, removalsOf } from './command';
import { homeAccess, homeAt, homeLast, isMapped } from './homes';
import { heldLast, isHeld, isLosing, noteLost } from './lost';
import { giveSlot, isKept, keptLast, takeSlot } from './partition';
import { fitsPages, isMappedReadonly, protectedAccess, protectionLast, writabilityLast } from './parts';
import { hasLargePages, heldLimits, LIMIT_BYTES, Limit } from './pieces';
import { accessOf, numberOf, PlacedSlot, packSlot, SLOT_BYTES, Slot } from './slot';
import { keepSplits } from './splits';
import { reachOf, stretchLast } from './stretches';
import { refuseVa } from './users';
import { bytesKept } from './va-changes';

const flat = changetype<Cursor<FlatRange>>(memory.data(CURSOR_SIZE, 8));
const state = changetype<Cursor<Slot>>(memory.data(CURSOR_SIZE, 8));
const homes = changetype<Cursor<Span>>(memory.data(CURSOR_SIZE, 8));
const walk = changetype<Walk<PlacedSlot>>(memory.data(WALK_SIZE, 8));

/** The slots that there are and that there should be in a stretch, as PlacedSlots, as all lists below. */
const current = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const wanted = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** The largest slots that there may be in it. */
const whole = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Limits of large pages, in order, and how many bytes of this list have been passed. */
const limits = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
let limitsPassed: u32 = 0;
/** Slot mask of the partition whose slots are worked out. */
let slotMask: u64 = 0;
/** Slots that go and slots that come, sink after sink. */
const removed = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const added = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Slots that stay, but show another region now. */
const renamed = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** The slots of `added` that come to one sink, from byte `start` to before `end`. */
@unmanaged
class Run {
  sink: u32;
  start: u32;
  end: u32;
}

const RUN_BYTES: u32 = offsetof<Run>();

const runs = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

function runAt(at: u32): Run {
  return changetype<Run>(runs.at(at));
}

/** Admits an attachment of partition `owner`, whose slots have the HVAs of the VA sink `via`: see `Kind.admit`. */
export function admitSlots(space: u32, owner: u32, via: u32, offset: u64, last: u64): i32 {
  if (owner == 0 || !partitions.isAlive(owner - 1) || partitionOf(owner - 1).isDown) return fail(ERR_BAD_ID);
  const error = refuseVa(via, space);
  if (error != 0) return error;
  for (let other: u32 = 0; other < sinks.count; ++other) {
    if (!sinks.isAlive(other) || sinkOf(other).partition != owner) continue;
    const existing = sinkOf(other);
    if (offset <= existing.offset + existing.last && last >= existing.offset)
      return fail(ERR_ATTACHMENT_OVERLAP, 0, other + 1, offset);
  }
  return 0;
}

/** Shuts a partition down that is alive: all slots are gone with it, and it is given no more. */
export function shutDownPartition(id: u32): i32 {
  writablePartition(id).isDown = 1;
  for (let sink: u32 = 0; sink < sinks.count; ++sink) {
    if (!sinks.isAlive(sink) || sinkOf(sink).partition != id + 1 || !ensureStep()) continue;
    forgetSlots(sink, 0, LAST_BYTE);
    tree.clear(sinkOf(sink).lostTree);
  }
  return 0;
}

/** Enters [start, last] of an attachment as lost: the slots there are not. Returns 0 or a code. */
export function loseSlots(id: u32, start: u64, last: u64, _object: u32, _offset: u64): i32 {
  state.seek(sinkOf(id).stateTree, start);
  for (let span = state.span; span != null && span.start <= last; span = state.span) {
    if (span.start < start || span.last > last) return fail(ERR_BAD_RANGE, 0, id + 1, span.last);
    state.next();
  }
  forgetSlots(id, start, last);
  noteLost(sinkOf(id), start, last);
  return 0;
}

/** Takes slots that begin in [start, last] out of the attachment's, without commands. */
function forgetSlots(id: u32, start: u64, last: u64): void {
  const sink = sinkOf(id);
  while (ensureStep()) {
    state.seek(sink.stateTree, start);
    const slot = state.span;
    if (slot == null || slot.start > last) return;
    giveSlot(sink.partition - 1, slot.number);
    spans.erase(sink.homesTree, slot.start, slot.last);
    tree.remove(sink.stateTree, slot.start, slot.region);
  }
}

/** GPA in the VA space whose HVA the slot at `gpa` has that the attachment has now. */
export function homeOfSlot(sink: Sink, gpa: u64): u64 {
  if (sink.homes == 0) return gpa;
  homes.seek(sink.homesTree, gpa);
  const home = homes.span;
  return home == null || home.start > gpa ? gpa : home.aAt(gpa);
}

// ---- What should be there ------------------------------------------------------------------

/** Appends the slots that the sink should have in [start, last] to `out`. */
export function wantedSlots(sink: Sink, start: u64, last: u64, out: Vector): void {
  const partition = partitionOf(sink.partition - 1);
  last = min(last, sinkOf(sink.va - 1).shownLast);
  if (sink.detaching || partition.isDown || start > last) return;
  slotMask = partition.slotMask;
  limits.clear();
  limitsPassed = 0;
  if (hasLargePages()) heldLimits(sinkOf(sink.va - 1), start, last, limits);
  flat.seek(spaceOf(sink.space - 1).flatTree, start);
  for (let range = flat.span; range != null && range.start <= last; range = flat.span) {
    if (fitsPages(range) && hasWholePage(range.start, range.last)) {
      const access = isWritable(range) ? ACCESS_ALL : ACCESS_ALL & ~ACCESS_WRITE;
      let from = max(start, wholeStart(range.start));
      const to = min(last, wholeLast(range.last));
      let first = out.length;
      while (from <= to) {
        const left = protectedAccess(sink, from, to, access, When.Now);
        let slotLast = protectionLast;
        let partLast = min(to, slotLast);
        const isThere = isHeld(sink, from);
        partLast = min(partLast, heldLast);
        const isShown = isMapped(sink.va - 1, from, partLast);
        partLast = min(partLast, homeLast);
        slotLast = min(slotLast, plusClipped(from, stretchLast(sinkOf(sink.va - 1), homeAt) - homeAt));
        partLast = min(partLast, slotLast);
        const isFree = !isKept(sink, from);
        partLast = min(partLast, keptLast);
        if (left & ACCESS_READ && isThere && isShown && isFree) appendSlots(range, from, partLast, left, first, out);
        if (partLast == to) break;
        if (partLast == slotLast) first = out.length;
        from = partLast + 1;
      }
    }
    flat.next();
  }
}

/** Appends the slots of one flat range of memory in [start, last], where no protection leaves more than `access`, and
 *  which is mapped as `isMapped` said just now. The first bytes may go to the last slot of `out`, if that is one from
 *  `first` on. */
function appendSlots(range: FlatRange, start: u64, last: u64, access: u32, first: u32, out: Vector): void {
  homeDelta = homeAt - start;
  access &= homeAccess;
  for (let at = start; ; at = runLast + 1) {
    const mapped = isMappedReadonly(range, at, last) ? ACCESS_ALL & ~ACCESS_WRITE : ACCESS_ALL;
    runLast = writabilityLast;
    const left = access & mapped & limitedAccess(at);
    if (left & ACCESS_READ) appendRun(range, at, left, first, out);
    if (runLast >= last) return;
  }
}

/** Last address up to which the last answer about an access holds. */
let runLast: u64 = 0;
/** Distance from the GPA of a slot to that of its home, which may wrap. */
let homeDelta: u64 = 0;

/** Appends slots for [start, runLast]; see `appendSlots`. */
function appendRun(range: FlatRange, start: u64, access: u32, first: u32, out: Vector): void {
  let at = start;
  if (out.length != first && (start & slotMask) != 0) {
    const before = changetype<PlacedSlot>(out.end - SLOT_BYTES);
    const isSequel = before.last == start - 1 && before.home - before.start == homeDelta;
    if (isSequel && before.access == access) {
      before.last = min(runLast, start | slotMask);
      if (before.last == runLast) return;
      at = before.last + 1;
    }
  }
  while (true) {
    // More than any partition has are refused, however many there would be.
    if (!isLosing && out.length > <u32>MAX_SLOTS * SLOT_BYTES) return;
    if (!out.ensure(SLOT_BYTES)) return;
    const slot = changetype<PlacedSlot>(out.extend(SLOT_BYTES));
    slot.start = at;
    slot.last = min(runLast, at | slotMask);
    slot.a = range.offsetInRegionAt(at);
    slot.b = range.region;
    slot.c = access;
    slot.home = at + homeDelta;
    if (slot.last == runLast) return;
    at = slot.last + 1;
  }
}

/** Access that the limits leave at `gpa`, which is never below the one asked about before. */
function limitedAccess(gpa: u64): u32 {
  while (limitsPassed < limits.length && changetype<Limit>(limits.at(limitsPassed)).last < gpa)
    limitsPassed += LIMIT_BYTES;
  if (limitsPassed == limits.length) return ACCESS_ALL;
  const limit = changetype<Limit>(limits.at(limitsPassed));
  if (limit.start > gpa) {
    runLast = min(runLast, limit.start - 1);
    return ACCESS_ALL;
  }
  runLast = min(runLast, limit.last);
  return limit.access & ACCESS_WRITE ? ACCESS_ALL : limit.access & ACCESS_READ ? ACCESS_ALL & ~ACCESS_WRITE : 0;
}

// ---- The difference ------------------------------------------------------------------------

export function beginSlots(): void {
  removed.clear();
  added.clear();
  runs.clear();
}

/** Plans what goes and notes what comes in the touched ranges of an attachment, a run of `touchedSinks`. Returns 0
 *  or a code. */
export function compareSlots(id: u32, from: u32, end: u32): i32 {
  const sink = sinkOf(id);
  const firstRemoved = removed.length;
  const firstAdded = added.length;
  renamed.clear();
  for (let at = from; at < end && ensureStep(); ) at = diffStretch(sink, at, end);
  planDifference(id, firstRemoved, firstAdded);
  if (added.length == firstAdded) return 0;
  const highest = changetype<PlacedSlot>(added.end - SLOT_BYTES);
  return highest.last > min(sink.last, reachOf(sinkOf(sink.va - 1)))
    ? fail(ERR_PAST_LIMIT, highest.region + 1, id + 1, highest.last)
    : 0;
}

/** Plans what `compare` noted of an attachment, in `removed` and `added` from there on. */
function planDifference(id: u32, firstRemoved: u32, firstAdded: u32): void {
  planRemovals(id, firstRemoved);
  applyRenames(id);
  noteDisturbance(sinkOf(id), firstRemoved, firstAdded);
  if (added.length == firstAdded || !runs.ensure(RUN_BYTES)) return;
  const run = changetype<Run>(runs.extend(RUN_BYTES));
  run.sink = id;
  run.start = firstAdded;
  run.end = added.length;
}

/** Compares a touched range, extended to the whole of every slot that it touches, with what should be there. Returns
 *  the next. */
function diffStretch(sink: Sink, at: u32, end: u32): u32 {
  let touched = touchedAt(touchedSinks, at);
  let start = pageStart(touched.start);
  let last = pageLast(touched.last);
  at += TOUCHED_BYTES;
  current.clear();
  state.seek(sink.stateTree, start);
  while (true) {
    for (let span = state.span; span != null && span.start <= last; span = state.span) {
      if (!appendCurrent(sink, span)) return end;
      start = min(start, span.start);
      last = max(last, span.last);
      state.next();
    }
    if (at == end) break;
    touched = touchedAt(touchedSinks, at);
    if (last != LAST_BYTE && pageStart(touched.start) > last + 1) break;
    last = max(last, pageLast(touched.last));
    at += TOUCHED_BYTES;
  }
  whole.clear();
  wantedSlots(sink, start, last, whole);
  wanted.clear();
  keepSplits(current, whole, wanted);
  compare();
  return at;
}

/** Appends a slot that there is to `current`; false when memory has run out. */
function appendCurrent(sink: Sink, slot: Slot): bool {
  if (!current.ensure(SLOT_BYTES)) return false;
  const placed = changetype<PlacedSlot>(current.extend(SLOT_BYTES));
  copyWords(changetype<usize>(placed), changetype<usize>(slot), offsetof<Slot>());
  placed.home = homeOfSlot(sink, slot.start);
  return true;
}

/** Notes the slots that go, that come, and that stay but show another region; they are the same only as wholes. */
function compare(): void {
  walk.begin(current, wanted);
  while (walk.next()) {
    if (!removed.ensure(SLOT_BYTES) || !added.ensure(SLOT_BYTES) || !renamed.ensure(SLOT_BYTES)) return;
    // A slot that goes on from the segment before was noted there.
    const before = beginning(walk.inLeft);
    const now = beginning(walk.inRight);
    if (before == null || now == null) {
      if (before != null) append(before, removed);
      if (now != null) append(now, added);
    } else if (before.last != now.last || before.access != now.access || before.home != now.home) {
      append(before, removed);
      append(now, added);
    } else if (before.region != now.region || before.offsetInRegion != now.offsetInRegion) {
      append(now, renamed);
    }
  }
}

/** The slot, if it begins with the segment of the walk. */
function beginning(slot: PlacedSlot | null): PlacedSlot | null {
  return slot != null && slot.start == walk.start ? slot : null;
}

/** Appends a copy. Precondition: there is room. */
function append(slot: PlacedSlot, out: Vector): void {
  copyWords(out.extend(SLOT_BYTES), changetype<usize>(slot), SLOT_BYTES);
}

/** Gives slots that stay where they are the region that they show now. */
function applyRenames(id: u32): void {
  for (let at: u32 = 0; at < renamed.length; at += SLOT_BYTES) {
    if (!ensureStep()) return;
    const has = changetype<PlacedSlot>(renamed.at(at));
    const slots = sinkOf(id).stateTree;
    state.seek(slots, has.start);
    const before = changetype<Slot>(state.span);
    const c = before.c;
    tree.remove(slots, has.start, before.region);
    tree.insert(slots, has.start, has.last, has.a, has.b, c);
  }
}

/** Says how much the plan disturbs the guest: bytes whose slot goes and comes again are absent in between. */
function noteDisturbance(sink: Sink, firstRemoved: u32, firstAdded: u32): void {
  walk.begin(removed, added, firstRemoved, firstAdded);
  while (planRecord.disturbance != CLASS_UNCHANGED_BYTES && walk.next()) {
    if (walk.inLeft == null || walk.inRight == null) continue;
    disturb(bytesKept(sink.va - 1, walk.start, walk.last));
  }
}

// ---- The commands --------------------------------------------------------------------------

function planRemovals(id: u32, firstRemoved: u32): void {
  const sink = sinkOf(id);
  for (let at = firstRemoved; at < removed.length; at += SLOT_BYTES) {
    if (!ensureStep()) return;
    const slot = changetype<PlacedSlot>(removed.at(at));
    emitSlot(removalsOf(SINK_PARTITION), OP_SLOT_DELETE, id, slot, slot.number);
    giveSlot(sink.partition - 1, slot.number);
    if (slot.home != slot.start) spans.erase(sink.homesTree, slot.start, slot.last);
    tree.remove(sink.stateTree, slot.start, slot.region);
  }
}

/** Emits commands for the slots that come, and gives them numbers: when all that goes has given its own back. Returns
 *  0 or a code. */
export function planSlots(): i32 {
  if (!isLosing) joinWhereShort();
  for (let i: u32 = 0; i < runs.length; i += RUN_BYTES) {
    const run = runAt(i);
    const id = run.sink;
    const end = run.end;
    for (let at = run.start; at < end; at += SLOT_BYTES) {
      if (!ensureStep()) return 0;
      const slot = changetype<PlacedSlot>(added.at(at));
      const number = takeSlot(sinkOf(id).partition - 1);
      if (number < 0 && isLosing) {
        noteLost(sinkOf(id), slot.start, slot.last);
        continue;
      }
      if (number < 0) return fail(ERR_NO_SLOTS, slot.region + 1, id + 1, slot.start);
      emitSlot(additionsOf(SINK_PARTITION), OP_SLOT_ADD, id, slot, number);
      const c = packSlot(number, slot.access);
      tree.insert(sinkOf(id).stateTree, slot.start, slot.last, slot.offsetInRegion, slot.region, c);
      if (slot.home != slot.start) spans.put(sinkOf(id).homesTree, slot.start, slot.last, slot.home, 0, 0);
    }
  }
  return 0;
}

/** Joins all slots of the partitions that do not have enough of them for what comes. */
function joinWhereShort(): void {
  const end = runs.length;
  for (let i: u32 = 0; i < end && ensureStep(); i += RUN_BYTES) {
    if (runAt(i).start == runAt(i).end) continue;
    const partition = sinkOf(runAt(i).sink).partition;
    if (partitionOf(partition - 1).slotsUsed + comingTo(partition) <= partitionOf(partition - 1).slotLimit) continue;
    for (let id: u32 = 0; id < sinks.count; ++id) {
      if (sinks.isAlive(id) && sinkOf(id).partition == partition) joinSlots(id);
    }
  }
}

/** Number of slots that come to a partition (its id + 1). */
function comingTo(partition: u32): u32 {
  let count: u32 = 0;
  for (let i: u32 = 0; i < runs.length; i += RUN_BYTES) {
    const run = runAt(i);
    if (sinkOf(run.sink).partition == partition) count += (run.end - run.start) / SLOT_BYTES;
  }
  return count;
}

/** Plans the largest slots that an attachment may have, in place of all that it has and that were to come. */
function joinSlots(id: u32): void {
  for (let i: u32 = 0; i < runs.length; i += RUN_BYTES) {
    const run = runAt(i);
    if (run.sink == id) run.end = run.start;
  }
  const sink = sinkOf(id);
  const firstRemoved = removed.length;
  const firstAdded = added.length;
  renamed.clear();
  current.clear();
  state.seek(sink.stateTree, 0);
  for (let slot = state.span; slot != null; slot = state.span) {
    if (!appendCurrent(sink, slot)) return;
    state.next();
  }
  wanted.clear();
  wantedSlots(sink, 0, LAST_BYTE, wanted);
  compare();
  planDifference(id, firstRemoved, firstAdded);
}

function emitSlot(list: Vector, op: u32, id: u32, slot: PlacedSlot, number: u32): void {
  const sink = sinkOf(id);
  const command = emit(list, op, id, slot.start + sink.offset, lengthOf(slot.start, slot.last));
  command.offset = slot.home;
  command.va = sink.va - 1;
  command.access = slot.access;
  command.slot = number;
  command.region = slot.region;
  command.offsetInRegion = slot.offsetInRegion;
}

/** Number of slots that the attachment has beyond the fewest that show the same. */
export function countSplits(id: u32): i32 {
  const sink = sinkOf(id);
  let count: i32 = 0;
  state.seek(sink.stateTree, 0);
  for (; state.span != null; state.next()) ++count;
  wanted.clear();
  wantedSlots(sink, 0, LAST_BYTE, wanted);
  if (!exhausted) return count - <i32>(wanted.length / SLOT_BYTES);
  clearExhausted();
  return fail(ERR_NO_MEMORY);
}

// ---- Out -----------------------------------------------------------------------------------

/** Fills rows with the attachment's slots: a plan enters them as it is made, and undoing it takes them out, so that no
 *  time needs to be told. */
export function readSlots(id: u32, from: u64, last: u64, _when: When): i32 {
  const sink = sinkOf(id);
  const count = readSpans(sink.stateTree, from, last);
  for (let i: u32 = 0; i < count; ++i) {
    const row = rowAt(i);
    const packed = row.flags;
    row.flags = accessOf(packed);
    row.kind = numberOf(packed);
    row.other = sink.va - 1;
  }
  return <i32>count;
}
