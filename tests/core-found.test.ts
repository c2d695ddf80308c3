// Histories that once went wrong, each as small as it could be made. The machine has 16 pages of RAM at 0.

import test from 'ava';
import { BUILDS, type Build, World } from './support/world.ts';

function machine(build: Build): World {
  return new World(build)
    .place(`
      name    kind       size    in      at     priority  shows
      system  container  100000
      ram     ram        10000   system  0      -1
      bar     device     4000    system  20000
      window  alias      6000    system  40000            ram+5000
    `)
    .change(`
      space memory root system
      object ram.mem 10000
      object bar.mem 4000
      object file 40000
      map ram 0 10000 ram.mem 0
      map bar 0 4000 bar.mem 0
      va va 100000 of memory
      partition vm 8
      attach vtl0 of vm to memory through va
    `);
}

for (const build of BUILDS) {
  test(`a region takes the place of one that goes in the same transaction: it is another one (${build})`, (t) => {
    const world = machine(build);
    world.change(`
      remove bar
      unmap bar 0 4000
      destroy bar
      mmio bar 4000
      place bar in system at 20000
    `);
    t.deepEqual(world.planLines, [
      'slot-delete  vtl0  20000+4000  bar+0  rwx  slot 1',
      'va-unmap     va    20000+4000',
    ]);
    world.checkSinks();
  });

  test(`an object takes the place of one that goes in the same transaction: it is another one (${build})`, (t) => {
    const world = machine(build);
    world.change(`
      unmap bar 0 4000
      close-object bar.mem
      object other 4000
      map bar 0 4000 other 0
    `);
    t.deepEqual(world.planLines, ['va-map  va  20000+4000  other+0  rw']);
    t.true(world.id('object', 'other') > 2, 'its number is not that of the one that goes');
    world.change('object next 4000');
    t.is(world.id('object', 'next'), 1, 'but it is free afterwards');
  });

  for (const [title, change, piece] of [
    [
      'a mapping changes while its window is elsewhere, and comes back in the same transaction',
      'retarget window to 0\nmap ram 5000 1000 file 3f000\nretarget window to 5000',
      '40000-40fff  file+3f000    rw',
    ],
    [
      'a mapping changes while its region is hidden, and comes back in the same transaction',
      'set ram disabled\nmap ram 5000 1000 file 3f000\nset ram enabled',
      '40000-40fff  file+3f000    rw',
    ],
    [
      'a region shrinks and grows in one transaction: what was mapped past its end is gone',
      'resize ram to 6000\nresize ram to 10000',
      '40000-40fff  ram.mem+5000  rw',
    ],
    [
      'a region is taken away, loses its mapping and is put back in one transaction',
      'remove ram\nunmap ram 6000 a000\nplace ram in system priority -1',
      '40000-40fff  ram.mem+5000  rw',
    ],
  ] as const) {
    test(`${title} (${build})`, (t) => {
      const world = machine(build);
      t.deepEqual(world.pieces('va').at(-1), '40000-45fff  ram.mem+5000  rw');
      world.change(change);
      const pieces = world.pieces('va');
      t.deepEqual(pieces.find((line) => line.startsWith('40000'))?.replace(/ +/g, ' '), piece.replace(/ +/g, ' '));
      world.checkSinks();
    });
  }

  test(`a slot may not reach over the end of the VA space, whether anything is mapped there or not (${build})`, (t) => {
    const world = machine(build);
    const before = world.describe();
    const change = 'ram high 4000\nplace high in system at fe000\nresize system to 200000';
    t.throws(() => world.change(change), {
      code: 'PAST_LIMIT',
      message: '"high" at 0x101fff is past the end of "vtl0"',
    });
    t.deepEqual(world.describe(), before);
  });

  test(`echoes of two objects whose homes lie side by side are one slot (${build})`, (t) => {
    const world = machine(build).change(`
      object one 1000 private
      object two 1000 private
      map ram 6000 1000 one 0
      map ram 7000 1000 two 0
    `);
    t.deepEqual(world.homes('vtl0'), ['41000+2000 at 6000']);
    world.checkSinks();
  });

  test(`pages of two private objects cannot be protected again: each is held where it is (${build})`, (t) => {
    const world = machine(build).change(`
      remove window
      object one 1000 private
      object two 1000 private
      map ram 6000 1000 one 0
      map ram 7000 1000 two 0
    `);
    const before = world.pieces('va');
    world.failing.plan(2, 0);
    t.throws(() => world.change('set ram readonly'), { code: 'RANGE_LOST' });
    world.failing.plan();
    // Rows have the object's number + 1, 0 for none.
    const [one, two] = [world.id('object', 'one') + 1, world.id('object', 'two') + 1];
    t.deepEqual(
      world.core.lost(world.id('sink', 'va')).map(({ start, last, id }) => [start, last, id]),
      [
        [0, 0x5fff, 0],
        [0x6000, 0x6fff, one],
        [0x7000, 0x7fff, two],
        [0x8000, 0xffff, 0],
      ],
    );
    world.repair();
    t.deepEqual(world.pieces('va'), before);
    world.checkSinks();
  });
}
