// Whether memory of huge pages can be had: their size, whether RAM is made of whole ones, and how many are free.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { type Address, formatHex, sum } from '../core/address.ts';
import * as validate from '../core/validate.ts';
import { HUGE_PAGE_POOLS } from '../machine/source.ts';
import { MemoryBuildError } from './errors.ts';
import type { RamPiece } from './layout.ts';

function poolOf(pageSize: number): string {
  return `${HUGE_PAGE_POOLS}/hugepages-${pageSize / 1024}kB`;
}

/** Pieces that follow each other in the guest and in their backing may share a page. Throws MemoryBuildError:
 *  HUGE_PAGE_SIZE. */
export function checkWholePages(pageSize: number, pieces: readonly RamPiece[]): void {
  for (const { gpa, length, backingOffset } of joined(pieces)) {
    if ([gpa, length, backingOffset].every((value) => BigInt(value) % BigInt(pageSize) === 0n)) continue;
    const message = `RAM at ${formatHex(gpa)} of ${formatHex(length)} bytes is not made of whole huge pages of ${formatHex(pageSize)} bytes: put it into a backing of its own`;
    throw new MemoryBuildError('HUGE_PAGE_SIZE', message, { pageSize, gpa, length });
  }
}

function joined(pieces: readonly RamPiece[]): RamPiece[] {
  const all: RamPiece[] = [];
  for (const piece of pieces) {
    const before = all.at(-1);
    const isNext =
      before !== undefined &&
      sum(before.gpa, before.length) === piece.gpa &&
      sum(before.backingOffset, before.length) === piece.backingOffset;
    if (isNext) all.splice(-1, 1, { ...before, length: sum(before.length, piece.length) });
    else all.push(piece);
  }
  return all;
}

/** Checks that pieces of RAM can consist of huge pages. Throws MemoryBuildError: HUGE_PAGE_SIZE. */
export function checkHugePages(pageSize: number, pieces: readonly RamPiece[]): void {
  validate.integer(pageSize, 'hugePageSize', 1, Number.MAX_SAFE_INTEGER);
  if (!existsSync(poolOf(pageSize))) {
    const sizes = existsSync(HUGE_PAGE_POOLS)
      ? readdirSync(HUGE_PAGE_POOLS).map((name) => name.slice('hugepages-'.length))
      : [];
    const message = `this machine has no huge pages of ${formatHex(pageSize)} bytes; it has ${sizes.join(', ') || 'none'}`;
    throw new MemoryBuildError('HUGE_PAGE_SIZE', message, { pageSize, sizes });
  }
  checkWholePages(pageSize, pieces);
}

/** Checks that a pool has pages enough. Precondition: there is a pool of such pages. Throws MemoryBuildError:
 *  HUGE_PAGES_MISSING. */
export function checkPool(pageSize: number, bytes: Address): void {
  const pool = poolOf(pageSize);
  const needed = Number(BigInt(bytes) / BigInt(pageSize));
  const count = (name: string) => Number(readFileSync(`${pool}/${name}`, 'utf8'));
  const free = count('free_hugepages') - count('resv_hugepages');
  const available = free + Math.max(0, count('nr_overcommit_hugepages') - count('surplus_hugepages'));
  if (available >= needed) return;
  const missing = needed - available;
  const enough = count('nr_hugepages') + missing;
  const message = `${missing} huge pages of ${formatHex(pageSize)} bytes are missing (${needed} are needed, ${available} are free): as root, echo ${enough} > ${pool}/nr_hugepages`;
  throw new MemoryBuildError('HUGE_PAGES_MISSING', message, { pageSize, needed, free: available, missing });
}
