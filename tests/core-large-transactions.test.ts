// Hundreds of changes in one transaction: it ends where the same changes end one by one, whichever of them touch,
// overlap or take each other back. What the plan takes away is what was there before the first of them.

import test from 'ava';
import { Random, SEED } from './support/random.ts';
import { BUILDS, type Build, World } from './support/world.ts';

const PAGE = 0x1000;
const DAX_PAGES = 256;

/** A window that is seen twice, in two VA spaces; over it a ROM, and regions that begin and end inside of pages. */
function scene(build: Build): World {
  return new World(build)
    .place(`
      name    kind       size    in      at      shows     priority
      system  container  1000000
      dax     device     100000  system  400000
      again   alias      80000   system  800000  dax+40000
      rom     rom        8000    system  440000            1
      bar     mmio       1800    system  410800            2
      crumb   ram        3400    system  420c00            3
    `)
    .change(`
      space memory root system
      object file 400000
      object other 400000
      map rom 0 8000 other 0
      map crumb 0 4000 other 10000
      va va 2000000 of memory
      va second 2000000 of memory
      partition vm 4000
      attach vtl0 of vm to memory through va
    `);
}

const hex = (pages: number) => (pages * PAGE).toString(16);
const inPages = (random: Random) => (0x400000 + random.below(0x1000) * 0x100).toString(16);

/** Mostly mappings, of which few reach into others. */
function changes(random: Random, count: number): string[] {
  const mapping = () => {
    const pages = 1 + random.below(random.below(8) === 0 ? 12 : 2);
    const at = random.below(DAX_PAGES - pages);
    if (random.below(3) === 0) return `unmap dax ${hex(at)} ${hex(pages)}`;
    const readonly = random.below(4) === 0 ? ' readonly' : '';
    return `map dax ${hex(at)} ${hex(pages)} ${random.pick(['file', 'other'])} ${hex(random.below(512))}${readonly}`;
  };
  const others: readonly (() => string)[] = [
    () => `set rom ${random.pick(['enabled', 'disabled'])}`,
    () => `move rom to ${hex(0x400 + random.below(DAX_PAGES))}`,
    () => `move ${random.pick(['bar', 'crumb'])} to ${inPages(random)}`,
    () => `move crumb to ${hex(0x400 + random.below(DAX_PAGES))}`,
    () => `resize crumb to ${(0x100 + random.below(64) * 0x100).toString(16)}`,
    () => `set ${random.pick(['bar', 'crumb'])} ${random.pick(['enabled', 'disabled'])}`,
    () => `move again to ${hex(0x800 + random.below(64))}`,
    () => `retarget again to ${hex(random.below(128))}`,
    () => `protect ${random.pick(['va', 'vtl0'])} ${hex(0x400 + random.below(200))} ${hex(1 + random.below(20))} r`,
  ];
  return Array.from({ length: count }, () => (random.below(30) === 0 ? random.pick(others)() : mapping()));
}

for (const build of BUILDS) {
  test(`many changes at once, and one by one (${build}, seed ${SEED})`, (t) => {
    const random = new Random();
    for (const count of [20, 30, 100, 300, 300, 300]) {
      const [atOnce, step] = [scene(build), scene(build)];
      const before = changes(random, 100).join('\n');
      const script = changes(random, count);
      for (const world of [atOnce, step]) world.change(before);
      atOnce.change(script.join('\n'));
      for (const line of script) step.change(line);
      for (const va of ['va', 'second']) t.deepEqual(atOnce.pieces(va), step.pieces(va), script.join('\n'));
      for (const world of [atOnce, step]) world.checkSinks();
    }
  });

  test(`inside of a transaction, what there is stays what it was (${build}, seed ${SEED})`, (t) => {
    const random = new Random();
    const world = scene(build).change(changes(random, 200).join('\n'));
    for (let round = 0; round < 5; round++) {
      const pieces = world.pieces('va');
      world.do('begin');
      for (const line of changes(random, 40)) {
        world.do('begin');
        world.do(line);
        world.do(random.below(3) === 0 ? 'abort' : 'commit');
        t.deepEqual(world.pieces('va'), pieces, line);
      }
      world.do('commit');
      world.checkSinks();
    }
  });
}
