// The span tree: a B+-tree of spans [start, last], each with three values, in order of (start, b). Everything ordered
// in the core is one of these: a region's children and mappings, flat views, VA pieces, memory slots, protections.
//
//   leaf                                            inner node
//    0     1     2     4        8      16            0 .. 16  as in a leaf
//   +-----+-----+-----+--------+------+-----        +----------------------------------------------------+
//   |level|shift|count| unused | stamp| spans       | children: start u64, maxLast u64, node u32, b u32  |
//   +-----+-----+-----+--------+------+-----        +----------------------------------------------------+
//   span: start u64, last u64, a u64, b u32, c u32
//
// A node is 512 bytes; only a root leaf may be smaller, so that the many trees of one span cost 64. `start` and `b` of a
// child are those of its first span when the two were parted, and bound everything right of it; those of the first child are
// never read. `maxLast` is the largest `last` below, so that spans which overlap can be found by what they cover.
//
// A tree is known by its slot: the address of the u32 that holds its root, 0 for an empty tree. Every change is journaled.

import { moveWords } from './bytes';
import { allocateJournaled, ensureStep, releaseJournaled, saveImage, stampNow, touch } from './journal';
import { Vector } from './vector';

export const HEADER: u32 = 16;
const STAMP_AT: u32 = 8;
const SPAN_SHIFT: u32 = 5;
export const SPAN_SIZE: u32 = 1 << SPAN_SHIFT;
const CHILD_SIZE: u32 = 24;
const FIRST_SHIFT: u32 = 6;
export const NODE_SHIFT: u32 = 9;
const NODE_SIZE: u32 = 1 << NODE_SHIFT;
const LEAF_CAPACITY: u32 = (NODE_SIZE - HEADER) / SPAN_SIZE;
export const INNER_CAPACITY: u32 = (NODE_SIZE - HEADER) / CHILD_SIZE;
/** Free places that two leaves must have together to share their spans. */
const SHARED: u32 = 4;
/** Nodes this full or emptier look for a neighbour to join. */
const SPARSE: u32 = 6;
const MAX_HEIGHT: i32 = 16;

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

@unmanaged
export class Node {
  level: u8;
  shift: u8;
  count: u16;
  unused: u32;
  stamp: u64;
}

@unmanaged
export class Child {
  start: u64;
  maxLast: u64;
  node: u32;
  b: u32;
}

/** The way down to the leaf of the last search: one tree operation at a time uses it. */
const pathNodes: usize = memory.data(4 * MAX_HEIGHT, 8);
const pathIndexes: usize = memory.data(4 * MAX_HEIGHT, 8);

export function spanAt(node: Node, index: u32): Span {
  return changetype<Span>(changetype<usize>(node) + HEADER + (index << SPAN_SHIFT));
}

export function childAt(node: Node, index: u32): Child {
  return changetype<Child>(changetype<usize>(node) + HEADER + index * CHILD_SIZE);
}

export function rootOf(slot: usize): Node {
  return changetype<Node>(<usize>load<u32>(slot));
}

function touchNode(node: Node): void {
  touch(changetype<usize>(node), HEADER + <u32>node.count * (node.level == 0 ? SPAN_SIZE : CHILD_SIZE), STAMP_AT);
}

function setRoot(slot: usize, node: usize): void {
  saveImage(slot & ~7, 8);
  store<u32>(slot, <u32>node);
}

function newNode(level: u32, shift: u32): Node {
  const node = changetype<Node>(allocateJournaled(shift));
  node.level = <u8>level;
  node.shift = <u8>shift;
  node.count = 0;
  node.stamp = stampNow();
  return node;
}

function freeNode(node: Node): void {
  releaseJournaled(changetype<usize>(node), node.shift);
}

/** Number of spans in the leaf that sort before (start, b): where that one is or belongs. */
function positionInLeaf(node: Node, start: u64, b: u32): u32 {
  let low: u32 = 0;
  let high: u32 = node.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    const span = spanAt(node, middle);
    if (span.start < start || (span.start == start && span.b < b)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The child under which (start, b) is or belongs. */
function positionInInner(node: Node, start: u64, b: u32): u32 {
  let low: u32 = 1;
  let high: u32 = node.count;
  while (low < high) {
    const middle = (low + high) >> 1;
    const child = childAt(node, middle);
    if (child.start < start || (child.start == start && child.b <= b)) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Fills the path from the root to the leaf of (start, b); returns the depth of the leaf. */
function descend(slot: usize, start: u64, b: u32): i32 {
  let node = rootOf(slot);
  let depth = 0;
  while (node.level != 0) {
    const index = positionInInner(node, start, b);
    store<u32>(pathNodes + (depth << 2), <u32>changetype<usize>(node));
    store<u32>(pathIndexes + (depth << 2), index);
    node = changetype<Node>(<usize>childAt(node, index).node);
    ++depth;
    assert(depth < MAX_HEIGHT);
  }
  store<u32>(pathNodes + (depth << 2), <u32>changetype<usize>(node));
  return depth;
}

function pathNode(depth: i32): Node {
  return changetype<Node>(<usize>load<u32>(pathNodes + (depth << 2)));
}

function pathIndex(depth: i32): u32 {
  return load<u32>(pathIndexes + (depth << 2));
}

export function maxLastOf(node: Node): u64 {
  let result: u64 = 0;
  const count = <u32>node.count;
  if (node.level == 0) for (let i: u32 = 0; i < count; ++i) result = max(result, spanAt(node, i).last);
  else for (let i: u32 = 0; i < count; ++i) result = max(result, childAt(node, i).maxLast);
  return result;
}

// ---- Insert --------------------------------------------------------------------------------

/** Adds a span that is not in the tree; does nothing once memory has run out. */
export function insert(slot: usize, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  if (!ensureStep()) return;
  if (load<u32>(slot) == 0) {
    const leaf = newNode(0, FIRST_SHIFT);
    setRoot(slot, changetype<usize>(leaf));
    placeSpan(leaf, 0, start, last, a, b, c);
    return;
  }
  const depth = descend(slot, start, b);
  insertAt(slot, depth, positionInLeaf(pathNode(depth), start, b), start, last, a, b, c);
}

/** At a position in the leaf that the path leads to. Precondition: `ensureStep` said yes. */
function insertAt(slot: usize, depth: i32, position: u32, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  let leaf = pathNode(depth);
  const capacity = (((<u32>1) << leaf.shift) - HEADER) >> SPAN_SHIFT;
  let split = changetype<Node>(0);
  if (leaf.count == capacity) {
    if (leaf.shift < NODE_SHIFT) {
      leaf = enlarge(slot, leaf);
    } else if (position != LEAF_CAPACITY && shareLeaf(depth)) {
      insert(slot, start, last, a, b, c);
      return;
    } else {
      // A span at the very end leaves the node full: trees that are filled in order stay dense.
      const keep = position == LEAF_CAPACITY ? LEAF_CAPACITY : LEAF_CAPACITY / 2;
      split = splitNode(leaf, keep, SPAN_SIZE);
      if (position >= keep) {
        placeSpan(split, position - keep, start, last, a, b, c);
        leaf = changetype<Node>(0);
      }
    }
  }
  if (changetype<usize>(leaf) != 0) {
    touchNode(leaf);
    placeSpan(leaf, position, start, last, a, b, c);
  }
  if (changetype<usize>(split) != 0) {
    const first = spanAt(split, 0);
    propagateSplit(slot, depth, split, first.start, first.b);
  } else {
    raiseMaxLast(depth, last);
  }
}

function placeSpan(leaf: Node, position: u32, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  const span = spanAt(leaf, position);
  const at = changetype<usize>(span);
  moveWords(at + SPAN_SIZE, at, (<u32>leaf.count - position) << SPAN_SHIFT);
  span.start = start;
  span.last = last;
  span.a = a;
  span.b = b;
  span.c = c;
  leaf.count += 1;
}

/** Gives spans of the full leaf at the end of the path to a neighbour; false if neither has room for some. */
function shareLeaf(depth: i32): bool {
  if (depth == 0) return false;
  const parent = pathNode(depth - 1);
  const index = pathIndex(depth - 1);
  return (index + 1 < parent.count && evenOut(parent, index)) || (index > 0 && evenOut(parent, index - 1));
}

/** Moves spans between the leaves `index` and `index + 1` until both have the same number; false if both are nearly full. */
function evenOut(parent: Node, index: u32): bool {
  const left = changetype<Node>(<usize>childAt(parent, index).node);
  const right = changetype<Node>(<usize>childAt(parent, index + 1).node);
  const total = <u32>left.count + right.count;
  if (total > 2 * LEAF_CAPACITY - SHARED) return false;
  touchNode(parent);
  touchNode(left);
  touchNode(right);
  const half = total >> 1;
  const first = changetype<usize>(spanAt(right, 0));
  if (left.count > half) {
    const moved = (left.count - half) << SPAN_SHIFT;
    moveWords(first + moved, first, (<u32>right.count) << SPAN_SHIFT);
    moveWords(first, changetype<usize>(spanAt(left, half)), moved);
  } else {
    const moved = (half - left.count) << SPAN_SHIFT;
    moveWords(changetype<usize>(spanAt(left, left.count)), first, moved);
    moveWords(first, first + moved, ((<u32>right.count) << SPAN_SHIFT) - moved);
  }
  left.count = <u16>half;
  right.count = <u16>(total - half);
  childAt(parent, index).maxLast = maxLastOf(left);
  const bound = childAt(parent, index + 1);
  bound.start = spanAt(right, 0).start;
  bound.b = spanAt(right, 0).b;
  bound.maxLast = maxLastOf(right);
  return true;
}

/** Replaces a full root leaf by one of twice the size. */
function enlarge(slot: usize, leaf: Node): Node {
  const larger = newNode(0, leaf.shift + 1);
  larger.count = leaf.count;
  memory.copy(changetype<usize>(larger) + HEADER, changetype<usize>(leaf) + HEADER, (<u32>leaf.count) << SPAN_SHIFT);
  freeNode(leaf);
  setRoot(slot, changetype<usize>(larger));
  return larger;
}

/** Moves all items from `keep` on into a new right neighbour. */
function splitNode(node: Node, keep: u32, itemSize: u32): Node {
  const right = newNode(node.level, NODE_SHIFT);
  touchNode(node);
  const moved = node.count - keep;
  memory.copy(changetype<usize>(right) + HEADER, changetype<usize>(node) + HEADER + keep * itemSize, moved * itemSize);
  right.count = <u16>moved;
  node.count = <u16>keep;
  return right;
}

/** Enters `right`, split off from the node at `depth`, above it, as far up as nodes split. */
function propagateSplit(slot: usize, depth: i32, right: Node, start: u64, b: u32): void {
  while (true) {
    const left = pathNode(depth);
    if (depth == 0) {
      const root = newNode(left.level + 1, NODE_SHIFT);
      placeChild(root, 0, left, start, b);
      placeChild(root, 1, right, start, b);
      setRoot(slot, changetype<usize>(root));
      return;
    }
    --depth;
    const parent = pathNode(depth);
    const index = pathIndex(depth);
    touchNode(parent);
    childAt(parent, index).maxLast = maxLastOf(left);
    if (parent.count < INNER_CAPACITY) {
      placeChild(parent, index + 1, right, start, b);
      // The new span may have raised the largest `last` of all nodes above.
      raiseMaxLast(depth, childAt(parent, index).maxLast);
      raiseMaxLast(depth, childAt(parent, index + 1).maxLast);
      return;
    }
    const keep = index + 1 == INNER_CAPACITY ? INNER_CAPACITY - 1 : INNER_CAPACITY / 2;
    const parentSplit = splitNode(parent, keep, CHILD_SIZE);
    if (index + 1 >= keep + 1) placeChild(parentSplit, index + 1 - keep, right, start, b);
    else placeChild(parent, index + 1, right, start, b);
    const first = childAt(parentSplit, 0);
    right = parentSplit;
    start = first.start;
    b = first.b;
  }
}

function placeChild(node: Node, position: u32, below: Node, start: u64, b: u32): void {
  const child = childAt(node, position);
  const at = changetype<usize>(child);
  memory.copy(at + CHILD_SIZE, at, (node.count - position) * CHILD_SIZE);
  child.start = start;
  child.b = b;
  child.maxLast = maxLastOf(below);
  child.node = <u32>changetype<usize>(below);
  node.count += 1;
}

/** Makes `maxLast` of every child on the path above `depth` at least `last`. */
function raiseMaxLast(depth: i32, last: u64): void {
  while (--depth >= 0) {
    const parent = pathNode(depth);
    const child = childAt(parent, pathIndex(depth));
    if (child.maxLast >= last) return;
    touchNode(parent);
    childAt(parent, pathIndex(depth)).maxLast = last;
  }
}

// ---- Remove --------------------------------------------------------------------------------

/** Takes out the span (start, b), which is in the tree; does nothing once memory has run out. */
export function remove(slot: usize, start: u64, b: u32): void {
  if (!ensureStep()) return;
  const depth = descend(slot, start, b);
  const leaf = pathNode(depth);
  const position = positionInLeaf(leaf, start, b);
  const span = spanAt(leaf, position);
  assert(position < leaf.count && span.start == start && span.b == b);
  removeAt(slot, depth, position);
}

/** At a position in the leaf that the path leads to. Precondition: `ensureStep` said yes. */
function removeAt(slot: usize, depth: i32, position: u32): void {
  const leaf = pathNode(depth);
  touchNode(leaf);
  takeItem(leaf, position, SPAN_SIZE);
  // Upwards: what got sparse joins a neighbour, what got empty goes, and `maxLast` is made right again.
  for (; depth > 0; --depth) {
    const node = pathNode(depth);
    const parent = pathNode(depth - 1);
    const index = pathIndex(depth - 1);
    if (node.count <= SPARSE && joinWithNeighbour(parent, index)) continue;
    if (node.count == 0) {
      touchNode(parent);
      takeItem(parent, index, CHILD_SIZE);
      freeNode(node);
    } else {
      const maxLast = maxLastOf(node);
      const child = childAt(parent, index);
      if (child.maxLast == maxLast) break;
      touchNode(parent);
      child.maxLast = maxLast;
    }
  }
  shortenRoot(slot);
}

function takeItem(node: Node, position: u32, itemSize: u32): void {
  const at = changetype<usize>(node) + HEADER + position * itemSize;
  moveWords(at, at + itemSize, (<u32>node.count - position - 1) * itemSize);
  node.count -= 1;
}

/** Joins child `index` of `parent` with the one beside it if both fit into one node. */
function joinWithNeighbour(parent: Node, index: u32): bool {
  if (parent.count < 2) return false;
  const leftIndex = index + 1 < parent.count ? index : index - 1;
  const left = changetype<Node>(<usize>childAt(parent, leftIndex).node);
  const right = changetype<Node>(<usize>childAt(parent, leftIndex + 1).node);
  const itemSize = left.level == 0 ? SPAN_SIZE : CHILD_SIZE;
  const capacity = left.level == 0 ? LEAF_CAPACITY : INNER_CAPACITY;
  if (<u32>left.count + right.count > capacity) return false;
  touchNode(parent);
  touchNode(left);
  const items = changetype<usize>(left) + HEADER + left.count * itemSize;
  memory.copy(items, changetype<usize>(right) + HEADER, right.count * itemSize);
  if (left.level != 0 && right.count != 0) {
    // The right node's first child gets the bound that its parent kept for it.
    const bound = childAt(parent, leftIndex + 1);
    const first = changetype<Child>(items);
    first.start = bound.start;
    first.b = bound.b;
  }
  left.count += right.count;
  freeNode(right);
  takeItem(parent, leftIndex + 1, CHILD_SIZE);
  childAt(parent, leftIndex).maxLast = maxLastOf(left);
  return true;
}

/** A root with one child gives way to it, an empty one to nothing. */
function shortenRoot(slot: usize): void {
  let root = rootOf(slot);
  while (root.level != 0 && root.count == 1) {
    const below = <usize>childAt(root, 0).node;
    freeNode(root);
    setRoot(slot, below);
    root = changetype<Node>(below);
  }
  if (root.count == 0) {
    freeNode(root);
    setRoot(slot, 0);
  }
}

/** Empties the tree. */
export function clear(slot: usize): void {
  if (load<u32>(slot) == 0) return;
  if (!ensureStep()) return;
  freeBelow(rootOf(slot));
  setRoot(slot, 0);
}

function freeBelow(node: Node): void {
  if (!ensureStep()) return;
  if (node.level != 0) {
    for (let i: u32 = 0; i < node.count; ++i) freeBelow(changetype<Node>(<usize>childAt(node, i).node));
  }
  freeNode(node);
}

// ---- Read ----------------------------------------------------------------------------------

function lastLeafBelow(node: Node): Node {
  while (node.level != 0) node = changetype<Node>(<usize>childAt(node, node.count - 1).node);
  return node;
}

/** A place in a tree. Any change of that tree makes it stale: seek again. */
@unmanaged
export class Cursor {
  private slot: usize;
  /** The span it stands at; null past the end. */
  span: Span | null;
  private leafEnd: usize;

  /** To the first span of a tree of disjoint spans whose last byte is at or after `at`. */
  seek(slot: usize, at: u64): void {
    this.slot = slot;
    this.find(at, 0, true);
  }

  /** To the next span in order. */
  // @ts-ignore: decorator
  @inline
  next(): void {
    const after = changetype<usize>(this.span) + SPAN_SIZE;
    if (after < this.leafEnd) this.span = changetype<Span>(after);
    else this.nextLeaf();
  }

  private nextLeaf(): void {
    const span = changetype<Span>(this.span);
    if (span.b == u32.MAX_VALUE) this.find(span.start + 1, 0, false);
    else this.find(span.start, span.b + 1, false);
  }

  /** To the first span at or after (start, b); with `covering`, to the one before if that still reaches `start`. */
  private find(start: u64, b: u32, covering: bool): void {
    this.span = null;
    if (load<u32>(this.slot) == 0) return;
    let node = rootOf(this.slot);
    // The nearest neighbours of the way down: where it goes on when the leaf ends too early, and where a span that reaches
    // into this leaf may be when the leaf begins too late.
    let left: usize = 0;
    let right: usize = 0;
    while (node.level != 0) {
      const index = positionInInner(node, start, b);
      if (index > 0) left = <usize>childAt(node, index - 1).node;
      if (index + 1 < node.count) right = <usize>childAt(node, index + 1).node;
      node = changetype<Node>(<usize>childAt(node, index).node);
    }
    let position = positionInLeaf(node, start, b);
    if (covering && position == 0 && left != 0) {
      const before = lastLeafBelow(changetype<Node>(left));
      if (spanAt(before, before.count - 1).last >= start) {
        node = before;
        position = before.count;
      }
    }
    if (covering && position > 0 && spanAt(node, position - 1).last >= start) --position;
    if (position == node.count) {
      if (right == 0) return;
      node = changetype<Node>(right);
      while (node.level != 0) node = changetype<Node>(<usize>childAt(node, 0).node);
      position = 0;
    }
    this.span = spanAt(node, position);
    this.leafEnd = changetype<usize>(spanAt(node, node.count));
  }
}

/** Bytes of a Cursor: each lives in static memory, as `changetype<Cursor>(memory.data(CURSOR_SIZE, 8))`. */
export const CURSOR_SIZE: i32 = 12;

/** Appends to `out` the `b` (u32) of every span that has a byte in [start, last], in order; the spans may overlap each other. */
export function collect(slot: usize, start: u64, last: u64, out: Vector): void {
  if (load<u32>(slot) != 0) collectBelow(rootOf(slot), start, last, out);
}

function collectBelow(node: Node, start: u64, last: u64, out: Vector): void {
  const count = <u32>node.count;
  if (!out.ensure(count << 2)) return;
  if (node.level == 0) {
    for (let i: u32 = 0; i < count; ++i) {
      const span = spanAt(node, i);
      if (span.start > last) return;
      if (span.last >= start) out.push32(span.b);
    }
    return;
  }
  for (let i: u32 = 0; i < count; ++i) {
    const child = childAt(node, i);
    if (i != 0 && child.start > last) return;
    if (child.maxLast >= start) collectBelow(changetype<Node>(<usize>child.node), start, last, out);
  }
}

// ---- Trees of disjoint spans ---------------------------------------------------------------

const edit = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));

/** Whether a span may be one with `right`, which begins behind its last byte: `a` counts on, and the rest is the same. */
export function canJoin(
  start: u64,
  a: u64,
  b: u32,
  c: u32,
  rightStart: u64,
  rightA: u64,
  rightB: u32,
  rightC: u32,
): bool {
  return b == rightB && c == rightC && rightA == a + (rightStart - start);
}

/** Enters [start, last], of which nothing is in the tree yet, joined with its neighbours where that is possible. */
export function put(slot: usize, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  if (load<u32>(slot) == 0) {
    insert(slot, start, last, a, b, c);
    return;
  }
  if (!ensureStep()) return;
  // Nearly always both neighbours are in one leaf, and neither can be joined: then one search is enough.
  const depth = descend(slot, start, b);
  const leaf = pathNode(depth);
  const position = positionInLeaf(leaf, start, b);
  const hasLeft = position != 0;
  const hasRight = position != leaf.count;
  if (depth == 0 || (hasLeft && hasRight)) {
    const left = spanAt(leaf, position - 1);
    const right = spanAt(leaf, position);
    const joins =
      (hasLeft && left.last == start - 1 && canJoin(left.start, left.a, left.b, left.c, start, a, b, c)) ||
      (hasRight && right.start - 1 == last && canJoin(start, a, b, c, right.start, right.a, right.b, right.c));
    if (!joins) {
      insertAt(slot, depth, position, start, last, a, b, c);
      return;
    }
  }
  putJoined(slot, start, last, a, b, c);
}

function putJoined(slot: usize, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  edit.seek(slot, start == 0 ? 0 : start - 1);
  let span = edit.span;
  let leftStart = start;
  let leftA = a;
  if (span != null && span.last < start) {
    if (canJoin(span.start, span.a, span.b, span.c, start, a, b, c)) {
      leftStart = span.start;
      leftA = span.a;
    }
    edit.next();
    span = edit.span;
  }
  let rightLast = last;
  if (span != null && span.start - 1 == last && canJoin(start, a, b, c, span.start, span.a, span.b, span.c)) {
    rightLast = span.last;
  }
  if (leftStart != start) remove(slot, leftStart, b);
  if (rightLast != last) remove(slot, last + 1, b);
  insert(slot, leftStart, rightLast, leftA, b, c);
}

/** Takes [start, last] out of every span: cuts those that reach over its ends. */
export function erase(slot: usize, start: u64, last: u64): void {
  eraseInto(slot, start, last, null);
}

/** The same; copies of what was there, clipped to [start, last], are appended to `out`, as Spans. */
export function take(slot: usize, start: u64, last: u64, out: Vector): void {
  eraseInto(slot, start, last, out);
}

function eraseInto(slot: usize, start: u64, last: u64, out: Vector | null): void {
  while (load<u32>(slot) != 0 && ensureStep()) {
    const depth = descendToCovering(slot, start);
    const leaf = pathNode(depth);
    if (covering == leaf.count) return;
    const span = spanAt(leaf, covering);
    if (span.start > last) return;
    if (out != null && !appendClipped(span, start, last, out)) return;
    const spanStart = span.start;
    const spanLast = span.last;
    const a = span.a;
    const b = span.b;
    const c = span.c;
    removeAt(slot, depth, covering);
    if (spanStart < start) insert(slot, spanStart, start - 1, a, b, c);
    if (spanLast > last) insert(slot, last + 1, spanLast, a + (last + 1 - spanStart), b, c);
    if (spanLast >= last) return;
  }
}

/** A copy of the part of the span that lies in [start, last]; false when memory has run out. */
export function appendClipped(span: Span, start: u64, last: u64, out: Vector): bool {
  if (!out.ensure(SPAN_SIZE)) return false;
  const copy = changetype<Span>(out.extend(SPAN_SIZE));
  copy.start = max(start, span.start);
  copy.last = min(last, span.last);
  copy.a = span.aAt(copy.start);
  copy.b = span.b;
  copy.c = span.c;
  return true;
}

/** Where `descendToCovering` has found it: a position in the leaf; the leaf's number of spans if there is none. */
let covering: u32 = 0;

/** Fills the path to the first of disjoint spans whose last byte is at or after `at`; returns the depth of its leaf. */
function descendToCovering(slot: usize, at: u64): i32 {
  const depth = descend(slot, at, u32.MAX_VALUE);
  let leaf = pathNode(depth);
  // How many spans of the leaf begin at or before `at`: only the last of them can reach it.
  covering = positionInLeaf(leaf, at, u32.MAX_VALUE);
  if (covering == 0 && stepPath(depth, false)) {
    leaf = pathNode(depth);
    covering = leaf.count;
  }
  if (covering != 0 && spanAt(leaf, covering - 1).last >= at) --covering;
  else if (covering == leaf.count && stepPath(depth, true)) covering = 0;
  return depth;
}

/** Moves the path to the next leaf, or to the one before; false at the end of the tree: the path stays. */
function stepPath(depth: i32, right: bool): bool {
  let up = depth - 1;
  while (up >= 0 && pathIndex(up) == (right ? <u32>pathNode(up).count - 1 : 0)) --up;
  if (up < 0) return false;
  store<u32>(pathIndexes + (up << 2), right ? pathIndex(up) + 1 : pathIndex(up) - 1);
  for (; up < depth; ++up) {
    const below = changetype<Node>(<usize>childAt(pathNode(up), pathIndex(up)).node);
    store<u32>(pathNodes + ((up + 1) << 2), <u32>changetype<usize>(below));
    if (up + 1 < depth) store<u32>(pathIndexes + ((up + 1) << 2), right ? 0 : below.count - 1);
  }
  return true;
}
