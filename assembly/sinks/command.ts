// Commands and the lists they are gathered in. A plan is removals before additions; among removals partitions go before
// VA spaces, among additions VA spaces before partitions: nobody ever refers to what is not there.

import { COMMAND_SIZE, OP_IS_REMOVAL, OP_IS_REVERSIBLE, OP_VA_LIMIT, OP_VA_PROTECT, OP_VA_UNMAP } from '../abi';
import { copyWords, zeroWords } from '../base/bytes';
import { VECTOR_SIZE, Vector } from '../base/vector';

/** The record of abi.ts. */
@unmanaged
export class Command {
  op: u32;
  sink: u32;
  gpa: u64;
  length: u64;
  offset: u64;
  backing: u32;
  access: u32;
  slot: u32;
  region: u32;
  offsetInRegion: u64;
  unused: u64;
}

export const slotRemovals = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
export const vaRemovals = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
export const vaAdditions = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
export const slotAdditions = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** The whole plan, once it is made. */
export const plan = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** The commands that take an executed part of it back. */
export const inversePlan = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Written to when memory has run out and the plan will be thrown away. */
const nowhere: usize = memory.data(COMMAND_SIZE, 8);

export function clearCommands(): void {
  slotRemovals.clear();
  vaRemovals.clear();
  vaAdditions.clear();
  slotAdditions.clear();
}

/** Puts the lists behind each other into `plan`. */
export function assemblePlan(): void {
  plan.clear();
  append(slotRemovals);
  append(vaRemovals);
  append(vaAdditions);
  append(slotAdditions);
}

function append(list: Vector): void {
  if (list.length == 0 || !plan.ensure(list.length)) return;
  copyWords(plan.extend(list.length), list.at(0), list.length);
}

export function commandCount(list: Vector): u32 {
  return list.length / COMMAND_SIZE;
}

export function commandAt(list: Vector, index: u32): Command {
  return changetype<Command>(list.at(index * COMMAND_SIZE));
}

/** A new command at the end of the list, all fields but these 0. */
export function emit(list: Vector, op: u32, sink: u32, gpa: u64, length: u64): Command {
  const at = list.ensure(COMMAND_SIZE) ? list.extend(COMMAND_SIZE) : nowhere;
  zeroWords(at, COMMAND_SIZE);
  const command = changetype<Command>(at);
  command.op = op;
  command.sink = sink;
  command.gpa = gpa;
  command.length = length;
  return command;
}

/** A VA command that goes on where the last one of the list ends, with the same object, makes it longer instead. */
export function emitVa(
  list: Vector,
  op: u32,
  sink: u32,
  gpa: u64,
  length: u64,
  object: u32,
  offset: u64,
  access: u32,
): Command {
  if (list.length != 0) {
    const last = changetype<Command>(list.end - COMMAND_SIZE);
    const joins = last.op == op && last.sink == sink && last.gpa + last.length == gpa && last.access == access;
    const namesMemory = op != OP_VA_UNMAP && op != OP_VA_PROTECT && op != OP_VA_LIMIT;
    if (joins && (!namesMemory || (last.backing == object && last.offset + last.length == offset))) {
      last.length += length;
      return last;
    }
  }
  const command = emit(list, op, sink, gpa, length);
  command.backing = object;
  command.offset = offset;
  command.access = access;
  return command;
}

/** The op that takes this one back, where its fields say all that is needed; 0 where the old content is. */
export function inverseOp(op: u32): u32 {
  return op & OP_IS_REVERSIBLE ? op ^ OP_IS_REMOVAL : 0;
}
