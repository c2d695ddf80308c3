// Guest memory in the thread that owns the map.

import { inspect } from 'node:util';
import * as validate from '../core/validate.ts';
import { type AbsentPart, absentParts } from './absent-parts.ts';
import type { LeaseFacts } from './held-lease.ts';
import type { Lease } from './lease.ts';
import { type LeasedSpace, LocalLease } from './local-lease.ts';
import { sourceOf, WindowedMemory } from './windowed-memory.ts';

/** Guest memory of this thread's map. Devices that are to run in any thread take a `GuestMemory` instead. */
export class LocalGuestMemory extends WindowedMemory {
  /** @internal Made by VaSpace: `what` it is, for messages. */
  constructor(what: string, space: LeasedSpace) {
    validate.madeBy('MemoryMap.attachVaSpace, as `memory`', space);
    super(what, space);
  }

  /** @internal */
  protected override absentParts(gpa: number, length: number): AbsentPart[] {
    return absentParts(sourceOf<LeasedSpace>(this), gpa, length);
  }

  protected lease(facts: LeaseFacts): Lease {
    return LocalLease.take(sourceOf<LeasedSpace>(this), this, facts);
  }

  /** Text for console.log and util.inspect. */
  override [inspect.custom](): string {
    return `memory of ${super[inspect.custom]()}`;
  }
}
