// Waiting until memory is free to be changed: the guest is kept away from what is leased, nobody gets a new lease there,
// and when the last one has ended the change is made and the guest's access given back, in one step.

import * as abi from '../assembly/abi.ts';
import type { Context } from './context.ts';
import { MembackingError } from './errors.ts';
import type { Change, HeldLease } from './lease-table.ts';
import { holdersOf, LeaseConflict, leaseFacts } from './lease-table.ts';
import { Attachment } from './partition.ts';
import { VaSpace } from './va-space.ts';
import * as validate from './validate.ts';
import type { Withheld } from './withheld.ts';

export interface WaitOptions {
  /** Milliseconds. Default: as long as it takes. */
  readonly deadline?: number;
  readonly signal?: AbortSignal;
}

/** The longest that a timer of Node.js can be set to. */
const MAX_DEADLINE = 2 ** 31 - 1;

/** See `MemoryMap.whenFree`. */
export async function whenFree<Result>(context: Context, body: () => Result, options?: WaitOptions): Promise<Result> {
  if (typeof body !== 'function') throw validate.invalid('whenFree needs a function');
  const { deadline, signal } = validate.options(options, ['deadline', 'signal'], 'whenFree');
  if (signal !== undefined) validate.instance(AbortSignal, signal, 'signal');
  const until =
    deadline === undefined ? undefined : performance.now() + validate.integer(deadline, 'deadline', 0, MAX_DEADLINE);
  if (context.isBusy) throw validate.invalid('whenFree cannot be called inside a transaction');
  const kept = new Keeping(context);
  try {
    while (true) {
      const conflict = attempt(context, kept, body);
      if (!('leases' in conflict)) return conflict.result;
      kept.add(conflict);
      await allEnded(context, conflict.leases, until, signal);
    }
  } finally {
    kept.end();
  }
}

function attempt<Result>(context: Context, kept: Keeping, body: () => Result): LeaseConflict | { result: Result } {
  try {
    const result = context.transaction(() => {
      kept.giveBack();
      return body();
    });
    kept.forget();
    return { result };
  } catch (error) {
    if (error instanceof LeaseConflict) return error;
    throw error;
  }
}

/** What is kept from the guest and from new leases while somebody waits. */
class Keeping {
  readonly #context: Context;
  #withheld: Withheld[] = [];
  #unbar: (() => void)[] = [];

  constructor(context: Context) {
    this.#context = context;
  }

  /** Keeps the guest away from what of the leases would change, and new leases from all that would. */
  add({ leases, changes }: LeaseConflict): void {
    const added = changes.flatMap((change) => this.#parts(change, leases));
    this.#context.transaction(() => {
      for (const part of added) withhold(this.#context, part);
    });
    this.#withheld.push(...added);
    this.#unbar.push(this.#context.leases.bar(changes));
  }

  /** Inside a transaction: the guest sees it again. */
  giveBack(): void {
    for (const part of this.#withheld) giveBack(this.#context, part);
  }

  /** The transaction that gave it back has ended well. */
  forget(): void {
    this.#withheld = [];
    for (const unbar of this.#unbar) unbar();
    this.#unbar = [];
  }

  end(): void {
    const { closed, core } = this.#context;
    if (this.#withheld.length > 0 && !closed && !core.isBroken) this.#context.transaction(() => this.giveBack());
    this.forget();
  }

  /** The whole pages that leases and a change have in common. */
  #parts(change: Change, leases: readonly HeldLease[]): Withheld[] {
    const space = spaceOf(this.#context, change.sink);
    const page = abi.PAGE_SIZE;
    return leases
      .filter(({ sink, start, end }) => sink === change.sink && start < change.end && end > change.start)
      .map(({ start, end }) => ({
        space,
        start: Math.floor(Math.max(start, change.start) / page) * page,
        last: Math.ceil(Math.min(end, change.end) / page) * page - 1,
      }));
  }
}

function spaceOf({ sinks }: Context, sink: number): number {
  const va = [...sinks].find((each): each is VaSpace => each instanceof VaSpace && each.id === sink)!;
  return va.space.id;
}

function attachmentsOf({ sinks }: Context, space: number): Attachment[] {
  return [...sinks].filter((sink): sink is Attachment => sink instanceof Attachment && sink.space.id === space);
}

function withhold(context: Context, part: Withheld): void {
  context.withheld.add(part);
  context.onUndo(() => context.withheld.delete(part));
  for (const attachment of attachmentsOf(context, part.space)) attachment.withhold(part);
}

function giveBack(context: Context, part: Withheld): void {
  context.withheld.delete(part);
  context.onUndo(() => context.withheld.add(part));
  for (const attachment of attachmentsOf(context, part.space)) attachment.giveBack(part);
}

/** Settles when none of the leases is held. Throws LEASED at the deadline, ABORTED. */
function allEnded(
  { leases: table }: Context,
  leases: readonly HeldLease[],
  until: number | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const still = () => leases.filter((lease) => table.holds(lease));
    const finish = (settle: () => void) => {
      stop();
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      settle();
    };
    const check = () => {
      if (still().length === 0) finish(resolve);
    };
    const onAbort = () => finish(() => reject(aborted(still(), signal!.reason)));
    const onDeadline = () => finish(() => reject(new LeaseConflict(still(), [])));
    const stop = table.onEnd(check);
    const timer = until === undefined ? undefined : setTimeout(onDeadline, Math.max(0, until - performance.now()));
    signal?.addEventListener('abort', onAbort);
    if (signal?.aborted) onAbort();
    else check();
  });
}

function aborted(leases: readonly HeldLease[], cause: unknown): MembackingError {
  const message = `waiting for memory in use by ${holdersOf(leases)} was given up; nothing was changed`;
  return new MembackingError('ABORTED', message, { details: { leases: leases.map(leaseFacts) }, cause });
}
