// The call stack runs out at every depth of every kind of change, in the main thread and in workers with small stacks:
// what the map then says is what is, or it says at every later call that it is broken.

import { Worker } from 'node:worker_threads';
import test from 'ava';
import { artefact } from '../ts/core/artefact.ts';

/** Each change is made on a map of its own with `room` frames of stack left, for every room up to where nothing runs
 *  out. */
const STORY = `
import { parentPort } from 'node:worker_threads';
import { MemoryMap, RecordingPartition, SharedMemory } from ${JSON.stringify(artefact('index.js').href)};

const PAGE = 4096;
const object = SharedMemory.create(64 * PAGE);

function machine() {
  const text = [];
  const map = new MemoryMap({ record: { write: (line) => text.push(line) } });
  const root = map.createRegion({ name: 'root', kind: 'container', size: 64 * PAGE });
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size: 16 * PAGE }).place(root);
  ram.map({ object, length: 16 * PAGE });
  const space = map.createAddressSpace({ name: 'guest', root });
  const va = map.attachVaSpace(space, { size: 64 * PAGE });
  const partition = new RecordingPartition();
  const attachment = map.attachPartition(partition, { space, va });
  return { map, root, ram, space, va, partition, attachment };
}

const CHANGES = {
  'a region is moved': ({ ram }) => ram.move(32 * PAGE),
  'a region is resized': ({ ram }) => ram.resize(8 * PAGE),
  'a mapping is replaced': ({ ram }) => ram.map({ offset: 0, object, objectOffset: 40 * PAGE, length: PAGE }),
  'a part is unmapped': ({ ram }) => ram.unmap(PAGE, PAGE),
  'a region is made and placed': ({ map, root }) => map.transaction(() => map.createRegion({ name: 'x', kind: 'ram', size: PAGE }).place(root, { offset: 60 * PAGE })),
  'a change inside another': ({ map, ram }) => map.transaction(() => map.transaction(() => ram.move(32 * PAGE))),
  'a change whose body goes on after it': ({ map, ram }) => map.transaction(() => {
    try {
      ram.move(32 * PAGE);
    } catch {}
  }),
  'the guest loses access': ({ attachment }) => attachment.protect({ gpa: 0, length: PAGE, access: 'none' }),
  'a partition is detached': ({ attachment }) => attachment.close(),
  'a plan is asked for': ({ map, ram }) => map.plan(() => ram.move(32 * PAGE)),
};

/** Checks that the sinks have what the handles say. */
function check({ map, ram, space, va, partition, attachment }) {
  const pieces = va.closed ? [] : va.pieces();
  const slots = attachment.closed ? [] : attachment.slots();
  const told = [...partition.slots.values()].map(({ gpa, length }) => [gpa, length]).sort();
  const said = slots.map(({ gpa, length }) => [gpa, length]).sort();
  if (JSON.stringify(told) !== JSON.stringify(said)) return 'the partition has other slots: ' + JSON.stringify([told, said]);
  for (const { gpa, length } of pieces) va.memory.readU32(gpa + length - 1 - 3);
  const offset = ram.offset;
  for (const place of [0, 32 * PAGE]) {
    let isThere = true;
    try {
      va.memory.readU32(place + 2 * PAGE);
    } catch {
      isThere = false;
    }
    if (isThere !== (offset === place)) return 'ram is said to be at ' + offset;
  }
  return JSON.stringify([offset, ram.size, ram.mappings().length, said, space.flatView().map(({ gpa, name }) => [gpa, name])]);
}

function atDepth(frames, body) {
  if (frames > 0) {
    atDepth(frames - 1, body);
    return 0;
  }
  body();
  return 1;
}

/** Depth of the stack, in frames of atDepth. */
function deepest() {
  let most = 0;
  const dive = (frames) => {
    most = frames;
    dive(frames + 1);
  };
  try {
    atDepth(0, () => dive(0));
  } catch {}
  let [low, high] = [0, most * 4];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    try {
      atDepth(middle, () => {});
      low = middle;
    } catch {
      high = middle;
    }
  }
  return low;
}

const result = { ends: {}, problems: [] };
for (const [title, change] of Object.entries(CHANGES)) {
  const before = check(machine());
  const done = machine();
  for (let i = 0; i < 3; i++) deepest();
  change(done);
  const after = check(done);
  const bottom = deepest();
  let quiet = 0;
  for (let room = 0; quiet < 20 && room < bottom; room++) {
    const world = machine();
    let end = 'done';
    try {
      atDepth(bottom - room, () => change(world));
    } catch (error) {
      end = error.code ?? error.name;
    }
    quiet = end === 'done' ? quiet + 1 : 0;
    let now;
    try {
      world.map.transaction(() => {});
      now = check(world);
    } catch (error) {
      now = error.code;
    }
    const isBroken = now === 'POISONED' || now === 'CORE_TRAPPED';
    if (isBroken) {
      for (let i = 0; i < 2; i++) {
        try {
          world.ram.move(PAGE);
          result.problems.push([title, room, 'a broken map takes a change']);
        } catch (error) {
          if (error.code !== 'POISONED' && error.code !== 'CORE_TRAPPED') result.problems.push([title, room, error.code]);
        }
      }
    } else if (now !== (end === 'done' ? after : before) && !(end === 'done' && title.endsWith('goes on after it'))) {
      result.problems.push([title, room, end, now]);
    }
    const kind = isBroken ? 'broken' : end;
    result.ends[kind] = (result.ends[kind] ?? 0) + 1;
    world.map.close();
  }
}
if (parentPort) parentPort.postMessage(result);
else console.log(JSON.stringify(result));
`;

function inWorker(stackSizeMb: number): Promise<{ ends: Record<string, number>; problems: unknown[] }> {
  return new Promise((resolve, reject) => {
    const url = new URL(`data:text/javascript,${encodeURIComponent(STORY)}`);
    const worker = new Worker(url, { resourceLimits: { stackSizeMb } });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

for (const stackSizeMb of [1, 4]) {
  test(`the call stack of a worker runs out (${stackSizeMb} MiB): what is said is what is`, async (t) => {
    const { ends, problems } = await inWorker(stackSizeMb);
    t.log(JSON.stringify(ends));
    t.deepEqual(problems, []);
    t.true(ends.RangeError! > 10 && ends.done! > 10);
  });
}

test('the call stack of the main thread runs out: what is said is what is', async (t) => {
  const { spawnSync } = await import('node:child_process');
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', STORY], { encoding: 'utf8' });
  t.not(stdout, '', stderr);
  const { ends, problems } = JSON.parse(stdout);
  t.log(JSON.stringify(ends));
  t.deepEqual(problems, []);
  t.true(ends.RangeError > 10 && ends.done > 10);
});
