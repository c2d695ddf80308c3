// Pass 1, objects and mappings: parts of objects in regions, which behave like mmap. A new one overwrites and splits
// old ones, an unmap may cut one in two.

import {
  ERR_BAD_FLAGS,
  ERR_BAD_ID,
  ERR_BAD_KIND,
  ERR_BAD_RANGE,
  ERR_IN_USE,
  ERR_READONLY_OBJECT,
  ERR_UNALIGNED,
  MAPPING_WRITABLE,
  MAX_PAGE_SHIFT,
  OBJECT_DRIVER,
  OBJECT_MAY_BE_LARGE,
  OBJECT_PRIVATE,
  OBJECT_SHARED,
  OBJECT_WRITABLE,
  PAGE_SHIFT,
  PAGE_SIZE,
  REGION_EMPTY,
} from '../abi';
import { fail } from '../base/failure';
import { exists, isPageAligned, LAST_BYTE, lastOf, lengthOf, pageLast } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { NOTHING, noteEdit } from '../tree/before';
import * as spans from '../tree/spans';
import { ensureStep } from '../undo/journal';
import { isMemory, objectOf, objects, regionOf, writableObject, writableRegion } from './records';
import { MAPPINGS, markRegion, noteMappings, WRITABILITY } from './touch';
import { Mapping } from './views';

const MAPPING_BYTES: u32 = offsetof<Mapping>();

/** Mappings that the running operation takes out, clipped to its range. */
const before = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Ids of the objects that have lost their last mapping in the transaction; some may have another one by now. */
export const unmapped = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** The bits of an address inside a page of the largest size that any object has had. */
export let largestPageMask: u64 = PAGE_SIZE - 1;
/** Whether any object has ever been private. */
export let hasPrivateObjects: bool = false;

/** Makes an object whose pages are 2^`pageShift` bytes; one of larger pages than PAGE_SIZE is whole pages. Returns its
 *  id or a code. */
export function createObject(kind: u32, flags: u32, size: u64, pageShift: u32): i32 {
  if (kind != OBJECT_SHARED && kind != OBJECT_PRIVATE && kind != OBJECT_DRIVER) return fail(ERR_BAD_KIND);
  if (flags & ~OBJECT_WRITABLE) return fail(ERR_BAD_FLAGS);
  if (size == 0 || pageShift < <u32>PAGE_SHIFT || pageShift > <u32>MAX_PAGE_SHIFT) return fail(ERR_BAD_RANGE);
  if (pageShift != PAGE_SHIFT && !(kind & OBJECT_MAY_BE_LARGE)) return fail(ERR_BAD_KIND);
  const pageMask = ((<u64>1) << pageShift) - 1;
  if (pageShift != PAGE_SHIFT && (size & pageMask) != 0) return fail(ERR_UNALIGNED, 0, 0, size);
  const id = objects.allocate();
  if (id < 0) return fail(id);
  const object = objectOf(id);
  object.kind = <u8>kind;
  object.flags = <u8>flags;
  object.size = size;
  object.pageShift = <u8>pageShift;
  largestPageMask = max(largestPageMask, pageMask);
  if (object.isMoved) hasPrivateObjects = true;
  return id;
}

/** Destroys an object that is alive. Returns 0 or a code. */
export function destroyObject(id: u32): i32 {
  if (objectOf(id).mappedPages != 0) return fail(ERR_IN_USE, 0, id + 1);
  objects.release(id);
  return 0;
}

/** Maps a part of an object into a region. Precondition, as of all below: the region is alive. */
export function mapObject(id: u32, offset: u64, length: u64, objectId: u32, objectOffset: u64, flags: u32): i32 {
  const error = checkRange(id, offset, length);
  if (error != 0) return error;
  if (!objects.isAlive(objectId)) return fail(ERR_BAD_ID, objectId + 1);
  if (flags & ~MAPPING_WRITABLE) return fail(ERR_BAD_FLAGS);
  const object = objectOf(objectId);
  if (!isPageAligned(objectOffset)) return fail(ERR_UNALIGNED, id + 1, 0, objectOffset);
  if (!exists(objectOffset, length) || lastOf(objectOffset, length) > pageLast(object.size - 1)) {
    return fail(ERR_BAD_RANGE, id + 1, objectId + 1, objectOffset);
  }
  if (flags & MAPPING_WRITABLE && !(object.flags & OBJECT_WRITABLE))
    return fail(ERR_READONLY_OBJECT, id + 1, objectId + 1);
  const last = lastOf(offset, length);
  before.clear();
  const tree = regionOf(id).mappingsTree;
  spans.overwrite(tree, offset, last, objectOffset, objectId, flags, before);
  uncountBefore(id);
  const edit = noteEdit(tree, offset, last, objectOffset, objectId, flags, before);
  const pages = length >> PAGE_SHIFT;
  writableObject(objectId).mappedPages += pages;
  if (!(flags & MAPPING_WRITABLE)) noteReadonly(id, pages);
  noteMappings(what);
  return markRegion(id, offset, last, what, edit);
}

/** Kinds of difference that the running operation makes: MAPPINGS, and perhaps WRITABILITY. */
let what: u32 = MAPPINGS;

/** Adds to the count of the region's pages that are mapped and not writable. */
function noteReadonly(id: u32, pages: u64): void {
  writableRegion(id).readonlyPages += pages;
  what |= WRITABILITY;
}

export function unmapObject(id: u32, offset: u64, length: u64): i32 {
  const error = checkRange(id, offset, length);
  if (error != 0) return error;
  const last = lastOf(offset, length);
  const edit = eraseMappings(id, offset, last);
  return edit != 0 ? markRegion(id, offset, last, what, edit) : 0;
}

function checkRange(id: u32, offset: u64, length: u64): i32 {
  const region = regionOf(id);
  if (!isMemory(id)) return fail(ERR_BAD_KIND, id + 1);
  if (!isPageAligned(offset)) return fail(ERR_UNALIGNED, id + 1, 0, offset);
  if (!isPageAligned(length)) return fail(ERR_UNALIGNED, id + 1, 0, length);
  // The last page may reach over the end of a region that ends inside it.
  if (region.flags & REGION_EMPTY || !exists(offset, length) || lastOf(offset, length) > pageLast(region.last)) {
    return fail(ERR_BAD_RANGE, id + 1, 0, offset);
  }
  return 0;
}

/** Takes [start, last] out of a region's mappings. Marks nothing. Returns the edit, 0 if nothing was there. */
export function eraseMappings(id: u32, start: u64, last: u64): u32 {
  if (regionOf(id).mappings == 0) return 0;
  const tree = regionOf(id).mappingsTree;
  before.clear();
  spans.take(tree, start, last, before);
  if (before.length == 0) return 0;
  uncountBefore(id);
  return noteEdit(tree, start, last, 0, NOTHING, 0, before);
}

/** Counts the pages of the mappings `before`, which were the region's, no more. */
function uncountBefore(id: u32): void {
  what = MAPPINGS;
  for (let at: u32 = 0; at < before.length; at += MAPPING_BYTES) {
    if (!ensureStep()) return;
    const mapping = changetype<Mapping>(before.at(at));
    const pages = lengthOf(mapping.start, mapping.last) >> PAGE_SHIFT;
    const object = writableObject(mapping.object);
    assert(object.mappedPages >= pages);
    object.mappedPages -= pages;
    if (object.mappedPages == 0 && unmapped.ensure(4)) unmapped.push32(mapping.object);
    if (!mapping.isWritable) noteReadonly(id, 0 - pages);
    noteMappings(what);
  }
}

/** Takes out the mappings that lie past the region's end. Marks nothing. */
export function truncateMappings(id: u32): void {
  const region = regionOf(id);
  if (region.flags & REGION_EMPTY) eraseMappings(id, 0, LAST_BYTE);
  else if (pageLast(region.last) != LAST_BYTE) eraseMappings(id, pageLast(region.last) + 1, LAST_BYTE);
}
