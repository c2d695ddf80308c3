// Stretches of a VA space: addresses for memory behind its first one come with what is seen there, and go with it.
// Units are of four pages here.

import test from 'ava';
import type { MembackingError } from '../ts/core/errors.ts';
import { BUILDS, type Build, World } from './support/world.ts';

/** A machine whose VA space begins with 16 pages, on a bus of 2^64 bytes. */
function machine(build: Build, limits = 'stretches 3 bytes 20000'): World {
  return new World(build)
    .place(`
      name    kind       size    in      at
      system  container  all
      ram     ram        10000   system  0
    `)
    .change(`
      space memory root system
      object ram.mem 10000
      object file 100000
      object secret 10000 private
      va va 10000 of memory ${limits} unit 4000
      partition vm 8
      attach vtl0 of vm to memory through va
      map ram 0 10000 ram.mem 0
      device bar 3000
      map bar 0 3000 file 0
      device other 2000
      map other 0 2000 secret 0
    `);
}

const TOP = '8000000000000';

function stretches(world: World): string[] {
  const hex = (pages: number) => (BigInt(pages) * 0x1000n).toString(16);
  return world.recorder.stretches(world.id('sink', 'va')).map(({ start, pages }) => `${hex(start)}+${hex(pages)}`);
}

function planOf(world: World): string[] {
  return world.planLines.map((line) => line.replace(/ +/g, ' '));
}

function slotsOf(world: World): string[] {
  return world.slots('vtl0').map((line) => line.split(/ +/)[1]!);
}

function codeOf(change: () => unknown): string {
  try {
    change();
    return 'done';
  } catch (error) {
    return (error as MembackingError).code;
  }
}

for (const build of BUILDS) {
  test(`a BAR at the top of the guest's addresses has a stretch of its own, while it is there (${build})`, (t) => {
    const world = machine(build).change(`place bar in system at ${TOP}`);
    t.deepEqual(planOf(world), [
      `va-reserve va ${TOP}+4000`,
      `va-map va ${TOP}+3000 file+0 rw`,
      `slot-add vtl0 ${TOP}+3000 bar+0 rwx slot 1`,
    ]);
    t.deepEqual(stretches(world), ['0+10000', `${TOP}+4000`]);
    // Another place, in the same transaction: what comes is reserved first, what goes is given back last.
    world.change('move bar to 900000001000');
    t.deepEqual(planOf(world), [
      `slot-delete vtl0 ${TOP}+3000 bar+0 rwx slot 1`,
      `va-unmap va ${TOP}+3000`,
      'va-reserve va 900000000000+4000',
      'va-map va 900000001000+3000 file+0 rw',
      'slot-add vtl0 900000001000+3000 bar+0 rwx slot 1',
      `va-release va ${TOP}+4000`,
    ]);
    t.is(world.disturbance, 'none');
    world.change('move bar to 800000');
    world.change('remove bar');
    t.deepEqual(stretches(world), ['0+10000']);
    world.checkSinks();
  });

  test(`neighbours that come together share a stretch; what comes later gets its own, and slots end there (${build})`, (t) => {
    const world = machine(build).change(`place bar in system at ${TOP}\nplace other in system at 8000000003000`);
    t.deepEqual(stretches(world), ['0+10000', `${TOP}+8000`]);
    world.change('resize bar to 3000\nremove other');
    t.deepEqual(stretches(world), ['0+10000', `${TOP}+8000`], 'a part is still in use');
    world.change('remove bar\nplace other in system at 8000000003000');
    t.deepEqual(stretches(world), ['0+10000', `${TOP}+8000`], 'and another one is');
    world.change('remove other');
    world.change(`place bar in system at ${TOP}`);
    world.change('resize bar to 6000\nmap bar 3000 3000 file 3000');
    t.deepEqual(stretches(world), ['0+10000', `${TOP}+4000`, '8000000004000+4000']);
    t.deepEqual(slotsOf(world), [
      '0-ffff',
      `${TOP}-8000000002fff`,
      '8000000003000-8000000003fff',
      '8000000004000-8000000005fff',
    ]);
    world.checkSinks();
  });

  test(`memory that begins in the first stretch goes on in another (${build})`, (t) => {
    const world = machine(build).change('resize ram to 13000\nmap ram 10000 3000 file 10000');
    t.deepEqual(stretches(world), ['0+10000', '10000+4000']);
    t.deepEqual(slotsOf(world), ['0-ffff', '10000-12fff']);
    world.change('resize ram to 10000');
    t.deepEqual(stretches(world), ['0+10000']);
  });

  test(`what traps needs no stretch, wherever it is (${build})`, (t) => {
    const world = machine(build).change('mmio registers 4000');
    for (const at of ['380000000000', 'ffffffffffffc000', '8000000000', '10000']) {
      world.change(`place registers in system at ${at}`);
      t.deepEqual(stretches(world), ['0+10000']);
      t.deepEqual(world.planLines, []);
      world.change('remove registers');
    }
  });

  test(`more stretches than there may be, or of more bytes, are refused, and nothing has changed (${build})`, (t) => {
    const world = machine(build);
    for (const i of [1, 2, 3, 4]) world.change(`device d${i} 1000`);
    for (const i of [1, 2, 3]) world.change(`place d${i} in system at ${i}00000000`);
    const before = world.describe();
    t.throws(() => world.change('place d4 in system at 400000000'), {
      code: 'NO_STRETCHES',
      message:
        '"va" may reserve no addresses for "d4" at 0x400000000: it would have more stretches than maxStretches, or of more bytes than maxStretchBytes, or a huge page in two',
    });
    t.deepEqual(world.describe(), before);
    // One that moves is one, although both are there for a moment.
    world.change('move d1 to 500000000');
    world.change('remove d1\nplace d4 in system at 400000000');
    world.change('remove d2\nremove d3\nresize d4 to 20000');
    t.is(
      codeOf(() => world.change('resize d4 to 21000')),
      'NO_STRETCHES',
    );
    t.is(
      codeOf(() => world.change('move d4 to 500001000')),
      'NO_STRETCHES',
    );
    t.deepEqual(stretches(world), ['0+10000', '400000000+4000', '400004000+1c000']);
  });

  test(`memory past the last address that guests have is not shown, and is refused where no stretches may be (${build})`, (t) => {
    const world = machine(build);
    for (const at of ['10000000000000', 'ffffffffffffd000']) {
      world.change(`place bar in system at ${at}`);
      t.deepEqual(world.planLines, []);
      world.change('remove bar');
    }
    world.change('place bar in system at ffffffffff000');
    t.deepEqual(planOf(world).slice(1), [
      'va-map va ffffffffff000+1000 file+0 rw',
      'slot-add vtl0 ffffffffff000+1000 bar+0 rwx slot 1',
    ]);
    world.change('remove bar');
    world.checkSinks();
    t.is(
      codeOf(() => machine(build, 'stretches 0').change(`place bar in system at ${TOP}`)),
      'PAST_LIMIT',
    );
  });

  test(`protections, views and private memory are over all stretches (${build})`, (t) => {
    const world = machine(build).change(`place bar in system at ${TOP}\nplace other in system at 8000000003000`);
    world.change(`protect va ${TOP} 1000 r`);
    t.is(world.pieces('va')[1]?.replace(/ +/g, ' '), `${TOP}-8000000000fff file+0 r`);
    world.change('move other to 700000000000');
    t.deepEqual(planOf(world), [
      'slot-delete vtl0 8000000003000+2000 other+0 rwx slot 2',
      'va-park va 8000000003000+2000 secret+0 rw',
      'va-reserve va 700000000000+4000',
      'va-unpark va 700000000000+2000 secret+0 rw',
      'slot-add vtl0 700000000000+2000 other+0 rwx slot 2',
    ]);
    world.checkSinks();
  });

  test(`whatever fails of a BAR that moves, its stretches are what they were (${build})`, (t) => {
    for (let after = 0; ; after++) {
      const world = machine(build).change(`place bar in system at ${TOP}\nplace other in system at 700000000000`);
      const before = world.describe();
      world.failing.plan(after);
      const end = codeOf(() =>
        world.change('remove bar\nmove other to 600000001000\nplace bar in system at 500000000000'),
      );
      world.failing.plan();
      if (end === 'done') {
        t.is(after, 10);
        t.deepEqual(stretches(world), ['0+10000', '500000000000+4000', '600000000000+4000']);
        return;
      }
      t.is(end, 'PLAN_FAILED');
      t.deepEqual(world.describe(), before);
      world.checkSinks();
    }
  });

  test(`a stretch in which something is lost stays until that is repaired (${build})`, (t) => {
    const ends = new Map<string, number>();
    for (let after = 0; after < 10; after++) {
      for (let back = 0; back < 12; back++) {
        for (const half of [0, 1, undefined]) {
          const world = machine(build).change(`place bar in system at ${TOP}\nplace other in system at 700000000000`);
          const before = stretches(world);
          world.failing.half = half;
          world.failing.plan(after, back);
          const end = codeOf(() =>
            world.change('remove bar\nmove other to 600000001000\nplace bar in system at 500000000000'),
          );
          world.failing.plan();
          ends.set(end, (ends.get(end) ?? 0) + 1);
          world.checkSinks();
          if (world.isDown()) continue;
          world.repair();
          world.checkSinks();
          t.deepEqual(stretches(world), before, `${after} ${back} ${half}`);
          world.change('remove bar\nremove other');
          t.deepEqual(stretches(world), ['0+10000']);
        }
      }
    }
    t.true(ends.get('RANGE_LOST')! > 20);
  });

  test(`a VA space that is detached gives all back (${build})`, (t) => {
    const world = machine(build).change(`place bar in system at ${TOP}\ndetach vtl0\ndetach va`);
    t.deepEqual(world.planLines, ['slot-delete  vtl0  0+10000  ram+0  rwx  slot 0', 'va-unmap     va    0+10000']);
  });
}
