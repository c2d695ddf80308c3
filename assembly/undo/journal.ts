// The journal: undo by images. Before a record or tree node is written for the first time since the
// last savepoint, its bytes are copied here; undoing copies them back, last first. So no mutation has an inverse of
// its own, and what a rollback leaves is what was there.
//
//    0         4         8                8 + size
//   +---------+---------+----- ... -------+------+--------+
//   | address | info    | image           | info | unused |     one entry; the trailer lets them be read backwards
//   +---------+---------+----- ... -------+------+--------+
//   info: size (a multiple of 8) | 0 an image, 1 one with its stamp at 0, 2 one with its stamp at 8
//         shift << 3 | 3 a block that was allocated: no image
//
// Freed blocks wait in a list of their own until the outermost transaction ends: a rollback needs their contents.

import { copyWords } from '../base/bytes';
import { allocate, ensureSmall, exhausted, passCeiling, release } from '../base/heap';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { touchedSinks } from './touched';

const KIND_MASK: u32 = 7;
const PLAIN: u32 = 0;
const STAMPED_AT_0: u32 = 1;
const STAMPED_AT_8: u32 = 2;
const ALLOCATED: u32 = 3;
const HEADER: u32 = 8;
const TRAILER: u32 = 8;

/** Bytes that are enough for what any one step writes, images included: a path of nodes and their neighbours, or a few
 *  records. */
const STEP_BYTES: u32 = 64 * 1024;

/** Lengths of all lists at the time when a savepoint was made. */
@unmanaged
class Savepoint {
  entries: u32;
  freed: u32;
  notes: u32;
  touched: u32;
  stamp: u64;
}

const SAVEPOINT_BYTES: u32 = offsetof<Savepoint>();

const entries = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const freed = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const savepoints = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Notes of edits for the before trees (see tree/before.ts), here so that undo cuts them back. */
export const notes = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Number of the innermost savepoint; a node whose stamp is lower has no image since then. */
let savepointStamp: u64 = 0;
/** The highest number given so far. */
let newestStamp: u64 = 0;
let held: usize = 0;
/** Number of undos so far: whatever was remembered about nodes before the last one may be wrong. */
export let rewinds: u32 = 0;

/** Makes sure that one step (see STEP_BYTES) and some records besides can be journaled and carried out; false when
 *  memory has run out. */
export function ensureStep(): bool {
  if (exhausted) return false;
  return entries.ensure(STEP_BYTES) && freed.ensure(STEP_BYTES >> 3) && ensureSmall(STEP_BYTES);
}

/** Opens a savepoint, with room for a first step; false when memory has run out. */
export function savepoint(): bool {
  if (savepoints.length == 0) passCeiling(true);
  if (!ensureStep() || !savepoints.ensure(SAVEPOINT_BYTES)) return false;
  const point = changetype<Savepoint>(savepoints.extend(SAVEPOINT_BYTES));
  point.entries = entries.length;
  point.freed = freed.length;
  point.notes = notes.length;
  point.touched = touchedSinks.length;
  point.stamp = savepointStamp;
  savepointStamp = ++newestStamp;
  return true;
}

/** Pops the innermost savepoint and returns it. */
function endSavepoint(): Savepoint {
  assert(isOpen());
  const point = changetype<Savepoint>(savepoints.end - SAVEPOINT_BYTES);
  savepointStamp = point.stamp;
  savepoints.shrink(SAVEPOINT_BYTES);
  return point;
}

/** Ends the innermost savepoint and keeps its changes: they are undone with the savepoint around it, or never. */
export function keep(): void {
  const start = endSavepoint().entries;
  if (savepoints.length != 0) {
    dropDoubles(start);
    return;
  }
  entries.clear();
  while (freed.length != 0) {
    const block = freed.end - 8;
    releaseCounted(load<u32>(block), load<u32>(block, 4));
    freed.shrink(8);
  }
}

/** Drops, from the entry at `start` on, the images that the savepoint around has already. */
function dropDoubles(start: u32): void {
  let to = start;
  let from = start;
  while (from < entries.length) {
    const entry = entries.at(from);
    const size = entrySize(load<u32>(entry, 4));
    if (!isDouble(entry)) {
      if (to != from) memory.copy(entries.at(to), entry, size);
      to += size;
    }
    from += size;
  }
  entries.shrink(from - to);
}

function entrySize(info: u32): u32 {
  return HEADER + TRAILER + ((info & KIND_MASK) == ALLOCATED ? 0 : info & ~KIND_MASK);
}

function isDouble(entry: usize): bool {
  const kind = load<u32>(entry, 4) & KIND_MASK;
  if (kind == STAMPED_AT_0) return load<u64>(entry, HEADER) >= savepointStamp;
  if (kind == STAMPED_AT_8) return load<u64>(entry, HEADER + 8) >= savepointStamp;
  return false;
}

/** Undoes everything since the innermost savepoint, and ends it. */
export function undo(): void {
  ++rewinds;
  const point = endSavepoint();
  const start = point.entries;
  freed.shrink(freed.length - point.freed);
  notes.shrink(notes.length - point.notes);
  touchedSinks.shrink(touchedSinks.length - point.touched);
  while (entries.length > start) {
    const info = load<u32>(entries.end - TRAILER);
    const size = entrySize(info);
    const entry = entries.end - size;
    assert(load<u32>(entry, 4) == info);
    const address = load<u32>(entry);
    if ((info & KIND_MASK) == ALLOCATED) releaseCounted(address, info >> 3);
    else memory.copy(address, entry + HEADER, info & ~KIND_MASK);
    entries.shrink(size);
  }
}

/** Whether something was written since the outermost savepoint. */
export function hasEntries(): bool {
  return entries.length != 0;
}

/** Whether a savepoint is open: without one nothing may be written. */
export function isOpen(): bool {
  return savepoints.length != 0;
}

/** Journals a stamped record or node of `size` bytes (a multiple of 8) before it is written to; its stamp is at
 *  `stampAt`, 0 or 8. */
export function touch(address: usize, size: u32, stampAt: u32): void {
  if (load<u64>(address + stampAt) >= savepointStamp) return;
  append(address, size, stampAt == 0 ? STAMPED_AT_0 : STAMPED_AT_8);
  store<u64>(address + stampAt, newestStamp);
}

/** Journals `size` bytes (a multiple of 8) that carry no stamp, before they are written to. */
export function saveImage(address: usize, size: u32): void {
  append(address, size, PLAIN);
}

function append(address: usize, size: u32, kind: u32): void {
  assert(isOpen());
  const entry = entries.extend(HEADER + size + TRAILER);
  store<u32>(entry, <u32>address);
  store<u32>(entry, size | kind, 4);
  copyWords(entry + HEADER, address, size);
  store<u32>(entry + HEADER + size, size | kind);
}

/** Allocates a block that undo frees again; its owner stamps it with `stampNow()`. */
export function allocateJournaled(shift: u32): usize {
  assert(isOpen());
  const block = allocate(shift);
  held += (<usize>1) << shift;
  const entry = entries.extend(HEADER + TRAILER);
  store<u32>(entry, <u32>block);
  store<u32>(entry, (shift << 3) | ALLOCATED, 4);
  store<u32>(entry + HEADER, (shift << 3) | ALLOCATED);
  return block;
}

/** Frees a block when the outermost transaction ends; until then its contents stay. */
export function releaseJournaled(block: usize, shift: u32): void {
  freed.push32(<u32>block);
  freed.push32(shift);
}

/** Frees a journaled block at once. Precondition: no savepoint needs its contents. */
export function releaseCounted(block: usize, shift: u32): void {
  const bytes = (<usize>1) << shift;
  assert(held >= bytes);
  release(block, shift);
  held -= bytes;
}

/** Stamp of a node or record that is made now. */
export function stampNow(): u64 {
  return newestStamp;
}

/** Bytes in journaled blocks: everything that is kept except the records. */
export function bytesHeld(): usize {
  return held;
}
