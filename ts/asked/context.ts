// The map that handles belong to, as far as this folder needs it: its core, its names, its trace, its transactions.

import type { Core } from '../core/core.ts';
import type { MembackingError } from '../core/errors.ts';
import type { Names } from '../core/names.ts';
import type { TraceRecorder } from '../trace/recorder.ts';

/** Something that is closed: a handle of the addon, or several of them. */
export interface Closable {
  close(): void;
}

/** The common part of all contexts; `map/context.ts` has the class. */
export interface MapContext {
  readonly core: Core;
  readonly names: Names;
  readonly recorder: TraceRecorder | undefined;
  readonly closed: boolean;
  /** Whether a transaction is open or its plan is being carried out. */
  readonly isBusy: boolean;
  /** Whether no change is accepted any more: the core is at its end, or something was thrown between two steps. */
  readonly isBroken: boolean;

  /** Closes something, which must not reach this, should nobody close the map; until `letGo`. */
  hold(held: Closable): void;
  letGo(held: Closable): void;

  /** Checks that changes are accepted. Throws CLOSED; POISONED where it is not known any more what there is. */
  checkOpen(): void;
  /** Carries out one operation: in the transaction that is open, or in one of its own. */
  perform<Result>(operation: () => Result): Result;
  /** Carries out all that `body` changes, as one plan, or nothing. Throws PLAN_PENDING while another one is carried
   *  out: also when the core has done its part, but partitions are resumed, the plan announced, the trace written. */
  transaction<Result>(body: () => Result): Result;
  /** Whether a transaction is carried out in turns: others have theirs, and make no change. */
  readonly isInTurns: boolean;
  /** Settles when that one has ended. Another one may have begun by then. */
  settled(): Promise<void>;
  /** Refuses what is not done while a transaction is open, with what `inside` makes. Throws PLAN_PENDING while one is
   *  carried out in turns. */
  checkIdle(inside: () => MembackingError): void;
  /** Calls `undo` if the innermost transaction comes to nothing. It is asked for before what it undoes is begun, and
   *  finds that done, or not, or begun: exceptions come at any point. Precondition: one is open. */
  onUndo(undo: () => void): void;
  /** Calls `done` when the outermost transaction has ended well. Precondition: one is open. */
  onDone(done: () => void): void;
  /** Enters something in a table, with the transaction that is open. */
  enter<Value>(table: Map<number, Value>, id: number, value: Value): void;
  /** Takes it out again when the transaction has ended. (The core gives out its number only after that.) */
  leave(table: Map<number, unknown>, id: number): void;
}
