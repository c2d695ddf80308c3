// Sinks: who is told of what is visible. Attaching one late gives it all that is visible then; detaching takes exactly
// that away again.

import {
  ACCESS_ALL,
  ERR_ATTACHMENT_OVERLAP,
  ERR_BAD_FLAGS,
  ERR_BAD_ID,
  ERR_BAD_KIND,
  ERR_BAD_RANGE,
  ERR_IN_USE,
  ERR_UNALIGNED,
  SINK_PARTITION,
  SINK_VA,
} from '../abi';
import {
  changePartition,
  changeSink,
  changeSpace,
  partitionOf,
  partitions,
  sinkOf,
  sinks,
  spaceOf,
  spaces,
} from '../asked/records';
import { fail } from '../base/failure';
import { isPageAligned, LAST_BYTE } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { noteEdit } from '../tree/before';
import * as spans from '../tree/spans';
import * as tree from '../tree/tree';
import { addWindow, sinkWindows } from '../undo/touched';
import { destroyPartition } from './slots';

/** Protections that were just taken out: Spans. */
const taken = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** A linear reservation of `size` bytes that mirrors the space from GPA 0; 0 stands for 2^64. */
export function attachVa(space: u32, size: u64): i32 {
  if (!spaces.isAlive(space)) return fail(ERR_BAD_ID);
  if (!isPageAligned(size)) return fail(ERR_UNALIGNED, 0, 0, size);
  const id = newSink(SINK_VA, space);
  if (id >= 0) sinkOf(id).last = size - 1;
  return id;
}

/** A partition that sees GPA g of the space at g + offset, and none whose own address is past `lastGpa`. */
export function attachPartition(partition: u32, space: u32, va: u32, offset: u64, lastGpa: u64): i32 {
  if (!partitions.isAlive(partition) || !spaces.isAlive(space) || !sinks.isAlive(va)) return fail(ERR_BAD_ID);
  if (partitionOf(partition).isDown) return fail(ERR_BAD_ID);
  const vaSink = sinkOf(va);
  if (vaSink.kind != SINK_VA || vaSink.space != space + 1 || vaSink.detaching) return fail(ERR_BAD_KIND, 0, va + 1);
  if (!isPageAligned(offset)) return fail(ERR_UNALIGNED, 0, 0, offset);
  if (lastGpa < offset) return fail(ERR_BAD_RANGE, 0, 0, lastGpa);
  for (let other: u32 = 0; other < sinks.count; ++other) {
    if (!sinks.isAlive(other) || sinkOf(other).partition != partition + 1) continue;
    const existing = sinkOf(other);
    if (offset <= existing.offset + existing.last && lastGpa >= existing.offset)
      return fail(ERR_ATTACHMENT_OVERLAP, 0, other + 1, offset);
  }
  const id = newSink(SINK_PARTITION, space);
  if (id < 0) return id;
  const sink = sinkOf(id);
  sink.partition = partition + 1;
  sink.va = va + 1;
  sink.offset = offset;
  sink.last = lastGpa - offset;
  changePartition(partition).uses += 1;
  changeSink(va).users += 1;
  return id;
}

function newSink(kind: u32, space: u32): i32 {
  const id = sinks.allocate();
  if (id < 0) return fail(id);
  const sink = sinkOf(id);
  sink.kind = <u8>kind;
  sink.space = space + 1;
  sink.attaching = true;
  sink.nextOfSpace = spaceOf(space).sinks;
  changeSpace(space).sinks = id + 1;
  addWindow(sinkWindows, id, 0, LAST_BYTE);
  return id;
}

/** Precondition: alive. What it has goes with this transaction; the id is free when that has ended. */
export function detachSink(id: u32): i32 {
  const sink = sinkOf(id);
  if (sink.detaching) return fail(ERR_BAD_ID, 0, id + 1);
  if (sink.users != 0) return fail(ERR_IN_USE, 0, id + 1);
  changeSink(id).detaching = true;
  if (sink.va != 0) changeSink(sink.va - 1).users -= 1;
  addWindow(sinkWindows, id, 0, LAST_BYTE);
  return 0;
}

/** Takes a sink that has nothing any more out of its space. */
export function removeSink(id: u32): void {
  const sink = sinkOf(id);
  const space = sink.space - 1;
  if (spaceOf(space).sinks == id + 1) {
    changeSpace(space).sinks = sink.nextOfSpace;
  } else {
    let before = spaceOf(space).sinks - 1;
    while (sinkOf(before).nextOfSpace != id + 1) before = sinkOf(before).nextOfSpace - 1;
    changeSink(before).nextOfSpace = sink.nextOfSpace;
  }
  if (sink.partition != 0) changePartition(sink.partition - 1).uses -= 1;
  assert(sink.state == 0 && sink.lost == 0);
  tree.clear(sink.protectionsSlot);
  sinks.release(id);
}

/** Precondition: alive. */
export function removePartition(id: u32): i32 {
  if (partitionOf(id).uses != 0) return fail(ERR_IN_USE, 0, id + 1);
  destroyPartition(id);
  return 0;
}

/** Leaves of the access in [start, last], which are whole pages, only ACCESS_*; ACCESS_ALL takes the protection away. */
export function protect(id: u32, start: u64, last: u64, access: u32): i32 {
  if (access & ~ACCESS_ALL) return fail(ERR_BAD_FLAGS, 0, id + 1);
  if (!isPageAligned(start)) return fail(ERR_UNALIGNED, 0, id + 1, start);
  if (last != LAST_BYTE && !isPageAligned(last + 1)) return fail(ERR_UNALIGNED, 0, id + 1, last + 1);
  if (last < start || last > sinkOf(id).last) return fail(ERR_BAD_RANGE, 0, id + 1, last);
  const slot = sinkOf(id).protectionsSlot;
  taken.clear();
  if (access == ACCESS_ALL) {
    spans.take(slot, start, last, taken);
  } else {
    spans.overwrite(slot, start, last, start, 0, access, taken);
  }
  noteEdit(slot, start, last, 0, 0, access, taken);
  addWindow(sinkWindows, id, start, last);
  return 0;
}
