// A machine that fails where it is told to, whoever carries a command out: what comes before is really done, what takes
// it back too.

import * as abi from '../../assembly/abi.ts';
import type { Executor } from '../../ts/apply/runner.ts';
import type { Context } from '../../ts/map/context.ts';

export class Failing {
  /** Commands of the next plan that are done before one fails. */
  after = Number.POSITIVE_INFINITY;
  /** Commands that take the next plan back and are done before one fails. */
  unwindAfter = Number.POSITIVE_INFINITY;

  constructor({ runner }: Context) {
    const limited = new Map<Executor, Executor>();
    runner.interpose((executor) => {
      if (!limited.has(executor)) limited.set(executor, this.#limit(executor));
      return limited.get(executor)!;
    });
  }

  #limit(executor: Executor): Executor {
    let stopped: Error | undefined;
    const run = (count: number, left: number, carryOut: (most: number) => number) => {
      stopped = undefined;
      const done = carryOut(Math.min(count, left));
      if (done === left && left < count) stopped = new Error(`the test fails command ${done}`);
      return done;
    };
    return {
      execute: (core, first, count) => {
        const done = run(count, this.after, (most) => executor.execute(core, first, most));
        this.after -= done;
        return done;
      },
      unwind: (core, first, count) => {
        const { unwind = executor.execute } = executor;
        const done = run(count, this.unwindAfter, (most) => unwind.call(executor, core, first, most));
        this.unwindAfter -= done;
        return done;
      },
      confirm: (isTakingBack) => executor.confirm?.(isTakingBack),
      get failure() {
        return stopped ?? executor.failure;
      },
      get answer() {
        return stopped ? abi.ANSWER_NOT_DONE : executor.answer!;
      },
      get moved() {
        return stopped ? 0 : executor.moved!;
      },
      secure: (core, index, mayReplace) => executor.secure!(core, index, mayReplace),
      shutDown: (sink) => executor.shutDown!(sink),
    };
  }
}
