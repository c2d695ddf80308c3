// Resolves a tree of imported regions: the flat view, and everything that comes into question at one address. The
// importers compare it with what a text says is visible; the core resolves for itself.

import type { BuiltRegion, ImportedRow } from './imported.ts';
import { WHOLE } from './imported.ts';

/** A region that could be seen at an address. */
export interface Candidate {
  readonly region: BuiltRegion;
  readonly offsetInRegion: bigint;
  /** The region itself, what it was entered from, and so on up to the root, through aliases. */
  readonly path: Step;
}

export interface Step {
  readonly region: BuiltRegion;
  readonly from: Step | undefined;
}

/** Entries of regions that are left: a tree with aliases may be far larger than its text. */
export interface Budget {
  visits: number;
}

/** Most regions in each other, aliases counted. */
const MAX_DEPTH = 2_000;

/** Thrown where a tree is too large or too deep to be resolved here. */
export class TooMuch extends Error {}

function spend(budget: Budget, depth: number): void {
  if (--budget.visits < 0 || depth > MAX_DEPTH) throw new TooMuch();
}

/** The flat view of a root, in the order of addresses. Throws TooMuch. */
export function flatViewOf(regions: readonly BuiltRegion[], root: BuiltRegion, budget: Budget): ImportedRow[] {
  const canvas = new Canvas(regions, budget);
  const whole = { origin: root.offset, low: 0n, high: WHOLE - 1n };
  canvas.paint({ region: root, ...whole, readonly: false, nonvolatile: false }, 0);
  return canvas.rows();
}

/** Everything enabled that covers an address and is no alias, strongest first, containers too. Throws TooMuch. */
export function candidatesAt(
  regions: readonly BuiltRegion[],
  root: BuiltRegion,
  address: bigint,
  budget: Budget,
): Candidate[] {
  const found: Candidate[] = [];
  const enter = (region: BuiltRegion, offset: bigint, from: Step | undefined, depth: number) => {
    if (!region.enabled || offset < 0n || offset >= region.size) return;
    spend(budget, depth);
    const path = { region, from };
    for (const id of region.children) {
      const child = regions[id] as BuiltRegion;
      enter(child, offset - child.offset, path, depth + 1);
    }
    if (region.target === undefined) found.push({ region, offsetInRegion: offset, path });
    else enter(regions[region.target] as BuiltRegion, offset + region.targetStart, path, depth + 1);
  };
  enter(root, address - root.offset, undefined, 0);
  return found;
}

/** A region as it is entered: where its byte 0 is, what of it may be seen, and the flags of what it is seen through. */
interface Entry {
  readonly region: BuiltRegion;
  readonly origin: bigint;
  readonly low: bigint;
  readonly high: bigint;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
}

/** Paints regions strongest first, each where nothing is yet. */
class Canvas {
  readonly #regions: readonly BuiltRegion[];
  /** Gaps that nothing shows yet, in order, ends included. */
  readonly #gaps: { low: bigint; high: bigint }[] = [{ low: 0n, high: WHOLE - 1n }];
  readonly #rows: ImportedRow[] = [];
  readonly #budget: Budget;

  constructor(regions: readonly BuiltRegion[], budget: Budget) {
    this.#regions = regions;
    this.#budget = budget;
  }

  paint(entry: Entry, depth: number): void {
    const { region, origin } = entry;
    const low = higher(entry.low, origin);
    const high = lower(entry.high, origin + region.size - 1n);
    if (!region.enabled || low > high) return;
    spend(this.#budget, depth);
    if (!this.#hasGap(low, high)) return;
    const flags = {
      readonly: entry.readonly || region.readonly,
      nonvolatile: entry.nonvolatile || region.nonvolatile,
    };
    if (region.target !== undefined) {
      const target = this.#regions[region.target] as BuiltRegion;
      // Where the target itself is placed does not matter: byte targetStart of it is here at `origin`.
      this.paint({ region: target, origin: origin - region.targetStart, low, high, ...flags }, depth + 1);
    }
    for (const id of region.children) {
      const child = this.#regions[id] as BuiltRegion;
      this.paint({ region: child, origin: origin + child.offset, low, high, ...flags }, depth + 1);
    }
    if (region.kind !== 'container' && region.kind !== 'alias') this.#fill({ ...entry, low, high, ...flags });
  }

  /** Rows in order; neighbours that go on in each other are one. */
  rows(): ImportedRow[] {
    const rows: ImportedRow[] = [];
    for (const row of this.#rows.sort((a, b) => (a.start < b.start ? -1 : 1))) {
      const last = rows.at(-1);
      if (last !== undefined && goesOn(last, row)) rows[rows.length - 1] = { ...last, end: row.end };
      else rows.push(row);
    }
    return rows;
  }

  /** Position of the first gap that ends at or behind an address. */
  #gapAt(address: bigint): number {
    let [from, to] = [0, this.#gaps.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#gaps[middle]?.high as bigint) < address) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  #hasGap(low: bigint, high: bigint): boolean {
    const gap = this.#gaps[this.#gapAt(low)];
    return gap !== undefined && gap.low <= high;
  }

  #fill({ region, origin, low, high, readonly, nonvolatile }: Entry): void {
    const first = this.#gapAt(low);
    const left: { low: bigint; high: bigint }[] = [];
    let behind = first;
    for (let gap = this.#gaps[behind]; gap !== undefined && gap.low <= high; gap = this.#gaps[++behind]) {
      const start = higher(gap.low, low);
      const end = lower(gap.high, high);
      this.#rows.push({ start, end, region: region.id, offsetInRegion: start - origin, readonly, nonvolatile });
      if (gap.low < start) left.push({ low: gap.low, high: start - 1n });
      if (gap.high > end) left.push({ low: end + 1n, high: gap.high });
    }
    this.#gaps.splice(first, behind - first, ...left);
  }
}

function goesOn(a: ImportedRow, b: ImportedRow): boolean {
  return (
    a.region === b.region &&
    a.end + 1n === b.start &&
    a.offsetInRegion + (b.start - a.start) === b.offsetInRegion &&
    a.readonly === b.readonly &&
    a.nonvolatile === b.nonvolatile
  );
}

function higher(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

export function lower(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
