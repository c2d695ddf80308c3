// Scales: from guest-physical addresses to places between 0 and 1, and back. Addresses are doubles here: exact to the
// page in all of 2^64, to the byte up to 2^53.

import type { Address } from '../core-index.ts';

/** [start, end) */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export function spanOf(gpa: Address, length: Address): Span {
  const start = Number(gpa);
  return { start, end: typeof length === 'number' ? start + length : Number(BigInt(gpa) + BigInt(length)) };
}

const PAGE = 4096;
/** Width of a hole in the compressed scale; of a page of memory it is 1. */
const HOLE = 0.6;
/** Doublings of a stretch's length that make it wider by the width of a page. */
const DOUBLINGS = 5;

/** A piecewise linear scale. */
export class Scale {
  /** Addresses of the joints, ascending; the first is at 0, the last at 1. */
  readonly #addresses: Float64Array;
  readonly #places: Float64Array;

  private constructor(addresses: Float64Array, places: Float64Array) {
    this.#addresses = addresses;
    this.#places = places;
  }

  /** The scale in which every byte is as wide as every other. */
  static linear({ start, end }: Span): Scale {
    return new Scale(Float64Array.of(start, end), Float64Array.of(0, 1));
  }

  /** A scale in which every stretch between two edges is wide enough to be seen, and longer ones are wider. `edges`:
   *  ascending, at least two. `isEmpty`: whether nothing is in the stretch that begins there. */
  static compressed(edges: readonly number[], isEmpty: (edge: number) => boolean): Scale {
    const places = new Float64Array(edges.length);
    for (let i = 1; i < edges.length; i++) {
      const pages = Math.max(1, (edges[i]! - edges[i - 1]!) / PAGE);
      places[i] = places[i - 1]! + (isEmpty(edges[i - 1]!) ? HOLE : 1 + Math.log2(pages) / DOUBLINGS);
    }
    const whole = places[edges.length - 1]!;
    for (let i = 0; i < places.length; i++) places[i] = places[i]! / whole;
    return new Scale(Float64Array.from(edges), places);
  }

  get span(): Span {
    return { start: this.#addresses[0]!, end: this.#addresses.at(-1)! };
  }

  place(address: number): number {
    return interpolated(this.#addresses, this.#places, address);
  }

  address(place: number): number {
    return Math.floor(interpolated(this.#places, this.#addresses, place));
  }
}

/** The value that `to` has where `from` has `value`; at the ends of `to` outside of it. */
function interpolated(from: Float64Array, to: Float64Array, value: number): number {
  let low = 0;
  let high = from.length - 1;
  if (value <= from[low]!) return to[low]!;
  if (value >= from[high]!) return to[high]!;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (from[middle]! <= value) low = middle;
    else high = middle;
  }
  const part = (value - from[low]!) / (from[high]! - from[low]!);
  return to[low]! + part * (to[high]! - to[low]!);
}
