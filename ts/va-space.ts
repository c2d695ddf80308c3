// VA spaces: linear host memory that mirrors an address space, HVA = base + GPA.

import { type Address, lengthOf, toAddress } from './address.ts';
import type { Context } from './context.ts';
import { GuestMemory } from './guest-memory.ts';
import { GuestWindows } from './guest-window.ts';
import { type Access, accessName } from './kinds.ts';
import type { Reservation } from './native.ts';
import type { MemoryObject } from './object.ts';
import { renderPieces } from './render.ts';
import { Sink } from './sink.ts';
import type { AddressSpace } from './space.ts';

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
    context.windows.add(this.windows);
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
    this.context.windows.delete(this.windows);
    this.reservation.close();
  }
}
