// The core's memory: what it holds, and that a full one gives an error and changes nothing.

import test from 'ava';
import * as abi from '../assembly/abi.ts';
import { Core } from '../ts/core/core.ts';
import { Random, SEED } from './support/random.ts';
import { World } from './support/world.ts';

const PAGE = abi.PAGE_SIZE;

function change(core: Core, mutate: () => void): void {
  core.begin();
  mutate();
  core.commit();
  core.adopt();
}

/** A device region of twice that many pages, with an object for every other one. */
function device(pages: number): Core {
  const core = new Core();
  change(core, () => {
    core.createRegion(abi.KIND_DEVICE, 2 * pages * PAGE, 0);
    core.createObject(abi.OBJECT_SHARED, abi.OBJECT_WRITABLE, pages * PAGE);
  });
  return core;
}

const MAPPINGS = 100_000;

for (const order of ['upwards', 'at random', 'in one transaction'] as const) {
  test(`100 000 mappings of one region, made ${order}, take at most 100 bytes each (seed ${SEED})`, (t) => {
    const core = device(MAPPINGS);
    const before = core.heapInUse();
    const pages = Array.from({ length: MAPPINGS }, (_, i) => i);
    const mapped = order === 'at random' ? new Random().shuffled(pages) : pages;
    const step = order === 'in one transaction' ? MAPPINGS : 1000;
    for (let from = 0; from < MAPPINGS; from += step) {
      change(core, () => {
        for (const page of mapped.slice(from, from + step)) core.map(0, 2 * page * PAGE, PAGE, 0, page * PAGE, 0);
      });
    }
    const each = (core.heapInUse() - before) / MAPPINGS;
    t.is(core.mappings(0).length, MAPPINGS);
    t.true(each <= 100, `${each}`);
    t.log(`${each.toFixed(1)} bytes each`);
    change(core, () => core.unmap(0, 0, 2 * MAPPINGS * PAGE));
    t.is(core.heapInUse(), before, 'all of it is given back');
  });
}

test(`what is spare means nothing: a core that finds garbage there goes on as before (seed ${SEED})`, (t) => {
  const [core, twin] = [device(2000), device(2000)];
  const random = new Random();
  core.begin();
  t.throws(() => core.spare(), { message: /PLAN_PENDING/ }, 'inside a transaction');
  core.abort();
  let spare = 0;
  for (let round = 0; round < 20; round++) {
    const changes = Array.from({ length: 2000 }, () => [random.below(2000), random.below(3)] as const);
    for (const each of [core, twin]) {
      change(each, () => {
        for (const [page, kind] of changes) {
          if (kind === 0) each.unmap(0, 2 * page * PAGE, 2 * PAGE);
          else each.map(0, 2 * page * PAGE, PAGE, 0, page * PAGE, 0);
        }
      });
    }
    for (const { start, last } of core.spare()) {
      const [from, to] = [Number(start), Number(last) + 1];
      spare += to - from;
      new Uint8Array(core.memory.buffer, from, to - from).fill(0xaa);
    }
    core.verify();
    t.deepEqual(core.mappings(0), twin.mappings(0));
  }
  t.true(spare > 20 * 65536, `${spare} bytes`);
});

test('50 000 regions take at most 200 bytes each, and the next 50 000 take their place', (t) => {
  const core = new Core();
  const count = 50_000;
  change(core, () => core.createRegion(abi.KIND_CONTAINER, 2 * count * PAGE, 0));
  const before = core.heapInUse();
  const live: number[] = [];
  const fill = () => {
    for (let from = 0; from < count; from += 1000) {
      change(core, () => {
        for (let i = from; i < from + 1000; i++) {
          const id = core.createRegion(abi.KIND_MMIO, PAGE, 0);
          core.place(id, 0, 2 * i * PAGE, 0);
          live.push(id);
        }
      });
    }
  };
  fill();
  const full = core.heapInUse();
  const each = (full - before) / count;
  t.true(each <= 200, `${each}`);
  t.log(`${each.toFixed(1)} bytes each`);
  for (let round = 0; round < 3; round++) {
    while (live.length > 0) {
      change(core, () => {
        for (const id of live.splice(-1000)) {
          core.remove(id);
          core.destroyRegion(id);
        }
      });
    }
    fill();
    t.is(core.heapInUse(), full);
  }
  t.is(Math.max(...live.slice(-1000)) <= count, true, 'ids are given out again');
});

test('memory does not grow while mappings, regions, spaces and sinks come and go', (t) => {
  const world = new World().change('container system 1000000\nobject file 100000\npartition vm 64');
  const script = Array.from({ length: 32 }, (_, i) => {
    const at = (i * 0x10000).toString(16);
    return `ram r${i} 8000\nplace r${i} in system at ${at}\nmap r${i} 0 4000 file 0`;
  }).join('\n');
  const undo = Array.from({ length: 32 }, (_, i) => `unmap r${i} 0 8000\nremove r${i}\ndestroy r${i}`).join('\n');
  const round = () => {
    world.change(
      `${script}\nspace memory root system\nva va 1000000 of memory\nattach vtl0 of vm to memory through va`,
    );
    world.change('detach vtl0\ndetach va');
    world.change(`close-space memory\n${undo}`);
  };
  round();
  const [used, size] = [world.core.heapInUse(), world.core.memory.buffer.byteLength];
  for (let i = 0; i < 50; i++) round();
  t.is(world.core.heapInUse(), used);
  t.is(world.core.memory.buffer.byteLength, size);
});

// ---- Running out -------------------------------------------------------------------------------

/** State of the world, as far as these tests change it. */
function picture({ core }: World): unknown[] {
  return [core.flat(0), core.mappings(1), core.sinkRows(0), core.sinkRows(1), core.children(0)];
}

/** `count` regions with mappings in a window, and as many pieces and slots. */
function more(round: number, count: number): string {
  return Array.from({ length: count }, (_, i) => {
    const at = ((round * 4096 + i) * 0x4000).toString(16);
    return `ram r${round}-${i} 2000\nplace r${round}-${i} in system at ${at}\nmap r${round}-${i} 0 1000 file 0`;
  }).join('\n');
}

test('however little memory there is: what does not fit is refused, nothing has happened, and less fits', (t) => {
  let refused = 0;
  for (const pages of [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 20, 24]) {
    const world = new World('release', { maxMemory: pages * 65536 });
    const start = `
      container system all
      device dax 100000
      place dax in system at 10000000
      object file 100000
      space memory root system
      va va 400000000000 of memory
      partition vm 32768
      attach vtl0 of vm to memory through va`;
    const first = world.attempt(start);
    if (first !== 'done') {
      t.is(first, 'NO_MEMORY');
      t.throws(() => world.core.flat(0), { code: 'BAD_ID' });
      refused++;
      continue;
    }
    let fitted = 0;
    for (let round = 0, count = 160; count > 0; round++) {
      const before = picture(world);
      const answer = world.attempt(more(round, count));
      if (answer === 'done') {
        fitted++;
        world.checkSinks();
        if (round < 8) continue;
        break;
      }
      t.is(answer, 'NO_MEMORY');
      t.deepEqual(picture(world), before);
      refused++;
      count = Math.floor(count / 4);
    }
    t.true(fitted > 0 || pages < 12, `${pages}`);
  }
  t.true(refused > 10);
  t.log(`${refused} times refused`);
});

for (const [what, fill] of Object.entries({
  regions: (i: number) => `ram r${i} 1000\nplace r${i} in system at ${(i * 0x2000).toString(16)}`,
  mappings: (i: number) => `map dax ${(i * 0x2000).toString(16)} 1000 file ${((i % 16) * 0x1000).toString(16)}`,
})) {
  test(`memory that was filled up with ${what} one by one can be emptied one by one, and filled again`, (t) => {
    const world = new World('release', { maxMemory: 20 * 65536 }).change(`
      container system all
      device dax 80000000
      place dax in system at 4000000000
      object file 100000
      space memory root system
      va va 400000000000 of memory
      partition vm 32768
      attach vtl0 of vm to memory through va`);
    const empty = picture(world);
    const fillUp = () => {
      let count = 0;
      for (let answer = ''; answer !== 'NO_MEMORY'; count++) answer = world.attempt(fill(count));
      return count - 1;
    };
    const first = fillUp();
    t.true(first > 500, `${first}`);
    t.true(world.core.heapInUse() < 20 * 65536);
    for (let i = first - 1; i >= 0; i--) {
      const away = what === 'regions' ? `remove r${i}\ndestroy r${i}` : `unmap dax ${(i * 0x2000).toString(16)} 1000`;
      t.is(world.attempt(away), 'done');
    }
    t.deepEqual(picture(world), empty);
    const again = fillUp();
    t.true(again > first / 2, `${first}, then ${again}`);
    t.is(world.attempt('detach vtl0\ndetach va'), 'done');
  });
}
