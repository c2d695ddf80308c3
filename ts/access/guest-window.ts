// Guest memory as typed arrays: the fast way to single values and small pieces, where the memory certainly stays.
//
// A window is a stretch of a VA space of which nothing can take a page away but a plan; before such a plan is carried
// out it is shut, and lets go of its arrays, which never leave this file. The buffers behind them stay, as they are
// slow to make, and reach further than any window: nobody else has them.

import * as abi from '../../assembly/abi.ts';
import type { ObjectTable } from '../asked/object-table.ts';
import { type Address, LAST_ADDRESS, sum } from '../core/address.ts';
import type { CommandRange, Core, PlanFacts, Row } from '../core/core.ts';
import type { Reservation } from '../core/native.ts';

/** Bytes that a buffer shows, so that offsets are small integers. */
const CHUNK = 2 ** 31;
/** Most buffers of one VA space. Each takes a garbage collection to make: V8 counts all of it as memory that is in
 *  use. */
const MOST_CHUNKS = 16;
const MOST_WINDOWS = 16;
/** Accesses without a window that come before one is opened, which takes as long as some hundred of them. */
const PATIENCE = 1000;

const { set } = Uint8Array.prototype;

const NOTHING = new ArrayBuffer(0);

/** Memory from GPA `start` to `end`, the first byte behind it. */
class GuestWindow {
  readonly start: number;
  readonly end: number;
  readonly isWritable: boolean;
  /** Asking one of the arrays for these takes an eighth of a small read. */
  #buffer!: ArrayBuffer;
  #offset!: number;
  #length!: number;
  #bytes!: Uint8Array;
  #halves!: Uint16Array;
  #words!: Uint32Array;
  #wides!: BigUint64Array;
  #any!: DataView;

  /** Shows `length` bytes of `buffer` from `offset` on, whole pages. */
  constructor(start: number, buffer: ArrayBuffer, offset: number, length: number, isWritable: boolean) {
    this.start = start;
    this.end = start + length;
    this.isWritable = isWritable;
    this.#show(buffer, offset, length);
  }

  /** Shuts it: from now on it shows nothing. */
  shut(): void {
    this.#show(NOTHING, 0, 0);
  }

  #show(buffer: ArrayBuffer, offset: number, length: number): void {
    this.#buffer = buffer;
    this.#offset = offset;
    this.#length = length;
    this.#bytes = new Uint8Array(buffer, offset, length);
    this.#halves = new Uint16Array(buffer, offset, length / 2);
    this.#words = new Uint32Array(buffer, offset, length / 4);
    this.#wides = new BigUint64Array(buffer, offset, length / 8);
    this.#any = new DataView(buffer, offset, length);
  }

  /** The offset of `width` bytes at `gpa`; -1 where it does not show all of them, and for what is no address. */
  offsetOf(gpa: Address, width: number): number {
    if (typeof gpa !== 'number') return -1;
    const offset = (gpa - this.start) | 0;
    return offset === gpa - this.start && offset >= 0 && offset <= this.#length - width ? offset : -1;
  }

  // Preconditions: `at` comes from `offsetOf` for the same width, just now; values fit; what is written to is writable.

  /** `length`: that of `into`, as nobody but the runtime says it. */
  read(at: number, into: Uint8Array, length: number): void {
    // Not `into.set`: a class of the caller's would see the array that it is filled from.
    set.call(into, new Uint8Array(this.#buffer, this.#offset + at, length));
  }
  write(at: number, from: Uint8Array): void {
    this.#bytes.set(from, at);
  }

  // Little-endian. Aligned ones are elements of an array, which nobody sees half of.

  getU8(at: number): number {
    return this.#bytes[at]!;
  }
  getU16(at: number): number {
    return (at & 1) === 0 ? this.#halves[at >>> 1]! : this.#any.getUint16(at, true);
  }
  getU32(at: number): number {
    return (at & 3) === 0 ? this.#words[at >>> 2]! : this.#any.getUint32(at, true);
  }
  getU64(at: number): bigint {
    return (at & 7) === 0 ? this.#wides[at >>> 3]! : this.#any.getBigUint64(at, true);
  }
  setU8(at: number, value: number): void {
    this.#bytes[at] = value;
  }
  setU16(at: number, value: number): void {
    if ((at & 1) === 0) this.#halves[at >>> 1] = value;
    else this.#any.setUint16(at, value, true);
  }
  setU32(at: number, value: number): void {
    if ((at & 3) === 0) this.#words[at >>> 2] = value;
    else this.#any.setUint32(at, value, true);
  }
  setU64(at: number, value: bigint): void {
    if ((at & 7) === 0) this.#wides[at >>> 3] = value;
    else this.#any.setBigUint64(at, value, true);
  }
}

/** Start of the page of an address. */
function pageAt(gpa: number): number {
  return gpa - (gpa % abi.PAGE_SIZE);
}

/** Shows nothing. */
export const NO_WINDOW = new GuestWindow(0, NOTHING, 0, 0, false);

/** The buffers that windows show parts of, by their first GPA: each a part of one stretch. */
class Chunks {
  readonly #reservation: Reservation;
  readonly #buffers = new Map<number, ArrayBuffer>();

  constructor(reservation: Reservation) {
    this.#reservation = reservation;
  }

  /** End of the first stretch. */
  get firstEnd(): number {
    return Number(this.#reservation.size);
  }

  /** The memory of a chunk, of which a window shows what is there for certain. Undefined where there are too many, or
   *  the runtime has no such buffers. */
  bufferOf({ start, end }: CommandRange): ArrayBuffer | undefined {
    const made = this.#buffers.get(start);
    if (made !== undefined || this.#buffers.size === MOST_CHUNKS) return made;
    try {
      const buffer = this.#reservation.view(start, end - start);
      this.#buffers.set(start, buffer);
      return buffer;
    } catch {
      return undefined;
    }
  }

  /** Detaches the buffers of a stretch that goes. */
  drop({ start, end }: CommandRange): void {
    for (const [at, buffer] of this.#buffers) {
      if (at < start || at >= end) continue;
      this.#reservation.detachView(buffer);
      this.#buffers.delete(at);
    }
  }

  /** Detaches all buffers. Precondition: the reservation is still open. */
  close(): void {
    this.drop({ start: 0, end: Number.POSITIVE_INFINITY });
  }
}

/** The map of a VA space with windows. */
export interface WindowContext {
  readonly core: Core;
  readonly objects: ObjectTable;
  readonly windows: Set<GuestWindows>;
  readonly isBusy: boolean;
  readonly isBroken: boolean;
  /** Closes something, which must not reach this, should nobody close the map; until `letGo`. */
  hold(holding: { close(): void }): void;
  letGo(holding: { close(): void }): void;
}

/** The windows of one VA space, or of a view of one. */
export class GuestWindows {
  readonly #context: WindowContext;
  /** Sinks whose commands change what is shown; the first says what may be used, the last is the VA space. */
  readonly #sinks: readonly [number, ...number[]];
  /** VA space that they are of. */
  readonly #va: number;
  readonly #chunks: Chunks;
  /** The oldest first. */
  #open: GuestWindow[] = [];
  /** Around all that is open. */
  #hull: CommandRange = { start: 0, end: 0 };
  #misses = 0;
  /** Misses that lead to an attempt to open a window. Doubled by each attempt in vain. */
  #patience = PATIENCE;

  constructor(context: WindowContext, sinks: readonly [number, ...number[]], reservation: Reservation) {
    this.#context = context;
    this.#sinks = sinks;
    this.#va = sinks.at(-1)!;
    this.#chunks = new Chunks(reservation);
    context.windows.add(this);
    context.hold(this.#chunks);
  }

  /** A window that shows the byte at `gpa`: one that is open, or after many calls in vain a new one. */
  find(gpa: number, isWrite: boolean): GuestWindow | undefined {
    for (const window of this.#open) {
      if (gpa >= window.start && gpa < window.end && (window.isWritable || !isWrite)) return window;
    }
    if (++this.#misses < this.#patience) return undefined;
    this.#misses = 0;
    const opened = this.#show(gpa, isWrite);
    this.#patience = opened === undefined ? this.#patience * 2 : PATIENCE;
    return opened;
  }

  /** Shuts what the plan that the core holds is going to change. */
  shutFor(core: Core, { commands, releases }: PlanFacts): void {
    for (const sink of this.#sinks) {
      for (let i = this.#touching(core, sink, 0); i >= 0; i = this.#touching(core, sink, i + 1)) {
        const { gpa, length } = core.command(i);
        this.#shut((window) => gpa < window.end && sum(gpa, length) > window.start);
      }
    }
    for (let i = commands - releases; i < commands; i++) {
      if (core.commandSink(i) !== this.#va) continue;
      const { gpa, length } = core.command(i);
      this.#chunks.drop({ start: Number(gpa), end: Number(sum(gpa, length)) });
    }
  }

  /** The first command to a sink from `from` on that touches the hull of what is open; -1 if there is none. */
  #touching(core: Core, sink: number, from: number): number {
    return this.#open.length === 0 ? -1 : core.commandTouching(from, sink, this.#hull);
  }

  /** Shuts all windows and detaches their buffers. Precondition: the reservation is still open. */
  close(): void {
    this.#shut(() => true);
    this.#chunks.close();
    this.#context.windows.delete(this);
    this.#context.letGo(this.#chunks);
  }

  #shut(isGone: (window: GuestWindow) => boolean): void {
    for (const window of this.#open) if (isGone(window)) window.shut();
    this.#keep(this.#open.filter((window) => !isGone(window)));
  }

  #keep(open: GuestWindow[]): void {
    this.#open = open;
    const start = Math.min(...open.map((window) => window.start));
    this.#hull = { start, end: Math.max(...open.map((window) => window.end)) };
  }

  #show(gpa: number, isWrite: boolean): GuestWindow | undefined {
    const { core, isBroken, isBusy } = this.#context;
    // While a plan is carried out, the pieces are not what the core says.
    if (isBusy || isBroken) return undefined;
    const [first, ...rest] = core.someParts(this.#sinks[0], gpa, LAST_ADDRESS);
    if (first === undefined || first.start > gpa || !this.#isLasting(first)) return undefined;
    const isWritable = (first.flags & abi.ACCESS_WRITE) !== 0;
    if (isWrite && !isWritable) return undefined;
    let last = first;
    for (const next of rest) {
      if (next.start !== sum(last.last, 1) || next.flags !== first.flags || !this.#isLasting(next)) break;
      last = next;
    }
    const chunk = this.#chunkAt(gpa);
    const buffer = chunk && this.#chunks.bufferOf(chunk);
    if (buffer === undefined) return undefined;
    // Nothing but whole pages: the rest of a page that traps is not to be seen.
    const start = Math.max(chunk!.start, pageAt(Number(first.start) + abi.PAGE_SIZE - 1));
    const end = Math.min(chunk!.end, pageAt(Number(last.last) + 1));
    if (gpa < start || gpa >= end) return undefined;
    // Windows that the new one contains are not needed any more.
    this.#shut((other) => other.start >= start && other.end <= end && (isWritable || !other.isWritable));
    if (this.#open.length === MOST_WINDOWS) this.#open.shift()!.shut();
    const window = new GuestWindow(start, buffer, start - chunk!.start, end - start, isWritable);
    this.#keep([...this.#open, window]);
    return window;
  }

  /** The part of a stretch that one buffer shows, around a GPA. */
  #chunkAt(gpa: number): CommandRange | undefined {
    const { firstEnd } = this.#chunks;
    let stretch: CommandRange = { start: 0, end: firstEnd };
    if (gpa >= firstEnd) {
      const [other] = this.#context.core.stretches(this.#va, gpa, gpa);
      if (other === undefined) return undefined;
      stretch = { start: Number(other.start), end: Number(other.last) + 1 };
    }
    const start = gpa - ((gpa - stretch.start) % CHUNK);
    return { start, end: Math.min(start + CHUNK, stretch.end) };
  }

  /** Whether only a plan can take its pages away: not whoever has the file, nor an empty pool of huge pages. */
  #isLasting(piece: Row): boolean {
    const { isLasting, granularity } = this.#context.objects.objectOf(piece.id);
    return (piece.flags & abi.ACCESS_READ) !== 0 && isLasting && granularity === abi.PAGE_SIZE;
  }
}
