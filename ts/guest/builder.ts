// Building guest memory: what RAM there is, where it lies, what it is made of.

import type { Duplex, Readable } from 'node:stream';
import { type Address, isPageAligned, LAST_ADDRESS, lower, sum } from '../core/address.ts';
import { STRETCHES } from '../core/core.ts';
import { POLICIES, type Policy } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import { MemoryMap } from '../map/map.ts';
import type { TraceOutput } from '../trace/recorder.ts';
import { GuestMemoryManager, type RestoredGuest } from './manager.ts';
import { checkedPrefetch, type PrefetchOptions } from './pages.ts';
import type { GuestMemoryParts } from './parts.ts';
import { checkedRam, type RamOptions, type RamSpec } from './ram-options.ts';
import { checkLayout, inBuildErrors, type RamLimits, RamStore } from './ram-store.ts';
import { forkMaker, type RestoreOptions, restore } from './restore.ts';
import { migrateIn } from './restore-stream.ts';

/** Options of a guest's memory. */
export interface GuestMemoryOptions {
  /** The highest GPA that RAM and devices may have: what is placed above is not seen. Whole pages less one. Default:
   *  the last before `vtl0AliasMap`, or 2^64 - 1; memory ends with 2^52 - 1. */
  readonly maxAddress?: Address;
  /** Stretches of this process's addresses that there may be behind RAM's, for RAM and device regions that lie there: a
   *  bound of what a guest does by moving its BARs. Default 256. */
  readonly maxStretches?: number;
  /** Bytes of addresses that those stretches have together at most. Default 16 TiB. */
  readonly maxStretchBytes?: Address;
  /** GPA from which VTL2 sees all of VTL0's memory again; above `maxAddress`, a multiple of the page size. Default:
   *  nowhere. */
  readonly vtl0AliasMap?: Address;
  /** Cuts RAM where legacy x86 chipsets switch it, and demands low RAM. Default false. */
  readonly x86LegacySupport?: boolean;
  /** Keeps all RAM resident, for devices that reach it past the CPU. Default false. */
  readonly pinMappings?: boolean;
  /** Policy for overlaps of regions. Default `layered`. */
  readonly policy?: Policy;
  /** Slots that each partition may be given at most. Default: what its hypervisor has. */
  readonly slotBudget?: number;
  /** Takes a trace of everything that happens. */
  readonly record?: TraceOutput;
  /** Checks every invariant around every step: slow, for tests. */
  readonly debug?: boolean;
}

const OPTIONS = [
  ...(['maxAddress', 'maxStretches', 'maxStretchBytes', 'vtl0AliasMap'] as const),
  ...(['x86LegacySupport', 'pinMappings'] as const),
  ...(['policy', 'slotBudget', 'record', 'debug'] as const),
] as const;
/** Bytes that the VA space's first stretch has at least: those of a PC's BARs too. */
const LEAST_STRETCH = 2 ** 32;
/** RAM that begins there or above has stretches of its own. */
const FAR = 2 ** 40;

/** Builder of a guest's memory: made once, filled with RAM, built as often as one likes. */
export class GuestMemoryBuilder {
  readonly #limits: RamLimits;
  readonly #stretches: { readonly maxStretches: number; readonly maxStretchBytes: Address };
  readonly #slotBudget: number | undefined;
  readonly #mapOptions: Pick<GuestMemoryOptions, 'policy' | 'record' | 'debug'>;
  readonly #ram: RamSpec[] = [];

  /** Checks options, and makes nothing yet. Throws INVALID_ARGUMENT. */
  constructor(options?: GuestMemoryOptions) {
    const given = validate.options(options, OPTIONS, 'GuestMemoryBuilder');
    const aliasMap =
      given.vtl0AliasMap === undefined ? undefined : validate.address(given.vtl0AliasMap, 'vtl0AliasMap');
    const highest = aliasMap === undefined || aliasMap === 0 ? LAST_ADDRESS : sum(aliasMap, -1n);
    this.#limits = {
      maxAddress: validate.address(given.maxAddress ?? highest, 'maxAddress'),
      x86LegacySupport: validate.flag(given.x86LegacySupport ?? false, 'x86LegacySupport'),
      pinMappings: validate.flag(given.pinMappings ?? false, 'pinMappings'),
      aliasMap,
    };
    if (!isPageAligned(sum(this.#limits.maxAddress, 1))) {
      throw validate.invalid('maxAddress must be the last byte of a page of 0x1000 bytes');
    }
    const { maxStretches, maxStretchBytes } = given;
    this.#stretches = {
      maxStretches: validate.integer(maxStretches ?? STRETCHES.count, 'maxStretches', 0, 65536),
      maxStretchBytes: validate.address(maxStretchBytes ?? STRETCHES.bytes, 'maxStretchBytes'),
    };
    this.#slotBudget =
      given.slotBudget === undefined ? undefined : validate.integer(given.slotBudget, 'slotBudget', 1, 65536);
    const { record, debug = false } = given;
    if (record !== undefined && typeof record?.write !== 'function') {
      throw validate.invalid('record must have a method write(text)');
    }
    this.#mapOptions = {
      policy: validate.oneOf(POLICIES, given.policy ?? 'layered', 'policy'),
      debug: validate.flag(debug, 'debug'),
      ...(record === undefined ? {} : { record }),
    };
  }

  /** RAM of one backing. Nothing is allocated before `build`. */
  addRam(options: RamOptions): this {
    this.#ram.push(checkedRam(options));
    return this;
  }

  /** Allocates and maps everything. Throws MemoryBuildError, and has then left nothing behind. */
  build(): GuestMemoryManager {
    const parts = this.#begin();
    try {
      parts.store.add(this.#ram);
      return new GuestMemoryManager(parts, forkMaker(begin));
    } catch (error) {
      abandon(parts);
      throw error;
    }
  }

  /** `build` that prefetches RAM: it is resident when the promise settles. Rejects with ABORTED too. */
  async buildAsync(options?: PrefetchOptions): Promise<GuestMemoryManager> {
    const checked = checkedPrefetch(options, 'buildAsync');
    const parts = this.#begin();
    try {
      await parts.store.addAsync(this.#ram, checked);
      return new GuestMemoryManager(parts, forkMaker(begin));
    } catch (error) {
      abandon(parts);
      throw error;
    }
  }

  /** A guest of the snapshot in a folder or a stream, as it was: with an ordinary manager, and no partitions. What
   *  follows a snapshot in its stream stays there. Rejects with SNAPSHOT_LAYOUT, SNAPSHOT_VERSION, SNAPSHOT_DAMAGED,
   *  SNAPSHOT_BASE; with ABORTED, STREAM_FAILED, SYSTEM, and what `build` throws where this machine has not what it
   *  takes. Nothing is left then. */
  static async fromSnapshot(source: string | Readable, options?: RestoreOptions): Promise<RestoredGuest> {
    return restore(source, options, begin);
  }

  /** A guest that `GuestMemoryManager.migrateOut` sends through the other end of a stream, which stays open; when the
   *  promise is fulfilled, it is this side's alone. Huge pages stay whole where this machine has them. Throws as
   *  `fromSnapshot` does: nothing is left then, and the guest goes on where it was. The caller then ends the stream, so
   *  that the other side knows. */
  static async migrateIn(stream: Duplex, options?: Omit<RestoreOptions, 'mode'>): Promise<RestoredGuest> {
    return migrateIn(stream, options, begin);
  }

  /** Everything but RAM. */
  #begin(): GuestMemoryParts {
    const { maxAddress, aliasMap } = this.#limits;
    checkLayout(this.#ram, this.#limits);
    const map = new MemoryMap(this.#mapOptions);
    try {
      const root = map.createRegion({ name: 'guest', kind: 'container', size: sum(maxAddress, 1) });
      const space = map.createAddressSpace({ name: 'guest', root });
      const options = { name: 'guest', size: firstStretch(this.#ram, maxAddress), ...this.#stretches };
      const va = inBuildErrors(() => map.attachVaSpace(space, options));
      const store = new RamStore(map, root, va, this.#limits);
      return { map, root, space, va, store, maxAddress, aliasMap, slotBudget: this.#slotBudget };
    } catch (error) {
      map.close();
      throw error;
    }
  }
}

function begin(options: GuestMemoryOptions): GuestMemoryBuilder {
  return new GuestMemoryBuilder(options);
}

/** Bytes of addresses that mirror RAM, as one stretch: twice as many as there must be at most. */
function firstStretch(ram: readonly RamSpec[], maxAddress: Address): Address {
  const near = ram.flatMap(({ ranges }) => ranges).filter(({ gpa }) => gpa < FAR);
  let size = LEAST_STRETCH;
  for (const range of near) while (sum(range.gpa, range.length) > size) size *= 2;
  return lower(size, sum(maxAddress, 1));
}

function abandon({ map, store }: GuestMemoryParts): void {
  map.close();
  store.close();
}
