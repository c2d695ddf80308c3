// Waiting until memory is free to be changed: the guest is kept away from what is leased, nobody gets a new lease
// there, and when the last one has ended the change is made and the guest's access given back, in one step.

import * as abi from '../../assembly/abi.ts';
import type { Change, HeldLease } from '../access/held-lease.ts';
import { holdersOf, isEnough, LeaseConflict, leaseFacts } from '../access/lease-table.ts';
import { pageEnd, pageStart } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import * as validate from '../core/validate.ts';
import { Attachment } from '../sinks/attachment.ts';
import { partsWithin, type Withheld } from '../sinks/withheld.ts';
import type { Context } from './context.ts';

/** Options of waiting for leases to end. */
export interface WaitOptions {
  /** Milliseconds. Default: as long as it takes. */
  readonly deadline?: number;
  /** Whether leases that are held at the deadline end then, whatever their holders are doing, and the change is made. A
   *  lease of which another thread has a view ends when its event loop comes to that; if not within a second, or for a
   *  lock of native code, it throws LEASED. Default: false. */
  readonly revoke?: boolean;
  /** Signal that gives the waiting up: it ends with ABORTED. */
  readonly signal?: AbortSignal;
}

/** The longest that a timer of Node.js can be set to. */
const MAX_DEADLINE = 2 ** 31 - 1;

/** Milliseconds that a thread has to let go of a view when it is asked to. */
const GRACE = 1000;

/** Milliseconds between two looks at locks of native code, which tells nobody when it unlocks. */
const POLL_PERIOD = 2;

/** Does `MemoryMap.whenFree`. */
export async function whenFree<Result>(context: Context, body: () => Result, options?: WaitOptions): Promise<Result> {
  if (typeof body !== 'function') throw validate.invalid('whenFree needs a function');
  const { deadline, revoke, signal } = validate.options(options, ['deadline', 'revoke', 'signal'], 'whenFree');
  const isRevoking = validate.flag(revoke ?? false, 'revoke');
  if (isRevoking && deadline === undefined) throw validate.invalid('leases are revoked at a deadline: give one');
  if (signal !== undefined) validate.instance(AbortSignal, signal, 'signal');
  const until =
    deadline === undefined ? undefined : performance.now() + validate.integer(deadline, 'deadline', 0, MAX_DEADLINE);
  while (context.isInTurns) await context.settled();
  if (context.isBusy) throw validate.invalid('whenFree cannot be called inside a transaction');
  const kept = new Keeping(context);
  try {
    while (true) {
      if (signal?.aborted) throw aborted([], signal.reason);
      const conflict = attempt(context, kept, body);
      if (!('leases' in conflict)) return conflict.result;
      // What the body itself has leased ended with it, and would be in the way again. Others end at any time.
      if (!conflict.leases.some(({ isHeld, isElsewhere }) => isHeld || isElsewhere)) throw conflict;
      kept.add(conflict);
      await allEnded(context, conflict.leases, { until, isRevoking, signal });
      while (context.isInTurns) await context.settled();
    }
  } catch (error) {
    while (context.isInTurns) await context.settled();
    throw ended(error, kept);
  } finally {
    kept.unbar();
  }
}

/** Error that ends a wait; it says besides why the guest could not be given its memory back, if that is so. */
function ended(error: unknown, kept: Keeping): unknown {
  try {
    kept.end();
    return error;
  } catch (cause) {
    if (!(error instanceof MembackingError)) return error;
    const { code, details } = error;
    const message = `${error.message}; giving the guest back what was kept from it failed: ${(cause as Error).message}`;
    return new MembackingError(code, message, { details, cause });
  }
}

function attempt<Result>(context: Context, kept: Keeping, body: () => Result): LeaseConflict | { result: Result } {
  try {
    const result = context.transaction(() => {
      kept.giveBack();
      return body();
    });
    return { result };
  } catch (error) {
    // Leases of another map are not waited for.
    if (error instanceof LeaseConflict && error.table === context.leases) return error;
    throw error;
  }
}

/** Memory that is kept from the guest and from new leases while somebody waits. */
class Keeping {
  readonly #context: Context;
  #withheld: Withheld[] = [];
  readonly #unbar: (() => void)[] = [];

  constructor(context: Context) {
    this.#context = context;
  }

  /** Keeps new leases from all that would change, and the guest from what of it is leased. */
  add({ leases, changes }: LeaseConflict): void {
    this.#unbar.push(this.#context.leases.bar(changes));
    const parts = leases.flatMap((lease) => changes.flatMap((change) => commonPart(lease, change)));
    try {
      this.#withhold(parts);
    } catch (error) {
      if ((error as MembackingError).code !== 'NO_SLOTS') throw error;
      this.#withhold(wholeSlots(this.#context, parts));
    }
  }

  #withhold(parts: readonly Withheld[]): void {
    this.#context.transaction(() => {
      for (const part of parts) withhold(this.#context, part);
      const before = this.#withheld;
      this.#context.onUndo(() => {
        this.#withheld = before;
      });
      this.#withheld = [...before, ...parts];
    });
  }

  /** Gives the guest its access back, inside a transaction. */
  readonly giveBack = (): void => {
    for (const part of this.#withheld) giveBack(this.#context, part);
    this.#context.onDone(() => {
      this.#withheld = [];
      this.#context.overdue.delete(this.giveBack);
    });
  };

  /** Gives all of it back: now, or where that fails, with the next transaction. */
  end(): void {
    const { closed, isBroken, overdue } = this.#context;
    if (this.#withheld.length === 0 || closed || isBroken) return;
    overdue.add(this.giveBack);
    this.#context.transaction(() => {});
  }

  unbar(): void {
    for (const unbar of this.#unbar) unbar();
  }
}

/** The whole pages that a change takes from the guest and a lease is in. */
function commonPart(lease: HeldLease, { start, end, left, concerns }: Change): Withheld[] {
  const [from, to] = [Math.max(lease.start, start), Math.min(lease.end, end)];
  if (from >= to || isEnough(lease.mode, left)) return [];
  // Execution stays: whoever may read goes on executing.
  const access = left & abi.ACCESS_READ ? left | abi.ACCESS_EXECUTE : 0;
  return [{ start: pageStart(from), last: pageEnd(to) - 1, access, concerns }];
}

/** The whole slots that parts are in, which need no more slots than there are: for where none is left to cut one. */
function wholeSlots(context: Context, parts: readonly Withheld[]): Withheld[] {
  const attachments = new Set(parts.flatMap((part) => attachmentsOf(context, part)));
  return [...attachments].flatMap((attachment) => {
    const own = parts.filter((part) => part.concerns(attachment));
    const concerns = (other: Attachment) => other === attachment;
    return context.core.sinkRows(attachment.id).flatMap(({ start, last }) => {
      const inside = [...partsWithin(own, { start, last })];
      const access = inside.reduce((left, part) => left & part.access, abi.ACCESS_ALL);
      return inside.length === 0 ? [] : [{ start, last, access, concerns }];
    });
  });
}

function attachmentsOf({ sinks }: Context, part: Withheld): Attachment[] {
  return [...sinks].filter((sink): sink is Attachment => sink instanceof Attachment && part.concerns(sink));
}

function withhold(context: Context, part: Withheld): void {
  context.onUndo(() => context.withheld.delete(part));
  context.withheld.add(part);
  for (const attachment of attachmentsOf(context, part)) attachment.withhold(part);
}

function giveBack(context: Context, part: Withheld): void {
  if (!context.withheld.has(part)) return;
  context.onUndo(() => context.withheld.add(part));
  context.withheld.delete(part);
  for (const attachment of attachmentsOf(context, part)) attachment.giveBack(part, context.withheld);
}

/** End of a wait that has a deadline, by `performance.now()`, or a signal. */
interface Patience {
  readonly until: number | undefined;
  readonly isRevoking: boolean;
  readonly signal: AbortSignal | undefined;
}

/** Settles when none of the leases is held. Throws LEASED at the deadline, ABORTED. */
function allEnded(
  { leases: table }: Context,
  leases: readonly HeldLease[],
  { until, isRevoking, signal }: Patience,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const still = () => leases.filter(({ isHeld }) => isHeld);
    const finish = (settle: () => void) => {
      stop();
      clearTimeout(timer);
      clearInterval(poll);
      signal?.removeEventListener('abort', onAbort);
      settle();
    };
    const check = () => {
      if (still().length === 0) finish(resolve);
    };
    const onAbort = () => finish(() => reject(aborted(still(), signal!.reason)));
    const giveUp = () => finish(() => reject(new LeaseConflict(table, still(), [])));
    const onEndOfGrace = () => {
      for (const lease of still()) lease.cutOff?.();
      if (still().length === 0) finish(resolve);
      else giveUp();
    };
    const onDeadline = () => {
      if (!isRevoking) return giveUp();
      // Threads that have views are asked to let go, and their JavaScript comes to it when it has nothing else to do.
      timer = setTimeout(onEndOfGrace, GRACE);
      for (const lease of still()) takeBack(lease);
      check();
    };
    const stop = table.onEnd(check);
    const poll = leases.some(({ isElsewhere }) => isElsewhere) ? setInterval(check, POLL_PERIOD) : undefined;
    let timer = until === undefined ? undefined : setTimeout(onDeadline, Math.max(0, until - performance.now()));
    signal?.addEventListener('abort', onAbort);
    if (signal?.aborted) onAbort();
    else check();
  });
}

/** Ends a lease, unless its view was given away, or its holder can only be asked. */
function takeBack(lease: HeldLease): void {
  try {
    lease.takeBack();
  } catch (error) {
    if (!(error instanceof MembackingError)) throw error;
  }
}

function aborted(leases: readonly HeldLease[], cause: unknown): MembackingError {
  const what = leases.length === 0 ? 'a change' : `waiting for memory in use by ${holdersOf(leases)}`;
  const message = `${what} was given up; nothing was changed`;
  return new MembackingError('ABORTED', message, { details: { leases: leases.map(leaseFacts) }, cause });
}
