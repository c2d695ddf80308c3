// Locks that native code holds through membacking.h, and leases of other threads and processes, seen as leases of this
// one. They are taken at any time: ranges that are about to change are barred first, and only then asked for who has
// locked them.

import * as abi from '../../assembly/abi.ts';
import { GATE_SHUT, GATE_USERS, type Reservation } from '../core/native.ts';
import type { Mapper as AddonMapper, LockSpace } from '../core/native-clients.ts';
import type { Change, HeldLease } from './held-lease.ts';

type Action = () => void;

/** Gate of locks: see shim/host/locks.h. */
interface Gate {
  /** Shuts it, unless somebody has opened the VA space or locked something: whether nobody has. */
  shut(): boolean;
  unshut(): void;
  readonly isUsed: boolean;
}

/** Memory whose changes concern its locks. */
interface Watched {
  /** VA space that it is, or is a view of. */
  readonly sink: number;
  /** VA space of this process that shows the same, for that of another one. */
  readonly mirrored?: number;
  /** Guest memory that reaches it. */
  readonly memory: object;
  readonly gate: Gate;
  /** Does without a holder that does not let go, where its process may be cut off. */
  readonly cutOff?: Action | undefined;
}

/** A lock as a lease. */
interface NativeLease extends HeldLease {
  /** Number of the lock in its VA space. */
  readonly id: number;
}

export class NativeLocks {
  /** Locks of VA spaces and views, with what changes concern each: see `Change.of`. */
  readonly #spaces = new Map<LockSpace, Watched>();
  /** Gates of them all. */
  #gates: readonly Gate[] = [];
  /** Whether a change is under way: gates are shut, or ranges barred. */
  #isChanging = false;
  /** Ends the bars of that change. */
  #unbar: Action | undefined;

  /** Heeds locks on a VA space, or a view of one, from now on: what changes of `sink` or of `memory` would break. */
  watch(reservation: Reservation, sink: number, memory: object): void {
    this.#add(reservation, { sink, memory, gate: new OwnGate(reservation) });
  }
  /** Heeds locks of another process. */
  watchMapper(mapper: AddonMapper, watched: Omit<Watched, 'gate'>): void {
    this.#add(mapper, { ...watched, gate: mapper });
  }
  #add(space: LockSpace, watched: Watched): void {
    this.#spaces.set(space, watched);
    this.#gates = gatesOf(this.#spaces);
  }
  forget(space: LockSpace): void {
    this.#spaces.delete(space);
    this.#gates = gatesOf(this.#spaces);
  }

  /** Keeps others from locking anything until `end`, where nobody has locked something: whether that is so everywhere.
   *  Else what is about to change must be barred. */
  begin(): boolean {
    this.#isChanging = true;
    const gates = this.#gates;
    let isFree = true;
    for (let i = 0; i < gates.length; i++) isFree = gates[i]!.shut() && isFree;
    return isFree;
  }

  /** Keeps others from locking what is about to change, until `end`, and gives the locks that are in the way.
   *  Precondition: a change has begun. */
  barUntilEnd(changes: readonly Change[]): HeldLease[] {
    this.#unbar = this.bar(changes);
    return eachOnce(changes.flatMap((change) => this.brokenBy(change)));
  }

  end(): void {
    if (!this.#isChanging) return;
    this.#isChanging = false;
    const gates = this.#gates;
    for (let i = 0; i < gates.length; i++) gates[i]!.unshut();
    if (this.#unbar === undefined) return;
    this.#unbar();
    this.#unbar = undefined;
  }

  /** Keeps others from new locks that the changes would break, until the result is called. */
  bar(changes: readonly Change[]): Action {
    const unbar = changes.flatMap(({ of, start, end, left }) =>
      this.#concernedBy(of).map((space) => {
        const id = space.bar(start, end - start, left);
        return () => space.unbar(id);
      }),
    );
    return () => {
      for (const one of unbar) one();
    };
  }

  /** Whether nobody has opened a VA space in native code, and nothing is locked. */
  get isEmpty(): boolean {
    return this.#gates.every(({ isUsed }) => !isUsed);
  }

  /** All locks, of each VA space in the order in which they were taken. */
  all(): HeldLease[] {
    if (this.isEmpty) return [];
    return [...this.#spaces.keys()].flatMap((each) =>
      this.#brokenIn(each, { start: 0, end: Number.MAX_SAFE_INTEGER, left: 0 }),
    );
  }

  /** Locks that a change would break. */
  brokenBy(change: Change): NativeLease[] {
    return this.#concernedBy(change.of).flatMap((space) => this.#brokenIn(space, change));
  }

  #concernedBy(of: Change['of']): LockSpace[] {
    return [...this.#spaces].flatMap(([each, { sink, mirrored, memory }]) =>
      of === sink || of === mirrored || of === memory ? [each] : [],
    );
  }

  #brokenIn(space: LockSpace, { start, end, left }: Pick<Change, 'start' | 'end' | 'left'>): NativeLease[] {
    const { sink, cutOff } = this.#spaces.get(space)!;
    return space.lockedIn(start, end - start, left).map(({ id, holder, access, gpa, length }) => ({
      ...{ sink, id, owner: space, holder, gpa, length, start: gpa, end: gpa + length, order: 0 },
      mode: (access & abi.ACCESS_WRITE) === 0 ? 'read' : 'write',
      isElsewhere: true,
      get isHeld() {
        return space.isLocked(id);
      },
      takeBack() {
        space.revoke(id);
      },
      cutOff,
    }));
  }
}

/** Leases without those that several changes would break once more. */
function eachOnce(leases: readonly NativeLease[]): NativeLease[] {
  const isSame = (one: NativeLease) => (other: NativeLease) =>
    one.id === other.id && one.owner === other.owner && one.start === other.start;
  return leases.filter((each, index) => leases.findIndex(isSame(each)) === index);
}

function gatesOf(spaces: ReadonlyMap<unknown, Watched>): Gate[] {
  return [...spaces.values()].map(({ gate }) => gate);
}

/** Gate of a VA space of this process: its two words. */
class OwnGate implements Gate {
  readonly #words: Int32Array;

  constructor(reservation: Reservation) {
    this.#words = new Int32Array(reservation.gate);
  }

  get isUsed(): boolean {
    return Atomics.load(this.#words, GATE_USERS) !== 0;
  }

  shut(): boolean {
    Atomics.store(this.#words, GATE_SHUT, 1);
    if (!this.isUsed) return true;
    this.unshut();
    return false;
  }

  unshut(): void {
    Atomics.store(this.#words, GATE_SHUT, 0);
  }
}
