// Stretches of addresses in an ordered tree: entered, taken out and found by what they touch in a time that hardly
// grows with their number, whether they overlap or not.
//
//   node   start, end: the hull of all that is below it      \  both are stretches: one search serves all levels
//   item   start, end: what its owner says                   /
//
// All items are at the same depth, in order of `start`, then of `order`. A node has at most WIDTH items, and at least
// one below the root; one that has few joins a neighbour, if there is room.

import { assert } from './assert.ts';

/** A stretch of addresses: never changed while it is in a tree. */
export interface Stretch {
  readonly start: number;
  /** The first byte behind it. */
  readonly end: number;
  /** Tells stretches that begin at the same address apart. */
  readonly order: number;
}

const WIDTH = 32;
const FEW = WIDTH / 4;

class Node implements Stretch {
  start = 0;
  end = 0;
  order = 0;
  /** 0 for a node whose items are those of the tree's user. */
  readonly height: number;
  readonly items: Stretch[];

  constructor(height: number, items: Stretch[]) {
    this.height = height;
    this.items = items;
    this.settle();
  }

  /** Finds the hull of what is in it. */
  settle(): void {
    const first = this.items[0];
    if (first === undefined) return;
    this.start = first.start;
    this.order = first.order;
    this.end = first.end;
    for (const { end } of this.items) if (end > this.end) this.end = end;
  }

  /** Index behind the last item that does not come after `item`. */
  behind(item: Stretch): number {
    let [low, high] = [0, this.items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const { start, order } = this.items[middle]!;
      if (start < item.start || (start === item.start && order <= item.order)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Returns its upper half, as a node, if there was too much in it. */
  add(item: Stretch): Node | undefined {
    const { items, height } = this;
    if (height === 0) {
      items.splice(this.behind(item), 0, item);
    } else {
      const at = Math.max(0, this.behind(item) - 1);
      const split = (items[at] as Node).add(item);
      if (split !== undefined) items.splice(at + 1, 0, split);
    }
    if (items.length <= WIDTH) {
      this.settle();
      return undefined;
    }
    const upper = new Node(height, items.splice(WIDTH / 2));
    this.settle();
    return upper;
  }

  /** Takes an item out. Precondition: it is there. */
  delete(item: Stretch): void {
    const { items, height } = this;
    const at = this.behind(item) - 1;
    if (height === 0) {
      assert(items[at] === item, 'what is taken out of a range tree is in it');
      items.splice(at, 1);
    } else {
      const child = items[at] as Node;
      child.delete(item);
      if (child.items.length === 0) items.splice(at, 1);
      else if (child.items.length < FEW) this.#join(at);
    }
    this.settle();
  }

  /** Makes one node of the one at `at` and a neighbour, if there is room. */
  #join(at: number): void {
    const items = this.items as Node[];
    const left = Math.max(0, at - 1);
    const [lower, upper] = [items[left]!, items[left + 1]];
    if (upper === undefined || lower.items.length + upper.items.length > WIDTH) return;
    items.splice(left, 2, new Node(lower.height, [...lower.items, ...upper.items]));
  }
}

export class RangeTree<Item extends Stretch> {
  #root = new Node(0, []);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(item: Item): void {
    const upper = this.#root.add(item);
    if (upper !== undefined) this.#root = new Node(upper.height + 1, [this.#root, upper]);
    this.#size++;
  }

  /** Takes an item out. Precondition: it is there. */
  delete(item: Item): void {
    this.#root.delete(item);
    this.#size--;
    if (this.#size === 0) this.#root = new Node(0, []);
    while (this.#root.height > 0 && this.#root.items.length === 1) this.#root = this.#root.items[0] as Node;
  }

  /** Items that have a byte in [start, end), in order. */
  overlapping(start: number, end: number): Item[] {
    const found: Item[] = [];
    if (this.#size > 0) collect(this.#root, start, end, found);
    return found;
  }

  /** Whether some item has a byte in [start, end). */
  overlaps(start: number, end: number): boolean {
    return this.#size > 0 && touches(this.#root, start, end);
  }

  /** All items, in order. */
  all(): Item[] {
    return this.overlapping(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY);
  }
}

function collect(node: Node, start: number, end: number, found: Stretch[]): void {
  for (const item of node.items) {
    if (item.start >= end) return;
    if (item.end <= start) continue;
    if (node.height === 0) found.push(item);
    else collect(item as Node, start, end, found);
  }
}

function touches(node: Node, start: number, end: number): boolean {
  if (node.start >= end || node.end <= start) return false;
  for (const item of node.items) {
    if (item.start >= end) return false;
    if (item.end > start && (node.height === 0 || touches(item as Node, start, end))) return true;
  }
  return false;
}
