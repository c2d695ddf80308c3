// Randomness that can be had again: every test that uses it prints its seed.

/** Seed, from the environment variable MEMBACKING_SEED, else always the same. */
export const SEED = Number(process.env.MEMBACKING_SEED ?? 20240229);

/** Effort, compared with usual: the environment variable MEMBACKING_EFFORT, else 1. The lab, a twentieth as fast, asks
 *  for a twentieth. */
const EFFORT = Number(process.env.MEMBACKING_EFFORT ?? 1);

/** Number of tries for something that usually is tried `count` times, at today's effort; once at least. */
export function tries(count: number): number {
  return Math.max(1, Math.round(count * EFFORT));
}

/** Items to try at today's effort: all of them at the usual one, else some, evenly spread. */
export function sample<Item>(all: Iterable<Item>): Item[] {
  const places = (index: number) => Math.floor(index * Math.min(EFFORT, 1));
  return [...all].filter((_, index) => places(index) > places(index - 1));
}

export class Random {
  #state: number;

  constructor(seed = SEED) {
    this.#state = seed >>> 0;
  }

  /** 0 to `below` - 1. */
  below(below: number): number {
    // Mulberry32.
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)] as Item;
  }

  shuffled<Item>(items: readonly Item[]): Item[] {
    const result = [...items];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [result[i], result[j]] = [result[j] as Item, result[i] as Item];
    }
    return result;
  }
}
