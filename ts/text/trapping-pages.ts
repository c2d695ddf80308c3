// Pages that trap for the guest although memory is seen in them: a memory slot is whole pages of one region.

import * as abi from '../../assembly/abi.ts';
import { type Address, isPageAligned, pageEnd, pageStart, toAddress } from '../core/address.ts';
import type { Row } from '../core/core.ts';
import type { Names } from '../core/names.ts';

/** Pages with memory that trap for the guest: it has no memory slot there. */
export interface TrappingPages<A = Address> {
  /** GPA of the first page. */
  readonly gpa: A;
  /** Bytes, whole pages. */
  readonly length: A;
  /** Reason of it. `shared`: the memory fills only a part of the page. `shifted`: the region's own pages do not begin
   *  where the guest's do. */
  readonly why: 'shared' | 'shifted';
  /** Names of the regions that are seen there, in order of address. */
  readonly regions: readonly string[];
}

/** A page in which something begins or ends. */
interface SharedPage {
  readonly regions: Set<number>;
  hasMemory: boolean;
}

/** Finds the trapping pages among rows of a flat view, which are in order and hold all that is seen in these pages. */
export function trappingPages(rows: readonly Row[], names: Names): TrappingPages[] {
  const found: TrappingPages[] = [];
  const shared = new Map<bigint, SharedPage>();
  const name = (region: number) => names.regions.get(region)!;
  for (const { id, kind, start, last, offset } of rows) {
    const [first, end] = [BigInt(start), BigInt(last) + 1n];
    const isMemory = (kind & abi.KIND_HOLDS_MEMORY) !== 0;
    const isShifted = isMemory && !isPageAligned(first - BigInt(offset));
    if (isShifted) found.push(pages(pageStart(first), pageEnd(end), 'shifted', [name(id)]));
    for (const edge of [first, end]) {
      if (isPageAligned(edge)) continue;
      const page = pageStart(edge);
      const entry = shared.get(page) ?? { regions: new Set(), hasMemory: false };
      shared.set(page, entry);
      entry.regions.add(id);
      entry.hasMemory ||= isMemory && !isShifted;
    }
  }
  for (const [page, { regions, hasMemory }] of shared) {
    if (hasMemory) found.push(pages(page, pageEnd(page + 1n), 'shared', Array.from(regions, name)));
  }
  return found.sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
}

function pages(start: bigint, end: bigint, why: TrappingPages['why'], regions: readonly string[]): TrappingPages {
  return { gpa: toAddress(start), length: toAddress(end - start), why, regions };
}
