// Every world that is small: what is shown, and what the sinks are given, against a model that looks at one page at a
// time. The sinks record; every plan is executed on them, and its disturbance class is held against what they saw.

import test, { type ExecutionContext } from 'ava';
import { sample, tries } from './support/random.ts';
import {
  type Answer,
  type Arrangement,
  type Inhabitant,
  type Place,
  range,
  rankings,
  SmallWorld,
  stretches,
} from './support/small-world.ts';
import { BUILDS } from './support/world.ts';

const PAGES = range(4);
const PRIVATE_RAM: Inhabitant = { kind: 'ram', memory: 'private', pages: PAGES };
const RAM: Inhabitant = { kind: 'ram', memory: 'shared', pages: PAGES };
const ROM: Inhabitant = { kind: 'rom', memory: 'shared', pages: PAGES };
const MMIO: Inhabitant = { kind: 'mmio', memory: 'none', pages: [] };
/** Mapped at every other page. */
const DEVICE: Inhabitant = { kind: 'device', memory: 'shared', pages: [1, 3] };
/** Shows the memory of the first one too, as a region of its own or through an alias. */
const SAME_RAM: Inhabitant = { kind: 'ram', memory: 'the-first', pages: PAGES };
const ALIAS: Inhabitant = { kind: 'alias', memory: 'none', pages: [] };
const HUGE_RAM: Inhabitant = { kind: 'ram', memory: 'shared', pages: PAGES, pageSize: 2 };
/** A device of four pages, of which the first two may be used. */
const HUGE_DEVICE: Inhabitant = { kind: 'device', memory: 'shared', pages: [0, 1], pageSize: 4 };
const DOORBELLS: Inhabitant = { kind: 'mmio', memory: 'none', pages: [], hasEvents: true };
/** A ROM whose guest's writes ring. */
const RINGING_ROM: Inhabitant = { ...ROM, hasEvents: true };
const CONTAINER: Inhabitant = { kind: 'container', memory: 'none', pages: [] };

type Shape = Pick<Place, 'start' | 'size'> & Partial<Place>;

/** Every choice of a shape (or none) for each region, in every ranking of those that stand somewhere. */
function arrangements(count: number, shapes: readonly (Shape | undefined)[]): Arrangement[] {
  let choices: (readonly (Shape | undefined)[])[] = [[]];
  for (let i = 0; i < count; i++) choices = choices.flatMap((chosen) => shapes.map((shape) => [...chosen, shape]));
  return choices.flatMap((chosen) => {
    const standing = chosen.filter((shape) => shape !== undefined).length;
    return rankings(standing).map((ranks) => {
      const left = [...ranks];
      return chosen.map(
        (shape) =>
          shape && { enabled: true, readonly: false, holes: 0, ...shape, priority: (left.shift() as number) - 1 },
      );
    });
  });
}

/** A world that is held against the model wherever it goes. */
class Checked {
  readonly #make: () => SmallWorld;
  #world: SmallWorld;
  /** Answers of the model, as far as it was asked. */
  readonly #expected: (Answer | ReadonlySet<string>)[] = [];
  readonly #arrangements: readonly Arrangement[];
  changes = 0;
  refused = 0;
  /** Ends of changes in vain, by code. */
  readonly ends = new Map<string, number>();
  /** Answer to the last arrangement. */
  #shown: Answer | undefined;

  constructor(make: () => SmallWorld, all: readonly Arrangement[]) {
    this.#make = make;
    this.#world = make();
    this.#arrangements = all;
  }

  #expectedAt(index: number): Answer | ReadonlySet<string> {
    this.#expected[index] ??= this.#world.expected(this.#arrangements[index]!);
    return this.#expected[index];
  }

  go(index: number): void {
    const next = this.#arrangements[index] as Arrangement;
    const wanted = this.#expectedAt(index);
    const refused = this.#world.become(next);
    this.changes++;
    const answer = this.#world.answer();
    const expected = refused === undefined ? wanted : this.#shown;
    if (refused !== undefined) this.refused++;
    if (refused === undefined ? expected instanceof Set : !isReason(refused, wanted)) {
      throw new Error(`${JSON.stringify(next)} is refused: ${refused}`);
    }
    this.#shown = expected as Answer;
    this.#compare(next, answer, expected as Answer);
  }

  /** Goes to an arrangement, and tries to go from there to another one: with each command failing, then with each of
   *  those that take it back. Nothing has happened whenever what is lost was made again. */
  goInVain(from: number, to: number): void {
    if (this.#expectedAt(from) instanceof Set) return;
    this.go(from);
    const [here, there] = [this.#arrangements[from]!, this.#arrangements[to]!];
    for (const half of [undefined, 0, 1]) {
      let code: string | undefined;
      for (let failing = 0; code !== 'none'; failing++) {
        for (let again = 0; ; again++) {
          code = this.#world.becomeInVain(there, half, [failing, again]) ?? 'none';
          this.ends.set(code, (this.ends.get(code) ?? 0) + 1);
          if (code === 'none' || this.#world.isDown) this.#again(from);
          else this.#compare(here, this.#world.answer(), this.#shown!);
          if (code !== 'RANGE_LOST') break;
        }
        if (code !== 'PLAN_FAILED') break;
      }
    }
  }

  /** Goes to an arrangement again: where the partition was shut down, in a new world. */
  #again(index: number): void {
    if (this.#world.isDown) this.#world = this.#make();
    this.go(index);
  }

  #compare(next: Arrangement, answer: Answer, expected: Answer): void {
    for (let i = 0; i < answer.length; i++) {
      if (answer[i] !== expected[i]) throw new Error(`${JSON.stringify(next)} shows ${answer}, and should ${expected}`);
    }
  }
}

function isReason(refused: string, expected: Answer | ReadonlySet<string>): boolean {
  return expected instanceof Set && expected.has(refused);
}

/** Visits every change: from each arrangement to each other that is wished for, and back. */
function everyChange(
  t: ExecutionContext,
  make: () => SmallWorld,
  all: readonly Arrangement[],
  isWished: (from: Arrangement, to: Arrangement) => boolean = () => true,
): void {
  const checked = new Checked(make, all);
  for (const [i, from] of sample(all.entries())) {
    checked.go(i);
    for (let j = i + 1; j < all.length; j++) {
      if (!isWished(from, all[j] as Arrangement)) continue;
      checked.go(j);
      checked.go(i);
    }
  }
  t.log(`${all.length} worlds, ${checked.changes} changes`);
}

/** Whether only one region is another one, or only the ranking is. */
function isOneStep(from: Arrangement, to: Arrangement): boolean {
  let different = 0;
  let reranked = false;
  for (const [i, a] of from.entries()) {
    const b = to[i];
    if (a?.start !== b?.start || a?.size !== b?.size) different++;
    else if (a?.priority !== b?.priority) reranked = true;
  }
  return different === 0 || (different === 1 && !reranked);
}

test('every arrangement of up to three regions over four pages, in every ranking: 13 931 worlds', (t) => {
  const all = arrangements(3, stretches(4));
  t.is(all.length, 1000 * 13 + 3 * 100 * 3 + 3 * 10 + 1);
  for (const inhabitants of [
    [PRIVATE_RAM, RAM, ROM],
    [MMIO, DEVICE, RAM],
  ]) {
    const checked = new Checked(() => new SmallWorld(4, inhabitants), all);
    for (const i of sample(all.keys())) checked.go(i);
    // Once more, from one far away each time.
    for (const i of sample(all.keys())) checked.go((i * 5003) % all.length);
    t.is(checked.changes, 2 * sample(all).length);
  }
});

test('every change from one arrangement of up to two regions over four pages to any other: 321 worlds', (t) => {
  const all = arrangements(2, stretches(4));
  t.is(all.length, 321);
  everyChange(t, () => new SmallWorld(4, [PRIVATE_RAM, ROM]), all);
});

test('every change from one arrangement of up to three regions over two pages to any other: 442 worlds', (t) => {
  const all = arrangements(3, stretches(2));
  t.is(all.length, 27 * 13 + 3 * 9 * 3 + 3 * 3 + 1);
  everyChange(t, () => new SmallWorld(2, [RAM, PRIVATE_RAM, MMIO]), all);
});

test('every change of one of up to three regions over three pages, or of their ranking: 3 151 worlds', (t) => {
  const all = arrangements(3, stretches(3));
  t.is(all.length, 216 * 13 + 3 * 36 * 3 + 3 * 6 + 1);
  everyChange(t, () => new SmallWorld(3, [DEVICE, PRIVATE_RAM, ROM]), all, isOneStep);
});

test('every change of one of up to three regions over four pages, two of them of huge pages of two: 13 931 worlds', (t) => {
  const all = arrangements(3, stretches(4));
  for (const inhabitants of [
    [HUGE_RAM, MMIO, DEVICE],
    [HUGE_RAM, HUGE_DEVICE, PRIVATE_RAM],
  ]) {
    const checked = new Checked(() => new SmallWorld(4, inhabitants), all);
    for (const i of sample(all.keys())) checked.go(i);
    for (const i of sample(all.keys())) checked.go((i * 5003) % all.length);
    t.true(checked.refused > 0 && checked.refused < checked.changes);
    t.log(`${checked.changes} changes, ${checked.refused} refused`);
  }
});

test('every change from one arrangement of up to two regions over four pages, with huge pages, to any other', (t) => {
  const all = arrangements(2, stretches(4));
  t.is(all.length, 321);
  everyChange(t, () => new SmallWorld(4, [HUGE_RAM, ROM]), all);
});

test('every command of a change fails, then every one that takes it back: with huge pages, private memory, registers', (t) => {
  const all = arrangements(2, stretches(4));
  for (const inhabitants of [
    [HUGE_RAM, PRIVATE_RAM],
    [HUGE_DEVICE, MMIO],
    [HUGE_RAM, ROM],
  ]) {
    const checked = new Checked(() => new SmallWorld(4, inhabitants), all);
    // From each arrangement to some, near and far.
    for (const i of sample(all.keys()))
      for (const step of [1, 5, 40, 111]) checked.goInVain(i, (i + step) % all.length);
    t.true((checked.ends.get('RANGE_LOST') ?? 0) > tries(100));
    t.log(JSON.stringify([...checked.ends]));
  }
});

for (const [what, inhabitants] of Object.entries({
  'two regions that map it': [PRIVATE_RAM, SAME_RAM],
  'a region and an alias': [PRIVATE_RAM, ALIAS],
})) {
  test(`private memory at two places, ${what}: every change over four pages, and every command of some fails`, (t) => {
    const all = arrangements(2, stretches(4));
    everyChange(t, () => new SmallWorld(4, inhabitants), all);
    const checked = new Checked(() => new SmallWorld(4, inhabitants), all);
    for (const i of all.keys()) for (const step of [1, 5, 40, 111]) checked.goInVain(i, (i + step) % all.length);
    t.true((checked.ends.get('RANGE_LOST') ?? 0) > 100);
    t.log(JSON.stringify([...checked.ends]));
  });
}

test('private memory at up to three places: every change of one of them over three pages, or of their ranking', (t) => {
  const all = arrangements(3, stretches(3));
  everyChange(t, () => new SmallWorld(3, [PRIVATE_RAM, ALIAS, SAME_RAM]), all, isOneStep);
  t.pass();
});

test('every change of which private memory at two places is seen, in a core that checks itself', (t) => {
  const all = arrangements(2, stretches(3));
  for (const other of [SAME_RAM, ALIAS]) everyChange(t, () => new SmallWorld(3, [PRIVATE_RAM, other], true), all);
  t.pass();
});

test('every change of one of up to three regions over three pages, two of them with events: 3 151 worlds', (t) => {
  const all = arrangements(3, stretches(3));
  t.is(all.length, 3151);
  everyChange(t, () => new SmallWorld(3, [DOORBELLS, RAM, RINGING_ROM]), all, isOneStep);
});

test('every command of a change fails, then every one that takes it back: with events', (t) => {
  const all = arrangements(2, stretches(3));
  for (const inhabitants of [
    [DOORBELLS, RAM],
    [RINGING_ROM, DOORBELLS],
  ]) {
    const checked = new Checked(() => new SmallWorld(3, inhabitants), all);
    for (const i of sample(all.keys())) for (const step of [1, 5, 40]) checked.goInVain(i, (i + step) % all.length);
    t.true((checked.ends.get('RANGE_LOST') ?? 0) > tries(100));
    t.log(JSON.stringify([...checked.ends]));
  }
});

test('every arrangement of up to three containers with any holes over three pages, in every ranking: 55 857 worlds', (t) => {
  const shapes = stretches(3).flatMap((stretch) => {
    if (stretch === undefined) return [undefined];
    // Not all of it is hole: that would be no container at all.
    return range(2 ** stretch.size - 1).map((holes) => ({ ...stretch, holes }));
  });
  const all = arrangements(3, shapes);
  t.is(all.length, 16 ** 3 * 13 + 3 * 16 ** 2 * 3 + 3 * 16 + 1);
  const checked = new Checked(() => new SmallWorld(3, [CONTAINER, CONTAINER, CONTAINER]), all);
  for (const i of sample(all.keys())) checked.go(i);
});

for (const build of BUILDS) {
  test(`every change of what is hidden or read-only, of two regions over two pages: 457 worlds (${build})`, (t) => {
    const flags = [true, false].flatMap((enabled) => [true, false].map((readonly) => ({ enabled, readonly })));
    const shapes = stretches(2).flatMap((stretch) => stretch && flags.map((each) => ({ ...stretch, ...each })));
    const all = arrangements(2, shapes);
    t.is(all.length, 12 ** 2 * 3 + 2 * 12 + 1);
    everyChange(
      t,
      () => new SmallWorld(2, [RAM, PRIVATE_RAM], build === 'debug'),
      all,
      (from, to) =>
        from.every((a, i) => a?.start === to[i]?.start && a?.size === to[i]?.size && a?.priority === to[i]?.priority),
    );
  });
}
