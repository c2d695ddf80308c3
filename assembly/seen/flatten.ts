// Pass 2: the regions that are seen. Only the touched ranges of a space are resolved again: from the root downwards,
// highest priority first, each region filling what is still empty.
//
//   A walk carries a region, the stretch [start, last] of it that is seen (counted from the region's start, clipped by
//   everything on the way) and `gpa`, the address of `start`.

import {
  ERR_TOO_COMPLEX,
  FLAT_NONVOLATILE,
  FLAT_READONLY,
  KIND_HAS_TARGET,
  KIND_SHOWS,
  MAX_DEPTH,
  REGION_DISABLED,
  REGION_EMPTY,
  REGION_NONVOLATILE,
  REGION_READONLY,
} from '../abi';
import { Region, regionOf, sinkOf, spaceOf } from '../asked/records';
import { mappingsChanged, refuseDepth, stepTo, visit } from '../asked/touch';
import { FlatRange } from '../asked/views';
import { fail } from '../base/failure';
import { plusClipped, sumFits } from '../base/range';
import { sortIds } from '../base/sort';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { noteEdit } from '../tree/before';
import * as spans from '../tree/spans';
import * as tree from '../tree/tree';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { ensureStep } from '../undo/journal';
import { addTouched, touchedSinks } from '../undo/touched';

const cursor = changetype<Cursor<FlatRange>>(memory.data(CURSOR_SIZE, 8));

/** Children to be visited, a run for each region under way, each run in the order of the visits. */
const runs = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** The flat view of the range before: copies of spans, clipped to it. */
const before = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

const RANGE_BYTES: u32 = offsetof<FlatRange>();

// ---- Resolving -----------------------------------------------------------------------------

/** Resolves a touched range of the space, and marks it in the sinks if something is different. Returns 0 or a code. */
export function resolve(id: u32, start: u64, last: u64): i32 {
  if (!ensureStep()) return 0;
  runs.clear();
  const space = spaceOf(id);
  const view = space.flatTree;
  before.clear();
  spans.take(view, start, last, before);
  const root = space.root - 1;
  const rootRegion = regionOf(root);
  const rootLast = plusClipped(space.offset, rootRegion.last);
  if (start <= rootLast && last >= space.offset) {
    const from = max(start, space.offset);
    const error = render(view, root, from - space.offset, min(last, rootLast) - space.offset, from, 0, 0);
    if (error != 0) return error;
  }
  const isChanged = !isSame(view, start, last);
  let edit: u32 = 0;
  if (isChanged && space.sinks != 0) edit = noteEdit(view, start, last, 0, 0, 0, before);
  // Mappings of regions that are or were seen here may have changed too: then this edit is not the only reason.
  if (mappingsChanged != 0) edit = 0;
  for (let sink = space.sinks; sink != 0; sink = sinkOf(sink - 1).nextOfSpace) {
    if (isChanged || (mappingsChanged & sinkOf(sink - 1).heeds) != 0)
      addTouched(touchedSinks, sink - 1, start, last, edit);
  }
  return 0;
}

/** Whether [start, last] of the view shows what `before` holds. */
function isSame(view: usize, start: u64, last: u64): bool {
  let at: u32 = 0;
  cursor.seek(view, start);
  for (let range = cursor.span; range != null && range.start <= last; range = cursor.span) {
    if (at == before.length) return false;
    const from = max(start, range.start);
    const rangeBefore = changetype<FlatRange>(before.at(at));
    if (rangeBefore.start != from || rangeBefore.last != min(last, range.last)) return false;
    if (rangeBefore.offsetInRegionAt(from) != range.offsetInRegionAt(from)) return false;
    if (rangeBefore.region != range.region || rangeBefore.flags != range.flags) return false;
    at += RANGE_BYTES;
    cursor.next();
  }
  return at == before.length;
}

/** Fills a stretch of a region into the tree: what is there already was seen first, and stays. Returns 0 or a code. */
export function render(view: usize, id: u32, start: u64, last: u64, gpa: u64, flags: u32, depth: u32): i32 {
  const region = regionOf(id);
  if (region.flags & (REGION_DISABLED | REGION_EMPTY) || start > region.last) return 0;
  if (depth == MAX_DEPTH) return refuseDepth(id, gpa);
  stepTo(id, depth);
  if (!visit()) return fail(ERR_TOO_COMPLEX, id + 1, 0, gpa);
  last = min(last, region.last);
  flags |= inherited(region);
  if (region.kind & KIND_HAS_TARGET) {
    if (!sumFits(start, region.targetOffset)) return 0;
    return render(
      view,
      region.target - 1,
      start + region.targetOffset,
      plusClipped(last, region.targetOffset),
      gpa,
      flags,
      depth + 1,
    );
  }
  const error = renderChildren(view, region, start, last, gpa, flags, depth);
  if (error != 0) return error;
  if (region.kind & KIND_SHOWS) spans.fill(view, gpa, gpa + (last - start), start, id, flags);
  return 0;
}

/** `render` for what stands in a stretch of a region. */
function renderChildren(view: usize, region: Region, start: u64, last: u64, gpa: u64, flags: u32, depth: u32): i32 {
  const mark = runMark();
  const end = pushChildren(region, start, last);
  for (let at = mark; at < end; at += 4) {
    const id = childInRun(at);
    const child = regionOf(id);
    const from = max(start, child.offset);
    const childGpa = gpa + (from - start);
    const error = render(view, id, from - child.offset, last - child.offset, childGpa, flags, depth + 1);
    if (error != 0) return error;
  }
  dropRun(mark);
  return 0;
}

/** FLAT_* that everything seen through this region has. */
export function inherited(region: Region): u32 {
  return (
    (region.flags & REGION_READONLY ? FLAT_READONLY : 0) | (region.flags & REGION_NONVOLATILE ? FLAT_NONVOLATILE : 0)
  );
}

// ---- Order of precedence ---------------------------------------------

/** Appends the children that reach into [start, last] to `runs`, in order of precedence; returns the end of the run. */
export function pushChildren(region: Region, start: u64, last: u64): u32 {
  const mark = runMark();
  tree.collect(region.childrenTree, start, last, runs);
  const end = runs.length;
  if (overlap(mark, end)) sortRun(mark, end);
  return end;
}

/** Child number `at` (in bytes) of the run. */
export function childInRun(at: u32): u32 {
  return load<u32>(runs.at(at));
}

/** End of all runs, where the next one begins. */
export function runMark(): u32 {
  return runs.length;
}

/** Forgets the runs from `mark` on. */
export function dropRun(mark: u32): void {
  runs.shrink(runs.length - mark);
}

/** Whether two regions of the run, which is in order of offset, have a byte in common. */
function overlap(mark: u32, end: u32): bool {
  let reached: u64 = 0;
  for (let at = mark; at < end; at += 4) {
    const child = regionOf(childInRun(at));
    if (at != mark && child.offset <= reached) return true;
    reached = plusClipped(child.offset, child.last);
  }
  return false;
}

/** Puts a run in order of precedence. */
export function sortRun(mark: u32, end: u32): void {
  sortIds(runs.at(mark), (end - mark) >> 2, (left, right) => {
    const a = regionOf(left);
    const b = regionOf(right);
    return a.priority != b.priority ? a.priority > b.priority : a.order < b.order;
  });
}
