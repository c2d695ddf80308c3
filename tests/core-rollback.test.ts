// Plans that fail: nothing has happened. And where taking one back fails too: what could not be put back is lost, and
// made again when that is possible. Every scenario is tried with each of its commands failing in turn, not done or half
// done, then with each command of the way back, then with everything from there on.

import test from 'ava';
import type { Pausable } from '../ts/apply/holding.ts';
import type { Executor } from '../ts/apply/runner.ts';
import type { MembackingError } from '../ts/core/errors.ts';
import { sample } from './support/random.ts';
import { HUGE, MACHINE, SCENARIOS, type Scenario } from './support/scenarios.ts';
import { BUILDS, type Build, World } from './support/world.ts';

function ready(build: Build, { ready }: Scenario): World {
  const world = new World(build).place(MACHINE.regions).change(MACHINE.memory);
  return ready === undefined ? world : world.change(ready);
}

for (const build of BUILDS) {
  for (const scenario of SCENARIOS) {
    test(`${scenario.title}: whichever command fails, nothing has happened (${build})`, (t) => {
      const { change } = scenario;
      const model = ready(build, scenario);
      const before = model.describe();
      model.change(change);
      const commands = model.planLines.length;
      t.true(commands > 0);
      for (const failing of sample(Array(commands + 1).keys())) {
        const world = ready(build, scenario);
        world.failing.plan(failing);
        if (failing < commands) {
          t.is(world.attempt(change), 'PLAN_FAILED', `with command ${failing + 1}`);
          t.deepEqual(world.plan, model.plan);
          t.deepEqual(world.describe(), before);
          world.checkSinks();
          world.failing.plan();
        }
        world.change(change);
        t.deepEqual(world.plan, model.plan, 'the next plan is what the first was');
        t.deepEqual(world.describe(), model.describe());
        world.checkSinks();
      }
    });

    test(`${scenario.title}: what cannot be taken back is lost, all else goes on, and a repair makes it whole (${build})`, (t) => {
      const { change } = scenario;
      const model = ready(build, scenario);
      const before = visible(model);
      model.change(change);
      const commands = model.planLines.length;
      let lost = 0;
      const end = (half: number | undefined, ...schedule: number[]): string => {
        const world = ready(build, scenario);
        world.failing.half = half;
        world.failing.plan(...schedule);
        const code = world.attempt(change);
        world.checkSinks();
        world.recorder.checkContents();
        world.failing.plan();
        world.repair();
        if (world.isDown()) {
          // Nothing is attached to a partition that is shut down.
          t.regex(world.attempt(change), /^(done|BAD_ID)$/);
        } else {
          t.deepEqual(visible(world), before, `${half}, after ${schedule.slice(0, 2)} commands`);
          world.change(change);
        }
        world.checkSinks();
        world.recorder.checkContents();
        return code;
      };
      const halves = build === 'release' ? [undefined, 0, 1] : [1];
      const failures = halves.flatMap((half) => [...Array(commands).keys()].map((failing) => ({ half, failing })));
      // The last one first: most is taken back then.
      for (const { half, failing } of sample(failures.reverse())) {
        // To the end of the way back.
        for (let again = 0; end(half, failing, again) === 'RANGE_LOST'; again++) {
          t.not(end(half, failing, again, ...FOR_EVER), 'done');
          lost++;
        }
      }
      // Sinks that came with the change go with it.
      const sinksBefore = new Set(ready(build, scenario).names.sinks.values());
      const changesWhatWas = model.planLines.some((line) => sinksBefore.has(line.split(/ +/)[1] as string));
      t.true(lost > 0 || commands === 1 || !changesWhatWas);
    });
  }
}

/** All that follows fails. */
const FOR_EVER = new Array<number>(1000).fill(0);

/** State that is seen; slots that were lost may have come back with other numbers, and in parts. */
function visible(world: World): unknown {
  const slots = world.joinedSlots('vtl0');
  const events = [...world.names.sinks.values()].includes('told') ? world.sinkEvents('told') : [];
  return [world.flat(), world.pieces('va'), slots, world.events(), events];
}

for (const build of BUILDS) {
  test(`a limit that cannot be taken back costs its huge page, and what touches that page makes it again (${build})`, (t) => {
    const world = ready(build, { title: '', ready: HUGE, change: '' });
    const lost = () => world.core.lost(world.id('sink', 'va')).map(({ start, last }) => [start, last]);
    const shown = () => world.pieces('va').flatMap((line) => (line.includes('huge') ? [line.replace(/ +/g, ' ')] : []));
    // After the limit the new slots fail, and then its way back.
    world.failing.plan(2, 0);
    const error = t.throws(() => world.change('place registers in system at 145000 priority 1'), {
      code: 'RANGE_LOST',
    });
    t.regex(error?.message ?? '', /slot-add .* at 0x145000 there is nothing now/);
    t.deepEqual(lost(), [[0x144000, 0x147fff]]);
    t.deepEqual(shown(), ['140000-143fff huge+0 rw', '148000-15ffff huge+8000 rw']);
    world.checkSinks();
    world.failing.plan();
    world.change('protect va 158000 1000 r');
    t.deepEqual(lost(), [[0x144000, 0x147fff]], 'what does not touch it leaves it');
    world.change('protect va 147000 1000 r');
    t.deepEqual(lost(), []);
    t.deepEqual(shown(), ['140000-15ffff huge+0 rw']);
    world.checkSinks();
  });
}

// ---- Holding the vCPUs ---------------------------------------------------------------------------

/** Writes down what is called, in order. */
class Log {
  readonly lines: string[] = [];

  executor(name: string, inner: Executor): Executor {
    const { lines } = this;
    return {
      execute(core, first, count) {
        lines.push(`${name} ${count}`);
        return inner.execute(core, first, count);
      },
      get failure() {
        return inner.failure;
      },
      get answer() {
        return inner.answer!;
      },
      get moved() {
        return inner.moved!;
      },
      secure: (core, index, mayReplace) => inner.secure!(core, index, mayReplace),
    };
  }

  pausable(name: string): Pausable {
    return { pause: () => void this.lines.push(`pause ${name}`), resume: () => void this.lines.push(`resume ${name}`) };
  }

  take(): string[] {
    return this.lines.splice(0);
  }
}

/** The machine, whose sinks go by one log; with `other`, a second partition sees the same. */
function logged(log: Log, build: Build, other: '' | 'other' = ''): World {
  const world = new World(build).place(MACHINE.regions);
  world.executor = log.executor('sinks', world.failing);
  world.pausable = log.pausable('vm');
  world.change(MACHINE.memory);
  if (other === 'other') {
    world.pausable = log.pausable(other);
    world.change('partition other 16\nattach vtl1 of other to memory through va\nprotect vtl1 8000 4000 none');
  }
  log.take();
  return world;
}

for (const build of BUILDS) {
  test(`vCPUs are held around exactly the plans during which they would miss bytes that stay (${build})`, (t) => {
    const held: string[] = [];
    for (const { title, ready, change } of SCENARIOS) {
      const log = new Log();
      const world = logged(log, build);
      if (ready !== undefined) world.change(ready);
      log.take();
      world.change(change);
      const plan = [`sinks ${world.planLines.length}`];
      const isHeld = world.disturbance === 'unchanged-bytes';
      t.deepEqual(log.take(), isHeld ? ['pause vm', ...plan, 'resume vm'] : plan, title);
      if (isHeld) held.push(title);
    }
    t.snapshot(held, 'held');
  });

  test(`only partitions that the plan has commands for are held (${build})`, (t) => {
    const log = new Log();
    const world = logged(log, build, 'other');
    world.change('set rom enabled');
    // The second partition sees neither RAM nor ROM there: it has nothing to do.
    t.deepEqual(log.take(), ['pause vm', `sinks ${world.planLines.length}`, 'resume vm']);
    world.change('move rom to 20000');
    t.deepEqual(log.take(), [
      'pause vm',
      'pause other',
      `sinks ${world.planLines.length}`,
      'resume other',
      'resume vm',
    ]);
  });

  test(`vCPUs run again when the plan has failed, and when taking it back has too (${build})`, (t) => {
    const log = new Log();
    const world = logged(log, build);
    world.failing.plan(1);
    t.is(world.attempt('set rom enabled'), 'PLAN_FAILED');
    t.deepEqual([log.lines.at(0), log.lines.at(-1)], ['pause vm', 'resume vm']);
    log.take();
    world.failing.plan(1, 0);
    t.is(world.attempt('set rom enabled'), 'RANGE_LOST');
    t.deepEqual([log.lines.at(0), log.lines.at(-1)], ['pause vm', 'resume vm']);
  });

  test(`a partition that cannot be held: nothing is changed, and the others run again (${build})`, (t) => {
    const log = new Log();
    const world = logged(log, build);
    const stuck = new Error('a vCPU does not answer');
    world.pausable = {
      pause: () => {
        throw stuck;
      },
      resume: () => t.fail('it was never held'),
    };
    world.change('partition other 16\nattach vtl1 of other to memory through va');
    log.take();
    const before = world.describe();
    const error = t.throws(() => world.change('set rom enabled'), { code: 'PLAN_FAILED' });
    t.is(error?.cause, stuck);
    t.deepEqual(log.take(), ['pause vm', 'resume vm']);
    t.deepEqual(world.describe(), before);
  });

  test(`a partition that cannot be resumed after a plan that failed is told with its error (${build})`, (t) => {
    const resume = new Error('it sleeps');
    const world = new World(build).place(MACHINE.regions);
    let fault: Error | undefined;
    world.executor = {
      execute(core, first, count) {
        if (fault !== undefined) throw fault;
        return world.failing.execute(core, first, count);
      },
      get failure() {
        return world.failing.failure;
      },
    };
    world.pausable = {
      pause() {},
      resume() {
        throw resume;
      },
    };
    world.change(MACHINE.memory);
    const before = world.describe();
    const change = () => world.change('set rom enabled');
    const message = /; and a partition could not be resumed after it: it sleeps$/;
    world.failing.half = undefined;
    world.failing.plan(1);
    const refused = t.throws(change, { code: 'PLAN_FAILED', message });
    t.true(refused?.cause instanceof Error);
    t.is((refused as MembackingError).details.resume, resume);
    t.deepEqual(world.describe(), before);
    fault = new Error('a bug');
    const broken = t.throws(change, { instanceOf: AggregateError, message });
    t.deepEqual(broken?.errors, [fault, resume]);
  });

  test(`sinks of several executors get their commands in the order of the plan, and in reverse when it fails (${build})`, (t) => {
    const log = new Log();
    const make = () => {
      const world = new World(build).place(MACHINE.regions);
      const [sinks, others] = [log.executor('va', world.failing), log.executor('partition', world.failing)];
      world.executor = sinks;
      const [va, attach] = MACHINE.memory.split(/(?=partition)/) as [string, string];
      world.change(va);
      world.executor = others;
      world.change(attach);
      log.take();
      return world;
    };
    const model = make();
    const before = model.describe();
    const change = 'set rom enabled\nset bar disabled';
    model.change(change);
    t.snapshot([...model.planLines, ...log.take()], 'plan and runs');
    for (let failing = 0; failing < model.planLines.length; failing++) {
      const world = make();
      world.failing.plan(failing);
      t.is(world.attempt(change), 'PLAN_FAILED');
      t.deepEqual(world.describe(), before);
      world.failing.plan();
      world.change(change);
      t.deepEqual(world.describe(), model.describe());
    }
  });
}
