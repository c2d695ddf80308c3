// What happens when a plan fails: nothing. And when taking it back fails too: the map says so, and is left as it is.
// Every scenario is tried with each of its commands failing in turn, and then with each command of the way back.

import test from 'ava';
import type { Executor, Pausable } from '../ts/apply/runner.ts';
import { MembackingError } from '../ts/core/errors.ts';
import { MACHINE, SCENARIOS, type Scenario } from './support/scenarios.ts';
import { BUILDS, type Build, World } from './support/world.ts';

function ready(build: Build, { ready }: Scenario): World {
  const world = new World(build).place(MACHINE.regions).change(MACHINE.memory);
  return ready === undefined ? world : world.change(ready);
}

/** How a change ends. */
function attempt(world: World, script: string): string {
  try {
    world.change(script);
    return 'done';
  } catch (error) {
    if (error instanceof MembackingError) return error.code;
    throw error;
  }
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
      for (let failing = 0; failing <= commands; failing++) {
        const world = ready(build, scenario);
        world.failing.plan(failing);
        if (failing < commands) {
          t.is(attempt(world, change), 'PLAN_FAILED', `with command ${failing + 1}`);
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

    test(`${scenario.title}: if taking it back fails too, the map is left and says so (${build})`, (t) => {
      const { change } = scenario;
      const model = ready(build, scenario);
      model.change(change);
      const commands = model.planLines.length;
      const flat = ready(build, scenario).flat();
      let poisoned = 0;
      for (let failing = 0; failing < commands; failing++) {
        for (let again = 0; ; again++) {
          const world = ready(build, scenario);
          world.failing.plan(failing, again);
          const end = attempt(world, change);
          if (end === 'PLAN_FAILED') break; // the way back is not that long
          t.is(end, 'POISONED');
          world.failing.plan();
          t.throws(() => world.change('set ram disabled'), {
            code: 'POISONED',
            message: /could not be taken back: no further change is accepted/,
          });
          t.deepEqual(world.flat(), flat, 'reads are answered');
          poisoned++;
        }
      }
      t.true(poisoned > 0 || commands === 1);
    });
  }
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
    t.is(attempt(world, 'set rom enabled'), 'PLAN_FAILED');
    t.deepEqual([log.lines.at(0), log.lines.at(-1)], ['pause vm', 'resume vm']);
    log.take();
    world.failing.plan(1, 0);
    t.is(attempt(world, 'set rom enabled'), 'POISONED');
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
    t.deepEqual(log.take(), ['pause vm', 'resume vm', 'sinks 0']);
    t.deepEqual(world.describe(), before);
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
      t.is(attempt(world, change), 'PLAN_FAILED');
      t.deepEqual(world.describe(), before);
      world.failing.plan();
      world.change(change);
      t.deepEqual(world.describe(), model.describe());
    }
  });
}
