// The invariants of a span tree.

import {
  canJoin,
  childAt,
  HEADER,
  INNER_CAPACITY,
  maxLastOf,
  NODE_SHIFT,
  Node,
  rootOf,
  SPAN_SIZE,
  Span,
  spanAt,
} from './tree';

/** What a tree's spans promise: nothing; not to overlap; also not to stand beside what they could be joined with. */
export const ANY: u32 = 0;
export const DISJOINT: u32 = 1;
export const JOINED: u32 = 2;

let checked: Span | null = null;

/** Asserts that the tree is well-formed and keeps its promise; returns how many spans it has. */
export function verifyTree(slot: usize, promise: u32): u32 {
  checked = null;
  if (load<u32>(slot) == 0) return 0;
  const root = rootOf(slot);
  assert(root.count > 0 && (root.level == 0 || root.count > 1));
  return verifyNode(root, root.level, promise);
}

function verifyNode(node: Node, level: u32, promise: u32): u32 {
  assert(node.level == level);
  const count = <u32>node.count;
  if (level == 0) {
    assert(count > 0 && HEADER + count * SPAN_SIZE <= (<u32>1) << node.shift);
    for (let i: u32 = 0; i < count; ++i) verifySpan(spanAt(node, i), promise);
    return count;
  }
  assert(count > 0 && count <= INNER_CAPACITY && node.shift == NODE_SHIFT);
  let spans: u32 = 0;
  for (let i: u32 = 0; i < count; ++i) {
    const child = childAt(node, i);
    const below = changetype<Node>(<usize>child.node);
    assert(child.maxLast == maxLastOf(below));
    const before = checked;
    if (i > 0 && before != null)
      assert(before.start < child.start || (before.start == child.start && before.b < child.b));
    const first = firstBelow(below);
    if (i > 0) assert(child.start < first.start || (child.start == first.start && child.b <= first.b));
    spans += verifyNode(below, level - 1, promise);
  }
  return spans;
}

function firstBelow(node: Node): Span {
  while (node.level != 0) node = changetype<Node>(<usize>childAt(node, 0).node);
  return spanAt(node, 0);
}

function verifySpan(span: Span, promise: u32): void {
  assert(span.start <= span.last);
  const before = checked;
  if (before != null) {
    assert(before.start < span.start || (before.start == span.start && before.b < span.b));
    if (promise >= DISJOINT) assert(before.last < span.start);
    if (promise == JOINED && before.last + 1 == span.start) {
      assert(!canJoin(before.start, before.a, before.b, before.c, span.start, span.a, span.b, span.c));
    }
  }
  checked = span;
}
