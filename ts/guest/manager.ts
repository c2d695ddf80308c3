// The guest memory of one virtual machine: RAM, devices, the partitions that see them.

import type { Address } from '../address.ts';
import type { GuestMemory } from '../guest-memory.ts';
import { Handle } from '../handle.ts';
import type { KvmPartition } from '../kvm.ts';
import type { MemoryMap } from '../map.ts';
import { SharedMemory } from '../object.ts';
import type { Partition } from '../partition.ts';
import type { Region } from '../region.ts';
import type { AddressSpace } from '../space.ts';
import type { VaSpace } from '../va-space.ts';
import * as validate from '../validate.ts';
import { type AttachedPartition, attach } from './attached-partition.ts';
import { DeviceMemoryMapper } from './device.ts';
import { RamVisibilityControl } from './ram.ts';
import { checkedRam, type RamOptions } from './ram-options.ts';
import type { RamBlock, RamStore } from './ram-store.ts';
import { SharedMemoryBacking } from './shared-backing.ts';
import { VTLS, type Vtl } from './vtl.ts';

/** @internal */
export interface GuestMemoryParts {
  readonly map: MemoryMap;
  readonly root: Region;
  readonly space: AddressSpace;
  readonly va: VaSpace;
  readonly store: RamStore;
  readonly maxAddress: Address;
  readonly aliasMap: Address | undefined;
  readonly slotBudget: number | undefined;
}

export class GuestMemoryManager extends Handle {
  /** What all is made of, for what this class has no method for. */
  readonly map: MemoryMap;
  /** The container of everything that the guest sees. */
  readonly root: Region;
  readonly space: AddressSpace;
  readonly va: VaSpace;
  readonly ramVisibility: RamVisibilityControl;
  readonly deviceMapper: DeviceMemoryMapper;
  readonly #parts: GuestMemoryParts;

  /** @internal Made by GuestMemoryBuilder. */
  constructor(parts: GuestMemoryParts) {
    super();
    this.#parts = parts;
    this.map = parts.map;
    this.root = parts.root;
    this.space = parts.space;
    this.va = parts.va;
    this.ramVisibility = new RamVisibilityControl(parts.map, () => parts.store.pieces);
    this.deviceMapper = new DeviceMemoryMapper(parts.map, parts.root);
  }

  protected override get what(): string {
    return 'the guest memory manager';
  }

  /** Guest memory as the monitor reads and writes it. */
  get guestMemory(): GuestMemory {
    this.checkOpen();
    return this.va.memory;
  }

  /** Shows the guest's memory to a partition, as VTL0 or VTL2 sees it. Throws PartitionAttachError: it has then been given
   *  nothing. */
  attachPartition(partition: KvmPartition | Partition, options?: { readonly vtl?: Vtl }): AttachedPartition {
    this.checkOpen();
    const { vtl = 0 } = validate.options(options, ['vtl'], 'attachPartition');
    if (!VTLS.includes(vtl)) throw validate.invalid(`vtl must be one of ${VTLS.join(', ')}`);
    return attach(this.#parts, partition, vtl);
  }

  /** RAM that comes while the guest runs, below `maxAddress`. Throws MemoryBuildError and what the map refuses, and has
   *  then left nothing. */
  addRam(options: RamOptions): AddedRam {
    this.checkOpen();
    const { store } = this.#parts;
    return new AddedRam(this.map, store, store.add(checkedRam(options, `ram${store.blocks.length}`)));
  }

  /** The shared RAM, to be kept when this manager is closed, and handed to the next one. */
  sharedMemory(): SharedMemoryBacking {
    this.checkOpen();
    const shared = this.#parts.store.blocks.filter(({ object }) => object instanceof SharedMemory);
    return SharedMemoryBacking.fromParts(
      shared.map(({ name, object }) => ({ name, fd: (object as SharedMemory).fd, size: object.size })),
    );
  }

  protected override release(): void {
    this.map.close();
    this.deviceMapper.close();
    this.#parts.store.close();
  }
}

/** RAM that was added while the guest ran. Closing it takes it from the guest and gives it back: ask the guest before. */
export class AddedRam extends Handle {
  readonly #map: MemoryMap;
  readonly #store: RamStore;
  readonly #block: RamBlock;

  /** @internal Made by GuestMemoryManager. */
  constructor(map: MemoryMap, store: RamStore, block: RamBlock) {
    super();
    this.#map = map;
    this.#store = store;
    this.#block = block;
  }

  protected override get what(): string {
    return `RAM "${this.name}"`;
  }

  get name(): string {
    return this.#block.name;
  }

  /** The same as `close`. */
  remove(): void {
    this.close();
  }

  protected override release(): void {
    if (this.#map.closed) return;
    this.#store.remove(this.#block);
    // Taken back with the transaction that it may be in.
    if (this.#map.context.core.open > 0) this.#map.context.onUndo(() => this.setClosed(false));
  }
}
