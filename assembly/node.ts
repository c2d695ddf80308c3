// The nodes of span trees: how they lie in memory, and what is done to one of them.
//
//   0     1     2     4        8      16                    valuesAt
//   +-----+-----+-----+--------+------+----- ... ----------+------ ... ------------------------------+
//   |level|shift|count|valuesAt| stamp| starts: u64 each   | leaf:  last u64, a u64, b u32, c u32 each |
//   +-----+-----+-----+--------+------+----- ... ----------+ inner: maxLast u64, node u32, b u32 each  +
//                                                          +------ ... ------------------------------+
//
// A search reads the starts alone, which lie side by side. A node is 512 bytes; only a root leaf may be smaller, so that
// the many trees of one span cost 64.
//
// `start` and `b` of a child are those of its first span when the two were parted, and bound everything right of it; those
// of the first child are never read. `maxLast` is the largest `last` below, so that spans which overlap can be found by
// what they cover.

import { copyWords, moveWords } from './bytes';
import { allocateJournaled, releaseJournaled, stampNow, touch } from './journal';

const HEADER: u32 = 16;
const STAMP_AT: u32 = 8;
const START_SHIFT: u32 = 3;
export const FIRST_SHIFT: u32 = 6;
export const NODE_SHIFT: u32 = 9;
const NODE_SIZE: u32 = 1 << NODE_SHIFT;

/** One stretch of addresses and what is said of it. In trees whose spans may be cut, `a` counts up with the address. */
@unmanaged
export class Span {
  start: u64;
  last: u64;
  a: u64;
  b: u32;
  c: u32;

  /** `a` at the address `at`, which lies in the span. */
  // @ts-ignore: decorator
  @inline
  aAt(at: u64): u64 {
    return this.a + (at - this.start);
  }
}

/** What a leaf keeps of a span beside its start. */
@unmanaged
export class Value {
  last: u64;
  a: u64;
  b: u32;
  c: u32;
}

/** What an inner node keeps of a child beside its start. */
@unmanaged
export class Child {
  maxLast: u64;
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
}

const VALUE_SIZE: u32 = offsetof<Value>();
const CHILD_SIZE: u32 = offsetof<Child>();
export const LEAF_CAPACITY: u32 = (NODE_SIZE - HEADER) / (8 + VALUE_SIZE);
export const INNER_CAPACITY: u32 = (NODE_SIZE - HEADER) / (8 + CHILD_SIZE);

/** Spans that a leaf can hold. */
export function leafCapacity(leaf: Node): u32 {
  return (leaf.valuesAt - HEADER) >> START_SHIFT;
}

// @ts-ignore: decorator
@inline
function startsOf(node: Node): usize {
  return changetype<usize>(node) + HEADER;
}

function valueSize(node: Node): u32 {
  return node.level == 0 ? VALUE_SIZE : CHILD_SIZE;
}

// @ts-ignore: decorator
@inline
export function startAt(node: Node, index: u32): u64 {
  return load<u64>(startsOf(node) + (index << START_SHIFT));
}

export function setStart(node: Node, index: u32, start: u64): void {
  store<u64>(startsOf(node) + (index << START_SHIFT), start);
}

// @ts-ignore: decorator
@inline
export function valueAt(leaf: Node, index: u32): Value {
  return changetype<Value>(changetype<usize>(leaf) + leaf.valuesAt + index * VALUE_SIZE);
}

// @ts-ignore: decorator
@inline
export function childAt(node: Node, index: u32): Child {
  return changetype<Child>(changetype<usize>(node) + node.valuesAt + index * CHILD_SIZE);
}

// @ts-ignore: decorator
@inline
export function nodeAt(node: Node, index: u32): Node {
  return changetype<Node>(<usize>childAt(node, index).node);
}

/** Whether key (start, b) comes before (otherStart, otherB). */
// @ts-ignore: decorator
@inline
export function precedes(start: u64, b: u32, otherStart: u64, otherB: u32): bool {
  return start < otherStart || (start == otherStart && b < otherB);
}

// ---- Search ------------------------------------------------------------------------------------

// From left to right: half a node is read, in the order in which the processor fetches it.

/** Number of spans in the leaf that come before (start, b): where that one is or belongs. */
export function positionInLeaf(leaf: Node, start: u64, b: u32): u32 {
  const count = <u32>leaf.count;
  let position: u32 = 0;
  while (position < count && startAt(leaf, position) < start) ++position;
  while (position < count && startAt(leaf, position) == start && valueAt(leaf, position).b < b) ++position;
  return position;
}

/** The child under which (start, b) is or belongs. */
export function positionInInner(node: Node, start: u64, b: u32): u32 {
  const count = <u32>node.count;
  let position: u32 = 1;
  while (position < count && startAt(node, position) < start) ++position;
  while (position < count && startAt(node, position) == start && childAt(node, position).b <= b) ++position;
  return position - 1;
}

/** The largest `last` in or below the node. */
export function maxLastOf(node: Node): u64 {
  let result: u64 = 0;
  const count = <u32>node.count;
  if (node.level == 0) for (let i: u32 = 0; i < count; ++i) result = max(result, valueAt(node, i).last);
  else for (let i: u32 = 0; i < count; ++i) result = max(result, childAt(node, i).maxLast);
  return result;
}

// ---- Change ------------------------------------------------------------------------------------

export function newLeaf(shift: u32): Node {
  return newNode(0, shift, (((<u32>1) << shift) - HEADER) / (8 + VALUE_SIZE));
}

export function newInner(level: u32): Node {
  return newNode(level, NODE_SHIFT, INNER_CAPACITY);
}

function newNode(level: u32, shift: u32, capacity: u32): Node {
  const node = changetype<Node>(allocateJournaled(shift));
  node.level = <u8>level;
  node.shift = <u8>shift;
  node.count = 0;
  node.valuesAt = HEADER + (capacity << START_SHIFT);
  node.stamp = stampNow();
  return node;
}

export function freeNode(node: Node): void {
  releaseJournaled(changetype<usize>(node), node.shift);
}

/** Before writing to a node. */
export function touchNode(node: Node): void {
  touch(changetype<usize>(node), node.valuesAt + <u32>node.count * valueSize(node), STAMP_AT);
}

// Preconditions of all below: the nodes that are written to were touched, and have room.

export function placeSpan(leaf: Node, position: u32, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  openGap(leaf, position, VALUE_SIZE);
  setStart(leaf, position, start);
  const value = valueAt(leaf, position);
  value.last = last;
  value.a = a;
  value.b = b;
  value.c = c;
}

export function placeChild(node: Node, position: u32, below: Node, start: u64, b: u32): void {
  openGap(node, position, CHILD_SIZE);
  setStart(node, position, start);
  const child = childAt(node, position);
  child.maxLast = maxLastOf(below);
  child.node = <u32>changetype<usize>(below);
  child.b = b;
}

function openGap(node: Node, position: u32, size: u32): void {
  const behind = <u32>node.count - position;
  const start = startsOf(node) + (position << START_SHIFT);
  moveWords(start + 8, start, behind << START_SHIFT);
  const value = changetype<usize>(node) + node.valuesAt + position * size;
  moveWords(value + size, value, behind * size);
  node.count += 1;
}

/** Takes out the item at a position. */
export function takeItem(node: Node, position: u32): void {
  const behind = <u32>node.count - position - 1;
  const start = startsOf(node) + (position << START_SHIFT);
  moveWords(start, start + 8, behind << START_SHIFT);
  const size = valueSize(node);
  const value = changetype<usize>(node) + node.valuesAt + position * size;
  moveWords(value, value + size, behind * size);
  node.count -= 1;
}

/** Moves the first `count` items of `right` behind those of `left`, another node of the same level. */
export function moveHead(left: Node, right: Node, count: u32): void {
  copyItems(left, left.count, right, 0, count);
  left.count += <u16>count;
  const rest = right.count - count;
  shiftItems(right, 0, count, rest);
  right.count = <u16>rest;
}

/** Moves the items of `left` from position `first` on before those of `right`, another node of the same level. */
export function moveTail(right: Node, left: Node, first: u32): void {
  const moved = left.count - first;
  shiftItems(right, moved, 0, right.count);
  copyItems(right, 0, left, first, moved);
  right.count += <u16>moved;
  left.count = <u16>first;
}

function copyItems(to: Node, toPosition: u32, from: Node, fromPosition: u32, count: u32): void {
  const size = valueSize(from);
  copyWords(startsOf(to) + (toPosition << START_SHIFT), startsOf(from) + (fromPosition << START_SHIFT), count << 3);
  copyWords(
    changetype<usize>(to) + to.valuesAt + toPosition * size,
    changetype<usize>(from) + from.valuesAt + fromPosition * size,
    count * size,
  );
}

function shiftItems(node: Node, toPosition: u32, fromPosition: u32, count: u32): void {
  const size = valueSize(node);
  const starts = startsOf(node);
  const values = changetype<usize>(node) + node.valuesAt;
  moveWords(starts + (toPosition << START_SHIFT), starts + (fromPosition << START_SHIFT), count << START_SHIFT);
  moveWords(values + toPosition * size, values + fromPosition * size, count * size);
}
