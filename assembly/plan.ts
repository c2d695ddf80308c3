// Transactions: mutations gather inside one; the end of the outermost makes a plan of them. The plan is executed by
// somebody else, who then says `adopt`, or how far he came: then everything is rolled back, and the commands that
// take the executed part back are handed out.
//
//   idle --begin--> open --commit--> planned --adopt--> idle
//                    |  \--abort--> idle     \--unwind--> unwinding --unwound--> idle
//                    \-- (refused) --> idle            \-- (no memory) --> poisoned
//
// What could not be taken back is said by a transaction of its own, which only says what is lost (see lost.ts).

import {
  ANSWER_HALF_DONE,
  ANSWER_NOT_DONE,
  ERR_BAD_RANGE,
  ERR_NESTING,
  ERR_NO_MEMORY,
  ERR_NO_TRANSACTION,
  ERR_PLAN_PENDING,
  ERR_POISONED,
  MAX_NESTING,
  SINK_VA,
} from './abi';
import { unmapped } from './asked/mapping';
import { checkPolicy, forgetChanged } from './asked/policy';
import { recycleTables, sinkOf, sinks, spaces, writableSink } from './asked/records';
import { forgetMappings, resetVisits } from './asked/touch';
import { fail } from './base/failure';
import { clearExhausted, exhausted, passCeiling } from './base/heap';
import { Vector } from './base/vector';
import { resolve } from './seen/flatten';
import { removeSink } from './sinks/attach';
import {
  assemblePlan,
  clearCommands,
  clearEnd,
  commandAt,
  commandCount,
  inversePlan,
  plan,
  planRecord,
} from './sinks/command';
import { kindAt, kindOfOp } from './sinks/kinds';
import { forgetLosing, isLosing, retryLost, startLosing } from './sinks/lost';
import { forgetBefore } from './tree/before';
import { ensureStep, hasEntries, isOpen, keep, savepoint, undo } from './undo/journal';
import { group, putInOrder, runEnd, takeGroup, touchedAt, touchedSinks, touchedViews } from './undo/touched';

const IDLE: u32 = 0;
const OPEN: u32 = 1;
const PLANNED: u32 = 2;
const UNWINDING: u32 = 3;
const POISONED: u32 = 4;

let state: u32 = IDLE;
/** Number of transactions that are open inside each other. */
let nesting: u32 = 0;
/** Kinds of sinks that the last plan has looked at, as bits 1 << SINK_*: of others there is nothing to forget. */
let plannedKinds: u32 = 0;

function refusal(): i32 {
  if (state == POISONED) return fail(ERR_POISONED);
  return fail(state == PLANNED || state == UNWINDING ? ERR_PLAN_PENDING : ERR_NO_TRANSACTION);
}

// ---- Operations inside a transaction: each happens wholly or not at all ---------------------

/** Begins an operation: 0, or the code that says why none may be carried out now. */
export function beginOperation(): i32 {
  if (state == OPEN) passCeiling(false);
  return beginRemoval();
}

/** `beginOperation` for one that only takes something away: it has room where there is none for anything else. */
export function beginRemoval(): i32 {
  if (state != OPEN) return refusal();
  return isLosing ? fail(ERR_PLAN_PENDING) : openSavepoint();
}

/** `beginOperation` for one that says what is lost: a transaction that does, does nothing else. */
export function beginLoss(): i32 {
  if (state != OPEN) return refusal();
  const isFresh = touchedViews.length == 0 && touchedSinks.length == 0 && !hasEntries();
  if (!isLosing && !isFresh) return fail(ERR_PLAN_PENDING);
  const error = openSavepoint();
  if (error == 0) startLosing();
  return error;
}

export function endOperation(code: i32): i32 {
  if (exhausted) {
    undo();
    clearExhausted();
    return fail(ERR_NO_MEMORY);
  }
  if (code < 0) undo();
  else keep();
  return code;
}

function openSavepoint(): i32 {
  if (savepoint()) return 0;
  clearExhausted();
  return fail(ERR_NO_MEMORY);
}

// ---- Transactions --------------------------------------------------------------------------

/** Opens a transaction; returns how many are open now. */
export function begin(): i32 {
  if (state != IDLE && state != OPEN) return refusal();
  if (nesting == MAX_NESTING) return fail(ERR_NESTING);
  const error = openSavepoint();
  if (error != 0) return error;
  if (nesting == 0) unmapped.clear();
  state = OPEN;
  return <i32>++nesting;
}

/** Undoes what the innermost transaction did, and ends it. */
export function abort(): i32 {
  if (state != OPEN) return refusal();
  undo();
  if (--nesting == 0) becomeIdle();
  return 0;
}

/** Ends the innermost transaction. The outermost one makes the plan: returns how many commands it has. A plan that
 *  cannot be made is refused with a code, and its transaction undone. */
export function commit(): i32 {
  if (state != OPEN) return refusal();
  if (nesting > 1) {
    keep();
    --nesting;
    return 0;
  }
  assert(nesting == 1);
  nesting = 0;
  let error = checkPolicy();
  if (error == 0) error = makePlan();
  if (exhausted) {
    clearExhausted();
    error = fail(ERR_NO_MEMORY);
  }
  if (error != 0) {
    undo();
    becomeIdle();
    return error;
  }
  planRecord.unmapped = unmapped.at(0);
  planRecord.unmappedCount = unmapped.length / 4;
  state = PLANNED;
  return <i32>commandCount(plan);
}

/** Whether a plan waits to be executed. */
export function isPlanned(): bool {
  return state == PLANNED;
}

/** Whether no transaction is open and no plan is pending. */
export function isIdle(): bool {
  return state == IDLE;
}

function becomeIdle(): void {
  assert(nesting == 0 && !isOpen());
  state = IDLE;
  touchedViews.clear();
  touchedSinks.clear();
  forgetChanged();
  forgetLosing();
  forgetMappings();
  forgetBefore();
}

function makePlan(): i32 {
  resetVisits();
  forgetPlan();
  putInOrder(touchedViews);
  for (let at: u32 = 0; at < touchedViews.length; ) {
    at = takeGroup(touchedViews, at);
    if (!spaces.isAlive(group.owner)) continue;
    const error = resolve(group.owner, group.start, group.last);
    if (error != 0) return error;
  }
  if (!isLosing) retryLost();
  const error = touchedSinks.length == 0 ? 0 : planSinks();
  if (error == 0) assemblePlan();
  return error;
}

/** Forgets the plan before. */
function forgetPlan(): void {
  for (; plannedKinds != 0; plannedKinds &= plannedKinds - 1) {
    const number = ctz(plannedKinds);
    kindAt(number).begin();
    clearCommands(number);
  }
  clearEnd();
}

/** Emits the commands for all touched sinks. Returns 0 or a code. */
function planSinks(): i32 {
  // Sinks come in order of their ids, so that a plan does not depend on the order of the changes.
  putInOrder(touchedSinks);
  // Each kind finds settled what it refers to: VA spaces, even where none was touched, what is lost and tried again.
  for (let kind: u32 = SINK_VA; kind != 0; kind = kindBehind(kind)) {
    const error = planKind(kind);
    if (error != 0) return error;
  }
  settleSinks();
  return 0;
}

/** The first kind behind another one of which a sink was touched; 0 if there is none. */
function kindBehind(number: u32): u32 {
  let next: u32 = 0;
  for (let at: u32 = 0; at < touchedSinks.length; at = runEnd(touchedSinks, at)) {
    const id = touchedAt(touchedSinks, at).owner;
    const kind: u32 = sinks.isAlive(id) ? sinkOf(id).kind : 0;
    if (kind > number && (next == 0 || kind < next)) next = kind;
  }
  return next;
}

/** Compares all sinks of a kind in what was touched, and emits the commands. Returns 0 or a code. */
function planKind(number: u32): i32 {
  const kind = kindAt(number);
  plannedKinds |= 1 << number;
  for (let at: u32 = 0; at < touchedSinks.length; ) {
    const id = touchedAt(touchedSinks, at).owner;
    const end = runEnd(touchedSinks, at);
    if (sinks.isAlive(id) && sinkOf(id).kind == number) {
      const error = kind.compare(id, at, end);
      if (error != 0) return error;
    }
    at = end;
  }
  return kind.plan();
}

/** Takes sinks out that were detached; those that came have now what they should. Precondition: the plan is made. */
function settleSinks(): void {
  for (let at: u32 = 0; at < touchedSinks.length; at = runEnd(touchedSinks, at)) {
    const id = touchedAt(touchedSinks, at).owner;
    if (!sinks.isAlive(id) || !(sinkOf(id).attaching || sinkOf(id).detaching) || !ensureStep()) continue;
    if (sinkOf(id).detaching) removeSink(id);
    else writableSink(id).attaching = false;
  }
}

// ---- After the plan was executed, or was not ------------------------------------------------

/** Keeps what the plan made: it was executed. */
export function adopt(): i32 {
  if (state != PLANNED) return refusal();
  assert(nesting == 0);
  keep();
  assert(!hasEntries());
  recycleTables();
  becomeIdle();
  return 0;
}

/** Rolls everything back, when only the first `done` commands were executed, and of the next one what ANSWER_* says,
 *  with the bytes that have moved. Returns how many commands take them back. */
export function unwind(done: u32, answer: u32, moved: u64): i32 {
  if (state != PLANNED) return refusal();
  const count = commandCount(plan);
  if (done > count || (done == count && answer != <u32>ANSWER_NOT_DONE)) return fail(ERR_BAD_RANGE);
  if (answer != <u32>ANSWER_NOT_DONE) {
    if (answer != <u32>ANSWER_HALF_DONE || moved > commandAt(plan, done).length) return fail(ERR_BAD_RANGE);
  }
  assert(nesting == 0);
  undo();
  assert(!hasEntries());
  inversePlan.clear();
  if (answer == <u32>ANSWER_HALF_DONE) {
    const command = commandAt(plan, done);
    kindOfOp(command.op).takeHalfBack(command, moved);
  }
  for (let i = done; i > 0; --i) {
    const command = commandAt(plan, i - 1);
    kindOfOp(command.op).takeBack(command);
  }
  if (exhausted) {
    state = POISONED;
    return fail(ERR_NO_MEMORY);
  }
  state = UNWINDING;
  planRecord.commands = inversePlan.at(0);
  planRecord.releases = 0;
  return <i32>commandCount(inversePlan);
}

/** Ends an unwind: the inverse was executed, as far as that went. What of it failed is lost, as the next transaction
 *  says. */
export function unwound(): i32 {
  if (state != UNWINDING) return refusal();
  becomeIdle();
  return 0;
}

/** Number of the first command of the current plan from `from` on that is done to `sink` and touches [start, last] of
 *  it; -1 if there is none. */
export function commandTouching(from: u32, sink: u32, start: u64, last: u64): i32 {
  const commands = currentPlan();
  const count = commandCount(commands);
  for (let i = from; i < count; ++i) {
    const command = commandAt(commands, i);
    if (command.sink == sink && command.gpa <= last && command.gpa + (command.length - 1) >= start) return <i32>i;
  }
  return -1;
}

function currentPlan(): Vector {
  return state == UNWINDING ? inversePlan : plan;
}
