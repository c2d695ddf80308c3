// The invariants of memory slots.

import { ACCESS_ALL } from '../abi';
import { partitionOf, sinkOf } from '../asked/records';
import { clearExhausted, exhausted } from '../base/heap';
import { LAST_BYTE } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { Span } from '../tree/node';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { slotIsTaken } from './partition';
import { slotAccess, slotNumber, wantedSlots } from './slots';

const wanted = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const cursor = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));

/** Asserts that the slots of an attachment are those that there should be, each with a number of its own. */
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
  cursor.seek(sink.stateSlot, 0);
  for (let span = cursor.span; span != null; span = cursor.span) {
    assert(at < wanted.length);
    const slot = changetype<Span>(wanted.at(at));
    at += offsetof<Span>();
    assert(slot.start == span.start && slot.last == span.last && slot.a == span.a && slot.b == span.b);
    assert(slot.c == slotAccess(span.c) && slot.c != 0 && slot.c <= <u32>ACCESS_ALL);
    assert(slotNumber(span.c) < partitionOf(partition).slotLimit && slotIsTaken(partition, slotNumber(span.c)));
    cursor.next();
  }
  assert(at == wanted.length);
}
