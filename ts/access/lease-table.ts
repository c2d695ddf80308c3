// Leases that are held. While one is, no plan tears its pages down, replaces them or takes the access away that it
// needs.

import * as abi from '../../assembly/abi.ts';
import { type Address, formatHex, lastByte, sum } from '../core/address.ts';
import { assert } from '../core/assert.ts';
import type { Command, Core } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import { hullsOf } from '../core/hulls.ts';
import { isOfVaSpace } from '../core/kinds.ts';
import { printable } from '../core/printable.ts';
import type { Change, HeldLease, LeaseFacts, LeaseMode, Onlooker } from './held-lease.ts';
import { NativeLocks } from './native-locks.ts';
import { SpaceLeases } from './space-leases.ts';

const ACCESS: Readonly<Record<LeaseMode, number>> = {
  read: abi.ACCESS_READ,
  write: abi.ACCESS_READ | abi.ACCESS_WRITE,
};

/** A change cannot be made because of what is leased. */
export class LeaseConflict extends MembackingError {
  /** Table of the leases. @internal */
  readonly table: LeaseTable;
  /** @internal */
  readonly leases: readonly HeldLease[];
  /** All that was to change with it, leased or not. @internal */
  readonly changes: readonly Change[];

  /** `waiting`: the method that waits. */
  constructor(table: LeaseTable, leases: readonly HeldLease[], changes: readonly Change[], waiting = 'whenFree') {
    const message = `memory at ${formatHex(leases[0]!.gpa)} is in use by ${holdersOf(leases)}: it must be released first (${waiting} waits for that)`;
    super('LEASED', message, { details: { leases: leases.map(leaseFacts) } });
    this.table = table;
    this.leases = leases;
    this.changes = changes;
  }
}

export class LeaseTable {
  /** Leases by VA space. */
  readonly #held = new Map<number, SpaceLeases<HeldLease>>();
  #count = 0;
  /** Changes by the transaction that is open, besides those that its plan will show. */
  readonly announced = new Set<Change>();
  /** Changes that somebody waits to make: nobody gets a new lease that would be in the way. */
  readonly #barred = new Set<Change>();
  readonly #waiting = new Set<() => void>();
  /** Locks of native code, and leases of other threads. */
  readonly natively = new NativeLocks();

  /** Every lease that is held: those of this thread in the order in which they were taken, then others. */
  all(): LeaseFacts[] {
    return this.#all().map(leaseFacts);
  }

  #all(): HeldLease[] {
    const own = [...this.#held.values()].flatMap((held) => held.all());
    return [...own.sort((one, other) => one.order - other.order), ...this.natively.all()];
  }

  /** Leases that a change would break. */
  brokenBy(change: Change): HeldLease[] {
    return [...this.#ownBrokenBy(change), ...this.natively.brokenBy(change)];
  }

  #ownBrokenBy(change: Change): HeldLease[] {
    const of = this.#held.get(change.of as number);
    const spaces = of === undefined ? [...this.#held.values()] : [of];
    const touched = spaces.flatMap((held) => held.overlapping(change.start, change.end));
    return touched.filter((lease) => isBroken(lease, change));
  }

  /** Whether nothing is leased. */
  get isEmpty(): boolean {
    return this.#count === 0 && this.natively.isEmpty;
  }

  /** Whether some lease is in a VA space. */
  isUsing(sink: number): boolean {
    return (this.#held.get(sink)?.size ?? 0) > 0;
  }

  /** Enters a lease. Throws LEASED where a range is about to change. */
  add(lease: HeldLease): void {
    for (const bar of this.#barred) if (isBroken(lease, bar)) throw aboutToChange(lease.gpa);
    assert(!lease.isHeld && lease.start < lease.end, 'a lease is held once, and holds something');
    let held = this.#held.get(lease.sink);
    if (held === undefined) {
      held = new SpaceLeases();
      this.#held.set(lease.sink, held);
    }
    held.add(lease);
    lease.isHeld = true;
    this.#count++;
  }

  /** Takes a lease out, if it is there. */
  remove(lease: HeldLease): void {
    if (!lease.isHeld) return;
    this.#held.get(lease.sink)!.delete(lease);
    lease.isHeld = false;
    this.#count--;
    if (this.#waiting.size > 0) this.#wake();
  }

  /** Refuses the plan that the core holds if it takes something from a lease. Throws LeaseConflict. */
  admit(core: Core, commands: number): void {
    if (commands === 0 && this.announced.size === 0) return;
    const isFreeElsewhere = this.natively.begin();
    if (!isFreeElsewhere || this.#count > 0) this.#refuseBroken(core, commands, isFreeElsewhere);
  }

  #refuseBroken(core: Core, commands: number, isFreeElsewhere: boolean): void {
    const changes = () => [...this.announced, ...changesOf(core, commands)];
    const broken = new Set(isFreeElsewhere ? [] : this.natively.barUntilEnd(changes()));
    this.#addBroken(core, broken);
    if (broken.size > 0) throw new LeaseConflict(this, [...broken], changes());
  }

  #addBroken(core: Core, broken: Set<HeldLease>): void {
    for (const change of this.announced) for (const lease of this.#ownBrokenBy(change)) broken.add(lease);
    for (const [sink, held] of this.#held) {
      for (let i = core.commandTouching(0, sink, held); i >= 0; i = core.commandTouching(i + 1, sink, held)) {
        for (const lease of this.#ownBrokenBy(changeOf(core.command(i)))) broken.add(lease);
      }
    }
  }

  /** Bars new leases that the changes would break, until the result is called. */
  bar(changes: readonly Change[]): () => void {
    for (const change of changes) this.#barred.add(change);
    const unbarNatively = this.natively.bar(changes);
    return () => {
      unbarNatively();
      for (const change of changes) this.#barred.delete(change);
    };
  }

  /** Bars new leases, as `bar` does, around all that the plan that the core holds changes in each VA space. */
  barPlan(core: Core, commands: number): () => void {
    const concerns = () => false;
    const hulls = [...hullsOf(core.planBytes(commands))].map(
      ([of, hull]): Change => ({ of, ...hull, left: 0, concerns }),
    );
    return this.bar([...this.announced, ...hulls]);
  }

  /** Calls back whenever a lease has ended, until the result is called. */
  onEnd(listener: () => void): () => void {
    this.#waiting.add(listener);
    return () => this.#waiting.delete(listener);
  }

  /** Ends all leases, and says which. */
  endAll(): LeaseFacts[] {
    return this.#end(this.#all());
  }

  /** Ends the leases in a range that is lost. */
  endIn(sink: number, start: Address, length: Address): LeaseFacts[] {
    const change = { of: sink, start: Number(start), end: Number(sum(start, length)), left: 0, concerns: () => false };
    return this.#end(this.brokenBy(change));
  }

  #end(leases: readonly HeldLease[]): LeaseFacts[] {
    for (const lease of leases) {
      try {
        lease.takeBack();
      } catch (error) {
        if (!(error instanceof MembackingError)) throw error;
        // The lease's view was given away: there is nothing more to take back.
        this.remove(lease);
      }
    }
    if (leases.length > 0) this.#wake();
    return leases.map(leaseFacts);
  }

  #wake(): void {
    for (const listener of [...this.#waiting]) listener();
  }
}

/** Changes that the plan that the core holds makes in VA spaces. */
function changesOf(core: Core, commands: number): Change[] {
  const all = Array.from({ length: commands }, (_, index) => core.command(index));
  return all.filter(({ op }) => isOfVaSpace(op)).map(changeOf);
}

function changeOf({ op, sink, gpa, length, access }: Command): Change {
  const left = op === abi.OP_VA_PROTECT ? access : 0;
  const concerns = ({ va }: Onlooker) => va.id === sink;
  return { of: sink, start: Number(gpa), end: Number(sum(gpa, length)), left, concerns };
}

function isBroken({ sink, owner, mode, start, end }: HeldLease, change: Change): boolean {
  if (change.of !== sink && change.of !== owner) return false;
  return start < change.end && end > change.start && !isEnough(mode, change.left);
}

export function aboutToChange(gpa: number): MembackingError {
  const message = `memory at ${formatHex(gpa)} is about to change, and is not leased until then`;
  return new MembackingError('LEASED', message, { details: { leases: [] } });
}

export function leaseFacts({ holder, mode, gpa, length }: LeaseFacts): LeaseFacts {
  return { holder, mode, gpa, length };
}

/** Text of a lease: who holds which range, and for what. */
export function renderLease({ holder, mode, gpa, length }: LeaseFacts): string {
  return `"${printable(holder)}" ${mode} ${formatHex(gpa)}-${formatHex(sum(gpa, lastByte(length)))}`;
}

export function holdersOf(leases: readonly LeaseFacts[]): string {
  return [...new Set(leases.map(({ holder }) => `"${holder}"`))].join(', ');
}

/** Whether a lease of this kind goes on with what `access` leaves. */
export function isEnough(mode: LeaseMode, access: number): boolean {
  return (access & ACCESS[mode]) === ACCESS[mode];
}
