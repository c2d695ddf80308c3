// The journal: how everything can be undone. Before a record or tree node is written for the first time since the
// last savepoint, its bytes are copied here; undoing copies them back, last first. So no mutation has an inverse of
// its own, and what a rollback leaves is what was there.
//
//   entries grow upwards; each ends in a trailer, so that they can be read backwards:
//
//        0        size       size+4            size+8
//       +-- ... --+----------+-----------------+
//       | image   | address  | size or shift   |      size 0..: image of `size` bytes (multiple of 8) at address
//       +-- ... --+----------+-----------------+      ALLOCATED | shift: a block that was allocated
//
// Freed blocks wait in a list of their own until the outermost transaction ends: a rollback needs their contents.

import { allocate, ensure, exhausted, release } from './heap';
import { VECTOR_SIZE, Vector } from './vector';

const ALLOCATED: u32 = 0x80000000;
const TRAILER: u32 = 8;

/** Enough for what any one step writes, images included: a path of nodes and their neighbours, or a few records. */
export const STEP_BYTES: u32 = 64 * 1024;

const entries = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const freed = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const savepoints = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** What the last savepoint was numbered; a node whose stamp is lower has no image since then. */
let savepointStamp: u64 = 0;
/** The highest number given so far. */
let newestStamp: u64 = 0;

/** Makes sure that one step (see STEP_BYTES) can be journaled and carried out; false when memory has run out. */
export function ensureStep(): bool {
  if (exhausted) return false;
  return entries.ensure(STEP_BYTES) && freed.ensure(STEP_BYTES >> 3) && ensure(STEP_BYTES);
}

/** Opens a savepoint; false when memory has run out. */
export function savepoint(): bool {
  if (!savepoints.ensure(16)) return false;
  savepoints.push32(entries.length);
  savepoints.push32(freed.length);
  savepoints.push64(savepointStamp);
  savepointStamp = ++newestStamp;
  return true;
}

/** Ends the last savepoint and keeps what was done: it is now undone with the one around it, or never. */
export function keep(): void {
  savepointStamp = load<u64>(savepoints.end - 8);
  savepoints.shrink(16);
  if (savepoints.length != 0) return;
  entries.clear();
  while (freed.length != 0) {
    const at = freed.end - 8;
    release(load<u32>(at), load<u32>(at, 4));
    freed.shrink(8);
  }
}

/** Undoes everything since the last savepoint, and ends it. */
export function undo(): void {
  const at = savepoints.end - 16;
  const length = load<u32>(at);
  freed.shrink(freed.length - load<u32>(at, 4));
  savepointStamp = load<u64>(at, 8);
  savepoints.shrink(16);
  while (entries.length > length) {
    const trailer = entries.end - TRAILER;
    const address = load<u32>(trailer);
    const size = load<u32>(trailer, 4);
    if (size & ALLOCATED) {
      release(address, size & ~ALLOCATED);
      entries.shrink(TRAILER);
    } else {
      memory.copy(address, trailer - size, size);
      entries.shrink(TRAILER + size);
    }
  }
}

/** Whether a savepoint is open: without one nothing may be written. */
export function isOpen(): bool {
  return savepoints.length != 0;
}

/** Before writing to the stamped record or node of `size` bytes (multiple of 8) whose stamp is at `address + stampAt`. */
// @ts-ignore: decorator
@inline
export function touch(address: usize, size: u32, stampAt: u32): void {
  if (load<u64>(address + stampAt) < savepointStamp) {
    saveImage(address, size);
    store<u64>(address + stampAt, newestStamp);
  }
}

/** Before writing to `size` bytes (multiple of 8) that carry no stamp. */
export function saveImage(address: usize, size: u32): void {
  assert(isOpen());
  const at = entries.extend(size + TRAILER);
  memory.copy(at, address, size);
  store<u32>(at + size, <u32>address);
  store<u32>(at + size, size, 4);
}

/** A block that a rollback frees again; its owner stamps it with `stampNow()`. */
export function allocateJournaled(shift: u32): usize {
  assert(isOpen());
  const block = allocate(shift);
  const at = entries.extend(TRAILER);
  store<u32>(at, <u32>block);
  store<u32>(at, ALLOCATED | shift, 4);
  return block;
}

/** Frees a block when the outermost transaction ends; until then its contents stay. */
export function releaseJournaled(block: usize, shift: u32): void {
  freed.push32(<u32>block);
  freed.push32(shift);
}

/** The stamp of something that was made since the last savepoint. */
export function stampNow(): u64 {
  return newestStamp;
}
