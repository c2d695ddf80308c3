// A machine that fails where it is told to: what comes before is really done, what takes it back too.

import type { Core } from '../../ts/core/core.ts';
import type { Context } from '../../ts/map/context.ts';

export class Failing {
  /** Commands of the next plan that are done before one fails. */
  after = Number.POSITIVE_INFINITY;
  /** The same for those that take a plan back. */
  unwindAfter = Number.POSITIVE_INFINITY;

  /** Takes the place of the map's executor for this machine. */
  constructor(context: Context) {
    const { native } = context;
    const [execute, unwind] = [native.execute.bind(native), native.unwind.bind(native)];
    const real = () => Reflect.get(Object.getPrototypeOf(native), 'failure', native);
    let stopped: Error | undefined;
    const limited = (run: typeof execute, left: number, core: Core, first: number, count: number) => {
      stopped = undefined;
      const done = run(core, first, Math.min(count, left));
      if (done === left && left < count) stopped = new Error(`the test fails command ${done}`);
      return done;
    };
    native.execute = (core, first, count) => {
      const done = limited(execute, this.after, core, first, count);
      this.after -= done;
      return done;
    };
    native.unwind = (core, first, count) => {
      const done = limited(unwind, this.unwindAfter, core, first, count);
      this.unwindAfter -= done;
      return done;
    };
    Object.defineProperty(native, 'failure', { get: () => stopped ?? real() });
  }
}
