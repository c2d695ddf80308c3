// Memory that partitions are not to see for now, because somebody waits to change it.

import type { Onlooker } from '../access/held-lease.ts';
import { type Address, higher, lower } from '../core/address.ts';

/** A range of GPAs, whole pages, that partitions have only some access to for now. */
export interface Withheld {
  readonly start: Address;
  readonly last: Address;
  /** ACCESS_* that is left. */
  readonly access: number;
  /** Whether it is kept from an attachment. */
  concerns(attachment: Onlooker): boolean;
}

/** The part of each of the ranges that lies in [start, last]. */
export function* partsWithin(
  ranges: Iterable<Withheld>,
  { start, last }: Pick<Withheld, 'start' | 'last'>,
): Generator<Withheld> {
  for (const range of ranges) {
    if (range.last < start || range.start > last) continue;
    yield { ...range, start: higher(range.start, start), last: lower(range.last, last) };
  }
}
