// Windows of a thread that does not change the map. The addon says where one may be opened, and shuts it before a
// change: see shim/host/windows.h.

import type { Reservation } from '../core/native.ts';
import { CELLS, CHUNK, Chunks, GuestWindow, SHUT, type WindowRange } from './guest-window.ts';
import { type BufferWindows, OpenWindow, WaysByBuffer } from './open-window.ts';
import type { Views } from './views.ts';
import { WindowTable } from './window-table.ts';

/** Accesses without a window that come before the first one is opened, as its buffer takes a garbage collection; and
 *  before one is opened again that was shut, which takes as long as so many. */
const PATIENCE = 1000;
const PATIENCE_AFTER_CHANGES = 32;

/** Whether the steps of an access are made in the order in which they are written: V8 keeps it, see GatedWindow. Of
 *  JavaScriptCore nobody has looked. */
const KEEPS_ORDER = process.versions.bun === undefined;

/** Window that another thread may shut, by its number in the addon. */
class ThreadWindow extends OpenWindow {
  /** Index of the first of two words that are shared with the addon: whether the window is in use, and whether it is
   *  open. */
  readonly gate: number;
  readonly #gates: Int32Array;

  constructor(opened: WindowRange & { number: number }, shownBy: BufferWindows, gates: Int32Array) {
    super(opened, shownBy);
    this.gate = 2 * opened.number;
    this.#gates = gates;
  }

  get isOpen(): boolean {
    return this.#gates[this.gate + 1] === 1;
  }
}

/** The way to windows that another thread may shut.
 *
 *  An access is four steps: the thread says that the window is in use; sees that it is open; makes the access; says
 *  that it is in use no more. shim/host/windows.h says why they need no fence, but have to be made in this order. V8
 *  makes them so: loads and stores of array elements are links of one chain of effects, of which its compilers
 *  exchange none, as arrays of other kinds may show the same bytes. */
class GatedWindow extends GuestWindow {
  readonly #gates: Int32Array;
  /** Gate of the only window that is shown. Several, for which it is -1, have theirs by the cells where they were last
   *  met. */
  #onlyGate = -1;
  readonly #gateOf = new Int32Array(CELLS);

  constructor(origin: number, buffer: ArrayBuffer, gates: Int32Array) {
    super(origin, buffer);
    this.#gates = gates;
  }

  override show(windows: readonly ThreadWindow[]): void {
    super.show(windows);
    this.#onlyGate = windows.length === 1 ? windows[0]!.gate : -1;
  }

  override meet(window: ThreadWindow, gpa: number): number {
    const cell = super.meet(window, gpa);
    if (cell >= 0) this.#gateOf[cell] = window.gate;
    return cell;
  }

  /** The first two steps: the gate, or -1 where it is shut. */
  #enter(at: number): number {
    const gates = this.#gates;
    const gate = this.#onlyGate >= 0 ? this.#onlyGate : this.#gateOf[this.cellOf(at)]!;
    gates[gate] = 1;
    if (gates[gate + 1] === 1) return gate;
    gates[gate] = 0;
    return -1;
  }

  // Whatever ends an access, an exception of a full call stack too, leaves the window: somebody waits for that.

  override read(at: number, into: Uint8Array, length: number): boolean {
    const gate = this.#enter(at);
    if (gate < 0) return false;
    try {
      return super.read(at, into, length);
    } finally {
      this.#gates[gate] = 0;
    }
  }
  override write(at: number, from: Uint8Array): boolean {
    const gate = this.#enter(at);
    if (gate < 0) return false;
    try {
      return super.write(at, from);
    } finally {
      this.#gates[gate] = 0;
    }
  }
  override getU8(at: number): number {
    const gate = this.#enter(at);
    if (gate < 0) return SHUT;
    try {
      return super.getU8(at);
    } finally {
      this.#gates[gate] = 0;
    }
  }
  override getU16(at: number): number {
    const gate = this.#enter(at);
    if (gate < 0) return SHUT;
    try {
      return super.getU16(at);
    } finally {
      this.#gates[gate] = 0;
    }
  }
  override getU32(at: number): number {
    const gate = this.#enter(at);
    if (gate < 0) return SHUT;
    try {
      return super.getU32(at);
    } finally {
      this.#gates[gate] = 0;
    }
  }
  override getU64(at: number): bigint | undefined {
    const gate = this.#enter(at);
    if (gate < 0) return undefined;
    try {
      return super.getU64(at);
    } finally {
      this.#gates[gate] = 0;
    }
  }
  override setU8(at: number, value: number): boolean {
    const gate = this.#enter(at);
    if (gate < 0) return false;
    try {
      return super.setU8(at, value);
    } finally {
      this.#gates[gate] = 0;
    }
  }
  override setU16(at: number, value: number): boolean {
    const gate = this.#enter(at);
    if (gate < 0) return false;
    try {
      return super.setU16(at, value);
    } finally {
      this.#gates[gate] = 0;
    }
  }
  override setU32(at: number, value: number): boolean {
    const gate = this.#enter(at);
    if (gate < 0) return false;
    try {
      return super.setU32(at, value);
    } finally {
      this.#gates[gate] = 0;
    }
  }
  override setU64(at: number, value: bigint): boolean {
    const gate = this.#enter(at);
    if (gate < 0) return false;
    try {
      return super.setU64(at, value);
    } finally {
      this.#gates[gate] = 0;
    }
  }
}

export class ThreadWindows {
  readonly #reservation: Reservation;
  readonly #gates: Int32Array;
  readonly #chunks: Chunks;
  /** Windows by their numbers. */
  readonly #windows: (ThreadWindow | undefined)[] = [];
  readonly #ways = new WaysByBuffer((origin, buffer) => new GatedWindow(origin, buffer, this.#gates));
  /** Windows that may be written, and others, which may show some of the same: each kind is disjoint, as each window is
   *  the largest of its kind. */
  readonly #writable = new WindowTable<ThreadWindow>();
  readonly #readOnly = new WindowTable<ThreadWindow>();
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
    return this.#windowAt(gpa, isWrite)?.enter(gpa, isWrite);
  }

  #windowAt(gpa: number, isWrite: boolean): ThreadWindow | undefined {
    const known = this.#writable.at(gpa, isWrite) ?? this.#readOnly.at(gpa, isWrite);
    if (known?.isOpen) return known;
    if (++this.#misses < this.#patience) return undefined;
    this.#misses = 0;
    const opened = this.#open(gpa, isWrite);
    this.#patience = opened === undefined ? this.#patience * 2 : PATIENCE_AFTER_CHANGES;
    return opened;
  }

  #open(gpa: number, isWrite: boolean): ThreadWindow | undefined {
    const opened = this.#reservation.openWindow(gpa, isWrite, CHUNK);
    if (opened === undefined) return undefined;
    // Its gate was another one's, through which nobody may go any more.
    const before = this.#windows[opened.number];
    this.#windows[opened.number] = undefined;
    if (before !== undefined) this.#showBy(before.shownBy);
    const chunk = { start: opened.partStart, end: opened.partEnd };
    // As long as it is open, the stretch is the one that the addon has seen.
    const isOpen = () => this.#gates[2 * opened.number + 1] === 1;
    const buffer = this.#chunks.bufferOf(chunk, isOpen);
    if (buffer === undefined) {
      // There are too many, perhaps of stretches that have gone.
      if (isOpen()) this.close();
      return undefined;
    }
    const window = new ThreadWindow(opened, this.#ways.to(buffer, chunk.start), this.#gates);
    this.#windows[opened.number] = window;
    this.#showBy(window.shownBy);
    const open = this.#openOnes;
    this.#writable.set(open.filter(({ isWritable }) => isWritable));
    this.#readOnly.set(open.filter(({ isWritable }) => !isWritable));
    return window;
  }

  get #openOnes(): ThreadWindow[] {
    return this.#windows.filter((window) => window?.isOpen) as ThreadWindow[];
  }

  /** Has a buffer show those of its windows that are open, and nothing else. */
  #showBy(shownBy: BufferWindows): void {
    shownBy.show(this.#openOnes.filter((window) => window.shownBy === shownBy));
  }

  /** Lets go of all windows, and detaches their buffers. Precondition: the reservation is still open. */
  close(): void {
    for (const window of this.#windows) window?.shownBy.show([]);
    this.#windows.length = 0;
    for (const table of [this.#writable, this.#readOnly]) table.set([]);
    this.#chunks.close();
  }
}
