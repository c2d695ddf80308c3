// VA spaces: host memory that mirrors an address space, stretch by stretch: HVA = base of the stretch + GPA.

import { GPA_BITS, SINK_VA } from '../../assembly/abi.ts';
import { LocalGuestMemory } from '../access/local-guest-memory.ts';
import type { LeaseContext, LeasedSpace } from '../access/local-lease.ts';
import { OwnWindows, type WindowContext } from '../access/own-windows.ts';
import type { MemoryObject } from '../asked/object.ts';
import type { AddressSpace } from '../asked/space.ts';
import { type Address, higher, lastByte, lengthOf, sum, toAddress } from '../core/address.ts';
import { STRETCHES, type StretchLimits } from '../core/core.ts';
import { type Access, accessName } from '../core/kinds.ts';
import { native, type Reservation } from '../core/native.ts';
import * as validate from '../core/validate.ts';
import { renderPieces } from '../text/render.ts';
import { Sink, type SinkContext } from './sink.ts';

/** A stretch of a VA space that shows one object. */
export interface VaPiece {
  /** First GPA. */
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

/** A stretch of a VA space: host addresses that follow each other as its GPAs do. */
export interface VaStretch {
  /** First GPA. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** HVA of the first byte. */
  readonly hva: bigint;
}

/** The memory behind a VA space. @internal */
export let memoryOf: (va: VaSpace) => LeasedSpace;

/** The map of a VA space. */
export type VaContext = SinkContext & WindowContext & LeaseContext;

/** Host addresses of this process that mirror an address space, stretch by stretch. The first stretch, from GPA 0 on,
 *  is there from the beginning: there, HVA = `base` + GPA. Behind it, others come with memory that is seen there,
 *  such as BARs at the top of the guest's addresses, and go with it. Closing it gives all back; it throws IN_USE
 *  while a partition uses them. */
export class VaSpace extends Sink {
  /** @internal */
  declare readonly context: VaContext;
  /** Bytes of the first stretch. */
  readonly size: Address;
  /** HVA of GPA 0. */
  readonly base: bigint;
  /** Number of stretches that it may have behind the first one. */
  readonly maxStretches: number;
  /** Bytes that those may have together. */
  readonly maxStretchBytes: Address;
  /** Guest memory through this VA space, to read and write. */
  readonly memory: LocalGuestMemory;
  /** @internal */
  readonly space: AddressSpace;
  readonly #memory: LeasedSpace;

  static {
    memoryOf = (va) => va.#memory;
  }

  /** @internal Made by MemoryMap. */
  constructor(
    context: VaContext,
    id: number,
    name: string,
    space: AddressSpace,
    reservation: Reservation,
    limits: StretchLimits,
  ) {
    super(context, id, name);
    this.space = space;
    this.maxStretches = limits.count;
    this.maxStretchBytes = limits.bytes;
    this.size = toAddress(reservation.size);
    this.base = reservation.base;
    const windows = new OwnWindows(context, [id], reservation);
    context.hold(reservation);
    this.#memory = { context, id, va: id, reservation, windows, whyGone: (gpa) => this.#whyGone(gpa) };
    this.memory = new LocalGuestMemory(this.what, this.#memory);
    this.connectToMachine(SINK_VA, reservation);
    context.leases.natively.watch(reservation, id, this.memory);
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

  /** The stretches that there are, in order of GPA. Inside a transaction: as they were before. */
  stretches(): VaStretch[] {
    this.checkOpen();
    const { reservation } = this.#memory;
    const others = this.context.core.stretches(this.id).map(({ start, last }) => ({
      gpa: start,
      length: lengthOf(start, last),
      hva: reservation.addressOf(start)!,
    }));
    return [{ gpa: 0, length: this.size, hva: this.base }, ...others];
  }

  /** HVA of a GPA; undefined where no stretch has it. Whether memory is there is another question. */
  hvaOf(gpa: Address): bigint | undefined {
    this.checkOpen();
    return this.#memory.reservation.addressOf(validate.address(gpa, 'gpa'));
  }

  /** @internal */
  override text(most?: number): string[] {
    return renderPieces(this.context.core, this.id, this.context.names, most);
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
    this.memory.use(undefined);
    closeSpace(this.context, this.#memory);
  }
}

/** End of the GPAs that a VA space can ever have. @internal */
export function reachOf({ size, maxStretches }: VaSpace): Address {
  return maxStretches === 0 ? size : higher(size, 2 ** GPA_BITS);
}

/** Has a VA space of `size` bytes mirror an address space, in the core and in the trace. Returns its number. Inside a
 *  transaction. Throws what `Core.attach` throws. @internal */
export function enterVa({ core, recorder }: SinkContext, space: number, size: Address, limits: StretchLimits): number {
  const id = core.attach(SINK_VA, space, { last: lastByte(size) });
  if (limits.count > 0) core.allowStretches(id, limits);
  recorder?.record({ op: 'va', id, space, size, ...stretchFields(limits) });
  return id;
}

/** Fields of a trace that say how many stretches a VA space may have: those that have not their usual values. */
function stretchFields({ count, bytes }: StretchLimits): { stretches?: number; stretchBytes?: Address } {
  if (count === 0) return {};
  return { stretches: count, ...(bytes === STRETCHES.bytes ? {} : { stretchBytes: bytes }) };
}

/** Gives back what is held of a VA space, or of a view of one. @internal */
export function closeSpace(context: VaContext, { reservation, windows }: LeasedSpace): void {
  windows.close();
  context.leases.natively.forget(reservation);
  context.letGo(reservation);
  reservation.close();
}
