// Regions that show the rows of "info mtree -f": what can be told of a machine whose tree is not in the text.

import { addChild, addRegion, type BuiltRegion, WHOLE } from './imported.ts';
import type { FlatRow, FlatSection } from './mtree-text.ts';

/** Regions that show the rows of flat views. */
export class FlatBuilder {
  readonly #regions: BuiltRegion[];
  /** Regions seen so far, by name, type, and what tells regions of one name apart: for i/o where its byte 0 would
   *  be. */
  readonly #seen = new Map<string, BuiltRegion>();
  /** Names of what is seen as anything but ROM: ROM of that name is RAM that is seen read-only. */
  readonly #writable: ReadonlySet<string>;

  constructor(regions: BuiltRegion[], flats: readonly FlatSection[]) {
    this.#regions = regions;
    const writable = flats.flatMap(({ rows }) => rows.filter(({ type }) => type !== 'rom'));
    this.#writable = new Set(writable.map(({ name }) => name));
  }

  view(name: string, rows: readonly FlatRow[]): BuiltRegion {
    const root = addRegion(this.#regions, { name, kind: 'container', size: WHOLE });
    let before: FlatRow | undefined;
    for (const row of rows) {
      const { start, end, type, name, offsetInRegion, priority, nonvolatile } = row;
      const size = end - start + 1n;
      const isTwin = before !== undefined && wouldJoin(before, row);
      const target = this.#region(`${isTwin ? start : ''} ${type === 'i/o' ? start - offsetInRegion : ''}`, row);
      if (target.size < offsetInRegion + size) target.size = offsetInRegion + size;
      const alias = addRegion(this.#regions, {
        ...{ name, kind: 'alias', size, priority, nonvolatile, offset: start, readonly: type === 'rom' },
        ...{ target: target.id, targetStart: offsetInRegion },
      });
      addChild(root, alias);
      before = row;
    }
    root.children.sort((a, b) => priorityOf(this.#regions, b) - priorityOf(this.#regions, a));
    return root;
  }

  #region(place: string, { name, type }: FlatRow): BuiltRegion {
    const kind = type === 'old' || (type === 'rom' && this.#writable.has(name)) ? 'ram' : type;
    const key = `${kind} ${place} ${name}`;
    const region = this.#seen.get(key) ?? addRegion(this.#regions, { name, kind, size: 0n });
    this.#seen.set(key, region);
    return region;
  }
}

/** Whether two rows would be one if they were of one region. */
function wouldJoin(a: FlatRow, b: FlatRow): boolean {
  return (
    a.name === b.name &&
    a.type === b.type &&
    a.nonvolatile === b.nonvolatile &&
    a.end + 1n === b.start &&
    a.offsetInRegion + (b.start - a.start) === b.offsetInRegion
  );
}

function priorityOf(regions: readonly BuiltRegion[], id: number): number {
  return (regions[id] as BuiltRegion).priority;
}
