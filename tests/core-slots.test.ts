// Memory slots that a partition gets for what an address space shows.

import test from 'ava';
import { MembackingError } from '../ts/core/errors.ts';
import { BUILDS, World } from './support/world.ts';

/** A partition that sees what is placed in `system`. */
function worldWith(build: (typeof BUILDS)[number], partition: string): World {
  return new World(build).change(`
    container system all
    space memory root system
    va va all of memory
    partition ${partition}
    attach vtl0 of vm to memory through va
  `);
}

interface LargestSlotCase {
  readonly title: string;
  /** Size of the largest slot. */
  readonly largest: string;
  readonly size: string;
  readonly at: string;
  readonly slots: readonly string[];
}

const KVM = '7fffffff000';

const LARGEST_SLOTS: readonly LargestSlotCase[] = [
  {
    title: 'KVM: a window of 8 TiB at 16 TiB has two slots',
    ...{ largest: KVM, size: '8T', at: '16T' },
    slots: ['0 100000000000-13ffffffffff ram+0 rwx', '1 140000000000-17ffffffffff ram+40000000000 rwx'],
  },
  {
    title: 'KVM: a window of 4 TiB where its size says has one',
    ...{ largest: KVM, size: '4T', at: '8T' },
    slots: ['0 80000000000-bffffffffff ram+0 rwx'],
  },
  {
    title: 'addresses say where it is cut, not the start of what is shown',
    ...{ largest: '4000', size: '7000', at: '3000' },
    slots: ['0 3000-3fff ram+0 rwx', '1 4000-7fff ram+1000 rwx', '2 8000-9fff ram+5000 rwx'],
  },
  {
    title: 'of a largest slot that is no power of two, the power of two within it counts',
    ...{ largest: '7fff', size: '6000', at: '0' },
    slots: ['0 0-3fff ram+0 rwx', '1 4000-5fff ram+4000 rwx'],
  },
  {
    title: 'slots of one page',
    ...{ largest: '1000', size: '2000', at: '1000' },
    slots: ['0 1000-1fff ram+0 rwx', '1 2000-2fff ram+1000 rwx'],
  },
  {
    title: 'to the end of a space of 2^64',
    ...{ largest: '8000000000000000', size: '8000000000001000', at: '7ffffffffffff000' },
    slots: ['0 7ffffffffffff000-7fffffffffffffff ram+0 rwx', '1 8000000000000000-ffffffffffffffff ram+1000 rwx'],
  },
];

for (const build of BUILDS) {
  for (const { title, largest, size, at, slots } of LARGEST_SLOTS) {
    test(`${build}: ${title}`, (t) => {
      const world = worldWith(build, `vm 509 of ${largest}`);
      world.change(`ram ram ${size}\nplace ram in system at ${at}`);
      t.deepEqual(trimmed(world.slots('vtl0')), slots);
    });
  }

  test(`${build}: what lies behind a cut stays when something before it changes`, (t) => {
    const world = worldWith(build, 'vm 509 of 4000').change(`
      object memory 10000
      ram ram 10000
      map ram 0 10000 memory 0
      mmio device 1000
      place ram in system
    `);
    world.change('place device in system at 5000 priority 1');
    world.checkSinks();
    t.deepEqual(trimmed(world.slots('vtl0')), [
      '0 0-3fff ram+0 rwx',
      '1 4000-4fff ram+4000 rwx',
      '4 6000-7fff ram+6000 rwx',
      '2 8000-bfff ram+8000 rwx',
      '3 c000-ffff ram+c000 rwx',
    ]);
    t.is(world.planLines.length, 4, 'one slot goes, two come, and a piece is unmapped');
  });

  test(`${build}: memory that needs more slots than any partition has is refused at once`, (t) => {
    const world = worldWith(build, 'vm 65536 of 1000');
    const before = world.describe();
    const error = t.throws(() => world.change('ram ram 256T\nplace ram in system'), { instanceOf: MembackingError });
    t.is(error?.code, 'NO_SLOTS');
    t.deepEqual(world.describe(), before);
  });
}

/** Changes one after the other, and the slots after each of them, beginning with RAM of 16 pages at 0. */
const KEPT: readonly (readonly [change: string, slots: readonly string[]])[] = [
  ['keep vm 4000 2000', ['0-3fff ram+0 rwx', '6000-ffff ram+6000 rwx']],
  ['keep vm 0 1000', ['1000-3fff ram+1000 rwx', '6000-ffff ram+6000 rwx']],
  ['keep vm f000 5000', ['1000-3fff ram+1000 rwx', '6000-efff ram+6000 rwx']],
  ['give-back vm 5000 1000', ['1000-3fff ram+1000 rwx', '5000-5fff ram+5000 rwx', '6000-efff ram+6000 rwx']],
  ['set ram disabled', []],
  ['set ram enabled', ['1000-3fff ram+1000 rwx', '5000-efff ram+5000 rwx']],
  ['resize ram to 18000', ['1000-3fff ram+1000 rwx', '5000-efff ram+5000 rwx', '14000-17fff ram+14000 rwx']],
  ['set ram disabled\ngive-back vm 0 all', []],
  ['set ram enabled', ['0-17fff ram+0 rwx']],
];

for (const build of BUILDS) {
  test(`${build}: pages that the hypervisor keeps have no slots, of any attachment of the partition`, (t) => {
    const world = worldWith(build, 'vm 509')
      .change('detach vtl0')
      .change('attach low of vm to memory through va end fffffffffff')
      .change('attach high of vm to memory through va at 100000000000')
      .change('ram ram 10000\nobject memory 20000\nmap ram 0 10000 memory 0\nplace ram in system');
    const pieces = world.pieces('va');
    world.change('keep vm 4000 2000');
    t.deepEqual(places(world, 'low'), ['0-3fff ram+0 rwx', '6000-ffff ram+6000 rwx']);
    t.deepEqual(places(world, 'high'), ['0-ffff ram+0 rwx'], 'its GPAs are others');
    world.change('keep vm 100000008000 1000');
    t.deepEqual(places(world, 'high'), ['0-7fff ram+0 rwx', '9000-ffff ram+9000 rwx']);
    t.deepEqual(world.pieces('va'), pieces, 'the monitor sees them as before');
    world.checkSinks();
  });

  test(`${build}: kept pages come and go with the slots around them`, (t) => {
    const world = worldWith(build, 'vm 509').change('ram ram 10000\nplace ram in system');
    for (const [change, slots] of KEPT) {
      world.change(change);
      world.checkSinks();
      t.deepEqual(places(world, 'vtl0'), slots, change);
    }
  });
}

/** Rows without the blanks that align them. */
function trimmed(lines: readonly string[]): string[] {
  return lines.map((line) => line.trim().replace(/\s+/g, ' '));
}

/** Slots without their numbers. */
function places(world: World, attachment: string): string[] {
  return trimmed(world.slots(attachment)).map((row) => row.replace(/^\d+ /, ''));
}

// ---- Splits ----------------------------------------------------------------------------------------

/** RAM of 16 pages at 0, and two ROMs of a page that may be put over it. */
function pc(build: (typeof BUILDS)[number], slots: number): World {
  return worldWith(build, `vm ${slots}`).change(`
    ram ram 10000
    place ram in system
    rom low 1000
    rom high 1000
    set low disabled
    set high disabled
    place low in system at 4000 priority 1
    place high in system at c000 priority 1
  `);
}

for (const build of BUILDS) {
  test(`${build}: a slot that was cut stays cut, and only what is in the middle goes and comes`, (t) => {
    const world = pc(build, 8);
    const splits = () => world.core.slotSplits(world.id('sink', 'vtl0'));
    t.is(splits(), 0);
    world.change('set low enabled');
    t.deepEqual(world.planLines, [
      'slot-delete  vtl0  0+10000    ram+0     rwx  slot 0',
      'slot-add     vtl0  0+4000     ram+0     rwx  slot 0',
      'slot-add     vtl0  4000+1000  low+0     rx   slot 1',
      'slot-add     vtl0  5000+b000  ram+5000  rwx  slot 2',
    ]);
    t.is(splits(), 0);
    world.change('set low disabled');
    t.deepEqual(world.planLines, [
      'slot-delete  vtl0  4000+1000  low+0     rx   slot 1',
      'slot-add     vtl0  4000+1000  ram+4000  rwx  slot 1',
    ]);
    t.is(splits(), 2);
    world.change('set low enabled');
    t.deepEqual(world.planLines, [
      'slot-delete  vtl0  4000+1000  ram+4000  rwx  slot 1',
      'slot-add     vtl0  4000+1000  low+0     rx   slot 1',
    ]);
    world.checkSinks();
  });

  test(`${build}: slots are joined where their partition runs short of them, and not before`, (t) => {
    const world = pc(build, 4).change('set low enabled').change('set low disabled');
    t.is(world.slots('vtl0').length, 3);
    world.change('set high enabled');
    t.deepEqual(world.planLines, [
      'slot-delete  vtl0  5000+b000  ram+5000  rwx  slot 2',
      'slot-delete  vtl0  0+4000     ram+0     rwx  slot 0',
      'slot-delete  vtl0  4000+1000  ram+4000  rwx  slot 1',
      'slot-add     vtl0  0+c000     ram+0     rwx  slot 0',
      'slot-add     vtl0  c000+1000  high+0    rx   slot 1',
      'slot-add     vtl0  d000+3000  ram+d000  rwx  slot 2',
    ]);
    t.is(world.core.slotSplits(world.id('sink', 'vtl0')), 0);
    world.checkSinks();
  });

  test(`${build}: what does not fit even in the fewest slots is refused, and nothing is joined`, (t) => {
    const world = pc(build, 4).change('set low enabled').change('set low disabled');
    const before = world.describe();
    t.throws(() => world.change('set low enabled\nset high enabled'), { code: 'NO_SLOTS' });
    t.deepEqual(world.describe(), before);
  });
}
