// Changes of VA spaces: stretches whose piece is not what it was, in order of sink and address. Found by comparing,
// then turned into commands; slots ask here what becomes of the bytes that they show.

import { CLASS_CHANGED, CLASS_NONE, CLASS_UNCHANGED_BYTES } from '../abi';
import { sinkOf } from '../asked/records';
import { LAST_BYTE } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { PIECE_BYTES, wantedParts } from './parts';

/** A stretch whose piece is not what it was. */
@unmanaged
export class Change {
  sink: u32;
  pieceBefore: bool;
  pieceNow: bool;
  accessBefore: u8;
  accessNow: u8;
  start: u64;
  last: u64;
  offsetBefore: u64;
  offsetNow: u64;
  objectBefore: u32;
  objectNow: u32;
  region: u32;
  unused: u32;
  offsetInRegion: u64;

  get sameBytes(): bool {
    return (
      this.pieceBefore && this.pieceNow && this.objectBefore == this.objectNow && this.offsetBefore == this.offsetNow
    );
  }
}

export const CHANGE_BYTES: u32 = offsetof<Change>();

export const changes = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Scratch: parts that stay as they are. */
const unchanged = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Class of what is mapped in [start, last] of a VA sink before and now: CLASS_UNCHANGED_BYTES if some byte of it
 *  stays the same, CLASS_CHANGED if all of it changes, CLASS_NONE if there is none. Precondition: VA spaces have
 *  been compared. */
export function bytesKept(va: u32, start: u64, last: u64): u32 {
  let result: u32 = CLASS_NONE;
  let at = start;
  let index = firstChange(va, start);
  while (true) {
    const change = changetype<Change>(changes.at(index));
    const isLast = index == changes.length || change.sink != va || change.start > last;
    // Up to the next change everything is as it was.
    if (isLast || change.start > at) {
      unchanged.clear();
      wantedParts(sinkOf(va), at, isLast ? last : change.start - 1, unchanged, PIECE_BYTES);
      if (unchanged.length != 0) return CLASS_UNCHANGED_BYTES;
    }
    if (isLast) return result;
    if (change.sameBytes) return CLASS_UNCHANGED_BYTES;
    if (change.pieceBefore && change.pieceNow) result = CLASS_CHANGED;
    if (change.last >= last) return result;
    at = change.last + 1;
    index += CHANGE_BYTES;
  }
}

/** Last address up to which the last answer of `changeAt` holds. */
export let changeLast: u64 = 0;

/** Change of a VA sink at `at`; null where there is none. */
export function changeAt(va: u32, at: u64): Change | null {
  const index = firstChange(va, at);
  changeLast = LAST_BYTE;
  if (index == changes.length) return null;
  const change = changetype<Change>(changes.at(index));
  if (change.sink != va) return null;
  const isInside = change.start <= at;
  changeLast = isInside ? change.last : change.start - 1;
  return isInside ? change : null;
}

/** Offset in `changes` of the first that ends at or after `at`. */
function firstChange(va: u32, at: u64): u32 {
  let low: u32 = 0;
  let high: u32 = changes.length / CHANGE_BYTES;
  while (low < high) {
    const middle = (low + high) >> 1;
    const change = changetype<Change>(changes.at(middle * CHANGE_BYTES));
    if (change.sink < va || (change.sink == va && change.last < at)) low = middle + 1;
    else high = middle;
  }
  return low * CHANGE_BYTES;
}
