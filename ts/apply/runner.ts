// Runs plans: the core decides, executors do, and here is the only rollback. A plan is executed in order, in runs of
// commands of one executor; if a command fails, the core rolls back and what was done is taken back. If that fails too,
// the map is poisoned: it keeps what is mapped mapped, and refuses every further change.

import * as abi from '../../assembly/abi.ts';
import type { Core } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';

/** Carries out commands of the core's current plan. */
export interface Executor {
  /** Commands `first` to `first + count - 1`, in order, up to the first that fails. Returns how many were done. */
  execute(core: Core, first: number, count: number): number;
  /** The same for commands that take others back, with everything that was kept in reserve for that. Default: `execute`. */
  unwind?(core: Core, first: number, count: number): number;
  /** Why the last one failed. */
  readonly failure: unknown;
}

/** Holds the guest's vCPUs around plans that would let them miss bytes that stay valid. */
export interface Pausable {
  pause(): void;
  resume(): void;
}

/** What became of a transaction. */
export interface PlanFacts {
  readonly commands: number;
  /** CLASS_* of abi.ts. */
  readonly disturbance: number;
}

/** Sees each plan after it was made and before it is executed; it may read its commands from the core. */
export type PlanObserver = (core: Core, plan: PlanFacts) => void;

export class PlanRunner {
  readonly #core: Core;
  /** By sink id. A sink without one (a replay's) is told nothing. */
  readonly #executors = new Map<number, Executor>();
  readonly #pausables = new Map<number, Pausable>();
  /** The executor of every sink, while there is only one. */
  #only: Executor | undefined;
  #isRunning = false;
  observer: PlanObserver | undefined;
  /** May throw: then nothing of the plan is executed, and nothing has happened. */
  admit: ((core: Core, commands: number) => void) | undefined;

  constructor(core: Core) {
    this.#core = core;
  }

  /** Whom the sink's commands go to, from now on. */
  connect(sink: number, executor: Executor, pausable?: Pausable): void {
    this.#executors.set(sink, executor);
    if (pausable !== undefined) this.#pausables.set(sink, pausable);
    this.#simplify();
  }

  disconnect(sink: number): void {
    this.#executors.delete(sink);
    this.#pausables.delete(sink);
    this.#simplify();
  }

  #simplify(): void {
    const different = new Set(this.#executors.values());
    this.#only = different.size === 1 ? [...different][0] : undefined;
  }

  /** Whether a plan is being carried out or taken back: what the core says is there may not be. */
  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Ends the core's innermost transaction; the outermost one's plan is executed. Throws what `Core.commit` throws,
   *  PLAN_FAILED (nothing has happened), POISONED, and RESUME_FAILED (it has happened). */
  commit(): PlanFacts {
    const commands = this.#core.commit();
    if (this.#core.open > 0) return NOTHING;
    this.#isRunning = true;
    try {
      return this.#bringAbout(commands);
    } finally {
      this.#isRunning = false;
    }
  }

  #bringAbout(commands: number): PlanFacts {
    const core = this.#core;
    const disturbance = commands === 0 ? abi.CLASS_NONE : core.planClass();
    const plan = { commands, disturbance };
    this.observer?.(core, plan);
    this.#admit(commands);
    if (commands === 0 || this.#executors.size === 0) core.adopt();
    else this.#carryOut(plan);
    return plan;
  }

  #admit(commands: number): void {
    try {
      this.admit?.(this.#core, commands);
    } catch (error) {
      this.#unwind(0);
      throw error;
    }
  }

  #carryOut({ commands, disturbance }: PlanFacts): void {
    if (disturbance !== abi.CLASS_UNCHANGED_BYTES) {
      this.#executeAndAdopt(commands);
      return;
    }
    const paused: Pausable[] = [];
    try {
      for (const pausable of this.#involved(commands)) {
        pausable.pause();
        paused.push(pausable);
      }
    } catch (cause) {
      resume(paused);
      this.#unwind(0);
      throw new MembackingError(
        'PLAN_FAILED',
        'a partition could not be paused for a change of its memory map; nothing was changed',
        { cause },
      );
    }
    try {
      this.#executeAndAdopt(commands);
    } catch (error) {
      resume(paused);
      throw error;
    }
    const failure = resume(paused);
    if (failure === undefined) return;
    const message = `the memory map was changed, but a partition could not be resumed after it: ${reason(failure.cause)}`;
    throw new MembackingError('RESUME_FAILED', message, failure);
  }

  #involved(commands: number): Set<Pausable> {
    const involved = new Set<Pausable>();
    for (let i = 0; i < commands && involved.size < this.#pausables.size; i++) {
      const pausable = this.#pausables.get(this.#core.commandSink(i));
      if (pausable !== undefined) involved.add(pausable);
    }
    return involved;
  }

  /** Or unwinds. */
  #executeAndAdopt(commands: number): void {
    const failure = this.#run(commands, execute);
    if (failure === undefined) {
      this.#core.adopt();
      return;
    }
    const command = this.#core.command(failure.done);
    this.#unwind(failure.done);
    const what = `${COMMAND_NAMES[command.op]} at ${`0x${command.gpa.toString(16)}`}`;
    const message = `command ${failure.done + 1} of ${commands} of the plan (${what}) failed: ${reason(failure.cause)}; nothing was changed`;
    throw new MembackingError('PLAN_FAILED', message, {
      details: { done: failure.done, command },
      cause: failure.cause,
    });
  }

  /** Takes the first `done` commands back. */
  #unwind(done: number): void {
    const inverse = this.#core.unwind(done);
    const failure = this.#run(inverse, unwind);
    if (failure === undefined) {
      this.#core.unwound();
      return;
    }
    this.#core.poison();
    const message = `a plan failed after ${done} commands, and taking them back failed too (${reason(failure.cause)}): what is mapped stays, every further change is refused`;
    throw new MembackingError('POISONED', message, { details: { done }, cause: failure.cause });
  }

  /** Executes the commands that the core now shows; undefined, or where it stopped and why. */
  #run(count: number, run: Run): { done: number; cause: unknown } | undefined {
    if (this.#only !== undefined) {
      const done = run(this.#only, this.#core, 0, count);
      return done === count ? undefined : { done, cause: this.#only.failure };
    }
    for (let first = 0; first < count; ) {
      const executor = this.#executors.get(this.#core.commandSink(first));
      let end = first + 1;
      while (end < count && this.#executors.get(this.#core.commandSink(end)) === executor) end++;
      const done = executor === undefined ? end - first : run(executor, this.#core, first, end - first);
      if (done < end - first) return { done: first + done, cause: executor!.failure };
      first = end;
    }
    return undefined;
  }
}

/** The last one that was paused first. What the first throws that does is returned. */
function resume(paused: readonly Pausable[]): { cause: unknown } | undefined {
  let failure: { cause: unknown } | undefined;
  for (const pausable of paused.toReversed()) {
    try {
      pausable.resume();
    } catch (cause) {
      failure ??= { cause };
    }
  }
  return failure;
}

type Run = (executor: Executor, core: Core, first: number, count: number) => number;
const execute: Run = (executor, core, first, count) => executor.execute(core, first, count);
const unwind: Run = (executor, core, first, count) =>
  executor.unwind === undefined ? executor.execute(core, first, count) : executor.unwind(core, first, count);

const NOTHING: PlanFacts = { commands: 0, disturbance: abi.CLASS_NONE };

/** What a command does, as the text form of a plan says it. */
export const COMMAND_NAMES: Readonly<Record<number, string>> = {
  [abi.OP_VA_MAP]: 'va-map',
  [abi.OP_VA_UNMAP]: 'va-unmap',
  [abi.OP_VA_PROTECT]: 'va-protect',
  [abi.OP_VA_PARK]: 'va-park',
  [abi.OP_VA_LIMIT]: 'va-limit',
  [abi.OP_VA_UNPARK]: 'va-unpark',
  [abi.OP_SLOT_ADD]: 'slot-add',
  [abi.OP_SLOT_DELETE]: 'slot-delete',
};

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
