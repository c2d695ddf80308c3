// Which region of one moment is which region of the next: by name, kind, size and place in the tree.

import type { QemuMap, QemuRegion } from './qemu-format.ts';

type Pair = [last: QemuRegion, next: QemuRegion];
type Criterion = (region: QemuRegion) => string;

const SAME_PLACE: Criterion = (r) => `${r.offset} ${r.size} ${r.targetStart}`;
const SAME_OFFSET: Criterion = (r) => `${r.offset}`;
const SAME_SIZE: Criterion = (r) => `${r.size}`;
const ANY: Criterion = () => '';

/**
 * For each region of `next` the region of `last` that it is, if any. Regions keep their identity only if nothing about
 * them changed that cannot be changed in place: what an alias shows, the size of a region that shows itself.
 * The roots must match for anything to match.
 */
export function matchRegions(last: QemuMap, next: QemuMap): Map<QemuRegion, QemuRegion> {
  const matcher = new Matcher(last, next);
  matcher.pair([last.root], [next.root], [ANY]);
  do matcher.followPairs();
  while (matcher.pairStrays());
  matcher.dropChangedAliases();
  return matcher.lastOf;
}

class Matcher {
  readonly lastOf = new Map<QemuRegion, QemuRegion>();
  readonly #nextOf = new Map<QemuRegion, QemuRegion>();
  /** Pairs whose children, and aliases whose targets were not looked at. */
  readonly #parents: Pair[] = [];
  readonly #aliases: Pair[] = [];
  readonly #last: QemuMap;
  readonly #next: QemuMap;

  constructor(last: QemuMap, next: QemuMap) {
    this.#last = last;
    this.#next = next;
  }

  /** Pairs what is still single of two lists: by the first criterion as far as that goes, then by the second, … */
  pair(last: readonly QemuRegion[], next: readonly QemuRegion[], criteria: readonly Criterion[]): void {
    for (const criterion of criteria) {
      const keyOf = (map: QemuMap, r: QemuRegion) => `${identity(map, r)} ${criterion(r)}`;
      const candidates = grouped(this.#single(last, this.#nextOf), (r) => keyOf(this.#last, r));
      for (const region of this.#single(next, this.lastOf)) {
        const partner = candidates.get(keyOf(this.#next, region))?.shift();
        if (partner !== undefined) this.#join(partner, region);
      }
    }
  }

  /** What stands in two regions that match, and, once that is done, what two aliases that match show. */
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

  /** Regions that went to another parent or lost theirs: only where no two come into question. False if there were none. */
  pairStrays(): boolean {
    const before = this.lastOf.size;
    const keyOf = (map: QemuMap, r: QemuRegion) => `${identity(map, r)} ${SAME_SIZE(r)}`;
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

  #join(last: QemuRegion, next: QemuRegion): void {
    this.lastOf.set(next, last);
    this.#nextOf.set(last, next);
    (next.kind === 'alias' ? this.#aliases : this.#parents).push([last, next]);
  }

  #single(regions: readonly QemuRegion[], partners: Map<QemuRegion, QemuRegion>): QemuRegion[] {
    return regions.filter((region) => !partners.has(region));
  }
}

/** What a region cannot change and remain the same one. Names may hold anything, so they are quoted. */
function identity(map: QemuMap, region: QemuRegion): string {
  const own = `${region.kind} ${JSON.stringify(region.name)}`;
  if (region.kind === 'alias') {
    const target = targetOf(map, region);
    return `${own} ${target.kind} ${JSON.stringify(target.name)}`;
  }
  return region.kind === 'container' ? own : `${own} ${region.size}`;
}

function targetOf(map: QemuMap, alias: QemuRegion): QemuRegion {
  return map.regions[alias.target as number] as QemuRegion;
}

function childrenOf(map: QemuMap, region: QemuRegion): QemuRegion[] {
  return region.children.map((id) => map.regions[id] as QemuRegion);
}

function grouped<Key>(regions: readonly QemuRegion[], keyOf: (region: QemuRegion) => Key): Map<Key, QemuRegion[]> {
  const groups = new Map<Key, QemuRegion[]>();
  for (const region of regions) {
    const key = keyOf(region);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [region]);
    else group.push(region);
  }
  return groups;
}
