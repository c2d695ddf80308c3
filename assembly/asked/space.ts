// Address spaces: what one observer sees of a root region.

import { ERR_BAD_ID, ERR_IN_USE } from '../abi';
import { fail } from '../base/failure';
import { plusClipped } from '../base/range';
import * as tree from '../tree/tree';
import { regions, spaceOf, spaces, writableRegion, writableSpace } from './records';
import { markSpace, VIEW } from './touch';

/** Makes an address space in which the first byte of `root` is seen at GPA `offset`. Returns its id or a code. */
export function createSpace(root: u32, offset: u64): i32 {
  if (!regions.isAlive(root)) return fail(ERR_BAD_ID, root + 1);
  const id = spaces.allocate();
  if (id < 0) return fail(id);
  const space = spaceOf(id);
  const region = writableRegion(root);
  space.root = root + 1;
  space.offset = offset;
  space.nextOfRoot = region.spaces;
  region.spaces = id + 1;
  region.uses += 1;
  markSpace(id, offset, plusClipped(offset, region.last), VIEW);
  return id;
}

/** Destroys an address space that is alive. Returns 0 or a code. */
export function destroySpace(id: u32): i32 {
  const space = spaceOf(id);
  if (space.sinks != 0) return fail(ERR_IN_USE);
  const root = space.root - 1;
  const region = writableRegion(root);
  assert(region.uses != 0);
  region.uses -= 1;
  if (region.spaces == id + 1) {
    region.spaces = space.nextOfRoot;
  } else {
    let before = region.spaces - 1;
    while (spaceOf(before).nextOfRoot != id + 1) before = spaceOf(before).nextOfRoot - 1;
    writableSpace(before).nextOfRoot = space.nextOfRoot;
  }
  tree.clear(space.flatTree);
  spaces.release(id);
  return 0;
}
