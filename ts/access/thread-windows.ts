// Windows of a thread that does not change the map. The addon says where one may be opened, and shuts it before a
// change: see shim/host/windows.h.

import type { Reservation } from '../core/native.ts';
import { CHUNK, Chunks, GuestWindow, SHUT, type WindowRange } from './guest-window.ts';
import type { Views } from './views.ts';
import { WindowTable } from './window-table.ts';

/** Accesses without a window that come before the first one is opened, as its buffer takes a garbage collection; and
 *  before one is opened again that was shut, which takes as long as so many. */
const PATIENCE = 1000;
const PATIENCE_AFTER_CHANGES = 32;

/** Whether the steps of an access are made in the order in which they are written: V8 keeps it, see GatedWindow. Of
 *  JavaScriptCore nobody has looked. */
const KEEPS_ORDER = process.versions.bun === undefined;

/** Window that another thread may shut.
 *
 *  An access is four steps: the thread says that the window is in use; sees that it is open; makes the access; says
 *  that it is in use no more. shim/host/windows.h says why they need no fence, but have to be made in this order. V8
 *  makes them so: loads and stores of array elements are links of one chain of effects, of which its compilers
 *  exchange none, as arrays of other kinds may show the same bytes. */
class GatedWindow extends GuestWindow {
  readonly start: number;
  readonly end: number;
  readonly isWritable: boolean;
  /** Two words that are shared with the addon: whether the window is in use, and whether it is open. */
  readonly #gate: Int32Array;

  constructor(range: WindowRange, origin: number, buffer: ArrayBuffer, gate: Int32Array) {
    super(origin, buffer);
    this.show([range]);
    this.start = range.start;
    this.end = range.end;
    this.isWritable = range.isWritable;
    this.#gate = gate;
  }

  /** Whether it shows the byte at `gpa`, for such an access. */
  shows(gpa: number, isWrite: boolean): boolean {
    return gpa >= this.start && gpa < this.end && (this.isWritable || !isWrite);
  }

  /** Shows nothing from now on. */
  drop(): void {
    this.show([]);
  }

  override get isOpen(): boolean {
    return this.#gate[1] === 1;
  }

  /** The first two steps. */
  #enter(): boolean {
    const gate = this.#gate;
    gate[0] = 1;
    if (gate[1] === 1) return true;
    gate[0] = 0;
    return false;
  }

  // Whatever ends an access, an exception of a full call stack too, leaves the window: somebody waits for that.

  override read(at: number, into: Uint8Array, length: number): boolean {
    if (!this.#enter()) return false;
    try {
      return super.read(at, into, length);
    } finally {
      this.#gate[0] = 0;
    }
  }
  override write(at: number, from: Uint8Array): boolean {
    if (!this.#enter()) return false;
    try {
      return super.write(at, from);
    } finally {
      this.#gate[0] = 0;
    }
  }
  override getU8(at: number): number {
    if (!this.#enter()) return SHUT;
    try {
      return super.getU8(at);
    } finally {
      this.#gate[0] = 0;
    }
  }
  override getU16(at: number): number {
    if (!this.#enter()) return SHUT;
    try {
      return super.getU16(at);
    } finally {
      this.#gate[0] = 0;
    }
  }
  override getU32(at: number): number {
    if (!this.#enter()) return SHUT;
    try {
      return super.getU32(at);
    } finally {
      this.#gate[0] = 0;
    }
  }
  override getU64(at: number): bigint | undefined {
    if (!this.#enter()) return undefined;
    try {
      return super.getU64(at);
    } finally {
      this.#gate[0] = 0;
    }
  }
  override setU8(at: number, value: number): boolean {
    if (!this.#enter()) return false;
    try {
      return super.setU8(at, value);
    } finally {
      this.#gate[0] = 0;
    }
  }
  override setU16(at: number, value: number): boolean {
    if (!this.#enter()) return false;
    try {
      return super.setU16(at, value);
    } finally {
      this.#gate[0] = 0;
    }
  }
  override setU32(at: number, value: number): boolean {
    if (!this.#enter()) return false;
    try {
      return super.setU32(at, value);
    } finally {
      this.#gate[0] = 0;
    }
  }
  override setU64(at: number, value: bigint): boolean {
    if (!this.#enter()) return false;
    try {
      return super.setU64(at, value);
    } finally {
      this.#gate[0] = 0;
    }
  }
}

export class ThreadWindows {
  readonly #reservation: Reservation;
  readonly #gates: Int32Array;
  readonly #chunks: Chunks;
  /** Windows by their numbers. */
  readonly #windows: GatedWindow[] = [];
  /** Windows that may be written, and others, which may show some of the same: each kind is disjoint, as each window is
   *  the largest of its kind. */
  readonly #writable = new WindowTable<GatedWindow>();
  readonly #readOnly = new WindowTable<GatedWindow>();
  #misses = 0;
  /** Misses that lead to an attempt to open a window. Doubled by each attempt in vain. */
  #patience = KEEPS_ORDER ? PATIENCE : Number.POSITIVE_INFINITY;

  constructor(reservation: Reservation) {
    this.#reservation = reservation;
    this.#gates = new Int32Array(reservation.windowGates);
    this.#chunks = new Chunks(reservation);
  }

  /** Views of the same memory. */
  get views(): Views {
    return this.#chunks.views;
  }

  /** A window that shows the byte at `gpa`: one that is open, or after many calls in vain a new one. */
  find(gpa: number, isWrite: boolean): GuestWindow | undefined {
    const known = this.#writable.at(gpa, isWrite) ?? this.#readOnly.at(gpa, isWrite);
    if (known?.isOpen) return known;
    if (++this.#misses < this.#patience) return undefined;
    this.#misses = 0;
    const opened = this.#open(gpa, isWrite);
    this.#patience = opened === undefined ? this.#patience * 2 : PATIENCE_AFTER_CHANGES;
    return opened;
  }

  #open(gpa: number, isWrite: boolean): GatedWindow | undefined {
    const opened = this.#reservation.openWindow(gpa, isWrite, CHUNK);
    if (opened === undefined) return undefined;
    // Its gate was another one's, which was shut.
    this.#windows[opened.number]?.drop();
    const chunk = { start: opened.partStart, end: opened.partEnd };
    const gate = this.#gates.subarray(2 * opened.number, 2 * opened.number + 2);
    // As long as it is open, the stretch is the one that the addon has seen.
    const isOpen = () => gate[1] === 1;
    const buffer = this.#chunks.bufferOf(chunk, isOpen);
    if (buffer === undefined) {
      // There are too many, perhaps of stretches that have gone.
      if (isOpen()) this.close();
      return undefined;
    }
    const window = new GatedWindow(opened, chunk.start, buffer, gate);
    this.#windows[opened.number] = window;
    const open = this.#windows.filter((each) => each?.isOpen);
    this.#writable.set(open.filter(({ isWritable }) => isWritable));
    this.#readOnly.set(open.filter(({ isWritable }) => !isWritable));
    return window;
  }

  /** Lets go of all windows, and detaches their buffers. Precondition: the reservation is still open. */
  close(): void {
    for (const window of this.#windows) window?.drop();
    this.#windows.length = 0;
    for (const table of [this.#writable, this.#readOnly]) table.set([]);
    this.#chunks.close();
  }
}
