// Guest memory in the thread that owns the map, and leases of it.

import { inspect } from 'node:util';
import type { Address } from '../core/address.ts';
import * as validate from '../core/validate.ts';
import { exact } from './guest-access.ts';
import { LEASE_MODES, type LeaseMode } from './held-lease.ts';
import { Lease, type LeasedSpace } from './lease.ts';
import { sourceOf, WindowedMemory } from './windowed-memory.ts';

/** A stretch of guest memory that is to be leased. */
export interface LeaseRange {
  /** First GPA. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
}

/** Options of `LocalGuestMemory.lock`. */
export interface LeaseOptions {
  /** Name of the user, for those who must wait. */
  readonly holder: string;
}

/** Guest memory of this thread's map. Devices that are to run in any thread take a `GuestMemory` instead. */
export class LocalGuestMemory extends WindowedMemory {
  /** @internal Made by VaSpace: `what` it is, for messages. */
  constructor(what: string, space: LeasedSpace) {
    validate.madeBy('MemoryMap.attachVaSpace, as `memory`', space);
    super(what, space);
  }

  /** Holds on to a stretch of memory that is mapped now with that access: it stays so until the lease is released.
   *  Throws GUEST_ACCESS where it is not, LEASED where it is about to change. */
  lock(range: LeaseRange, mode: LeaseMode, options: LeaseOptions): Lease {
    const { gpa, length } = validate.options(range, ['gpa', 'length'], 'a range to lock');
    const { holder } = validate.options(options, ['holder'], 'lock');
    const facts = {
      gpa: exact(gpa, 'lock'),
      length: validate.integer(Number(validate.length(length, 'length')), 'length', 1, Number.MAX_SAFE_INTEGER),
      mode: validate.oneOf(LEASE_MODES, mode, 'mode'),
      holder: validate.text(holder, 'holder'),
    };
    return new Lease(sourceOf<LeasedSpace>(this), this, facts);
  }

  /** Text for console.log and util.inspect. */
  override [inspect.custom](): string {
    return `memory of ${super[inspect.custom]()}`;
  }
}
