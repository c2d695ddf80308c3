// What all handles of one memory map share: the core, who runs its plans, the names, the trace that is recorded.

import type { GuestWindows } from '../access/guest-window.ts';
import { LeaseTable } from '../access/lease-table.ts';
import { NativeExecutor } from '../apply/native-executor.ts';
import { PlanEvents } from '../apply/plan-events.ts';
import { PlanRunner } from '../apply/runner.ts';
import { obtained, whenCollected } from '../core/collected.ts';
import type { CoreOptions } from '../core/core.ts';
import { Core } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import { Names, PLAN_PENDING } from '../core/names.ts';
import { PartitionTable } from '../sinks/partition-table.ts';
import type { Sink } from '../sinks/sink.ts';
import type { Withheld } from '../sinks/withheld.ts';
import type { TraceRecorder } from '../trace/recorder.ts';
import { ObjectTable } from './object-table.ts';
import type { Region } from './region.ts';
import type { AddressSpace } from './space.ts';

type Action = () => void;

/** A handle of the addon, or some of them. */
interface Holding {
  close(): void;
}

export class Context {
  readonly names = new Names();
  readonly core: Core;
  readonly runner: PlanRunner;
  readonly events: PlanEvents;
  readonly recorder: TraceRecorder | undefined;
  /** By the core's number. One that was closed stays as long as it may be visible: to the end of the transaction. */
  readonly regions = new Map<number, Region>();
  readonly spaces = new Map<number, AddressSpace>();
  readonly objects = new ObjectTable(this);
  readonly partitions = new PartitionTable(this);
  readonly leases = new LeaseTable();
  /** Of every VA space. */
  readonly windows = new Set<GuestWindows>();
  /** What is kept from partitions for now. */
  readonly withheld = new Set<Withheld>();
  /** What the next transaction does first, because it could not be done in its time. */
  readonly overdue = new Set<Action>();
  /** What is attached, in order. */
  readonly sinks = new Set<Sink>();
  /** What the system gave for it: closed in this order, should nobody close the map. */
  readonly #holdings = new Set<Holding>();
  readonly #stopWatching: Action;
  /** Made with the first sink of this machine: without one, the addon is not needed. */
  #native: NativeExecutor | undefined;
  /** What open transactions did outside the core and must be undone with them, in the order in which it was done. */
  readonly #undo: Action[] = [];
  /** Where in `#undo` each open transaction begins. The outermost is open until its plan is carried out. */
  readonly #marks: number[] = [];
  /** To be done when the outermost transaction has ended well. */
  #after: Action[] = [];
  #closed = false;

  constructor(options: Omit<CoreOptions, 'explain'>, recorder: TraceRecorder | undefined) {
    this.core = obtained(() => new Core({ ...options, explain: this.names.explain }));
    this.runner = new PlanRunner(this.core);
    this.runner.admit = (core, commands) => {
      this.leases.admit(core, commands);
      for (const windows of this.windows) windows.admit(core, commands);
    };
    this.events = new PlanEvents(this.runner);
    this.recorder = recorder;
    this.#stopWatching = whenCollected(this, dropped(this.#holdings));
  }

  get native(): NativeExecutor {
    if (this.#native === undefined) {
      this.#native = new NativeExecutor();
      this.hold(this.#native);
    }
    return this.#native;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Closes something, which must not reach this, should nobody close the map. */
  hold(holding: Holding): void {
    this.#holdings.add(holding);
  }
  letGo(holding: Holding): void {
    this.#holdings.delete(holding);
  }

  /** Whether a transaction is open or its plan is being carried out. */
  get isBusy(): boolean {
    return this.#marks.length > 0;
  }

  checkOpen(): void {
    if (this.#closed) throw new MembackingError('CLOSED', 'the memory map is closed');
  }

  close(): void {
    this.#closed = true;
    this.#stopWatching();
    this.objects.close();
    this.#native?.close();
  }

  /** Carries out one operation: in the transaction that is open, or in one of its own. */
  perform<Result>(operation: () => Result): Result {
    if (this.core.open > 0) return operation();
    return this.transaction(operation);
  }

  /** All of it or nothing. Throws PLAN_PENDING while another one is carried out: also when the core has done its part, but
   *  partitions are resumed, the plan is announced, the trace written. */
  transaction<Result>(body: () => Result): Result {
    this.checkOpen();
    if (this.isBusy && this.core.open === 0) throw new MembackingError('PLAN_PENDING', PLAN_PENDING);
    this.core.begin();
    this.recorder?.begin();
    this.#marks.push(this.#undo.length);
    let result: Result;
    try {
      if (this.overdue.size > 0 && this.#marks.length === 1) for (const action of this.overdue) action();
      result = body();
      refusePromise(result);
    } catch (error) {
      if (!this.core.isBroken) this.core.abort();
      this.#rollBack();
      throw error;
    }
    try {
      this.events.commit();
    } catch (error) {
      if (hasHappened(error)) this.#keep();
      else this.#rollBack();
      throw error;
    }
    this.#keep();
    return result;
  }

  /** To be done if the innermost transaction comes to nothing. Precondition: one is open. */
  onUndo(undo: Action): void {
    this.#undo.push(undo);
  }

  /** To be done when the outermost transaction has ended well. Precondition: one is open. */
  onDone(done: Action): void {
    this.#after.push(done);
    this.onUndo(() => {
      this.#after = this.#after.filter((other) => other !== done);
    });
  }

  /** Enters something in a table, with the transaction that is open. */
  enter<Value>(table: Map<number, Value>, id: number, value: Value): void {
    table.set(id, value);
    this.onUndo(() => table.delete(id));
  }

  /** Takes it out again when the transaction has ended. (The core gives out its number only after that.) */
  leave(table: Map<number, unknown>, id: number): void {
    this.onDone(() => table.delete(id));
  }

  #rollBack(): void {
    this.recorder?.abort();
    const mark = this.#marks.pop()!;
    while (this.#undo.length > mark) this.#undo.pop()!();
  }

  #keep(): void {
    this.recorder?.commit();
    this.#marks.pop();
    if (!this.isBusy) this.#finish();
  }

  #finish(): void {
    if (this.#undo.length > 0) this.#undo.length = 0;
    if (this.#after.length > 0) {
      const after = this.#after;
      this.#after = [];
      for (const done of after) done();
    }
    this.objects.sweep();
  }
}

let hasWarned = false;

/** What is done for a map that nobody has any more. It knows nothing of the map. */
function dropped(holdings: ReadonlySet<Holding>): Action {
  return () => {
    for (const holding of holdings) holding.close();
    if (hasWarned) return;
    hasWarned = true;
    const message =
      'a memory map, or the guest memory manager that it belongs to, was dropped without close(): what the system gave for it goes back only when the garbage collector comes by';
    process.emitWarning(message, { type: 'MembackingWarning', code: 'MAP_DROPPED' });
  };
}

function hasHappened(error: unknown): boolean {
  return error instanceof MembackingError && error.code === 'RESUME_FAILED';
}

/** What an async body does later would not be in the transaction. Throws INVALID_ARGUMENT. */
function refusePromise(result: unknown): void {
  if (!(result instanceof Promise)) return;
  // Nobody else will hear of it when it fails.
  result.catch(() => {});
  throw new MembackingError('INVALID_ARGUMENT', 'a transaction cannot wait: its function must not be async');
}
