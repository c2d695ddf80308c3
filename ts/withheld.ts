// Memory that partitions are not to see for now, because somebody waits to change it. What they may do there otherwise is
// remembered, and can be changed meanwhile.

import { type Address, higher, lengthOf, lower, sum } from './address.ts';
import type { Core } from './core.ts';
import type { Attachment } from './partition.ts';

/** A part of a sink's protections: ACCESS_* of abi.ts. */
export interface Protection {
  readonly start: Address;
  readonly last: Address;
  readonly access: number;
}

/** A range that partitions have only some access to for now. */
export interface Withheld extends Protection {
  /** Whether it is kept from an attachment. */
  concerns(attachment: Attachment): boolean;
}

/** The protections of a sink as they are. */
export function protectionsOf(core: Core, sink: number): Protection[] {
  return core.protections(sink).map(({ start, last, flags }) => ({ start, last, access: flags }));
}

/** `list`, which is disjoint, with one more over it. */
export function overlay(list: readonly Protection[], added: Protection): Protection[] {
  const kept = list.flatMap((each) => {
    if (each.last < added.start || each.start > added.last) return [each];
    return [
      ...(each.start < added.start ? [{ ...each, last: sum(added.start, -1n) }] : []),
      ...(each.last > added.last ? [{ ...each, start: sum(added.last, 1) }] : []),
    ];
  });
  return [...kept, added];
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
