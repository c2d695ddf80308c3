// One trust level of a guest: what it may do with the guest's memory, and its own view of it.

import * as abi from '../../assembly/abi.ts';
import type { Change } from '../access/held-lease.ts';
import { LocalGuestMemory } from '../access/local-guest-memory.ts';
import type { AddressSpace } from '../asked/space.ts';
import { formatHex } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { type Access, accessName, accessNumber } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';
import type { Attachment } from '../sinks/attachment.ts';
import { memoryOf, type VaSpace } from '../sinks/va-space.ts';
import type { AttachedPartition } from './attached-partition.ts';
import { isPrivate } from './backing.ts';
import type { GpaRange } from './layout.ts';
import type { RamSpec } from './ram-options.ts';
import type { RamBlock, RamStore } from './ram-store.ts';
import { GuestMemoryClient, type Vtl, type VtlAccess, type VtlProtectionOptions } from './vtl.ts';
import { type VtlProtection, VtlProtections } from './vtl-protections.ts';

/** One trust level of a guest. */
export class VtlState {
  readonly vtl: Vtl;
  readonly client: GuestMemoryClient;
  readonly #map: MemoryMap;
  readonly #space: AddressSpace;
  readonly #store: RamStore;
  /** The view of who has no protections. */
  readonly #base: VaSpace;
  readonly #partitions = new Set<AttachedPartition>();
  readonly #protections = new VtlProtections();
  /** The level's own view, from the first protection to the last; for good, once other threads may have it. */
  #va: VaSpace | undefined;
  #isHandedOut = false;

  constructor(vtl: Vtl, map: MemoryMap, space: AddressSpace, store: RamStore, base: VaSpace) {
    this.vtl = vtl;
    this.#map = map;
    this.#space = space;
    this.#store = store;
    this.#base = base;
    const memory = new LocalGuestMemory(`guest memory of VTL${vtl}`, memoryOf(base));
    this.client = new GuestMemoryClient(vtl, memory, () => this.#handOut());
  }

  /** Protections in order of GPA. */
  get protections(): readonly VtlProtection[] {
    return this.#protections.all();
  }

  get partitions(): readonly AttachedPartition[] {
    return [...this.#partitions].filter(({ closed }) => !closed);
  }

  /** Leaves the trust level of the access to a range only `access`. */
  protect(range: GpaRange, access: VtlAccess, { nearest = false }: VtlProtectionOptions): void {
    const start = Number(range.gpa);
    const end = start + Number(range.length);
    const left = accessNumber(access);
    const added = { start, end, order: 0, access: left, nearest: validate.flag(nearest, 'nearest') };
    this.#checkPages(range, added);
    for (const { attachments } of this.partitions) checkExpressible(attachments[0]!, added);
    this.#map.transaction(() => {
      this.#announce(added);
      const isTakenBack = left === abi.ACCESS_ALL;
      if (!isTakenBack) this.#makeOwnView('a protection');
      this.#va?.protect({ ...range, access });
      for (const { attachments } of this.partitions) for (const each of attachments) protect(each, added);
      const protections = this.#protections;
      this.#map.context.onUndo(protections.mark());
      if (isTakenBack) protections.clear(added);
      else protections.set(added);
      if (protections.size === 0) this.#closeOwnView();
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
    this.#map.context.onUndo(() => this.#partitions.delete(partition));
    this.#partitions.add(partition);
    this.#map.context.onDone(() => {
      for (const each of this.#partitions) if (each.closed) this.#partitions.delete(each);
    });
  }

  /** Checks that the level can see RAM. Throws PRIVATE_TWICE. */
  checkRam({ ranges, backing }: RamSpec): void {
    if (this.#va === undefined || !isPrivate(backing)) return;
    const gpa = ranges[0]!.gpa;
    const message = `RAM at ${formatHex(gpa)} is private memory, which only one view can show, and VTL${this.vtl} has a view of its own, for its protections or its token: make it shared`;
    throw new MembackingError('PRIVATE_TWICE', message, { details: { gpa } });
  }

  /** Forgets protections of RAM, inside the transaction that takes it away. */
  forget({ ranges }: RamBlock): void {
    for (const range of ranges) {
      if (this.isProtected(range)) this.protect(range, 'rwx', {});
    }
  }

  /** Whether something of a range is protected. */
  isProtected({ gpa, length }: GpaRange): boolean {
    const start = Number(gpa);
    return this.#protections.overlaps({ start, end: start + Number(length) });
  }

  end(): void {
    this.client.memory.end();
  }

  /** The token of a view that is this level's alone. */
  #handOut(): bigint {
    if (!this.#isHandedOut) {
      this.#map.transaction(() => {
        this.#makeOwnView('a token');
        this.#map.context.onUndo(() => {
          this.#isHandedOut = false;
        });
        this.#isHandedOut = true;
      });
    }
    return this.#va!.token;
  }

  #makeOwnView(why: string): void {
    if (this.#va !== undefined) return;
    const hidden = this.#store.blocks.find(({ object }) => object.kind === 'private');
    if (hidden !== undefined) {
      const message = `${why} of VTL${this.vtl} needs a second view of all RAM, and "${hidden.name}" is private memory, which has only one: make it shared`;
      throw new MembackingError('PRIVATE_TWICE', message, { details: { name: hidden.name } });
    }
    this.#use(this.#map.attachVaSpace(this.#space, { name: `VTL${this.vtl}`, size: this.#base.size }));
  }

  /** Closes the level's own view, unless leases have been taken from it. */
  #closeOwnView(): void {
    const va = this.#va;
    if (va === undefined || this.#isHandedOut || this.#map.context.leases.isUsing(va.id)) return;
    this.#use(undefined);
    va.close();
  }

  #use(own: VaSpace | undefined): void {
    const before = this.#va;
    this.#map.context.onUndo(() => {
      this.#va = before;
      this.client.memory.use(memoryOf(before ?? this.#base));
    });
    this.#va = own;
    this.client.memory.use(memoryOf(own ?? this.#base));
  }

  #checkPages({ gpa, length }: GpaRange, { start, end }: VtlProtection): void {
    if (start % abi.PAGE_SIZE === 0 && end % abi.PAGE_SIZE === 0 && end <= this.#base.size) return;
    const given = `${formatHex(length)} bytes at ${formatHex(gpa)}`;
    throw validate.invalid(`a protection must be whole pages below ${formatHex(this.#base.size)}, not ${given}`);
  }

  /** Tells leases of a protection that their plan does not show: those taken before the level had a view of its own
   *  lie in another view. */
  #announce({ start, end, access }: VtlProtection): void {
    const { context } = this.#map;
    if (context.leases.isEmpty) return;
    const { announced } = context.leases;
    const change: Change = {
      of: this.client.memory,
      ...{ start, end, left: access },
      concerns: (attachment) =>
        this.partitions.some(({ attachments }) => attachments.some((own) => own === attachment)),
    };
    const withdraw = () => announced.delete(change);
    context.onUndo(withdraw);
    context.onDone(withdraw);
    announced.add(change);
  }
}

function protect(attachment: Attachment, { start, end, access }: VtlProtection): void {
  const left = accessName(nearestAccess(attachment, access));
  attachment.protect({ gpa: start, length: end - start, access: left });
}

/** The nearest access that a hypervisor can do: without execute control, read permission is permission to execute. */
function nearestAccess({ partition }: Attachment, access: number): number {
  if (partition.canExecuteProtect === true || (access & abi.ACCESS_READ) === 0) return access;
  return access | abi.ACCESS_EXECUTE;
}

/** Checks that a partition can be kept from executing where that is asked. Throws EXECUTE_CONTROL. */
function checkExpressible(attachment: Attachment, { start, access, nearest }: VtlProtection): void {
  const possible = nearestAccess(attachment, access);
  if (possible === access || nearest) return;
  const words: readonly Access[] = [accessName(access), accessName(possible)];
  const message = `partition "${attachment.partition.name}" cannot keep the guest from executing what it reads: at ${formatHex(start)}, "${words[0]}" would be "${words[1]}"; ask for that, or accept it with { nearest: true }`;
  throw new MembackingError('EXECUTE_CONTROL', message, { details: { access: words[0], nearest: words[1] } });
}
