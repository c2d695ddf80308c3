// Windows by what they show.

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

  /** Takes the place of all windows before. */
  set(windows: readonly Window[]): void {
    this.#windows = [...windows].sort((a, b) => a.start - b.start);
  }

  /** The window that shows the byte at `gpa`, for such an access. */
  at(gpa: number, isWrite: boolean): Window | undefined {
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
