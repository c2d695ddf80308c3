// Runs plans: the core decides, executors do, and here is the only rollback. A plan is executed in order, in runs of
// commands of one executor; what it gives back for good comes last, when it has been adopted. If a command fails, the
// core rolls back and what was done is taken back. What cannot be taken back is lost: nobody reaches that range any
// more, the core is told, and everything else goes on.

import * as abi from '../../assembly/abi.ts';
import type { Address } from '../core/address.ts';
import { assert } from '../core/assert.ts';
import type { Command, Core, PlanFacts } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import { operationName } from '../core/kinds.ts';
import { Holding, type Pausable } from './holding.ts';
import { enterLoss, Losses, type LossOperation } from './losses.ts';

/** Somebody who has not done what was passed on to him. */
export interface Unconfirmed {
  /** Name, for messages. */
  readonly who: string;
  readonly cause: unknown;
}

/** Carries out commands of the core's current plan. */
export interface Executor {
  /** Commands `first` to `first + count - 1`, in order, up to the first that fails. Returns how many were done. */
  execute(core: Core, first: number, count: number): number;
  /** Carries out commands that take others back, with everything that was kept in reserve for that. Otherwise as
   *  `execute`, which is the default. */
  unwind?(core: Core, first: number, count: number): number;
  /** Waits until other processes have done what was executed and passed on to them; says who has not. `isTakingBack`:
   *  who does not take back what was done is cut off, and nobody is left. Default: nothing is passed on. */
  confirm?(isTakingBack: boolean): Unconfirmed | undefined;
  /** Error of the last command that failed. */
  readonly failure: unknown;
  /** ANSWER_*: what there is of it. Default: nothing was done. */
  readonly answer?: number;
  /** Bytes that have moved, of a command that moves pages. */
  readonly moved?: Address;
  /** Makes sure that nobody reaches what command `index`, which failed, has left. `mayReplace`: no private pages are
   *  there. SECURED_*. Default: closed. */
  secure?(core: Core, index: number, mayReplace: boolean): number;
  /** Shuts down the partition of an attachment. */
  shutDown?(sink: number): void;
}

/** End of a transaction. */
export interface Outcome {
  readonly plan: PlanFacts;
  /** Whether what was asked for is so now. */
  readonly hasHappened: boolean;
  /** Reason why it has not happened, or what went wrong after it had. */
  readonly error: unknown;
  /** Losses: the operations of each transaction that has told the core what could not be put back. */
  readonly lost: readonly (readonly LossOperation[])[];
}

/** Sees each plan after it was made and before it is executed; it may read its commands from the core. */
export type PlanObserver = (core: Core, plan: PlanFacts) => void;

/** Waits until others have had their turn. What it throws gives the plan up that is carried out in turns. */
export type Turn = () => Promise<void>;

/** Facts of the attachment that commands are for. */
export interface Attached {
  readonly partition: unknown;
  readonly pausable: Pausable | undefined;
  /** The VA space that its slots show. */
  readonly va: number;
}

/** Connection of a sink: whom its commands go to. */
interface Connection {
  readonly executor: Executor;
  readonly attached: Attached | undefined;
}

/** A command that failed, and what there is of it. */
interface CommandFailure {
  readonly done: number;
  readonly cause: unknown;
  readonly answer: number;
  readonly moved: Address;
  /** Whether it was not tried, because somebody gave the plan up. */
  readonly isGivenUp?: boolean;
}

/** Milliseconds of a slice of a plan that is carried out in turns, and commands after which the clock is looked at. */
const SLICE = 1;
const BATCH = 16;

export class PlanRunner {
  readonly #core: Core;
  /** Makes way for a plan, or throws: then nothing of it is executed, and nothing has happened. */
  readonly #makeWay: PlanObserver;
  /** Connections by sink id. A sink without one (a replay's) is told nothing. */
  readonly #connections = new Map<number, Connection>();
  /** The executor of every sink, while there is only one. */
  #only: Executor | undefined;
  /** Executors that pass commands on. */
  #passing: readonly Executor[] = [];
  #isRunning = false;
  #around = (executor: Executor): Executor => executor;
  readonly #observers: PlanObserver[] = [];

  constructor(core: Core, makeWay: PlanObserver = () => {}) {
    this.#core = core;
    this.#makeWay = makeWay;
  }

  /** Tells `observer` of every plan from now on. What it throws stops the plan. */
  observe(observer: PlanObserver): void {
    this.#observers.push(observer);
  }

  /** Puts what `around` makes of an executor in its place: of those that are connected, and of each that will be. For
   *  tests, which listen there, or fail. */
  interpose(around: (executor: Executor) => Executor): void {
    this.#around = around;
    for (const [sink, { executor, attached }] of this.#connections) this.connect(sink, executor, attached);
  }

  /** Sends the sink's commands to `executor` from now on. */
  connect(sink: number, executor: Executor, attached?: Attached): void {
    this.#connections.set(sink, { executor: this.#around(executor), attached });
    this.#simplify();
  }

  disconnect(sink: number): void {
    this.#connections.delete(sink);
    this.#simplify();
  }

  #simplify(): void {
    const different = new Set([...this.#connections.values()].map(({ executor }) => executor));
    this.#only = different.size === 1 ? [...different][0] : undefined;
    this.#passing = [...different].filter(({ confirm }) => confirm !== undefined);
  }

  /** Whether a plan is being carried out or taken back: what the core says is there may not be. */
  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Ends the core's innermost transaction; the outermost one's plan is executed. What the outcome says is so; what is
   *  thrown says nothing. */
  commit(): Outcome {
    const commands = this.#endTransaction();
    if (typeof commands !== 'number') return notPlanned(commands);
    if (this.#core.open > 0) return DONE;
    assert(!this.#isRunning, 'one plan is carried out at a time');
    this.#isRunning = true;
    try {
      const plan = this.#factsOf(commands);
      return this.#admit(plan) ?? this.#carryOut(plan);
    } finally {
      this.#isRunning = false;
    }
  }

  /** Does as `commit` does for the only transaction, in turns: the plan is made now, and others have their turn before
   *  each slice of it. `begun` sees the plan when nobody refuses it any more. */
  async commitInTurns(begun: PlanObserver, turn: Turn): Promise<Outcome> {
    const commands = this.#endTransaction();
    if (typeof commands !== 'number') return notPlanned(commands);
    assert(!this.#isRunning && this.#core.open === 0, 'one plan is carried out at a time');
    this.#isRunning = true;
    try {
      const plan = this.#factsOf(commands);
      return this.#admit(plan) ?? (await this.#carryOutInTurns(plan, begun, turn));
    } finally {
      this.#isRunning = false;
    }
  }

  /** Makes the plan of the only transaction, shows it to `look`, and takes the transaction back. */
  preview(look: PlanObserver): Outcome {
    const commands = this.#endTransaction();
    if (typeof commands !== 'number') return notPlanned(commands);
    const plan = this.#factsOf(commands);
    look(this.#core, plan);
    return { plan, hasHappened: false, error: undefined, lost: this.#takeBack(NONE_DONE, new Holding()) };
  }

  /** Ends the core's innermost transaction. Returns how many commands the plan has, or why there is none: the core has
   *  then undone the transaction. */
  #endTransaction(): number | MembackingError {
    try {
      return this.#core.commit();
    } catch (error) {
      if (error instanceof MembackingError && !this.#core.isBroken) return error;
      throw error;
    }
  }

  #announce(plan: PlanFacts): void {
    for (let i = 0; i < this.#observers.length; i++) this.#observers[i]!(this.#core, plan);
  }

  #factsOf(commands: number): PlanFacts {
    if (commands === 0) return NOTHING;
    return { commands, releases: this.#core.releases, disturbance: this.#core.planClass };
  }

  /** Announces a plan and makes way for it. Returns its end where somebody refuses it. */
  #admit(plan: PlanFacts): Outcome | undefined {
    try {
      this.#announce(plan);
      this.#makeWay(this.#core, plan);
      return undefined;
    } catch (error) {
      return { plan, hasHappened: false, error, lost: this.#takeBack(NONE_DONE, new Holding()) };
    }
  }

  /** Holds the vCPUs that would miss bytes meanwhile. */
  #carryOut(plan: PlanFacts): Outcome {
    if (!this.#isForSomebody(plan)) return this.#adopt(plan);
    const holding = new Holding();
    let outcome: Outcome;
    try {
      outcome = this.#holdAndExecute(plan, holding);
    } catch (error) {
      const failure = holding.end();
      throw failure === undefined ? error : alsoUnresumed(error, failure.cause);
    }
    const failure = holding.end();
    return failure === undefined ? outcome : unresumed(outcome, failure.cause);
  }

  #holdAndExecute(plan: PlanFacts, holding: Holding): Outcome {
    return this.#holdFor(plan, holding) ?? this.#conclude(plan, this.#execute(plan), holding);
  }

  async #carryOutInTurns(plan: PlanFacts, begun: PlanObserver, turn: Turn): Promise<Outcome> {
    if (!this.#isForSomebody(plan)) return this.#adopt(plan);
    const holding = new Holding();
    let outcome: Outcome | undefined;
    try {
      outcome = this.#holdFor(plan, holding);
      if (outcome === undefined) {
        begun(this.#core, plan);
        outcome = this.#conclude(plan, await this.#executeInTurns(plan, turn), holding);
      }
    } catch (error) {
      const failure = holding.end();
      throw failure === undefined ? error : alsoUnresumed(error, failure.cause);
    }
    const failure = holding.end();
    return failure === undefined ? outcome : unresumed(outcome, failure.cause);
  }

  /** Whether a plan has commands, and anybody whom they go to. */
  #isForSomebody({ commands }: PlanFacts): boolean {
    return commands !== 0 && this.#connections.size !== 0;
  }

  #adopt(plan: PlanFacts): Outcome {
    this.#core.adopt();
    return { plan, hasHappened: true, error: undefined, lost: NOTHING_LOST };
  }

  /** Executes all of a plan but what it gives back. */
  #execute({ commands, releases }: PlanFacts): CommandFailure | undefined {
    return this.#run(0, commands - releases, execute);
  }

  /** Does as `#execute` does, in slices. */
  async #executeInTurns({ commands, releases }: PlanFacts, turn: Turn): Promise<CommandFailure | undefined> {
    const end = commands - releases;
    for (let next = 0; next < end; ) {
      try {
        await turn();
      } catch (cause) {
        return { ...hindered(next), cause, isGivenUp: true };
      }
      for (const until = performance.now() + SLICE; next < end && performance.now() < until; ) {
        const behind = Math.min(next + BATCH, end);
        const failure = this.#run(next, behind, execute);
        if (failure !== undefined) return failure;
        next = behind;
      }
    }
    return undefined;
  }

  /** Brings a plan to its end that was executed, up to a failure if there was one. */
  #conclude(plan: PlanFacts, failure: CommandFailure | undefined, holding: Holding): Outcome {
    if (failure !== undefined) return this.#fail(plan, failure, holding);
    const unconfirmed = this.#confirm(false);
    if (unconfirmed !== undefined) return this.#failUnconfirmed(plan, unconfirmed, holding);
    const outcome = this.#adopt(plan);
    const end = plan.commands - plan.releases;
    const unreleased = end === plan.commands ? undefined : this.#run(end, plan.commands, execute);
    assert(unreleased === undefined, 'what nobody uses any more is given back without a failure');
    return outcome;
  }

  /** Holds the partitions whose guests would miss bytes. Returns the plan's end where one goes on running. */
  #holdFor(plan: PlanFacts, holding: Holding): Outcome | undefined {
    if (plan.disturbance !== abi.CLASS_UNCHANGED_BYTES) return undefined;
    for (let i = 0; i < plan.commands; i++) {
      const unheld = holding.hold(this.#connections.get(this.#core.commandSink(i))?.attached?.pausable);
      if (unheld !== undefined) return this.#failUnheld(plan, unheld.cause, holding);
    }
    return undefined;
  }

  /** Takes back a plan of which nothing was done, because a partition goes on running. */
  #failUnheld(plan: PlanFacts, cause: unknown, holding: Holding): Outcome {
    const lost = this.#takeBack(NONE_DONE, holding);
    const what = 'a partition could not be paused for a change of its memory map';
    return { plan, hasHappened: false, error: planFailed(what, {}, cause, lost), lost };
  }

  #fail(plan: PlanFacts, failure: CommandFailure, holding: Holding): Outcome {
    if (failure.isGivenUp) return this.#giveUp(plan, failure, holding);
    const command = this.#core.command(failure.done);
    const lost = this.#takeBack(failure, holding);
    const place = `${operationName(command.op)} at 0x${command.gpa.toString(16)}`;
    const what = `command ${failure.done + 1} of ${plan.commands} of the plan (${place}) failed: ${reason(failure.cause)}`;
    const error = planFailed(what, { done: failure.done, command }, failure.cause, lost);
    return { plan, hasHappened: false, error, lost };
  }

  #giveUp(plan: PlanFacts, failure: CommandFailure, holding: Holding): Outcome {
    const { done, cause } = failure;
    const lost = this.#takeBack(failure, holding);
    const what = `the change was given up after ${done} of ${plan.commands} commands of the plan`;
    const error = lost.length === 0 ? cause : planFailed(what, { done }, cause, lost);
    return { plan, hasHappened: false, error, lost };
  }

  /** Takes back a plan of which all commands were done, as far as that is known. */
  #failUnconfirmed(plan: PlanFacts, { who, cause }: Unconfirmed, holding: Holding): Outcome {
    const done = plan.commands - plan.releases;
    const lost = this.#takeBack({ done, cause, answer: abi.ANSWER_NOT_DONE, moved: 0 }, holding);
    const error = planFailed(`the plan was not confirmed by ${who}: ${reason(cause)}`, { done, who }, cause, lost);
    return { plan, hasHappened: false, error, lost };
  }

  #confirm(isTakingBack: boolean): Unconfirmed | undefined {
    for (let i = 0; i < this.#passing.length; i++) {
      const unconfirmed = this.#passing[i]!.confirm!(isTakingBack);
      if (unconfirmed !== undefined) return unconfirmed;
    }
    return undefined;
  }

  // ---- Taking back -------------------------------------------------------------------------------

  /** Takes back what was done of the plan. Returns the transactions that say what could not be put back. */
  #takeBack({ done, answer, moved }: CommandFailure, holding: Holding): LossOperation[][] {
    const core = this.#core;
    let losses = this.#runAll(core.unwind(done, answer, moved), unwind, holding);
    core.unwound();
    assert(core.open === 0, 'a plan that is taken back leaves no transaction open');
    const lost: LossOperation[][] = [];
    // Slots are arranged around what is lost: of that, too, something may fail.
    for (let operations = losses.operations(core); operations.length > 0; operations = losses.operations(core)) {
      lost.push(operations);
      losses = this.#tell(operations, holding);
    }
    return lost;
  }

  #tell(operations: readonly LossOperation[], holding: Holding): Losses {
    const core = this.#core;
    core.begin();
    for (const operation of operations) enterLoss(core, operation);
    const plan = this.#factsOf(core.commit());
    this.#announce(plan);
    assert(plan.releases === 0, 'a transaction that says what is lost gives no addresses back');
    const losses = this.#runAll(plan.commands, execute, holding);
    core.adopt();
    return losses;
  }

  /** Executes all commands that the core now shows; what fails is lost. */
  #runAll(count: number, run: Run, holding: Holding): Losses {
    const core = this.#core;
    const losses = new Losses();
    for (let next = 0; next < count; ) {
      if (losses.isDown(core.commandSink(next))) {
        next++;
        continue;
      }
      const isHindered = !losses.isEmpty && losses.hinder(core.command(next));
      const failure = isHindered ? hindered(next) : this.#run(next, losses.isEmpty ? count : next + 1, run);
      if (failure === undefined) {
        next = losses.isEmpty ? count : next + 1;
        continue;
      }
      for (const { attached } of this.#connections.values()) holding.hold(attached?.pausable);
      this.#lose(failure, isHindered, losses);
      next = failure.done + 1;
    }
    const unconfirmed = this.#confirm(true);
    assert(unconfirmed === undefined, 'who does not take a plan back is cut off');
    return losses;
  }

  #lose({ done, moved }: CommandFailure, isHindered: boolean, losses: Losses): void {
    const command = this.#core.command(done);
    const mayReplace = !isHindered && (command.op === abi.OP_VA_MAP || command.op === abi.OP_VA_UNMAP);
    const { executor } = this.#connections.get(command.sink)!;
    const secured = executor.secure?.(this.#core, done, mayReplace) ?? abi.SECURED_CLOSED;
    losses.add(command, moved);
    const partition = this.#connections.get(command.sink)?.attached?.partition;
    for (const [sink, { attached, executor: other }] of this.#connections) {
      const isOpen = secured === abi.SECURED_OPEN && attached?.va === command.sink;
      if (isOpen) other.shutDown?.(sink);
      const isSame = secured === abi.SECURED_DOWN && attached !== undefined && attached.partition === partition;
      if (isOpen || isSame) losses.addDown(sink);
    }
  }

  /** Executes commands that the core now shows, from `first` to before `end`; undefined, or where it stopped and
   *  why. */
  #run(first: number, end: number, run: Run): CommandFailure | undefined {
    if (this.#only !== undefined) return attempt(this.#only, run, this.#core, first, end);
    return this.#runByExecutor(first, end, run);
  }

  #runByExecutor(first: number, end: number, run: Run): CommandFailure | undefined {
    for (let next = first; next < end; ) {
      const executor = this.#executorOf(next);
      let behind = next + 1;
      while (behind < end && this.#executorOf(behind) === executor) behind++;
      const failure = executor === undefined ? undefined : attempt(executor, run, this.#core, next, behind);
      if (failure !== undefined) return failure;
      next = behind;
    }
    return undefined;
  }

  #executorOf(command: number): Executor | undefined {
    return this.#connections.get(this.#core.commandSink(command))?.executor;
  }
}

type Run = (executor: Executor, core: Core, first: number, count: number) => number;
const execute: Run = (executor, core, first, count) => executor.execute(core, first, count);
const unwind: Run = (executor, core, first, count) =>
  executor.unwind === undefined ? executor.execute(core, first, count) : executor.unwind(core, first, count);

function attempt(executor: Executor, run: Run, core: Core, first: number, end: number): CommandFailure | undefined {
  const done = run(executor, core, first, end - first);
  return done === end - first ? undefined : failureOf(executor, core, first, end, done);
}

/** Failure of the command at which an executor stopped, when it had done `done` from `first` on. */
function failureOf(executor: Executor, core: Core, first: number, end: number, done: number): CommandFailure {
  assert(Number.isInteger(done) && done >= 0 && done < end - first, 'an executor does what it is given, in order');
  const { failure, answer = abi.ANSWER_NOT_DONE, moved = 0 } = executor;
  assert(
    answer === abi.ANSWER_NOT_DONE || answer === abi.ANSWER_HALF_DONE,
    'a command that stopped a plan is not done',
  );
  assert(moved >= 0 && moved <= core.command(first + done).length, 'no more moves than the command says');
  return { done: first + done, cause: failure, answer, moved };
}

const NOTHING: PlanFacts = { commands: 0, releases: 0, disturbance: abi.CLASS_NONE };
const NOTHING_LOST: Outcome['lost'] = [];
const DONE: Outcome = { plan: NOTHING, hasHappened: true, error: undefined, lost: NOTHING_LOST };

/** End of a transaction that the core has refused. */
function notPlanned(error: MembackingError): Outcome {
  return { plan: NOTHING, hasHappened: false, error, lost: NOTHING_LOST };
}

function hindered(done: number): CommandFailure {
  return { done, cause: undefined, answer: abi.ANSWER_NOT_DONE, moved: 0 };
}

const NONE_DONE = hindered(0);

/** PLAN_FAILED, or RANGE_LOST where not all could be put back. */
function planFailed(
  what: string,
  details: { done?: number; command?: Command; who?: string },
  cause: unknown,
  lost: readonly (readonly LossOperation[])[],
): MembackingError {
  const operations = lost.flat();
  if (operations.length === 0)
    return new MembackingError('PLAN_FAILED', `${what}; nothing was changed`, { details, cause });
  const ranges = operations.flatMap((each) => (each.op === 'lose' ? [`0x${each.start.toString(16)}`] : []));
  const isDown = operations.some(({ op }) => op === 'shut-down');
  const where = ranges.length === 0 ? '' : `: at ${[...new Set(ranges)].join(', ')} there is nothing now, until repair`;
  const message = `${what}; taking it back failed too${where}${isDown ? ', and a partition was shut down' : ''}`;
  return new MembackingError('RANGE_LOST', message, { details: { ...details, lost: operations }, cause });
}

/** Outcome of a plan after which a partition could not be resumed. */
function unresumed(outcome: Outcome, cause: unknown): Outcome {
  if (!outcome.hasHappened) return { ...outcome, error: alsoUnresumed(outcome.error, cause) };
  const message = `the memory map was changed, but a partition could not be resumed after it: ${reason(cause)}`;
  return { ...outcome, error: new MembackingError('RESUME_FAILED', message, { cause }) };
}

/** Error of a plan that was not carried out, behind which a partition could not be resumed. */
function alsoUnresumed(error: unknown, resume: unknown): Error {
  const message = `${reason(error)}; and a partition could not be resumed after it: ${reason(resume)}`;
  if (!(error instanceof MembackingError)) return new AggregateError([error, resume], message);
  return new MembackingError(error.code, message, { details: { ...error.details, resume }, cause: error.cause });
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
