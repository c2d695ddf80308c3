// The whole of memory management in its most naive form: small worlds, counted in pages, every question answered by
// looking at one page from the root down. Slow and obvious on purpose; it shares nothing with the core.

export type ModelKind = 'ram' | 'rom' | 'device' | 'mmio' | 'container' | 'alias';

export interface ModelFlags {
  enabled: boolean;
  readonly: boolean;
  nonvolatile: boolean;
}

interface ObjectPage {
  readonly object: number;
  readonly page: number;
  readonly writable: boolean;
}

/** Stretch of a region at which writes do not exit, in bytes. */
interface ModelEvent {
  readonly region: number;
  readonly offset: number;
  readonly length: number;
}

interface Region extends ModelFlags {
  readonly id: number;
  readonly kind: ModelKind;
  size: number;
  /** Target of an alias; `targetOffset`: the first page of it that shows. */
  readonly target: Region | undefined;
  targetOffset: number;
  parent: Region | undefined;
  offset: number;
  priority: number;
  /** Children in the order in which they were placed. */
  readonly children: Region[];
  /** Pages of objects that are mapped, by page of the region. */
  readonly mapped: Map<number, ObjectPage>;
}

/** One page of an address space as it is seen. */
interface Seen {
  readonly region: number;
  readonly offsetInRegion: number;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
}

/** One page of a VA space as it must be, or what may be used of it: `access` is `r` or `rw`. */
interface VaPage {
  readonly object: number;
  readonly page: number;
  readonly access: string;
}

/** Takes rights away from pages of one sink: a subset of `rwx` by page; pages that are not in it keep all. */
type Protections = ReadonlyMap<number, string>;

const UNPROTECTED: Protections = new Map();

/** Pages of the largest page that an object has here. */
const LARGEST = 8;

export class Model {
  readonly #regions = new Map<number, Region>();
  readonly #events = new Map<number, ModelEvent>();
  /** Pages of the model of which each page of an object consists, by object. One, if nothing is said. */
  readonly #pageSizes = new Map<number, number>();

  // ---- Changes. Preconditions: ids exist, and the change is legal ------------------------------

  region(id: number, kind: Exclude<ModelKind, 'alias'>, size: number, flags: Partial<ModelFlags> = {}): void {
    this.#create(id, kind, size, flags, undefined, 0);
  }

  alias(id: number, target: number, targetOffset: number, size: number, flags: Partial<ModelFlags> = {}): void {
    this.#create(id, 'alias', size, flags, this.#get(target), targetOffset);
  }

  /** Destroys a region. Precondition: not placed, without children, and no alias shows it. */
  destroy(id: number): void {
    this.#regions.delete(id);
  }

  place(id: number, parent: number, offset: number, priority = 0): void {
    const region = this.#get(id);
    region.parent = this.#get(parent);
    region.parent.children.push(region);
    region.offset = offset;
    region.priority = priority;
  }

  remove(id: number): void {
    const region = this.#get(id);
    const siblings = (region.parent as Region).children;
    siblings.splice(siblings.indexOf(region), 1);
    region.parent = undefined;
  }

  move(id: number, offset: number): void {
    this.#get(id).offset = offset;
  }

  /** Mappings past the new end are gone. */
  resize(id: number, size: number): void {
    const region = this.#get(id);
    region.size = size;
    for (const page of [...region.mapped.keys()]) if (page >= size) region.mapped.delete(page);
  }

  setPriority(id: number, priority: number): void {
    this.#get(id).priority = priority;
  }

  setFlags(id: number, flags: Partial<ModelFlags>): void {
    Object.assign(this.#get(id), flags);
  }

  retarget(id: number, targetOffset: number): void {
    this.#get(id).targetOffset = targetOffset;
  }

  /** Overwrites what was mapped there. */
  map(id: number, offset: number, length: number, object: number, objectPage: number, writable: boolean): void {
    for (let i = 0; i < length; i++) {
      this.#get(id).mapped.set(offset + i, { object, page: objectPage + i, writable });
    }
  }

  unmap(id: number, offset: number, length: number): void {
    for (let i = 0; i < length; i++) this.#get(id).mapped.delete(offset + i);
  }

  /** Makes an event of at most two pages; offset and length are in bytes. */
  event(id: number, event: ModelEvent): void {
    this.#events.set(id, event);
  }

  closeEvent(id: number): void {
    this.#events.delete(id);
  }

  /** Says what this object's pages consist of: a power of two of the model's. */
  object(id: number, pageSize: number): void {
    this.#pageSizes.set(id, pageSize);
  }

  // ---- Questions -------------------------------------------------------------------------------

  /** Whether `id` is `other`, or `other` stands somewhere under or behind it: placing it there would make a circle. */
  reaches(id: number, other: number): boolean {
    const region = this.#get(id);
    if (id === other) return true;
    const next = region.target === undefined ? region.children : [region.target];
    return next.some((each) => this.reaches(each.id, other));
  }

  /** Page that an address space shows whose root stands at `rootOffset`; undefined for nothing. */
  visibleAt(root: number, page: number, rootOffset = 0): Seen | undefined {
    return seen(this.#get(root), page - rootOffset, false, false);
  }

  /** Events that an address space shows in its first `count` pages, with the GPA of each in bytes: all bytes of one are
   *  seen in a row, in the same way. */
  events(root: number, count: number, rootOffset = 0): { event: number; gpa: number; last: number }[] {
    const found: { event: number; gpa: number; last: number }[] = [];
    for (let page = 0; page < count; page++) {
      const first = this.visibleAt(root, page, rootOffset);
      for (const [event, { region, offset, length }] of this.#events) {
        const pageOf = (at: number) => Math.floor(at / 4096);
        if (first?.region !== region || first.offsetInRegion !== pageOf(offset)) continue;
        if (offset + length > this.#get(region).size * 4096) continue;
        const more = pageOf(offset + length - 1) - pageOf(offset);
        const wanted = { ...first, offsetInRegion: first.offsetInRegion + 1 };
        const second = this.visibleAt(root, page + 1, rootOffset);
        if (more > 0 && JSON.stringify(second) !== JSON.stringify(wanted)) continue;
        const gpa = page * 4096 + (offset % 4096);
        found.push({ event, gpa, last: gpa + length - 1 });
      }
    }
    return found.sort((a, b) => a.gpa - b.gpa || a.event - b.event);
  }

  /** Whether what is seen may not be written: by the region or what it is seen through, or by its mapping. */
  isReadonly({ region, offsetInRegion, readonly }: Seen): boolean {
    return readonly || this.#get(region).mapped.get(offsetInRegion)?.writable === false;
  }

  /** Part of a page that may be used in a VA space; undefined for nothing. */
  part(root: number, page: number, rootOffset = 0, protections = UNPROTECTED): VaPage | undefined {
    const visible = this.visibleAt(root, page, rootOffset);
    if (visible === undefined) return undefined;
    const mapped = this.#get(visible.region).mapped.get(visible.offsetInRegion);
    if (mapped === undefined) return undefined;
    const access = left(mapped.writable && !visible.readonly ? 'rw' : 'r', page, protections);
    return access.includes('r') ? { object: mapped.object, page: mapped.page, access } : undefined;
  }

  /** Page that a VA space must have, which is a part of a large page wherever some of that is seen; undefined for
   *  nothing but the reservation. Precondition: `problemAt` has none. */
  vaPage(root: number, page: number, rootOffset = 0, protections = UNPROTECTED): VaPage | undefined {
    const [first, ...others] = this.#claims(root, page, rootOffset, protections);
    if (first === undefined) return undefined;
    return { ...first, access: [first, ...others].some(({ access }) => access === 'rw') ? 'rw' : 'r' };
  }

  /** Reason why a VA space cannot have what it must at a page; undefined if it can. */
  problemAt(root: number, page: number, rootOffset = 0, protections = UNPROTECTED): string | undefined {
    const part = this.part(root, page, rootOffset, protections);
    if (part !== undefined && (part.page - page) % this.#pageSize(part.object) !== 0) return 'UNALIGNED';
    const claims = this.#claims(root, page, rootOffset, protections);
    const places = new Set(claims.map((claim) => `${claim.object}+${claim.page}`));
    return places.size > 1 ? 'SPLIT_PAGE' : undefined;
  }

  /** Claims: what each part that is seen of a page, or of a large page around it, wants there. */
  #claims(root: number, page: number, rootOffset: number, protections: Protections): VaPage[] {
    const claims: VaPage[] = [];
    for (let at = page - (page % LARGEST); at < page - (page % LARGEST) + LARGEST; at++) {
      const part = this.part(root, at, rootOffset, protections);
      if (part === undefined) continue;
      const size = this.#pageSize(part.object);
      if (Math.floor(at / size) === Math.floor(page / size)) claims.push({ ...part, page: part.page + page - at });
    }
    return claims;
  }

  #pageSize(object: number): number {
    return this.#pageSizes.get(object) ?? 1;
  }

  /** The access of a partition's slot at a page, `rx` or `rwx` or less of it; undefined for no slot. `limits`: the
   *  protections of its VA space. */
  slotAccess(
    root: number,
    page: number,
    rootOffset = 0,
    protections = UNPROTECTED,
    limits = UNPROTECTED,
  ): string | undefined {
    const visible = this.visibleAt(root, page, rootOffset);
    if (visible === undefined || this.#get(visible.region).kind === 'mmio') return undefined;
    let access = left(this.isReadonly(visible) ? 'rx' : 'rwx', page, protections);
    const va = this.vaPage(root, page, rootOffset, limits);
    const part = this.part(root, page, rootOffset, limits);
    if (va !== undefined && part === undefined) return undefined;
    if (va?.access === 'rw' && part?.access === 'r') access = access.replace('w', '');
    return access.includes('r') ? access : undefined;
  }

  /** Pages 0 to `count`, equal neighbours joined: `0-3 ram 1+0 ro va 7+0 r slot rx`. */
  lines(root: number, count: number, rootOffset = 0, protections = UNPROTECTED): string[] {
    const runs: { from: number; page: number; describe: (from: number) => string }[] = [];
    for (let page = 0; page < count; page++) {
      const visible = this.visibleAt(root, page, rootOffset);
      if (visible === undefined) continue;
      const va = this.vaPage(root, page, rootOffset, protections);
      const slot = this.slotAccess(root, page, rootOffset, protections);
      const describe = (from: number): string =>
        [
          `${this.#get(visible.region).kind} ${visible.region}+${visible.offsetInRegion - (page - from)}`,
          visible.readonly ? 'ro' : 'rw',
          ...(visible.nonvolatile ? ['nv'] : []),
          ...(va === undefined ? [] : [`va ${va.object}+${va.page - (page - from)} ${va.access}`]),
          ...(slot === undefined ? [] : [`slot ${slot}`]),
        ].join(' ');
      const run = runs.at(-1);
      if (run !== undefined && run.page === page - 1 && run.describe(run.from) === describe(run.from)) run.page = page;
      else runs.push({ from: page, page, describe });
    }
    return runs.map(({ from, page, describe }) => `${from}-${page} ${describe(from)}`);
  }

  #create(
    id: number,
    kind: ModelKind,
    size: number,
    flags: Partial<ModelFlags>,
    target: Region | undefined,
    targetOffset: number,
  ): void {
    const all: ModelFlags = { enabled: true, readonly: false, nonvolatile: false, ...flags };
    const placed = { parent: undefined, offset: 0, priority: 0, children: [], mapped: new Map() };
    this.#regions.set(id, { id, kind, size, target, targetOffset, ...all, ...placed });
  }

  #get(id: number): Region {
    const region = this.#regions.get(id);
    if (region === undefined) throw new Error(`the model has no region ${id}`);
    return region;
  }
}

/** Page that a region shows, counted from the region's start. */
function seen(region: Region, page: number, readonly: boolean, nonvolatile: boolean): Seen | undefined {
  if (!region.enabled || page < 0 || page >= region.size) return undefined;
  const isReadonly = readonly || region.readonly;
  const isNonvolatile = nonvolatile || region.nonvolatile;
  if (region.target !== undefined) return seen(region.target, page + region.targetOffset, isReadonly, isNonvolatile);
  for (const child of byPrecedence(region.children)) {
    const found = seen(child, page - child.offset, isReadonly, isNonvolatile);
    if (found !== undefined) return found;
  }
  if (region.kind === 'container') return undefined;
  const { id, kind } = region;
  return { region: id, offsetInRegion: page, readonly: isReadonly || kind === 'rom', nonvolatile: isNonvolatile };
}

/** Highest priority first; among equals the one that was placed first. */
function byPrecedence(children: readonly Region[]): Region[] {
  return [...children].sort((a, b) => b.priority - a.priority);
}

function left(access: string, page: number, protections: Protections): string {
  const most = protections.get(page) ?? 'rwx';
  return [...access].filter((right) => most.includes(right)).join('');
}
