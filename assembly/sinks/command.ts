// Commands and the lists they are gathered in: for each kind of sink its removals and its additions. A plan is all
// removals, then all additions; at its end stand releases, which come when it has been adopted. SINK_* are numbered
// in the order of additions, and removals run the other way: nobody ever refers to what is not there.

import { CLASS_NONE, COMMAND_SIZE, OP_IS_REMOVAL, OP_IS_REVERSIBLE, SINK_KINDS } from '../abi';
import { copyWords, zeroWords } from '../base/bytes';
import { isPageAligned } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';

/** A command: the record of abi.ts. */
@unmanaged
export class Command {
  op: u32;
  sink: u32;
  gpa: u64;
  length: u64;
  offset: u64;
  /** Object whose bytes a command is about; `va` of commands that show a part of a VA space; `event`. */
  object: u32;
  access: u32;
  slot: u32;
  region: u32;
  offsetInRegion: u64;
  match: u64;

  /** VA sink that `offset` is in. */
  get va(): u32 {
    return this.object;
  }
  set va(id: u32) {
    this.object = id;
  }
  set event(id: u32) {
    this.object = id;
  }
}

/** Two lists a kind (Vectors). */
const lists: usize = memory.data(<i32>(2 * SINK_KINDS * VECTOR_SIZE), 8);

function listAt(index: u32): Vector {
  return changetype<Vector>(lists + index * VECTOR_SIZE);
}

/** Commands that take something from sinks of a kind. */
export function removalsOf(kind: u32): Vector {
  return listAt(2 * (kind - 1));
}

/** Commands that give something to sinks of a kind. */
export function additionsOf(kind: u32): Vector {
  return listAt(2 * (kind - 1) + 1);
}

/** Commands that stand at the end of a plan, and are carried out when it has been adopted: they never fail. */
export const releases = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** The whole plan, once it is made. */
export const plan = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** The commands that take an executed part of it back. */
export const inversePlan = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Record of what is to be executed now, and of what comes with that: the PLAN_* of abi.ts. */
@unmanaged
class PlanRecord {
  commands: usize;
  releases: u32;
  disturbance: u32;
  unmapped: usize;
  unmappedCount: u32;
}

export const planRecord = changetype<PlanRecord>(memory.data(24, 8));

/** Address to write a command to when memory has run out, and the plan will be thrown away. */
const nowhere: usize = memory.data(COMMAND_SIZE, 8);

/** Says that the plan disturbs the guest at least so much (CLASS_*). */
export function disturb(least: u32): void {
  planRecord.disturbance = max(planRecord.disturbance, least);
}

/** Empties the lists of a kind. */
export function clearCommands(kind: u32): void {
  removalsOf(kind).clear();
  additionsOf(kind).clear();
}

/** Empties the list of what comes at the end of a plan, which disturbs nobody yet. */
export function clearEnd(): void {
  releases.clear();
  planRecord.disturbance = CLASS_NONE;
}

/** Puts the lists behind each other into `plan`, which is to be executed now. */
export function assemblePlan(): void {
  plan.clear();
  for (let kind: u32 = SINK_KINDS; kind > 0; --kind) if (removalsOf(kind).length != 0) append(removalsOf(kind));
  for (let kind: u32 = 1; kind <= <u32>SINK_KINDS; ++kind) {
    if (additionsOf(kind).length != 0) append(additionsOf(kind));
  }
  if (releases.length != 0) append(releases);
  planRecord.commands = plan.at(0);
  planRecord.releases = commandCount(releases);
}

function append(list: Vector): void {
  if (!plan.ensure(list.length)) return;
  copyWords(plan.extend(list.length), list.at(0), list.length);
}

export function commandCount(list: Vector): u32 {
  return list.length / COMMAND_SIZE;
}

export function commandAt(list: Vector, index: u32): Command {
  assert(index < commandCount(list));
  return changetype<Command>(list.at(index * COMMAND_SIZE));
}

/** A new command of whole pages at the end of the list, all fields but these 0. */
export function emit(list: Vector, op: u32, sink: u32, gpa: u64, length: u64): Command {
  assert(isPageAligned(gpa | length));
  return emitOfBytes(list, op, sink, gpa, length);
}

/** `emit` for an operation whose range need not be whole pages. */
export function emitOfBytes(list: Vector, op: u32, sink: u32, gpa: u64, length: u64): Command {
  const at = list.ensure(COMMAND_SIZE) ? list.extend(COMMAND_SIZE) : nowhere;
  assert(length != 0);
  zeroWords(at, COMMAND_SIZE);
  const command = changetype<Command>(at);
  command.op = op;
  command.sink = sink;
  command.gpa = gpa;
  command.length = length;
  return command;
}

/** Makes the last command of the list a part of the one before it, if it does the same to the same sink and goes on
 *  where that ends. */
export function joinRange(list: Vector): void {
  if (goesOn(list)) join(list);
}

/** `joinRange` for a command about memory: that must go on, too. */
export function joinMemory(list: Vector): void {
  if (!goesOn(list)) return;
  const last = fromEnd(list, 1);
  const before = fromEnd(list, 2);
  if (before.object == last.object && before.offset + before.length == last.offset) join(list);
}

function goesOn(list: Vector): bool {
  if (list.length < 2 * COMMAND_SIZE) return false;
  const last = fromEnd(list, 1);
  const before = fromEnd(list, 2);
  if (before.op != last.op || before.sink != last.sink || before.access != last.access) return false;
  return before.gpa + before.length == last.gpa;
}

function join(list: Vector): void {
  fromEnd(list, 2).length += fromEnd(list, 1).length;
  list.shrink(COMMAND_SIZE);
}

/** The last command but `count` - 1. */
function fromEnd(list: Vector, count: u32): Command {
  return changetype<Command>(list.end - count * COMMAND_SIZE);
}

/** Emits the first `length` bytes of a command into `inversePlan`, as the operation that takes them back. Precondition:
 *  OP_IS_REVERSIBLE. */
export function emitInverse(command: Command, length: u64): void {
  assert((command.op & OP_IS_REVERSIBLE) != 0);
  const op = command.op ^ OP_IS_REMOVAL;
  const inverse = emitOfBytes(inversePlan, op, command.sink, command.gpa, length);
  copyWords(changetype<usize>(inverse), changetype<usize>(command), COMMAND_SIZE);
  inverse.op = op;
  inverse.length = length;
}
