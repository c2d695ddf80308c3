// Settles what the tree of `info mtree` leaves open, by `info mtree -f` where the text has it: guess, compare, mend.
// Open are whether a region of type i/o is a container, whether what is seen through a region is read-only, and which
// of two siblings of equal priority is on top.

import type { BuiltRegion, ImportedRow } from './imported.ts';
import type { FlatRow } from './mtree-text.ts';
import { type Budget, type Candidate, candidatesAt, flatViewOf, type Step } from './resolve.ts';

/** An address space's root, and the rows that the text shows for it. */
interface Known {
  readonly root: BuiltRegion;
  readonly rows: readonly FlatRow[];
}

/** A place where the tree does not show what the text says: the row, or nothing. */
interface Difference {
  readonly address: bigint;
  readonly ours: ImportedRow | undefined;
  readonly theirs: FlatRow | undefined;
}

/** Times that everything is compared, and places that are mended in one of them. */
const ROUNDS = 64;
const PLACES = 256;
/** Places that a row weighs which cannot be. */
const IMPOSSIBLE = 1000;

/** Changes regions until their views show the rows. Throws TooMuch. */
export class Settler {
  readonly #regions: readonly BuiltRegion[];
  readonly #isOpen: (region: BuiltRegion) => boolean;
  readonly #budget: Budget;
  /** Regions that rows have shown: some show themselves, through others something is writable. */
  readonly #shown = new Set<BuiltRegion>();
  readonly #writable = new Set<BuiltRegion>();
  /** `above below`: siblings whose order a row has shown. */
  readonly #orders = new Set<string>();
  #changes = 0;

  constructor(regions: readonly BuiltRegion[], isOpen: (region: BuiltRegion) => boolean, budget: Budget) {
    this.#regions = regions;
    this.#isOpen = isOpen;
    this.#budget = budget;
  }

  settle(known: readonly Known[]): void {
    for (const { root, rows } of known) for (const row of rows) this.#learn(root, row);
    for (let round = 0; round < ROUNDS; round++) {
      this.#changes = 0;
      for (const view of known) {
        for (const difference of this.differences(view).slice(0, PLACES)) this.#mend(view.root, difference);
      }
      if (this.#changes === 0) return;
    }
  }

  /** Measure of how unlike a view its rows are: rows that it cannot show weigh more than places where it shows
   *  something else. */
  misfit(view: Known): number {
    const impossible = view.rows.filter((row) => this.#showing(view.root, row) === undefined).length;
    return impossible * IMPOSSIBLE + this.differences(view).length;
  }

  /** Places where a view differs from its rows, each once. */
  differences({ root, rows }: Known): Difference[] {
    return differencesOf(this.#regions, flatViewOf(this.#regions, root, this.#budget), rows);
  }

  /** Learns what the beginning of a row shows for certain. */
  #learn(root: BuiltRegion, row: FlatRow): void {
    const seen = this.#showing(root, row);
    if (seen === undefined) return;
    this.#shown.add(seen.region);
    if (this.#isOpen(seen.region)) seen.region.kind = 'i/o';
    if (row.type !== 'rom') for (const region of stepsOf(seen.path)) this.#writable.add(region);
  }

  /** The candidate that shows the first byte of a row. */
  #showing(root: BuiltRegion, row: FlatRow): Candidate | undefined {
    return this.#candidates(root, row.start).find(
      ({ region, offsetInRegion }) => region.name === row.name && offsetInRegion === row.offsetInRegion,
    );
  }

  #candidates(root: BuiltRegion, address: bigint): Candidate[] {
    return candidatesAt(this.#regions, root, address, this.#budget);
  }

  #mend(root: BuiltRegion, { address, theirs }: Difference): void {
    const candidates = this.#candidates(root, address);
    const offset = theirs === undefined ? 0n : theirs.offsetInRegion + (address - theirs.start);
    const right = candidates.findIndex(
      ({ region, offsetInRegion }) => region.name === theirs?.name && offsetInRegion === offset,
    );
    if (theirs !== undefined && right < 0) return;
    const seen = candidates[right];
    for (const wrong of right < 0 ? candidates : candidates.slice(0, right)) this.#push(wrong, seen);
    if (seen === undefined) return;
    if (seen.region.kind === 'container') this.#show(seen.region);
    if (theirs?.type === 'rom') this.#protect(seen.path);
  }

  /** Takes what is not seen from above what is: as a container, below it, or as disabled. */
  #push({ region, path }: Candidate, seen: Candidate | undefined): void {
    if (region.kind === 'container') return;
    if (this.#isOpen(region) && !this.#shown.has(region)) {
      region.kind = 'container';
      this.#changes++;
      return;
    }
    if (seen !== undefined && this.#reorder(path, seen.path)) return;
    if (this.#shown.has(region)) return;
    region.enabled = false;
    this.#changes++;
  }

  #show(region: BuiltRegion): void {
    if (!this.#isOpen(region)) return;
    region.kind = 'i/o';
    this.#shown.add(region);
    this.#changes++;
  }

  /** Puts the branch that is seen above the one that is not, where their priorities leave it open. */
  #reorder(below: Step, above: Step): boolean {
    const [low, high] = [[...stepsOf(below)].reverse(), [...stepsOf(above)].reverse()];
    const at = low.findIndex((region, i) => region !== high[i]);
    const [parent, x, y] = [low[at - 1], low[at], high[at]];
    if (parent === undefined || x === undefined || y === undefined || x.priority !== y.priority) return false;
    if (this.#orders.has(`${x.id} ${y.id}`)) return false;
    this.#orders.add(`${y.id} ${x.id}`);
    parent.children.splice(parent.children.indexOf(y.id), 1);
    parent.children.splice(parent.children.indexOf(x.id), 0, y.id);
    this.#changes++;
    return true;
  }

  /** Makes read-only what is seen: the innermost region on the way through which nothing was seen writable. */
  #protect(path: Step): void {
    const steps = [...stepsOf(path)];
    if (steps.some(({ readonly }) => readonly)) return;
    const gate = steps.find((region) => region.kind !== 'ram' && !this.#writable.has(region));
    if (gate === undefined) return;
    gate.readonly = true;
    this.#changes++;
  }
}

/** The places where two flat views differ, in one walk along both. */
function differencesOf(
  regions: readonly BuiltRegion[],
  ours: readonly ImportedRow[],
  theirs: readonly FlatRow[],
): Difference[] {
  const differences: Difference[] = [];
  const starts = new Set<bigint>();
  for (const { start, end } of ours) starts.add(start).add(end + 1n);
  for (const { start, end } of theirs) starts.add(start).add(end + 1n);
  const [our, their] = [new Walk(ours), new Walk(theirs)];
  for (const address of [...starts].sort((a, b) => (a < b ? -1 : 1))) {
    const difference = { address, ours: our.at(address), theirs: their.at(address) };
    if (!agree(regions, difference)) differences.push(difference);
  }
  return differences;
}

function agree(regions: readonly BuiltRegion[], { address, ours, theirs }: Difference): boolean {
  if (ours === undefined || theirs === undefined) return ours === theirs;
  return (
    regions[ours.region]?.name === theirs.name &&
    ours.offsetInRegion - ours.start === theirs.offsetInRegion - theirs.start &&
    ours.readonly === (theirs.type === 'rom') &&
    address <= theirs.end
  );
}

/** Sorted rows, asked for one address after the other. */
class Walk<Row extends { readonly start: bigint; readonly end: bigint }> {
  readonly #rows: readonly Row[];
  #next = 0;

  constructor(rows: readonly Row[]) {
    this.#rows = rows;
  }

  at(address: bigint): Row | undefined {
    let row = this.#rows[this.#next];
    while (row !== undefined && row.end < address) row = this.#rows[++this.#next];
    return row !== undefined && row.start <= address ? row : undefined;
  }
}

function* stepsOf(path: Step): Generator<BuiltRegion> {
  for (let step: Step | undefined = path; step !== undefined; step = step.from) yield step.region;
}
