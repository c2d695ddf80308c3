// The history of a map: its steps, what each did, and any of them again at once. A step is what becomes one plan: a
// transaction, or an operation outside of one. It can grow, so that a running map can be followed.

import {
  type Address,
  type Disturbance,
  formatOperation,
  MembackingError,
  type ReplayState,
  type TraceCommand,
  type TraceHeader,
  type TraceOperation,
  type TracePlan,
  TraceReplay,
} from '../core-index.ts';

/** Plan of a step; undefined for one without commands. */
export interface StepPlan {
  readonly disturbance: Disturbance;
  readonly commands: readonly TraceCommand[];
  /** Text of the plan. */
  readonly lines: readonly string[];
}

export const DISTURBANCES = ['none', 'changed', 'unchanged-bytes'] as const satisfies Disturbance[];
/** Value in `#kinds` of a step without commands; above it, the class of the plan. */
const NO_PLAN = 0;

/** Steps between two moments that are kept. Doubled when there are too many of them. */
const SPARSE = 2048;
const MOST_SPARSE = 32;
const MOST_BYTES = 128 * 2 ** 20;
/** Moments that are kept between two others, where somebody goes back step by step. */
const DENSE = 16;

interface Kept {
  readonly step: number;
  readonly state: ReplayState;
}

export class Timeline {
  readonly #operations: TraceOperation[] = [];
  /** Ends of the steps, counted in operations; step 0 is before all of them. */
  readonly #ends: number[] = [0];
  readonly #kinds: number[] = [NO_PLAN];
  readonly #replay: TraceReplay;
  /** Replay for looking elsewhere than at the current step. */
  readonly #scout: TraceReplay;
  #sparse: Kept[] = [];
  #spacing = SPARSE;
  #dense: Kept[] = [];
  #step = 0;
  #onPlan: ((plan: TracePlan) => void) | undefined;
  #plan: StepPlan | undefined;
  /** Whether `#plan` is the current step's. */
  #isShown = true;
  /** Reason why the history ends before what was handed in does. */
  failure: string | undefined;

  /** `state`: of a map that has had a life before its first step. */
  constructor({ policy }: TraceHeader, state?: ReplayState) {
    const onPlan = (plan: TracePlan) => this.#onPlan?.(plan);
    this.#replay = new TraceReplay({ policy, onPlan });
    this.#scout = new TraceReplay({ policy, onPlan });
    if (state !== undefined) this.#replay.restore(state);
    this.#sparse.push({ step: 0, state: this.#replay.save() });
  }

  /** Steps, not counting step 0. */
  get length(): number {
    return this.#ends.length - 1;
  }

  get step(): number {
    return this.#step;
  }

  /** The state after the current step. */
  get replay(): TraceReplay {
    return this.#replay;
  }

  /** Plan of the current step. */
  get plan(): StepPlan | undefined {
    return this.#plan;
  }

  /** The class of a step's plan; undefined for one without commands. */
  disturbance(step: number): Disturbance | undefined {
    return DISTURBANCES[this.#kinds[step]! - 1];
  }

  /** Class of the step in [first, end) that disturbs most. */
  strongest(first: number, end: number): Disturbance | undefined {
    let kind = NO_PLAN;
    for (let step = first; step < end; step++) kind = Math.max(kind, this.#kinds[step]!);
    return DISTURBANCES[kind - 1];
  }

  /** The current step as lines of a trace, some at most. */
  operationLines(most: number): string[] {
    const [from, to] = [this.#ends[this.#step - 1] ?? 0, this.#ends[this.#step]!];
    const lines = this.#operations.slice(from, Math.min(to, from + most)).map(formatOperation);
    return to - from > most ? [...lines, `… and ${to - from - most} more`] : lines;
  }

  /** Adds operations to the end; those of a transaction that is not yet ended wait for the rest of it. Then the
   *  last step is the current one; `goTo` it to know its plan. */
  append(operations: readonly TraceOperation[]): void {
    if (this.failure !== undefined) return;
    if (this.#step < this.length) this.#show(this.length);
    for (const operation of operations) this.#operations.push(operation);
    let from = this.#ends.at(-1)!;
    let depth = 0;
    for (let index = from; index < this.#operations.length; index++) {
      const { op } = this.#operations[index]!;
      if (op === 'begin') depth++;
      if (op === 'commit' || op === 'abort') depth--;
      if (depth > 0) continue;
      if (!this.#learn(from, index + 1)) break;
      from = index + 1;
    }
    this.#step = this.length;
    this.#plan = undefined;
    this.#isShown = false;
  }

  /** Carries out a new step. */
  #learn(from: number, end: number): boolean {
    let kind = NO_PLAN;
    this.#onPlan = ({ disturbance }) => (kind = 1 + DISTURBANCES.indexOf(disturbance));
    try {
      for (let index = from; index < end; index++) this.#replay.apply(this.#operations[index]!);
    } catch (error) {
      if (!(error instanceof MembackingError)) throw error;
      this.#replay.finish();
      this.failure = `operation ${from + 1} is refused: ${error.message}`;
      return false;
    } finally {
      this.#onPlan = undefined;
    }
    this.#ends.push(end);
    this.#kinds.push(kind);
    if (this.length % this.#spacing === 0) this.#keep();
    return true;
  }

  #keep(): void {
    this.#sparse.push({ step: this.length, state: this.#replay.save() });
    const bytes = this.#sparse.reduce((sum, { state }) => sum + state.bytes, 0);
    if (this.#sparse.length <= MOST_SPARSE && bytes <= MOST_BYTES) return;
    this.#spacing *= 2;
    this.#sparse = this.#sparse.filter(({ step }) => step % this.#spacing === 0);
  }

  /** Makes a step the current one. Precondition: 0 <= step <= length. */
  goTo(step: number): void {
    if (step !== this.#step || !this.#isShown) this.#show(step);
  }

  #show(step: number): void {
    const before = step - 1;
    if (step <= this.#step || step > this.#step + SPARSE) this.#approach(before);
    else this.#run(this.#replay, this.#step, before);
    this.#plan = undefined;
    this.#onPlan = (plan) => {
      this.#plan = { disturbance: plan.disturbance, commands: plan.commands(), lines: plan.render() };
    };
    if (step > 0) this.#run(this.#replay, before, step);
    this.#onPlan = undefined;
    this.#step = step;
    this.#isShown = true;
  }

  /** Brings the replay to a step from the nearest moment that is kept, and keeps some on the way. */
  #approach(step: number): void {
    const target = Math.max(step, 0);
    const near = nearest(this.#dense, target);
    const far = nearest(this.#sparse, target)!;
    const isNear = near !== undefined && near.step >= far.step;
    const from = isNear ? near : far;
    if (this.#step <= target && this.#step > from.step) {
      this.#run(this.#replay, this.#step, target);
      return;
    }
    this.#replay.restore(from.state);
    if (!isNear) this.#dense = [];
    let at = from.step;
    const spacing = this.#spacing / DENSE;
    while (target - at > spacing) {
      this.#run(this.#replay, at, at + spacing);
      at += spacing;
      if (at > (this.#dense.at(-1)?.step ?? 0)) this.#dense.push({ step: at, state: this.#replay.save() });
    }
    this.#run(this.#replay, at, target);
  }

  /** Carries out the steps after `from`, up to `to`. */
  #run(replay: TraceReplay, from: number, to: number): void {
    const end = this.#ends[Math.max(to, 0)]!;
    for (let index = this.#ends[from]!; index < end; index++) replay.apply(this.#operations[index]!);
  }

  // ---- Looking elsewhere -------------------------------------------------------------------------

  /** The state after another step; good until the next call. */
  look(step: number): TraceReplay {
    const from = nearest(this.#sparse, step)!;
    this.#scout.restore(from.state);
    this.#run(this.#scout, from.step, step);
    return this.#scout;
  }

  /** The next step, or the one before, whose plan is of a class, or the class of any; undefined if there is none. */
  findClass(disturbance: Disturbance | undefined, direction: 1 | -1): number | undefined {
    for (let step = this.#step + direction; step > 0 && step <= this.length; step += direction) {
      const found = this.disturbance(step);
      if (found !== undefined && (disturbance === undefined || disturbance === found)) return step;
    }
    return undefined;
  }

  /** The next step, or the one before, whose plan is of a class, or of any, and touches a GPA; undefined if there is
   *  none. */
  findTouching(gpa: Address, disturbance: Disturbance | undefined, direction: 1 | -1): number | undefined {
    if (direction === 1) return this.#firstTouching(this.#step, this.length, gpa, disturbance);
    // Backwards: stretch by stretch, the last one that is found in each.
    for (let end = this.#step - 1; end > 0; ) {
      const start = nearest(this.#sparse, end - 1)!.step;
      let found: number | undefined;
      for (let from = start; ; ) {
        const next = this.#firstTouching(from, end, gpa, disturbance);
        if (next === undefined) break;
        found = next;
        from = next;
      }
      if (found !== undefined) return found;
      end = start;
    }
    return undefined;
  }

  /** The first of the steps after `from`, up to `to`, that touches a GPA. */
  #firstTouching(from: number, to: number, gpa: Address, disturbance: Disturbance | undefined): number | undefined {
    if (from >= to) return undefined;
    const replay = this.look(from);
    let isFound = false;
    this.#onPlan = (plan) => {
      const isWanted = disturbance === undefined || plan.disturbance === disturbance;
      isFound = isWanted && plan.commands().some((command) => contains(command, gpa));
    };
    try {
      for (let step = from + 1; step <= to; step++) {
        this.#run(replay, step - 1, step);
        if (isFound) return step;
      }
    } finally {
      this.#onPlan = undefined;
    }
    return undefined;
  }
}

function nearest(kept: readonly Kept[], step: number): Kept | undefined {
  return kept.findLast((each) => each.step <= step);
}

function contains({ gpa: start, length }: TraceCommand, gpa: Address): boolean {
  return start <= gpa && BigInt(gpa) < BigInt(start) + BigInt(length);
}
