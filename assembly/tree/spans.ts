// Trees of disjoint spans: a new span is joined with its neighbours where their values continue in it, and a range that
// is taken out cuts the spans that it reaches into.

import { Vector } from '../base/vector';
import { ensureStep } from '../undo/journal';
import { Node, Span } from './node';
import { Path, pathReaching, pathToPosition } from './path';
import { CURSOR_SIZE, Cursor, extendAt, insert, insertAt, remove, removeAt, touchNode } from './tree';

const SPAN_BYTES: u32 = offsetof<Span>();

const neighbours = changetype<Cursor<Span>>(memory.data(CURSOR_SIZE, 8));

// ---- Put ---------------------------------------------------------------------------------------

/** Enters [start, last], of which nothing is in the tree yet, joined with its neighbours where that is possible. */
export function put(tree: usize, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  assert(start <= last);
  if (load<u32>(tree) == 0) {
    insert(tree, start, last, a, b, c);
    return;
  }
  if (!ensureStep()) return;
  putAt(tree, pathToPosition(tree, start, b), start, last, a, b, c);
}

/** `put`, where [start, last] belongs at the path's position. Precondition: `ensureStep` said yes. */
function putAt(tree: usize, path: Path, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  // Nearly always both neighbours are in one leaf, and the right one cannot be joined: then one search is enough.
  const leaf = path.leaf;
  const position = path.position;
  const hasLeft = position != 0;
  const hasRight = position != leaf.count;
  const isSimple =
    (path.depth == 0 || (hasLeft && hasRight)) && !(hasRight && joinsFromRight(leaf, position, start, last, a, b, c));
  if (!isSimple) putJoined(tree, start, last, a, b, c);
  else if (hasLeft && joinsFromLeft(leaf, position - 1, start, a, b, c)) extendAt(path, position - 1, last);
  else insertAt(tree, path, start, last, a, b, c);
}

/** Whether the span at `position` ends where [start, …] begins, and can be joined with it. */
function joinsFromLeft(leaf: Node, position: u32, start: u64, a: u64, b: u32, c: u32): bool {
  const distance = start - leaf.startAt(position);
  return leaf.lastAt(position) == start - 1 && leaf.valueAt(position).continuesAs(distance, a, b, c);
}

/** Whether the span at `position` begins where [start, last] ends, and can be joined with it. */
function joinsFromRight(leaf: Node, position: u32, start: u64, last: u64, a: u64, b: u32, c: u32): bool {
  const rightStart = leaf.startAt(position);
  return rightStart - 1 == last && leaf.valueAt(position).continuesAs(start - rightStart, a, b, c);
}

function putJoined(tree: usize, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  neighbours.seek(tree, start == 0 ? 0 : start - 1);
  let span = neighbours.span;
  let leftStart = start;
  let leftA = a;
  if (span != null && span.last < start) {
    if (span.value.continuesAs(start - span.start, a, b, c)) {
      leftStart = span.start;
      leftA = span.a;
    }
    neighbours.next();
    span = neighbours.span;
  }
  let rightLast = last;
  if (span != null && span.start - 1 == last && span.value.continuesAs(start - span.start, a, b, c)) {
    rightLast = span.last;
  }
  if (leftStart != start) remove(tree, leftStart, b);
  if (rightLast != last) remove(tree, last + 1, b);
  insert(tree, leftStart, rightLast, leftA, b, c);
}

/** Makes [start, last] one span, over whatever was there; copies of the old spans, clipped to it, are appended to
 *  `out`. */
export function overwrite(tree: usize, start: u64, last: u64, a: u64, b: u32, c: u32, out: Vector): void {
  if (load<u32>(tree) == 0) {
    put(tree, start, last, a, b, c);
    return;
  }
  if (!ensureStep()) return;
  const path = pathReaching(tree, start);
  const isFree = path.position == path.leaf.count || path.leaf.startAt(path.position) > last;
  if (isFree) {
    putAt(tree, path, start, last, a, b, c);
  } else if (isReplaceable(path, start, last, a, b, c)) {
    replace(path, a, b, c, out);
  } else {
    eraseInto(tree, start, last, out);
    put(tree, start, last, a, b, c);
  }
}

/** Whether the span that the path leads to is exactly [start, last] and its values can be replaced in place: it
 *  joins neither neighbour, and does not bound its leaf. */
function isReplaceable(path: Path, start: u64, last: u64, a: u64, b: u32, c: u32): bool {
  const leaf = path.leaf;
  const position = path.position;
  if (leaf.startAt(position) != start || leaf.lastAt(position) != last) return false;
  const hasLeft = position != 0;
  const hasRight = position + 1 != leaf.count;
  return (
    (path.depth == 0 || (hasLeft && hasRight)) &&
    !(hasLeft && joinsFromLeft(leaf, position - 1, start, a, b, c)) &&
    !(hasRight && joinsFromRight(leaf, position + 1, start, last, a, b, c))
  );
}

/** Replaces the values of the span that the path leads to. Precondition: `ensureStep` said yes. */
function replace(path: Path, a: u64, b: u32, c: u32, out: Vector): void {
  const leaf = path.leaf;
  const position = path.position;
  if (!appendPart(leaf, position, leaf.startAt(position), leaf.lastAt(position), out)) return;
  touchNode(leaf);
  const value = leaf.valueAt(position);
  value.a = a;
  value.b = b;
  value.c = c;
}

/** Enters [start, last] wherever nothing is in the tree yet. */
export function fill(tree: usize, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  const origin = start;
  while (true) {
    neighbours.seek(tree, start);
    const span = neighbours.span;
    if (span == null || span.start > last) {
      put(tree, start, last, a + (start - origin), b, c);
      return;
    }
    const after = span.last;
    if (span.start > start) put(tree, start, span.start - 1, a + (start - origin), b, c);
    if (after >= last || !ensureStep()) return;
    start = after + 1;
  }
}

// ---- Take --------------------------------------------------------------------------------------

/** Takes [start, last] out of every span, cutting those that reach over its ends. */
export function erase(tree: usize, start: u64, last: u64): void {
  eraseInto(tree, start, last, null);
}

/** `erase` that appends copies of the old spans, clipped to [start, last], to `out`, as Spans. */
export function take(tree: usize, start: u64, last: u64, out: Vector): void {
  eraseInto(tree, start, last, out);
}

function eraseInto(tree: usize, start: u64, last: u64, out: Vector | null): void {
  assert(start <= last);
  while (load<u32>(tree) != 0 && ensureStep()) {
    const path = pathReaching(tree, start);
    const leaf = path.leaf;
    const position = path.position;
    if (position == leaf.count) return;
    const spanStart = leaf.startAt(position);
    if (spanStart > last) return;
    const value = leaf.valueAt(position);
    const spanLast = leaf.lastAt(position);
    const a = value.a;
    const b = value.b;
    const c = value.c;
    if (out != null && !appendPart(leaf, position, start, last, out)) return;
    removeAt(tree, path);
    if (spanStart < start) insert(tree, spanStart, start - 1, a, b, c);
    if (spanLast > last) insert(tree, last + 1, spanLast, a + (last + 1 - spanStart), b, c);
    if (spanLast >= last) return;
  }
}

/** Appends a copy of the span at `position`, as far as it lies in [start, last]; false when memory has run out. */
function appendPart(leaf: Node, position: u32, start: u64, last: u64, out: Vector): bool {
  if (!out.ensure(SPAN_BYTES)) return false;
  const spanStart = leaf.startAt(position);
  const value = leaf.valueAt(position);
  const part = changetype<Span>(out.extend(SPAN_BYTES));
  part.start = max(start, spanStart);
  part.last = min(last, leaf.lastAt(position));
  part.a = value.a + (part.start - spanStart);
  part.b = value.b;
  part.c = value.c;
  return true;
}
