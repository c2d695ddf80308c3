// Guest memory in the thread that owns the map.

import { inspect } from 'node:util';
import type { Address } from '../core/address.ts';
import * as validate from '../core/validate.ts';
import { absentParts } from './absent-parts.ts';
import { exact } from './guest-access.ts';
import type { LeaseFacts } from './held-lease.ts';
import type { Lease } from './lease.ts';
import { type LeasedSpace, LocalLease } from './local-lease.ts';
import { inParts, sourceOf, WindowedMemory } from './windowed-memory.ts';

/** Bytes of a read of which the system is asked first what is in memory: that takes a fiftieth of it. */
const LARGE = 2 ** 22;

/** Guest memory of this thread's map. Devices that are to run in any thread take a `GuestMemory` instead. */
export class LocalGuestMemory extends WindowedMemory {
  /** @internal Made by VaSpace: `what` it is, for messages. */
  constructor(what: string, space: LeasedSpace) {
    validate.madeBy('MemoryMap.attachVaSpace, as `memory`', space);
    super(what, space);
  }

  /** Fills `into`. Of RAM that nobody has touched, a read of 4 MiB and more makes nothing resident. Throws
   *  GUEST_ACCESS; the bytes before its `details.gpa` are read; CLOSED, INVALID_ARGUMENT. */
  override read(gpa: Address, into: Uint8Array): void {
    if (into?.length >= LARGE) inParts(exact(gpa, 'read'), validate.bytes(into, 'into'), LARGE, this.#readSparsely);
    else super.read(gpa, into);
  }

  /** Reads what is in memory, and from its file what is not. */
  readonly #readSparsely = (gpa: number, into: Uint8Array): void => {
    let done = 0;
    for (const part of absentParts(sourceOf<LeasedSpace>(this), gpa, into.length)) {
      const start = part.gpa - gpa;
      super.read(gpa + done, into.subarray(done, start));
      part.object.read(part.offset, into.subarray(start, start + part.length));
      done = start + part.length;
    }
    super.read(gpa + done, into.subarray(done));
  };

  protected lease(facts: LeaseFacts): Lease {
    return LocalLease.take(sourceOf<LeasedSpace>(this), this, facts);
  }

  /** Text for console.log and util.inspect. */
  override [inspect.custom](): string {
    return `memory of ${super[inspect.custom]()}`;
  }
}
