// Virtual trust levels, and the guest's memory as one of them sees it.

import type { LocalGuestMemory } from '../access/local-guest-memory.ts';
import { type GuestMemoryTicket, OpenedClient, type OpenOptions } from '../access/opened-client.ts';
import type { ShareOptions, Sharing } from './sharing.ts';

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

/** A trust level, as far as its client needs it. */
interface ClientLevel {
  token(): bigint;
  readonly sharing: Sharing;
}

/** The guest's memory as one trust level sees it, for devices: there is no way to change the map in it. It stays in its
 *  thread: `structuredClone` and `postMessage` throw a DataCloneError of the runtime's; a ticket is what is posted. */
export class GuestMemoryClient {
  /** Trust level. */
  readonly vtl: Vtl;
  /** Guest memory of this level: one object as long as the manager is open, whatever is protected meanwhile. */
  readonly memory: LocalGuestMemory;
  readonly #level: ClientLevel;

  /** @internal */
  constructor(vtl: Vtl, memory: LocalGuestMemory, level: ClientLevel) {
    this.vtl = vtl;
    this.memory = memory;
    this.#level = level;
  }

  /** Opens guest memory that another thread or process has shared, by its ticket or, in another process, by the
   *  descriptor of it that was inherited, which stays the caller's, or by the path of its socket. Rejects with CLOSED
   *  where there is no such memory any more, VERSION_MISMATCH where the manager's package is another one, SYSTEM (with
   *  EACCES where it is not for this process, or the manager is another user's), NOT_SHARED. */
  static open(ticket: GuestMemoryTicket | number | string, options?: OpenOptions): Promise<OpenedClient> {
    return OpenedClient.open(ticket, options);
  }

  /** A ticket to this memory for another thread, or for one other process, or for all that come to a path: it follows
   *  every change of the map, and of the level's protections, until its client ends, `unshare` or the manager's end. A
   *  change is complete when every client has confirmed it. Throws NOT_SHARED where private memory is in it, IN_USE
   *  inside a transaction, CLOSED; SYSTEM with EADDRINUSE where something else is at the path. */
  share(options?: ShareOptions): GuestMemoryTicket {
    return this.#level.sharing.share(options);
  }

  /** Takes a ticket back: whoever has come with it, or to its path, has nothing any more. Throws IN_USE inside a
   *  transaction, and where a thread of this process has leased memory through it; LEASED where another process
   *  has. */
  unshare(ticket: GuestMemoryTicket): void {
    this.#level.sharing.unshare(ticket);
  }

  /** Token for `WorkerGuestMemory.fromToken` in another thread of this process, to which it can be posted: the guest's
   *  memory as this trust level sees it, now and whatever is protected later. Nobody guesses it. Throws
   *  CLOSED. */
  get token(): bigint {
    return this.#level.token();
  }
}
