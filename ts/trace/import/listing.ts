// A map that is a list of ranges, as Linux has it: each may stand in the one before it, and BARs lie on top.

import {
  addChild,
  addRegion,
  type BuiltRegion,
  type ImportedKind,
  type ImportedMap,
  type ImportedView,
  WHOLE,
} from './imported.ts';
import { flatViewOf } from './resolve.ts';

export interface ListedRange {
  readonly name: string;
  readonly kind: Exclude<ImportedKind, 'alias'>;
  readonly start: bigint;
  /** Inclusive. */
  readonly end: bigint;
  /** Number of ranges that it stands in. */
  readonly depth: number;
  readonly enabled: boolean;
  readonly nonvolatile: boolean;
}

export interface Listing {
  /** Name of the address space. */
  readonly space: string;
  readonly ranges: readonly ListedRange[];
}

/** One map of several listings, each an address space, with the BARs on top of each. */
export function mapOf(name: string, listings: readonly Listing[], bars: readonly ListedRange[]): ImportedMap {
  const regions: BuiltRegion[] = [];
  const shown = listings.length > 0 ? listings : [{ space: 'pci', ranges: [] }];
  const views = shown.map(({ space, ranges }): ImportedView => {
    const root = addRegion(regions, { name: space, kind: 'container', size: WHOLE });
    for (const bar of bars) place(regions, root, 0n, bar, 1);
    const path: { region: BuiltRegion; start: bigint }[] = [];
    for (const range of ranges) {
      path.length = Math.min(path.length, range.depth);
      const parent = path.at(-1) ?? { region: root, start: 0n };
      path.push({ region: place(regions, parent.region, parent.start, range, 0), start: range.start });
    }
    return { addressSpaces: [space], root, flat: flatViewOf(regions, root, { visits: Number.POSITIVE_INFINITY }) };
  });
  return { name, snapshot: name, regions, views };
}

function place(
  regions: BuiltRegion[],
  parent: BuiltRegion,
  origin: bigint,
  { start, end, depth: _, ...range }: ListedRange,
  priority: number,
): BuiltRegion {
  const region = addRegion(regions, { ...range, priority, offset: start - origin, size: end - start + 1n });
  addChild(parent, region);
  return region;
}
