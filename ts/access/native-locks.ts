// Locks that native code holds through membacking.h, and leases of other threads, seen as leases of this one. They are
// taken at any time: ranges that are about to change are barred first, and only then asked for who has locked them.

import * as abi from '../../assembly/abi.ts';
import { GATE_SHUT, GATE_USERS, type Reservation } from '../core/native.ts';
import type { Change, HeldLease } from './held-lease.ts';

type Action = () => void;

/** Memory whose changes concern a reservation. */
interface Watched {
  /** VA space that it is, or is a view of. */
  readonly sink: number;
  /** Guest memory that reaches it. */
  readonly memory: object;
  readonly gate: Int32Array;
}

export class NativeLocks {
  /** Reservations of VA spaces and views, with what changes concern each: see `Change.of`. */
  readonly #spaces = new Map<Reservation, Watched>();
  /** Gates of them all. */
  #gates: readonly Int32Array[] = [];
  /** Ends the bars of the change that is under way. */
  #unbar: Action | undefined;

  /** Heeds locks on a VA space, or a view of one, from now on: what changes of `sink` or of `memory` would break. */
  watch(reservation: Reservation, sink: number, memory: object): void {
    this.#spaces.set(reservation, { sink, memory, gate: new Int32Array(reservation.gate) });
    this.#gates = gatesOf(this.#spaces);
  }
  forget(reservation: Reservation): void {
    this.#spaces.delete(reservation);
    this.#gates = gatesOf(this.#spaces);
  }

  /** Keeps native code from locking what is about to change, until `end`, and gives the locks that are in the way. */
  begin(changes: () => readonly Change[]): HeldLease[] {
    const gates = this.#gates;
    let isUsed = false;
    for (let i = 0; i < gates.length; i++) isUsed = shut(gates[i]!) || isUsed;
    if (!isUsed) return [];
    const concerned = changes();
    this.#unbar = this.bar(concerned);
    return concerned.flatMap((change) => this.brokenBy(change));
  }

  end(): void {
    const gates = this.#gates;
    for (let i = 0; i < gates.length; i++) Atomics.store(gates[i]!, GATE_SHUT, 0);
    if (this.#unbar === undefined) return;
    this.#unbar();
    this.#unbar = undefined;
  }

  /** Keeps native code from new locks that the changes would break, until the result is called. */
  bar(changes: readonly Change[]): Action {
    const unbar = changes.flatMap(({ of, start, end, left }) =>
      this.#concernedBy(of).map((reservation) => {
        const id = reservation.bar(start, end - start, left);
        return () => reservation.unbar(id);
      }),
    );
    return () => {
      for (const one of unbar) one();
    };
  }

  /** Whether nobody has opened a VA space in native code, and nothing is locked. */
  get isEmpty(): boolean {
    return this.#gates.every((gate) => Atomics.load(gate, GATE_USERS) === 0);
  }

  /** All locks, of each VA space in the order in which they were taken. */
  all(): HeldLease[] {
    if (this.isEmpty) return [];
    return [...this.#spaces.keys()].flatMap((each) =>
      this.#brokenIn(each, { start: 0, end: Number.MAX_SAFE_INTEGER, left: 0 }),
    );
  }

  /** Locks that a change would break. */
  brokenBy(change: Change): HeldLease[] {
    return this.#concernedBy(change.of).flatMap((reservation) => this.#brokenIn(reservation, change));
  }

  #concernedBy(of: Change['of']): Reservation[] {
    return [...this.#spaces].flatMap(([each, { sink, memory }]) => (of === sink || of === memory ? [each] : []));
  }

  #brokenIn(reservation: Reservation, { start, end, left }: Pick<Change, 'start' | 'end' | 'left'>): HeldLease[] {
    const { sink } = this.#spaces.get(reservation)!;
    return reservation.lockedIn(start, end - start, left).map(({ id, holder, access, gpa, length }) => ({
      ...{ sink, owner: reservation, holder, gpa, length, start: gpa, end: gpa + length, order: 0 },
      mode: (access & abi.ACCESS_WRITE) === 0 ? 'read' : 'write',
      isElsewhere: true,
      get isHeld() {
        return reservation.isLocked(id);
      },
      takeBack() {
        reservation.revoke(id);
      },
    }));
  }
}

function gatesOf(spaces: ReadonlyMap<unknown, Watched>): Int32Array[] {
  return [...spaces.values()].map(({ gate }) => gate);
}

/** Shuts a gate; where somebody has opened the VA space, its ranges are to be barred instead: true. */
function shut(gate: Int32Array): boolean {
  Atomics.store(gate, GATE_SHUT, 1);
  if (Atomics.load(gate, GATE_USERS) === 0) return false;
  Atomics.store(gate, GATE_SHUT, 0);
  return true;
}
