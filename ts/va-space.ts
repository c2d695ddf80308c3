// VA spaces: linear host memory that mirrors an address space, HVA = base + GPA.

import { type Address, lengthOf, toAddress } from './address.ts';
import type { Context } from './context.ts';
import type { Row } from './core.ts';
import { GuestMemory } from './guest-memory.ts';
import { Handle } from './handle.ts';
import { type Access, accessName } from './kinds.ts';
import type { Reservation } from './native.ts';
import type { MemoryObject } from './object.ts';
import type { ObjectTable } from './object-table.ts';
import { protectSink, type ProtectOptions } from './protection.ts';
import * as validate from './validate.ts';

/** A stretch of a VA space that shows one object. */
export interface VaPiece {
  readonly gpa: Address;
  readonly length: Address;
  readonly object: MemoryObject;
  readonly objectOffset: Address;
  readonly access: Access;
}

export class VaSpace extends Handle {
  readonly name: string;
  /** Bytes reserved: the GPAs below it can be mirrored. */
  readonly size: Address;
  /** HVA of GPA 0. */
  readonly base: bigint;
  /** What is in it, to read and write. */
  readonly memory: GuestMemory;
  /** @internal */
  readonly id: number;
  readonly #context: Context;
  readonly #objects: ObjectTable;
  readonly #reservation: Reservation;

  /** @internal Made by MemoryMap. */
  constructor(context: Context, objects: ObjectTable, id: number, name: string, reservation: Reservation) {
    super();
    this.#context = context;
    this.#objects = objects;
    this.#reservation = reservation;
    this.id = id;
    this.name = name;
    this.size = toAddress(reservation.size);
    this.base = reservation.base;
    this.memory = new GuestMemory(reservation);
  }

  protected override get what(): string {
    return `VA space "${this.name}"`;
  }

  /** @internal Throws CLOSED, and INVALID_ARGUMENT for one of another map. */
  idIn(context: Context): number {
    this.checkOpen();
    context.checkOpen();
    if (this.#context !== context) throw validate.invalid(`${this.what} belongs to another memory map`);
    return this.id;
  }

  /** What is mapped, in order of GPA. */
  pieces(): VaPiece[] {
    return this.#context.core.pieces(this.idIn(this.#context)).map((row: Row) => ({
      gpa: row.start,
      length: lengthOf(row.start, row.last),
      object: this.#objects.objectOf(row.id),
      objectOffset: row.offset,
      access: accessName(row.flags),
    }));
  }

  /** Leaves of the access to a range only what `access` says; `rwx` takes that back. Throws UNALIGNED, BAD_RANGE. */
  protect(options: ProtectOptions): void {
    const id = this.idIn(this.#context);
    protectSink(options, this.#context, id);
  }

  /** Takes everything out of it, and gives the address space back. Throws IN_USE while a partition uses its HVAs. */
  protected override release(): void {
    const context = this.#context;
    if (context.closed) {
      this.#reservation.close();
      return;
    }
    context.perform(() => {
      context.core.detach(this.id);
      context.recorder?.record({ op: 'detach', id: this.id });
      context.onUndo(() => this.setClosed(false));
      context.onDone(() => this.discard());
    });
  }

  /** @internal The sink is gone from the core, or never came. */
  discard(): void {
    this.#context.runner.disconnect(this.id);
    this.#context.native.clearSink(this.id);
    this.#context.names.sinks.delete(this.id);
    this.#reservation.close();
  }
}
