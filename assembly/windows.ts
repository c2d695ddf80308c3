// Windows: stretches of addresses that must be looked at again before the transaction ends, each with its owner, a space
// or a sink. They are gathered as they come, and once, when they are needed, put in order. One window too many costs
// time and changes nothing, so what an aborted inner transaction marked just stays.

import { LAST_BYTE } from './range';
import { sort } from './sort';
import { VECTOR_SIZE, Vector } from './vector';

@unmanaged
export class Window {
  start: u64;
  last: u64;
  owner: u32;
  unused: u32;

  /** Takes in [start, last] of `owner`, which begins no earlier, if it is not apart from this one; false if it is. */
  takeIn(owner: u32, start: u64, last: u64): bool {
    if (owner != this.owner || (this.last != LAST_BYTE && start > this.last + 1)) return false;
    this.last = max(this.last, last);
    return true;
  }
}

export const WINDOW_BYTES: u32 = offsetof<Window>();

/** Where another region may be seen; the owner is a space. */
export const viewWindows = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Where what a sink has may differ from what it should have; the owner is the sink. */
export const sinkWindows = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Does nothing once memory has run out. */
export function addWindow(windows: Vector, owner: u32, start: u64, last: u64): void {
  // Changes that follow each other often lie side by side.
  if (windows.length != 0) {
    const before = windowAt(windows, windows.length - WINDOW_BYTES);
    if (start >= before.start && before.takeIn(owner, start, last)) return;
  }
  if (!windows.ensure(WINDOW_BYTES)) return;
  const window = changetype<Window>(windows.extend(WINDOW_BYTES));
  window.start = start;
  window.last = last;
  window.owner = owner;
}

export function windowAt(windows: Vector, at: u32): Window {
  return changetype<Window>(windows.at(at));
}

/** By owner, then by address; windows of one owner that touch or overlap become one. */
export function settle(windows: Vector): void {
  if (windows.length <= WINDOW_BYTES) return;
  sort(windows.at(0), windows.length / WINDOW_BYTES, WINDOW_BYTES, (left, right) => {
    const a = changetype<Window>(left);
    const b = changetype<Window>(right);
    return a.owner != b.owner ? a.owner < b.owner : a.start < b.start;
  });
  let to = windowAt(windows, 0);
  let kept = WINDOW_BYTES;
  for (let at = WINDOW_BYTES; at < windows.length; at += WINDOW_BYTES) {
    const window = windowAt(windows, at);
    if (to.takeIn(window.owner, window.start, window.last)) continue;
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
