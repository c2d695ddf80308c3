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
  readonly start: number;
  readonly end: number;
  readonly order: number;
  /** 0 for a node whose items are those of the tree's user. */
  readonly height: number;
  readonly items: readonly Stretch[];

  constructor(height: number, items: readonly Stretch[]) {
    this.height = height;
    this.items = items;
    this.start = items[0]?.start ?? 0;
    this.order = items[0]?.order ?? 0;
    let last = 0;
    for (const { end } of items) if (end > last) last = end;
    this.end = last;
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

  /** The node with an item more; two where that is too much for one. */
  with(item: Stretch): readonly Node[] {
    const items = this.#itemsWith(item);
    if (items.length <= WIDTH) return [new Node(this.height, items)];
    return [items.slice(0, WIDTH / 2), items.slice(WIDTH / 2)].map((half) => new Node(this.height, half));
  }

  #itemsWith(item: Stretch): Stretch[] {
    const { items, height } = this;
    if (height === 0) return items.toSpliced(this.behind(item), 0, item);
    const at = Math.max(0, this.behind(item) - 1);
    return items.toSpliced(at, 1, ...(items[at] as Node).with(item));
  }

  /** The node without an item. Precondition: it is there. */
  without(item: Stretch): Node {
    const { items, height } = this;
    const at = this.behind(item) - 1;
    if (height === 0) {
      assert(items[at] === item, 'what is taken out of a range tree is in it');
      return new Node(height, items.toSpliced(at, 1));
    }
    const child = (items[at] as Node).without(item);
    if (child.items.length === 0) return new Node(height, items.toSpliced(at, 1));
    const kept = items.toSpliced(at, 1, child) as Node[];
    return new Node(height, child.items.length < FEW ? joined(kept, at) : kept);
  }
}

/** Nodes of which the one at `at` and a neighbour are one, if there is room. */
function joined(nodes: readonly Node[], at: number): readonly Node[] {
  const left = Math.max(0, at - 1);
  const [lower, upper] = [nodes[left]!, nodes[left + 1]];
  if (upper === undefined || lower.items.length + upper.items.length > WIDTH) return nodes;
  return nodes.toSpliced(left, 2, new Node(lower.height, [...lower.items, ...upper.items]));
}

const EMPTY = new Node(0, []);

export class RangeTree<Item extends Stretch> {
  /** Nodes never change: what is cut short has changed nothing. */
  #root = EMPTY;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Returns what makes the tree as it is now again. */
  mark(): () => void {
    const [root, size] = [this.#root, this.#size];
    return () => {
      this.#root = root;
      this.#size = size;
    };
  }

  add(item: Item): void {
    const nodes = this.#root.with(item);
    this.#root = nodes.length === 1 ? nodes[0]! : new Node(this.#root.height + 1, nodes);
    this.#size++;
  }

  /** Takes an item out. Precondition: it is there. */
  delete(item: Item): void {
    let root = this.#root.without(item);
    while (root.height > 0 && root.items.length === 1) root = root.items[0] as Node;
    this.#root = this.#size === 1 ? EMPTY : root;
    this.#size--;
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
