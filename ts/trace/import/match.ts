// Matches between two moments: which region of one is which region of the next, by name, kind, size and place in the
// tree.

import type { ImportedMap, ImportedRegion } from './imported.ts';

type Pair = [last: ImportedRegion, next: ImportedRegion];
type Criterion = (region: ImportedRegion) => string;

const SAME_PLACE: Criterion = (r) => `${r.offset} ${r.size} ${r.targetStart}`;
const SAME_OFFSET: Criterion = (r) => `${r.offset}`;
const SAME_SIZE: Criterion = (r) => `${r.size}`;
const ANY: Criterion = () => '';

/**
 * Matches each region of `next` with the region of `last` that it is, if any. Regions keep their identity only if
 * nothing about them changed that cannot be changed in place: what an alias shows, the size of a region that shows
 * itself. Of views, those match that have an address space in common, by name.
 */
export function matchRegions(last: ImportedMap, next: ImportedMap): Map<ImportedRegion, ImportedRegion> {
  const matcher = new Matcher(last, next);
  const viewOf = new Map(last.views.toReversed().flatMap((view) => view.addressSpaces.map((name) => [name, view])));
  for (const view of next.views) {
    const before = view.addressSpaces.map((name) => viewOf.get(name)).find((other) => other !== undefined);
    if (before !== undefined) matcher.pair([before.root], [view.root], [ANY]);
  }
  do matcher.followPairs();
  while (matcher.pairStrays());
  matcher.dropChangedAliases();
  return matcher.lastOf;
}

class Matcher {
  readonly lastOf = new Map<ImportedRegion, ImportedRegion>();
  readonly #nextOf = new Map<ImportedRegion, ImportedRegion>();
  /** Pairs whose children, and aliases whose targets were not looked at. */
  readonly #parents: Pair[] = [];
  readonly #aliases: Pair[] = [];
  readonly #last: ImportedMap;
  readonly #next: ImportedMap;

  constructor(last: ImportedMap, next: ImportedMap) {
    this.#last = last;
    this.#next = next;
  }

  /** Pairs what is still single of two lists: by the first criterion as far as that goes, then by the second, … */
  pair(last: readonly ImportedRegion[], next: readonly ImportedRegion[], criteria: readonly Criterion[]): void {
    for (const criterion of criteria) {
      const keyOf = (map: ImportedMap, r: ImportedRegion) => `${identity(map, r)} ${criterion(r)}`;
      const candidates = grouped(this.#single(last, this.#nextOf), (r) => keyOf(this.#last, r));
      for (const region of this.#single(next, this.lastOf)) {
        const partner = candidates.get(keyOf(this.#next, region))?.shift();
        if (partner !== undefined) this.#join(partner, region);
      }
    }
  }

  /** Matches what stands in two regions that match, and, once that is done, what two aliases that match show. */
  followPairs(): void {
    while (this.#parents.length + this.#aliases.length > 0) {
      const parents = this.#parents.pop();
      if (parents !== undefined) {
        const criteria = [SAME_PLACE, SAME_OFFSET, SAME_SIZE, ANY];
        this.pair(childrenOf(this.#last, parents[0]), childrenOf(this.#next, parents[1]), criteria);
        continue;
      }
      const [last, next] = this.#aliases.pop() as Pair;
      this.pair([targetOf(this.#last, last)], [targetOf(this.#next, next)], [ANY]);
    }
  }

  /** Regions that went to another parent or lost theirs: only where no two come into question. False if there were
   *  none. */
  pairStrays(): boolean {
    const before = this.lastOf.size;
    const keyOf = (map: ImportedMap, r: ImportedRegion) => `${identity(map, r)} ${SAME_SIZE(r)}`;
    const last = grouped(this.#single(this.#last.regions, this.#nextOf), (r) => keyOf(this.#last, r));
    const next = grouped(this.#single(this.#next.regions, this.lastOf), (r) => keyOf(this.#next, r));
    for (const [key, regions] of next) {
      const partners = last.get(key);
      if (regions.length === 1 && partners?.length === 1) this.pair(partners, regions, [ANY]);
    }
    return this.lastOf.size > before;
  }

  /** An alias whose target is another region than before is another alias. */
  dropChangedAliases(): void {
    const waiting = this.#next.regions.filter((region) => region.kind === 'alias');
    const aliasesOf = grouped(waiting, (alias) => alias.target);
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const last = this.lastOf.get(next);
      if (last === undefined || this.lastOf.get(targetOf(this.#next, next)) === targetOf(this.#last, last)) continue;
      this.lastOf.delete(next);
      waiting.push(...(aliasesOf.get(next.id) ?? []));
    }
  }

  #join(last: ImportedRegion, next: ImportedRegion): void {
    this.lastOf.set(next, last);
    this.#nextOf.set(last, next);
    (next.kind === 'alias' ? this.#aliases : this.#parents).push([last, next]);
  }

  #single(regions: readonly ImportedRegion[], partners: Map<ImportedRegion, ImportedRegion>): ImportedRegion[] {
    return regions.filter((region) => !partners.has(region));
  }
}

/** Key of all that a region cannot change and remain the same one. Names may hold anything, so they are quoted. */
function identity(map: ImportedMap, region: ImportedRegion): string {
  const own = `${region.kind} ${JSON.stringify(region.name)}`;
  if (region.kind === 'alias') {
    const target = targetOf(map, region);
    return `${own} ${target.kind} ${JSON.stringify(target.name)}`;
  }
  return region.kind === 'container' ? own : `${own} ${region.size}`;
}

function targetOf(map: ImportedMap, alias: ImportedRegion): ImportedRegion {
  return map.regions[alias.target as number] as ImportedRegion;
}

function childrenOf(map: ImportedMap, region: ImportedRegion): ImportedRegion[] {
  return region.children.map((id) => map.regions[id] as ImportedRegion);
}

function grouped<Key>(
  regions: readonly ImportedRegion[],
  keyOf: (region: ImportedRegion) => Key,
): Map<Key, ImportedRegion[]> {
  const groups = new Map<Key, ImportedRegion[]>();
  for (const region of regions) {
    const key = keyOf(region);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [region]);
    else group.push(region);
  }
  return groups;
}
