// A memory slot.

import { Span } from '../tree/node';

const ACCESS_BITS: u32 = 8;
const ACCESS_MASK: u32 = (1 << ACCESS_BITS) - 1;

/** A memory slot, at [start, last] (GPAs of the space). One that only should be there has no number yet: it is 0. */
@unmanaged
export class Slot extends Span {
  get offsetInRegion(): u64 {
    return this.a;
  }
  get region(): u32 {
    return this.b;
  }
  get number(): u32 {
    return numberOf(this.c);
  }
  /** ACCESS_*. */
  get access(): u32 {
    return accessOf(this.c);
  }
}

/** A slot with the GPA in the VA space whose HVA it has: its own, but for an echo. */
@unmanaged
export class PlacedSlot extends Slot {
  home: u64;

  /** Whether a slot is as this one is, or as a part of it. */
  hasPart(slot: PlacedSlot): bool {
    const isInside = slot.start >= this.start && slot.last <= this.last;
    return isInside && slot.access == this.access && slot.home - slot.start == this.home - this.start;
  }

  /** Makes this [start, last] of what it is. Precondition: it has them. */
  cutTo(start: u64, last: u64): void {
    assert(start >= this.start && start <= last && last <= this.last);
    this.a += start - this.start;
    this.home += start - this.start;
    this.start = start;
    this.last = last;
  }
}

export const SLOT_BYTES: u32 = offsetof<PlacedSlot>();

/** `Slot.c` of a slot with this number and access. */
export function packSlot(number: u32, access: u32): u32 {
  return (number << ACCESS_BITS) | access;
}

/** Number of a slot whose `c` that is. */
export function numberOf(packed: u32): u32 {
  return packed >> ACCESS_BITS;
}

/** Access (ACCESS_*) of a slot whose `c` that is. */
export function accessOf(packed: u32): u32 {
  return packed & ACCESS_MASK;
}
