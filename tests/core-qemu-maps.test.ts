// Real machines: 517 memory maps recorded from QEMU, each with what QEMU itself made of it.

import test from 'ava';
import * as abi from '../assembly/abi.ts';
import { PlanRunner } from '../ts/apply/runner.ts';
import { toAddress } from '../ts/core/address.ts';
import { Core, type Row } from '../ts/core/core.ts';
import { MembackingError } from '../ts/core/errors.ts';
import { Names } from '../ts/core/names.ts';
import { importMaps } from '../ts/trace/import/maps.ts';
import type { Moment } from '../ts/trace/import/moments.ts';
import type { TraceOperation } from '../ts/trace/operations.ts';
import { Replayer } from '../ts/trace/replay.ts';
import { caseNamed, cases, machines, type QemuCase } from './support/qemu-cases.ts';
import { Random, SEED, tries } from './support/random.ts';
import { BUILDS, type Build } from './support/world.ts';

/** A core that replays a trace. */
class Machine {
  readonly core: Core;
  readonly runner: PlanRunner;
  readonly replayer: Replayer;

  constructor(build: Build) {
    const names = new Names();
    this.core = new Core({ debug: build === 'debug', explain: names.explain });
    this.runner = new PlanRunner(this.core);
    this.replayer = new Replayer(this.core, this.runner, names);
  }

  replay(operations: readonly TraceOperation[]): this {
    for (const operation of operations) this.replayer.apply(operation);
    return this;
  }

  /** The first row in which an address space differs from what QEMU showed at the moment; undefined for none. */
  difference(moment: Moment): string | undefined {
    return firstOf(viewsOf(moment), ({ name, view, regions, spaces }) => {
      const theirs = view.flat.map((row) => {
        const flags = (row.readonly ? abi.FLAT_READONLY : 0) | (row.nonvolatile ? abi.FLAT_NONVOLATILE : 0);
        const region = this.replayer.id('region', regions[row.region] as number);
        return `${row.start}-${row.end} region ${region}+${row.offsetInRegion} flags ${flags}`;
      });
      return this.#differs(name, spaces, theirs);
    });
  }

  /** Reason why an address space is not what its root gives when it is resolved from nothing; undefined if it is. */
  staleness(moment: Moment): string | undefined {
    return firstOf(viewsOf(moment), ({ name, view, regions, spaces }) => {
      const root = this.replayer.id('region', regions[view.root.id] as number);
      let fresh = 0;
      this.change((core) => (fresh = core.createSpace(root, toAddress(view.root.offset))));
      const expected = this.core.flat(fresh).map(textOf);
      this.change((core) => core.destroySpace(fresh));
      return this.#differs(name, spaces, expected);
    });
  }

  #differs(name: string, spaces: readonly number[], expected: readonly string[]): string | undefined {
    return firstOf(spaces, (space) => {
      const ours = this.core.flat(this.replayer.id('space', space)).map(textOf);
      const at = ours.findIndex((row, j) => row !== expected[j]);
      if (at < 0 && ours.length === expected.length) return undefined;
      const j = at >= 0 ? at : ours.length;
      return `${name}: row ${j} is "${ours[j]}", not "${expected[j]}"`;
    });
  }

  /** One change. Throws what the core throws, and nothing is changed. */
  change(mutate: (core: Core) => void): void {
    this.core.begin();
    try {
      mutate(this.core);
    } catch (error) {
      this.core.abort();
      throw error;
    }
    const { error } = this.runner.commit();
    if (error !== undefined) throw error;
  }
}

/** The views of a moment, with the ids of their regions and address spaces in the trace. */
function viewsOf({ maps, ids }: Moment) {
  return maps.flatMap(({ name, views }, i) => {
    const { regions, spaces } = ids[i] as Moment['ids'][number];
    return views.map((view, j) => ({ name, view, regions, spaces: spaces[j] as readonly number[] }));
  });
}

function firstOf<Item>(items: readonly Item[], problemOf: (item: Item) => string | undefined): string | undefined {
  for (const item of items) {
    const problem = problemOf(item);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Refusals that a random change may well meet. */
const REFUSALS: readonly string[] = ['CYCLE', 'TOO_COMPLEX', 'NO_SLOTS', 'PAST_LIMIT'];

function textOf({ start, last, id, offset, flags }: Row): string {
  return `${start}-${last} region ${id}+${offset} flags ${flags}`;
}

/** Operations on sinks, which are left out: more memory slots than KVM has would be refused. */
const SINKS: readonly string[] = ['va', 'partition', 'attach'];

function replayed(each: QemuCase, build: Build = 'release'): { machine: Machine; moment: Moment } {
  const { operations, moments } = importMaps([each.file]);
  const moment = moments[0] as Moment;
  const fits = viewsOf(moment).every(({ view }) => view.flat.length < 32764);
  const machine = new Machine(build).replay(operations.filter(({ op }) => fits || !SINKS.includes(op)));
  return { machine, moment };
}

test('every map resolves to exactly what QEMU made of it', (t) => {
  let count = 0;
  for (const each of cases()) {
    const { machine, moment } = replayed(each);
    t.is(machine.difference(moment), undefined);
    count++;
  }
  t.is(count, 517);
});

test(`every map is the same after random changes that end where they began (seed ${SEED})`, (t) => {
  const random = new Random();
  let changes = 0;
  let refused = 0;
  for (const each of cases()) {
    const { machine, moment } = replayed(each);
    const count = tries(12);
    const touched = new Map<number, Row>();
    const attempt = (mutate: (core: Core) => void) => {
      try {
        machine.change(mutate);
        changes++;
        return true;
      } catch (error) {
        if (!(error instanceof MembackingError) || !REFUSALS.includes(error.code)) throw error;
        refused++;
        return false;
      }
    };
    const regions = (moment.ids[0] as Moment['ids'][number]).regions.map((id) => machine.replayer.id('region', id));
    for (let i = 0; i < count; i++) {
      const id = random.pick(regions);
      const row = machine.core.region(id);
      const mutate = mutation(random, id, row, machine.core.region(random.pick(regions)));
      if (!touched.has(id)) touched.set(id, row);
      attempt(mutate);
    }
    t.is(machine.staleness(moment), undefined, 'on the way');
    // Rows that go back early may be refused for those that are still to go back; then all of it goes at once.
    const left = random.shuffled([...touched.values()]).filter((row) => !attempt((core) => goBack(core, row)));
    machine.change((core) => {
      for (const row of left) goBack(core, row);
    });
    t.is(machine.difference(moment), undefined);
  }
  t.log(`${changes} changes, ${refused} refused`);
});

/** Hides, shows, moves or re-prioritises a region. */
function mutation(random: Random, id: number, row: Row, other: Row): (core: Core) => void {
  const isPlaced = row.aux !== 0;
  switch (random.below(isPlaced ? 6 : 2)) {
    case 0:
      return (core) => core.setFlags(id, (row.flags ^ abi.REGION_DISABLED) & CHANGEABLE);
    case 1:
      return (core) => core.setFlags(id, (row.flags ^ abi.REGION_READONLY) & CHANGEABLE);
    case 2:
      return (core) => core.move(id, other.start);
    case 3:
      return (core) =>
        core.move(id, toAddress(BigInt.asUintN(64, BigInt(row.start) + BigInt(random.below(64) - 32) * 2048n)));
    case 4:
      return (core) => core.setPriority(id, random.below(5) - 2);
    default:
      return (core) => core.setPriority(id, other.priority);
  }
}

const CHANGEABLE = abi.REGION_DISABLED | abi.REGION_READONLY | abi.REGION_NONVOLATILE;

/** Unseen until it is back in its place: on the way it might see itself. */
function goBack(core: Core, { id, start, priority, flags, aux }: Row): void {
  core.setFlags(id, (flags & CHANGEABLE) | abi.REGION_DISABLED);
  if (aux !== 0) {
    core.move(id, start);
    core.setPriority(id, priority);
  }
  core.setFlags(id, flags & CHANGEABLE);
}

for (const build of BUILDS) {
  test(`every machine, step by step through its moments (${build})`, (t) => {
    const steps = { machines: 0, moments: 0, operations: 0 };
    for (const { cases } of machines()) {
      const { operations, moments } = importMaps(cases.map(({ file }) => file));
      const machine = new Machine(build);
      let done = 0;
      for (const moment of moments) {
        machine.replay(operations.slice(done, moment.end));
        t.is(machine.difference(moment), undefined);
        done = moment.end;
        steps.moments++;
      }
      steps.machines++;
      steps.operations += done;
    }
    t.is(steps.machines, 71);
    t.log(`${steps.machines} machines, ${steps.moments} moments, ${steps.operations} operations`);
  });
}

test('the machine whose RAM and ROM appear 68 618 times resolves, changes and goes back', (t) => {
  const { machine, moment } = replayed(caseNamed('m68k.q800.dummy--memory'));
  t.is(machine.difference(moment), undefined);
  const map = moment.maps[0] as Moment['maps'][number];
  t.true((map.views[0]?.flat.length as number) > 2000);
  const rom = map.regions.find(({ kind }) => kind === 'rom') as (typeof map.regions)[number];
  const id = machine.replayer.id('region', (moment.ids[0] as Moment['ids'][number]).regions[rom.id] as number);
  machine.change((core) => core.setFlags(id, abi.REGION_DISABLED));
  t.is(machine.staleness(moment), undefined);
  t.not(machine.difference(moment), undefined);
  machine.change((core) => core.setFlags(id, rom.readonly ? abi.REGION_READONLY : 0));
  t.is(machine.difference(moment), undefined);
});
