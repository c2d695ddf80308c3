// The nodes of span trees: how they lie in memory, and what is done to one of them.
//
//   0     1     2     4        8      16                                     valuesAt
//   +-----+-----+-----+--------+------+--------------- ... -----------------+------------ ... -------------+
//   |level|shift|count|valuesAt| stamp| leaf:  start u64, last u64 each     | leaf:  a u64, b u32, c u32 each |
//   +-----+-----+-----+--------+------+ inner: start u64, node u32, b u32 each| inner: maxLast u64 each        |
//                                     +--------------- ... -----------------+------------ ... -------------+
//
// A search reads the keys, which stand in front; a leaf's `last` and an inner node's child stand beside their start. A
// node is 512 bytes; only a root leaf may be smaller, so that the many trees of one span cost 64.
//
// `start` and `b` of a child are the first key below it at the time when it was split off; they bound everything right
// of it. The first child's are never read. `maxLast` is the largest `last` below, so that spans which overlap can be
// found by what they cover.

import { copyWords, moveWords } from '../base/bytes';
import { LAST_BYTE } from '../base/range';

const HEADER: u32 = 16;
/** Offset of a node's stamp. */
export const STAMP_AT: u32 = 8;
const KEY_SHIFT: u32 = 4;
const KEY_SIZE: u32 = 1 << KEY_SHIFT;
export const FIRST_SHIFT: u32 = 6;
export const NODE_SHIFT: u32 = 9;
const NODE_SIZE: u32 = 1 << NODE_SHIFT;

/** A stretch of addresses. */
@unmanaged
export class Stretch {
  start: u64;
  last: u64;
}

/** The three values of a span, as a leaf keeps them. */
@unmanaged
class Value {
  a: u64;
  b: u32;
  c: u32;

  /** Whether the span would have these values at `distance` from its start (mod 2^64), if it reached there: then both
   *  may be one. */
  continuesAs(distance: u64, a: u64, b: u32, c: u32): bool {
    return this.b == b && this.c == c && this.a + distance == a;
  }
}

/** A stretch with three values; what they mean is said by views (see asked/views.ts). In trees whose spans may be
 *  cut, `a` counts up with the address. */
@unmanaged
export class Span extends Stretch {
  a: u64;
  b: u32;
  c: u32;

  // @ts-ignore: decorator
  @inline
  get value(): Value {
    return changetype<Value>(changetype<usize>(this) + offsetof<Stretch>());
  }

  /** `a` at the address `at`, which lies in the span. */
  // @ts-ignore: decorator
  @inline
  aAt(at: u64): u64 {
    return this.a + (at - this.start);
  }
}

/** A key of an inner node. */
@unmanaged
class Child {
  start: u64;
  node: u32;
  b: u32;
}

@unmanaged
export class Node {
  level: u8;
  shift: u8;
  count: u16;
  valuesAt: u32;
  stamp: u64;

  // @ts-ignore: decorator
  @inline
  get keys(): usize {
    return changetype<usize>(this) + HEADER;
  }

  // @ts-ignore: decorator
  @inline
  get values(): usize {
    return changetype<usize>(this) + this.valuesAt;
  }

  /** Bytes of each value. */
  get valueSize(): u32 {
    return this.level == 0 ? VALUE_SIZE : MAX_LAST_SIZE;
  }

  /** Bytes that are in use. */
  get size(): u32 {
    return this.valuesAt + <u32>this.count * this.valueSize;
  }

  /** Number of keys that fit. */
  get capacity(): u32 {
    return (this.valuesAt - HEADER) >> KEY_SHIFT;
  }

  // @ts-ignore: decorator
  @inline
  startAt(index: u32): u64 {
    return load<u64>(this.keys + (index << KEY_SHIFT));
  }

  /** 1 if the start at a position (in use or not) is lower than `start`, else 0. */
  // @ts-ignore: decorator
  @inline
  isBefore(index: u32, start: u64): u32 {
    return u32(this.startAt(index) < start);
  }

  setStart(index: u32, start: u64): void {
    store<u64>(this.keys + (index << KEY_SHIFT), start);
  }

  /** Leaf: the last byte of the span at a position. */
  // @ts-ignore: decorator
  @inline
  lastAt(index: u32): u64 {
    return load<u64>(this.keys + (index << KEY_SHIFT), 8);
  }

  setLast(index: u32, last: u64): void {
    store<u64>(this.keys + (index << KEY_SHIFT), last, 8);
  }

  /** Leaf: the values of the span at a position. */
  // @ts-ignore: decorator
  @inline
  valueAt(index: u32): Value {
    return changetype<Value>(this.values + index * VALUE_SIZE);
  }

  // @ts-ignore: decorator
  @inline
  childAt(index: u32): Child {
    return changetype<Child>(this.keys + (index << KEY_SHIFT));
  }

  /** Inner: the largest `last` below a child. */
  maxLastAt(index: u32): u64 {
    return load<u64>(this.values + index * MAX_LAST_SIZE);
  }

  setMaxLast(index: u32, last: u64): void {
    store<u64>(this.values + index * MAX_LAST_SIZE, last);
  }

  /** The node of a child. */
  // @ts-ignore: decorator
  @inline
  nodeAt(index: u32): Node {
    return changetype<Node>(<usize>this.childAt(index).node);
  }
}

const VALUE_SIZE: u32 = offsetof<Value>();
const MAX_LAST_SIZE: u32 = 8;
export const LEAF_CAPACITY: u32 = (NODE_SIZE - HEADER) / (KEY_SIZE + VALUE_SIZE);
export const INNER_CAPACITY: u32 = (NODE_SIZE - HEADER) / (KEY_SIZE + MAX_LAST_SIZE);

/** Whether key (start, b) comes before (otherStart, otherB). */
export function precedes(start: u64, b: u32, otherStart: u64, otherB: u32): bool {
  return start < otherStart || (start == otherStart && b < otherB);
}

// ---- Search ------------------------------------------------------------------------------------

// Branches on compared starts cannot be predicted, so there are none: sums of comparisons give the run of starts, then
// the place in it. Places that are not in use hold the highest start there is, so that a whole node can be compared.

const LEAF_RUN: u32 = 4;
const INNER_RUN: u32 = 5;

/** Position of the span (start, b) in the leaf, or the position at which it belongs: the number of spans before it. */
export function positionInLeaf(leaf: Node, start: u64, b: u32): u32 {
  const count = <u32>leaf.count;
  let position: u32 = 0;
  if (leaf.shift == NODE_SHIFT) {
    position = LEAF_RUN * (leaf.isBefore(3, start) + leaf.isBefore(7, start) + leaf.isBefore(11, start));
    const run = position;
    position += leaf.isBefore(run, start) + leaf.isBefore(run + 1, start) + leaf.isBefore(run + 2, start);
  } else {
    while (position < count && leaf.startAt(position) < start) ++position;
  }
  while (position < count && leaf.startAt(position) == start && leaf.valueAt(position).b < b) ++position;
  return position;
}

/** Position of the child under which (start, b) is or belongs. */
export function positionInInner(node: Node, start: u64, b: u32): u32 {
  const count = <u32>node.count;
  let position = INNER_RUN * (node.isBefore(5, start) + node.isBefore(10, start) + node.isBefore(15, start));
  const run = position;
  position += node.isBefore(run + 1, start) + node.isBefore(run + 2, start);
  position += node.isBefore(run + 3, start) + node.isBefore(run + 4, start);
  while (position + 1 < count && node.startAt(position + 1) == start && node.childAt(position + 1).b <= b) ++position;
  return position;
}

/** The largest `last` in or below the node. */
export function maxLastOf(node: Node): u64 {
  let result: u64 = 0;
  const count = <u32>node.count;
  if (node.level == 0) for (let i: u32 = 0; i < count; ++i) result = max(result, node.lastAt(i));
  else for (let i: u32 = 0; i < count; ++i) result = max(result, node.maxLastAt(i));
  return result;
}

// ---- Change ------------------------------------------------------------------------------------

// Nothing here is journaled: callers touch the node first (see tree.ts). Precondition of all: there is room.

/** Turns a block of `1 << shift` bytes into an empty node. */
export function initialize(node: Node, level: u32, shift: u32): void {
  node.level = <u8>level;
  node.shift = <u8>shift;
  node.count = 0;
  const capacity = (((<u32>1) << shift) - HEADER) / (KEY_SIZE + node.valueSize);
  node.valuesAt = HEADER + (capacity << KEY_SHIFT);
  clearStarts(node, 0);
}

/** Gives the places from `first` on, which are not in use, the highest start. */
function clearStarts(node: Node, first: u32): void {
  for (let at = node.keys + (first << KEY_SHIFT); at < node.values; at += KEY_SIZE) store<u64>(at, LAST_BYTE);
}

export function placeSpan(leaf: Node, position: u32, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  openGap(leaf, position, VALUE_SIZE);
  leaf.setStart(position, start);
  leaf.setLast(position, last);
  const value = leaf.valueAt(position);
  value.a = a;
  value.b = b;
  value.c = c;
}

export function placeChild(node: Node, position: u32, below: Node, start: u64, b: u32): void {
  openGap(node, position, MAX_LAST_SIZE);
  node.setMaxLast(position, maxLastOf(below));
  const child = node.childAt(position);
  child.start = start;
  child.node = <u32>changetype<usize>(below);
  child.b = b;
}

function openGap(node: Node, position: u32, size: u32): void {
  const behind = <u32>node.count - position;
  const key = node.keys + (position << KEY_SHIFT);
  moveWords(key + KEY_SIZE, key, behind << KEY_SHIFT);
  const value = node.values + position * size;
  moveWords(value + size, value, behind * size);
  node.count += 1;
}

/** Removes the item at a position. */
export function takeItem(node: Node, position: u32): void {
  const behind = <u32>node.count - position - 1;
  const key = node.keys + (position << KEY_SHIFT);
  moveWords(key, key + KEY_SIZE, behind << KEY_SHIFT);
  const size = node.valueSize;
  const value = node.values + position * size;
  moveWords(value, value + size, behind * size);
  node.count -= 1;
  node.setStart(node.count, LAST_BYTE);
}

/** Moves the first `count` items of `right` behind those of `left`, another node of the same level. */
export function moveHead(left: Node, right: Node, count: u32): void {
  copyItems(left, left.count, right, 0, count);
  left.count += <u16>count;
  const rest = right.count - count;
  shiftItems(right, 0, count, rest);
  right.count = <u16>rest;
  clearStarts(right, rest);
}

/** Moves the items of `left` from position `first` on before those of `right`, another node of the same level. */
export function moveTail(right: Node, left: Node, first: u32): void {
  const moved = left.count - first;
  shiftItems(right, moved, 0, right.count);
  copyItems(right, 0, left, first, moved);
  right.count += <u16>moved;
  left.count = <u16>first;
  clearStarts(left, first);
}

function copyItems(to: Node, toPosition: u32, from: Node, fromPosition: u32, count: u32): void {
  const size = from.valueSize;
  copyWords(to.keys + (toPosition << KEY_SHIFT), from.keys + (fromPosition << KEY_SHIFT), count << KEY_SHIFT);
  copyWords(to.values + toPosition * size, from.values + fromPosition * size, count * size);
}

function shiftItems(node: Node, toPosition: u32, fromPosition: u32, count: u32): void {
  const size = node.valueSize;
  const keys = node.keys;
  const values = node.values;
  moveWords(keys + (toPosition << KEY_SHIFT), keys + (fromPosition << KEY_SHIFT), count << KEY_SHIFT);
  moveWords(values + toPosition * size, values + fromPosition * size, count * size);
}
