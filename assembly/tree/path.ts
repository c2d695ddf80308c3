// Paths from the root of a span tree down to a leaf: every search makes one. The last few are kept, because one change
// looks at the same places of the same trees again and again (15 % of an operation in a batch that runs in order).
//
// A kept path is valid until a node of its tree is made, freed, split or joined: code that does so calls `forgetPaths`.
// An undo may do so anywhere, which `rewinds` tells. Spans may come and go in the leaf meanwhile. See tree.ts for
// `tree`.

import { rewinds } from '../undo/journal';
import { Node, positionInInner, positionInLeaf, precedes } from './node';

const MAX_HEIGHT: i32 = 16;
/** Paths that are kept; a power of 2. */
const KEPT: u32 = 4;

@unmanaged
export class Path {
  /** The tree that the path belongs to; 0 once the path is no longer valid. */
  tree: usize;
  /** The journal's `rewinds` when the path was found. */
  private rewinds: u32;
  /** Number of inner nodes above the leaf. */
  depth: i32;
  leaf: Node;
  /** Position in the leaf that the search was for; the leaf's count where no span of it is that far. */
  position: u32;
  /** Keys from (low, lowB) up to, not including, (high, highB) lead to this leaf; `isLast`: there is no upper bound. */
  private lowB: u32;
  private low: u64;
  private high: u64;
  private highB: u32;
  private isLast: u32;

  /** The inner node at a depth: 0 is the root. */
  node(depth: i32): Node {
    return changetype<Node>(<usize>load<u32>(changetype<usize>(this) + NODES_AT + (depth << 2)));
  }

  /** The child of `node(depth)` through which the path goes. */
  index(depth: i32): u32 {
    return load<u32>(changetype<usize>(this) + INDEXES_AT + (depth << 2));
  }

  private setNode(depth: i32, node: Node): void {
    store<u32>(changetype<usize>(this) + NODES_AT + (depth << 2), <u32>changetype<usize>(node));
  }

  private setIndex(depth: i32, index: u32): void {
    store<u32>(changetype<usize>(this) + INDEXES_AT + (depth << 2), index);
  }

  isOf(tree: usize): bool {
    return this.tree == tree && this.rewinds == rewinds;
  }

  leadsTo(start: u64, b: u32): bool {
    return !precedes(start, b, this.low, this.lowB) && (this.isLast != 0 || precedes(start, b, this.high, this.highB));
  }

  descend(tree: usize, start: u64, b: u32): void {
    this.tree = tree;
    this.rewinds = rewinds;
    this.low = 0;
    this.lowB = 0;
    this.isLast = 1;
    let node = rootOf(tree);
    let depth = 0;
    for (; node.level != 0; ++depth) {
      assert(depth < MAX_HEIGHT);
      const index = positionInInner(node, start, b);
      this.setNode(depth, node);
      this.setIndex(depth, index);
      if (index != 0) {
        this.low = node.startAt(index);
        this.lowB = node.childAt(index).b;
      }
      if (index + 1 < node.count) {
        this.high = node.startAt(index + 1);
        this.highB = node.childAt(index + 1).b;
        this.isLast = 0;
      }
      node = node.nodeAt(index);
    }
    this.depth = depth;
    this.leaf = node;
  }

  /** Goes on to the next leaf (`right`) or the previous one; false at the end of the tree, where the path stays. */
  step(right: bool): bool {
    let up = this.depth - 1;
    while (up >= 0 && this.index(up) == (right ? <u32>this.node(up).count - 1 : 0)) --up;
    if (up < 0) return false;
    this.setIndex(up, right ? this.index(up) + 1 : this.index(up) - 1);
    let node = this.node(up).nodeAt(this.index(up));
    while (++up < this.depth) {
      this.setNode(up, node);
      const index = right ? 0 : <u32>node.count - 1;
      this.setIndex(up, index);
      node = node.nodeAt(index);
    }
    this.leaf = node;
    // The new leaf's bounds are not known, so that this path must not be found again.
    this.tree = 0;
    return true;
  }
}

const NODES_AT: u32 = offsetof<Path>();
const INDEXES_AT: u32 = NODES_AT + 4 * MAX_HEIGHT;
const PATH_SIZE: u32 = INDEXES_AT + 4 * MAX_HEIGHT;

const kept: usize = memory.data(<i32>(PATH_SIZE * KEPT), 8);
/** Index of the kept path that is replaced next. */
let oldest: u32 = 0;

function keptPath(index: u32): Path {
  return changetype<Path>(kept + index * PATH_SIZE);
}

export function rootOf(tree: usize): Node {
  return changetype<Node>(<usize>load<u32>(tree));
}

/** The path to the leaf of (start, b). Precondition: the tree is not empty. */
export function pathTo(tree: usize, start: u64, b: u32): Path {
  for (let i: u32 = 0; i < KEPT; ++i) {
    const path = keptPath(i);
    if (!path.isOf(tree)) continue;
    if (!path.leadsTo(start, b)) path.descend(tree, start, b);
    return path;
  }
  const path = keptPath(oldest);
  oldest = (oldest + 1) & (KEPT - 1);
  path.descend(tree, start, b);
  return path;
}

/** The path, with `position`, to the span (start, b), or to where it belongs. Precondition: the tree is not empty. */
export function pathToPosition(tree: usize, start: u64, b: u32): Path {
  const path = pathTo(tree, start, b);
  path.position = positionInLeaf(path.leaf, start, b);
  return path;
}

/** The path, with `position`, to the first of disjoint spans whose last byte is at or after `at`. */
export function pathReaching(tree: usize, at: u64): Path {
  const path = pathTo(tree, at, u32.MAX_VALUE);
  // How many spans of the leaf begin at or before `at`: only the last of them can reach it.
  let position = positionInLeaf(path.leaf, at, u32.MAX_VALUE);
  if (position == 0 && path.step(false)) position = path.leaf.count;
  if (position != 0 && path.leaf.lastAt(position - 1) >= at) --position;
  else if (position == path.leaf.count && path.step(true)) position = 0;
  path.position = position;
  return path;
}

/** Invalidates the kept paths of a tree, whose nodes are about to change. */
export function forgetPaths(tree: usize): void {
  for (let i: u32 = 0; i < KEPT; ++i) if (keptPath(i).tree == tree) keptPath(i).tree = 0;
}
