// A memory map at one moment, as every importer hands it on: a tree of regions, and the address spaces that show it.

export const IMPORTED_KINDS = ['container', 'ram', 'rom', 'romd', 'ramd', 'i/o', 'alias'] as const;
export type ImportedKind = (typeof IMPORTED_KINDS)[number];

export interface ImportedRegion {
  /** Position in the list. */
  readonly id: number;
  /** Name; not unique. */
  readonly name: string;
  readonly kind: ImportedKind;
  readonly priority: number;
  /** Offset in the parent; of a root: in the address space. */
  readonly offset: bigint;
  /** Bytes, 0 to 2^64. */
  readonly size: bigint;
  readonly enabled: boolean;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
  /** Children by their number, strongest first. */
  readonly children: readonly number[];
  readonly parent: number | undefined;
  /** Target of an alias, and the offset in it of the alias's first byte. */
  readonly target: number | undefined;
  readonly targetStart: bigint;
}

/** A range that is visible: `start` to `end` inclusive. */
export interface ImportedRow {
  readonly start: bigint;
  readonly end: bigint;
  readonly region: number;
  readonly offsetInRegion: bigint;
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
}

/** The address spaces that have one root, and what they show. */
export interface ImportedView {
  /** Names of the address spaces that show it: at least one; not unique. */
  readonly addressSpaces: readonly string[];
  readonly root: ImportedRegion;
  readonly flat: readonly ImportedRow[];
}

export interface ImportedMap {
  /** Name of the file, or what the file calls itself: snapshot, `--`, address space. */
  readonly name: string;
  /** The part that all maps of one moment share. */
  readonly snapshot: string;
  readonly regions: readonly ImportedRegion[];
  /** Views, at least one. The first is the one that a machine's processors see. */
  readonly views: readonly ImportedView[];
}

/** A region as an importer builds it. */
export type BuiltRegion = { -readonly [Field in keyof ImportedRegion]: ImportedRegion[Field] } & { children: number[] };

/** Addresses of a whole address space. */
export const WHOLE = 1n << 64n;

/** The region that an importer adds to `regions`: what is not given is 0, none, or as usual. */
export function addRegion(
  regions: BuiltRegion[],
  given: Pick<ImportedRegion, 'name' | 'kind' | 'size'> & Partial<ImportedRegion>,
): BuiltRegion {
  const region: BuiltRegion = {
    priority: 0,
    offset: 0n,
    enabled: true,
    readonly: given.kind === 'rom',
    nonvolatile: false,
    parent: undefined,
    target: undefined,
    targetStart: 0n,
    ...given,
    id: regions.length,
    children: [],
  };
  regions.push(region);
  return region;
}

/** Places `child` in `parent`, behind what is there already. */
export function addChild(parent: BuiltRegion, child: BuiltRegion): void {
  parent.children.push(child.id);
  child.parent = parent.id;
}

/** An alias that comes back to itself through what it shows; undefined if there is none. */
export function aliasInCircle(regions: readonly ImportedRegion[]): ImportedRegion | undefined {
  const settled = new Set<number>();
  for (const region of regions) {
    const path = new Set<number>();
    let at = region;
    while (at.target !== undefined && !settled.has(at.id)) {
      if (path.has(at.id)) return at;
      path.add(at.id);
      at = regions[at.target] as ImportedRegion;
    }
    for (const id of path) settled.add(id);
  }
  return undefined;
}
