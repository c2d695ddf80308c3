// Leases of threads that do not change the map: locks in the addon, which everybody sees who changes it.

import { FACT_GPA, FACT_LOW, type Reservation } from '../core/native.ts';
import { accessFault } from './guest-access.ts';
import type { LeaseFacts } from './held-lease.ts';
import { cannotLease, Lease } from './lease.ts';
import { aboutToChange } from './lease-table.ts';
import type { Views } from './views.ts';

/** Memory that is leased of. */
interface LeasedMemory {
  readonly reservation: Reservation;
  readonly windows: { readonly views: Views };
  /** Holder of the last lock of the reservation. */
  holder: string | undefined;
}

/** Lease of another thread than the one that changes the map. It ends with its thread, too. */
export class WorkerLease extends Lease {
  readonly #reservation: Reservation;
  readonly #lock: number;
  /** Leases of the memory that have a view. */
  readonly #viewed: Set<WorkerLease>;

  private constructor(
    memory: LeasedMemory,
    facts: LeaseFacts,
    isViewable: boolean,
    lock: number,
    viewed: Set<WorkerLease>,
  ) {
    super(memory, facts, isViewable);
    this.#reservation = memory.reservation;
    this.#lock = lock;
    this.#viewed = viewed;
  }

  /** Takes a lease. Throws GUEST_ACCESS where not all of the range is mapped with that access, LEASED where it is about
   *  to change. @internal */
  static take(memory: LeasedMemory, facts: LeaseFacts, viewed: Set<WorkerLease>): WorkerLease {
    const { reservation } = memory;
    const { gpa, length, mode, holder } = facts;
    const lock = reservation.lock(gpa, length, mode === 'write', holder === memory.holder ? undefined : holder);
    memory.holder = holder;
    if (lock < 0) throw refusal(reservation, lock, gpa);
    return new WorkerLease(memory, facts, reservation.facts[FACT_LOW] === 1, lock, viewed);
  }

  get released(): boolean {
    return !this.#reservation.isLocked(this.#lock);
  }

  protected keepForView(): boolean {
    const viewed = this.#viewed;
    if (!this.#reservation.showLock(this.#lock, () => endAskedFor(viewed))) return false;
    viewed.add(this);
    return true;
  }

  /** Ends it, if another thread has asked for that. */
  endIfAskedFor(): void {
    if (this.#reservation.isAskedFor(this.#lock)) this.release();
  }

  protected letGo(): void {
    this.#viewed.delete(this);
    this.#reservation.unlock(this.#lock);
  }
}

function endAskedFor(leases: ReadonlySet<WorkerLease>): void {
  for (const lease of leases) lease.endIfAskedFor();
}

function refusal(reservation: Reservation, result: number, gpa: number): Error {
  const fault = accessFault(result);
  if (fault === 'changing') return aboutToChange(gpa);
  if (fault !== 'outside') return cannotLease(reservation.facts[FACT_GPA]!, fault);
  return cannotLease(gpa, reservation.addressOf(gpa) === undefined ? 'hole' : 'stretches');
}
