// Pass 1, second half: the ranges that a change touches. Found by walking upwards from the region that changed,
// through the containers that hold it and the aliases that show it, to every address space that sees it.

import {
  ERR_CYCLE,
  ERR_TOO_COMPLEX,
  ERR_TOO_DEEP,
  MAX_DEPTH,
  MAX_VISITS,
  REGION_DISABLED,
  REGION_EMPTY,
  VISITS_PER_REGION,
} from '../abi';
import { fail } from '../base/failure';
import { minusClipped, pageLast, pageStart, plusClipped, sumFits } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import * as tree from '../tree/tree';
import { addTouched, touchedSinks, touchedViews } from '../undo/touched';
import { regionOf, regions, sinkOf, spaceOf } from './records';

// Kinds of difference in a touched range, as bits.

/** Bit of a difference in the mappings of the regions seen there. */
export const MAPPINGS: u32 = 1;
/** Bit of a difference in whether what is mapped there may be written. */
export const WRITABILITY: u32 = 2;
/** Bit of a difference in the events of the regions seen there. */
export const EVENTS: u32 = 4;
/** Bit of a difference in the regions seen there, which everybody heeds. */
export const VIEW: u32 = 8;

/** Aliases found on the way, a run for each region under way. */
const found = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Bits of what has changed in mappings since the last commit, so that a view that looks as before may show other
 *  bytes. */
export let mappingsChanged: u32 = 0;

/** Regions visited by this operation upwards, or by this commit downwards. */
let visits: u32 = 0;
/** The first error of the walk; 0 for none. */
let walkError: i32 = 0;
/** The edit that the walk is for; 0 for none. */
let walkEdit: u32 = 0;

export function resetVisits(): void {
  visits = 0;
}

export function noteMappings(what: u32): void {
  mappingsChanged |= what;
}

export function forgetMappings(): void {
  mappingsChanged = 0;
}

/** Counts one region; false when there were too many. */
export function visit(): bool {
  return ++visits <= <u32>MAX_VISITS + regions.count * <u32>VISITS_PER_REGION;
}

/** The regions on the way of a walk, by depth: u32 ids. */
const way: usize = memory.data(MAX_DEPTH * 4, 4);

/** Notes that a walk has come to a region. */
export function stepTo(id: u32, depth: u32): void {
  store<u32>(way + (depth << 2), id);
}

/** Code for a walk of MAX_DEPTH steps that cannot go on: it came to some region twice, or the way is that long. */
export function refuseDepth(id: u32, gpa: u64): i32 {
  for (let i: u32 = 0; i < <u32>MAX_DEPTH; ++i) {
    const other = load<u32>(way + (i << 2));
    if (other == id) return fail(ERR_CYCLE, id + 1, 0, gpa);
    for (let j: u32 = i + 1; j < <u32>MAX_DEPTH; ++j) {
      if (load<u32>(way + (j << 2)) == other) return fail(ERR_CYCLE, other + 1, 0, gpa);
    }
  }
  return fail(ERR_TOO_DEEP, id + 1, 0, gpa);
}

/** Marks bytes [start, last] of a region, wherever they are seen; `edit`: what was done to its mappings there.
 *  Returns 0 or an error code. */
export function markRegion(id: u32, start: u64, last: u64, what: u32, edit: u32 = 0): i32 {
  walkError = 0;
  walkEdit = edit;
  resetVisits();
  if (!(regionOf(id).flags & REGION_DISABLED)) markSeen(id, start, last, what, 0);
  return walkError;
}

/** `markRegion` for a whole region, as if it were enabled: for a change of that very flag. */
export function markWhole(id: u32): i32 {
  walkError = 0;
  resetVisits();
  const region = regionOf(id);
  if (!(region.flags & REGION_EMPTY)) markSeen(id, 0, region.last, VIEW, 0);
  return walkError;
}

/** Marks bytes [start, last] of a region that is enabled, or taken to be. */
function markSeen(id: u32, start: u64, last: u64, what: u32, depth: u32): void {
  if (walkError != 0) return;
  const region = regionOf(id);
  if (region.flags & REGION_EMPTY || start > region.last) return;
  last = min(last, region.last);
  if (depth == MAX_DEPTH) {
    walkError = refuseDepth(id, 0);
    return;
  }
  stepTo(id, depth);
  if (!visit()) {
    walkError = fail(ERR_TOO_COMPLEX, id + 1);
    return;
  }
  for (let space = region.spaces; space != 0; space = spaceOf(space - 1).nextOfRoot) {
    const offset = spaceOf(space - 1).offset;
    if (sumFits(start, offset)) markSpace(space - 1, start + offset, plusClipped(last, offset), what);
  }
  if (region.parent != 0 && sumFits(start, region.offset)) {
    const parent = region.parent - 1;
    if (!(regionOf(parent).flags & REGION_DISABLED)) {
      markSeen(parent, start + region.offset, plusClipped(last, region.offset), what, depth + 1);
    }
  }
  if (region.referrers == 0) return;
  const mark = found.length;
  tree.collect(region.referrersTree, start, last, found);
  const end = found.length;
  for (let at = mark; at < end; at += 4) {
    const aliasId = load<u32>(found.at(at));
    const alias = regionOf(aliasId);
    if (alias.flags & REGION_DISABLED) continue;
    markSeen(aliasId, minusClipped(start, alias.targetOffset), last - alias.targetOffset, what, depth + 1);
  }
  found.shrink(end - mark);
}

/** Marks a range of one address space. */
export function markSpace(id: u32, start: u64, last: u64, what: u32): void {
  if (what == VIEW) {
    // Sinks have whole pages, before and after.
    const isPaged = spaceOf(id).sinks != 0;
    addTouched(touchedViews, id, isPaged ? pageStart(start) : start, isPaged ? pageLast(last) : last);
    return;
  }
  for (let sink = spaceOf(id).sinks; sink != 0; sink = sinkOf(sink - 1).nextOfSpace) {
    if ((what & sinkOf(sink - 1).heeds) != 0) addTouched(touchedSinks, sink - 1, start, last, walkEdit);
  }
}
