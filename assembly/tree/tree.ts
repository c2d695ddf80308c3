// Span trees: B+-trees of spans [start, last], each with three values, in order of (start, b). Everything ordered in
// the core is one of these: a region's children and mappings, flat views, memory slots, protections.
//
// `tree` is the address of the u32 that holds the root node's address (0: the tree is empty). Every change is
// journaled, that u32 included: a record that contains one need not be touched for it.

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
  Span,
  STAMP_AT,
  takeItem,
} from './node';
import { forgetPaths, Path, pathReaching, pathTo, pathToPosition, rootOf } from './path';

/** Number of free places that two leaves must have together before they share their spans evenly. */
const SHARED: u32 = 4;
/** Count at or below which a node looks for a neighbour to join. */
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

/** Journals a node, before it is written to. */
export function touchNode(node: Node): void {
  touch(changetype<usize>(node), node.size, STAMP_AT);
}

function setRoot(tree: usize, node: Node): void {
  saveImage(tree & ~7, 8);
  store<u32>(tree, <u32>changetype<usize>(node));
  forgetPaths(tree);
}

// ---- Insert --------------------------------------------------------------------------------

/** Adds a span that is not in the tree; does nothing once memory has run out. */
export function insert(tree: usize, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  assert(start <= last);
  if (!ensureStep()) return;
  if (load<u32>(tree) == 0) {
    const leaf = newNode(0, FIRST_SHIFT);
    setRoot(tree, leaf);
    placeSpan(leaf, 0, start, last, a, b, c);
    return;
  }
  insertAt(tree, pathToPosition(tree, start, b), start, last, a, b, c);
}

/** Inserts a span at the path's position. Precondition: `ensureStep` said yes. */
export function insertAt(tree: usize, path: Path, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  let leaf = path.leaf;
  const position = path.position;
  if (leaf.count < leaf.capacity) {
    touchNode(leaf);
    placeSpan(leaf, position, start, last, a, b, c);
    raiseMaxLast(path, path.depth, last);
  } else if (leaf.shift < NODE_SHIFT) {
    leaf = enlarge(tree, leaf);
    placeSpan(leaf, position, start, last, a, b, c);
  } else if (position != LEAF_CAPACITY && shareLeaf(tree, path)) {
    insert(tree, start, last, a, b, c);
  } else {
    // A span at the very end leaves the node full: trees that are filled in order stay dense.
    const keep = position == LEAF_CAPACITY ? LEAF_CAPACITY : LEAF_CAPACITY / 2;
    const right = newNode(0, NODE_SHIFT);
    touchNode(leaf);
    moveTail(right, leaf, keep);
    if (position >= keep) placeSpan(right, position - keep, start, last, a, b, c);
    else placeSpan(leaf, position, start, last, a, b, c);
    enterSplit(tree, path, right, right.startAt(0), right.valueAt(0).b);
  }
}

/** Makes the span at a position in the path's leaf longer. Precondition: `ensureStep` said yes. */
export function extendAt(path: Path, position: u32, last: u64): void {
  touchNode(path.leaf);
  path.leaf.setLast(position, last);
  raiseMaxLast(path, path.depth, last);
}

/** Gives spans of the full leaf at the end of the path to a neighbour; false if neither has room for some. */
function shareLeaf(tree: usize, path: Path): bool {
  if (path.depth == 0) return false;
  const parent = path.node(path.depth - 1);
  const index = path.index(path.depth - 1);
  return (index + 1 < parent.count && evenOut(tree, parent, index)) || (index > 0 && evenOut(tree, parent, index - 1));
}

/** Moves spans between the leaves `index` and `index + 1` until both have the same number; false if both are nearly
 *  full. */
function evenOut(tree: usize, parent: Node, index: u32): bool {
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
  forgetPaths(tree);
  return true;
}

/** Replaces a full root leaf by one of twice the size. */
function enlarge(tree: usize, leaf: Node): Node {
  const larger = newNode(0, leaf.shift + 1);
  touchNode(leaf);
  moveHead(larger, leaf, leaf.count);
  freeNode(leaf);
  setRoot(tree, larger);
  return larger;
}

/** Enters `right`, split off from the leaf of the path, above it, as far up as nodes split; its first key is (start,
 *  b). */
function enterSplit(tree: usize, path: Path, right: Node, start: u64, b: u32): void {
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
      forgetPaths(tree);
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
  setRoot(tree, root);
}

/** Raises `maxLast` of every child on the path above `depth` to at least `last`. */
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
export function remove(tree: usize, start: u64, b: u32): void {
  if (!ensureStep()) return;
  const path = pathToPosition(tree, start, b);
  const position = path.position;
  assert(position < path.leaf.count && path.leaf.startAt(position) == start && path.leaf.valueAt(position).b == b);
  removeAt(tree, path);
}

/** Removes the span at the path's position. Precondition: `ensureStep` said yes. */
export function removeAt(tree: usize, path: Path): void {
  let node = path.leaf;
  const last = node.lastAt(path.position);
  touchNode(node);
  takeItem(node, path.position);
  // Upwards: what got sparse joins a neighbour, what got empty goes, and `maxLast` is made right again.
  for (let depth = path.depth - 1; depth >= 0; --depth) {
    const parent = path.node(depth);
    const index = path.index(depth);
    if (node.count <= SPARSE && joinWithNeighbour(tree, parent, index)) {
      // `joinWithNeighbour` worked the `maxLast` of the joined node out.
    } else if (node.count == 0) {
      touchNode(parent);
      takeItem(parent, index);
      freeNode(node);
      forgetPaths(tree);
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
  shortenRoot(tree);
}

/** Joins child `index` of `parent` with the one beside it if both fit into one node. */
function joinWithNeighbour(tree: usize, parent: Node, index: u32): bool {
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
  forgetPaths(tree);
  return true;
}

/** Replaces a root that has one child by that child, and an empty one by no tree. */
function shortenRoot(tree: usize): void {
  let root = rootOf(tree);
  while (root.level != 0 && root.count == 1) {
    const below = root.nodeAt(0);
    freeNode(root);
    setRoot(tree, below);
    root = below;
  }
  if (root.count == 0) {
    freeNode(root);
    setRoot(tree, changetype<Node>(0));
  }
}

/** Empties the tree. */
export function clear(tree: usize): void {
  if (load<u32>(tree) == 0) return;
  if (!ensureStep()) return;
  freeBelow(rootOf(tree));
  setRoot(tree, changetype<Node>(0));
}

function freeBelow(node: Node): void {
  if (!ensureStep()) return;
  if (node.level != 0) for (let i: u32 = 0; i < node.count; ++i) freeBelow(node.nodeAt(i));
  freeNode(node);
}

/** Empties the tree at once. Precondition: no savepoint is open, and there will be none to undo it. */
export function drop(tree: usize): void {
  if (load<u32>(tree) == 0) return;
  dropBelow(rootOf(tree));
  store<u32>(tree, 0);
  forgetPaths(tree);
}

function dropBelow(node: Node): void {
  if (node.level != 0) for (let i: u32 = 0; i < node.count; ++i) dropBelow(node.nodeAt(i));
  releaseCounted(changetype<usize>(node), node.shift);
}

// ---- Read ----------------------------------------------------------------------------------

/** A place in a tree whose spans are seen as `View`. Any change of that tree makes it stale: seek again. */
@unmanaged
export class Cursor<View> extends Span {
  /** A copy of the span at this place (the cursor itself holds it); null past the end. */
  span: View | null;
  private tree: usize;
  private leaf: Node;
  private position: u32;

  /** Goes to the first span of a tree of disjoint spans whose last byte is at or after `at`. */
  seek(tree: usize, at: u64): void {
    if (load<u32>(tree) == 0) {
      this.span = null;
      return;
    }
    const path = pathReaching(tree, at);
    this.tree = tree;
    this.stand(path.leaf, path.position);
  }

  /** Goes to the first span of any tree. */
  toFirst(tree: usize): void {
    if (load<u32>(tree) == 0) {
      this.span = null;
      return;
    }
    this.tree = tree;
    this.stand(pathTo(tree, 0, 0).leaf, 0);
  }

  /** Goes to the next span in order. */
  next(): void {
    if (this.position + 1 < this.leaf.count) {
      this.stand(this.leaf, this.position + 1);
    } else {
      const path = pathTo(this.tree, this.start, this.b);
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
    this.span = changetype<View>(this);
  }
}

/** Bytes of a Cursor: each lives in static memory, as `changetype<Cursor<Span>>(memory.data(CURSOR_SIZE, 8))`. */
export const CURSOR_SIZE: i32 = 48;

/** Appends to `out` the `b` (u32) of every span that has a byte in [start, last], in order; the spans may overlap
 *  each other. */
export function collect(tree: usize, start: u64, last: u64, out: Vector): void {
  if (load<u32>(tree) != 0) collectBelow(rootOf(tree), start, last, out);
}

/** `collect` that appends the whole spans. Does nothing more once memory has run out. */
export function collectSpans(tree: usize, start: u64, last: u64, out: Vector): void {
  if (load<u32>(tree) != 0) collectSpansBelow(rootOf(tree), start, last, out);
}

function collectSpansBelow(node: Node, start: u64, last: u64, out: Vector): void {
  const count = <u32>node.count;
  for (let i: u32 = 0; i < count && (i == 0 || node.startAt(i) <= last); ++i) {
    if (node.level != 0) {
      if (node.maxLastAt(i) >= start) collectSpansBelow(node.nodeAt(i), start, last, out);
      continue;
    }
    if (node.startAt(i) > last || node.lastAt(i) < start) continue;
    if (!out.ensure(offsetof<Span>())) return;
    const span = changetype<Span>(out.extend(offsetof<Span>()));
    const value = node.valueAt(i);
    span.start = node.startAt(i);
    span.last = node.lastAt(i);
    span.a = value.a;
    span.b = value.b;
    span.c = value.c;
  }
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
