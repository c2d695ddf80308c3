// The stricter overlap policy: two siblings of different priority may overlap only where the lower lies inside the
// higher one, and two of equal priority only where they cover the same range. Checked when a transaction ends, so that
// regions may pass through each other inside it.

import { ERR_OVERLAP, POLICY_NESTED, REGION_DISABLED, REGION_EMPTY } from '../abi';
import { fail } from '../base/failure';
import { plusClipped } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import * as tree from '../tree/tree';
import { regionOf, regions } from './records';

let policy: u32 = 0;

/** Regions (u32 ids) that were placed, moved or changed since the last commit. */
const changed = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const siblings = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

export function setPolicy(value: u32): void {
  policy = value;
}

export function noteChanged(id: u32): void {
  if (policy == POLICY_NESTED && changed.ensure(4)) changed.push32(id);
}

export function forgetChanged(): void {
  changed.clear();
}

/** Checks the regions that were changed: 0, or ERR_OVERLAP with two that may not overlap so. */
export function checkPolicy(): i32 {
  for (let at: u32 = 0; at < changed.length; at += 4) {
    const id = load<u32>(changed.at(at));
    if (!regions.isAlive(id)) continue;
    const region = regionOf(id);
    if (region.parent == 0 || region.flags & (REGION_DISABLED | REGION_EMPTY)) continue;
    const last = plusClipped(region.offset, region.last);
    siblings.clear();
    tree.collect(regionOf(region.parent - 1).childrenTree, region.offset, last, siblings);
    for (let i: u32 = 0; i < siblings.length; i += 4) {
      const other = load<u32>(siblings.at(i));
      if (other != id && !mayOverlap(id, other)) return fail(ERR_OVERLAP, id + 1, other + 1, region.offset);
    }
  }
  return 0;
}

function mayOverlap(id: u32, otherId: u32): bool {
  const region = regionOf(id);
  const other = regionOf(otherId);
  if (other.flags & REGION_DISABLED) return true;
  const last = plusClipped(region.offset, region.last);
  const otherLast = plusClipped(other.offset, other.last);
  const inside = region.offset >= other.offset && last <= otherLast;
  const around = region.offset <= other.offset && last >= otherLast;
  if (region.priority == other.priority) return inside && around;
  return region.priority < other.priority ? inside : around;
}
