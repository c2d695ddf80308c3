// Building guest memory: what RAM there is, where it lies, what it is made of.

import { type Address, LAST_ADDRESS, sum, toAddress } from '../address.ts';
import { MembackingError } from '../errors.ts';
import type { Policy } from '../kinds.ts';
import { MemoryMap } from '../map.ts';
import type { MemoryObject } from '../object.ts';
import type { TraceOutput } from '../trace/recorder.ts';
import * as validate from '../validate.ts';
import { openBacking, type RamBacking } from './backing.ts';
import { MemoryBuildError } from './errors.ts';
import { checkDisjoint, checkX86, cutRam, type GpaRange } from './layout.ts';
import { GuestMemoryManager } from './manager.ts';
import { placeRam, type RamRegion } from './ram.ts';

export interface GuestMemoryOptions {
  /** The highest GPA that RAM may have, which is also what is reserved of this process's address space; whole pages less
   *  one. Default 2^40 - 1. */
  readonly maxAddress?: Address;
  /** Where VTL2 sees all of VTL0's memory again; above all RAM, a multiple of the page size. Default: nowhere. */
  readonly vtl0AliasMap?: Address;
  /** Cuts RAM where legacy x86 chipsets switch it, and demands low RAM. Default false. */
  readonly x86LegacySupport?: boolean;
  /** Default `layered`. */
  readonly policy?: Policy;
  /** Slots that each partition may be given at most. Default: what its hypervisor has. */
  readonly slotBudget?: number;
  /** Takes a trace of everything that happens. */
  readonly record?: TraceOutput;
  /** Checks every invariant around every step: slow, for tests. */
  readonly debug?: boolean;
}

export interface RamOptions {
  readonly name?: string;
  /** In the order in which the backing's bytes fill them. */
  readonly ranges: readonly GpaRange[];
  /** Default: new shared memory. */
  readonly backing?: RamBacking;
}

/** Made once, filled with RAM, built once. */
export class GuestMemoryBuilder {
  readonly #options: GuestMemoryOptions;
  readonly #ram: { name: string; ranges: GpaRange[]; backing: RamBacking }[] = [];

  constructor(options?: GuestMemoryOptions) {
    this.#options = validate.options(
      options,
      ['maxAddress', 'vtl0AliasMap', 'x86LegacySupport', 'policy', 'slotBudget', 'record', 'debug'],
      'GuestMemoryBuilder',
    );
  }

  /** RAM of one backing. Nothing is allocated before `build`. */
  addRam(options: RamOptions): this {
    const given = validate.options(options, ['name', 'ranges', 'backing'], 'addRam');
    if (!Array.isArray(given.ranges) || given.ranges.length === 0) throw validate.invalid('ranges must be a list of at least one range');
    const ranges = given.ranges.map((range) => {
      const { gpa, length } = validate.options(range as GpaRange, ['gpa', 'length'], 'a range');
      return { gpa: validate.address(gpa, 'gpa'), length: validate.size(length, 'length') };
    });
    const name = validate.text(given.name ?? (this.#ram.length === 0 ? 'ram' : `ram${this.#ram.length}`), 'name');
    this.#ram.push({ name, ranges, backing: given.backing ?? { kind: 'shared' } });
    return this;
  }

  /** Allocates and maps everything. Throws MemoryBuildError, and has then left nothing behind. */
  build(): GuestMemoryManager {
    const { x86LegacySupport = false, policy, record, debug, slotBudget } = this.#options;
    const maxAddress = validate.address(this.#options.maxAddress ?? 2 ** 40 - 1, 'maxAddress');
    const aliasMap = this.#options.vtl0AliasMap;
    const all = this.#ram.flatMap(({ ranges }) => ranges);
    checkDisjoint(all);
    if (validate.flag(x86LegacySupport, 'x86LegacySupport')) checkX86(all);
    const layouts = this.#ram.map((ram) => ({ ...ram, pieces: cutRam(ram.ranges, x86LegacySupport, maxAddress) }));
    if (aliasMap !== undefined) checkAliasMap(validate.address(aliasMap, 'vtl0AliasMap'), maxAddress);

    const undo: (() => void)[] = [];
    try {
      const map = new MemoryMap({ ...defined({ policy, record, debug }) });
      undo.push(() => map.close());
      const root = map.createRegion({ name: 'guest', kind: 'container', size: sum(maxAddress, 1) });
      const space = map.createAddressSpace({ name: 'guest', root });
      const va = map.attachVaSpace(space, { size: sum(maxAddress, 1) });
      const objects: MemoryObject[] = [];
      const ram: RamRegion[] = [];
      for (const { name, ranges, backing, pieces } of layouts) {
        const bytes = ranges.reduce((total, range) => sum(total, range.length), 0 as Address);
        const { object, isOwned } = openBacking(backing, name, bytes);
        if (isOwned) undo.push(() => object.close());
        if (isOwned) objects.push(object);
        map.transaction(() => ram.push(...placeRam(map, root, name, object, pieces)));
      }
      return new GuestMemoryManager({ map, root, space, va, ram, objects, ...defined({ aliasMap, slotBudget }) });
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw buildError(error);
    }
  }
}

function checkAliasMap(aliasMap: Address, maxAddress: Address): void {
  if (aliasMap > maxAddress && BigInt(aliasMap) + BigInt(maxAddress) <= BigInt(LAST_ADDRESS)) return;
  const message = `the VTL0 alias map at 0x${aliasMap.toString(16)} must lie above all that it shows, up to 0x${maxAddress.toString(16)}, and below 2^64`;
  throw new MemoryBuildError('ALIAS_MAP_MISFIT', message, { aliasMap, maxAddress });
}

/** Only what is given: `exactOptionalPropertyTypes` has no other way. */
function defined<T extends object>(values: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never;
}

function buildError(error: unknown): unknown {
  if (error instanceof MemoryBuildError) return error;
  if (error instanceof MembackingError && error.code === 'SYSTEM') {
    return new MemoryBuildError('ALLOCATION_FAILED', error.message, { ...error.details }, error.cause);
  }
  return error;
}
