// VA spaces: linear host memory that mirrors an address space, HVA = base + GPA.

import { SINK_VA } from '../../assembly/abi.ts';
import { GuestWindows, type WindowContext } from '../access/guest-window.ts';
import type { LeaseContext, LeasedSpace } from '../access/lease.ts';
import { LocalGuestMemory } from '../access/local-guest-memory.ts';
import { nativeOf } from '../apply/native-executor.ts';
import type { MemoryObject } from '../asked/object.ts';
import type { AddressSpace } from '../asked/space.ts';
import { type Address, lastByte, lengthOf, sum, toAddress } from '../core/address.ts';
import { type Access, accessName } from '../core/kinds.ts';
import { native, type Reservation } from '../core/native.ts';
import { renderPieces } from '../text/render.ts';
import { Sink, type SinkContext } from './sink.ts';

/** A stretch of a VA space that shows one object. */
export interface VaPiece {
  /** First GPA: its HVA is `VaSpace.base` more. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** Object that is shown. */
  readonly object: MemoryObject;
  /** Offset in the object of the piece's first byte. */
  readonly objectOffset: Address;
  /** Access of this process. */
  readonly access: Access;
}

/** The memory behind a VA space. @internal */
export let memoryOf: (va: VaSpace) => LeasedSpace;

/** The map of a VA space. */
export type VaContext = SinkContext & WindowContext & LeaseContext;

/** Host addresses of this process that mirror an address space: HVA = base + GPA. Closing it gives them back; it throws
 *  IN_USE while a partition uses them. */
export class VaSpace extends Sink {
  /** @internal */
  declare readonly context: VaContext;
  /** Bytes reserved: the GPAs below it can be mirrored. */
  readonly size: Address;
  /** HVA of GPA 0. */
  readonly base: bigint;
  /** Guest memory through this VA space, to read and write. */
  readonly memory: LocalGuestMemory;
  /** @internal */
  readonly space: AddressSpace;
  readonly #memory: LeasedSpace;

  static {
    memoryOf = (va) => va.#memory;
  }

  /** @internal Made by MemoryMap. */
  constructor(context: VaContext, id: number, name: string, space: AddressSpace, reservation: Reservation) {
    super(context, id, name);
    this.space = space;
    this.size = toAddress(reservation.size);
    this.base = reservation.base;
    const windows = new GuestWindows(context, [id], reservation);
    context.hold(reservation);
    this.#memory = { context, id, va: id, reservation, windows, whyGone: (gpa) => this.#whyGone(gpa) };
    this.memory = new LocalGuestMemory(this.what, this.#memory);
    const executor = nativeOf(context);
    this.connect(executor);
    executor.setSink(id, SINK_VA, reservation);
    context.leases.natively.watch(reservation, id);
  }

  protected override get what(): string {
    return `VA space "${this.name}"`;
  }

  /** Token for `WorkerGuestMemory.fromToken` in another thread of this process, to which it can be posted. Nobody
   *  guesses it; who has it reads and writes whatever this VA space shows. */
  get token(): bigint {
    this.checkOpen();
    return this.#memory.reservation.token;
  }

  /** Address of the functions by which native code of this process uses guest memory from any thread: `membacking.h`,
   *  found by `import.meta.resolve('membacking/membacking.h')`, says how. It opens this VA space by its `token`. */
  get nativeInterface(): bigint {
    this.checkOpen();
    return native().nativeInterface;
  }

  /** The pieces that are mapped, in order of GPA. Inside a transaction: as they were before. */
  pieces(): VaPiece[] {
    this.checkOpen();
    const { core, objects } = this.context;
    return core.sinkRows(this.id).map((row) => ({
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

  #whyGone(gpa: Address): string | undefined {
    const { core, objects } = this.context;
    if (core.isBroken) return undefined;
    const [part] = core.partsIn(this.id, gpa, gpa);
    if (part === undefined || part.start > gpa) return undefined;
    return objects.objectOf(part.id).whyMissing(sum(part.offset, lastByte(lengthOf(part.start, gpa))));
  }

  /** @internal */
  override discard(): void {
    super.discard();
    this.memory.end();
    closeSpace(this.context, this.#memory);
  }
}

/** Gives back what is held of a VA space, or of a view of one. @internal */
export function closeSpace(context: VaContext, { reservation, windows }: LeasedSpace): void {
  windows.close();
  context.leases.natively.forget(reservation);
  context.letGo(reservation);
  reservation.close();
}
