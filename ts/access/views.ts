// Views of guest memory, for leases. The buffers of memory that is leased again and again are kept: each holder gets
// the memory in a new buffer, and the one before is detached.

import { markAsUntransferable } from 'node:worker_threads';
import { native, type Reservation } from '../core/native.ts';

/** Most buffers that are kept, and most bytes of one: V8 counts them as memory in use. */
const [MOST_KEPT, MOST_BYTES] = [64, 2 ** 20];
const MOST_REMEMBERED = 256;

/** Base of classes whose fields are put on a buffer that is there already. */
class OnBuffer {
  constructor(buffer: ArrayBuffer) {
    // biome-ignore lint/correctness/noConstructorReturn: what is returned here gets the fields
    return buffer as never;
  }
}

/** Buffer that memory was moved to. It has the first buffer of that memory, which keeps the addresses from others, as
 *  long as itself: by a field, as a WeakMap takes a fifth of a microsecond. */
class Moved extends OnBuffer {
  readonly #first: ArrayBuffer;

  private constructor(moved: ArrayBuffer, first: ArrayBuffer) {
    super(moved);
    this.#first = first;
  }

  /** Enters that `moved` has the memory that `before` had. */
  static enter(moved: ArrayBuffer, before: ArrayBuffer): void {
    new Moved(moved, Moved.firstOf(before));
  }

  /** The buffer that was made for the memory of a buffer. */
  static firstOf(buffer: ArrayBuffer): ArrayBuffer {
    return #first in buffer ? buffer.#first : buffer;
  }
}

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
  readonly buffer: ArrayBuffer;
}

export class Views {
  readonly #reservation: Reservation;
  /** Bytes of the first stretch, whose addresses stay. */
  readonly #end: number;
  /** Memory that is kept, by GPA, the oldest first; undefined while somebody has it. */
  readonly #kept = new Map<number, ShownMemory | undefined>();
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
      this.#kept.set(gpa, undefined);
      return kept;
    }
    return { gpa, length, buffer: this.#reservation.view(gpa, length, true) };
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

  #keep({ gpa, length, buffer }: ShownMemory): void {
    const moved = this.#reservation.moveView(buffer);
    markAsUntransferable(moved);
    Moved.enter(moved, buffer);
    // Another one of the same GPA has another length, or was leased at the same time.
    if (this.#kept.has(gpa)) this.#detach(this.#kept.get(gpa));
    else if (this.#kept.size === MOST_KEPT) this.#dropOldest();
    this.#kept.set(gpa, { gpa, length, buffer: moved });
  }

  #dropOldest(): void {
    for (const [gpa, shown] of this.#kept) {
      this.#kept.delete(gpa);
      this.#detach(shown);
      return;
    }
  }

  #detach(shown: ShownMemory | undefined): void {
    if (shown !== undefined) this.#reservation.detachView(Moved.firstOf(shown.buffer), shown.buffer);
  }

  /** Gives all that is kept back. Precondition: the reservation is still open. */
  close(): void {
    for (const shown of this.#kept.values()) this.#detach(shown);
    this.#kept.clear();
  }
}
