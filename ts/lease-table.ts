// Who holds which stretches of guest memory. While one is held, no plan tears its pages down, replaces them or takes the
// access away that it needs.

import * as abi from '../assembly/abi.ts';
import { formatHex, sum } from './address.ts';
import type { Core } from './core.ts';
import { MembackingError } from './errors.ts';
import { RangeIndex, type Stretch } from './range-index.ts';

export const LEASE_MODES = ['read', 'write'] as const;
export type LeaseMode = (typeof LEASE_MODES)[number];

/** What is known of a lease by those who must wait for it. */
export interface LeaseFacts {
  readonly holder: string;
  readonly mode: LeaseMode;
  readonly gpa: number;
  /** Bytes. */
  readonly length: number;
}

/** A lease that is held. */
export interface HeldLease extends LeaseFacts, Stretch {
  /** The VA space. */
  readonly sink: number;
  /** The guest memory that it was taken from. */
  readonly owner: object;
  /** Ends it, whatever its holder is doing. */
  takeBack(): void;
}

/** A part of a VA space that is to change. */
export interface Change extends Stretch {
  readonly sink: number;
}

const ACCESS: Readonly<Record<LeaseMode, number>> = {
  read: abi.ACCESS_READ,
  write: abi.ACCESS_READ | abi.ACCESS_WRITE,
};

/** A change cannot be made because of what is leased. */
export class LeaseConflict extends MembackingError {
  /** @internal */
  readonly leases: readonly HeldLease[];
  /** What was to change there. @internal */
  readonly changes: readonly Change[];

  constructor(leases: readonly HeldLease[], changes: readonly Change[]) {
    const message = `memory at ${formatHex(leases[0]!.gpa)} is in use by ${holdersOf(leases)}: it must be released first (whenFree waits for that)`;
    super('LEASED', message, { details: { leases: leases.map(leaseFacts) } });
    this.leases = leases;
    this.changes = changes;
  }
}

export class LeaseTable {
  readonly #held = new Set<HeldLease>();
  readonly #bySink = new Map<number, RangeIndex<HeldLease>>();
  /** What somebody waits for: nobody gets a new lease there. */
  readonly #barred = new Set<Change>();
  readonly #waiting = new Set<() => void>();

  /** Every lease that is held. */
  all(): LeaseFacts[] {
    return [...this.#held].map(leaseFacts);
  }

  /** Those that touch a range of what `owner` shows. */
  ofOwner(owner: object, range: Stretch): HeldLease[] {
    if (this.#held.size === 0) return [];
    return [...this.#bySink.values()]
      .flatMap((index) => index.overlapping(range))
      .filter((lease) => lease.owner === owner);
  }

  /** Those that touch a range of a VA space. */
  inRange({ sink, start, end }: Change): HeldLease[] {
    return this.#bySink.get(sink)?.overlapping({ start, end }) ?? [];
  }

  /** Throws LEASED where a range is about to change. */
  add(lease: HeldLease): void {
    for (const bar of this.#barred) {
      if (bar.sink !== lease.sink || bar.start >= lease.end || bar.end <= lease.start) continue;
      throw aboutToChange(lease.gpa);
    }
    this.#held.add(lease);
    const index = this.#bySink.get(lease.sink) ?? new RangeIndex<HeldLease>();
    this.#bySink.set(lease.sink, index);
    index.add(lease);
  }

  /** Nothing happens to one that is gone. */
  remove(lease: HeldLease): void {
    if (!this.#held.delete(lease)) return;
    this.#bySink.get(lease.sink)!.delete(lease);
    this.#wake();
  }

  holds(lease: HeldLease): boolean {
    return this.#held.has(lease);
  }

  /** Refuses the plan that the core holds if it takes something from a lease. Throws LeaseConflict. */
  readonly admit = (core: Core, commands: number): void => {
    if (this.#held.size === 0) return;
    const broken = new Set<HeldLease>();
    const changes: Change[] = [];
    for (let i = 0; i < commands; i++) {
      if (!this.#bySink.has(core.commandSink(i))) continue;
      const { op, sink, gpa, length, access } = core.command(i);
      const change = { sink, start: Number(gpa), end: Number(sum(gpa, length)) };
      const left = op === abi.OP_VA_PROTECT ? access : 0;
      const hit = this.inRange(change).filter(({ mode }) => (left & ACCESS[mode]) !== ACCESS[mode]);
      if (hit.length === 0) continue;
      changes.push(change);
      for (const lease of hit) broken.add(lease);
    }
    if (broken.size > 0) throw new LeaseConflict([...broken], changes);
  };

  /** Until the result is called, nobody gets a new lease there. */
  bar(changes: readonly Change[]): () => void {
    const own = changes.map((change) => ({ ...change }));
    for (const change of own) this.#barred.add(change);
    return () => {
      for (const change of own) this.#barred.delete(change);
    };
  }

  /** Calls back whenever a lease has ended, until the result is called. */
  onEnd(listener: () => void): () => void {
    this.#waiting.add(listener);
    return () => this.#waiting.delete(listener);
  }

  /** Ends all leases, and says which. */
  endAll(): LeaseFacts[] {
    const facts = this.all();
    for (const lease of [...this.#held]) {
      try {
        lease.takeBack();
      } catch {
        // Its view was given away: there is nothing more to take back.
        this.remove(lease);
      }
    }
    this.#wake();
    return facts;
  }

  #wake(): void {
    for (const listener of [...this.#waiting]) listener();
  }
}

export function aboutToChange(gpa: number): MembackingError {
  const message = `memory at ${formatHex(gpa)} is about to change, and is not leased until then`;
  return new MembackingError('LEASED', message, { details: { leases: [] } });
}

export function leaseFacts({ holder, mode, gpa, length }: LeaseFacts): LeaseFacts {
  return { holder, mode, gpa, length };
}

export function holdersOf(leases: readonly LeaseFacts[]): string {
  return [...new Set(leases.map(({ holder }) => `"${holder}"`))].join(', ');
}

/** Whether a lease of this kind goes on with what `access` leaves. */
export function isEnough(mode: LeaseMode, access: number): boolean {
  return (access & ACCESS[mode]) === ACCESS[mode];
}
