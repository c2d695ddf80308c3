// What all handles of one memory map share: the core, who runs its plans, the names, the trace that is recorded.

import { Core } from './core.ts';
import type { CoreOptions } from './core.ts';
import { MembackingError } from './errors.ts';
import { PlanRunner } from './apply.ts';
import { Names } from './names.ts';
import { NativeExecutor } from './native-executor.ts';
import type { TraceRecorder } from './trace/recorder.ts';

type Undo = () => void;

export class Context {
  readonly names = new Names();
  readonly core: Core;
  readonly runner: PlanRunner;
  /** Made with the first sink of this machine: without one, the addon is not needed. */
  #native: NativeExecutor | undefined;
  readonly recorder: TraceRecorder | undefined;
  /** Called whenever an outermost transaction has ended well. */
  onIdle: (() => void) | undefined;
  /** What each open transaction did outside the core and must be undone with it. */
  readonly #undo: Undo[][] = [];
  /** Run when the outermost transaction has ended well. */
  #after: Undo[] = [];
  #closed = false;

  constructor(options: Omit<CoreOptions, 'explain'>, recorder: TraceRecorder | undefined) {
    this.core = new Core({ ...options, explain: this.names.explain });
    this.runner = new PlanRunner(this.core);
    this.recorder = recorder;
  }

  get native(): NativeExecutor {
    this.#native ??= new NativeExecutor();
    return this.#native;
  }

  get closed(): boolean {
    return this.#closed;
  }

  checkOpen(): void {
    if (this.#closed) throw new MembackingError('CLOSED', 'the memory map is closed');
  }

  close(): void {
    this.#closed = true;
    this.#native?.close();
  }

  /** Carries out one operation: in the transaction that is open, or in one of its own. */
  perform<Result>(operation: () => Result): Result {
    if (this.core.open > 0) return operation();
    return this.transaction(operation);
  }

  /** All of it or nothing. */
  transaction<Result>(body: () => Result): Result {
    this.checkOpen();
    this.core.begin();
    this.recorder?.begin();
    this.#undo.push([]);
    let result: Result;
    try {
      result = body();
      if (result instanceof Promise) throw new MembackingError('INVALID_ARGUMENT', 'a transaction cannot wait: its function must not be async');
    } catch (error) {
      this.core.abort();
      this.#rollBack();
      throw error;
    }
    try {
      this.runner.commit();
    } catch (error) {
      this.#rollBack();
      throw error;
    }
    this.#keep();
    return result;
  }

  /** To be done if the innermost transaction comes to nothing. */
  onUndo(undo: Undo): void {
    this.#undo.at(-1)!.push(undo);
  }

  /** To be done when the outermost transaction has ended well. */
  onDone(done: Undo): void {
    this.#after.push(done);
    this.onUndo(() => {
      this.#after = this.#after.filter((other) => other !== done);
    });
  }

  #rollBack(): void {
    this.recorder?.abort();
    for (const undo of this.#undo.pop()!.reverse()) undo();
  }

  #keep(): void {
    this.recorder?.commit();
    const undo = this.#undo.pop()!;
    if (this.#undo.length > 0) {
      this.#undo.at(-1)!.push(...undo);
      return;
    }
    const after = this.#after;
    this.#after = [];
    for (const done of after) done();
    this.onIdle?.();
  }
}
