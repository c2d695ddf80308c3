// Pass 1: what is asked for. Regions are made, placed into containers, moved, resized, hidden and shown; every change
// marks the ranges that it may show in. A caller's mistake is a code and leaves everything as it was.

import {
  ERR_BAD_FLAGS,
  ERR_BAD_ID,
  ERR_BAD_KIND,
  ERR_CYCLE,
  ERR_IN_USE,
  ERR_NOT_PLACED,
  ERR_PLACED,
  ERR_TOO_DEEP,
  KIND_ALIAS,
  KIND_CONTAINER,
  KIND_DEVICE,
  KIND_HAS_TARGET,
  KIND_MMIO,
  KIND_RAM,
  KIND_ROM,
  MAX_DEPTH,
  REGION_DISABLED,
  REGION_EMPTY,
  REGION_NONVOLATILE,
  REGION_READONLY,
} from '../abi';
import { fail } from '../base/failure';
import { LAST_BYTE, plusClipped } from '../base/range';
import * as tree from '../tree/tree';
import { saveImage } from '../undo/journal';
import { eraseMappings, truncateMappings } from './mapping';
import { noteChanged } from './policy';
import { regionOf, regions, writableRegion } from './records';
import { markRegion, markWhole, VIEW } from './touch';

const CREATE_FLAGS: u32 = REGION_READONLY | REGION_NONVOLATILE | REGION_DISABLED | REGION_EMPTY;
const CHANGE_FLAGS: u32 = REGION_READONLY | REGION_NONVOLATILE | REGION_DISABLED;

/** Counts placements: among equal priority the region that was placed first is seen. In the journal as one word. */
const placements: usize = memory.data(8, 8);

/** Whether there is such a kind, and a region of it needs no other region. */
function standsAlone(kind: u32): bool {
  return kind == KIND_RAM || kind == KIND_ROM || kind == KIND_DEVICE || kind == KIND_MMIO || kind == KIND_CONTAINER;
}

export function createRegion(kind: u32, last: u64, flags: u32): i32 {
  if (!standsAlone(kind)) return fail(ERR_BAD_KIND);
  if (flags & ~CREATE_FLAGS) return fail(ERR_BAD_FLAGS);
  const id = regions.allocate();
  if (id < 0) return fail(id);
  const region = regionOf(id);
  region.kind = <u8>kind;
  region.flags = <u8>flags;
  region.last = flags & REGION_EMPTY ? 0 : last;
  return id;
}

export function createAlias(target: u32, targetOffset: u64, last: u64, flags: u32): i32 {
  if (!regions.isAlive(target)) return fail(ERR_BAD_ID, target + 1);
  if (flags & ~CREATE_FLAGS) return fail(ERR_BAD_FLAGS);
  const id = regions.allocate();
  if (id < 0) return fail(id);
  const alias = regionOf(id);
  alias.kind = <u8>KIND_ALIAS;
  alias.flags = <u8>flags;
  alias.last = flags & REGION_EMPTY ? 0 : last;
  alias.target = target + 1;
  alias.targetOffset = targetOffset;
  writableRegion(target).uses += 1;
  enterReferrer(id);
  return id;
}

/** Destroys a region. Precondition, as of all below: `id` is alive. */
export function destroyRegion(id: u32): i32 {
  const region = regionOf(id);
  if (region.parent != 0) return fail(ERR_PLACED, id + 1);
  if (region.uses != 0) return fail(ERR_IN_USE, id + 1);
  if (region.target != 0) {
    leaveReferrer(id);
    assert(regionOf(region.target - 1).uses != 0);
    writableRegion(region.target - 1).uses -= 1;
  }
  eraseMappings(id, 0, LAST_BYTE);
  regions.release(id);
  return 0;
}

export function placeRegion(id: u32, parent: u32, offset: u64, priority: i32): i32 {
  if (!regions.isAlive(parent)) return fail(ERR_BAD_ID, parent + 1);
  if (regionOf(id).parent != 0) return fail(ERR_PLACED, id + 1);
  if (regionOf(parent).kind & KIND_HAS_TARGET) return fail(ERR_BAD_KIND, parent + 1);
  let depth = 0;
  for (let above = parent + 1; above != 0; above = regionOf(above - 1).parent) {
    if (above == id + 1) return fail(ERR_CYCLE, id + 1, parent + 1);
    if (++depth == MAX_DEPTH) return fail(ERR_TOO_DEEP, id + 1, parent + 1);
  }
  const region = writableRegion(id);
  region.parent = parent + 1;
  region.offset = offset;
  region.priority = priority;
  saveImage(placements, 8);
  region.order = load<u64>(placements);
  store<u64>(placements, region.order + 1);
  writableRegion(parent).uses += 1;
  enterParent(id);
  return markRegion(id, 0, LAST_BYTE, VIEW);
}

export function removeRegion(id: u32): i32 {
  const region = regionOf(id);
  if (region.parent == 0) return fail(ERR_NOT_PLACED, id + 1);
  const error = markRegion(id, 0, LAST_BYTE, VIEW);
  if (error != 0) return error;
  leaveParent(id);
  assert(regionOf(region.parent - 1).uses != 0);
  writableRegion(region.parent - 1).uses -= 1;
  writableRegion(id).parent = 0;
  return 0;
}

export function moveRegion(id: u32, offset: u64): i32 {
  const region = regionOf(id);
  if (region.parent == 0) return fail(ERR_NOT_PLACED, id + 1);
  if (region.offset == offset) return 0;
  const error = markRegion(id, 0, LAST_BYTE, VIEW);
  if (error != 0) return error;
  leaveParent(id);
  writableRegion(id).offset = offset;
  enterParent(id);
  return markRegion(id, 0, LAST_BYTE, VIEW);
}

export function setPriority(id: u32, priority: i32): i32 {
  const region = regionOf(id);
  if (region.parent == 0) return fail(ERR_NOT_PLACED, id + 1);
  if (region.priority == priority) return 0;
  writableRegion(id).priority = priority;
  noteChanged(id);
  return markRegion(id, 0, LAST_BYTE, VIEW);
}

/** Gives the flags in `mask` the values that they have in `flags`. */
export function setFlags(id: u32, flags: u32, mask: u32): i32 {
  if (mask & ~CHANGE_FLAGS || flags & ~mask) return fail(ERR_BAD_FLAGS, id + 1);
  const before = <u32>regionOf(id).flags;
  const after = (before & ~mask) | flags;
  if (after == before) return 0;
  writableRegion(id).flags = <u8>after;
  noteChanged(id);
  return before & after & REGION_DISABLED ? 0 : markWhole(id);
}

/** Adds bytes at the end of a region, or takes some away, with their mappings. `empty`: size 0, whatever `last`
 *  says. */
export function resizeRegion(id: u32, last: u64, empty: bool): i32 {
  const region = regionOf(id);
  const wasEmpty = (region.flags & REGION_EMPTY) != 0;
  if (empty) last = 0;
  if (wasEmpty == empty && region.last == last) return 0;
  const start = wasEmpty || empty ? <u64>0 : min(region.last, last) + 1;
  const error = markRegion(id, start, LAST_BYTE, VIEW);
  if (error != 0) return error;
  if (region.parent != 0) leaveParent(id);
  if (region.target != 0) leaveReferrer(id);
  const changed = writableRegion(id);
  changed.last = last;
  changed.flags = <u8>((region.flags & ~REGION_EMPTY) | (empty ? REGION_EMPTY : 0));
  if (region.parent != 0) enterParent(id);
  if (region.target != 0) enterReferrer(id);
  truncateMappings(id);
  return markRegion(id, start, LAST_BYTE, VIEW);
}

export function retargetAlias(id: u32, targetOffset: u64): i32 {
  const alias = regionOf(id);
  if (!(alias.kind & KIND_HAS_TARGET)) return fail(ERR_BAD_KIND, id + 1);
  if (alias.targetOffset == targetOffset) return 0;
  leaveReferrer(id);
  writableRegion(id).targetOffset = targetOffset;
  enterReferrer(id);
  return markRegion(id, 0, LAST_BYTE, VIEW);
}

// ---- The trees that a region is in: none while it is empty ---------------------------------

function enterParent(id: u32): void {
  const region = regionOf(id);
  noteChanged(id);
  if (region.flags & REGION_EMPTY) return;
  const last = plusClipped(region.offset, region.last);
  tree.insert(regionOf(region.parent - 1).childrenTree, region.offset, last, 0, id, 0);
}

function leaveParent(id: u32): void {
  const region = regionOf(id);
  if (region.flags & REGION_EMPTY) return;
  tree.remove(regionOf(region.parent - 1).childrenTree, region.offset, id);
}

function enterReferrer(id: u32): void {
  const alias = regionOf(id);
  if (alias.flags & REGION_EMPTY) return;
  const last = plusClipped(alias.targetOffset, alias.last);
  tree.insert(regionOf(alias.target - 1).referrersTree, alias.targetOffset, last, 0, id, 0);
}

function leaveReferrer(id: u32): void {
  const alias = regionOf(id);
  if (alias.flags & REGION_EMPTY) return;
  tree.remove(regionOf(alias.target - 1).referrersTree, alias.targetOffset, id);
}
