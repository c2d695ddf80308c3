// Leases in one VA space, found by what they touch. Most end before anybody looks for one: they are entered in the tree
// when somebody does.

import { RangeTree, type Stretch } from '../core/range-tree.ts';

export class SpaceLeases<Lease extends Stretch> {
  readonly #tree = new RangeTree<Lease>();
  /** Leases that are not entered yet. */
  readonly #fresh = new Set<Lease>();
  /** Hull, [start, end): every lease is in it, and some that were are gone, perhaps. */
  #start = Number.POSITIVE_INFINITY;
  #end = 0;

  get size(): number {
    return this.#tree.size + this.#fresh.size;
  }

  /** First address that somebody may have leased. */
  get start(): number {
    return this.#start;
  }

  /** The first address behind all that somebody may have leased. Below `start` where nobody has. */
  get end(): number {
    return this.#end;
  }

  add(lease: Lease): void {
    this.#fresh.add(lease);
    if (lease.start < this.#start) this.#start = lease.start;
    if (lease.end > this.#end) this.#end = lease.end;
  }

  /** Takes a lease out. Precondition: it is there. */
  delete(lease: Lease): void {
    if (!this.#fresh.delete(lease)) this.#tree.delete(lease);
    if (this.size > 0) return;
    this.#start = Number.POSITIVE_INFINITY;
    this.#end = 0;
  }

  /** Leases that have a byte in [start, end), in order of address. */
  overlapping(start: number, end: number): Lease[] {
    if (start >= this.#end || end <= this.#start) return [];
    for (const lease of this.#fresh) this.#tree.add(lease);
    this.#fresh.clear();
    return this.#tree.overlapping(start, end);
  }

  all(): Lease[] {
    return this.overlapping(this.#start, this.#end);
  }
}
