// Partitions: virtual machines as the hypervisor knows them. A monitor may bring its own.

import type { AtOnce, MayPause } from '../apply/holding.ts';
import type { Address } from '../core/address.ts';
import type { Access, EventFacts } from '../core/kinds.ts';
import type { GpaStretch } from './sink.ts';

/** A memory slot as a hypervisor is given it. */
export interface MemorySlot {
  /** Number of the slot: free when it is added, from 0 up. */
  readonly slot: number;
  /** The partition's own GPA. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** Host-virtual address of the first byte. */
  readonly hva: bigint;
  /** Access of the guest: without `w`, writes are to exit. */
  readonly access: Access;
}

/** An event as a hypervisor is given it: the guest's writes there are not to exit. */
export interface PartitionEvent extends EventFacts {
  /** The partition's own GPA. */
  readonly gpa: Address;
  /** Descriptor of the eventfd that is to be signalled; undefined where writes are to be kept. It is the map's, and
   *  open until the event was removed. */
  readonly fd: number | undefined;
}

/** Limits and abilities of a partition, a monitor's own or KVM's. */
export interface PartitionFacts {
  /** Name for messages. */
  readonly name: string;
  /** Whether it can keep the guest from executing what it may read. Default false. */
  readonly canExecuteProtect?: boolean;
  /** Memory slots that it can have. */
  readonly slotLimit: number;
  /** Bytes that one slot can have: longer stretches of memory get several, cut where an address is a multiple of the
   *  largest power of two within this. At least a page. Default: any number. */
  readonly largestSlot?: Address;
  /** Pages, at the partition's own GPAs, that the hypervisor keeps for itself: no slot reaches into one. Read when it
   *  is first attached. Default: none. */
  readonly keptPages?: readonly GpaStretch[];
  /** Whether a memory slot that goes costs the guest the hypervisor's page tables of all others, which it then builds
   *  anew. For `inspect`. Default: nothing is said. */
  readonly zapsAllSlots?: boolean | undefined;
}

/** A monitor's own hypervisor. Its methods are not async: what they do is done when they return, and a promise fails
 *  the plan. They may throw: the plan is then taken back. They must not change the map. `pause` and `resume` (both or
 *  neither) hold its vCPUs around plans that would let them miss bytes; a `pause` that throws stops the change, a
 *  `resume` that throws is RESUME_FAILED after it; after a change that failed it is told with that error, as
 *  `details.resume`. */
export interface Partition extends PartitionFacts, MayPause {
  /** Gives the guest a memory slot. Its number is free, and it overlaps no other. */
  addSlot(slot: MemorySlot): AtOnce;
  /** Takes a memory slot away; the fields say what it was. */
  deleteSlot(slot: MemorySlot): AtOnce;
  /** Lets the guest's writes at a GPA signal an eventfd, or be kept for later, and not exit; with `removeEvent`, or
   *  neither: writes then exit, wherever the map has events. None that it has could be for the same write. */
  addEvent?(event: PartitionEvent): AtOnce;
  /** Lets them exit again; the fields say what it was. */
  removeEvent?(event: PartitionEvent): AtOnce;
  /** Takes all memory from the guest and stops it for good, because a slot could not be taken away: a guest that keeps
   *  access to memory which is used for something else is worse. It is given no slots any more. */
  shutDown?(): AtOnce;
}
