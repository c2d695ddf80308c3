// Ranges of memory objects, in lists: in order, none empty, none overlapping or touching another.

import { type Address, difference, higher, sum } from '../core/address.ts';

/** A part of a memory object that may hold something. */
export interface DataRange {
  /** Offset of its first byte. */
  readonly offset: Address;
  /** Bytes. */
  readonly length: Address;
}

/** Union of two lists. */
export function united(a: readonly DataRange[], b: readonly DataRange[]): DataRange[] {
  if (a.length === 0 || b.length === 0) return [...a, ...b];
  const result: DataRange[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    const next = j === b.length || (i < a.length && a[i]!.offset <= b[j]!.offset) ? a[i++]! : b[j++]!;
    const last = result.at(-1);
    if (last === undefined || sum(last.offset, last.length) < next.offset) {
      result.push(next);
      continue;
    }
    const end = higher(sum(last.offset, last.length), sum(next.offset, next.length));
    result[result.length - 1] = { offset: last.offset, length: difference(end, last.offset) };
  }
  return result;
}
