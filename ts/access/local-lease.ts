// Leases of the thread that changes the map.

import * as abi from '../../assembly/abi.ts';
import type { PlanRunner } from '../apply/runner.ts';
import type { ObjectTable } from '../asked/object-table.ts';
import {
  type Address,
  difference,
  higher,
  isPageAligned,
  lengthOf,
  lower,
  pageEnd,
  pageStart,
  sum,
} from '../core/address.ts';
import type { Core } from '../core/core.ts';
import type { Reservation } from '../core/native.ts';
import type { HeldLease, LeaseFacts, LeaseMode } from './held-lease.ts';
import { cannotLease, Lease } from './lease.ts';
import { aboutToChange, isEnough, type LeaseTable } from './lease-table.ts';
import type { OwnWindows } from './own-windows.ts';

/** The map that memory is leased of. */
export interface LeaseContext {
  readonly core: Core;
  readonly objects: ObjectTable;
  readonly leases: LeaseTable;
  readonly runner: PlanRunner;
  readonly isBusy: boolean;
  readonly isInTurns: boolean;
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

/** Number of the next lease, in the order in which they are taken. */
let taken = 0;

/** Entry of a lease in the table of leases. */
class Held implements HeldLease {
  readonly holder: string;
  readonly mode: LeaseMode;
  readonly gpa: number;
  readonly length: number;
  readonly start: number;
  readonly end: number;
  readonly order = taken++;
  readonly sink: number;
  readonly owner: object;
  isHeld = false;
  readonly #lease: LocalLease;

  constructor({ holder, mode, gpa, length }: LeaseFacts, sink: number, owner: object, lease: LocalLease) {
    this.holder = holder;
    this.mode = mode;
    this.gpa = gpa;
    this.length = length;
    this.start = gpa;
    this.end = gpa + length;
    this.sink = sink;
    this.owner = owner;
    this.#lease = lease;
  }

  takeBack(): void {
    this.#lease.release();
  }
}

/** Lease of the thread that changes the map, which ends it before the memory goes. */
export class LocalLease extends Lease {
  readonly #space: LeasedSpace;
  readonly #held: HeldLease;

  private constructor(space: LeasedSpace, owner: object, facts: LeaseFacts, isViewable: boolean) {
    super(space, facts, isViewable);
    this.#space = space;
    this.#held = new Held(facts, space.va, owner, this);
  }

  /** Takes a lease. Throws GUEST_ACCESS where not all of the range is mapped with that access, LEASED where it is about
   *  to change. @internal */
  static take(space: LeasedSpace, owner: object, facts: LeaseFacts): LocalLease {
    const { mode, gpa, length } = facts;
    const { context } = space;
    const { isBusy, isInTurns } = context;
    if (context.runner.isRunning && !isInTurns) throw aboutToChange(gpa);
    const lease = new LocalLease(space, owner, facts, checkMapped(space, mode, gpa, length));
    if (isBusy && !isInTurns) context.onUndo(() => lease.release());
    context.leases.add(lease.#held);
    return lease;
  }

  get released(): boolean {
    return !this.#held.isHeld;
  }

  protected keepForView(): boolean {
    if (this.released) return false;
    bring(this.#space, this.#held.gpa, this.#held.length);
    return true;
  }

  protected letGo(): void {
    this.#space.context.leases.remove(this.#held);
  }
}

/** Checks that all of the range is mapped with enough access. Throws GUEST_ACCESS. Returns whether JavaScript may touch
 *  it: it is writable, and certainly stays there. */
function checkMapped(space: LeasedSpace, mode: LeaseMode, gpa: number, length: number): boolean {
  const window = space.windows.findAround(gpa, length);
  // A window shows what is certainly there, and all of it with the same access.
  if (window !== undefined && (window.isWritable || mode === 'read')) return window.isWritable;
  return askMapped(space, mode, gpa, length);
}

/** Does as `checkMapped`, by what the core knows. */
function askMapped({ context, id, va, windows }: LeasedSpace, mode: LeaseMode, gpa: number, length: number): boolean {
  const { core, objects } = context;
  const last = gpa + length - 1;
  if (gpa >= windows.firstEnd || last >= windows.firstEnd) checkOneStretch(core, va, gpa, last);
  let next: Address = gpa;
  let isViewable = true;
  for (const piece of core.partsIn(id, gpa, last)) {
    if (piece.start > next) break;
    if (!isEnough(mode, piece.flags)) throw cannotLease(next, 'read-only');
    if (!isWholePages(Number(piece.start), Number(piece.last), gpa, last)) throw cannotLease(next, 'trapping-page');
    const { isLasting, block, granularity } = objects.objectOf(piece.id);
    // A huge page that was given back comes again only if the pool has one.
    const isCertain = (isLasting || block !== undefined) && granularity === abi.PAGE_SIZE;
    if ((piece.flags & abi.ACCESS_WRITE) === 0 || !isCertain) isViewable = false;
    next = sum(piece.start, lengthOf(piece.start, piece.last));
  }
  if (next <= last) throw cannotLease(next, 'hole');
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
  if (stretch === undefined || stretch.start > last) throw cannotLease(gpa, 'hole');
  if (stretch.start > gpa || stretch.last < last) throw cannotLease(gpa, 'stretches');
}

/** Whether what [start, end] has of [first, last] lies in pages of which it has all. */
function isWholePages(start: number, end: number, first: number, last: number): boolean {
  const isCutInFront = !isPageAligned(start) && first < pageEnd(start);
  const isCutBehind = !isPageAligned(end + 1) && last >= pageStart(end);
  return !isCutInFront && !isCutBehind;
}
