// Leases: holds on stretches of guest memory in use. While one is held, no plan tears its pages down, replaces them or
// takes the access away that it needs. The table says who holds what; holders may be anything with a name.

import * as abi from '../assembly/abi.ts';
import { type Address, formatHex, sum } from './address.ts';
import type { Core } from './core.ts';
import { MembackingError } from './errors.ts';
import { Handle } from './handle.ts';

export type LeaseMode = 'read' | 'write';

/** What is known of a lease by those who must wait for it. */
export interface LeaseFacts {
  readonly holder: string;
  readonly mode: LeaseMode;
  readonly gpa: number;
  /** Bytes. */
  readonly length: number;
}

interface Entry extends LeaseFacts {
  readonly sink: number;
}

/** A range of one VA space; `end` is the first byte behind it. */
interface Range {
  readonly sink: number;
  readonly start: number;
  readonly end: number;
}

const ACCESS: Readonly<Record<LeaseMode, number>> = {
  read: abi.ACCESS_READ,
  write: abi.ACCESS_READ | abi.ACCESS_WRITE,
};

export class LeaseTable {
  readonly #leases = new Set<Entry>();
  /** Ranges that somebody waits for: nobody gets a new lease there. */
  readonly #draining = new Set<Range>();
  #released: (() => void)[] = [];

  get size(): number {
    return this.#leases.size;
  }

  /** Throws LEASED where a range is being taken away. */
  add(entry: Entry): () => void {
    for (const range of this.#draining) {
      if (overlaps(range, entry)) {
        throw new MembackingError(
          'LEASED',
          `the memory at ${formatHex(entry.gpa)} is about to change: it is not leased any more`,
        );
      }
    }
    this.#leases.add(entry);
    return () => {
      this.#leases.delete(entry);
      const waiting = this.#released;
      this.#released = [];
      for (const wake of waiting) wake();
    };
  }

  /** Every lease that is held. */
  all(): LeaseFacts[] {
    return [...this.#leases].map(factsOf);
  }

  /** Refuses the core's plan if it takes something from a lease. Throws LEASED with the holders. */
  check(core: Core, commands: number): void {
    if (this.#leases.size === 0) return;
    const broken = new Set<Entry>();
    for (let i = 0; i < commands; i++) {
      const { op, sink, gpa, length, access } = core.command(i);
      if (op > abi.OP_VA_UNPARK) continue;
      const range = { sink, start: Number(gpa), end: Number(sum(gpa, length)) };
      const left = op === abi.OP_VA_PROTECT ? access : 0;
      for (const lease of this.#leases) {
        if (overlaps(range, lease) && (left & ACCESS[lease.mode]) !== ACCESS[lease.mode]) broken.add(lease);
      }
    }
    if (broken.size > 0) throw leased([...broken]);
  }

  /** Until `done` is called, nobody gets a new lease in these ranges. */
  drain(facts: readonly (LeaseFacts & { sink: number })[]): () => void {
    const ranges = facts.map((lease) => ({ sink: lease.sink, start: lease.gpa, end: lease.gpa + lease.length }));
    for (const range of ranges) this.#draining.add(range);
    return () => {
      for (const range of ranges) this.#draining.delete(range);
    };
  }

  /** Settles when some lease is released. */
  nextRelease(): Promise<void> {
    return new Promise((resolve) => this.#released.push(resolve));
  }
}

function overlaps(range: Range, lease: Entry): boolean {
  return range.sink === lease.sink && range.start < lease.gpa + lease.length && range.end > lease.gpa;
}

function factsOf({ holder, mode, gpa, length }: Entry): LeaseFacts {
  return { holder, mode, gpa, length };
}

function leased(leases: readonly Entry[]): MembackingError {
  const holders = [...new Set(leases.map((lease) => `"${lease.holder}"`))].join(', ');
  const message = `memory at ${formatHex(leases[0]!.gpa)} is in use by ${holders}: release it, or wait with whenFree`;
  return new MembackingError('LEASED', message, { details: { leases } });
}
