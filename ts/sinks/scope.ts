// Scopes: how much of an address space a client may have, whatever is seen there.

import { type Address, difference, higher, lower, sum } from '../core/address.ts';
import type { GpaStretch, Sink } from './sink.ts';

/** Bounds of what a client may be given. */
export interface Scope {
  /** Whether it may only read. */
  readonly isReadOnly: boolean;
  /** Ranges that it may see, disjoint and in order of GPA; undefined: all. */
  readonly ranges: readonly GpaStretch[] | undefined;
}

/** Lets a sink have what is seen in a range, as far as the scope goes, now and after every change. Inside a
 *  transaction. */
export function follow(sink: Sink, scope: Scope, start: Address, length: Address): void {
  sink.giveBackRange(start, length);
  const end = sum(start, length);
  let from = start;
  for (const { gpa, length: bytes } of scope.ranges ?? [{ gpa: start, length }]) {
    withhold(sink, from, lower(gpa, end));
    from = higher(from, sum(gpa, bytes));
  }
  withhold(sink, from, end);
  if (scope.isReadOnly) sink.withholdRange(start, length, 'rx');
}

function withhold(sink: Sink, start: Address, end: Address): void {
  if (start < end) sink.withholdRange(start, difference(end, start), 'none');
}
