// Virtual trust levels, and the guest's memory as one of them sees it.

import type { LocalGuestMemory } from '../access/local-guest-memory.ts';

/** Virtual trust levels: 0 is the guest, 2 what watches over it. */
export const VTLS = [0, 2] as const;
/** Number of a virtual trust level. */
export type Vtl = (typeof VTLS)[number];

/** Kinds of access that a trust level may be left. */
export const VTL_ACCESSES = ['none', 'r', 'rw', 'rx', 'rwx'] as const;
/** Access that a trust level is left of a range. */
export type VtlAccess = (typeof VTL_ACCESSES)[number];

/** Options of `GuestMemoryManager.setVtlProtection`. */
export interface VtlProtectionOptions {
  /** Whether a hypervisor that cannot keep the guest from executing may let it. Default false. */
  readonly nearest?: boolean;
}

/** The guest's memory as one trust level sees it, for devices: there is no way to change the map in it. It stays in its
 *  thread: `structuredClone` and `postMessage` throw a DataCloneError of the runtime's; `token` is what is posted. */
export class GuestMemoryClient {
  /** Trust level. */
  readonly vtl: Vtl;
  /** Guest memory of this level: one object as long as the manager is open, whatever is protected meanwhile. */
  readonly memory: LocalGuestMemory;
  readonly #token: () => bigint;

  /** @internal */
  constructor(vtl: Vtl, memory: LocalGuestMemory, token: () => bigint) {
    this.vtl = vtl;
    this.memory = memory;
    this.#token = token;
  }

  /** Token for `WorkerGuestMemory.fromToken` in another thread of this process, to which it can be posted: the guest's
   *  memory as this trust level sees it, now and whatever is protected later. Nobody guesses it. Throws
   *  CLOSED. */
  get token(): bigint {
    return this.#token();
  }
}
