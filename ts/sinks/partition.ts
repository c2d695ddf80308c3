// Partitions: virtual machines as the hypervisor knows them. A monitor may bring its own.

import * as abi from '../../assembly/abi.ts';
import type { Executor, Pausable } from '../apply/runner.ts';
import { type Address, lastByte, lengthOf, sum } from '../core/address.ts';
import type { Core } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import { type Access, accessName, accessNumber } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import type { Context } from '../map/context.ts';
import type { AddressSpace } from '../map/space.ts';
import { renderSlots } from '../text/render.ts';
import { KvmPartition, vmOf } from './kvm.ts';
import { Sink } from './sink.ts';
import type { VaSpace } from './va-space.ts';
import { bytesOf, clipped, overlay, type Protection, protectionsOf, type Withheld } from './withheld.ts';

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

/** What every partition says of itself. `pause` and `resume` (both or neither) hold its vCPUs around plans that would
 *  let them miss bytes. A `pause` that throws stops the change; `resume` must not throw. */
export interface PartitionFacts extends Partial<Pausable> {
  readonly name: string;
  /** Whether it can keep the guest from executing what it may read. Default false. */
  readonly canExecuteProtect?: boolean;
  /** Memory slots that it can have. */
  readonly slotLimit: number;
}

/** A monitor's own hypervisor. Its methods may throw: the plan is then taken back. They must not change the map. */
export interface Partition extends PartitionFacts {
  addSlot(slot: MemorySlot): void;
  deleteSlot(slot: MemorySlot): void;
  /** Takes all memory from the guest and stops it for good, because a slot could not be taken away: a guest that keeps access
   *  to memory which is used for something else is worse. It is given no slots any more. */
  shutDown?(): void;
}

/** Throws INVALID_ARGUMENT, and CLOSED for one that is closed. */
export function checkedPartition(partition: unknown, context: Context): KvmPartition | Partition {
  if (partition instanceof KvmPartition) {
    partition.checkAttachable(context);
    return partition;
  }
  const { name, slotLimit, addSlot, deleteSlot, pause, resume } = (partition ?? {}) as Partial<Partition>;
  if (typeof addSlot !== 'function' || typeof deleteSlot !== 'function') {
    throw validate.invalid('a partition must be a KvmPartition or have the methods addSlot and deleteSlot');
  }
  if (typeof pause !== typeof resume || !['function', 'undefined'].includes(typeof pause)) {
    throw validate.invalid('a partition must have both the methods pause and resume, or neither');
  }
  validate.text(name, 'the name of the partition');
  validate.integer(slotLimit, 'slotLimit', 1, abi.MAX_SLOTS);
  return partition as Partition;
}

/** The attachments of partitions that are not this package's. Who still has such a partition has its memory too: a map that
 *  was dropped is not collected before it. */
const attachedTo = new WeakMap<Partition, Set<Attachment>>();

/** The commands of a plan, as calls. */
class PartitionExecutor implements Executor {
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

  /** A slot that was not added is not there; one that was not deleted is tried once more. */
  secure(core: Core, index: number): number {
    if (core.command(index).op === abi.OP_SLOT_ADD || this.execute(core, index, 1) === 1) return abi.SECURED_CLOSED;
    this.shutDown();
    return abi.SECURED_DOWN;
  }

  shutDown(): void {
    try {
      this.#partition.shutDown?.();
    } catch (error) {
      this.failure = error;
    }
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

/** What an attachment sees, and where. */
interface AttachmentPlace {
  readonly space: AddressSpace;
  readonly va: VaSpace;
  readonly gpaOffset: Address;
}

/** A partition's view of one address space. Closing it takes all its slots away; it is closed with the partition. */
export class Attachment extends Sink {
  readonly partition: PartitionFacts;
  readonly space: AddressSpace;
  readonly va: VaSpace;
  /** Added to a GPA of the address space to give the partition's own. */
  readonly gpaOffset: Address;
  /** What is kept from it for now. */
  #withheld: readonly Withheld[] = [];
  /** While something is withheld: the protections that it would have. */
  #asked: readonly Protection[] = [];

  /** @internal Made by MemoryMap. */
  constructor(context: Context, id: number, partition: KvmPartition | Partition, place: AttachmentPlace) {
    validate.madeBy('MemoryMap.attachPartition', partition);
    super(context, id, partition.name);
    const { space, va, gpaOffset } = place;
    this.partition = partition;
    this.space = space;
    this.va = va;
    this.gpaOffset = gpaOffset;
    // One object for all attachments of a partition: it is paused once.
    const pausable = partition.pause === undefined ? undefined : (partition as Pausable);
    const attached = { partition, pausable, va: va.id };
    if (partition instanceof KvmPartition) {
      partition.attachments.add(this);
      context.native.setPartition(id, vmOf(partition));
      this.connect(context.native, attached);
    } else {
      const others = attachedTo.get(partition) ?? new Set();
      attachedTo.set(partition, others.add(this));
      this.connect(new PartitionExecutor(partition, va.base), attached);
    }
  }

  protected override get what(): string {
    return `attachment of "${this.partition.name}"`;
  }

  /** The memory slots that it has, in order of GPA. Inside a transaction: before it. */
  slots(): AttachedSlot[] {
    this.checkOpen();
    return this.context.core.slots(this.id).map((row) => ({
      slot: row.kind,
      gpa: row.start,
      length: lengthOf(row.start, row.last),
      access: accessName(row.flags),
    }));
  }

  /** Whether its partition was shut down, because memory could not be taken away from it: it has no slots, and gets none. */
  get isShutDown(): boolean {
    this.checkOpen();
    return this.context.core.isDown(this.id);
  }

  /** @internal */
  override text(): string[] {
    return renderSlots(this.context.core, this.id, this.context.names);
  }

  /** Inside a transaction: it has no more access there until `giveBack`, whatever is protected. @internal */
  withhold(part: Withheld): void {
    const asked = this.#withheld.length === 0 ? protectionsOf(this.context.core, this.id) : this.#asked;
    this.#keep([...this.#withheld, part], asked);
    this.#apply(part);
  }

  /** @internal Nothing happens where it was not withheld. */
  giveBack(part: Withheld): void {
    if (!this.#withheld.includes(part)) return;
    const left = this.#withheld.filter((each) => each !== part);
    this.#keep(left, this.#asked);
    this.#apply(part);
  }

  protected override setAccess(start: Address, length: Address, access: Access): void {
    super.setAccess(start, length, access);
    if (this.#withheld.length === 0) return;
    const changed = { start, last: sum(start, lastByte(length)), access: accessNumber(access) };
    this.#keep(this.#withheld, overlay(this.#asked, changed));
    this.#apply(changed);
  }

  #keep(withheld: readonly Withheld[], asked: readonly Protection[]): void {
    const before = [this.#withheld, this.#asked] as const;
    [this.#withheld, this.#asked] = [withheld, asked];
    this.context.onUndo(() => {
      [this.#withheld, this.#asked] = before;
    });
  }

  /** In a range: of what was asked for, what is not withheld. */
  #apply({ start, last }: Pick<Protection, 'start' | 'last'>): void {
    let parts: readonly Protection[] = [{ start, last, access: abi.ACCESS_ALL }];
    for (const asked of clipped(this.#asked, { start, last })) parts = overlay(parts, asked);
    for (const { access, ...range } of clipped(this.#withheld, { start, last })) {
      for (const part of clipped(parts, range)) parts = overlay(parts, { ...part, access: part.access & access });
    }
    for (const part of parts) super.setAccess(part.start, bytesOf(part), accessName(part.access));
  }

  /** The partition is about to be closed. Throws IN_USE inside a transaction. @internal */
  letGo(): void {
    if (this.context.isBusy) {
      const message = `partition "${this.name}" cannot be closed inside a transaction of the map that it is attached to`;
      throw new MembackingError('IN_USE', message);
    }
    // A map that accepts no change any more loses its slots with the virtual machine.
    if (!this.context.isBroken) this.close();
  }

  protected override detached(): void {
    super.detached();
    this.context.partitions.leave(this.partition);
  }

  /** @internal */
  override discard(): void {
    super.discard();
    if (this.partition instanceof KvmPartition) this.partition.attachments.delete(this);
    else attachedTo.get(this.partition as Partition)!.delete(this);
  }
}
