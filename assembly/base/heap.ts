// The heap: blocks whose sizes are powers of two, one free list a size; near the limit, larger ones are cut. Nothing is
// ever given back to the host.
//
// Running out must be an error code that changes nothing, and this language has no exceptions. So whoever is about
// to allocate first calls `ensure` with all that it may need. Once `ensure` has said no, `exhausted` stays set: every
// step that would write returns at once, and the export that is running rolls back and says ERR_NO_MEMORY.

const MIN_SHIFT: u32 = 6;
export const MAX_SHIFT: u32 = 31;
const WASM_PAGE_SHIFT: u32 = 16;
/** Blocks of at least this size are counted as room for small ones. */
const COUNTED_SHIFT: u32 = 9;

/** Heads of the free lists, by shift; a free block's first word is the next one. */
const heads: usize = memory.data(4 * 32, 16);

let bump: usize = (__heap_base + 63) & ~63;
let limit: usize = (<usize>memory.size()) << WASM_PAGE_SHIFT;
/** The most that the module can have. */
const MOST_BYTES: u64 = 65535 << WASM_PAGE_SHIFT;
/** Bytes that only operations which take something away may use. */
const RESERVE: u64 = 64 * 1024 * 1024;
let ceiling: u64 = MOST_BYTES - RESERVE;
/** Whether the running operation may pass `ceiling`. */
let mayPass: bool = false;
/** Bytes in free blocks that small ones can be cut from. */
let freeBytes: usize = 0;
/** Bytes given out for ever. */
let permanent: usize = 0;

/** Set by the `ensure` that failed; cleared by the export that rolled back. */
export let exhausted: bool = false;

export function setCeiling(pages: u32): void {
  ceiling = min((<u64>pages) << WASM_PAGE_SHIFT, MOST_BYTES - RESERVE);
  updateLimit();
}

/** Says whether the running operation may pass the ceiling: one that only takes something away must always be
 *  possible. */
export function passCeiling(may: bool): void {
  mayPass = may;
  updateLimit();
}

/** Works `limit` out. Memory past the ceiling was taken by an operation that may, and is left to such operations. */
function updateLimit(): void {
  const size = (<u64>memory.size()) << WASM_PAGE_SHIFT;
  limit = mayPass ? <usize>size : max(bump, <usize>min(size, ceiling));
}

export function clearExhausted(): void {
  exhausted = false;
}

/** Makes sure that blocks of `bytes` bytes in all can be allocated; false, and `exhausted`, when they cannot. */
export function ensure(bytes: usize): bool {
  return bytes <= limit - bump ? !exhausted : grow(bytes);
}

/** `ensure` for blocks of at most 512 bytes, which can be cut from free blocks too. */
export function ensureSmall(bytes: usize): bool {
  return bytes <= limit - bump || bytes <= freeBytes ? !exhausted : grow(bytes);
}

/** `ensure` for one block of `1 << shift` bytes. */
export function ensureBlock(shift: u32): bool {
  return freeShift(shift) <= MAX_SHIFT ? !exhausted : ensure((<usize>1) << shift);
}

/** The size of the smallest free block that is large enough; past MAX_SHIFT for none. */
function freeShift(shift: u32): u32 {
  while (shift <= MAX_SHIFT && load<usize>(heads + (shift << 2)) == 0) ++shift;
  return shift;
}

function grow(bytes: usize): bool {
  if (exhausted) return false;
  const needed = <u64>bump + bytes;
  // An eighth more than is needed, so that growing stays rare; only what is needed when that is refused.
  const most = mayPass ? MOST_BYTES : ceiling;
  const wished = min(needed + (needed >> 3), most);
  if (needed > most || !(growTo(wished) || growTo(needed))) {
    exhausted = true;
    return false;
  }
  return true;
}

function growTo(bytes: u64): bool {
  const pages = <i32>((bytes + 0xffff) >> WASM_PAGE_SHIFT);
  if (pages > 65535) return false;
  const have = memory.size();
  if (pages > have && memory.grow(pages - have) < 0) return false;
  updateLimit();
  return true;
}

/** The smallest block shift that holds `bytes`. */
export function shiftFor(bytes: usize): u32 {
  return max(MIN_SHIFT, 32 - <u32>clz<u32>(<u32>bytes - 1));
}

/** A block of `1 << shift` bytes with arbitrary contents, 64-byte aligned. Precondition: `ensure` said yes. */
export function allocate(shift: u32): usize {
  assert(shift >= MIN_SHIFT && shift <= MAX_SHIFT);
  const size = (<usize>1) << shift;
  if (load<usize>(heads + (shift << 2)) != 0) return takeFree(shift);
  if (size > limit - bump) return cut(shift);
  const block = bump;
  bump += size;
  return block;
}

/** Takes the first block of a free list. Precondition: the list is not empty. */
function takeFree(shift: u32): usize {
  const head = heads + (shift << 2);
  const block = load<usize>(head);
  store<usize>(head, load<usize>(block));
  if (shift >= COUNTED_SHIFT) freeBytes -= (<usize>1) << shift;
  return block;
}

/** The first part of a larger free block; the rest of it becomes free blocks of its own. */
function cut(shift: u32): usize {
  let whole = freeShift(shift);
  assert(whole <= MAX_SHIFT);
  const block = takeFree(whole);
  while (whole > shift) {
    --whole;
    release(block + ((<usize>1) << whole), whole);
  }
  return block;
}

export function release(block: usize, shift: u32): void {
  assert(shift >= MIN_SHIFT && shift <= MAX_SHIFT);
  const head = heads + (shift << 2);
  store<usize>(block, load<usize>(head));
  store<usize>(head, block);
  if (shift >= COUNTED_SHIFT) freeBytes += (<usize>1) << shift;
}

/** The first free block of `1 << shift` bytes; 0 for none. Each one's first word is the next. */
export function firstFree(shift: u32): usize {
  return load<usize>(heads + (shift << 2));
}

/** `bytes` bytes of zeroes that are never given back. Precondition: `ensure` said yes. */
export function allocateForever(bytes: usize): usize {
  const block = bump;
  bump += (bytes + 63) & ~63;
  assert(bump <= limit);
  permanent += bytes;
  return block;
}

/** Bytes that were given out for ever. */
export function bytesForever(): usize {
  return permanent;
}
