// A lease: a hold on a stretch of guest memory in use, and the memory itself as long as it is held.

import { inspect } from 'node:util';
import { type Address, formatHex } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { keepInThread } from '../core/handle.ts';
import { systemError } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import type { LeaseFacts } from './held-lease.ts';
import { leaseFacts, renderLease } from './lease-table.ts';
import type { ShownMemory, Views } from './views.ts';

/** Memory that leases give views of. */
interface ViewedMemory {
  readonly windows: { readonly views: Views };
}

/** Guest memory that stays where it is, with the access that was asked for, until `release`. */
export abstract class Lease implements Disposable {
  readonly #views: Views;
  readonly #facts: LeaseFacts;
  readonly #isViewable: boolean;
  #shown: ShownMemory | undefined;
  #view: Uint8Array | undefined;

  /** `isViewable`: JavaScript may touch the memory. @internal */
  constructor(memory: ViewedMemory, facts: LeaseFacts, isViewable: boolean) {
    validate.madeBy('GuestMemory.lock', memory);
    keepInThread(this);
    this.#views = memory.windows.views;
    this.#facts = facts;
    this.#isViewable = isViewable;
  }

  /** Facts for those who wait for it. */
  get facts(): LeaseFacts {
    return leaseFacts(this.#facts);
  }

  /** Whether it has ended. */
  abstract get released(): boolean;

  /** The memory itself: the same array each time, of length 0 after `release`. A lease to read gives one too, which
   *  is not to be written. Another thread gets a copy of it, whether it is in the list of what is transferred or not
   *  (newer Node.js refuses that); a lease of its own gives it the memory. Throws NO_VIEW where JavaScript must not
   *  touch it (read-only memory, huge pages of a pool, a file that can become shorter, more than 4 GiB): there
   *  `read` and `write` of the guest memory do. Throws SYSTEM where pages of a lazy restore cannot be read: a view has
   *  all of its pages. */
  get view(): Uint8Array {
    const { gpa, length } = this.#facts;
    if (this.#view !== undefined && !this.released) return this.#view;
    if (!this.#isViewable || length > 2 ** 32) {
      if (this.released) throw this.#ended();
      const message = `memory at ${formatHex(gpa)} has no view: it is read-only, or of huge pages of a pool, or its file can become shorter, or it is more than 4 GiB; use read and write`;
      throw new MembackingError('NO_VIEW', message, { details: { gpa, length } });
    }
    if (!this.keepForView()) throw this.#ended();
    const shown = systemError('a view of guest memory', () => this.#views.show(gpa, length));
    this.#shown = shown;
    this.#view = new Uint8Array(shown.buffer);
    return this.#view;
  }

  /** Detaches the view, and lets the memory go. May be called again. What the system still does with the view (a
   *  read that waits) goes on: see the guide. Throws SYSTEM, and goes on holding, where the view's memory was moved
   *  to another buffer (by `ArrayBuffer.prototype.transfer` of newer Node.js). */
  release(): void {
    const shown = this.#shown;
    if (shown !== undefined) {
      systemError('the view of a lease', () => this.#views.letGo(shown));
      this.#shown = undefined;
    }
    this.letGo();
  }

  /** Ends the lease, as `release` does. */
  close(): void {
    this.release();
  }

  /** Text for console.log and util.inspect. */
  [inspect.custom](): string {
    return `lease of ${renderLease(this.#facts)}${this.released ? ' (released)' : ''}`;
  }

  /** Ends the lease, at the end of the scope of `using`: `release`. */
  [Symbol.dispose](): void {
    this.release();
  }

  #ended(): MembackingError {
    return new MembackingError('CLOSED', `the lease at ${formatHex(this.#facts.gpa)} has ended`);
  }

  /** Sees to it that all of the memory is there, and that nobody ends the lease without its view. False: it has ended.
   *  Throws SYSTEM. */
  protected abstract keepForView(): boolean;
  /** Ends the hold, if it is held. */
  protected abstract letGo(): void;
}

const REFUSALS = {
  hole: 'has no memory',
  gone: 'has no memory behind it now',
  'read-only': 'is read-only',
  misaligned: 'is not aligned',
  stretches: 'is in one stretch of the VA space, and the end of the range in another: use read and write',
  'trapping-page': 'lies in a page that traps for the guest, as not all of it is this memory: use read and write',
} as const;

/** GUEST_ACCESS of memory that cannot be leased. */
export function cannotLease(gpa: Address, fault: keyof typeof REFUSALS): MembackingError {
  const message = `guest memory cannot be leased: ${formatHex(gpa)} ${REFUSALS[fault]}`;
  return new MembackingError('GUEST_ACCESS', message, { details: { gpa, fault } });
}
