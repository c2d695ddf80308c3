// A lease: a hold on a stretch of guest memory in use, and the memory itself as long as it is held.

import { inspect } from 'node:util';
import * as abi from '../../assembly/abi.ts';
import type { PlanRunner } from '../apply/runner.ts';
import type { ObjectTable } from '../asked/object-table.ts';
import { type Address, difference, formatHex, higher, lengthOf, lower, sum } from '../core/address.ts';
import type { Core } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import { keepInThread } from '../core/handle.ts';
import type { Reservation } from '../core/native.ts';
import { systemError } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import type { HeldLease, LeaseFacts, LeaseMode } from './held-lease.ts';
import { aboutToChange, isEnough, type LeaseTable, leaseFacts, renderLease } from './lease-table.ts';
import type { OwnWindows } from './own-windows.ts';

/** The map that memory is leased of. */
export interface LeaseContext {
  readonly core: Core;
  readonly objects: ObjectTable;
  readonly leases: LeaseTable;
  readonly runner: PlanRunner;
  readonly isBusy: boolean;
  onUndo(undo: () => void): void;
}

/** The VA space that leased memory lies in, or a view of one. @internal */
export interface LeasedSpace {
  readonly context: LeaseContext;
  /** Sink that says what may be used. */
  readonly id: number;
  /** VA space that the memory is mapped in. */
  readonly va: number;
  readonly reservation: Reservation;
  readonly windows: OwnWindows;
  /** Reason why nothing is behind what is mapped at a GPA, in words; undefined where nothing is mapped. */
  readonly whyGone: (gpa: Address) => string | undefined;
}

const PAGE_MASK = abi.PAGE_SIZE - 1;

/** Number of the next lease, in the order in which they are taken. */
let taken = 0;

/** Guest memory that stays where it is, with the access that was asked for, until `release`. */
export class Lease implements Disposable {
  readonly #space: LeasedSpace;
  readonly #held: HeldLease;
  readonly #isViewable: boolean;
  #buffer: ArrayBuffer | undefined;
  #view: Uint8Array | undefined;

  /** Takes the lease. Throws GUEST_ACCESS where not all of the range is mapped with that access, LEASED where it is
   *  about to change. @internal */
  constructor(space: LeasedSpace, owner: object, facts: LeaseFacts) {
    validate.madeBy('GuestMemory.lock', facts);
    keepInThread(this);
    const { holder, mode, gpa, length } = facts;
    this.#space = space;
    if (space.context.runner.isRunning) throw aboutToChange(gpa);
    this.#isViewable = checkMapped(space, mode, gpa, length);
    const end = () => this.release();
    const stretch = { start: gpa, end: gpa + length, order: taken++ };
    this.#held = { holder, mode, gpa, length, sink: space.va, owner, ...stretch, isHeld: false, takeBack: end };
    if (space.context.isBusy) space.context.onUndo(end);
    space.context.leases.add(this.#held);
  }

  /** Facts for those who wait for it. */
  get facts(): LeaseFacts {
    return leaseFacts(this.#held);
  }

  /** Whether it has ended. */
  get released(): boolean {
    return !this.#held.isHeld;
  }

  /** The memory itself: the same array each time, of length 0 after `release`. A lease to read gives one too, which
   *  is not to be written. Another thread gets a copy of it, whether it is in the list of what is transferred or not
   *  (newer Node.js refuses that); `WorkerGuestMemory` is the memory there. Throws NO_VIEW where JavaScript must not
   *  touch it (read-only memory, huge pages of a pool, a file that can become shorter, more than 4 GiB): there
   *  `read` and `write` of the guest memory do. Throws SYSTEM where pages of a lazy restore cannot be read: a view has
   *  all of its pages. */
  get view(): Uint8Array {
    const { gpa, length } = this.#held;
    if (this.released) throw new MembackingError('CLOSED', `the lease at ${formatHex(gpa)} was released`);
    if (this.#view !== undefined) return this.#view;
    if (!this.#isViewable || length > 2 ** 32) {
      const message = `memory at ${formatHex(gpa)} has no view: it is read-only, or of huge pages of a pool, or its file can become shorter, or it is more than 4 GiB; use read and write`;
      throw new MembackingError('NO_VIEW', message, { details: { gpa, length } });
    }
    bring(this.#space, gpa, length);
    // Its addresses go to nobody else before it is collected, whatever ended the lease: the system may still be writing
    // there for somebody who has it.
    this.#buffer = systemError('a view of guest memory', () => this.#space.reservation.view(gpa, length, true));
    this.#view = new Uint8Array(this.#buffer);
    return this.#view;
  }

  /** Detaches the view, and lets the memory go. May be called again. What the system still does with the view (a
   *  read that waits) goes on: see the guide. Throws SYSTEM, and goes on holding, where the view's memory was moved
   *  to another buffer (by `ArrayBuffer.prototype.transfer` of newer Node.js). */
  release(): void {
    if (this.released) return;
    const buffer = this.#buffer;
    if (buffer !== undefined) {
      systemError('the view of a lease', () => this.#space.reservation.detachView(buffer));
      this.#buffer = undefined;
    }
    this.#space.context.leases.remove(this.#held);
  }

  /** Ends the lease, as `release` does. */
  close(): void {
    this.release();
  }

  /** Text for console.log and util.inspect. */
  [inspect.custom](): string {
    return `lease of ${renderLease(this.#held)}${this.released ? ' (released)' : ''}`;
  }

  /** Ends the lease, at the end of the scope of `using`: `release`. */
  [Symbol.dispose](): void {
    this.release();
  }
}

/** Checks that all of the range is mapped with enough access. Throws GUEST_ACCESS. Returns whether JavaScript may touch
 *  it: it is writable, and certainly stays there. */
function checkMapped(
  { context, id, va, reservation }: LeasedSpace,
  mode: LeaseMode,
  gpa: number,
  length: number,
): boolean {
  const { core, objects } = context;
  const last = gpa + length - 1;
  if (gpa >= reservation.size || last >= reservation.size) checkOneStretch(core, va, gpa, last);
  let next: Address = gpa;
  let isViewable = true;
  for (const piece of core.partsIn(id, gpa, last)) {
    if (piece.start > next) break;
    if (!isEnough(mode, piece.flags)) throw refused(next, 'read-only');
    if (!isWholePages(Number(piece.start), Number(piece.last), gpa, last)) throw refused(next, 'trapping-page');
    const { isLasting, isPaged, granularity } = objects.objectOf(piece.id);
    // A huge page that was given back comes again only if the pool has one.
    const isCertain = (isLasting || isPaged) && granularity === abi.PAGE_SIZE;
    if ((piece.flags & abi.ACCESS_WRITE) === 0 || !isCertain) isViewable = false;
    next = sum(piece.start, lengthOf(piece.start, piece.last));
  }
  if (next <= last) throw refused(next, 'hole');
  return isViewable;
}

/** Brings all pages of a range that pagers have yet to bring: JavaScript cannot be told of one that cannot be read.
 *  Throws SYSTEM. */
function bring({ context: { core, objects }, id }: LeasedSpace, gpa: number, length: number): void {
  const last = gpa + length - 1;
  for (const piece of core.partsIn(id, gpa, last)) {
    const object = objects.objectOf(piece.id);
    if (object.isLasting) continue;
    const [from, to] = [higher(piece.start, gpa), lower(piece.last, last)];
    object.fetchNow(sum(piece.offset, difference(from, piece.start)), lengthOf(from, to));
  }
}

/** Checks that a range behind the first stretch of a VA space, or over its end, lies in one. Throws GUEST_ACCESS. */
function checkOneStretch(core: Core, va: number, gpa: number, last: number): void {
  const [stretch] = core.stretches(va, gpa, last);
  if (stretch === undefined || stretch.start > last) throw refused(gpa, 'hole');
  if (stretch.start > gpa || stretch.last < last) throw refused(gpa, 'stretches');
}

/** Whether what [start, end] has of [first, last] lies in pages of which it has all. */
function isWholePages(start: number, end: number, first: number, last: number): boolean {
  const isCutInFront = (start & PAGE_MASK) !== 0 && first <= start + PAGE_MASK - (start & PAGE_MASK);
  const isCutBehind = ((end + 1) & PAGE_MASK) !== 0 && last >= end - (end & PAGE_MASK);
  return !isCutInFront && !isCutBehind;
}

const REFUSALS = {
  hole: 'has no memory',
  'read-only': 'is read-only',
  stretches: 'is in one stretch of the VA space, and the end of the range in another: use read and write',
  'trapping-page': 'lies in a page that traps for the guest, as not all of it is this memory: use read and write',
} as const;

function refused(gpa: Address, fault: keyof typeof REFUSALS): MembackingError {
  const message = `guest memory cannot be leased: ${formatHex(gpa)} ${REFUSALS[fault]}`;
  return new MembackingError('GUEST_ACCESS', message, { details: { gpa, fault } });
}
