// The invariants of memory slots.

import { ACCESS_ALL } from '../abi';
import { partitionOf, sinkOf } from '../asked/records';
import { clearExhausted, exhausted } from '../base/heap';
import { LAST_BYTE } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { slotIsTaken } from './partition';
import { PlacedSlot, SLOT_BYTES, Slot } from './slot';
import { homeOfSlot, wantedSlots } from './slots';

const wanted = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const cursor = changetype<Cursor<Slot>>(memory.data(CURSOR_SIZE, 8));

/** Asserts that the slots of an attachment are those that there should be, or parts of them, each with a number of its
 *  own. */
export function verifySlots(id: u32): void {
  const sink = sinkOf(id);
  const partition = sink.partition - 1;
  wanted.clear();
  wantedSlots(sink, 0, LAST_BYTE, wanted);
  if (exhausted) {
    clearExhausted();
    return;
  }
  let at: u32 = 0;
  cursor.seek(sink.stateTree, 0);
  for (let slot = cursor.span; slot != null; slot = cursor.span) {
    assert(at < wanted.length);
    const expected = changetype<PlacedSlot>(wanted.at(at));
    assert(slot.start == expected.start && slot.last <= expected.last);
    assert(homeOfSlot(sink, slot.start) == expected.home);
    assert(slot.region == expected.region && slot.offsetInRegion == expected.offsetInRegion);
    assert(slot.access == expected.access && slot.access != 0 && slot.access <= <u32>ACCESS_ALL);
    assert(slot.number < partitionOf(partition).slotLimit && slotIsTaken(partition, slot.number));
    if (slot.last == expected.last) at += SLOT_BYTES;
    else expected.cutTo(slot.last + 1, expected.last);
    cursor.next();
  }
  assert(at == wanted.length);
}
