// Locks that native code holds through membacking.h, seen as leases. Its threads take them at any time: ranges that are
// about to change are barred first, and only then asked for who has locked them.

import * as abi from '../../assembly/abi.ts';
import type { Reservation } from '../core/native.ts';
import type { Change, HeldLease } from './held-lease.ts';

type Action = () => void;

export class NativeLocks {
  /** Reservations of VA spaces, by sink. */
  readonly #spaces = new Map<number, Reservation>();
  /** Actions that end what `begin` has begun. */
  #begun: Action[] = [];

  /** Heeds locks on a VA space from now on. */
  watch(sink: number, reservation: Reservation): void {
    this.#spaces.set(sink, reservation);
  }
  forget(sink: number): void {
    this.#spaces.delete(sink);
  }

  /** Keeps native code from locking what is about to change, until `end`, and gives the locks that are in the way. */
  begin(changes: () => readonly Change[]): HeldLease[] {
    let isUsed = false;
    for (const reservation of this.#spaces.values()) {
      isUsed = reservation.beginChange() || isUsed;
      this.#begun.push(() => reservation.endChange());
    }
    if (!isUsed) return [];
    const concerned = changes();
    this.#begun.push(this.bar(concerned));
    return concerned.flatMap((change) => this.#brokenBy(change));
  }

  end(): void {
    for (const end of this.#begun) end();
    this.#begun = [];
  }

  /** Keeps native code from new locks that the changes would break, until the result is called. */
  bar(changes: readonly Change[]): Action {
    const unbar = changes.flatMap(({ of, start, end, left }) => {
      const reservation = this.#spaces.get(of as number);
      if (reservation === undefined) return [];
      const id = reservation.bar(start, end - start, left);
      return [() => reservation.unbar(id)];
    });
    return () => {
      for (const one of unbar) one();
    };
  }

  #brokenBy({ of, start, end, left }: Change): HeldLease[] {
    const reservation = this.#spaces.get(of as number);
    if (reservation === undefined) return [];
    return reservation.lockedIn(start, end - start, left).map(({ id, holder, access, gpa, length }) => ({
      ...{ sink: of as number, owner: reservation, holder, gpa, length, start: gpa, end: gpa + length, order: 0 },
      mode: (access & abi.ACCESS_WRITE) === 0 ? 'read' : 'write',
      isElsewhere: true,
      get isHeld() {
        return reservation.isLocked(id);
      },
      takeBack() {},
    }));
  }
}
