// Windows that are open, and the ways to what they show: those of one buffer share its arrays.

import type { GuestWindow, WindowRange } from './guest-window.ts';

/** The ways to what one buffer shows: to its windows, and to those that are writable. */
export class BufferWindows {
  readonly readable: GuestWindow;
  readonly writable: GuestWindow;

  /** `make`: a way to the buffer, which shows nothing yet. */
  constructor(make: () => GuestWindow) {
    this.readable = make();
    this.writable = make();
  }

  show(windows: readonly OpenWindow[]): void {
    this.readable.show(windows);
    this.writable.show(windows.filter(({ isWritable }) => isWritable));
  }
}

/** The ways to what buffers show, made when they are first asked for. */
export class WaysByBuffer {
  readonly #ways = new WeakMap<ArrayBuffer, BufferWindows>();
  readonly #make: (origin: number, buffer: ArrayBuffer) => GuestWindow;

  /** `make`: a way to a buffer, which shows nothing yet. */
  constructor(make: (origin: number, buffer: ArrayBuffer) => GuestWindow) {
    this.#make = make;
  }

  /** The ways to a buffer, whose first byte is at GPA `origin`. */
  to(buffer: ArrayBuffer, origin: number): BufferWindows {
    const ways = this.#ways.get(buffer) ?? new BufferWindows(() => this.#make(origin, buffer));
    this.#ways.set(buffer, ways);
    return ways;
  }
}

/** A window that was opened. */
export class OpenWindow implements WindowRange {
  readonly start: number;
  readonly end: number;
  readonly isWritable: boolean;
  readonly shownBy: BufferWindows;

  constructor({ start, end, isWritable }: WindowRange, shownBy: BufferWindows) {
    this.start = start;
    this.end = end;
    this.isWritable = isWritable;
    this.shownBy = shownBy;
  }

  shows(gpa: number, isWrite: boolean): boolean {
    return gpa >= this.start && gpa < this.end && (this.isWritable || !isWrite);
  }

  /** The way to a byte of it. */
  enter(gpa: number, isWrite: boolean): GuestWindow {
    const window = isWrite ? this.shownBy.writable : this.shownBy.readable;
    window.meet(this, gpa);
    return window;
  }
}
