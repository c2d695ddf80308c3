// Windows: stretches of addresses that must be looked at again before the transaction ends, each with its owner, a space
// or a sink. They are gathered as they come, and once, when they are needed, put in order. One window too many costs
// time and changes nothing.

import { sortByKeys } from './radix';
import { VECTOR_SIZE, Vector } from './vector';

@unmanaged
export class Window {
  start: u64;
  last: u64;
  owner: u32;
  /** The edit (see before.ts) that alone is why it must be looked at; 0 if that is not so. */
  edit: u32;

  /** Takes in another window of `owner`, which begins no earlier, if they overlap, or touch and have no edit to themselves;
   *  false if it is left. */
  takeIn(owner: u32, start: u64, last: u64, edit: u32): bool {
    if (owner != this.owner) return false;
    if (start > this.last && (start != this.last + 1 || (edit | this.edit) != 0)) return false;
    this.last = max(this.last, last);
    this.edit = 0;
    return true;
  }
}

export const WINDOW_BYTES: u32 = offsetof<Window>();

/** Where another region may be seen; the owner is a space. */
export const viewWindows = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Where what a sink has may differ from what it should have; the owner is the sink. */
export const sinkWindows = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Does nothing once memory has run out. */
export function addWindow(windows: Vector, owner: u32, start: u64, last: u64, edit: u32 = 0): void {
  // Changes that follow each other often lie side by side.
  if (windows.length != 0) {
    const before = windowAt(windows, windows.length - WINDOW_BYTES);
    if (start >= before.start && before.takeIn(owner, start, last, edit)) return;
  }
  if (!windows.ensure(WINDOW_BYTES)) return;
  const window = changetype<Window>(windows.extend(WINDOW_BYTES));
  window.start = start;
  window.last = last;
  window.owner = owner;
  window.edit = edit;
}

export function windowAt(windows: Vector, at: u32): Window {
  return changetype<Window>(windows.at(at));
}

/** By owner, then by address; windows of one owner that overlap become one. */
export function settle(windows: Vector): void {
  if (windows.length <= WINDOW_BYTES) return;
  sortByKeys(windows, WINDOW_BYTES, offsetof<Window>('start'), offsetof<Window>('owner'));
  let to = windowAt(windows, 0);
  let kept = WINDOW_BYTES;
  for (let at = WINDOW_BYTES; at < windows.length; at += WINDOW_BYTES) {
    const window = windowAt(windows, at);
    if (to.takeIn(window.owner, window.start, window.last, window.edit)) continue;
    to = windowAt(windows, kept);
    memory.copy(changetype<usize>(to), changetype<usize>(window), WINDOW_BYTES);
    kept += WINDOW_BYTES;
  }
  windows.shrink(windows.length - kept);
}

/** The end of the run of windows that have the same owner as the one at `at`. */
export function runEnd(windows: Vector, at: u32): u32 {
  const owner = windowAt(windows, at).owner;
  while (at < windows.length && windowAt(windows, at).owner == owner) at += WINDOW_BYTES;
  return at;
}
