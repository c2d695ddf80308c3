// Span trees: B+-trees of spans [start, last], each with three values, in order of (start, b). Everything ordered in the core
// is one of these: a region's children and mappings, flat views, VA pieces, memory slots, protections.
//
// A tree is known by its slot: the address of the u32 that holds its root, 0 for an empty tree. Every change is journaled, the
// slot included: a record that has one need not be touched for it.

import { Vector } from '../base/vector';
import {
  allocateJournaled,
  ensureStep,
  releaseCounted,
  releaseJournaled,
  saveImage,
  stampNow,
  touch,
} from '../undo/journal';
import {
  FIRST_SHIFT,
  INNER_CAPACITY,
  initialize,
  LEAF_CAPACITY,
  maxLastOf,
  moveHead,
  moveTail,
  NODE_SHIFT,
  Node,
  placeChild,
  placeSpan,
  positionInLeaf,
  Span,
  STAMP_AT,
  takeItem,
} from './node';
import { forgetPaths, Path, pathReaching, pathTo, rootOf } from './path';

/** Free places that two leaves must have together to share their spans. */
const SHARED: u32 = 4;
/** Nodes this full or emptier look for a neighbour to join. */
const SPARSE: u32 = 6;

function newNode(level: u32, shift: u32): Node {
  const node = changetype<Node>(allocateJournaled(shift));
  initialize(node, level, shift);
  node.stamp = stampNow();
  return node;
}

function freeNode(node: Node): void {
  releaseJournaled(changetype<usize>(node), node.shift);
}

/** Before writing to a node. */
export function touchNode(node: Node): void {
  touch(changetype<usize>(node), node.size, STAMP_AT);
}

function setRoot(slot: usize, node: Node): void {
  saveImage(slot & ~7, 8);
  store<u32>(slot, <u32>changetype<usize>(node));
  forgetPaths(slot);
}

// ---- Insert --------------------------------------------------------------------------------

/** Adds a span that is not in the tree; does nothing once memory has run out. */
export function insert(slot: usize, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  if (!ensureStep()) return;
  if (load<u32>(slot) == 0) {
    const leaf = newNode(0, FIRST_SHIFT);
    setRoot(slot, leaf);
    placeSpan(leaf, 0, start, last, a, b, c);
    return;
  }
  const path = pathTo(slot, start, b);
  insertAt(slot, path, positionInLeaf(path.leaf, start, b), start, last, a, b, c);
}

/** At a position in the leaf that the path leads to. Precondition: `ensureStep` said yes. */
export function insertAt(slot: usize, path: Path, position: u32, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  let leaf = path.leaf;
  if (leaf.count < leaf.capacity) {
    touchNode(leaf);
    placeSpan(leaf, position, start, last, a, b, c);
    raiseMaxLast(path, path.depth, last);
  } else if (leaf.shift < NODE_SHIFT) {
    leaf = enlarge(slot, leaf);
    placeSpan(leaf, position, start, last, a, b, c);
  } else if (position != LEAF_CAPACITY && shareLeaf(slot, path)) {
    insert(slot, start, last, a, b, c);
  } else {
    // A span at the very end leaves the node full: trees that are filled in order stay dense.
    const keep = position == LEAF_CAPACITY ? LEAF_CAPACITY : LEAF_CAPACITY / 2;
    const right = newNode(0, NODE_SHIFT);
    touchNode(leaf);
    moveTail(right, leaf, keep);
    if (position >= keep) placeSpan(right, position - keep, start, last, a, b, c);
    else placeSpan(leaf, position, start, last, a, b, c);
    enterSplit(slot, path, right, right.startAt(0), right.valueAt(0).b);
  }
}

/** Makes the span at a position longer. Precondition: `ensureStep` said yes. */
export function extendAt(path: Path, position: u32, last: u64): void {
  touchNode(path.leaf);
  path.leaf.setLast(position, last);
  raiseMaxLast(path, path.depth, last);
}

/** Gives spans of the full leaf at the end of the path to a neighbour; false if neither has room for some. */
function shareLeaf(slot: usize, path: Path): bool {
  if (path.depth == 0) return false;
  const parent = path.node(path.depth - 1);
  const index = path.index(path.depth - 1);
  return (index + 1 < parent.count && evenOut(slot, parent, index)) || (index > 0 && evenOut(slot, parent, index - 1));
}

/** Moves spans between the leaves `index` and `index + 1` until both have the same number; false if both are nearly full. */
function evenOut(slot: usize, parent: Node, index: u32): bool {
  const left = parent.nodeAt(index);
  const right = parent.nodeAt(index + 1);
  const total = <u32>left.count + right.count;
  if (total > 2 * LEAF_CAPACITY - SHARED) return false;
  touchNode(parent);
  touchNode(left);
  touchNode(right);
  const half = total >> 1;
  if (left.count > half) moveTail(right, left, half);
  else moveHead(left, right, half - left.count);
  parent.setMaxLast(index, maxLastOf(left));
  parent.setStart(index + 1, right.startAt(0));
  parent.childAt(index + 1).b = right.valueAt(0).b;
  parent.setMaxLast(index + 1, maxLastOf(right));
  forgetPaths(slot);
  return true;
}

/** Replaces a full root leaf by one of twice the size. */
function enlarge(slot: usize, leaf: Node): Node {
  const larger = newNode(0, leaf.shift + 1);
  touchNode(leaf);
  moveHead(larger, leaf, leaf.count);
  freeNode(leaf);
  setRoot(slot, larger);
  return larger;
}

/** Enters `right`, split off from the leaf of the path, above it, as far up as nodes split; its first key is (start, b). */
function enterSplit(slot: usize, path: Path, right: Node, start: u64, b: u32): void {
  let left = path.leaf;
  for (let depth = path.depth - 1; depth >= 0; --depth) {
    const parent = path.node(depth);
    const index = path.index(depth);
    touchNode(parent);
    parent.setMaxLast(index, maxLastOf(left));
    if (parent.count < INNER_CAPACITY) {
      placeChild(parent, index + 1, right, start, b);
      // The new span may have raised the largest `last` of all nodes above.
      raiseMaxLast(path, depth, max(parent.maxLastAt(index), parent.maxLastAt(index + 1)));
      forgetPaths(slot);
      return;
    }
    const keep = index + 1 == INNER_CAPACITY ? INNER_CAPACITY - 1 : INNER_CAPACITY / 2;
    const above = newNode(parent.level, NODE_SHIFT);
    moveTail(above, parent, keep);
    if (index >= keep) placeChild(above, index + 1 - keep, right, start, b);
    else placeChild(parent, index + 1, right, start, b);
    left = parent;
    right = above;
    start = above.startAt(0);
    b = above.childAt(0).b;
  }
  const root = newNode(<u32>left.level + 1, NODE_SHIFT);
  placeChild(root, 0, left, start, b);
  placeChild(root, 1, right, start, b);
  setRoot(slot, root);
}

/** Makes `maxLast` of every child on the path above `depth` at least `last`. */
function raiseMaxLast(path: Path, depth: i32, last: u64): void {
  while (--depth >= 0) {
    const parent = path.node(depth);
    const index = path.index(depth);
    if (parent.maxLastAt(index) >= last) return;
    touchNode(parent);
    parent.setMaxLast(index, last);
  }
}

// ---- Remove --------------------------------------------------------------------------------

/** Takes out the span (start, b), which is in the tree; does nothing once memory has run out. */
export function remove(slot: usize, start: u64, b: u32): void {
  if (!ensureStep()) return;
  const path = pathTo(slot, start, b);
  const position = positionInLeaf(path.leaf, start, b);
  assert(position < path.leaf.count && path.leaf.startAt(position) == start && path.leaf.valueAt(position).b == b);
  removeAt(slot, path, position);
}

/** At a position in the leaf that the path leads to. Precondition: `ensureStep` said yes. */
export function removeAt(slot: usize, path: Path, position: u32): void {
  let node = path.leaf;
  const last = node.lastAt(position);
  touchNode(node);
  takeItem(node, position);
  // Upwards: what got sparse joins a neighbour, what got empty goes, and `maxLast` is made right again.
  for (let depth = path.depth - 1; depth >= 0; --depth) {
    const parent = path.node(depth);
    const index = path.index(depth);
    if (node.count <= SPARSE && joinWithNeighbour(slot, parent, index)) {
      // Whatever was the largest below the two is in the one, or is gone.
    } else if (node.count == 0) {
      touchNode(parent);
      takeItem(parent, index);
      freeNode(node);
      forgetPaths(slot);
    } else if (parent.maxLastAt(index) != last) {
      return;
    } else {
      const maxLast = maxLastOf(node);
      if (maxLast == last) return;
      touchNode(parent);
      parent.setMaxLast(index, maxLast);
    }
    node = parent;
  }
  shortenRoot(slot);
}

/** Joins child `index` of `parent` with the one beside it if both fit into one node. */
function joinWithNeighbour(slot: usize, parent: Node, index: u32): bool {
  if (parent.count < 2) return false;
  const leftIndex = index + 1 < parent.count ? index : index - 1;
  const left = parent.nodeAt(leftIndex);
  const right = parent.nodeAt(leftIndex + 1);
  const leftCount = <u32>left.count;
  if (leftCount + right.count > (left.level == 0 ? LEAF_CAPACITY : INNER_CAPACITY)) return false;
  touchNode(parent);
  touchNode(left);
  touchNode(right);
  moveHead(left, right, right.count);
  if (left.level != 0 && leftCount < left.count) {
    // The right node's first child gets the bound that its parent kept for it.
    left.setStart(leftCount, parent.startAt(leftIndex + 1));
    left.childAt(leftCount).b = parent.childAt(leftIndex + 1).b;
  }
  freeNode(right);
  takeItem(parent, leftIndex + 1);
  parent.setMaxLast(leftIndex, maxLastOf(left));
  forgetPaths(slot);
  return true;
}

/** A root with one child gives way to it, an empty one to nothing. */
function shortenRoot(slot: usize): void {
  let root = rootOf(slot);
  while (root.level != 0 && root.count == 1) {
    const below = root.nodeAt(0);
    freeNode(root);
    setRoot(slot, below);
    root = below;
  }
  if (root.count == 0) {
    freeNode(root);
    setRoot(slot, changetype<Node>(0));
  }
}

/** Empties the tree. */
export function clear(slot: usize): void {
  if (load<u32>(slot) == 0) return;
  if (!ensureStep()) return;
  freeBelow(rootOf(slot));
  setRoot(slot, changetype<Node>(0));
}

function freeBelow(node: Node): void {
  if (!ensureStep()) return;
  if (node.level != 0) for (let i: u32 = 0; i < node.count; ++i) freeBelow(node.nodeAt(i));
  freeNode(node);
}

/** Empties the tree at once. Precondition: no savepoint is open, and there will be none to undo it. */
export function drop(slot: usize): void {
  if (load<u32>(slot) == 0) return;
  dropBelow(rootOf(slot));
  store<u32>(slot, 0);
  forgetPaths(slot);
}

function dropBelow(node: Node): void {
  if (node.level != 0) for (let i: u32 = 0; i < node.count; ++i) dropBelow(node.nodeAt(i));
  releaseCounted(changetype<usize>(node), node.shift);
}

// ---- Read ----------------------------------------------------------------------------------

/** A place in a tree. Any change of that tree makes it stale: seek again. */
@unmanaged
export class Cursor extends Span {
  /** The span it stands at: the cursor itself, as a copy of it; null past the end. */
  span: Span | null;
  private slot: usize;
  private leaf: Node;
  private position: u32;

  /** To the first span of a tree of disjoint spans whose last byte is at or after `at`. */
  seek(slot: usize, at: u64): void {
    if (load<u32>(slot) == 0) {
      this.span = null;
      return;
    }
    const path = pathReaching(slot, at);
    this.slot = slot;
    this.stand(path.leaf, path.position);
  }

  /** To the first span of any tree. */
  toFirst(slot: usize): void {
    if (load<u32>(slot) == 0) {
      this.span = null;
      return;
    }
    this.slot = slot;
    this.stand(pathTo(slot, 0, 0).leaf, 0);
  }

  /** To the next span in order. */
  next(): void {
    if (this.position + 1 < this.leaf.count) {
      this.stand(this.leaf, this.position + 1);
    } else {
      const path = pathTo(this.slot, this.start, this.b);
      if (path.step(true)) this.stand(path.leaf, 0);
      else this.span = null;
    }
  }

  private stand(leaf: Node, position: u32): void {
    this.leaf = leaf;
    this.position = position;
    if (position == leaf.count) {
      this.span = null;
      return;
    }
    const value = leaf.valueAt(position);
    this.start = leaf.startAt(position);
    this.last = leaf.lastAt(position);
    this.a = value.a;
    this.b = value.b;
    this.c = value.c;
    this.span = this;
  }
}

/** Bytes of a Cursor: each lives in static memory, as `changetype<Cursor>(memory.data(CURSOR_SIZE, 8))`. */
export const CURSOR_SIZE: i32 = 48;

/** Appends to `out` the `b` (u32) of every span that has a byte in [start, last], in order; the spans may overlap each other. */
export function collect(slot: usize, start: u64, last: u64, out: Vector): void {
  if (load<u32>(slot) != 0) collectBelow(rootOf(slot), start, last, out);
}

function collectBelow(node: Node, start: u64, last: u64, out: Vector): void {
  const count = <u32>node.count;
  if (node.level == 0) {
    if (!out.ensure(count << 2)) return;
    for (let i: u32 = 0; i < count && node.startAt(i) <= last; ++i) {
      if (node.lastAt(i) >= start) out.push32(node.valueAt(i).b);
    }
    return;
  }
  for (let i: u32 = 0; i < count && (i == 0 || node.startAt(i) <= last); ++i) {
    if (node.maxLastAt(i) >= start) collectBelow(node.nodeAt(i), start, last, out);
  }
}
