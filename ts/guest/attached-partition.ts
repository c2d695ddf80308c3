// A partition that sees the guest's memory, as one virtual trust level does.

import type { AddressSpace } from '../asked/space.ts';
import { type Address, LAST_ADDRESS, sum } from '../core/address.ts';
import { Handle } from '../core/handle.ts';
import type { MemoryMap } from '../map/map.ts';
import type { Attachment } from '../sinks/attachment.ts';
import type { KvmPartition } from '../sinks/kvm.ts';
import type { Partition } from '../sinks/partition.ts';
import type { VaSpace } from '../sinks/va-space.ts';
import { PartitionAttachError } from './errors.ts';
import type { Vtl } from './vtl.ts';

/** The guest memory that partitions are attached to. */
interface Memory {
  readonly map: MemoryMap;
  readonly space: AddressSpace;
  readonly va: VaSpace;
  readonly aliasMap: Address | undefined;
  readonly slotBudget: number | undefined;
}

/** The trust level that partitions run at. */
interface Level {
  readonly vtl: Vtl;
  /** Enters a partition, inside the transaction that attached it. Throws EXECUTE_CONTROL. */
  enter(partition: AttachedPartition): void;
}

/** One partition's part in the guest's memory. Closing it takes all its slots away. */
export class AttachedPartition extends Handle {
  /** Trust level whose view it has. */
  readonly vtl: Vtl;
  /** The attachments to the guest's address space: its own, then the VTL0 alias map. */
  readonly attachments: readonly Attachment[];
  readonly #map: MemoryMap;

  /** @internal */
  constructor(map: MemoryMap, vtl: Vtl, attachments: readonly Attachment[]) {
    super();
    this.#map = map;
    this.vtl = vtl;
    this.attachments = attachments;
  }

  protected override get what(): string {
    return `partition "${this.attachments[0]!.partition.name}"`;
  }

  /** Whether its partition or the manager is closed: it ends with either. */
  override get closed(): boolean {
    return super.closed || this.attachments[0]!.closed;
  }

  protected override release(): void {
    this.#map.transaction(() => {
      for (const attachment of this.attachments) attachment.close();
      this.#map.context.onUndo(() => this.setClosed(false));
    });
  }
}

/** Attaches a partition to the guest's memory at a trust level. Throws PartitionAttachError. */
export function attach(memory: Memory, partition: KvmPartition | Partition, level: Level): AttachedPartition {
  const { vtl } = level;
  const { map, space, va, aliasMap, slotBudget } = memory;
  const options = { space, va, ...(slotBudget === undefined ? {} : { slotLimit: slotBudget }) };
  const alias = vtl === 2 ? aliasMap : undefined;
  try {
    return map.transaction(() => {
      const lastGpa = alias === undefined ? LAST_ADDRESS : sum(alias, -1n);
      const attachments = [map.attachPartition(partition, { ...options, lastGpa })];
      if (alias !== undefined) attachments.push(map.attachPartition(partition, { ...options, gpaOffset: alias }));
      const attached = new AttachedPartition(map, vtl, attachments);
      map.context.onUndo(() => attached.setClosed(true));
      level.enter(attached);
      return attached;
    });
  } catch (cause) {
    const message = `partition "${partition?.name}" could not be attached: ${(cause as Error).message}`;
    throw new PartitionAttachError(message, cause);
  }
}
