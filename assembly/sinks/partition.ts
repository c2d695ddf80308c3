// Partitions: their slot numbers, the lowest free one first, so that a history always gives the same numbers; and pages
// in which they have no slots, because their hypervisor keeps them for itself.

import { ERR_BAD_RANGE, ERR_IN_USE, ERR_NO_MEMORY, MAX_SLOTS, PAGE_SIZE } from '../abi';
import { partitionOf, partitions, Sink, sinkOf, sinks, writablePartition } from '../asked/records';
import { fail, refusePages } from '../base/failure';
import { ensure, shiftFor } from '../base/heap';
import { LAST_BYTE, minusClipped, sumFits } from '../base/range';
import { Span } from '../tree/node';
import * as spans from '../tree/spans';
import * as tree from '../tree/tree';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { allocateJournaled, ensureStep, releaseJournaled, saveImage } from '../undo/journal';
import { addTouched, touchedSinks } from '../undo/touched';

const kept = changetype<Cursor<Span>>(memory.data(CURSOR_SIZE, 8));

/** Makes a partition. `slotLimit`: how many slots the hypervisor gives it; `largestSlot`: how many bytes each has at
 *  most, 0 for any number. */
export function createPartition(slotLimit: u32, largestSlot: u64): i32 {
  if (slotLimit == 0 || slotLimit > <u32>MAX_SLOTS) return fail(ERR_BAD_RANGE);
  if (largestSlot != 0 && largestSlot < <u64>PAGE_SIZE) return fail(ERR_BAD_RANGE, 0, 0, largestSlot);
  const id = partitions.allocate();
  if (id < 0) return fail(id);
  const bytes = ((slotLimit + 63) >> 6) << 3;
  if (!ensureStep() || !ensure(bytes + 64)) return ERR_NO_MEMORY;
  const partition = partitionOf(id);
  partition.slotMask = largestSlot == 0 ? LAST_BYTE : powerWithin(largestSlot) - 1;
  partition.slotLimit = slotLimit;
  partition.bitmapShift = shiftFor(bytes);
  partition.bitmap = <u32>allocateJournaled(partition.bitmapShift);
  memory.fill(partition.bitmap, 0, bytes);
  return id;
}

/** The largest power of two that is not above `value`, which is not 0. */
function powerWithin(value: u64): u64 {
  return (<u64>1) << (63 - clz(value));
}

/** Destroys a partition that is alive. Returns 0 or a code. */
export function destroyPartition(id: u32): i32 {
  const partition = partitionOf(id);
  if (partition.uses != 0) return fail(ERR_IN_USE, 0, id + 1);
  tree.clear(partition.keptTree);
  releaseJournaled(partition.bitmap, partition.bitmapShift);
  partitions.release(id);
  return 0;
}

export function slotIsTaken(id: u32, slot: u32): bool {
  return (load<u64>(<usize>partitionOf(id).bitmap + ((slot >> 6) << 3)) & ((<u64>1) << (slot & 63))) != 0;
}

/** The lowest free slot, now taken; -1 for none. */
export function takeSlot(id: u32): i32 {
  const partition = writablePartition(id);
  if (partition.slotsUsed == partition.slotLimit) return -1;
  let word = <usize>partition.bitmap + ((partition.lowestFree >> 6) << 3);
  while (load<u64>(word) == u64.MAX_VALUE) word += 8;
  const bit = <u32>ctz(~load<u64>(word));
  saveImage(word, 8);
  store<u64>(word, load<u64>(word) | ((<u64>1) << bit));
  const slot = ((<u32>(word - partition.bitmap)) << 3) + bit;
  assert(slot < partition.slotLimit);
  partition.slotsUsed += 1;
  partition.lowestFree = slot + 1;
  return <i32>slot;
}

export function giveSlot(id: u32, slot: u32): void {
  const partition = writablePartition(id);
  const word = <usize>partition.bitmap + ((slot >> 6) << 3);
  const bit = (<u64>1) << (slot & 63);
  assert((load<u64>(word) & bit) != 0);
  saveImage(word, 8);
  store<u64>(word, load<u64>(word) ^ bit);
  partition.slotsUsed -= 1;
  partition.lowestFree = min(partition.lowestFree, slot);
}

// ---- Pages of the hypervisor's own -----------------------------------------------------------------

/** Says whether the hypervisor keeps [start, last] of the partition's own addresses for itself: no slot reaches into
 *  that. Precondition: alive. Returns 0 or a code. */
export function keepPages(id: u32, start: u64, last: u64, isKept: bool): i32 {
  const error = refusePages(start, last, 0);
  if (error != 0) return error;
  const pages = partitionOf(id).keptTree;
  spans.erase(pages, start, last);
  if (isKept) spans.put(pages, start, last, start, 0, 0);
  for (let sink: u32 = 0; sink < sinks.count; ++sink) {
    if (!sinks.isAlive(sink) || sinkOf(sink).partition != id + 1) continue;
    const offset = sinkOf(sink).offset;
    if (last >= offset) addTouched(touchedSinks, sink, minusClipped(start, offset), last - offset);
  }
  return 0;
}

/** Last address of the space up to which what `isKept` said holds. */
export let keptLast: u64 = 0;

/** Whether the hypervisor keeps the page for itself that an attachment of its partition would show at `gpa`. */
export function isKept(attachment: Sink, gpa: u64): bool {
  const partition = partitionOf(attachment.partition - 1);
  keptLast = LAST_BYTE;
  if (partition.kept == 0 || !sumFits(gpa, attachment.offset)) return false;
  const own = gpa + attachment.offset;
  kept.seek(partition.keptTree, own);
  const span = kept.span;
  if (span == null) return false;
  const isInside = span.start <= own;
  keptLast = (isInside ? span.last : span.start - 1) - attachment.offset;
  return isInside;
}
