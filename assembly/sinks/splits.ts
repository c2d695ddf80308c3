// Splits: boundaries between slots that could be one. A slot that was cut stays cut when what hid a part of it goes,
// so that the next time only the part in the middle goes and comes: at the same cost for slots of any size, and while
// vCPUs run on in the rest.
//
//   RAM seen as one           |--------------- slot 0 ---------------|
//   a ROM over a part of it   |--- slot 0 ---|  slot 1  |-- slot 2 --|
//   the ROM is gone           |--- slot 0 ---|  slot 1  |-- slot 2 --|    other bytes in slot 1
//
// Slots are joined again when a partition runs short of them: `joinWhereShort` in slots.ts.

import { copyWords } from '../base/bytes';
import { Vector } from '../base/vector';
import { PlacedSlot, SLOT_BYTES } from './slot';

/** Appends the `wanted` slots to `out`, cut so that each of the `current` ones that is as a part of one is one of its
 *  own. All lists are in order. Does nothing more once memory has run out. */
export function keepSplits(current: Vector, wanted: Vector, out: Vector): void {
  let passed: u32 = 0;
  for (let at: u32 = 0; at < wanted.length; at += SLOT_BYTES) {
    const whole = changetype<PlacedSlot>(wanted.at(at));
    let from = whole.start;
    let isCovered = false;
    for (; passed < current.length && !isCovered; passed += SLOT_BYTES) {
      const slot = changetype<PlacedSlot>(current.at(passed));
      if (slot.start > whole.last) break;
      if (!whole.hasPart(slot)) continue;
      if (slot.start != from) appendPart(whole, from, slot.start - 1, out);
      appendPart(whole, slot.start, slot.last, out);
      isCovered = slot.last == whole.last;
      from = slot.last + 1;
    }
    if (!isCovered) appendPart(whole, from, whole.last, out);
  }
}

function appendPart(whole: PlacedSlot, start: u64, last: u64, out: Vector): void {
  if (!out.ensure(SLOT_BYTES)) return;
  const part = changetype<PlacedSlot>(out.extend(SLOT_BYTES));
  copyWords(changetype<usize>(part), changetype<usize>(whole), SLOT_BYTES);
  part.cutTo(start, last);
}
