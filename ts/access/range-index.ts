// Stretches of addresses that may overlap, found by what they touch: by their size (a power of two) and where they
// begin in multiples of it. Each reaches into the next cell at most, so that few cells are looked at, however many
// there are.

export interface Stretch {
  readonly start: number;
  /** The first byte behind it. */
  readonly end: number;
}

export class RangeIndex<Item extends Stretch> {
  /** Items by the size of their cells, and by the cell's number. */
  readonly #levels = new Map<number, Map<number, Set<Item>>>();

  add(item: Item): void {
    const size = cellSize(item);
    const cells = this.#levels.get(size) ?? new Map<number, Set<Item>>();
    this.#levels.set(size, cells);
    const cell = Math.floor(item.start / size);
    cells.set(cell, (cells.get(cell) ?? new Set()).add(item));
  }

  /** Takes an item out. Precondition: it is there. */
  delete(item: Item): void {
    const size = cellSize(item);
    const cells = this.#levels.get(size)!;
    const cell = Math.floor(item.start / size);
    const items = cells.get(cell)!;
    items.delete(item);
    if (items.size === 0) cells.delete(cell);
    if (cells.size === 0) this.#levels.delete(size);
  }

  /** Items that have a byte in [start, end). */
  overlapping({ start, end }: Stretch): Item[] {
    const found: Item[] = [];
    for (const [size, cells] of this.#levels) {
      const first = Math.floor(start / size) - 1;
      const last = Math.floor((end - 1) / size);
      if (last - first < cells.size) {
        for (let cell = first; cell <= last; cell++) push(found, cells.get(cell), start, end);
      } else {
        for (const items of cells.values()) push(found, items, start, end);
      }
    }
    return found;
  }
}

function push<Item extends Stretch>(
  found: Item[],
  items: Iterable<Item> | undefined,
  start: number,
  end: number,
): void {
  for (const item of items ?? []) if (item.start < end && item.end > start) found.push(item);
}

/** Size of the cell for a stretch: at least its length, and at least a page. */
function cellSize({ start, end }: Stretch): number {
  return Math.max(0x1000, 2 ** Math.ceil(Math.log2(end - start)));
}
