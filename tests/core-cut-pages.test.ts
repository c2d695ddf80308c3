// Pages of which only a part shows memory: the VA space maps them for the monitor, which may use just that part; the
// guest has no slot there.

import test from 'ava';
import { Random, SEED, tries } from './support/random.ts';
import { BUILDS, type Build, World } from './support/world.ts';

/** Four pages of RAM at 0, shared or private, and other memory; nothing lies over the RAM yet. */
function machine(build: Build, kind: 'shared' | 'private' = 'shared'): World {
  return new World(build)
    .place(`
      name    kind       size   in      at     priority  flags     shows
      system  container  20000
      ram     ram        4000   system  0      -1
      fuses   mmio       28     system  2000   3         disabled
      other   ram        4000
      window  alias      800    system  2400   1         disabled  other+2400
      view    alias      800    system  2800   2         disabled  ram+2800
    `)
    .change(`
      space memory root system
      object ram.mem 4000 ${kind === 'private' ? 'private' : ''}
      object other.mem 4000
      map ram 0 4000 ram.mem 0
      map other 0 4000 other.mem 0
      va va 20000 of memory
      partition vm 16
      attach vtl0 of vm to memory through va
    `);
}

const CASES: readonly (readonly [title: string, change: string, parts: string[], pieces: string[]])[] = [
  [
    'registers at the start of a page of RAM',
    'set fuses enabled',
    ['0-1fff     ram.mem+0     rw', '2028-3fff  ram.mem+2028  rw'],
    ['0-3fff  ram.mem+0  rw'],
  ],
  [
    'registers in the middle of a page of RAM',
    'set fuses enabled\nmove fuses to 2800',
    ['0-27ff     ram.mem+0     rw', '2828-3fff  ram.mem+2828  rw'],
    ['0-3fff  ram.mem+0  rw'],
  ],
  [
    'registers at the end of all RAM',
    'set fuses enabled\nmove fuses to 3fd8',
    ['0-3fd7  ram.mem+0  rw'],
    ['0-3fff  ram.mem+0  rw'],
  ],
  ['RAM that ends inside of a page', 'resize ram to 2345', ['0-2344  ram.mem+0  rw'], ['0-2fff  ram.mem+0  rw']],
  ['RAM that begins inside of a page, where its own page does not', 'move ram to 800', [], []],
  [
    'a part of a page is read-only',
    'set view enabled readonly',
    ['0-27ff     ram.mem+0     rw', '2800-2fff  ram.mem+2800  r', '3000-3fff  ram.mem+3000  rw'],
    ['0-3fff  ram.mem+0  rw'],
  ],
  [
    'memory of two objects in one page, which can show neither',
    'set window enabled',
    ['0-1fff     ram.mem+0     rw', '3000-3fff  ram.mem+3000  rw'],
    ['0-1fff     ram.mem+0     rw', '3000-3fff  ram.mem+3000  rw'],
  ],
  [
    'memory of one object in the rest of a page, after registers that cover all of the other',
    'set window enabled\nset fuses enabled\nresize fuses to 400\nresize ram to 2400\nmove window to 2400',
    ['0-1fff     ram.mem+0       rw', '2400-2bff  other.mem+2400  rw'],
    ['0-1fff     ram.mem+0       rw', '2000-2fff  other.mem+2000  rw'],
  ],
  [
    'registers in a page that the monitor may not use',
    'set fuses enabled\nprotect va 2000 1000 none',
    ['0-1fff     ram.mem+0     rw', '3000-3fff  ram.mem+3000  rw'],
    ['0-1fff     ram.mem+0     rw', '3000-3fff  ram.mem+3000  rw'],
  ],
];

for (const build of BUILDS) {
  for (const kind of ['shared', 'private'] as const) {
    for (const [title, change, parts, pieces] of CASES) {
      test(`${title}: ${kind} memory (${build})`, (t) => {
        const world = machine(build, kind);
        const before = world.describe();
        world.change(change);
        world.checkSinks();
        t.deepEqual(world.parts('va'), parts);
        t.deepEqual(world.pieces('va'), pieces);
        t.notDeepEqual(world.describe(), before);
      });
    }
  }

  test(`registers come and go over RAM without a move of its pages (${build})`, (t) => {
    const world = machine(build, 'private').change('set fuses enabled');
    t.deepEqual(world.planLines, [
      'slot-delete  vtl0  0+4000     ram+0     rwx   slot 0',
      'va-limit     va    2000+28              none',
      'slot-add     vtl0  0+2000     ram+0     rwx   slot 0',
      'slot-add     vtl0  3000+1000  ram+3000  rwx   slot 1',
    ]);
    world.change('set fuses disabled');
    t.deepEqual(world.planLines, [
      'va-limit  va    2000+28              rwx',
      'slot-add  vtl0  2000+1000  ram+2000  rwx  slot 2',
    ]);
    world.checkSinks();
  });

  test(`a page of private memory is at one place, also where only parts of it are seen (${build})`, (t) => {
    const world = machine(build, 'private');
    world.change('set fuses enabled\nresize fuses to 800\nalias far 800 of ram at 2000');
    t.throws(() => world.change('place far in system at 18000'), { code: 'PRIVATE_TWICE' });
    world.checkSinks();
  });
}

// ---- Small worlds: cells of a quarter of a page ------------------------------------------------------

const CELL = 0x400;
const CELLS = 8;

/** Things that lie over RAM of two pages: `other` has its own offsets there, `skewed` begins with its first byte. */
const OVER = ['nothing', 'registers', 'other', 'skewed', 'read-only view'] as const;

/** An arrangement: what lies over the cells [start, end) of the RAM, and the cells that registers hide on top. */
interface Arrangement {
  readonly over: (typeof OVER)[number];
  readonly start: number;
  readonly end: number;
  readonly hidden: readonly [start: number, end: number];
}

function* arrangements(): Generator<Arrangement> {
  for (const over of OVER) {
    for (const [start, end] of over === 'nothing' ? [[0, 1] as const] : intervals()) {
      for (const hidden of [[0, 0] as const, ...intervals()]) yield { over, start, end, hidden };
    }
  }
}

function intervals(): (readonly [number, number])[] {
  const all: [number, number][] = [];
  for (let start = 0; start < CELLS; start++) for (let end = start + 1; end <= CELLS; end++) all.push([start, end]);
  return all;
}

/** Memory that a cell shows; `slot`: what must be the same in all of a page for it to have a slot. */
interface Memory {
  readonly object: string;
  readonly offset: number;
  readonly access: 'rw' | 'r';
}

function memoryAt({ over, start, end, hidden }: Arrangement, cell: number): Memory | undefined {
  if (cell >= hidden[0] && cell < hidden[1]) return undefined;
  const ram: Memory = { object: 'ram.mem', offset: cell, access: 'rw' };
  if (over === 'nothing' || cell < start || cell >= end) return ram;
  switch (over) {
    case 'registers':
      return undefined;
    case 'other':
      return { object: 'other.mem', offset: cell, access: 'rw' };
    case 'skewed':
      return start % 4 === 0 ? { object: 'other.mem', offset: cell - start, access: 'rw' } : undefined;
    case 'read-only view':
      return { ...ram, access: 'r' };
  }
}

/** Parts that there should be, of a cell each, and pages that have a slot, with its access. */
function expected(arrangement: Arrangement): { cells: string[]; slots: string[] } {
  const cells: string[] = [];
  const slots: string[] = [];
  for (let page = 0; page < CELLS; page += 4) {
    const shown = [0, 1, 2, 3].map((i) => [page + i, memoryAt(arrangement, page + i)] as const);
    const memories = new Set(
      shown.flatMap(([cell, memory]) => (memory ? [`${memory.object} ${memory.offset - cell}`] : [])),
    );
    if (memories.size > 1) continue;
    for (const [cell, memory] of shown)
      if (memory) cells.push(`${cell} ${memory.object}+${memory.offset} ${memory.access}`);
    const accesses = new Set(shown.map(([, memory]) => memory?.access));
    const [access] = accesses;
    if (accesses.size === 1 && access !== undefined) slots.push(`${page} ${access}x`);
  }
  return { cells, slots };
}

/** The parts that a world has, cell by cell, and its slots, page by page. */
function found(world: World): { cells: string[]; slots: string[] } {
  const cells = cellsOf(world.parts('va'), 1);
  return {
    cells,
    slots: cellsOf(
      world.slots('vtl0').map((line) => line.replace(/^\S+ +/, '')),
      4,
    ),
  };
}

/** Each `step` cells of lines `START-LAST  NAME+OFFSET  ACCESS` below the end of the RAM; slots have no name. */
function cellsOf(lines: readonly string[], step: number): string[] {
  return lines.flatMap((line) => {
    const [range, place, access] = line.split(/ +/) as [string, string, string];
    const [start, last] = range.split('-').map((hex) => Number.parseInt(hex, 16) / CELL) as [number, number];
    const [name, offset] = [place.replace(/\+.*/, ''), Number.parseInt(place.replace(/.*\+/, ''), 16) / CELL];
    const cells: string[] = [];
    for (let cell = start; cell < Math.min(last, CELLS); cell += step) {
      cells.push(step === 1 ? `${cell} ${name}+${offset + cell - start} ${access}` : `${cell} ${access}`);
    }
    return cells;
  });
}

/** Script that turns the machine into an arrangement, whatever it was. */
function scriptOf({ over, start, end, hidden }: Arrangement): string {
  const lines = ['registers', 'window', 'skewed', 'view'].map((name) => `set ${name} disabled`);
  const name = { registers: 'registers', other: 'window', skewed: 'skewed', 'read-only view': 'view', nothing: '' }[
    over
  ];
  const place = (region: string, from: number, to: number) => {
    const at = (from * CELL).toString(16);
    lines.push(`move ${region} to ${at}`, `resize ${region} to ${((to - from) * CELL).toString(16)}`);
    if (region === 'window' || region === 'view') lines.push(`retarget ${region} to ${at}`);
    lines.push(`set ${region} enabled`);
  };
  lines.push('set top disabled');
  if (name !== '') place(name, start, end);
  if (hidden[1] > 0) place('top', hidden[0], hidden[1]);
  return lines.join('\n');
}

for (const kind of ['shared', 'private'] as const) {
  test(`whatever lies over two pages of RAM, in quarters of a page: ${kind} memory (seed ${SEED})`, (t) => {
    const world = new World('debug')
      .place(`
        name       kind       size   in      at  priority  flags              shows
        system     container  20000
        ram        ram        2000   system  0   -1
        other      ram        4000
        registers  mmio       400    system  0   1         disabled
        window     alias      400    system  0   1         disabled           other+0
        skewed     alias      400    system  0   1         disabled           other+0
        view       alias      400    system  0   1         readonly           ram+0
        top        mmio       400    system  0   2         disabled
      `)
      .change(`
        space memory root system
        object ram.mem 2000 ${kind === 'private' ? 'private' : ''}
        object other.mem 4000
        map ram 0 2000 ram.mem 0
        map other 0 4000 other.mem 0
        va va 20000 of memory
        partition vm 16
        attach vtl0 of vm to memory through va
      `);
    const random = new Random();
    const all = [...arrangements()];
    t.log(`${all.length} arrangements`);
    for (let left = tries(1500); left > 0; left--) {
      const next = all[random.below(all.length)]!;
      world.change(scriptOf(next));
      world.checkSinks();
      world.recorder.checkContents();
      t.deepEqual(found(world), expected(next), JSON.stringify(next));
    }
  });
}
