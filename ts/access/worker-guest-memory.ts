// Guest memory in another thread than the one that changes the map.

import { native } from '../core/native.ts';
import { systemError } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import type { LeaseFacts } from './held-lease.ts';
import type { Lease } from './lease.ts';
import { ThreadWindows } from './thread-windows.ts';
import { type MemorySource, sourceOf, WindowedMemory } from './windowed-memory.ts';
import { WorkerLease } from './worker-lease.ts';

const WHAT = 'the guest memory of another thread';

/** The memory behind the guest memory of this thread. */
interface WorkerSource extends MemorySource {
  readonly windows: ThreadWindows;
  /** Holder of the last lock of the reservation. */
  holder: string | undefined;
}

/** Guest memory of a VA space of another thread. Each access is of what is mapped when it is made, mostly in place as
 *  in the VA space's own thread. It throws GUEST_ACCESS where nothing is: everywhere, when the VA space has been
 *  closed. Until this is closed too, its addresses stay reserved. Leases end with it, or with their thread. */
export class WorkerGuestMemory extends WindowedMemory implements Disposable {
  /** Leases that have a view. */
  readonly #viewed = new Set<WorkerLease>();

  private constructor(source: WorkerSource) {
    validate.madeBy('WorkerGuestMemory.fromToken', source);
    super(WHAT, source);
  }

  /** The memory of the VA space, or of the trust level's client, with that `token`. Throws CLOSED where it is not there
   *  any more. */
  static fromToken(token: bigint): WorkerGuestMemory {
    const checked = validate.u64(token, 'token');
    const reservation = systemError(WHAT, () => native().Reservation.fromToken(checked));
    return new WorkerGuestMemory({ reservation, windows: new ThreadWindows(reservation), holder: undefined });
  }

  protected lease(facts: LeaseFacts): Lease {
    return WorkerLease.take(sourceOf<WorkerSource>(this), facts, this.#viewed);
  }

  /** Ends the handle, and the leases that were taken. May be called again. */
  close(): void {
    if (this.closed) return;
    const { reservation, windows } = sourceOf<WorkerSource>(this);
    for (const lease of this.#viewed) lease.release();
    this.use(undefined);
    windows.close();
    reservation.close();
  }

  /** Ends the handle, at the end of the scope of `using`: `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
