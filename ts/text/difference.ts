// Differences between two moments: for each address space the bytes that show something else.

import { type Address, lengthOf, sum } from '../core/address.ts';
import type { RegionKind } from '../core/kinds.ts';
import { invalid, isListOf } from '../core/validate.ts';

/** A range of an address space that shows one region. */
export interface ShownRange {
  /** First GPA. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
  /** Name of the region. */
  readonly name: string;
  /** Kind of the region. */
  readonly kind: RegionKind;
  /** Offset in the region of the byte at `gpa`. */
  readonly offsetInRegion: Address;
  /** Whether the guest may only read: the region's own flag, or that of what it is seen through. */
  readonly readonly: boolean;
  /** Whether the region, or what it is seen through, is marked nonvolatile. */
  readonly nonvolatile: boolean;
}

/** Flat view of an address space at one moment. */
export interface ShownView<Range extends ShownRange = ShownRange> {
  /** Name of the address space. */
  readonly name: string;
  /** Ranges in the order of addresses, none over another. */
  readonly ranges: readonly Range[];
}

/** Differences between two flat views of an address space. */
export interface ViewDifference<Range extends ShownRange = ShownRange> {
  /** Name of the address space. */
  readonly name: string;
  /** Whether it is there at one of the moments alone. */
  readonly change: 'gone' | 'new' | 'changed';
  /** Parts of ranges that are not shown any more, and parts that are now, in the order of addresses. */
  readonly removed: readonly Range[];
  /** Parts of ranges that are shown now and were not. */
  readonly added: readonly Range[];
}

/** Tells the address spaces in which something changed. Those with one name are told apart by their order. */
export function flatDifference<Range extends ShownRange>(
  before: readonly ShownView<Range>[],
  now: readonly ShownView<Range>[],
): ViewDifference<Range>[] {
  for (const views of [before, now]) {
    if (!isListOf(views, ({ ranges }) => Array.isArray(ranges)))
      throw invalid('views must be what flatViews() returns');
  }
  const left = [...now];
  const differences = before.map(({ name, ranges }): ViewDifference<Range> => {
    const at = left.findIndex((view) => view.name === name);
    if (at < 0) return { name, change: 'gone', removed: ranges, added: [] };
    const [view] = left.splice(at, 1) as [ShownView<Range>];
    return { name, change: 'changed', ...compared(ranges, view.ranges) };
  });
  const added = left.map(
    ({ name, ranges }): ViewDifference<Range> => ({ name, change: 'new', removed: [], added: ranges }),
  );
  return [...differences, ...added].filter(
    ({ change, removed, added }) => change !== 'changed' || removed.length + added.length > 0,
  );
}

function compared<Range extends ShownRange>(
  before: readonly Range[],
  now: readonly Range[],
): { removed: Range[]; added: Range[] } {
  const [removed, added] = [new Parts<Range>(), new Parts<Range>()];
  const bounds = new Set<Address>();
  for (const { gpa, length } of [...before, ...now]) bounds.add(gpa).add(sum(gpa, length));
  const sorted = [...bounds].sort((a, b) => (a < b ? -1 : 1));
  const [walkBefore, walkNow] = [new Walk(before), new Walk(now)];
  for (const [i, start] of sorted.slice(0, -1).entries()) {
    const [shownBefore, shownNow] = [walkBefore.at(start), walkNow.at(start)];
    if (shownBefore === undefined ? shownNow === undefined : shownNow !== undefined && showsSame(shownBefore, shownNow))
      continue;
    const behind = sorted[i + 1] as Address;
    if (shownBefore !== undefined) removed.add(shownBefore, start, behind);
    if (shownNow !== undefined) added.add(shownNow, start, behind);
  }
  return { removed: removed.ranges, added: added.ranges };
}

/** Two ranges over one address: whether they show the same byte there, in the same way. */
function showsSame(a: ShownRange, b: ShownRange): boolean {
  return (
    a.name === b.name &&
    a.kind === b.kind &&
    a.readonly === b.readonly &&
    a.nonvolatile === b.nonvolatile &&
    BigInt(a.offsetInRegion) - BigInt(a.gpa) === BigInt(b.offsetInRegion) - BigInt(b.gpa)
  );
}

/** Parts of ranges; one that goes on where the last ended is one with it. */
class Parts<Range extends ShownRange> {
  readonly ranges: Range[] = [];
  #last: Range | undefined;

  /** The part of `range` from `start` up to `behind`. */
  add(range: Range, start: Address, behind: Address): void {
    const before = this.ranges.at(-1);
    const goesOn = before !== undefined && this.#last === range && sum(before.gpa, before.length) === start;
    const gpa = goesOn ? before.gpa : start;
    const offsetInRegion = sum(range.offsetInRegion, lengthBetween(range.gpa, gpa));
    if (goesOn) this.ranges.pop();
    this.ranges.push({ ...range, gpa, length: lengthBetween(gpa, behind), offsetInRegion });
    this.#last = range;
  }
}

function lengthBetween(start: Address, behind: Address): Address {
  return start === behind ? 0 : lengthOf(start, sum(behind, -1));
}

/** Ranges, asked for one address after the other. */
class Walk<Range extends ShownRange> {
  readonly #ranges: readonly Range[];
  #next = 0;

  constructor(ranges: readonly Range[]) {
    this.#ranges = ranges;
  }

  at(address: Address): Range | undefined {
    let range = this.#ranges[this.#next];
    while (range !== undefined && sum(range.gpa, range.length) <= address) range = this.#ranges[++this.#next];
    return range !== undefined && range.gpa <= address ? range : undefined;
  }
}
