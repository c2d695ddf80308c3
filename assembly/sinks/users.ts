// Users of a VA space: sinks that use its HVAs.

import { sinkOf, spaceOf } from '../asked/records';
import { addTouched, touchedSinks } from '../undo/touched';

/** Marks [start, last] as touched in every user of a VA sink. */
export function touchUsers(va: u32, start: u64, last: u64): void {
  for (let other = spaceOf(sinkOf(va).space - 1).sinks; other != 0; other = sinkOf(other - 1).nextOfSpace) {
    if (sinkOf(other - 1).va == va + 1) addTouched(touchedSinks, other - 1, start, last);
  }
}
