// A partition without a hypervisor: it remembers what it was given, and fails when it is told to.

import { type Address, formatHex, WHOLE_SPACE } from '../core/address.ts';
import * as validate from '../core/validate.ts';
import type { MemorySlot, Partition, PartitionEvent } from '../sinks/partition.ts';
import type { GpaStretch } from '../sinks/sink.ts';

/** Options of a recording partition. */
export interface RecordingPartitionOptions {
  /** Name for messages. Default "recording". */
  readonly name?: string;
  /** Slots that it can have. Default 509. */
  readonly slotLimit?: number;
  /** Bytes. Default: any number. */
  readonly largestSlot?: Address;
  /** Pages that it keeps for itself. Default: none. */
  readonly keptPages?: readonly GpaStretch[];
  /** Whether access without execution can be expressed. Default true. */
  readonly canExecuteProtect?: boolean;
}

/** A call that a recording partition got, with the slot or event that it was given. */
export type RecordedEvent =
  | ({ readonly event: 'add' | 'delete' } & MemorySlot)
  | ({ readonly event: 'add-event' | 'remove-event' } & PartitionEvent)
  | { readonly event: 'pause' | 'resume' };

/** A partition for tests of monitors: it records what a real one would have been told, in order. */
export class RecordingPartition implements Partition {
  /** Name for messages. */
  readonly name: string;
  readonly slotLimit: number;
  readonly largestSlot: Address;
  readonly keptPages: readonly GpaStretch[];
  readonly canExecuteProtect: boolean;
  /** Everything that it was told. */
  readonly events: RecordedEvent[] = [];
  /** Slots that it has now, by number. */
  readonly slots = new Map<number, MemorySlot>();
  /** Events of the map that it has now. */
  readonly registered = new Set<PartitionEvent>();
  /** Slots and events that are still added or taken away before one is refused, once. */
  failAfter = Number.POSITIVE_INFINITY;

  /** Makes a partition that has no slots yet. Throws INVALID_ARGUMENT. */
  constructor(options?: RecordingPartitionOptions) {
    const known = ['name', 'slotLimit', 'largestSlot', 'keptPages', 'canExecuteProtect'] as const;
    const given = validate.options(options, known, 'RecordingPartition');
    this.name = validate.text(given.name ?? 'recording', 'name');
    this.slotLimit = validate.integer(given.slotLimit ?? 509, 'slotLimit', 1, 65536);
    this.largestSlot = validate.size(given.largestSlot ?? WHOLE_SPACE, 'largestSlot');
    this.keptPages = given.keptPages ?? [];
    this.canExecuteProtect = validate.flag(given.canExecuteProtect ?? true, 'canExecuteProtect');
  }

  addSlot(slot: MemorySlot): void {
    this.#step();
    if (this.slots.has(slot.slot)) throw new Error(`slot ${slot.slot} is there already`);
    const event: RecordedEvent = { event: 'add', ...slot };
    this.slots.set(slot.slot, slot);
    this.events.push(event);
  }

  deleteSlot(slot: MemorySlot): void {
    this.#step();
    const event: RecordedEvent = { event: 'delete', ...slot };
    if (!this.slots.delete(slot.slot)) throw new Error(`there is no slot ${slot.slot}`);
    this.events.push(event);
  }

  addEvent(given: PartitionEvent): void {
    this.#step();
    const event: RecordedEvent = { event: 'add-event', ...given };
    this.registered.add(given);
    this.events.push(event);
  }

  removeEvent(given: PartitionEvent): void {
    this.#step();
    const event: RecordedEvent = { event: 'remove-event', ...given };
    if (!this.registered.delete(given)) throw new Error(`there is no such event at ${formatHex(given.gpa)}`);
    this.events.push(event);
  }

  /** Records that vCPUs are held. */
  pause(): void {
    this.events.push({ event: 'pause' });
  }
  /** Records that vCPUs go on. */
  resume(): void {
    this.events.push({ event: 'resume' });
  }

  /** Counts a call, and fails the one that was chosen; the calls behind it, which take others back, succeed. */
  #step(): void {
    if (this.failAfter-- > 0) return;
    this.failAfter = Number.POSITIVE_INFINITY;
    throw new Error('told to fail');
  }
}
