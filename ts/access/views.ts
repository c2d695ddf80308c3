// Views of guest memory, for leases. The buffers of memory that is leased again and again are kept: each holder gets
// the memory in a new buffer, and the one before is detached.

import { markAsUntransferable } from 'node:worker_threads';
import { native, type Reservation } from '../core/native.ts';

/** Most buffers that are kept, and most bytes of one: V8 counts them as memory in use. */
const [MOST_KEPT, MOST_BYTES] = [64, 2 ** 20];
const MOST_REMEMBERED = 256;

/** First buffers by those that their memory was moved to, which keep the addresses from others as long. */
const firstOf = new WeakMap<ArrayBuffer, ArrayBuffer>();

/** Whether a buffer that is not to be transferred can be detached all the same: from Node.js 24 on, it cannot. */
const CAN_DETACH = isDetachable(new ArrayBuffer(1));

function isDetachable(untransferable: ArrayBuffer & { transfer?: () => ArrayBuffer }): boolean {
  markAsUntransferable(untransferable);
  try {
    untransferable.transfer?.();
    return true;
  } catch {
    return false;
  }
}

/** Memory that a buffer shows. */
export interface ShownMemory {
  readonly gpa: number;
  readonly length: number;
  /** Buffer that was made for it. */
  readonly first: ArrayBuffer;
  /** Buffer that has it now. */
  readonly buffer: ArrayBuffer;
}

export class Views {
  readonly #reservation: Reservation;
  /** Bytes of the first stretch, whose addresses stay. */
  readonly #end: number;
  /** Memory that nobody has now, by GPA: what was let go last comes last. */
  readonly #kept = new Map<number, ShownMemory>();
  /** GPAs of memory that was shown lately: what is shown once is not kept. */
  readonly #lately = new Set<number>();

  constructor(reservation: Reservation, end: number) {
    this.#reservation = reservation;
    this.#end = end;
  }

  /** Shows memory. Its addresses go to nobody else before the buffer is collected, whatever ends the lease: the system
   *  may still be writing there for somebody who has it. */
  show(gpa: number, length: number): ShownMemory {
    const kept = this.#kept.get(gpa);
    if (kept?.length === length) {
      this.#kept.delete(gpa);
      return kept;
    }
    const first = this.#reservation.view(gpa, length, true);
    return { gpa, length, first, buffer: first };
  }

  /** Detaches the buffer. Throws ERR_DETACHED where its memory was moved away. */
  letGo(shown: ShownMemory): void {
    if (this.#isWorthKeeping(shown)) this.#keep(shown);
    else this.#detach(shown);
  }

  #isWorthKeeping({ gpa, length }: ShownMemory): boolean {
    if (length > MOST_BYTES || gpa + length > this.#end) return false;
    if (!CAN_DETACH || native().countsViews) return false;
    if (this.#lately.has(gpa)) return true;
    if (this.#lately.size === MOST_REMEMBERED) this.#lately.clear();
    this.#lately.add(gpa);
    return false;
  }

  #keep({ gpa, length, first, buffer }: ShownMemory): void {
    const moved = this.#reservation.moveView(buffer);
    markAsUntransferable(moved);
    firstOf.set(moved, first);
    const other = this.#kept.get(gpa) ?? (this.#kept.size < MOST_KEPT ? undefined : [...this.#kept.values()][0]);
    if (other !== undefined) {
      this.#kept.delete(other.gpa);
      this.#detach(other);
    }
    this.#kept.set(gpa, { gpa, length, first, buffer: moved });
  }

  #detach({ first, buffer }: ShownMemory): void {
    this.#reservation.detachView(first, buffer);
  }

  /** Gives all that is kept back. Precondition: the reservation is still open. */
  close(): void {
    for (const shown of this.#kept.values()) this.#detach(shown);
    this.#kept.clear();
  }
}
