// The context that all handles of one memory map share: the core, who runs its plans, the names, the trace that is
// recorded. Here is the only way into a transaction and out of it.

import { LeaseTable } from '../access/lease-table.ts';
import type { LeaseContext } from '../access/local-lease.ts';
import type { OwnWindows, WindowContext } from '../access/own-windows.ts';
import { PlanEvents } from '../apply/plan-events.ts';
import { type Outcome, type PlanObserver, PlanRunner, type Turn } from '../apply/runner.ts';
import type { Closable } from '../asked/context.ts';
import type { RegionEvent } from '../asked/event.ts';
import { ObjectTable } from '../asked/object-table.ts';
import type { Region } from '../asked/region.ts';
import type { AddressSpace, SpaceContext } from '../asked/space.ts';
import { assert } from '../core/assert.ts';
import { obtained, whenCollected } from '../core/collected.ts';
import type { CoreOptions } from '../core/core.ts';
import { Core } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import type { Policy } from '../core/kinds.ts';
import { Names, PLAN_PENDING } from '../core/names.ts';
import { UndoList } from '../core/undo-list.ts';
import * as validate from '../core/validate.ts';
import { Attachment, type AttachmentContext } from '../sinks/attachment.ts';
import { PartitionTable } from '../sinks/partition-table.ts';
import type { Sink } from '../sinks/sink.ts';
import type { Withheld } from '../sinks/withheld.ts';
import { type TraceOutput, TraceRecorder } from '../trace/recorder.ts';

type Action = () => void;

export class Context implements SpaceContext, WindowContext, LeaseContext, AttachmentContext {
  readonly names = new Names();
  readonly core: Core;
  readonly runner: PlanRunner;
  readonly events: PlanEvents;
  readonly policy: Policy;
  /** Whether the core is the build that checks itself. */
  readonly isDebug: boolean;
  /** Made when somebody wants a trace: without one, nothing is written down. */
  #recorder: TraceRecorder | undefined;
  /** Regions by the core's number. One that was closed stays as long as it may be visible: to the end of the
   *  transaction. */
  readonly regions = new Map<number, Region>();
  readonly spaces = new Map<number, AddressSpace>();
  readonly regionEvents = new Map<number, RegionEvent>();
  readonly objects = new ObjectTable(this);
  readonly partitions = new PartitionTable(this);
  readonly leases = new LeaseTable();
  /** Windows of every VA space. */
  readonly windows = new Set<OwnWindows>();
  /** Ranges that are kept from partitions for now. */
  readonly withheld = new Set<Withheld>();
  /** Actions that the next transaction does first, because they could not be done in their time. */
  readonly overdue = new Set<Action>();
  /** Sinks that are attached, in order. */
  readonly sinks = new Set<Sink>();
  /** Handles that the system gave for the map: closed in this order, should nobody close the map. */
  readonly #held = new Set<Closable>();
  readonly #stopWatching: Action;
  /** Steps of open transactions outside the core. The outermost is open until its plan is carried out. */
  readonly #undo = new UndoList();
  /** Actions that follow when the outermost transaction has ended well. */
  #after: Action[] = [];
  #closed = false;
  /** Whether the outermost transaction is being ended: from its plan's making until all is in order again. */
  #isEnding = false;
  /** Transaction that is carried out in turns, settled when it has ended; undefined while there is none. */
  #inTurns: Promise<Ended<unknown>> | undefined;
  /** Depth of the transaction in which an operation was cut short, which can only be taken back; 0 for none. */
  #spoiled = 0;
  #spoiledBy: unknown;
  /** Whether a transaction was cut short, at a point of which nobody knows what is done. */
  #isBroken = false;
  #brokenBy: unknown;

  constructor(options: Omit<CoreOptions, 'explain'>) {
    this.core = obtained(() => new Core({ ...options, explain: this.names.explain }));
    this.runner = new PlanRunner(this.core, (core, plan) => {
      this.leases.admit(core, plan.commands);
      for (const windows of this.windows) windows.shutFor(core, plan);
    });
    this.events = new PlanEvents(this.runner);
    this.policy = options.policy ?? 'layered';
    this.isDebug = options.debug ?? false;
    this.#stopWatching = whenCollected(this, dropped(this.#held));
  }

  get recorder(): TraceRecorder | undefined {
    return this.#recorder;
  }

  /** Gives a trace of what happens from now on to `output`; returns what ends that. Throws what `write` throws.
   *  Precondition: no transaction is open. */
  record(output: TraceOutput): Action {
    this.#recorder ??= new TraceRecorder(this.policy);
    const recorder = this.#recorder;
    recorder.add(output);
    return () => recorder.remove(output);
  }

  get closed(): boolean {
    return this.#closed;
  }

  attachmentsTo(space: AddressSpace): number[] {
    const all = [...this.sinks].filter((sink) => sink instanceof Attachment && sink.space === space && !sink.closed);
    return all.map(({ id }) => id);
  }

  /** Lets every attachment that can have events have some. Inside a transaction. */
  prepareEvents(): void {
    for (const sink of [...this.sinks]) if (sink instanceof Attachment) sink.prepareEvents();
  }

  hold(held: Closable): void {
    this.#held.add(held);
  }
  letGo(held: Closable): void {
    this.#held.delete(held);
  }

  get isBusy(): boolean {
    return this.#undo.depth > 0;
  }

  get isBroken(): boolean {
    return this.#isBroken || this.core.isBroken;
  }

  checkOpen(): void {
    if (this.#closed) throw new MembackingError('CLOSED', 'the memory map is closed');
    if (this.#isBroken) throw broken(this.#brokenBy);
  }

  close(): void {
    this.#closed = true;
    this.#stopWatching();
    this.objects.close();
    for (const each of this.#held) each.close();
  }

  perform<Result>(operation: () => Result): Result {
    const { depth } = this.#undo;
    if (depth === 0 || this.#isEnding) return this.transaction(operation);
    this.checkOpen();
    this.#checkAgreement();
    try {
      return operation();
    } catch (error) {
      // What is no refusal has come half-way, perhaps. Nothing is called or made here: the call stack may have run out.
      if (this.#spoiled === 0) {
        this.#spoiled = depth;
        this.#spoiledBy = error;
        if (error instanceof MembackingError) this.#spoiled = 0;
      }
      throw error;
    }
  }

  transaction<Result>(body: () => Result): Result {
    const ended = this.attempt(body);
    if (!ended.hasHappened || ended.error !== undefined) throw ended.error;
    return ended.result;
  }

  /** A transaction whose end is a value. Throws CLOSED, POISONED. */
  attempt<Result>(body: () => Result): Ended<Result> {
    this.checkOpen();
    return this.#enter(body, this.#endNow);
  }

  /** A transaction that is carried out in turns, when those before it have ended. Rejects with what `turn` throws. */
  async transactionInTurns<Result>(body: () => Result, turn: Turn): Promise<Result> {
    while (this.isInTurns) await this.settled();
    this.checkOpen();
    if (this.isBusy && !this.#isEnding)
      throw validate.invalid('a transaction in the background is not part of another');
    const ending = this.#enter(body, (result) => this.#endInTurns(result, turn));
    if (ending instanceof Promise) this.#inTurns = ending;
    const ended = await ending;
    if (!ended.hasHappened || ended.error !== undefined) throw ended.error;
    return ended.result;
  }

  get isInTurns(): boolean {
    return this.#inTurns !== undefined;
  }

  async settled(): Promise<void> {
    await this.#inTurns;
  }

  checkIdle(inside: () => MembackingError): void {
    if (this.isInTurns) throw new MembackingError('PLAN_PENDING', PLAN_PENDING);
    if (this.isBusy) throw inside();
  }

  /** Shows the plan that `body` would make to `look`, and makes none: what `body` did is taken back. Throws
   *  INVALID_ARGUMENT inside a transaction. */
  preview(body: () => unknown, look: PlanObserver): void {
    this.checkOpen();
    this.checkIdle(() => validate.invalid('a plan cannot be asked for inside a transaction'));
    const ended = this.#enter(body, (result) => this.#end(result, look));
    if (!ended.hasHappened) throw ended.error;
  }

  /** The only way into a transaction and out of it, by `end`. Precondition: the map is open. */
  #enter<Result, End>(body: () => Result, end: (result: Result) => End): End | Failed {
    try {
      return this.#carryThrough(body, end);
    } catch (cause) {
      // Errors that are expected come back as values. One that is thrown came between two steps, as when the call stack
      // has run out: nobody knows how far they came. Nothing is called or made before that is noted.
      if (!this.#isBroken) this.#brokenBy = cause;
      this.#isBroken = true;
      return failed(cause);
    }
  }

  #carryThrough<Result, End>(body: () => Result, end: (result: Result) => End): End | Failed {
    this.#checkAgreement();
    if (this.#isEnding) return failed(new MembackingError('PLAN_PENDING', PLAN_PENDING));
    const refusal = this.#begin();
    if (refusal !== undefined) return failed(refusal);
    let result: Result;
    try {
      if (this.overdue.size > 0) this.#catchUp();
      result = body();
      validate.noPromise(result, 'a transaction cannot wait: its function must not be async');
    } catch (error) {
      return this.#abort(error);
    }
    if (this.isBroken) return failed(broken(this.#brokenBy));
    if (this.#spoiled !== 0) return this.#abort(this.#spoiledBy);
    return end(result);
  }

  /** Does what is overdue, if the transaction that was opened is the outermost. */
  #catchUp(): void {
    if (this.#undo.depth === 1) for (const action of this.overdue) action();
  }

  /** Opens a transaction, or says why not. */
  #begin(): MembackingError | undefined {
    let open: number;
    try {
      open = this.core.begin();
    } catch (error) {
      if (error instanceof MembackingError) return error;
      throw error;
    }
    this.#undo.begin();
    assert(open === this.#undo.depth, 'core and map open transactions together');
    if (this.recorder !== undefined) this.#undo.add(this.recorder.mark());
    return undefined;
  }

  #abort(error: unknown): Failed {
    if (this.isBroken) return failed(error);
    this.core.abort();
    this.#rollBack();
    assert(this.core.open === this.#undo.depth, 'core and map undo transactions together');
    return failed(error);
  }

  readonly #endNow = <Result>(result: Result): Ended<Result> => this.#end(result, undefined);

  #end<Result>(result: Result, look: PlanObserver | undefined): Ended<Result> {
    const isOutermost = this.#undo.depth === 1;
    this.#isEnding = isOutermost;
    const outcome = this.#outcome(look);
    if (isOutermost && look === undefined) this.events.tell(outcome);
    const { error } = this.#conclude(outcome, isOutermost);
    // A plan that was looked at has come to nothing, as was asked for.
    const hasHappened = outcome.hasHappened || (look !== undefined && error === undefined);
    return hasHappened ? { hasHappened, result, error } : failed(error);
  }

  async #endInTurns<Result>(result: Result, turn: Turn): Promise<Ended<Result>> {
    this.#isEnding = true;
    try {
      const outcome = await this.#outcomeInTurns(turn);
      this.events.tell(outcome);
      const { hasHappened, error } = this.#conclude(outcome, true);
      return hasHappened ? { hasHappened, result, error } : failed(error);
    } catch (cause) {
      this.#isBroken = true;
      this.#brokenBy = cause;
      return failed(cause);
    } finally {
      this.#inTurns = undefined;
    }
  }

  #conclude(outcome: Outcome, isOutermost: boolean): Outcome {
    if (!outcome.hasHappened) this.#rollBack();
    else if (isOutermost) this.recorder?.flush();
    if (outcome.lost.length > 0) this.#settle(outcome.lost);
    this.#isEnding = false;
    if (outcome.hasHappened) this.#keep();
    assert(this.core.isBroken || this.core.open === this.#undo.depth, 'core and map end transactions together');
    return outcome;
  }

  #outcome(look: PlanObserver | undefined): Outcome {
    try {
      return look === undefined ? this.runner.commit() : this.runner.preview(look);
    } finally {
      this.leases.natively.end();
    }
  }

  /** Does as `#outcome` does, in turns. What changes is not leased meanwhile. */
  async #outcomeInTurns(turn: Turn): Promise<Outcome> {
    let unbar = () => {};
    const begun: PlanObserver = (core, { commands }) => {
      unbar = this.leases.barPlan(core, commands);
      this.leases.natively.end();
    };
    try {
      return await this.runner.commitInTurns(begun, turn);
    } finally {
      unbar();
      this.leases.natively.end();
    }
  }

  /** Ends what shows memory that is lost, and records it. */
  #settle(lost: Outcome['lost']): void {
    for (const operations of lost) {
      for (const operation of operations) {
        this.recorder?.record(operation);
        if (operation.op === 'lose') this.leases.endIn(operation.sink, operation.start, operation.length);
      }
      this.recorder?.flush();
    }
  }

  onUndo(undo: Action): void {
    this.#undo.add(undo);
  }

  onDone(done: Action): void {
    const { length } = this.#after;
    this.onUndo(() => {
      this.#after.length = length;
    });
    this.#after.push(done);
  }

  enter<Value>(table: Map<number, Value>, id: number, value: Value): void {
    this.onUndo(() => table.delete(id));
    table.set(id, value);
  }

  leave(table: Map<number, unknown>, id: number): void {
    this.onDone(() => table.delete(id));
  }

  #rollBack(): void {
    this.#undo.rollBack();
    if (this.#spoiled <= this.#undo.depth) return;
    this.#spoiled = 0;
    this.#spoiledBy = undefined;
  }

  #keep(): void {
    this.#undo.keep();
    if (!this.isBusy) this.#finish();
  }

  /** The core's transactions and those of this side are the same, and both know of no plan that nobody carries out.
   *  Throws POISONED. */
  #checkAgreement(): void {
    if (this.core.isBroken || this.#isEnding || this.core.open === this.#undo.depth) return;
    this.#isBroken = true;
    this.#brokenBy = new Error('the core has other transactions open than the memory map');
    throw broken(this.#brokenBy);
  }

  #finish(): void {
    const { unmapped } = this.core;
    if (this.#after.length > 0) this.#doAfter();
    this.objects.sweep(unmapped);
  }

  #doAfter(): void {
    const after = this.#after;
    this.#after = [];
    for (const done of after) done();
  }
}

let hasWarned = false;

/** Makes what is done for a map that nobody has any more. It knows nothing of the map. */
function dropped(held: ReadonlySet<Closable>): Action {
  return () => {
    for (const each of held) each.close();
    if (hasWarned) return;
    hasWarned = true;
    const message =
      'a memory map, or the guest memory manager that it belongs to, was dropped without close(): what the system gave for it goes back only when the garbage collector comes by';
    process.emitWarning(message, { type: 'MembackingWarning', code: 'MAP_DROPPED' });
  };
}

/** End of a transaction. `error`: why it has not happened, or what went wrong after it had. */
type Ended<Result> =
  | { readonly hasHappened: true; readonly result: Result; readonly error: unknown }
  | { readonly hasHappened: false; readonly error: unknown };

type Failed = Ended<never>;

function failed(error: unknown): Failed {
  return { hasHappened: false, error };
}

function broken(cause: unknown): MembackingError {
  const message = 'a change of the memory map was cut short: what there is, is not known any more; close the map';
  return new MembackingError('POISONED', message, { cause });
}
