// Guest memory as typed arrays: the fast way to single values and small pieces, where the memory certainly stays.
//
// A window is a stretch of a VA space of which nothing can take a page away but a plan; before such a plan is carried
// out it is shut. Its arrays never leave this file. The buffers behind them stay, as they are slow to make, and reach
// further than any window: nobody else has them.

import type { Address } from '../core/address.ts';
import type { CommandRange } from '../core/core.ts';
import { native, type Reservation } from '../core/native.ts';
import { Views } from './views.ts';

/** Bytes that a buffer shows, so that offsets are small integers. */
export const CHUNK = 2 ** 31;
/** Most buffers of one VA space, and where V8 counts them as memory that is in use, so that each takes a garbage
 *  collection to make. */
const [MOST_CHUNKS, MOST_COUNTED_CHUNKS] = [128, 16];
/** Result of a read of up to 32 bits through a window that is shut. */
export const SHUT = -1;

const { set } = Uint8Array.prototype;

/** Cells of a window that shows several ranges: a power of two. */
export const CELLS = 1024;
const NO_CELLS = new Int32Array();
const PAGE_BITS = 12;

/** Range of a window: from GPA `start` to `end`, the first byte behind it. */
export interface WindowRange extends CommandRange {
  readonly isWritable: boolean;
}

/** Memory of one buffer that is read and written in place: a range of it, or several. */
export class GuestWindow {
  /** GPA of the buffer's first byte. */
  readonly #origin: number;
  /** Asking one of the arrays for it takes an eighth of a small read. */
  readonly #buffer: ArrayBuffer;
  readonly #bytes: Uint8Array;
  readonly #halves: Uint16Array;
  readonly #words: Uint32Array;
  readonly #wides: BigUint64Array;
  readonly #any: DataView;
  /** Offsets of the first byte and the last one of the only range that is shown. Several have cells. */
  #first = 0;
  #last = -1;
  /** Offsets likewise, of the range that was last met in each cell of offsets. */
  #cells = NO_CELLS;
  /** Bits of an offset that do not tell its cell. */
  #cellBits = PAGE_BITS;

  /** Shows nothing yet. */
  constructor(origin: number, buffer: ArrayBuffer) {
    this.#origin = origin;
    this.#buffer = buffer;
    this.#bytes = new Uint8Array(buffer);
    this.#halves = new Uint16Array(buffer);
    this.#words = new Uint32Array(buffer);
    this.#wides = new BigUint64Array(buffer);
    this.#any = new DataView(buffer);
  }

  /** Shows these ranges from now on, and nothing else: disjoint ones of whole pages, inside of the buffer. */
  show(ranges: readonly CommandRange[]): void {
    const only = ranges.length === 1 ? ranges[0] : undefined;
    this.#first = only === undefined ? 0 : only.start - this.#origin;
    this.#last = only === undefined ? -1 : only.end - 1 - this.#origin;
    this.#cells = NO_CELLS;
    if (ranges.length < 2) return;
    const bytes = Math.max(...ranges.map(({ end }) => end)) - this.#origin;
    this.#cellBits = Math.max(PAGE_BITS, Math.ceil(Math.log2(bytes / CELLS)));
    this.#cells = new Int32Array(2 * CELLS).fill(-1);
  }

  /** Notes where `gpa` is, so that `offsetOf` knows it: in this range. Returns its cell; -1 where one range alone is
   *  shown. Precondition: it is shown. */
  meet({ start, end }: CommandRange, gpa: number): number {
    if (this.#cells.length === 0) return -1;
    const cell = this.cellOf(gpa - this.#origin);
    this.#cells[2 * cell] = start - this.#origin;
    this.#cells[2 * cell + 1] = end - 1 - this.#origin;
    return cell;
  }

  /** The cell of an offset, where several ranges are shown. */
  protected cellOf(offset: number): number {
    return offset >>> this.#cellBits;
  }

  /** Whether it shows anything. */
  get isOpen(): boolean {
    return this.#last >= this.#first || this.#cells.length > 0;
  }

  /** The offset of `width` bytes at `gpa`; -1 where they are not in the range that was last met there, and for what is
   *  no address. */
  offsetOf(gpa: Address, width: number): number {
    if (typeof gpa !== 'number') return -1;
    const offset = (gpa - this.#origin) | 0;
    if (offset !== gpa - this.#origin) return -1;
    if (offset >= this.#first && offset <= this.#last - (width - 1)) return offset;
    const cells = this.#cells;
    const cell = this.cellOf(offset) << 1;
    return cell < cells.length && offset >= cells[cell]! && offset <= cells[cell + 1]! - (width - 1) ? offset : -1;
  }

  // Preconditions: `at` comes from `offsetOf` for the same width, just now; values fit; what is written to is writable.
  // Where another thread has shut the window, nothing is done: reads of numbers give SHUT or undefined, all others
  // false.

  /** Fills `into`, which has `length` bytes, as nobody but the runtime says. */
  read(at: number, into: Uint8Array, length: number): boolean {
    // Not `into.set`: a class of the caller's would see the array that it is filled from.
    set.call(into, new Uint8Array(this.#buffer, at, length));
    return true;
  }
  write(at: number, from: Uint8Array): boolean {
    this.#bytes.set(from, at);
    return true;
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
  getU64(at: number): bigint | undefined {
    return (at & 7) === 0 ? this.#wides[at >>> 3]! : this.#any.getBigUint64(at, true);
  }
  setU8(at: number, value: number): boolean {
    this.#bytes[at] = value;
    return true;
  }
  setU16(at: number, value: number): boolean {
    if ((at & 1) === 0) this.#halves[at >>> 1] = value;
    else this.#any.setUint16(at, value, true);
    return true;
  }
  setU32(at: number, value: number): boolean {
    if ((at & 3) === 0) this.#words[at >>> 2] = value;
    else this.#any.setUint32(at, value, true);
    return true;
  }
  setU64(at: number, value: bigint): boolean {
    if ((at & 7) === 0) this.#wides[at >>> 3] = value;
    else this.#any.setBigUint64(at, value, true);
    return true;
  }
}

/** Shows nothing. */
export const NO_WINDOW = new GuestWindow(0, new ArrayBuffer());

/** Buffer that shows a part of one stretch. */
interface Chunk {
  readonly buffer: ArrayBuffer;
  /** Address of its first byte: another stretch at the same GPAs has others, as long as the buffer is there. */
  readonly hva: bigint;
}

/** The buffers that windows show parts of, by their first GPA. */
export class Chunks {
  readonly #reservation: Reservation;
  readonly #buffers = new Map<number, Chunk>();

  /** End of the first stretch. */
  readonly firstEnd: number;
  /** Views of the same memory. */
  readonly views: Views;

  constructor(reservation: Reservation) {
    this.#reservation = reservation;
    this.firstEnd = Number(reservation.size);
    this.views = new Views(reservation, this.firstEnd);
  }

  /** The memory of a chunk, of which a window shows what is there for certain. Undefined where there are too many, or
   *  the runtime has no such buffers, or `isThere` says, when a new one has been made, that its stretch may have gone
   *  before. */
  bufferOf({ start, end }: CommandRange, isThere: () => boolean): ArrayBuffer | undefined {
    const hva = this.#reservation.addressOf(start);
    const made = this.#buffers.get(start);
    if (made !== undefined && made.hva === hva) return made.buffer;
    if (made !== undefined) this.drop({ start, end });
    const most = native().countsViews ? MOST_COUNTED_CHUNKS : MOST_CHUNKS;
    if (hva === undefined || this.#buffers.size >= most) return undefined;
    try {
      const buffer = this.#reservation.view(start, end - start);
      this.#buffers.set(start, { buffer, hva });
      if (isThere()) return buffer;
      this.drop({ start, end });
      return undefined;
    } catch {
      return undefined;
    }
  }

  /** Detaches the buffers of a range that goes. */
  drop({ start, end }: CommandRange): void {
    for (const [at, { buffer }] of this.#buffers) {
      if (at < start || at >= end) continue;
      this.#reservation.detachView(buffer);
      this.#buffers.delete(at);
    }
  }

  /** Detaches all buffers. Precondition: the reservation is still open. */
  close(): void {
    this.views.close();
    this.drop({ start: 0, end: Number.POSITIVE_INFINITY });
  }
}
