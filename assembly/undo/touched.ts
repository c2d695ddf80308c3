// Touched ranges: stretches of addresses that a change may have altered, to be looked at again before the transaction
// ends. Each has an owner, an address space or a sink. They are gathered as they come, and put in order when they are
// needed. One too many costs time and changes nothing.

import { copyWords } from '../base/bytes';
import { sortByKeys } from '../base/radix';
import { VECTOR_SIZE, Vector } from '../base/vector';

@unmanaged
class TouchedRange {
  start: u64;
  last: u64;
  owner: u32;
  /** The edit (see before.ts) that is the only reason for it; 0 if there is none, or are others. */
  edit: u32;

  /** Takes in another range of `owner`, which begins no earlier, if they overlap, or adjoin and have no edit to
   *  themselves; false if it is left. */
  takeIn(owner: u32, start: u64, last: u64, edit: u32): bool {
    if (owner != this.owner) return false;
    if (start > this.last && (start != this.last + 1 || (edit | this.edit) != 0)) return false;
    this.last = max(this.last, last);
    this.edit = 0;
    return true;
  }
}

export const TOUCHED_BYTES: u32 = offsetof<TouchedRange>();

/** Ranges in which another region may be seen; the owner is a space. */
export const touchedViews = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Ranges in which what a sink has may differ from what it should have; the owner is the sink. */
export const touchedSinks = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Notes [start, last] of an owner as touched; `edit`: the only reason for it, 0 for others. Does nothing once memory
 *  has run out. */
export function addTouched(ranges: Vector, owner: u32, start: u64, last: u64, edit: u32 = 0): void {
  assert(start <= last);
  // Changes that follow each other often lie side by side.
  if (ranges.length != 0) {
    const before = touchedAt(ranges, ranges.length - TOUCHED_BYTES);
    if ((edit | before.edit) == 0 && start >= before.start && before.takeIn(owner, start, last, 0)) return;
  }
  if (!ranges.ensure(TOUCHED_BYTES)) return;
  const range = changetype<TouchedRange>(ranges.extend(TOUCHED_BYTES));
  range.start = start;
  range.last = last;
  range.owner = owner;
  range.edit = edit;
}

export function touchedAt(ranges: Vector, at: u32): TouchedRange {
  return changetype<TouchedRange>(ranges.at(at));
}

/** Sorts touched ranges by owner, then by address. */
export function putInOrder(ranges: Vector): void {
  if (ranges.length > TOUCHED_BYTES) {
    sortByKeys(ranges, TOUCHED_BYTES, offsetof<TouchedRange>('start'), offsetof<TouchedRange>('owner'));
  }
}

/** Touched ranges that are to be looked at as one. */
export const group = changetype<TouchedRange>(memory.data(32, 8));
/** Whether edits are the only reasons for it. */
export let isGroupOfEdits: bool = false;

/** Makes `group` of the range at `at` and those behind it, which are in order, that it takes in. Returns the next
 *  one. */
export function takeGroup(ranges: Vector, at: u32): u32 {
  copyWords(changetype<usize>(group), ranges.at(at), TOUCHED_BYTES);
  isGroupOfEdits = group.edit != 0;
  for (at += TOUCHED_BYTES; at < ranges.length; at += TOUCHED_BYTES) {
    const range = touchedAt(ranges, at);
    assert(range.owner > group.owner || (range.owner == group.owner && range.start >= group.start));
    if (!group.takeIn(range.owner, range.start, range.last, range.edit)) break;
    if (range.edit == 0) isGroupOfEdits = false;
  }
  return at;
}

/** The end of the run of ranges that have the same owner as the one at `at`. */
export function runEnd(ranges: Vector, at: u32): u32 {
  const owner = touchedAt(ranges, at).owner;
  while (at < ranges.length && touchedAt(ranges, at).owner == owner) at += TOUCHED_BYTES;
  return at;
}
