// Memory that partitions are not to see for now, because somebody waits to change it. What they may do there otherwise
// is remembered, and can be changed meanwhile.

import type { Onlooker } from '../access/lease-table.ts';
import { type Address, higher, lengthOf, lower, sum } from '../core/address.ts';
import type { Core } from '../core/core.ts';

/** A part of a sink's protections: ACCESS_* of abi.ts. */
export interface Protection {
  readonly start: Address;
  readonly last: Address;
  readonly access: number;
}

/** A range that partitions have only some access to for now. */
export interface Withheld extends Protection {
  /** Whether it is kept from an attachment. */
  concerns(attachment: Onlooker): boolean;
}

/** The protections of a sink as they are. */
export function protectionsOf(core: Core, sink: number): Protection[] {
  return core.protections(sink).map(({ start, last, flags }) => ({ start, last, access: flags }));
}

/** `list`, which is disjoint and in order, with one more over it. Neighbours that are alike become one. */
export function overlay(list: readonly Protection[], added: Protection): Protection[] {
  // The protections that it touches, and a neighbour on either side.
  const first = Math.max(0, endingFrom(list, added.start) - 1);
  const end = endingFrom(list, sum(added.last, 1)) + 1;
  const touched = list.slice(first, end);
  const below = touched
    .filter(({ start }) => start < added.start)
    .map((each) => ({ ...each, last: lower(each.last, sum(added.start, -1n)) }));
  const above = touched
    .filter(({ last }) => last > added.last)
    .map((each) => ({ ...each, start: higher(each.start, sum(added.last, 1)) }));
  const joined: Protection[] = [];
  for (const part of [...below, added, ...above]) {
    const before = joined.at(-1);
    const joins = before !== undefined && sum(before.last, 1) === part.start && before.access === part.access;
    if (joins) joined.splice(-1, 1, { ...before, last: part.last });
    else joined.push(part);
  }
  return [...list.slice(0, first), ...joined, ...list.slice(end)];
}

/** Index in `list` of the first protection that ends at or after `at`. */
function endingFrom(list: readonly Protection[], at: Address): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle]!.last < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The parts of `list` in a range. */
export function clipped(list: readonly Protection[], { start, last }: Omit<Protection, 'access'>): Protection[] {
  return list
    .filter((each) => each.last >= start && each.start <= last)
    .map((each) => ({
      start: higher(each.start, start),
      last: lower(each.last, last),
      access: each.access,
    }));
}

export function bytesOf({ start, last }: Omit<Protection, 'access'>): Address {
  return lengthOf(start, last);
}
