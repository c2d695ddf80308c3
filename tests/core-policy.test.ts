// The stricter overlap policy, for those who want to hear of every overlap that they did not mean: of two siblings, the
// lower one must lie inside of the higher one, and equals may overlap only where they cover the same range.

import test from 'ava';
import { BUILDS, World } from './support/world.ts';

const ROOT = `
  name    kind       size  in      at    priority  flags
  system  container  all
`;

/** Two siblings, and whether they may stand beside each other. */
const CASES: readonly (readonly [title: string, rows: string, isAllowed: boolean])[] = [
  ['apart', '  a       ram        2000  system  0\n  b       ram        2000  system  2000', true],
  [
    'equal, over a part of each other',
    '  a       ram        2000  system  0\n  b       ram        2000  system  1000',
    false,
  ],
  [
    'equal, one inside of the other',
    '  a       ram        4000  system  0\n  b       ram        2000  system  1000',
    false,
  ],
  ['equal, the same range', '  a       ram        2000  system  0\n  b       rom        2000  system  0', true],
  ['the lower one inside', '  a       ram        4000  system  0     1\n  b       ram        2000  system  1000', true],
  [
    'the lower one of the same range',
    '  a       ram        2000  system  0     1\n  b       ram        2000  system  0',
    true,
  ],
  ['the higher one inside', '  a       ram        4000  system  0\n  b       ram        2000  system  1000  1', false],
  [
    'the lower one reaches over the end',
    '  a       ram        4000  system  0     1\n  b       ram        4000  system  1000',
    false,
  ],
  [
    'one of them disabled',
    '  a       ram        2000  system  0\n  b       ram        2000  system  1000  0         disabled',
    true,
  ],
  ['one of them of size 0', '  a       ram        2000  system  0\n  b       ram        0     system  1000', true],
  [
    'both to the last byte',
    '  a       ram        all   system  0     1\n  b       ram        all   system  8000',
    true,
  ],
];

for (const build of BUILDS) {
  for (const [title, rows, isAllowed] of CASES) {
    test(`${title}: ${isAllowed ? 'allowed' : 'refused, with both names'} (${build})`, (t) => {
      const place = () => new World(build, { policy: 'nested' }).place(ROOT + rows);
      if (isAllowed) t.notThrows(place);
      else
        t.throws(place, {
          code: 'OVERLAP',
          message: /^"[ab]" and "[ab]" overlap at 0x\w+, which the policy "nested" does not allow$/,
        });
      t.notThrows(() => new World(build).place(ROOT + rows), 'the default policy allows everything');
    });
  }

  test(`every way into a forbidden overlap is refused, and nothing is changed (${build})`, (t) => {
    const world = new World(build, { policy: 'nested' }).place(`
      name    kind       size  in      at    priority  flags
      system  container  all
      a       ram        2000  system  0
      b       ram        2000  system  4000
      c       ram        2000  system  5000  0         disabled
      bus     container  4000  system  8000
      d       ram        2000  bus     0
      e       ram        2000  bus     0     1
      loose   ram        2000
    `);
    world.change('space memory root system');
    const before = world.describe();
    for (const change of [
      'move b to 1000',
      'resize a to 5000',
      'set c enabled',
      'move e to 1000',
      'priority d 2\nresize d to 3000\nmove d to 1000',
      'place loose in system at 1800',
    ]) {
      t.throws(() => world.change(change), { code: 'OVERLAP' }, change);
      t.deepEqual(world.describe(), before, change);
    }
    world.change('resize d to 1000');
    t.throws(() => world.change('priority d 1\npriority e 0'), { code: 'OVERLAP' });
  });

  test(`inside of a transaction regions may pass through each other (${build})`, (t) => {
    const world = new World(build, { policy: 'nested' }).place(`
      name    kind       size  in      at
      system  container  all
      a       ram        2000  system  0
      b       ram        2000  system  2000
    `);
    t.notThrows(() => world.change('move a to 1000\nmove b to 0\nmove a to 2000'));
    t.deepEqual(world.change('space memory root system').flat(), ['0-1fff     b+0', '2000-3fff  a+0']);
  });

  test(`what is not siblings may overlap in any way (${build})`, (t) => {
    const world = new World(build, { policy: 'nested' }).place(`
      name    kind       size  in      at    priority  shows
      system  container  all
      ram     ram        4000  system  0     1
      child   mmio       1000  ram     3800
      window  alias      4000  system  4000            ram+2000
    `);
    t.deepEqual(world.change('space memory root system').flat().length, 4);
  });
}
