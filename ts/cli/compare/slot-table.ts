// Stretches of guest memory, and the memory slots of one address space among them.

import type { Slot } from './calls.ts';

/** Pages of the guest, and the monitor's memory that they are. */
export interface Stretch {
  readonly gpa: number;
  readonly pages: number;
  readonly hva: number;
}

/** Stretches in order of GPA, none over another. */
export class StretchTable<Item extends Stretch> {
  readonly #sorted: Item[] = [];

  get all(): readonly Item[] {
    return this.#sorted;
  }

  /** Stretches that have pages of a range. */
  within(gpa: number, pages: number): readonly Item[] {
    const found: Item[] = [];
    for (let i = this.#firstBehind(gpa); i < this.#sorted.length; i++) {
      const item = this.#sorted[i] as Item;
      if (item.gpa >= gpa + pages) break;
      found.push(item);
    }
    return found;
  }

  /** Adds a stretch. Precondition: its pages are no other's. */
  add(item: Item): void {
    this.#sorted.splice(this.#firstBehind(item.gpa), 0, item);
  }

  delete(item: Item): void {
    this.#sorted.splice(this.#firstBehind(item.gpa), 1);
  }

  /** Pages of a stretch that are the same memory here. */
  pagesLeft({ gpa, pages, hva }: Stretch): number {
    return this.within(gpa, pages)
      .filter((item) => item.hva - item.gpa === hva - gpa)
      .reduce((sum, item) => sum + overlap(item, gpa, pages), 0);
  }

  /** Position of the first stretch that ends behind `gpa`. */
  #firstBehind(gpa: number): number {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const item = this.#sorted[middle] as Item;
      if (item.gpa + item.pages > gpa) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Memory slots of one address space. */
export class SlotTable extends StretchTable<Slot> {
  readonly #byNumber = new Map<number, Slot>();

  get(number: number): Slot | undefined {
    return this.#byNumber.get(number);
  }

  /** Adds a slot. Precondition: neither its number nor its pages are another's. */
  override add(slot: Slot): void {
    super.add(slot);
    this.#byNumber.set(slot.slot, slot);
  }

  override delete(slot: Slot): void {
    super.delete(slot);
    this.#byNumber.delete(slot.slot);
  }
}

function overlap(slot: Stretch, gpa: number, pages: number): number {
  return Math.min(slot.gpa + slot.pages, gpa + pages) - Math.max(slot.gpa, gpa);
}

/** The part of a stretch that lies in a range; undefined where none does. */
export function partOf(stretch: Stretch, gpa: number, pages: number): Stretch | undefined {
  const length = overlap(stretch, gpa, pages);
  const first = Math.max(stretch.gpa, gpa);
  return length > 0 ? { gpa: first, pages: length, hva: stretch.hva + (first - stretch.gpa) } : undefined;
}
