// All RAM of one guest: added when the guest is built and while it runs, block by block, one backing each.

import { type Address, formatHex, LAST_ADDRESS, sum } from '../address.ts';
import { MembackingError } from '../errors.ts';
import type { MemoryMap } from '../map.ts';
import type { MemoryObject } from '../object.ts';
import type { Region } from '../region.ts';
import { openBacking, type RamBacking } from './backing.ts';
import { MemoryBuildError } from './errors.ts';
import { checkDisjoint, checkX86, cutRam, type GpaRange, type RamPiece } from './layout.ts';
import { advise, type PrefetchOptions, pin, prefetch } from './pages.ts';
import { placeRam, type RamRegion } from './ram.ts';
import type { RamSpec } from './ram-options.ts';

/** The RAM of one backing. */
export interface RamBlock {
  readonly name: string;
  readonly kind: RamBacking['kind'];
  readonly ranges: readonly GpaRange[];
  readonly object: MemoryObject;
  /** Whether the object ends with the block. */
  readonly isOwned: boolean;
  readonly pieces: readonly RamRegion[];
}

/** RAM that was allocated, and is nowhere yet. */
interface Opened {
  readonly spec: RamSpec;
  readonly cut: readonly RamPiece[];
  readonly object: MemoryObject;
  readonly isOwned: boolean;
}

export interface RamLimits {
  /** The highest GPA that RAM may have. */
  readonly maxAddress: Address;
  readonly x86LegacySupport: boolean;
  /** Where VTL2 sees it all again. */
  readonly aliasMap: Address | undefined;
  readonly pinMappings: boolean;
}

export class RamStore {
  readonly #map: MemoryMap;
  readonly #root: Region;
  readonly #limits: RamLimits;
  readonly #blocks = new Set<RamBlock>();
  /** All their pieces in order of GPA. */
  #pieces: readonly RamRegion[] = [];

  constructor(map: MemoryMap, root: Region, limits: RamLimits) {
    this.#map = map;
    this.#root = root;
    this.#limits = limits;
  }

  get blocks(): readonly RamBlock[] {
    return [...this.#blocks];
  }

  get pieces(): readonly RamRegion[] {
    return this.#pieces;
  }

  get isPinned(): boolean {
    return this.#limits.pinMappings;
  }

  /** Allocates the RAM and shows it. Throws MemoryBuildError and what the map throws, and has then left nothing. */
  add(spec: RamSpec): RamBlock {
    if (spec.prefetch) {
      const message = `RAM "${spec.name}" is to be prefetched, which takes time: use buildAsync or addRamAsync`;
      throw new MemoryBuildError('NEEDS_ASYNC', message);
    }
    const opened = this.#open(spec);
    try {
      return this.#show(opened);
    } catch (error) {
      close(opened);
      throw error;
    }
  }

  /** The same for several blocks, which are prefetched where that is asked for: all of them, or none. */
  async addAll(specs: readonly RamSpec[], options: PrefetchOptions): Promise<RamBlock[]> {
    const opened: Opened[] = [];
    try {
      for (const spec of specs) opened.push(this.#open(spec));
      const wanted = opened.filter(({ spec }) => spec.prefetch);
      await prefetch(
        wanted.map(({ object }) => object),
        options,
      );
      return this.#map.transaction(() => opened.map((each) => this.#show(each)));
    } catch (error) {
      for (const each of opened) close(each);
      throw error;
    }
  }

  #open(spec: RamSpec): Opened {
    const { maxAddress, x86LegacySupport } = this.#limits;
    const { name, ranges, backing } = spec;
    this.#check(spec);
    const cut = cutRam(ranges, x86LegacySupport, maxAddress);
    const opened = { spec, cut, ...inBuildErrors(() => openBacking(backing, name, bytesOf(ranges), cut)) };
    try {
      advise(opened.object, spec);
      return opened;
    } catch (error) {
      close(opened);
      throw error;
    }
  }

  #check({ name, ranges }: RamSpec): void {
    if (this.blocks.some((block) => block.name === name)) {
      throw new MemoryBuildError('NAME_TAKEN', `there is RAM named "${name}" already`);
    }
    checkDisjoint([...this.blocks.flatMap((block) => block.ranges), ...ranges]);
  }

  #show({ spec, cut, object, isOwned }: Opened): RamBlock {
    const { name, ranges, backing } = spec;
    this.#check(spec);
    if (this.#limits.pinMappings) pin(object);
    return inBuildErrors(() =>
      this.#map.transaction(() => {
        // Undone last: the map has then let go of it.
        if (isOwned) this.#map.context.onUndo(() => object.close());
        const pieces = placeRam(this.#map, this.#root, name, object, cut);
        const block = { name, kind: backing.kind, ranges, object, isOwned, pieces };
        this.#enter(block);
        this.#map.context.onUndo(() => this.#leave(block));
        return block;
      }),
    );
  }

  /** Takes the block's RAM from the guest, and gives it back. */
  remove(block: RamBlock): void {
    this.#map.transaction(() => {
      for (const { region } of block.pieces) {
        region.remove();
        region.close();
      }
      this.#leave(block);
      this.#map.context.onUndo(() => this.#enter(block));
      if (block.isOwned) this.#map.context.onDone(() => block.object.close());
    });
  }

  /** Precondition: the map is closed. */
  close(): void {
    for (const { object, isOwned } of this.#blocks) if (isOwned) object.close();
  }

  #enter(block: RamBlock): void {
    this.#blocks.add(block);
    this.#pieces = [...this.#pieces, ...block.pieces].sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
  }

  #leave(block: RamBlock): void {
    this.#blocks.delete(block);
    this.#pieces = this.#pieces.filter((piece) => !block.pieces.includes(piece));
  }
}

/** Throws MemoryBuildError where RAM cannot lie like this. */
export function checkLayout(specs: readonly RamSpec[], { maxAddress, x86LegacySupport, aliasMap }: RamLimits): void {
  const all = specs.flatMap(({ ranges }) => ranges);
  checkDisjoint(all);
  if (x86LegacySupport) checkX86(all);
  if (aliasMap === undefined) return;
  if (
    aliasMap > maxAddress &&
    BigInt(aliasMap) + BigInt(maxAddress) <= BigInt(LAST_ADDRESS) &&
    BigInt(aliasMap) % 4096n === 0n
  )
    return;
  const message = `the VTL0 alias map at ${formatHex(aliasMap)} must lie above all that it shows, up to ${formatHex(maxAddress)}, end below 2^64 and begin with a page`;
  throw new MemoryBuildError('ALIAS_MAP_MISFIT', message, { aliasMap, maxAddress });
}

function close({ object, isOwned }: Opened): void {
  if (isOwned) object.close();
}

function bytesOf(ranges: readonly GpaRange[]): Address {
  return ranges.reduce((total, range) => sum(total, range.length), 0 as Address);
}

/** What the system refuses is a build error. */
export function inBuildErrors<Result>(body: () => Result): Result {
  try {
    return body();
  } catch (error) {
    if (error instanceof MembackingError && (error.code === 'SYSTEM' || error.code === 'PLAN_FAILED')) {
      throw new MemoryBuildError('ALLOCATION_FAILED', error.message, { ...error.details }, error.cause);
    }
    throw error;
  }
}
