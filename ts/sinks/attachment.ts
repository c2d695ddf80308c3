// Attachments: partitions as sinks, which are given memory slots for what an address space shows.

import * as abi from '../../assembly/abi.ts';
import type { Pausable } from '../apply/holding.ts';
import type { EventContext } from '../asked/event.ts';
import type { AddressSpace } from '../asked/space.ts';
import { type Address, formatHex, lengthOf } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { type Access, accessName, type EventFacts, eventFacts } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import { renderSlots } from '../text/render.ts';
import { canHaveEvents, EventSink } from './events.ts';
import { KvmPartition, vmOf } from './kvm.ts';
import type { Partition } from './partition.ts';
import { PartitionExecutor } from './partition-executor.ts';
import type { PartitionTable } from './partition-table.ts';
import { type GpaStretch, Sink, type SinkContext } from './sink.ts';
import { Unpausable } from './unpausable.ts';
import { memoryOf, type VaSpace } from './va-space.ts';
import { partsWithin, type Withheld } from './withheld.ts';

/** The map of an attachment. */
export interface AttachmentContext extends SinkContext, EventContext {
  readonly partitions: PartitionTable;
}

/** Checks a partition that is to be attached. Throws INVALID_ARGUMENT, and CLOSED for one that is closed. */
export function checkedPartition(partition: unknown, context: AttachmentContext): KvmPartition | Partition {
  if (partition instanceof KvmPartition) {
    partition.checkAttachable(context);
    return partition;
  }
  const given = (partition ?? {}) as Partial<Partition>;
  const { name, slotLimit, largestSlot, keptPages, zapsAllSlots, addSlot, deleteSlot, pause, resume } = given;
  const { addEvent, removeEvent } = given;
  if (typeof addSlot !== 'function' || typeof deleteSlot !== 'function') {
    throw validate.invalid('a partition must be a KvmPartition or have the methods addSlot and deleteSlot');
  }
  validate.allOrNone({ pause, resume }, 'a partition must have both the methods');
  validate.allOrNone({ addEvent, removeEvent }, 'a partition must have both the methods');
  validate.text(name, 'the name of the partition');
  validate.integer(slotLimit, 'slotLimit', 1, abi.MAX_SLOTS);
  if (largestSlot !== undefined) checkLargestSlot(largestSlot);
  if (keptPages !== undefined) checkKeptPages(keptPages);
  if (zapsAllSlots !== undefined) validate.flag(zapsAllSlots, 'zapsAllSlots');
  return partition as Partition;
}

/** Checks the largest slot that a partition says it can have. Throws INVALID_ARGUMENT. */
function checkLargestSlot(bytes: Address): void {
  if (validate.size(bytes, 'largestSlot') >= abi.PAGE_SIZE) return;
  throw validate.invalid(`largestSlot must be at least a page of 0x1000 bytes, not ${formatHex(bytes)}`);
}

/** Checks the pages that a partition says it keeps. Throws INVALID_ARGUMENT. */
function checkKeptPages(pages: readonly GpaStretch[]): void {
  if (!Array.isArray(pages)) throw validate.invalid('keptPages must be a list');
  for (const { gpa, length } of pages as Partial<GpaStretch>[]) {
    validate.address(gpa, 'gpa of keptPages');
    validate.length(length, 'length of keptPages');
  }
}

/** The attachments of partitions that are not this package's. Who still has such a partition has its memory too: a map
 *  that was dropped is not collected before it. */
const attachedTo = new WeakMap<Partition, Set<Attachment>>();

/** Stand-ins for partitions that cannot be held. */
const unpausables = new WeakMap<object, Pausable>();

function pausableOf(partition: KvmPartition | Partition): Pausable {
  if (partition.pause !== undefined) return partition as Pausable;
  const pausable = unpausables.get(partition) ?? new Unpausable(partition.name);
  unpausables.set(partition, pausable);
  return pausable;
}

/** A slot that a partition has now. */
export interface AttachedSlot {
  /** Number of the slot. */
  readonly slot: number;
  /** GPA in the address space: without the attachment's offset. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** Access of the guest. */
  readonly access: Access;
}

/** An event that a partition has now. */
export interface AttachedEvent extends EventFacts {
  /** GPA in the address space: without the attachment's offset. */
  readonly gpa: Address;
}

/** Place of an attachment: what it sees, and where. */
interface AttachmentPlace {
  readonly space: AddressSpace;
  readonly va: VaSpace;
  readonly gpaOffset: Address;
  readonly lastGpa: Address;
}

/** A partition's view of one address space. Closing it takes all its slots away; it is closed with the partition. */
export class Attachment extends Sink {
  /** @internal */
  declare readonly context: AttachmentContext;
  /** Partition that has the slots. */
  readonly partition: KvmPartition | Partition;
  /** Address space that it sees. */
  readonly space: AddressSpace;
  /** VA space whose host addresses the slots use. */
  readonly va: VaSpace;
  /** Offset that is added to a GPA of the address space to give the partition's own. */
  readonly gpaOffset: Address;
  /** Last GPA of the partition's own that it can be given. @internal */
  readonly lastGpa: Address;
  /** Sink of its events, where the map has had some. */
  #events: EventSink | undefined;

  /** @internal Made by MemoryMap. */
  constructor(context: AttachmentContext, id: number, partition: KvmPartition | Partition, place: AttachmentPlace) {
    validate.madeBy('MemoryMap.attachPartition', partition);
    super(context, id, partition.name);
    const { space, va, gpaOffset, lastGpa } = place;
    this.partition = partition;
    this.space = space;
    this.va = va;
    this.gpaOffset = gpaOffset;
    this.lastGpa = lastGpa;
    // One object for all attachments of a partition: it is paused once.
    const attached = { partition, pausable: pausableOf(partition), va: va.id };
    if (partition instanceof KvmPartition) {
      this.connectToMachine(abi.SINK_PARTITION, vmOf(partition), attached);
      partition.attachments.add(this);
    } else {
      this.connect(new PartitionExecutor(partition, (gpa) => memoryOf(va).reservation.addressOf(gpa)), attached);
      const others = attachedTo.get(partition) ?? new Set();
      attachedTo.set(partition, others.add(this));
    }
  }

  protected override get what(): string {
    return `attachment of "${this.partition.name}"`;
  }

  /** The memory slots that it has, in order of GPA. Inside a transaction: before it. */
  slots(): AttachedSlot[] {
    this.checkOpen();
    return this.context.core.sinkRows(this.id).map((row) => ({
      slot: row.kind,
      gpa: row.start,
      length: lengthOf(row.start, row.last),
      access: accessName(row.flags),
    }));
  }

  /** Number of its slots beyond the fewest that show the same: a slot that was cut stays cut when what hid a part of it
   *  goes, until its partition runs short of slots. Inside a transaction: before it. Throws CLOSED, NO_MEMORY. */
  get slotSplits(): number {
    this.checkOpen();
    return this.context.core.slotSplits(this.id);
  }

  /** The events that its partition has, in order of GPA. Inside a transaction: before it. */
  events(): AttachedEvent[] {
    this.checkOpen();
    const rows = this.#events === undefined ? [] : this.context.core.sinkEvents(this.#events.id);
    return rows.map(({ flags, start, last, match }) => ({
      gpa: start,
      ...eventFacts(flags, lengthOf(start, last), match),
    }));
  }

  /** Gives its partition the events that it sees, from now on, if it can be told of them. Inside a transaction.
   *  @internal */
  prepareEvents(): void {
    if (this.#events !== undefined || this.closed || !canHaveEvents(this.partition)) return;
    this.context.onUndo(() => {
      this.#events = undefined;
    });
    this.#events = EventSink.attach(this.context, this);
  }

  /** Whether its partition was shut down, because memory could not be taken away from it: it has no slots, and gets
   *  none. */
  get isShutDown(): boolean {
    this.checkOpen();
    return this.context.core.isDown(this.id);
  }

  /** @internal */
  override text(most?: number): string[] {
    return renderSlots(this.context.core, this.id, this.context.names, most);
  }

  /** Keeps a range from the guest, whatever is protected, until `giveBack`. Inside a transaction. @internal */
  withhold({ start, last, access }: Withheld): void {
    this.withholdRange(start, lengthOf(start, last), accessName(access));
  }

  /** Ends what was withheld in a range, but for what `others` withhold there. Inside a transaction. @internal */
  giveBack(part: Withheld, others: Iterable<Withheld>): void {
    this.giveBackRange(part.start, lengthOf(part.start, part.last));
    for (const other of partsWithin(others, part)) if (other.concerns(this)) this.withhold(other);
  }

  /** The hypervisor is about to take pages of the partition for itself, or has not taken them. Throws IN_USE inside a
   *  transaction. @internal */
  keep(pages: GpaStretch, kept: boolean): void {
    this.#checkIdle('take pages for itself');
    this.context.partitions.keep(this.partition, pages, kept);
  }

  /** The partition is about to be closed. Throws IN_USE inside a transaction. @internal */
  letGo(): void {
    this.#checkIdle('be closed');
    // A map that accepts no change any more loses its slots with the virtual machine.
    if (!this.context.isBroken) this.close();
  }

  #checkIdle(what: string): void {
    const message = `partition "${this.name}" cannot ${what} inside a transaction of the map that it is attached to`;
    this.context.checkIdle(() => new MembackingError('IN_USE', message));
  }

  protected override release(): void {
    this.context.transaction(() => {
      this.#events?.close();
      super.release();
    });
  }

  protected override detached(): void {
    super.detached();
    this.context.partitions.leave(this.partition);
  }

  /** @internal */
  override discard(): void {
    this.#events?.discard();
    super.discard();
    if (this.partition instanceof KvmPartition) this.partition.attachments.delete(this);
    else attachedTo.get(this.partition)?.delete(this);
  }
}
