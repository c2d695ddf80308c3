// Taking commands for VA spaces back, when the state is rolled back: those that move pages by moving them back, the
// others by making the range what the state says.

import {
  ACCESS_ALL,
  OP_IS_REVERSIBLE,
  OP_VA_LIMIT,
  OP_VA_MAP,
  OP_VA_PARK,
  OP_VA_PROTECT,
  OP_VA_RESERVE,
  OP_VA_UNMAP,
  OP_VA_UNPARK,
} from '../abi';
import { objectOf, sinkOf, sinks } from '../asked/records';
import { lastOf, lengthOf } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { When } from '../tree/before';
import { Command, emit, emitInverse, emitOfBytes, inversePlan, joinMemory, joinRange } from './command';
import { PIECE_BYTES, Piece } from './parts';
import { emitPiece, hasLargePages, heldLimits, heldPieces, LIMIT_BYTES, Limit } from './pieces';

/** Pieces that the range has now. */
const held = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Limits of the pieces above, where they differ. */
const limits = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Emits what takes a command back. */
export function takeVaBack(command: Command): void {
  if (command.op & OP_IS_REVERSIBLE) emitInverse(command, command.length);
  // What was there before private pages came, and was mapped over.
  if (command.op != OP_VA_PARK && command.op != OP_VA_RESERVE) restore(command);
}

/** Emits what takes a half done command back: of one that moves pages, the first `moved` bytes have moved. */
export function takeHalfVaBack(command: Command, moved: u64): void {
  // A stretch comes as a whole or not at all.
  if (command.op == OP_VA_RESERVE) return;
  if (!(command.op & OP_IS_REVERSIBLE)) {
    restore(command);
    return;
  }
  if (moved != 0) emitInverse(command, moved);
  if (command.op == OP_VA_UNPARK) {
    restore(command);
    return;
  }
  assert(command.op == OP_VA_PARK);
  if (moved == command.length) return;
  // Pages that have not moved have no access any more.
  const left = command.length - moved;
  const rest = emit(inversePlan, OP_VA_PROTECT, command.sink, command.gpa + moved, left);
  rest.object = command.object;
  rest.offset = command.offset + moved;
  rest.access = command.access;
  joinRange(inversePlan);
}

function restore(command: Command): void {
  const last = lastOf(command.gpa, command.length);
  // A sink that came with the transaction had nothing.
  if (!sinks.isAlive(command.sink)) {
    if (command.op == OP_VA_LIMIT) emitLimit(command.sink, command.gpa, last, ACCESS_ALL);
    else emitUnmap(command.sink, command.gpa, last);
    return;
  }
  switch (command.op) {
    case OP_VA_LIMIT:
      restoreLimits(command.sink, command.gpa, last);
      return;
    case OP_VA_PROTECT:
      restoreAccess(command.sink, command.gpa, last);
      return;
    default:
      assert(command.op == OP_VA_MAP || command.op == OP_VA_UNMAP || command.op == OP_VA_UNPARK);
      restoreRange(command.sink, command.gpa, last);
  }
}

/** Appends commands that make [start, last] what the rolled back state says. Private pieces come by their own, and
 *  large pages that lie in it only in part by the command that took them away. */
function restoreRange(id: u32, start: u64, last: u64): void {
  held.clear();
  heldPieces(sinkOf(id), start, last, When.Now, held);
  // Smaller pages cannot be mapped over a part of a large one that is there now.
  if (hasLargePages()) emitUnmap(id, start, last);
  let at = start;
  for (let i: u32 = 0; i < held.length; i += PIECE_BYTES) {
    const piece = changetype<Piece>(held.at(i));
    const object = objectOf(piece.object);
    if (object.isMoved || ((piece.start | (piece.last + 1)) & object.pageMask) != 0) continue;
    if (at < piece.start) emitUnmap(id, at, piece.start - 1);
    emitPiece(inversePlan, OP_VA_MAP, id, piece);
    joinMemory(inversePlan);
    if (piece.last == last) return;
    at = piece.last + 1;
  }
  emitUnmap(id, at, last);
}

/** Appends commands that give every piece in [start, last] the access that the rolled back state says. */
function restoreAccess(id: u32, start: u64, last: u64): void {
  held.clear();
  heldPieces(sinkOf(id), start, last, When.Now, held);
  for (let i: u32 = 0; i < held.length; i += PIECE_BYTES) {
    emitPiece(inversePlan, OP_VA_PROTECT, id, changetype<Piece>(held.at(i)));
    joinRange(inversePlan);
  }
}

/** Appends commands that limit what may be used of [start, last] as it should be. */
function restoreLimits(id: u32, start: u64, last: u64): void {
  limits.clear();
  heldLimits(sinkOf(id), start, last, limits);
  let at = start;
  for (let i: u32 = 0; i < limits.length; i += LIMIT_BYTES) {
    const limit = changetype<Limit>(limits.at(i));
    if (limit.last < at || limit.start > last) continue;
    if (limit.start > at) emitLimit(id, at, limit.start - 1, ACCESS_ALL);
    const from = max(at, limit.start);
    const to = min(last, limit.last);
    emitLimit(id, from, to, limit.access);
    if (to == last) return;
    at = to + 1;
  }
  emitLimit(id, at, last, ACCESS_ALL);
}

function emitUnmap(id: u32, start: u64, last: u64): void {
  emit(inversePlan, OP_VA_UNMAP, id, start, lengthOf(start, last));
  joinRange(inversePlan);
}

function emitLimit(id: u32, start: u64, last: u64, access: u32): void {
  emitOfBytes(inversePlan, OP_VA_LIMIT, id, start, lengthOf(start, last)).access = access;
  joinRange(inversePlan);
}
