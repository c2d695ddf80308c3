// Range arithmetic. The one home of every `start + length`: ranges are inclusive [start, last] in u64, so that
// a range may end at the last byte of a 2^64 space, and nothing outside this file can overflow.

import { PAGE_SIZE } from '../abi';

const PAGE_MASK: u64 = PAGE_SIZE - 1;

/** The last byte of a whole 2^64 space. */
export const LAST_BYTE: u64 = u64.MAX_VALUE;

/** Whether [start, start + length) is not empty and does not reach past 2^64. */
export function exists(start: u64, length: u64): bool {
  return length != 0 && length - 1 <= LAST_BYTE - start;
}

/** The last byte of a range that `exists`. */
export function lastOf(start: u64, length: u64): u64 {
  return start + (length - 1);
}

/** Bytes in [start, last]; 0 stands for 2^64. */
export function lengthOf(start: u64, last: u64): u64 {
  return last - start + 1;
}

/** `a + b`, stopping at the last byte. */
export function plusClipped(a: u64, b: u64): u64 {
  return b > LAST_BYTE - a ? LAST_BYTE : a + b;
}

/** `a - b`, stopping at 0. */
export function minusClipped(a: u64, b: u64): u64 {
  return b > a ? 0 : a - b;
}

/** Whether `a + b` stays inside 2^64. */
export function sumFits(a: u64, b: u64): bool {
  return b <= LAST_BYTE - a;
}

export function isPageAligned(value: u64): bool {
  return (value & PAGE_MASK) == 0;
}

/** First byte of the page that holds `at`. */
export function pageStart(at: u64): u64 {
  return at & ~PAGE_MASK;
}

/** Last byte of the page that holds `at`. */
export function pageLast(at: u64): u64 {
  return at | PAGE_MASK;
}

/** Whether [start, last] holds a whole page. */
export function hasWholePage(start: u64, last: u64): bool {
  const misaligned = start & PAGE_MASK;
  const skip = misaligned == 0 ? <u64>0 : <u64>PAGE_SIZE - misaligned;
  return last - start >= PAGE_MASK && last - start - PAGE_MASK >= skip;
}

/** First byte of the first whole page in [start, last]. Precondition: `hasWholePage(start, last)`. */
export function wholeStart(start: u64): u64 {
  return (start + PAGE_MASK) & ~PAGE_MASK;
}

/** Last byte of the last whole page in [start, last]. Precondition: `hasWholePage(start, last)`. */
export function wholeLast(last: u64): u64 {
  return ((last + 1) & ~PAGE_MASK) - 1;
}

/** `value` from the two halves that cross the boundary. */
export function join64(low: u32, high: u32): u64 {
  return <u64>low | ((<u64>high) << 32);
}
