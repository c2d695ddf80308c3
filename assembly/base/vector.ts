// A growable run of bytes outside the journal: scratch lists, the journal itself, the plan. What it holds is
// contiguous, and moves when it grows.

import { allocate, ensureBlock, release, shiftFor } from './heap';

const FIRST_SHIFT: u32 = 10;
/** Largest block that a vector keeps while it is not used. */
const KEPT_SHIFT: u32 = 15;

/** The vector that grew first last; each leads to the one before, and the first one to itself. */
let newest: Vector | null = null;

@unmanaged
export class Vector {
  private base: usize;
  private shift: u32;
  length: u32;
  /** Null until it has grown for the first time. */
  private older: Vector | null;

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
    if (this.older == null) {
      this.older = newest == null ? this : newest;
      newest = this;
    }
    return true;
  }

  /** Empties it, and gives back the block of a vector that was large. The vector that grew before. */
  giveBack(): Vector | null {
    this.length = 0;
    if (this.base != 0 && this.shift > KEPT_SHIFT) {
      release(this.base, this.shift);
      this.base = 0;
    }
    return this.older == this ? null : this.older;
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
export const VECTOR_SIZE: i32 = 16;

/** Empties all vectors, and gives back the blocks of those that were large. Precondition: nobody uses any. */
export function giveBackVectors(): void {
  for (let vector = newest; vector != null; ) vector = vector.giveBack();
}
