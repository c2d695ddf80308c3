// A growable run of bytes outside the journal: scratch lists, the journal itself, the plan. What it holds is
// contiguous, and moves when it grows.

import { allocate, ensureBlock, release, shiftFor } from './heap';

const FIRST_SHIFT: u32 = 10;

@unmanaged
export class Vector {
  private base: usize;
  private shift: u32;
  length: u32;

  /** Room for `bytes` more; false when memory has run out. */
  // @ts-ignore: decorator
  @inline
  ensure(bytes: u32): bool {
    return this.base != 0 && this.length + bytes <= (<u32>1) << this.shift ? true : this.grow(bytes);
  }

  private grow(bytes: u32): bool {
    const shift = max(FIRST_SHIFT, shiftFor(this.length + bytes));
    if (!ensureBlock(shift)) return false;
    const base = allocate(shift);
    if (this.base != 0) {
      memory.copy(base, this.base, this.length);
      release(this.base, this.shift);
    }
    this.base = base;
    this.shift = shift;
    return true;
  }

  /** Address of `bytes` new bytes with arbitrary contents. Precondition: `ensure` said yes. */
  // @ts-ignore: decorator
  @inline
  extend(bytes: u32): usize {
    const at = this.base + this.length;
    this.length += bytes;
    assert(this.length <= (<u32>1) << this.shift);
    return at;
  }

  push32(value: u32): void {
    store<u32>(this.extend(4), value);
  }

  push64(value: u64): void {
    store<u64>(this.extend(8), value);
  }

  shrink(bytes: u32): void {
    assert(bytes <= this.length);
    this.length -= bytes;
  }

  clear(): void {
    this.length = 0;
  }

  /** Address of the byte at `offset`; valid until the vector grows. */
  // @ts-ignore: decorator
  @inline
  at(offset: u32): usize {
    return this.base + offset;
  }

  /** Address past the last byte. */
  get end(): usize {
    return this.base + this.length;
  }
}

/** Bytes of a Vector itself: each lives in static memory, zeroed, as `changetype<Vector>(memory.data(VECTOR_SIZE,
 *  8))`. */
export const VECTOR_SIZE: i32 = 12;
