// Visibility: the picture of regions A to E that settles every question of priority, then the rules one by one.

import test from 'ava';
import { agreed, BUILDS, type Build, World } from './support/world.ts';

/** Regions in a space that begins at 0; the root is the first of them. */
function shown(build: Build, table: string, space = ''): string[] {
  const world = new World(build).place(table);
  const root = world.names.regions.get(0);
  return world.change(`space memory root ${root} ${space}`).flat();
}

const PICTURE = `
  name  kind       size  in  at    priority
  A     container  8000
  C     ram        6000  A   0     1
  B     container  4000  A   2000  2
  D     mmio       1000  B   0
  E     rom        1000  B   2000
`;

test('the picture: B is above C, and C shows through the holes of B', (t) => {
  t.snapshot(agreed(t, (build) => shown(build, PICTURE)));
});

test('the picture, if B were memory: nothing shows through it', (t) => {
  const table = PICTURE.replace('B     container', 'B     ram      ');
  t.snapshot(agreed(t, (build) => shown(build, table)));
});

test('memory that is not a whole page is for the monitor alone: it has no slot', (t) => {
  const answer = (build: Build) => {
    const world = new World(build).place(`
      name    kind       size   in      at    priority
      system  container  10000
      ram     ram        7800   system  0
      device  mmio       1      system  2800  1
      split   ram        2000   system  8800
      tiny    ram        800    system  c000
    `);
    world.change(`
      space memory root system
      object file 10000
      map ram 0 8000 file 0
      map split 0 2000 file 0
      map tiny 0 1000 file 0
      va va 10000 of memory
      partition vm 8
      attach vtl0 of vm to memory through va
    `);
    world.checkSinks();
    return { flat: world.flat(), pieces: world.pieces('va'), parts: world.parts('va'), slots: world.slots('vtl0') };
  };
  t.snapshot(agreed(t, answer));
});

for (const build of BUILDS) {
  const flat = (table: string, space = '') => shown(build, table, space);

  test(`the picture, if C were above B (${build})`, (t) => {
    t.deepEqual(flat(PICTURE.replace('A   0     1', 'A   0     3')), ['0-5fff  C+0']);
  });

  test(`priorities are signed, and compared only among siblings (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    priority
        system  container  8000
        low     ram        8000  system  0     -2147483648
        mid     ram        4000  system  2000  -1
        bus     container  2000  system  3000  0
        device  mmio       1000  bus     800   -5
        high    mmio       1000  system  7000  2147483647
      `),
      [
        '0-1fff     low+0',
        '2000-37ff  mid+0',
        '3800-47ff  device+0',
        '4800-5fff  mid+2800',
        '6000-6fff  low+6000',
        '7000-7fff  high+0',
      ],
    );
  });

  test(`of equals, the one that was placed first is seen (${build})`, (t) => {
    const table = `
      name    kind       size
      system  container  4000
      one     ram        2000
      two     ram        2000
    `;
    const world = new World(build).place(table);
    world.change('place two in system at 1000\nplace one in system at 0\nspace memory root system');
    t.deepEqual(world.flat(), ['0-fff      one+0', '1000-2fff  two+0']);
    world.change('remove two\nplace two in system at 1000');
    t.deepEqual(world.flat(), ['0-1fff     one+0', '2000-2fff  two+1000'], 'it is placed last now');
  });

  test(`a move, a resize, another priority and back keep the order among equals (${build})`, (t) => {
    const world = new World(build).place(`
      name    kind       size  in      at
      system  container  8000
      one     ram        2000  system  0
      two     ram        2000  system  1000
    `);
    world.change('space memory root system');
    const before = world.flat();
    for (const [there, back] of [
      ['move one to 4000', 'move one to 0'],
      ['resize one to 1000', 'resize one to 2000'],
      ['priority one -1', 'priority one 0'],
      ['set one disabled', 'set one enabled'],
    ] as const) {
      world.change(there);
      t.notDeepEqual(world.flat(), before, there);
      world.change(back);
      t.deepEqual(world.flat(), before, back);
    }
  });

  test(`a container shows nothing of its own (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    priority
        system  container  6000
        below   ram        6000  system  0     -1
        bus     container  6000  system  0     1
        inner   container  4000  bus     1000
        device  mmio       1000  inner   1000
      `),
      ['0-1fff     below+0', '2000-2fff  device+0', '3000-5fff  below+3000'],
    );
  });

  test(`any kind but alias may have children, and they go on top (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    priority
        system  mmio       6000
        ram     ram        3000  system  1000
        hole    mmio       1000  ram     1000  -7
      `),
      ['0-fff      system+0', '1000-1fff  ram+0', '2000-2fff  hole+0', '3000-3fff  ram+2000', '4000-5fff  system+4000'],
    );
  });

  test(`an alias is a window onto a part of another region, with what lies in it (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size   in      at    shows
        system  container  10000
        ram     ram        8000   system  0
        hole    mmio       1000   ram     3000
        window  alias      3000   system  9000  ram+2000
      `),
      [
        '0-2fff     ram+0',
        '3000-3fff  hole+0',
        '4000-7fff  ram+4000',
        '9000-9fff  ram+2000',
        'a000-afff  hole+0',
        'b000-bfff  ram+4000',
      ],
    );
  });

  test(`an alias of a region that stands nowhere shows it all the same (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    shows
        system  container  4000
        ram     ram        8000
        window  alias      2000  system  1000  ram+6000
      `),
      ['1000-2fff  ram+6000'],
    );
  });

  test(`an alias past the end of its target shows what there is, and nothing behind (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    shows     priority
        system  container  8000
        ram     ram        3000
        below   mmio       8000  system  0               -1
        over    alias      4000  system  1000  ram+2000
        past    alias      1000  system  6000  ram+3000
      `),
      ['0-fff      below+0', '1000-1fff  ram+2000', '2000-7fff  below+2000'],
    );
  });

  test(`an alias whose window passes the end of 2^64 shows nothing there (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at  shows
        system  container  4000
        whole   ram        all
        window  alias      3000  system  0   whole+fffffffffffff000
      `),
      ['0-fff  whole+fffffffffffff000'],
    );
  });

  test(`an alias shows a region in a disabled parent, but not a disabled one (${build})`, (t) => {
    const table = `
      name    kind       size  in      at    shows  flags
      system  container  8000
      bus     container  2000  system  0            disabled
      ram     ram        2000  bus     0
      window  alias      2000  system  4000  ram
    `;
    t.deepEqual(flat(table), ['4000-5fff  ram+0']);
    t.deepEqual(flat(table.replace('bus     0', 'bus     0            disabled')), []);
  });

  test(`an alias may stand in what it shows, as long as it does not see itself (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    shows
        system  container  8000
        ram     ram        2000  system  0
        mirror  alias      2000  system  4000  system
      `),
      ['0-1fff     ram+0', '4000-5fff  ram+0'],
    );
  });

  test(`an alias of an alias of an alias (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    shows       flags
        system  container  8000
        ram     ram        8000
        one     alias      6000                ram+1000    readonly
        two     alias      4000                one+1000    nonvolatile
        three   alias      8000  system  0     two+1000
      `),
      ['0-2fff  ram+3000  readonly nonvolatile'],
    );
  });

  test(`a disabled region is not there, nor what stands in it (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    priority  flags
        system  container  4000
        ram     ram        4000  system  0
        bus     container  4000  system  0     1         disabled
        device  mmio       1000  bus     1000
      `),
      ['0-3fff  ram+0'],
    );
  });

  test(`read-only and nonvolatile are inherited from every container and alias on the way (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    shows  flags
        system  container  8000
        ram     ram        1000  system  0
        locked  alias      1000  system  1000  ram    readonly
        kept    container  2000  system  2000         nonvolatile
        inner   ram        1000  kept    0
        both    alias      1000  kept    1000  ram    readonly
        rom     rom        1000  system  4000
        device  mmio       1000  system  5000         readonly
      `),
      [
        '0-fff      ram+0',
        '1000-1fff  ram+0     readonly',
        '2000-2fff  inner+0   nonvolatile',
        '3000-3fff  ram+0     readonly nonvolatile',
        '4000-4fff  rom+0',
        '5000-5fff  device+0  readonly',
      ],
    );
  });

  test(`a region of size 0 is never seen, until it grows (${build})`, (t) => {
    const world = new World(build).place(`
      name    kind       size  in      at    priority
      system  container  4000
      ram     ram        4000  system  0
      none    mmio       0     system  1000  1
    `);
    world.change('space memory root system');
    t.deepEqual(world.flat(), ['0-3fff  ram+0']);
    world.change('resize none to 1000');
    t.deepEqual(world.flat(), ['0-fff      ram+0', '1000-1fff  none+0', '2000-3fff  ram+2000']);
    world.change('resize none to 0\nmove none to 2000');
    t.deepEqual(world.flat(), ['0-3fff  ram+0']);
    world.change('resize none to 800');
    t.deepEqual(world.flat(), ['0-1fff     ram+0', '2000-27ff  none+0', '2800-3fff  ram+2800']);
  });

  test(`an alias, a root and a container of size 0 show nothing (${build})`, (t) => {
    t.deepEqual(flat('name  kind  size\nroot  ram   0'), []);
    t.deepEqual(
      flat(`
        name    kind       size  in      shows
        system  container  4000
        ram     ram        4000
        window  alias      0     system  ram
        bus     container  0     system
        device  mmio       1000  bus
      `),
      [],
    );
  });

  test(`children are cut at the end of their parent (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    priority
        system  container  8000
        bus     container  3000  system  1000  1
        device  mmio       8000  bus     2000
        past    mmio       1000  bus     3000
        ram     ram        8000  system  7000
      `),
      ['3000-3fff  device+0', '7000-7fff  ram+0'],
    );
  });

  test(`an alias is cut at the end of its own parent, not of the parent of what it shows (${build})`, (t) => {
    t.deepEqual(
      flat(`
        name    kind       size  in      at    shows
        system  container  8000
        bus     container  1000  system  0
        ram     ram        4000  bus     0
        small   container  2000  system  4000
        window  alias      4000  small   1000  ram+1000
      `),
      ['0-fff      ram+0', '5000-5fff  ram+1000'],
    );
  });

  test(`a root may stand at an offset (${build})`, (t) => {
    const table = `
      name    kind       size  in      at
      system  container  4000
      ram     ram        2000  system  1000
    `;
    t.deepEqual(flat(table, 'at 10000'), ['11000-12fff  ram+0']);
    t.deepEqual(flat(table, 'at fffffffffffff000'), [], 'the ram would be past the last byte');
    t.deepEqual(flat(table, 'at ffffffffffffe800'), ['fffffffffffff800-ffffffffffffffff  ram+0']);
  });

  test(`regions reach to the last byte of 2^64 (${build})`, (t) => {
    const world = new World(build).place(`
      name    kind       size  in      at                priority
      system  container  all
      ram     ram        all   system  0                 -1
      rom     rom        2000  system  ffffffffffffe000
      byte    mmio       1     system  ffffffffffffffff  1
      over    mmio       4000  system  ffffffffffffd000
    `);
    world.change('space memory root system');
    const before = [
      '0-ffffffffffffcfff                 ram+0',
      'ffffffffffffd000-ffffffffffffdfff  over+0',
      'ffffffffffffe000-fffffffffffffffe  rom+0',
      'ffffffffffffffff-ffffffffffffffff  byte+0',
    ];
    t.deepEqual(world.flat(), before);
    world.change('move byte to 0\nremove rom\nremove over');
    t.deepEqual(world.flat(), ['0-0                 byte+0', '1-ffffffffffffffff  ram+1']);
    world.change('place over in system at ffffffffffffd000\nmove byte to ffffffffffffffff');
    world.change('remove over\nplace rom in system at ffffffffffffe000\nplace over in system at ffffffffffffd000');
    t.deepEqual(world.flat(), before);
  });

  test(`a region cannot be placed into itself, nor into what stands in it (${build})`, (t) => {
    const world = new World(build).place(`
      name    kind       size  in
      outer   container  4000
      middle  container  4000  outer
      inner   container  4000  middle
    `);
    for (const line of ['place outer in outer', 'place outer in inner']) {
      t.throws(() => world.change(line), { code: 'CYCLE', message: /"outer" would be seen through itself/ });
    }
  });

  test(`an alias that sees itself is refused, and nothing is changed (${build})`, (t) => {
    const world = new World(build).place(`
      name    kind       size  in      at    shows
      system  container  8000
      ram     ram        2000  system  0
      mirror  alias      2000  system  4000  system
    `);
    world.change('space memory root system');
    const before = world.describe();
    for (const line of ['retarget mirror to 4000', 'move mirror to 0']) {
      t.throws(() => world.change(line), { code: 'CYCLE' }, line);
      t.deepEqual(world.describe(), before);
    }
    world.change('move mirror to 1000');
    t.deepEqual(
      world.flat(),
      ['0-1fff     ram+0', '2000-2fff  ram+1000'],
      'it sees a part of itself, and that nothing',
    );
  });

  test(`aliases of aliases may stand 64 deep, and no deeper (${build})`, (t) => {
    const chain = (depth: number) => {
      const world = new World(build).change('container system 1000\nram r0 1000');
      for (let i = 1; i < depth; i++) world.change(`alias r${i} 1000 of r${i - 1}`);
      return world.change(`place r${depth - 1} in system\nspace memory root system`);
    };
    t.deepEqual(chain(63).flat(), ['0-fff  r0+0']);
    t.throws(() => chain(64), { code: 'TOO_DEEP', message: /through more than 64 other regions/ });
  });
}

test('a map that is seen in too many places is refused, not waited for', (t) => {
  const world = new World('release').change('container c0 1000\nmmio device 1000\nplace device in c0');
  // Each container shows the one before twice at the same place: 2^28 ways from the last to the first.
  for (let i = 1; i <= 28; i++) {
    world.change(`
      container c${i} 1000
      alias left${i} 1000 of c${i - 1}
      alias right${i} 1000 of c${i - 1}
      place left${i} in c${i}
      place right${i} in c${i}
    `);
  }
  t.throws(() => world.change('space memory root c28'), { code: 'TOO_COMPLEX' });
  t.throws(() => world.flat(), { message: /no space/ });
  t.deepEqual(world.change('space memory root c8').flat(), ['0-fff  device+0'], 'fewer are no matter');
});
