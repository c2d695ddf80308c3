// Guest addresses and lengths in JavaScript: a number as long as it is exact, a bigint above.

import { PAGE_SIZE } from '../../assembly/abi.ts';

/** A safe integer or a bigint; what this package returns is a number up to Number.MAX_SAFE_INTEGER, a bigint above. */
export type Address = number | bigint;

/** An address in plain data, which JSON can hold: a number up to Number.MAX_SAFE_INTEGER, hexadecimal text ("0x…")
 *  above. `BigInt` takes both. */
export type PlainAddress = number | string;

/** The last byte there is. */
export const LAST_ADDRESS: Address = 0xffff_ffff_ffff_ffffn;
/** Every byte there is. */
export const WHOLE_SPACE: Address = 0x1_0000_0000_0000_0000n;

/** The one form of a value that is at least 0. */
export function toAddress(value: bigint): Address {
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

/** Hexadecimal text of a value: `0x1000`. */
export function formatHex(value: Address): string {
  return `0x${value.toString(16)}`;
}

export function toPlain(value: Address): PlainAddress {
  return typeof value === 'number' ? value : formatHex(value);
}

/** Bits 0 to 31. Precondition: 0 <= value < 2^64. */
export function low(value: Address): number {
  return typeof value === 'number' ? value >>> 0 : Number(BigInt.asUintN(32, value));
}

/** Bits 32 to 63. */
export function high(value: Address): number {
  return typeof value === 'number' ? Math.floor(value / 0x1_0000_0000) : Number(value >> 32n);
}

/** The last byte of `size` bytes from 0. Precondition: size > 0. */
export function lastByte(size: Address): Address {
  return typeof size === 'number' ? size - 1 : toAddress(size - 1n);
}

/** start + length, exact. */
export function sum(start: Address, length: Address): Address {
  if (typeof start === 'number' && typeof length === 'number') {
    const result = start + length;
    if (result <= Number.MAX_SAFE_INTEGER) return result;
  }
  return toAddress(BigInt(start) + BigInt(length));
}

/** a - b. Precondition: a >= b. */
export function difference(a: Address, b: Address): Address {
  return typeof a === 'number' && typeof b === 'number' ? a - b : toAddress(BigInt(a) - BigInt(b));
}

/** Bytes in [start, last]. */
export function lengthOf(start: Address, last: Address): Address {
  if (typeof start === 'number' && typeof last === 'number' && last - start < Number.MAX_SAFE_INTEGER)
    return last - start + 1;
  return toAddress(BigInt(last) - BigInt(start) + 1n);
}

const PAGE_MASK = BigInt(PAGE_SIZE - 1);

/** Whether an address or a length is a multiple of the page size. */
export function isPageAligned(value: Address): boolean {
  // A remainder of large numbers costs ten times as much as a quotient, which is exact.
  return typeof value === 'number' ? Number.isInteger(value / PAGE_SIZE) : (value & PAGE_MASK) === 0n;
}

/** First byte of the page that holds an address. */
export function pageStart<Value extends Address>(at: Value): Value {
  const start: Address = typeof at === 'number' ? Math.floor(at / PAGE_SIZE) * PAGE_SIZE : BigInt(at) & ~PAGE_MASK;
  return start as Value;
}

/** First byte behind the pages that hold all bytes before `end`. */
export function pageEnd<Value extends Address>(end: Value): Value {
  return pageStart((typeof end === 'number' ? end + PAGE_SIZE - 1 : BigInt(end) + PAGE_MASK) as Value);
}

/** The lower of two. */
export function lower(a: Address, b: Address): Address {
  if (a < b) return a;
  return b;
}

/** The higher of two. */
export function higher(a: Address, b: Address): Address {
  if (a > b) return a;
  return b;
}
