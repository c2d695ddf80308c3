// All RAM of one guest: added when the guest is built and while it runs, block by block, one backing each.

import * as abi from '../../assembly/abi.ts';
import type { MemoryObject } from '../asked/object.ts';
import type { Region } from '../asked/region.ts';
import { type Address, formatHex, higher, isPageAligned, LAST_ADDRESS, lengthOf, lower, sum } from '../core/address.ts';
import type { Command } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import type { MemoryMap } from '../map/map.ts';
import type { VaSpace } from '../sinks/va-space.ts';
import { type AnyBacking, openBacking } from './backing.ts';
import { MemoryBuildError } from './errors.ts';
import { checkWholePages } from './huge-pages.ts';
import { checkDisjoint, checkX86, cutRam, type GpaRange, lastOf, type RamPiece } from './layout.ts';
import { advise, fill, type PrefetchOptions, pin, prefetch } from './pages.ts';
import type { RamSpec } from './ram-options.ts';
import { placeRam, type RamRegion } from './ram-pieces.ts';
import { WritableRam } from './writable-ram.ts';

/** The RAM of one backing. */
export interface RamBlock {
  readonly name: string;
  readonly kind: AnyBacking['kind'];
  readonly ranges: readonly GpaRange[];
  /** Ends with the block. */
  readonly object: MemoryObject;
  readonly pieces: readonly RamRegion[];
  /** Whether the system gives it transparent huge pages. */
  readonly transparentHugePages: boolean;
}

/** RAM that was allocated, and is nowhere yet. */
interface Opened {
  readonly spec: RamSpec;
  readonly name: string;
  readonly ranges: readonly GpaRange[];
  readonly cut: readonly RamPiece[];
  readonly object: MemoryObject;
  transparentHugePages: boolean;
}

/** The highest GPA that a VA space shows memory at. */
const LAST_RAM = 2 ** abi.GPA_BITS - 1;

export interface RamLimits {
  /** The highest GPA that RAM may have. */
  readonly maxAddress: Address;
  readonly x86LegacySupport: boolean;
  /** GPA from which VTL2 sees all of VTL0's memory again. */
  readonly aliasMap: Address | undefined;
  readonly pinMappings: boolean;
}

export class RamStore {
  readonly #map: MemoryMap;
  readonly #root: Region;
  readonly #va: VaSpace;
  readonly limits: RamLimits;
  #blocks: readonly RamBlock[] = [];
  /** RAM that is being prefetched. */
  readonly #coming = new Set<Opened>();
  /** Listener that is told of RAM that is placed, inside the transaction that does it. */
  onPlaced: (block: RamBlock) => void = () => {};
  /** All their pieces in order of GPA. */
  #pieces: readonly RamRegion[] = [];
  #writable: readonly WritableRam[] = [];

  constructor(map: MemoryMap, root: Region, va: VaSpace, limits: RamLimits) {
    this.#map = map;
    this.#root = root;
    this.#va = va;
    this.limits = limits;
  }

  get blocks(): readonly RamBlock[] {
    return this.#blocks;
  }

  get pieces(): readonly RamRegion[] {
    return this.#pieces;
  }

  /** Ranges of RAM that stay writable. */
  get writable(): readonly WritableRam[] {
    return this.#writable.filter((ram) => !ram.closed);
  }

  has(block: RamBlock): boolean {
    return this.#blocks.includes(block);
  }

  /** Allocates RAM and shows it: all of it, or none. Throws MemoryBuildError and what the map throws, and has then left
   *  nothing. */
  add(specs: readonly RamSpec[]): RamBlock[] {
    const slow = specs.find((spec) => spec.prefetch);
    if (slow !== undefined) {
      const message = `RAM at ${formatHex(slow.ranges[0]!.gpa)} is to be prefetched, which takes time: use buildAsync or addRamAsync`;
      throw new MemoryBuildError('NEEDS_ASYNC', message);
    }
    const opened = this.#open(specs);
    try {
      return this.#show(opened);
    } catch (error) {
      opened.forEach(close);
      throw error;
    }
  }

  /** `add` that prefetches where that is asked for, also in the VA space. */
  async addAsync(specs: readonly RamSpec[], options: PrefetchOptions): Promise<RamBlock[]> {
    const blocks = await this.#addPrefetched(specs, options);
    const shared = blocks.filter(({ object }, index) => specs[index]!.prefetch && object.kind === 'shared');
    await fill(
      this.#va,
      shared.flatMap(({ ranges }) => ranges),
    );
    return blocks;
  }

  /** Allocates RAM, prefetches and shows it; meanwhile nobody else gets its names and addresses. */
  async #addPrefetched(specs: readonly RamSpec[], options: PrefetchOptions): Promise<RamBlock[]> {
    const opened = this.#open(specs);
    for (const each of opened) this.#coming.add(each);
    try {
      const wanted = opened.filter(({ spec }) => spec.prefetch);
      await prefetch(
        wanted.map(({ object }) => object),
        options,
      );
      return this.#show(opened);
    } catch (error) {
      opened.forEach(close);
      throw error;
    } finally {
      for (const each of opened) this.#coming.delete(each);
    }
  }

  /** Allocates all of it, or nothing. */
  #open(specs: readonly RamSpec[]): Opened[] {
    const names = this.#namesOf(specs);
    checkDisjoint([...this.blocks, ...this.#coming, ...specs].flatMap(({ ranges }) => ranges));
    const opened: Opened[] = [];
    try {
      for (const [index, spec] of specs.entries()) {
        const { ranges, backing, noReserve } = spec;
        const name = names[index]!;
        const cut = cutRam(ranges, this.limits.x86LegacySupport, lower(this.limits.maxAddress, LAST_RAM));
        const wanted = { name, bytes: bytesOf(ranges), pieces: cut, noReserve };
        const object = inBuildErrors(() => openBacking(backing, wanted));
        const ram: Opened = { spec, name, ranges, cut, object, transparentHugePages: false };
        opened.push(ram);
        checkWholePages(object.granularity, cut);
        ram.transparentHugePages = advise(object, spec);
      }
      return opened;
    } catch (error) {
      opened.forEach(close);
      throw error;
    }
  }

  /** Names of new RAM: each its own, or the first that nobody has. Throws NAME_TAKEN. */
  #namesOf(specs: readonly RamSpec[]): string[] {
    const taken = new Set([...this.blocks, ...this.#coming].map(({ name }) => name));
    for (const { name } of specs) {
      if (name === undefined) continue;
      if (taken.has(name)) throw new MemoryBuildError('NAME_TAKEN', `there is RAM named "${name}" already`);
      taken.add(name);
    }
    return specs.map(({ name }) => {
      if (name !== undefined) return name;
      let free = 'ram';
      for (let number = 1; taken.has(free); number++) free = `ram${number}`;
      taken.add(free);
      return free;
    });
  }

  #show(opened: readonly Opened[]): RamBlock[] {
    return inBuildErrors(() => this.#map.transaction(() => opened.map((each) => this.#place(each))));
  }

  /** Places RAM, inside a transaction. */
  #place({ spec, name, ranges, cut, object, transparentHugePages }: Opened): RamBlock {
    if (this.limits.pinMappings) pin(object);
    // Undone last: the map has then let go of it.
    this.#map.context.onUndo(() => object.close());
    const pieces = placeRam(this.#map, this.#root, name, object, cut);
    const block: RamBlock = { name, kind: spec.backing.kind, ranges, object, pieces, transparentHugePages };
    this.#set([...this.#blocks, block]);
    this.onPlaced(block);
    return block;
  }

  /** Keeps a range of RAM writable: see `RamVisibilityControl.keepWritable`. */
  keepWritable(range: GpaRange): WritableRam {
    const pieces = this.#pieces.filter((piece) => overlap(piece, range));
    const covered = pieces.reduce((bytes, piece) => sum(bytes, commonBytes(piece, range)), 0 as Address);
    if (covered !== range.length) {
      const message = `RAM at ${formatHex(range.gpa)} of ${formatHex(range.length)} bytes cannot be kept writable: not all of that is RAM`;
      throw new MembackingError('NOT_CONTROLLABLE', message, { details: { ...range } });
    }
    return this.#map.transaction(() => {
      const ram = new WritableRam(this.#map, this.#root, range, pieces);
      const before = this.#writable;
      this.#map.context.onUndo(() => {
        this.#writable = before;
      });
      this.#writable = [...this.writable, ram];
      return ram;
    });
  }

  /** Takes the block's RAM from the guest, and gives it back. */
  remove(block: RamBlock): void {
    this.#map.transaction(() => {
      for (const ram of this.writable) {
        if (block.pieces.some((piece) => overlap(piece, ram))) ram.close();
      }
      for (const { region } of block.pieces) {
        region.remove();
        region.close();
      }
      this.#set(this.#blocks.filter((other) => other !== block));
      this.#map.context.onDone(() => block.object.close());
    });
  }

  /** Closes the memory of all RAM. Precondition: the map is closed. */
  close(): void {
    for (const { object } of this.#blocks) object.close();
  }

  /** Sets which blocks there are, inside a transaction. */
  #set(blocks: readonly RamBlock[]): void {
    const before = this.#blocks;
    const piecesBefore = this.#pieces;
    this.#map.context.onUndo(() => {
      this.#blocks = before;
      this.#pieces = piecesBefore;
    });
    this.#blocks = blocks;
    this.#pieces = blocks.flatMap(({ pieces }) => pieces).sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
  }
}

/** Checks that RAM can lie as it is to. Throws MemoryBuildError where it cannot. */
export function checkLayout(specs: readonly RamSpec[], { maxAddress, x86LegacySupport, aliasMap }: RamLimits): void {
  const all = specs.flatMap(({ ranges }) => ranges);
  checkDisjoint(all);
  if (x86LegacySupport) checkX86(all);
  if (aliasMap === undefined) return;
  if (aliasMap > maxAddress && BigInt(aliasMap) + BigInt(maxAddress) <= BigInt(LAST_ADDRESS) && isPageAligned(aliasMap))
    return;
  const message = `the VTL0 alias map at ${formatHex(aliasMap)} must lie above all that it shows, up to ${formatHex(maxAddress)}, end below 2^64 and begin with a page`;
  throw new MemoryBuildError('ALIAS_MAP_MISFIT', message, { aliasMap, maxAddress });
}

function overlap(a: GpaRange, b: GpaRange): boolean {
  return a.gpa <= lastOf(b) && b.gpa <= lastOf(a);
}

/** Bytes that two ranges have in common. Precondition: they overlap. */
function commonBytes(a: GpaRange, b: GpaRange): Address {
  return lengthOf(higher(a.gpa, b.gpa), lower(lastOf(a), lastOf(b)));
}

function close({ object }: Opened): void {
  object.close();
}

function bytesOf(ranges: readonly GpaRange[]): Address {
  return ranges.reduce((total, range) => sum(total, range.length), 0 as Address);
}

/** Turns refusals of the system into build errors; a partition's are failed plans, as everywhere. */
export function inBuildErrors<Result>(body: () => Result): Result {
  try {
    return body();
  } catch (error) {
    if (error instanceof MembackingError && (error.code === 'SYSTEM' || isSystemsPlan(error))) {
      throw new MemoryBuildError('ALLOCATION_FAILED', error.message, { ...error.details }, error.cause);
    }
    throw error;
  }
}

/** Whether a plan failed at a command that shows memory in this process. */
function isSystemsPlan({ code, details }: MembackingError): boolean {
  const { op } = (details.command ?? {}) as Partial<Command>;
  return code === 'PLAN_FAILED' && (op === abi.OP_VA_MAP || op === abi.OP_VA_UNPARK || op === abi.OP_VA_RESERVE);
}
