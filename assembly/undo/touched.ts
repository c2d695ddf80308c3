// Windows: stretches of addresses that must be looked at again before the transaction ends, each with its owner, a
// space or a sink. They are gathered as they come, and once, when they are needed, put in order. One window too many
// costs time and changes nothing.

import { copyWords } from '../base/bytes';
import { sortByKeys } from '../base/radix';
import { VECTOR_SIZE, Vector } from '../base/vector';

@unmanaged
export class Window {
  start: u64;
  last: u64;
  owner: u32;
  /** The edit (see before.ts) that is the only reason for it; 0 if there is none, or are others. */
  edit: u32;

  /** Takes in another window of `owner`, which begins no earlier, if they overlap, or touch and have no edit to
   *  themselves; false if it is left. */
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
    if ((edit | before.edit) == 0 && start >= before.start && before.takeIn(owner, start, last, 0)) return;
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

/** By owner, then by address. */
export function putInOrder(windows: Vector): void {
  if (windows.length > WINDOW_BYTES) {
    sortByKeys(windows, WINDOW_BYTES, offsetof<Window>('start'), offsetof<Window>('owner'));
  }
}

/** Windows that are to be looked at as one. */
export const group = changetype<Window>(memory.data(32, 8));
/** Whether edits are the only reasons for it. */
export let isGroupOfEdits: bool = false;

/** Makes `group` of the window at `at` and those behind it, which are in order, that it takes in. Returns the next
 *  one. */
export function takeGroup(windows: Vector, at: u32): u32 {
  copyWords(changetype<usize>(group), windows.at(at), WINDOW_BYTES);
  isGroupOfEdits = group.edit != 0;
  for (at += WINDOW_BYTES; at < windows.length; at += WINDOW_BYTES) {
    const window = windowAt(windows, at);
    if (!group.takeIn(window.owner, window.start, window.last, window.edit)) break;
    if (window.edit == 0) isGroupOfEdits = false;
  }
  return at;
}

/** The end of the run of windows that have the same owner as the one at `at`. */
export function runEnd(windows: Vector, at: u32): u32 {
  const owner = windowAt(windows, at).owner;
  while (at < windows.length && windowAt(windows, at).owner == owner) at += WINDOW_BYTES;
  return at;
}
