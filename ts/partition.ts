// Partitions: virtual machines as the hypervisor knows them. A monitor may bring its own.

import * as abi from '../assembly/abi.ts';
import { type Address, lengthOf } from './address.ts';
import type { Executor, Pausable } from './apply.ts';
import type { Context } from './context.ts';
import type { Core } from './core.ts';
import { Handle } from './handle.ts';
import { type Access, accessName } from './kinds.ts';
import { protectSink, type ProtectOptions } from './protection.ts';
import type { VaSpace } from './va-space.ts';

/** A memory slot as a hypervisor is given it. */
export interface MemorySlot {
  readonly slot: number;
  /** The partition's own GPA. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** Host-virtual address of the first byte. */
  readonly hva: bigint;
  readonly access: Access;
}

/** What every partition says of itself. `pause` and `resume` hold its vCPUs around plans that would let them miss bytes. */
export interface PartitionFacts extends Partial<Pausable> {
  readonly name: string;
  /** Memory slots that it can have. */
  readonly slotLimit: number;
}

/** A monitor's own hypervisor. Its methods may throw: the plan is then taken back. */
export interface Partition extends PartitionFacts {
  addSlot(slot: MemorySlot): void;
  deleteSlot(slot: MemorySlot): void;
}

/** The commands of a plan, as calls. @internal */
export class PartitionExecutor implements Executor {
  readonly #partition: Partition;
  readonly #base: bigint;
  failure: unknown;

  constructor(partition: Partition, base: bigint) {
    this.#partition = partition;
    this.#base = base;
  }

  execute(core: Core, first: number, count: number): number {
    for (let done = 0; done < count; done++) {
      const { op, slot, gpa, length, offset, access } = core.command(first + done);
      const facts = { slot, gpa, length, hva: this.#base + BigInt(offset), access: accessName(access) };
      try {
        if (op === abi.OP_SLOT_ADD) this.#partition.addSlot(facts);
        else this.#partition.deleteSlot(facts);
      } catch (error) {
        this.failure = error;
        return done;
      }
    }
    return count;
  }
}

/** A slot that a partition has now. */
export interface AttachedSlot {
  readonly slot: number;
  /** GPA in the address space: without the attachment's offset. */
  readonly gpa: Address;
  readonly length: Address;
  readonly access: Access;
}

/** A partition's view of one address space. Closing it takes all its slots away. */
export class Attachment extends Handle {
  readonly partition: PartitionFacts;
  readonly va: VaSpace;
  /** Added to a GPA of the address space to give the partition's own. */
  readonly gpaOffset: Address;
  /** @internal */
  readonly id: number;
  readonly #context: Context;
  readonly #onGone: (undone: boolean) => void;

  /** @internal Made by MemoryMap. */
  constructor(context: Context, id: number, partition: PartitionFacts, va: VaSpace, gpaOffset: Address, onGone: (undone: boolean) => void) {
    super();
    this.#context = context;
    this.#onGone = onGone;
    this.id = id;
    this.partition = partition;
    this.va = va;
    this.gpaOffset = gpaOffset;
  }

  protected override get what(): string {
    return `attachment of "${this.partition.name}"`;
  }

  /** The memory slots that it has, in order of GPA. */
  slots(): AttachedSlot[] {
    this.#checkUsable();
    return this.#context.core.slots(this.id).map((row) => ({
      slot: row.kind,
      gpa: row.start,
      length: lengthOf(row.start, row.last),
      access: accessName(row.flags),
    }));
  }

  /** Leaves of the partition's access to a range only what `access` says; `rwx` takes that back. Throws UNALIGNED,
   *  BAD_RANGE, NO_SLOTS. */
  protect(options: ProtectOptions): void {
    this.#checkUsable();
    protectSink(options, this.#context, this.id);
  }

  #checkUsable(): void {
    this.#context.checkOpen();
    this.checkOpen();
  }

  protected override release(): void {
    const context = this.#context;
    if (context.closed) return;
    context.perform(() => {
      context.core.detach(this.id);
      context.recorder?.record({ op: 'detach', id: this.id });
      context.onUndo(() => this.setClosed(false));
      context.onDone(() => this.discard(false));
    });
  }

  /** @internal The sink is gone from the core; `undone`: it never came. */
  discard(undone: boolean): void {
    this.#context.runner.disconnect(this.id);
    this.#context.names.sinks.delete(this.id);
    this.#onGone(undone);
  }
}
