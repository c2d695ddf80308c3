// CRC-32 sums that are put together.

/** Polynomial of CRC-32, reflected: bit 31 is the power 0 of x. */
const POLYNOMIAL = 0xedb88320;
const ONE = 0x80000000;

/** CRC-32 of bytes whose beginning has the sum `first`, and the `length` bytes behind it the sum `second`. */
export function joinedCrc32(first: number, second: number, length: number): number {
  let moved = first;
  // The power of x that stands for one byte, and squares of it.
  let power = ONE >>> 8;
  for (let left = length; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) moved = product(moved, power);
    power = product(power, power);
  }
  return (moved ^ second) >>> 0;
}

/** Remainder of the product of two polynomials. */
function product(a: number, b: number): number {
  let sum = 0;
  for (let bit = ONE, moved = b; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) sum ^= moved;
    moved = (moved & 1) === 0 ? moved >>> 1 : (moved >>> 1) ^ POLYNOMIAL;
  }
  return sum >>> 0;
}
