// Windows by what they show: found at once where a slot of the table has one, also for who goes to and fro among many.

/** Windows up to which looking at each is as fast. */
const FEW = 1;
/** Most slots of the table. */
const SLOTS = 4096;

/** A window, by what it shows: nothing outside of [start, end). */
interface Shown {
  readonly start: number;
  readonly end: number;
  shows(gpa: number, isWrite: boolean): boolean;
}

/** Windows that are disjoint, by address. */
export class WindowTable<Window extends Shown> {
  /** Windows in order of address. */
  #windows: readonly Window[] = [];
  /** Windows by slot: the last one of several. Empty until there are more than a few. */
  #slots: readonly (Window | undefined)[] = [];
  #start = 0;
  /** Slots in a byte: a power of two, so that products with it are exact. */
  #scale = 1;

  /** Takes the place of all windows before. */
  set(windows: readonly Window[]): void {
    this.#windows = [...windows].sort((a, b) => a.start - b.start);
    this.#slots = windows.length > FEW ? this.#fill() : [];
  }

  /** The window that shows the byte at `gpa`, for such an access. */
  at(gpa: number, isWrite: boolean): Window | undefined {
    const slots = this.#slots;
    if (slots.length === 0) return linear(this.#windows, gpa, isWrite);
    const window = slots[this.#slotOf(gpa)];
    return window?.shows(gpa, isWrite) ? window : this.#search(gpa, isWrite);
  }

  #slotOf(gpa: number): number {
    return ((gpa - this.#start) * this.#scale) | 0;
  }

  #fill(): (Window | undefined)[] {
    const windows = this.#windows;
    this.#start = windows[0]!.start;
    const bytes = windows.at(-1)!.end - this.#start;
    this.#scale = 2 ** Math.floor(Math.log2(SLOTS / bytes));
    const slots = new Array<Window | undefined>(SLOTS).fill(undefined);
    // What comes later takes a slot over: the others of the slot are searched for.
    for (const window of windows) slots.fill(window, this.#slotOf(window.start), this.#slotOf(window.end - 1) + 1);
    return slots;
  }

  #search(gpa: number, isWrite: boolean): Window | undefined {
    const windows = this.#windows;
    let [from, to] = [0, windows.length];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (windows[middle]!.end <= gpa) from = middle + 1;
      else to = middle;
    }
    const found = windows[from];
    return found?.shows(gpa, isWrite) ? found : undefined;
  }
}

function linear<Window extends Shown>(windows: readonly Window[], gpa: number, isWrite: boolean): Window | undefined {
  for (const window of windows) if (window.shows(gpa, isWrite)) return window;
  return undefined;
}
