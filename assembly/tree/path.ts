// Ways from the root of a span tree down to a leaf. Whatever changes or reads a tree at an address begins with one; the last
// few are kept, as one change looks at the same places of the same trees again and again.
//
// A kept path is good as long as no node of its tree was made, freed or cut otherwise: whoever does that says
// `forgetPaths`. Spans may come and go in its leaf meanwhile.

import { rewinds } from '../undo/journal';
import { Node, positionInInner, positionInLeaf, precedes } from './node';

const MAX_HEIGHT: i32 = 16;
/** Paths that are kept; a power of 2. */
const KEPT: u32 = 4;

@unmanaged
export class Path {
  /** Of the tree; 0: the path is not good any more. */
  slot: usize;
  /** `rewinds` when it was found. */
  private rewinds: u32;
  /** Number of inner nodes above the leaf. */
  depth: i32;
  leaf: Node;
  /** Where in the leaf `pathReaching` found what it looked for; the leaf's number of spans if there is nothing. */
  position: u32;
  /** Every key from (low, lowB) to before (high, highB) leads to this leaf; without an upper bound, `isLast`. */
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

  isOf(slot: usize): bool {
    return this.slot == slot && this.rewinds == rewinds;
  }

  leadsTo(start: u64, b: u32): bool {
    return !precedes(start, b, this.low, this.lowB) && (this.isLast != 0 || precedes(start, b, this.high, this.highB));
  }

  descend(slot: usize, start: u64, b: u32): void {
    this.slot = slot;
    this.rewinds = rewinds;
    this.low = 0;
    this.lowB = 0;
    this.isLast = 1;
    let node = rootOf(slot);
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

  /** To the next leaf, or to the one before; false at the end of the tree: the path stays. */
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
    // Its bounds are not known: it is not found again.
    this.slot = 0;
    return true;
  }
}

const NODES_AT: u32 = offsetof<Path>();
const INDEXES_AT: u32 = NODES_AT + 4 * MAX_HEIGHT;
const PATH_SIZE: u32 = INDEXES_AT + 4 * MAX_HEIGHT;

const kept: usize = memory.data(<i32>(PATH_SIZE * KEPT), 8);
/** Which of them is the next to be found anew. */
let oldest: u32 = 0;

function keptPath(index: u32): Path {
  return changetype<Path>(kept + index * PATH_SIZE);
}

export function rootOf(slot: usize): Node {
  return changetype<Node>(<usize>load<u32>(slot));
}

/** The path to the leaf of (start, b). Precondition: the tree is not empty. */
export function pathTo(slot: usize, start: u64, b: u32): Path {
  for (let i: u32 = 0; i < KEPT; ++i) {
    const path = keptPath(i);
    if (!path.isOf(slot)) continue;
    if (!path.leadsTo(start, b)) path.descend(slot, start, b);
    return path;
  }
  const path = keptPath(oldest);
  oldest = (oldest + 1) & (KEPT - 1);
  path.descend(slot, start, b);
  return path;
}

/** The path, with `position`, to the first of disjoint spans whose last byte is at or after `at`. */
export function pathReaching(slot: usize, at: u64): Path {
  const path = pathTo(slot, at, u32.MAX_VALUE);
  // How many spans of the leaf begin at or before `at`: only the last of them can reach it.
  let position = positionInLeaf(path.leaf, at, u32.MAX_VALUE);
  if (position == 0 && path.step(false)) position = path.leaf.count;
  if (position != 0 && path.leaf.lastAt(position - 1) >= at) --position;
  else if (position == path.leaf.count && path.step(true)) position = 0;
  path.position = position;
  return path;
}

/** Of a tree: what they go through may not be there any more. */
export function forgetPaths(slot: usize): void {
  for (let i: u32 = 0; i < KEPT; ++i) if (keptPath(i).slot == slot) keptPath(i).slot = 0;
}
