// The merge-walk: two sorted lists of disjoint spans, side by side, cut into segments that lie in one span of the left
// list, of the right list, or of both.
//
//   left    |-----------|       |-----|
//   right         |-----------------------|
//   walk    |left |both |right  |both |rgt|

import { LAST_BYTE } from '../base/range';
import { Span } from './node';

@unmanaged
export class Walk {
  private left: usize;
  private leftEnd: usize;
  private right: usize;
  private rightEnd: usize;
  /** Bytes from one item of a list to the next. */
  private stride: u32;
  private done: bool;
  /** First address that no segment has covered yet. */
  private at: u64;

  /** The segment [start, last], and the span of each list that it lies in. */
  start: u64;
  last: u64;
  inLeft: Span | null;
  inRight: Span | null;

  begin(left: usize, leftEnd: usize, right: usize, rightEnd: usize, stride: u32): void {
    this.left = left;
    this.leftEnd = leftEnd;
    this.right = right;
    this.rightEnd = rightEnd;
    this.stride = stride;
    this.at = 0;
    this.done = false;
  }

  /** Goes to the next segment; false when there is none. */
  next(): bool {
    if (this.done) return false;
    const at = this.at;
    while (this.left < this.leftEnd && changetype<Span>(this.left).last < at) this.left += this.stride;
    while (this.right < this.rightEnd && changetype<Span>(this.right).last < at) this.right += this.stride;
    const left = this.left < this.leftEnd ? changetype<Span>(this.left) : null;
    const right = this.right < this.rightEnd ? changetype<Span>(this.right) : null;
    if (left == null && right == null) return false;
    const leftStart = left != null ? max(left.start, at) : LAST_BYTE;
    const rightStart = right != null ? max(right.start, at) : LAST_BYTE;
    const start = left == null ? rightStart : right == null ? leftStart : min(leftStart, rightStart);
    let last = LAST_BYTE;
    this.inLeft = null;
    this.inRight = null;
    if (left != null) {
      if (leftStart == start) {
        this.inLeft = left;
        last = left.last;
      } else {
        last = leftStart - 1;
      }
    }
    if (right != null) {
      if (rightStart == start) {
        this.inRight = right;
        last = min(last, right.last);
      } else {
        last = min(last, rightStart - 1);
      }
    }
    this.start = start;
    this.last = last;
    this.at = last + 1;
    this.done = last == LAST_BYTE;
    return true;
  }
}

/** Bytes of a Walk: each lives in static memory, as `changetype<Walk>(memory.data(WALK_SIZE, 8))`. */
export const WALK_SIZE: i32 = 64;
