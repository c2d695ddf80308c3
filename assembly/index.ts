// THE CORE: everything that can be asked of it, and nothing else. Flat functions over numbers: a u64 comes as two u32
// (low, high); a region's extent comes as its last byte, so that 2^64 fits. Results >= 0 are ids and counts, negative
// ones the ERR_* of abi.ts. No operating system, no clock, no randomness: the same calls give the same plans, byte for
// byte.
//
//   region        a stretch of numbers with a kind and a priority, placed at an offset in a container region. An alias
//                 shows a part of another region
//   object        memory that can be mapped: shared (a file) or private (exists only where it is mapped)
//   mapping       a part of an object, at an offset in a region
//   event         a stretch of a region at which a guest's writes signal somebody, or are kept, and do not exit
//   address space what one observer sees of a root region; GPA: an address in it
//   flat view     its sorted disjoint flat ranges: which part of which region is seen where
//   sink          a consumer of plans, attached to an address space; its kind is a row of sinks/kinds.ts: a VA space
//                 (host memory, HVA = base of its stretch + GPA), a view of one (for accesses that are checked), a
//                 partition's attachment (memory slots), or the events of one
//   stretch       a part of a VA space that is linear host memory: the first from GPA 0 on, others where memory is seen
//   protection    a range of a sink in which less access is left than its mappings would give
//   part, piece   a stretch of one object that a VA space is to show; what it maps for that, in whole pages
//   slot          a hypervisor's memory slot, and nothing else
//   touched range a range of a space or a sink that a change may have altered
//   edit          a note of one change of one tree; before: when the transaction began
//   plan, command the ordered list that takes the sinks from before to now; one record of it (abi.ts draws it)
//   lost range    a range of a sink that should show something and does not, because putting it back has failed
//
// One commit, pass by pass:
//   1. Ask      operations change records and trees through the journal, and mark the ranges that they touch
//   2. See      touched ranges of each space are resolved from the root down; where they change, sinks are touched
//   3. Compare  kind by kind, what sinks had before with what they should have now, in touched ranges alone
//   4. Plan     removals in the order of the kinds backwards, then additions forwards
//   Then the caller executes the plan and says `adopt`; or `unwind`: all is rolled back, and the inverse handed out.
//
// Folders, from above: what stands lower knows nothing of what stands higher.
//   plan          transactions, adopt and unwind; describe: rows that say what there is; verify: the invariants
//   sinks/        passes 3 and 4: kinds (the table), attach, command; parts, pieces, lost; va-*, homes, echoes,
//                 stretches; slots, partition, events
//   seen/         pass 2: flatten, events
//   asked/        pass 1: region, mapping, event, space, records (what they are kept as), views (of spans), policy,
//                 touch
//   tree/         span trees: node, path, tree, spans (disjoint ones), walk (the merge-walk), before, rows, tree-verify
//   undo/         journal (savepoints), table (ids and records), touched
//   base/         heap, vector, bytes, range (address arithmetic), sort, radix, failure (what an error is about)
//   abi           numbers that cross the boundary

import { ABI_VERSION, ERR_BAD_FLAGS, ERR_BAD_ID, ERR_BAD_KIND, ERR_PLAN_PENDING, POLICY_NESTED } from './abi';
import * as event from './asked/event';
import * as mapping from './asked/mapping';
import * as policy from './asked/policy';
import {
  defineTables,
  events,
  objectOf,
  objects,
  partitionOf,
  partitions,
  regions,
  sinkOf,
  sinks,
  spaces,
} from './asked/records';
import * as region from './asked/region';
import * as space from './asked/space';
import * as failure from './base/failure';
import { fail } from './base/failure';
import * as heap from './base/heap';
import { join64 } from './base/range';
import * as describe from './describe';
import * as plan from './plan';
import * as sink from './sinks/attach';
import { planRecord } from './sinks/command';
import * as eventSink from './sinks/events';
import { defineKinds, kindOfSink } from './sinks/kinds';
import * as lost from './sinks/lost';
import * as partition from './sinks/partition';
import * as slots from './sinks/slots';
import * as stretches from './sinks/stretches';
import { rows } from './tree/rows';
import * as journal from './undo/journal';
import { verifyState } from './verify';

export function abiVersion(): u32 {
  return ABI_VERSION;
}

/** Makes an empty core: once, before everything else. `maxPages`: Wasm pages (64 KiB) that the memory may grow to. */
export function init(overlapPolicy: u32, maxPages: u32): i32 {
  if (overlapPolicy > <u32>POLICY_NESTED) return fail(ERR_BAD_FLAGS);
  defineTables();
  defineKinds();
  policy.setPolicy(overlapPolicy);
  heap.setCeiling(maxPages);
  return 0;
}

// ---- Transactions and plans ----------------------------------------------------------------

export function begin(): i32 {
  return checked(plan.begin());
}
export function abort(): i32 {
  return checked(plan.abort());
}
export function commit(): i32 {
  return checked(plan.commit());
}
export function adopt(): i32 {
  return checked(plan.adopt());
}
export function unwind(done: u32, answer: u32, movedLow: u32, movedHigh: u32): i32 {
  return plan.unwind(done, answer, join64(movedLow, movedHigh));
}
export function unwound(): i32 {
  return checked(plan.unwound());
}
/** Address of the record of what is to be executed now: see PLAN_* of abi.ts. */
export function planPointer(): usize {
  return changetype<usize>(planRecord);
}
/** Number of the first command from `from` on that is done to `sink` and touches [start, last] of it; -1 if there is
 *  none. */
export function commandTouching(from: u32, sink: u32, startLow: u32, startHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  return plan.commandTouching(from, sink, join64(startLow, startHigh), join64(lastLow, lastHigh));
}

// ---- Regions -------------------------------------------------------------------------------

export function regionCreate(kind: u32, lastLow: u32, lastHigh: u32, flags: u32): i32 {
  const refused = plan.beginOperation();
  if (refused != 0) return refused;
  return end(region.createRegion(kind, join64(lastLow, lastHigh), flags));
}
export function aliasCreate(
  target: u32,
  offsetLow: u32,
  offsetHigh: u32,
  lastLow: u32,
  lastHigh: u32,
  flags: u32,
): i32 {
  const refused = plan.beginOperation();
  if (refused != 0) return refused;
  return end(region.createAlias(target, join64(offsetLow, offsetHigh), join64(lastLow, lastHigh), flags));
}
export function regionDestroy(id: u32): i32 {
  const refused = onRegion(plan.beginRemoval(), id);
  return refused != 0 ? refused : end(region.destroyRegion(id));
}
export function regionPlace(id: u32, parent: u32, offsetLow: u32, offsetHigh: u32, priority: i32): i32 {
  const refused = onRegion(plan.beginOperation(), id);
  return refused != 0 ? refused : end(region.placeRegion(id, parent, join64(offsetLow, offsetHigh), priority));
}
export function regionRemove(id: u32): i32 {
  const refused = onRegion(plan.beginRemoval(), id);
  return refused != 0 ? refused : end(region.removeRegion(id));
}
export function regionMove(id: u32, offsetLow: u32, offsetHigh: u32): i32 {
  const refused = onRegion(plan.beginOperation(), id);
  return refused != 0 ? refused : end(region.moveRegion(id, join64(offsetLow, offsetHigh)));
}
export function regionResize(id: u32, lastLow: u32, lastHigh: u32, empty: u32): i32 {
  const refused = onRegion(plan.beginOperation(), id);
  return refused != 0 ? refused : end(region.resizeRegion(id, join64(lastLow, lastHigh), empty != 0));
}
export function regionSetPriority(id: u32, priority: i32): i32 {
  const refused = onRegion(plan.beginOperation(), id);
  return refused != 0 ? refused : end(region.setPriority(id, priority));
}
export function regionSetFlags(id: u32, flags: u32, mask: u32): i32 {
  const refused = onRegion(plan.beginOperation(), id);
  return refused != 0 ? refused : end(region.setFlags(id, flags, mask));
}
export function aliasRetarget(id: u32, offsetLow: u32, offsetHigh: u32): i32 {
  const refused = onRegion(plan.beginOperation(), id);
  return refused != 0 ? refused : end(region.retargetAlias(id, join64(offsetLow, offsetHigh)));
}

// ---- Address spaces ------------------------------------------------------------------------

export function spaceCreate(root: u32, offsetLow: u32, offsetHigh: u32): i32 {
  const refused = plan.beginOperation();
  return refused != 0 ? refused : end(space.createSpace(root, join64(offsetLow, offsetHigh)));
}
export function spaceDestroy(id: u32): i32 {
  const refused = plan.beginRemoval();
  if (refused != 0) return refused;
  return end(spaces.isAlive(id) ? space.destroySpace(id) : fail(ERR_BAD_ID, id + 1));
}

// ---- Objects and mappings ------------------------------------------------------------------

export function objectCreate(kind: u32, flags: u32, sizeLow: u32, sizeHigh: u32, pageShift: u32): i32 {
  const refused = plan.beginOperation();
  return refused != 0 ? refused : end(mapping.createObject(kind, flags, join64(sizeLow, sizeHigh), pageShift));
}
export function objectDestroy(id: u32): i32 {
  const refused = plan.beginRemoval();
  if (refused != 0) return refused;
  return end(objects.isAlive(id) ? mapping.destroyObject(id) : fail(ERR_BAD_ID, id + 1));
}
/** Kind of an object (OBJECT_*), or a code. */
export function objectKind(id: u32): i32 {
  return objects.isAlive(id) ? <i32>objectOf(id).kind : fail(ERR_BAD_ID, id + 1);
}
/** 1 while some region maps a page of it, else 0. */
export function objectIsMapped(id: u32): i32 {
  if (!objects.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return objectOf(id).mappedPages != 0 ? 1 : 0;
}
export function map(
  id: u32,
  offsetLow: u32,
  offsetHigh: u32,
  lengthLow: u32,
  lengthHigh: u32,
  object: u32,
  objectOffsetLow: u32,
  objectOffsetHigh: u32,
  flags: u32,
): i32 {
  const refused = onRegion(plan.beginOperation(), id);
  if (refused != 0) return refused;
  const offset = join64(offsetLow, offsetHigh);
  const length = join64(lengthLow, lengthHigh);
  return end(mapping.mapObject(id, offset, length, object, join64(objectOffsetLow, objectOffsetHigh), flags));
}
export function unmap(id: u32, offsetLow: u32, offsetHigh: u32, lengthLow: u32, lengthHigh: u32): i32 {
  const refused = onRegion(plan.beginRemoval(), id);
  return refused != 0
    ? refused
    : end(mapping.unmapObject(id, join64(offsetLow, offsetHigh), join64(lengthLow, lengthHigh)));
}

// ---- Events --------------------------------------------------------------------------------

/** Makes an event of a region, see `createEvent`. */
export function eventCreate(
  region: u32,
  offsetLow: u32,
  offsetHigh: u32,
  lengthLow: u32,
  lengthHigh: u32,
  flags: u32,
  matchLow: u32,
  matchHigh: u32,
): i32 {
  const refused = onRegion(plan.beginOperation(), region);
  if (refused != 0) return refused;
  const offset = join64(offsetLow, offsetHigh);
  const length = join64(lengthLow, lengthHigh);
  return end(event.createEvent(region, offset, length, flags, join64(matchLow, matchHigh)));
}
export function eventDestroy(id: u32): i32 {
  const refused = plan.beginRemoval();
  if (refused != 0) return refused;
  return end(events.isAlive(id) ? event.destroyEvent(id) : fail(ERR_BAD_ID, id + 1));
}

// ---- Sinks ---------------------------------------------------------------------------------

export function partitionCreate(slotLimit: u32, largestSlotLow: u32, largestSlotHigh: u32): i32 {
  const refused = plan.beginOperation();
  if (refused != 0) return refused;
  return end(partition.createPartition(slotLimit, join64(largestSlotLow, largestSlotHigh)));
}
export function partitionDestroy(id: u32): i32 {
  const refused = plan.beginRemoval();
  if (refused != 0) return refused;
  return end(partitions.isAlive(id) ? partition.destroyPartition(id) : fail(ERR_BAD_ID, id + 1));
}
/** Says whether the hypervisor keeps pages of the partition's own addresses for itself. */
export function partitionKeep(id: u32, startLow: u32, startHigh: u32, lastLow: u32, lastHigh: u32, isKept: u32): i32 {
  const refused = plan.beginOperation();
  if (refused != 0) return refused;
  if (!partitions.isAlive(id)) return end(fail(ERR_BAD_ID, id + 1));
  return end(partition.keepPages(id, join64(startLow, startHigh), join64(lastLow, lastHigh), isKept != 0));
}
/** Attaches a sink, see `attachSink`. */
export function sinkAttach(
  kind: u32,
  spaceId: u32,
  owner: u32,
  via: u32,
  offsetLow: u32,
  offsetHigh: u32,
  lastLow: u32,
  lastHigh: u32,
): i32 {
  const refused = plan.beginOperation();
  if (refused != 0) return refused;
  return end(sink.attachSink(kind, spaceId, owner, via, join64(offsetLow, offsetHigh), join64(lastLow, lastHigh)));
}
/** Lets a VA space that was attached just now have stretches behind its first one: `allowStretches` in stretches.ts. */
export function allowStretches(id: u32, count: u32, bytesLow: u32, bytesHigh: u32, shift: u32): i32 {
  const refused = onSink(plan.beginOperation(), id);
  return refused != 0 ? refused : end(stretches.allowStretches(id, count, join64(bytesLow, bytesHigh), shift));
}
export function sinkDetach(id: u32): i32 {
  const refused = onSink(plan.beginRemoval(), id);
  return refused != 0 ? refused : end(sink.detachSink(id));
}
export function protect(id: u32, startLow: u32, startHigh: u32, lastLow: u32, lastHigh: u32, access: u32): i32 {
  const refused = onSink(plan.beginOperation(), id);
  return refused != 0 ? refused : end(sink.protect(id, join64(startLow, startHigh), join64(lastLow, lastHigh), access));
}
/** Withholds access to a range of a sink: `withhold` in attach.ts. */
export function withhold(id: u32, startLow: u32, startHigh: u32, lastLow: u32, lastHigh: u32, access: u32): i32 {
  const refused = onSink(plan.beginOperation(), id);
  return refused != 0
    ? refused
    : end(sink.withhold(id, join64(startLow, startHigh), join64(lastLow, lastHigh), access));
}
/** Ends what is withheld from a range of a sink: `giveBack` in attach.ts. */
export function giveBack(id: u32, startLow: u32, startHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  const refused = onSink(plan.beginOperation(), id);
  return refused != 0 ? refused : end(sink.giveBack(id, join64(startLow, startHigh), join64(lastLow, lastHigh)));
}

/** Says that [start, last] of the sink shows nothing; with `object` (an id + 1), its private pages from the offset
 *  on are held there. A transaction that says so says nothing else. */
export function lose(
  id: u32,
  startLow: u32,
  startHigh: u32,
  lastLow: u32,
  lastHigh: u32,
  object: u32,
  offsetLow: u32,
  offsetHigh: u32,
): i32 {
  let refused = onSink(plan.beginLoss(), id);
  if (refused != 0) return refused;
  const start = join64(startLow, startHigh);
  const last = join64(lastLow, lastHigh);
  refused = lost.checkRange(id, start, last);
  if (refused != 0) return end(refused);
  const kind = kindOfSink(id);
  if (object != 0 && !kind.holdsPages) return end(fail(ERR_BAD_KIND, 0, object));
  return end(kind.lose(id, start, last, object, join64(offsetLow, offsetHigh)));
}
/** Says that the partition of an attachment is shut down: it has no slots, and gets none. */
export function shutDown(id: u32): i32 {
  const refused = onSink(plan.beginLoss(), id);
  if (refused != 0) return refused;
  const owner = sinkOf(id).partition;
  return end(owner != 0 ? slots.shutDownPartition(owner - 1) : fail(ERR_BAD_KIND, 0, id + 1));
}
/** 1 if the hypervisor keeps the page for itself that an attachment would show at a GPA of its address space, else
 *  0. */
export function isKept(id: u32, gpaLow: u32, gpaHigh: u32): i32 {
  const owner = partitionBehind(id);
  if (owner < 0) return owner;
  return partition.isKept(sinkOf(id), join64(gpaLow, gpaHigh)) ? 1 : 0;
}
/** Number of slots of an attachment beyond the fewest that show the same: see splits.ts. */
export function slotSplits(id: u32): i32 {
  const owner = partitionBehind(id);
  return owner < 0 ? owner : slots.countSplits(id);
}
/** 1 if the partition of an attachment is shut down, else 0. */
export function isDown(id: u32): i32 {
  const owner = partitionBehind(id);
  return owner < 0 ? owner : <i32>partitionOf(owner).isDown;
}
/** Tries again what is lost of a sink in [start, last]. */
export function repair(id: u32, startLow: u32, startHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  const refused = onSink(plan.beginOperation(), id);
  return refused != 0 ? refused : end(lost.repair(id, join64(startLow, startHigh), join64(lastLow, lastHigh)));
}

// ---- What there is in [from, last] (outside of plans; rows at rowsPointer()) ------------------

export function rowsPointer(): usize {
  return rows;
}
export function readFlat(id: u32, fromLow: u32, fromHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  if (!spaces.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return describe.readFlat(id, join64(fromLow, fromHigh), join64(lastLow, lastHigh));
}
export function readMappings(id: u32, fromLow: u32, fromHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  if (!regions.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return describe.readMappings(id, join64(fromLow, fromHigh), join64(lastLow, lastHigh));
}
export function readSink(id: u32, fromLow: u32, fromHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  if (!sinks.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return describe.readSink(id, join64(fromLow, fromHigh), join64(lastLow, lastHigh));
}
export function readParts(id: u32, fromLow: u32, fromHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  if (!sinks.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return describe.readParts(id, join64(fromLow, fromHigh), join64(lastLow, lastHigh));
}
export function readProtections(id: u32, fromLow: u32, fromHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  if (!sinks.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return describe.readProtections(id, join64(fromLow, fromHigh), join64(lastLow, lastHigh));
}
export function readWithheld(id: u32, fromLow: u32, fromHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  if (!sinks.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return describe.readWithheld(id, join64(fromLow, fromHigh), join64(lastLow, lastHigh));
}
export function readLost(id: u32, fromLow: u32, fromHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  if (!sinks.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return describe.readLost(id, join64(fromLow, fromHigh), join64(lastLow, lastHigh));
}
/** Events that a space shows, without the first `skip`. */
export function readEvents(id: u32, fromLow: u32, fromHigh: u32, lastLow: u32, lastHigh: u32, skip: u32): i32 {
  if (!spaces.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return eventSink.readSeenEvents(id, join64(fromLow, fromHigh), join64(lastLow, lastHigh), skip);
}
/** Events that a sink of events has, without the first `skip`. */
export function readSinkEvents(id: u32, skip: u32): i32 {
  return sinks.isAlive(id) ? eventSink.readEventsOf(id, skip) : fail(ERR_BAD_ID, id + 1);
}
export function readStretches(id: u32, fromLow: u32, fromHigh: u32, lastLow: u32, lastHigh: u32): i32 {
  if (!sinks.isAlive(id)) return fail(ERR_BAD_ID, id + 1);
  return describe.readStretches(id, join64(fromLow, fromHigh), join64(lastLow, lastHigh));
}
export function readRegion(id: u32): i32 {
  return regions.isAlive(id) ? describe.readRegion(id) : fail(ERR_BAD_ID, id + 1);
}
export function readChildren(id: u32, skip: u32): i32 {
  return regions.isAlive(id) ? describe.readChildren(id, skip) : fail(ERR_BAD_ID, id + 1);
}
export function explain(id: u32, gpaLow: u32, gpaHigh: u32): i32 {
  return spaces.isAlive(id) ? describe.explain(id, join64(gpaLow, gpaHigh)) : fail(ERR_BAD_ID, id + 1);
}

// ---- The last error; memory; invariants -----------------------------------------------------

export function failedId(): u32 {
  return failure.failedId;
}
export function otherId(): u32 {
  return failure.otherId;
}
export function failedAddress(): u64 {
  return failure.failedAddress;
}
/** Bytes of linear memory that records, trees and tables take; scratch lists and the journal come on top. */
export function heapInUse(): usize {
  return heap.bytesForever() + journal.bytesHeld();
}
/** Fills rows with ranges of linear memory that mean nothing: see `describe.readSpare`. */
export function readSpare(): i32 {
  return plan.isIdle() ? checked(describe.readSpare()) : fail(ERR_PLAN_PENDING);
}
/** Checks every invariant of the whole state; what does not hold is an assertion. */
export function verify(): void {
  verifyState();
}

// ---- How every operation begins and ends ----------------------------------------------------

/** Refuses an operation on a region that is not alive, unless it was refused already. */
function onRegion(refused: i32, id: u32): i32 {
  if (refused != 0) return refused;
  return regions.isAlive(id) ? 0 : plan.endOperation(fail(ERR_BAD_ID, id + 1));
}

function onSink(refused: i32, id: u32): i32 {
  if (refused != 0) return refused;
  return sinks.isAlive(id) ? 0 : plan.endOperation(fail(ERR_BAD_ID, id + 1));
}

/** The partition that an attachment belongs to, or a code. */
function partitionBehind(id: u32): i32 {
  const owner = sinks.isAlive(id) ? sinkOf(id).partition : 0;
  return owner != 0 ? <i32>(owner - 1) : fail(ERR_BAD_ID, id + 1);
}

function end(code: i32): i32 {
  return checked(plan.endOperation(code));
}

function checked(code: i32): i32 {
  if (DEBUG) verifyState();
  return code;
}
