// Layout of RAM: ranges checked, sorted, and cut where legacy x86 firmware switches them one by one.

import * as abi from '../../assembly/abi.ts';
import { type Address, formatHex, isPageAligned, lastByte, sum } from '../core/address.ts';
import * as validate from '../core/validate.ts';
import { MemoryBuildError } from './errors.ts';

/** A stretch of guest-physical addresses. */
export interface GpaRange {
  /** First address; a multiple of the page size. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
}

/** Checks a range that a caller gives to `what`. Throws INVALID_ARGUMENT. */
export function checkedRange(range: GpaRange, what: string): GpaRange {
  const { gpa, length } = validate.options(range, ['gpa', 'length'], what);
  return { gpa: validate.address(gpa, 'gpa'), length: validate.length(length, 'length') };
}

/** The last address of a range. */
export function lastOf({ gpa, length }: GpaRange): Address {
  return sum(gpa, lastByte(length));
}

export interface RamPiece {
  readonly gpa: Address;
  readonly length: Address;
  /** Offset of its first byte in its backing. */
  readonly backingOffset: Address;
}

const KIB = 1024;
/** Addresses between which the i440FX and its successors switch RAM: from the VGA hole to 1 MiB, PAM registers 59 to
 *  5f. */
const X86_CUTS: readonly number[] = [
  0xa0000,
  ...Array.from({ length: 12 }, (_, i) => 0xc0000 + i * 16 * KIB),
  0xf0000,
  0x100000,
];

/** The pieces of one backing's ranges, in order of the ranges. Throws MemoryBuildError: RAM_UNALIGNED, RAM_EMPTY,
 *  RAM_TOO_LARGE. */
export function cutRam(ranges: readonly GpaRange[], x86: boolean, maxAddress: Address): RamPiece[] {
  const pieces: RamPiece[] = [];
  let backingOffset: Address = 0;
  for (const { gpa, length } of ranges) {
    if (length === 0) throw new MemoryBuildError('RAM_EMPTY', `the RAM range at ${formatHex(gpa)} is empty`);
    if (!isPageAligned(gpa) || !isPageAligned(length)) {
      const message = `the RAM range at ${formatHex(gpa)} of ${formatHex(length)} bytes is not whole pages of 0x1000`;
      throw new MemoryBuildError('RAM_UNALIGNED', message);
    }
    const last = lastOf({ gpa, length });
    if (last > maxAddress) {
      const message = `RAM up to ${formatHex(last)} is past the highest address, ${formatHex(maxAddress)}`;
      throw new MemoryBuildError('RAM_TOO_LARGE', message, { last, maxAddress });
    }
    let start = BigInt(gpa);
    const end = start + BigInt(length);
    const cuts = x86 ? X86_CUTS.map(BigInt).filter((cut) => cut > start && cut < end) : [];
    for (const next of [...cuts, end]) {
      const bytes = sum(0, next - start);
      pieces.push({ gpa: sum(0, start), length: bytes, backingOffset });
      backingOffset = sum(backingOffset, bytes);
      start = next;
    }
  }
  return pieces;
}

/** Checks that ranges do not overlap. Throws MemoryBuildError: RAM_OVERLAP. */
export function checkDisjoint(ranges: readonly GpaRange[]): void {
  const sorted = [...ranges].sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
  for (let i = 1; i < sorted.length; i++) {
    const [before, after] = [sorted[i - 1]!, sorted[i]!];
    if (sum(before.gpa, before.length) > after.gpa) {
      throw new MemoryBuildError('RAM_OVERLAP', `RAM at ${formatHex(after.gpa)} is given twice`);
    }
  }
}

/** Legacy x86 needs RAM from 0 to 640 KiB and from 1 MiB on. Precondition: the ranges are disjoint. Throws
 *  MemoryBuildError: RAM_TOO_LOW. */
export function checkX86(ranges: readonly GpaRange[]): void {
  const bytesIn = (first: number, last: number) =>
    ranges.reduce((bytes, { gpa, length }) => {
      const end = Math.min(Number(sum(gpa, length)), last + 1);
      return bytes + Math.max(0, end - Math.max(Number(gpa), first));
    }, 0);
  if (bytesIn(0, 0x9ffff) === 0xa0000 && bytesIn(0x100000, 0x100fff) === abi.PAGE_SIZE) return;
  const message = 'legacy x86 needs RAM from 0 to 640 KiB (0xa0000) without a hole, and from 1 MiB (0x100000) on';
  throw new MemoryBuildError('RAM_TOO_LOW', message);
}
