// Memory slots as the guest sees them: where one ends and the next one goes on, it cannot tell.

import type { Address } from '../../ts/index.ts';

interface SlotFacts {
  readonly gpa: Address;
  readonly length: Address;
  readonly access: string;
}

/** Ranges that slots show, in order of GPA, those of neighbours with the same access joined. */
export function joinedSlots(slots: Iterable<SlotFacts>): { gpa: number; length: number; access: string }[] {
  const joined: { gpa: number; length: number; access: string }[] = [];
  for (const slot of [...slots].sort((a, b) => Number(a.gpa) - Number(b.gpa))) {
    const [gpa, length, { access }] = [Number(slot.gpa), Number(slot.length), slot];
    const before = joined.at(-1);
    if (before !== undefined && before.gpa + before.length === gpa && before.access === access) before.length += length;
    else joined.push({ gpa, length, access });
  }
  return joined;
}
