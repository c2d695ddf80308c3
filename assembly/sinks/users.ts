// Users of a VA space: sinks that use its HVAs.

import { ERR_BAD_ID, ERR_BAD_KIND, SINK_VA } from '../abi';
import { sinkOf, sinks, spaceOf } from '../asked/records';
import { fail } from '../base/failure';
import { addTouched, touchedSinks } from '../undo/touched';

/** Code that says why a sink of `space` cannot use `via` (an id + 1), which is to be a VA sink of the same space; 0 if
 *  it can. */
export function refuseVa(via: u32, space: u32): i32 {
  if (via == 0 || !sinks.isAlive(via - 1)) return fail(ERR_BAD_ID);
  const va = sinkOf(via - 1);
  return va.kind != <u8>SINK_VA || va.space != space + 1 || va.detaching ? fail(ERR_BAD_KIND, 0, via) : 0;
}

/** Marks [start, last] as touched in every user of a VA sink. */
export function touchUsers(va: u32, start: u64, last: u64): void {
  for (let other = spaceOf(sinkOf(va).space - 1).sinks; other != 0; other = sinkOf(other - 1).nextOfSpace) {
    if (sinkOf(other - 1).va == va + 1) addTouched(touchedSinks, other - 1, start, last);
  }
}
