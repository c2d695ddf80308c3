// The invariants of a span tree.

import { LAST_BYTE } from '../base/range';
import { INNER_CAPACITY, maxLastOf, NODE_SHIFT, Node, precedes } from './node';
import { rootOf } from './path';

/** Promises of a tree's spans: none; not to overlap; also not to stand beside a span that they could be joined with. */
export const ANY: u32 = 0;
export const DISJOINT: u32 = 1;
export const JOINED: u32 = 2;

/** The leaf and position of the span that was checked last; no leaf before the first. */
let leafBefore: Node = changetype<Node>(0);
let positionBefore: u32 = 0;

/** Asserts that the tree is well-formed and keeps its promise; returns how many spans it has. */
export function verifyTree(tree: usize, promise: u32): u32 {
  leafBefore = changetype<Node>(0);
  if (load<u32>(tree) == 0) return 0;
  const root = rootOf(tree);
  assert(root.count > 0 && (root.level == 0 || root.count > 1));
  return verifyNode(root, root.level, promise);
}

function verifyNode(node: Node, level: u32, promise: u32): u32 {
  assert(node.level == level);
  const count = <u32>node.count;
  for (let i = count; i < node.capacity; ++i) assert(node.startAt(i) == LAST_BYTE);
  if (level == 0) {
    assert(count > 0 && count <= node.capacity && node.shift <= NODE_SHIFT);
    for (let i: u32 = 0; i < count; ++i) verifySpan(node, i, promise);
    return count;
  }
  assert(count > 0 && count <= INNER_CAPACITY && node.shift == NODE_SHIFT);
  let spans: u32 = 0;
  for (let i: u32 = 0; i < count; ++i) {
    const below = node.nodeAt(i);
    assert(node.maxLastAt(i) == maxLastOf(below));
    if (i > 0) verifyBound(node.startAt(i), node.childAt(i).b, below);
    spans += verifyNode(below, level - 1, promise);
  }
  return spans;
}

/** Asserts that the bound between two children lies between their spans. */
function verifyBound(start: u64, b: u32, below: Node): void {
  assert(precedes(leafBefore.startAt(positionBefore), leafBefore.valueAt(positionBefore).b, start, b));
  let first = below;
  while (first.level != 0) first = first.nodeAt(0);
  assert(!precedes(first.startAt(0), first.valueAt(0).b, start, b));
}

function verifySpan(leaf: Node, position: u32, promise: u32): void {
  const start = leaf.startAt(position);
  const value = leaf.valueAt(position);
  assert(start <= leaf.lastAt(position));
  if (changetype<usize>(leafBefore) != 0) {
    const startBefore = leafBefore.startAt(positionBefore);
    const before = leafBefore.valueAt(positionBefore);
    assert(precedes(startBefore, before.b, start, value.b));
    if (promise >= DISJOINT) assert(leafBefore.lastAt(positionBefore) < start);
    if (promise == JOINED && leafBefore.lastAt(positionBefore) + 1 == start) {
      assert(!before.continuesAs(start - startBefore, value.a, value.b, value.c));
    }
  }
  leafBefore = leaf;
  positionBefore = position;
}
