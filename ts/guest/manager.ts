// The guest memory of one virtual machine: RAM, devices, the partitions that see them.

import { type Address, LAST_ADDRESS, sum } from '../address.ts';
import { Handle } from '../handle.ts';
import type { KvmPartition } from '../kvm.ts';
import type { MemoryMap } from '../map.ts';
import type { MemoryObject } from '../object.ts';
import { SharedMemory } from '../object.ts';
import type { Attachment, Partition } from '../partition.ts';
import type { Region } from '../region.ts';
import type { AddressSpace } from '../space.ts';
import * as validate from '../validate.ts';
import type { VaSpace } from '../va-space.ts';
import type { GuestMemory } from '../guest-memory.ts';
import { DeviceMemoryMapper } from './device.ts';
import { PartitionAttachError } from './errors.ts';
import { type RamRegion, RamVisibilityControl } from './ram.ts';
import { SharedMemoryBacking } from './shared-backing.ts';

/** Virtual trust levels: 0 is the guest, 2 what watches over it. */
export const VTLS = [0, 2] as const;
export type Vtl = (typeof VTLS)[number];

/** @internal */
export interface GuestMemoryParts {
  readonly map: MemoryMap;
  readonly root: Region;
  readonly space: AddressSpace;
  readonly va: VaSpace;
  readonly ram: RamRegion[];
  /** Memory that ends with the manager. */
  readonly objects: MemoryObject[];
  readonly aliasMap?: Address;
  readonly slotBudget?: number;
}

/** One partition's part in the guest's memory. Closing it takes all its slots away. */
export class AttachedPartition extends Handle {
  readonly vtl: Vtl;
  readonly #attachments: readonly Attachment[];
  readonly #map: MemoryMap;

  /** @internal */
  constructor(map: MemoryMap, vtl: Vtl, attachments: readonly Attachment[]) {
    super();
    this.#map = map;
    this.vtl = vtl;
    this.#attachments = attachments;
  }

  protected override get what(): string {
    return `partition "${this.#attachments[0]!.partition.name}"`;
  }

  /** The attachments to the guest's address space: its own, then the VTL0 alias map. */
  get attachments(): readonly Attachment[] {
    return this.#attachments;
  }

  protected override release(): void {
    if (this.#map.closed) return;
    this.#map.transaction(() => {
      for (const attachment of this.#attachments) attachment.close();
    });
  }
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
    this.ramVisibility = new RamVisibilityControl(parts.map, parts.ram);
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
    const vtl = validate.options(options, ['vtl'], 'attachPartition').vtl ?? 0;
    if (!VTLS.includes(vtl)) throw validate.invalid(`vtl must be one of ${VTLS.join(', ')}`);
    const { map, space, va, aliasMap } = this.#parts;
    const alias = vtl === 2 ? aliasMap : undefined;
    try {
      return map.transaction(() => {
        const lastGpa = alias === undefined ? LAST_ADDRESS : sum(alias, -1n);
        const attachments = [map.attachPartition(partition, { space, va, lastGpa })];
        if (alias !== undefined) attachments.push(map.attachPartition(partition, { space, va, gpaOffset: alias }));
        return new AttachedPartition(map, vtl, attachments);
      });
    } catch (cause) {
      throw new PartitionAttachError(`partition "${partition?.name}" could not be attached: ${(cause as Error).message}`, cause);
    }
  }

  /** The shared RAM, to be kept when this manager is closed, and handed to the next one. */
  sharedMemory(): SharedMemoryBacking {
    this.checkOpen();
    const shared = this.#parts.objects.filter((object): object is SharedMemory => object instanceof SharedMemory);
    return SharedMemoryBacking.fromParts(shared.map(({ name, fd, size }) => ({ name, fd, size })));
  }

  protected override release(): void {
    this.map.close();
    for (const object of this.#parts.objects) object.close();
  }
}
