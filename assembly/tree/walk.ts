// The merge-walk: two sorted lists of disjoint spans, side by side, cut into segments that lie in one span of the left
// list, of the right list, or of both.
//
//   left    |-----------|       |-----|
//   right         |-----------------------|
//   walk    |left |both |right  |both |rgt|

import { LAST_BYTE } from '../base/range';
import { Vector } from '../base/vector';
import { Stretch } from './node';

/** A walk over two lists of `Item`, a kind of Stretch. */
@unmanaged
export class Walk<Item extends Stretch> {
  private left: usize;
  private leftEnd: usize;
  private right: usize;
  private rightEnd: usize;
  private done: bool;
  /** First address that no segment has covered yet. */
  private at: u64;

  /** The segment [start, last], and the span of each list that it lies in. */
  start: u64;
  last: u64;
  inLeft: Item | null;
  inRight: Item | null;

  /** Begins with the lists, each from an offset in bytes on; they are in order, and must not change until the walk
   *  has ended. */
  begin(left: Vector, right: Vector, leftFrom: u32 = 0, rightFrom: u32 = 0): void {
    this.left = left.at(leftFrom);
    this.leftEnd = left.end;
    this.right = right.at(rightFrom);
    this.rightEnd = right.end;
    this.at = 0;
    this.inLeft = null;
    this.inRight = null;
    this.done = false;
  }

  /** Goes to the next segment; false when there is none. */
  next(): bool {
    if (this.done) return false;
    const at = this.at;
    // A segment ends no later than a span that it lies in: at most one span of each list lies behind it.
    if (this.left != this.leftEnd && changetype<Item>(this.left).last < at) this.left += offsetof<Item>();
    if (this.right != this.rightEnd && changetype<Item>(this.right).last < at) this.right += offsetof<Item>();
    const left = this.left != this.leftEnd ? changetype<Item>(this.left) : null;
    const right = this.right != this.rightEnd ? changetype<Item>(this.right) : null;
    if (left == null && right == null) return false;
    // Spans that begin before a segment were in the one before it: else the list is not in order.
    assert(left == null || left.start >= at || left == this.inLeft);
    assert(right == null || right.start >= at || right == this.inRight);
    const leftFrom = left != null ? max(left.start, at) : LAST_BYTE;
    const rightFrom = right != null ? max(right.start, at) : LAST_BYTE;
    const start = min(leftFrom, rightFrom);
    const inLeft = leftFrom == start ? left : null;
    const inRight = rightFrom == start ? right : null;
    const leftLast = inLeft != null ? inLeft.last : left != null ? leftFrom - 1 : LAST_BYTE;
    const rightLast = inRight != null ? inRight.last : right != null ? rightFrom - 1 : LAST_BYTE;
    const last = min(leftLast, rightLast);
    this.inLeft = inLeft;
    this.inRight = inRight;
    this.start = start;
    this.last = last;
    this.at = last + 1;
    this.done = last == LAST_BYTE;
    return true;
  }
}

/** Bytes of a Walk: each lives in static memory, as `changetype<Walk<Span>>(memory.data(WALK_SIZE, 8))`. */
export const WALK_SIZE: i32 = 64;
