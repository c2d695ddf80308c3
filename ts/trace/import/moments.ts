// Memory maps as a trace. Every map becomes one tree of regions with its address spaces; maps of the same address
// spaces are moments of one tree, and only what changed between two of them is said. Maps of different address spaces
// share nothing. One moment is one transaction.

import * as abi from '../../../assembly/abi.ts';
import { toAddress } from '../../core/address.ts';
import { MembackingError } from '../../core/errors.ts';
import type { RegionKind } from '../../core/kinds.ts';
import { KVM_LARGEST_SLOT, KVM_SLOTS } from '../../core/kvm-numbers.ts';
import type { TraceOperation } from '../operations.ts';
import type { ImportedKind, ImportedMap, ImportedRegion, ImportedView } from './imported.ts';
import { matchRegions } from './match.ts';

interface MomentsTrace {
  readonly operations: readonly TraceOperation[];
  readonly moments: readonly Moment[];
}

/** Maps of one moment. */
export interface Moment {
  readonly snapshot: string;
  /** Operations from the start of the trace up to the end of this moment. */
  readonly end: number;
  /** The maps taken at this moment. */
  readonly maps: readonly ImportedMap[];
  /** Ids for each map: in the trace, of its regions, by their position, and of each view's address spaces. */
  readonly ids: readonly { readonly regions: readonly number[]; readonly spaces: readonly (readonly number[])[] }[];
}

/** Smallest VA space that is made: one that a process can reserve and that holds any ordinary guest. */
const MIN_VA_SIZE = 1n << 40n;

const KINDS: Readonly<Record<Exclude<ImportedKind, 'alias'>, RegionKind>> = {
  container: 'container',
  ram: 'ram',
  rom: 'rom',
  romd: 'rom',
  ramd: 'device',
  'i/o': 'mmio',
};

/**
 * The trace of maps of one machine, in the order in which they were taken, and what was visible at each moment. Throws
 * QEMU_MAP_MISMATCH for maps that cannot be moments of one machine.
 */
export function traceOf(maps: readonly ImportedMap[]): MomentsTrace {
  const writer = new Writer();
  const moments: Moment[] = [];
  const tracks = new Set<Track>();
  for (const together of momentsOf(maps)) {
    writer.add({ op: 'begin' });
    const ids = together.map((map) => {
      const track = trackOf(map, tracks) ?? new Track(writer);
      tracks.add(track);
      track.advance(map);
      return { regions: track.regionIds(), spaces: track.spaceIds() };
    });
    if (moments.length === 0) writer.addSinks(vaSize(maps));
    writer.add({ op: 'commit' });
    const { snapshot } = together[0] as ImportedMap;
    moments.push({ snapshot, end: writer.operations.length, maps: together, ids });
  }
  return { operations: writer.operations, moments };
}

/** The tree that this map is a later moment of. */
function trackOf(map: ImportedMap, tracks: ReadonlySet<Track>): Track | undefined {
  const [track, other] = [...tracks].filter((each) => mapsShareSpace(each.map, map));
  if (other === undefined) return track;
  throw new MembackingError('QEMU_MAP_MISMATCH', `${map.name}: its address spaces had different roots before`, {
    details: { next: map.name },
  });
}

/** Neighbours with the same snapshot are one moment, unless they show the same address space twice. */
function momentsOf(maps: readonly ImportedMap[]): ImportedMap[][] {
  const moments: ImportedMap[][] = [];
  for (const map of maps) {
    const now = moments.at(-1);
    if (now?.every((other) => other.snapshot === map.snapshot && !mapsShareSpace(other, map))) now.push(map);
    else moments.push([map]);
  }
  return moments;
}

function mapsShareSpace(a: ImportedMap, b: ImportedMap): boolean {
  const names = new Set(a.views.flatMap(({ addressSpaces }) => addressSpaces));
  return b.views.some(({ addressSpaces }) => addressSpaces.some((name) => names.has(name)));
}

/** A power of two that covers all memory ever seen in the first map's first address spaces. */
function vaSize(maps: readonly ImportedMap[]): bigint {
  const first = (maps[0] as ImportedMap).views[0] as ImportedView;
  let size = MIN_VA_SIZE;
  for (const map of maps) {
    for (const view of map.views) {
      if (!view.addressSpaces.some((name) => first.addressSpaces.includes(name))) continue;
      for (const row of view.flat) {
        if (isMemory(map.regions[row.region] as ImportedRegion)) while (size <= row.end) size *= 2n;
      }
    }
  }
  return size;
}

/** The trace so far, and the ids given out in it. */
class Writer {
  readonly operations: TraceOperation[] = [];
  #regions = 0;
  #spaces = 0;
  #objects = 0;

  add(operation: TraceOperation): void {
    this.operations.push(operation);
  }

  newRegion(): number {
    return this.#regions++;
  }

  newSpace(): number {
    return this.#spaces++;
  }

  newObject(): number {
    return this.#objects++;
  }

  /** A VA space and a partition for the first address space of all. */
  addSinks(size: bigint): void {
    this.add({ op: 'va', id: 0, space: 0, size: toAddress(size) });
    this.add({ op: 'partition', id: 0, slots: KVM_SLOTS, largestSlot: KVM_LARGEST_SLOT });
    this.add({
      op: 'attach',
      id: 1,
      partition: 0,
      space: 0,
      va: 0,
      gpaOffset: 0,
      lastGpa: toAddress((1n << 64n) - 1n),
    });
  }
}

interface NamedSpace {
  readonly name: string;
  readonly id: number;
  /** Root of the space, by its id in the trace; `offset`: GPA of the root's first byte. */
  readonly root: number;
  readonly offset: bigint;
}

/** One tree of regions in the trace, as the last of its maps showed it. */
class Track {
  readonly #writer: Writer;
  #map: ImportedMap | undefined;
  /** Address spaces of each view of the last map, in the order of its names. */
  #spaces: readonly (readonly NamedSpace[])[] = [];
  /** Id in the trace of each region that exists, in the order in which they were made: targets before their aliases. */
  #ids = new Map<ImportedRegion, number>();
  /** The object mapped in a region, by the region's id. */
  readonly #objects = new Map<number, number>();
  /** Children in the order in which they were placed, by the parent's id. */
  readonly #placed = new Map<number, number[]>();

  constructor(writer: Writer) {
    this.#writer = writer;
  }

  /** The last map. */
  get map(): ImportedMap {
    return this.#map as ImportedMap;
  }

  /** Ids of regions by position in the last map. */
  regionIds(): number[] {
    return this.map.regions.map((region) => this.#id(region));
  }

  /** Ids of address spaces by view of the last map. */
  spaceIds(): number[][] {
    return this.#spaces.map((spaces) => spaces.map(({ id }) => id));
  }

  /** Says what must be done for the trace to show this map. */
  advance(next: ImportedMap): void {
    const last = this.#map;
    const lastOf = last === undefined ? new Map<ImportedRegion, ImportedRegion>() : matchRegions(last, next);
    if (last !== undefined) this.#checkSameMachine(last, next, lastOf);
    const lastIds = this.#ids;
    const survivors = new Map([...lastOf].map(([region, before]) => [before, region]));

    const surviving = new Set([...survivors.keys()].map((before) => lastIds.get(before)));
    this.#closeSpaces((root) => surviving.has(root));
    const kept = this.#keptInPlace(next, lastOf);
    for (const [before, id] of lastIds) {
      const region = survivors.get(before);
      if (before.parent !== undefined && (region === undefined || !kept.has(region))) {
        this.#remove(id, lastIds.get((last as ImportedMap).regions[before.parent] as ImportedRegion) as number);
      }
    }
    for (const [before, id] of [...lastIds].reverse()) {
      if (!survivors.has(before)) this.#destroy(before, id);
    }
    this.#ids = new Map();
    for (const [before, id] of lastIds) {
      const region = survivors.get(before);
      if (region !== undefined) this.#ids.set(region, id);
    }
    this.#create(next);
    for (const [region, before] of lastOf) this.#change(before, region, kept.has(region));
    for (const parent of next.regions) {
      for (const child of parent.children) {
        const region = next.regions[child] as ImportedRegion;
        if (!kept.has(region)) this.#place(region, this.#id(parent));
      }
    }
    this.#map = next;
    this.#matchSpaces(next);
  }

  #id(region: ImportedRegion): number {
    return this.#ids.get(region) as number;
  }

  #checkSameMachine(last: ImportedMap, next: ImportedMap, lastOf: Map<ImportedRegion, ImportedRegion>): void {
    const mismatch = (problem: string) =>
      new MembackingError(
        'QEMU_MAP_MISMATCH',
        `${last.name} and ${next.name} are not moments of one machine: ${problem}`,
        {
          details: { last: last.name, next: next.name },
        },
      );
    const { addressSpaces, root } = last.views[0] as ImportedView;
    const first = addressSpaces[0] as string;
    const view = next.views.find((other) => other.addressSpaces.includes(first));
    if (view === undefined) throw mismatch(`only the first has the address space "${first}"`);
    if (lastOf.get(view.root) !== root) throw mismatch('their roots differ in name, kind or size');
    if (root.offset !== view.root.offset) throw mismatch('their roots stand at different offsets');
  }

  /**
   * The regions that stay placed where they are. The others are taken out and placed again, behind all that stay: those
   * of another parent, and those that come later than another one that they overlap but were placed before it.
   */
  #keptInPlace(next: ImportedMap, lastOf: Map<ImportedRegion, ImportedRegion>): Set<ImportedRegion> {
    const kept = new Set<ImportedRegion>();
    for (const parent of next.regions) {
      const parentBefore = lastOf.get(parent);
      if (parentBefore === undefined) continue;
      const placed = this.#placed.get(this.#ids.get(parentBefore) as number) ?? [];
      const order = new Map(placed.map((id, i) => [id, i]));
      const candidates = parent.children.map((child) => {
        const region = next.regions[child] as ImportedRegion;
        const before = lastOf.get(region);
        const stays = before !== undefined && before.parent === parentBefore.id;
        return { region, before, order: stays ? order.get(this.#ids.get(before) as number) : undefined };
      });
      for (const equals of runsOf(candidates, (a, b) => a.region.priority === b.region.priority)) {
        const alone = equals.filter((each) => each.order !== undefined).length === 1;
        const again: ImportedRegion[] = [];
        const stayed: { region: ImportedRegion; order: number }[] = [];
        let latest = -1;
        for (const { region, before, order } of equals) {
          const stays =
            order !== undefined &&
            (alone || before?.priority === region.priority) &&
            !again.some((other) => overlap(other, region)) &&
            (order > latest || !stayed.some((other) => other.order > order && overlap(other.region, region)));
          if (!stays) {
            again.push(region);
            continue;
          }
          kept.add(region);
          stayed.push({ region, order });
          latest = Math.max(latest, order);
        }
      }
    }
    return kept;
  }

  #remove(id: number, parent: number): void {
    this.#writer.add({ op: 'remove', id });
    const siblings = this.#placed.get(parent) as number[];
    siblings.splice(siblings.indexOf(id), 1);
  }

  #destroy(region: ImportedRegion, id: number): void {
    const object = this.#objects.get(id);
    if (object !== undefined) {
      this.#writer.add({ op: 'unmap', region: id, offset: 0, length: toAddress(wholePages(region)) });
    }
    this.#writer.add({ op: 'destroy', id });
    if (object !== undefined) this.#writer.add({ op: 'object-close', id: object });
    this.#objects.delete(id);
    this.#placed.delete(id);
  }

  /** Creates what is new, targets before their aliases, and the memory of it. */
  #create(next: ImportedMap): void {
    const created = next.regions.filter((region) => !this.#ids.has(region));
    const newIds = new Map(created.map((region) => [region, this.#writer.newRegion()]));
    const create = (region: ImportedRegion, target?: ImportedRegion) => {
      const id = newIds.get(region) as number;
      this.#ids.set(region, id);
      this.#writer.add(creation(region, id, target === undefined ? 0 : this.#id(target)));
    };
    for (const region of created) if (region.target === undefined) create(region);
    for (const alias of created) {
      const chain: ImportedRegion[] = [];
      for (let at = alias; !this.#ids.has(at); at = targetOf(next, at)) chain.push(at);
      for (const each of chain.reverse()) create(each, targetOf(next, each));
    }
    for (const region of created) this.#back(region);
  }

  #back(region: ImportedRegion): void {
    const length = toAddress(wholePages(region));
    if (!isMemory(region) || length === 0) return;
    const id = this.#id(region);
    const object = this.#writer.newObject();
    const writable = region.kind === 'ram' || region.kind === 'ramd';
    this.#objects.set(id, object);
    const facts = { name: region.name, kind: 'shared', size: length, writable: true, pageSize: abi.PAGE_SIZE } as const;
    this.#writer.add({ op: 'object', id: object, ...facts });
    this.#writer.add({ op: 'map', region: id, offset: 0, length, object, objectOffset: 0, writable });
  }

  /** Brings a region that stays up to date. */
  #change(before: ImportedRegion, region: ImportedRegion, kept: boolean): void {
    const id = this.#id(region);
    const add = (operation: TraceOperation) => this.#writer.add(operation);
    if (before.size !== region.size) add({ op: 'resize', id, size: toAddress(region.size) });
    const flags = {
      ...(before.readonly === region.readonly ? {} : { readonly: region.readonly }),
      ...(before.nonvolatile === region.nonvolatile ? {} : { nonvolatile: region.nonvolatile }),
      ...(before.enabled === region.enabled ? {} : { enabled: region.enabled }),
    };
    if (Object.keys(flags).length > 0) add({ op: 'flags', id, ...flags });
    if (before.targetStart !== region.targetStart) add({ op: 'retarget', id, offset: toAddress(region.targetStart) });
    if (!kept) return;
    if (before.offset !== region.offset) add({ op: 'move', id, offset: toAddress(region.offset) });
    if (before.priority !== region.priority) add({ op: 'priority', id, priority: region.priority });
  }

  #place(region: ImportedRegion, parent: number): void {
    const id = this.#id(region);
    this.#writer.add({ op: 'place', id, parent, offset: toAddress(region.offset), priority: region.priority });
    const siblings = this.#placed.get(parent);
    if (siblings === undefined) this.#placed.set(parent, [id]);
    else siblings.push(id);
  }

  /** Closes the spaces whose root is to go. */
  #closeSpaces(survives: (root: number) => boolean): void {
    this.#spaces = this.#spaces.map((spaces) =>
      spaces.filter(({ id, root }) => {
        if (survives(root)) return true;
        this.#writer.add({ op: 'space-close', id });
        return false;
      }),
    );
  }

  #matchSpaces(next: ImportedMap): void {
    const open = this.#spaces.flat();
    this.#spaces = next.views.map(({ addressSpaces, root: { offset, ...region } }) => {
      const root = this.#ids.get(next.regions[region.id] as ImportedRegion) as number;
      return addressSpaces.map((name) => {
        const at = open.findIndex((space) => space.name === name && space.root === root && space.offset === offset);
        if (at >= 0) return open.splice(at, 1)[0] as NamedSpace;
        const id = this.#writer.newSpace();
        this.#writer.add({ op: 'space', id, name, root, offset: toAddress(offset) });
        return { name, id, root, offset };
      });
    });
    for (const { id } of open) this.#writer.add({ op: 'space-close', id });
  }
}

function targetOf(map: ImportedMap, alias: ImportedRegion): ImportedRegion {
  return map.regions[alias.target as number] as ImportedRegion;
}

function creation(region: ImportedRegion, id: number, target: number): TraceOperation {
  const { name, readonly, nonvolatile, enabled } = region;
  const size = toAddress(region.size);
  if (region.kind === 'alias') {
    const offset = toAddress(region.targetStart);
    return { op: 'alias', id, name, target, offset, size, readonly, nonvolatile, enabled };
  }
  return { op: 'region', id, name, kind: KINDS[region.kind], size, readonly, nonvolatile, enabled };
}

function isMemory(region: ImportedRegion): boolean {
  return region.kind === 'ram' || region.kind === 'rom' || region.kind === 'romd' || region.kind === 'ramd';
}

/** Bytes of a region that can be mapped. */
function wholePages(region: ImportedRegion): bigint {
  return region.size - (region.size % BigInt(abi.PAGE_SIZE));
}

function overlap(a: ImportedRegion, b: ImportedRegion): boolean {
  return a.size > 0n && b.size > 0n && a.offset < b.offset + b.size && b.offset < a.offset + a.size;
}

/** Neighbours that belong together. */
function runsOf<Item>(items: readonly Item[], together: (a: Item, b: Item) => boolean): Item[][] {
  const runs: Item[][] = [];
  for (const item of items) {
    const run = runs.at(-1);
    if (run !== undefined && together(run[0] as Item, item)) run.push(item);
    else runs.push([item]);
  }
  return runs;
}
