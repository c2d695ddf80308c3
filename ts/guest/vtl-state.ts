// One trust level of a guest: what it may do with the guest's memory, and its own view of it.

import * as abi from '../../assembly/abi.ts';
import type { Change } from '../access/held-lease.ts';
import { LocalGuestMemory } from '../access/local-guest-memory.ts';
import { type Address, formatHex, isPageAligned, LAST_ADDRESS, lengthOf, lower, sum } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { accessName, accessNumber } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';
import type { Attachment } from '../sinks/attachment.ts';
import type { Sink } from '../sinks/sink.ts';
import { memoryOf, reachOf, type VaSpace } from '../sinks/va-space.ts';
import { type GuestView, memoryOfView } from '../sinks/view.ts';
import type { AttachedPartition } from './attached-partition.ts';
import { type GpaRange, lastOf } from './layout.ts';
import type { RamBlock } from './ram-store.ts';
import { Sharing } from './sharing.ts';
import { GuestMemoryClient, type Vtl, type VtlAccess, type VtlProtectionOptions } from './vtl.ts';

/** Protection of a trust level. */
interface VtlProtection {
  readonly gpa: number;
  /** Bytes. */
  readonly length: number;
  /** Access that is left. */
  readonly access: VtlAccess;
  /** Whether the nearest that a hypervisor can do will do. */
  readonly nearest: boolean;
}

/** One trust level of a guest. */
export class VtlState {
  readonly vtl: Vtl;
  readonly client: GuestMemoryClient;
  readonly sharing: Sharing;
  readonly #map: MemoryMap;
  /** The memory that levels without protections see. */
  readonly #base: VaSpace;
  readonly #end: Address;
  readonly #partitions = new Set<AttachedPartition>();
  /** The level's own view, from its first protection or token on: the core keeps the level's protections with it. */
  #view: GuestView | undefined;

  /** `maxAddress`: the highest GPA that can be protected. */
  constructor(vtl: Vtl, map: MemoryMap, base: VaSpace, maxAddress: Address) {
    this.vtl = vtl;
    this.#end = lower(reachOf(base), sum(maxAddress, 1));
    this.#map = map;
    this.#base = base;
    const memory = new LocalGuestMemory(`guest memory of VTL${vtl}`, memoryOf(base));
    const token = () => this.#ownView().token;
    const enter = (sink: Sink) => this.#enterSink(sink);
    this.sharing = new Sharing({ map, va: base, memory, token, enter, watch: (view) => this.#watch(view) });
    this.client = new GuestMemoryClient(vtl, memory, { token, sharing: this.sharing });
  }

  /** Protections in order of GPA. */
  get protections(): readonly VtlProtection[] {
    return this.#protectionsIn(0, LAST_ADDRESS);
  }

  get partitions(): readonly AttachedPartition[] {
    return [...this.#partitions].filter(({ closed }) => !closed);
  }

  /** Leaves the trust level of the access to a range only `access`. */
  protect(range: GpaRange, access: VtlAccess, { nearest = false }: VtlProtectionOptions): void {
    const [gpa, length] = [Number(range.gpa), Number(range.length)];
    const isTakenBack = access === 'rwx';
    const added = { gpa, length, access, nearest: validate.flag(nearest, 'nearest') && !isTakenBack };
    this.#checkPages(range);
    for (const { attachments } of this.partitions) checkExpressible(attachments[0]!, added);
    if (isTakenBack && this.#view === undefined) return;
    this.#map.transaction(() => {
      this.#announce(added);
      this.sharing.protect(gpa, length, access);
      this.#ownView().setAccess(gpa, length, access, added.nearest);
      for (const { attachments } of this.partitions) for (const each of attachments) protect(each, added);
    });
  }

  /** Enters a partition, inside the transaction that attached it. Throws EXECUTE_CONTROL. */
  enter(partition: AttachedPartition): void {
    for (const attachment of partition.attachments) {
      for (const protection of this.protections) {
        checkExpressible(attachment, protection);
        protect(attachment, protection);
      }
    }
    this.#partitions.add(partition);
    this.#map.context.onUndo(() => this.#partitions.delete(partition));
    this.#map.context.onDone(() => {
      for (const each of this.#partitions) if (each.closed) this.#partitions.delete(each);
    });
  }

  /** Forgets protections of RAM, inside the transaction that takes it away. */
  forget({ ranges }: RamBlock): void {
    for (const range of ranges) {
      if (this.isProtected(range)) this.protect(range, 'rwx', {});
    }
  }

  /** Whether something of a range is protected. */
  isProtected(range: GpaRange): boolean {
    return this.#protectionsIn(range.gpa, lastOf(range)).length > 0;
  }

  #watch(view: GuestView): void {
    const { reservation, va } = memoryOfView(view);
    this.#map.context.leases.natively.watch(reservation, va, this.client.memory);
  }

  #enterSink(sink: Sink): void {
    for (const { gpa, length, access } of this.protections) sink.setAccess(gpa, length, access);
  }

  end(): void {
    this.client.memory.use(undefined);
  }

  #protectionsIn(first: Address, last: Address): VtlProtection[] {
    if (this.#view === undefined) return [];
    return this.#map.context.core.protections(this.#view.id, first, last).map((row) => ({
      gpa: Number(row.start),
      length: Number(lengthOf(row.start, row.last)),
      access: accessName(row.flags) as VtlAccess,
      nearest: (row.flags & abi.ACCESS_NEAREST) !== 0,
    }));
  }

  #ownView(): GuestView {
    if (this.#view !== undefined) return this.#view;
    return this.#map.transaction(() => {
      const view = this.#map.attachView(this.#base, `VTL${this.vtl}`);
      const seen = memoryOfView(view);
      this.#view = view;
      this.client.memory.use(seen);
      this.#watch(view);
      this.#map.context.onUndo(() => {
        this.#view = undefined;
        this.client.memory.use(memoryOf(this.#base));
      });
      return view;
    });
  }

  #checkPages({ gpa, length }: GpaRange): void {
    if (isPageAligned(gpa) && isPageAligned(length) && sum(gpa, length) <= this.#end) return;
    const given = `${formatHex(length)} bytes at ${formatHex(gpa)}`;
    throw validate.invalid(`a protection must be whole pages below ${formatHex(this.#end)}, not ${given}`);
  }

  /** Tells leases of a protection: they are held of the VA space, which other levels see too. */
  #announce({ gpa, length, access }: VtlProtection): void {
    const { context } = this.#map;
    if (context.leases.isEmpty) return;
    const { announced } = context.leases;
    const change: Change = {
      of: this.client.memory,
      ...{ start: gpa, end: gpa + length, left: accessNumber(access) },
      concerns: (attachment) =>
        this.partitions.some(({ attachments }) => attachments.some((own) => own === attachment)),
    };
    const withdraw = () => announced.delete(change);
    context.onUndo(withdraw);
    context.onDone(withdraw);
    announced.add(change);
  }
}

function protect(attachment: Attachment, { gpa, length, access }: VtlProtection): void {
  attachment.protect({ gpa, length, access: nearestAccess(attachment, access) });
}

/** The nearest access that a hypervisor can do: without execute control, read permission is permission to execute. */
function nearestAccess({ partition }: Attachment, access: VtlAccess): VtlAccess {
  if (partition.canExecuteProtect === true || !access.includes('r') || access.includes('x')) return access;
  return `${access as 'r' | 'rw'}x`;
}

/** Checks that a partition can be kept from executing where that is asked. Throws EXECUTE_CONTROL. */
function checkExpressible(attachment: Attachment, { gpa, access, nearest }: VtlProtection): void {
  const possible = nearestAccess(attachment, access);
  if (possible === access || nearest) return;
  const message = `partition "${attachment.partition.name}" cannot keep the guest from executing what it reads: at ${formatHex(gpa)}, "${access}" would be "${possible}"; ask for that, or accept it with { nearest: true }`;
  throw new MembackingError('EXECUTE_CONTROL', message, { details: { access, nearest: possible } });
}
