// VA spaces: linear host memory that mirrors an address space, HVA = base + GPA.

import { GuestMemory } from '../access/guest-memory.ts';
import { GuestWindows } from '../access/guest-window.ts';
import { type Address, lengthOf, toAddress } from '../core/address.ts';
import { type Access, accessName } from '../core/kinds.ts';
import type { Reservation } from '../core/native.ts';
import type { Context } from '../map/context.ts';
import type { MemoryObject } from '../map/object.ts';
import type { AddressSpace } from '../map/space.ts';
import { renderPieces } from '../text/render.ts';
import { Sink } from './sink.ts';

/** A stretch of a VA space that shows one object. */
export interface VaPiece {
  readonly gpa: Address;
  readonly length: Address;
  readonly object: MemoryObject;
  readonly objectOffset: Address;
  readonly access: Access;
}

/** Closing it gives the address space back; it throws IN_USE while a partition uses its HVAs. */
export class VaSpace extends Sink {
  /** Bytes reserved: the GPAs below it can be mirrored. */
  readonly size: Address;
  /** HVA of GPA 0. */
  readonly base: bigint;
  /** What is in it, to read and write. */
  readonly memory: GuestMemory;
  /** @internal */
  readonly space: AddressSpace;
  /** @internal */
  readonly reservation: Reservation;
  /** @internal */
  readonly windows: GuestWindows;

  /** @internal Made by MemoryMap. */
  constructor(context: Context, id: number, name: string, space: AddressSpace, reservation: Reservation) {
    super(context, id, name);
    this.space = space;
    this.reservation = reservation;
    this.size = toAddress(reservation.size);
    this.base = reservation.base;
    this.windows = new GuestWindows(context, id, reservation);
    context.holdings.add(reservation);
    this.memory = new GuestMemory(this.what, this);
    context.native.setVaSpace(id, reservation);
    this.connect(context.native);
  }

  protected override get what(): string {
    return `VA space "${this.name}"`;
  }

  /** For `WorkerGuestMemory.fromToken` in another thread of this process: a number, which can be posted there. */
  get token(): number {
    this.checkOpen();
    return this.reservation.token;
  }

  /** What is mapped, in order of GPA. Inside a transaction: before it. */
  pieces(): VaPiece[] {
    this.checkOpen();
    const { core, objects } = this.context;
    return core.pieces(this.id).map((row) => ({
      gpa: row.start,
      length: lengthOf(row.start, row.last),
      object: objects.objectOf(row.id),
      objectOffset: row.offset,
      access: accessName(row.flags),
    }));
  }

  /** @internal */
  override text(): string[] {
    return renderPieces(this.context.core, this.id, this.context.names);
  }

  /** @internal */
  override discard(): void {
    super.discard();
    this.memory.end();
    this.windows.close();
    this.context.holdings.delete(this.reservation);
    this.reservation.close();
  }
}
