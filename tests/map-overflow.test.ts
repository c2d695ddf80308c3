// The call stack runs out at every depth of every kind of change, in the main thread and in workers with small stacks:
// what the map then says is what is, or it says at every later call that it is broken. It can be closed in any case.

import { spawnSync } from 'node:child_process';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { artefact } from '../ts/core/artefact.ts';

/** Each change is made on a map of its own with room for some frames of stack, beginning with none, up to where it is
 *  done some times in a row. */
const STORY = `
import { isMainThread, parentPort } from 'node:worker_threads';
import { GuestMemoryBuilder, MemoryMap, RecordingPartition, SharedMemory } from ${JSON.stringify(artefact('index.js').href)};

const PAGE = 4096;
const PAGES = 64;
const object = SharedMemory.create(PAGES * PAGE);
const { fd } = object;

/** World with the parts that both kinds of it have. */
function world(map, space, va, more) {
  return { map, space, va, other: new RecordingPartition({ name: 'other' }), close: () => map.close(), ...more };
}

function machine() {
  const map = new MemoryMap({ record: { write: () => {} } });
  const root = map.createRegion({ name: 'root', kind: 'container', size: PAGES * PAGE });
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size: 16 * PAGE }).place(root);
  ram.map({ object, length: 16 * PAGE });
  const space = map.createAddressSpace({ name: 'guest', root });
  const va = map.attachVaSpace(space, { size: PAGES * PAGE });
  const partition = new RecordingPartition();
  const attachment = map.attachPartition(partition, { space, va });
  const fresh = SharedMemory.create(PAGE);
  return world(map, space, va, { root, ram, partition, attachment, fresh });
}

const CHANGES = {
  'a region is moved': ({ ram }) => ram.move(32 * PAGE),
  'a region is resized': ({ ram }) => ram.resize(8 * PAGE),
  'a mapping is replaced': ({ ram }) => ram.map({ offset: 0, object, objectOffset: 40 * PAGE, length: PAGE }),
  'an object is new to the map': ({ ram, fresh }) => ram.map({ object: fresh }),
  'a part is unmapped': ({ ram }) => ram.unmap(PAGE, PAGE),
  'a region is made and placed': ({ map, root }) => map.transaction(() => map.createRegion({ name: 'x', kind: 'ram', size: PAGE }).place(root, { offset: 60 * PAGE })),
  'a region is removed and closed': ({ map, ram }) => map.transaction(() => {
    ram.remove();
    ram.close();
  }),
  'a change inside another': ({ map, ram }) => map.transaction(() => map.transaction(() => ram.move(32 * PAGE))),
  'a change whose body goes on after it': ({ map, ram }) => map.transaction(() => {
    try {
      ram.move(32 * PAGE);
    } catch {}
  }),
  'a change inside one that goes on after it': ({ map, ram }) => map.transaction(() => {
    try {
      map.transaction(() => {
        ram.move(32 * PAGE);
        ram.unmap(0, PAGE);
      });
    } catch {}
  }),
  'the guest loses access': ({ attachment }) => attachment.protect({ gpa: 0, length: PAGE, access: 'none' }),
  'a partition is attached': ({ map, space, va, other }) => map.attachPartition(other, { space, va }),
  'a partition is detached': ({ attachment }) => attachment.close(),
  'an address space is made': ({ map, root }) => map.createAddressSpace({ name: 'another', root }),
  'a VA space is attached': ({ map, space }) => map.attachVaSpace(space, { size: PAGES * PAGE }),
  'a plan is asked for': ({ map, ram }) => map.plan(() => ram.move(32 * PAGE)),
};

function guest() {
  const ram = (name, page) => ({ name, ranges: [{ gpa: page * PAGE, length: 4 * PAGE }] });
  const manager = new GuestMemoryBuilder({ maxAddress: PAGES * PAGE - 1 }).addRam(ram('low', 0)).addRam(ram('high', 16)).build();
  const partition = new RecordingPartition();
  const attached = manager.attachPartition(partition);
  const bar = manager.deviceMapper.newRegion(4 * PAGE, 'bar');
  bar.region.map(0, fd, 0, PAGE, true);
  bar.control.mapToGuest(32 * PAGE);
  const more = ram('more', 48);
  return world(manager.map, manager.space, manager.va, { manager, partition, attached, bar, more, close: () => manager.close() });
}

const GUEST_CHANGES = {
  'a trust level is kept from a page': ({ manager }) => manager.setVtlProtection(0, { gpa: 0, length: PAGE }, 'rx'),
  'a trust level has a token': ({ manager }) => manager.client(0).token,
  'RAM is added': ({ manager, more }) => manager.addRam(more),
  'RAM is removed': ({ manager }) => manager.removeRam('high'),
  'RAM is hidden': ({ manager }) => manager.ramVisibility.set({ gpa: 0, length: 4 * PAGE }, 'unmapped'),
  'a BAR is moved': ({ bar }) => bar.control.mapToGuest(40 * PAGE),
  'a BAR shows more of a file': ({ bar }) => bar.region.map(PAGE, fd, PAGE, PAGE),
  'a BAR is closed': ({ bar }) => bar.region.close(),
  'a region that shows zeroes is made': ({ manager }) => manager.deviceMapper.newRegion(PAGE, 'x', { holes: 'zero' }),
  'a file is opened': ({ manager }) => manager.deviceMapper.openFile(fd),
  'a partition is attached to a guest': ({ manager, other }) => manager.attachPartition(other),
  'a partition is detached from a guest': ({ attached }) => attached.close(),
};

/** Tells what there is, by everything that can be asked; throws where one says other than another. */
function told({ map, space, va, partition, other, manager, bar, ram }) {
  const { regions, spaces, sinks, names, overdue, withheld } = map.context;
  const slotsOf = (slots) => [...slots].map(({ gpa, length, access }) => [gpa, length, access]).sort().join('; ');
  for (const each of [partition, other]) {
    const own = [...sinks].filter((sink) => sink.partition === each);
    const [has, said] = [slotsOf(each.slots.values()), slotsOf(own.flatMap((sink) => sink.slots()))];
    if (has !== said) throw new Error('a partition has the slots ' + has + ', and is said to have ' + said);
  }
  const pieces = va.pieces().map(({ gpa, length, access, objectOffset }) => ({ gpa, length, access, objectOffset }));
  for (let gpa = 0; gpa < PAGES * PAGE; gpa += PAGE) {
    let isThere = true;
    try {
      va.memory.readU32(gpa);
    } catch {
      isThere = false;
    }
    const isSaid = pieces.some((piece) => gpa >= piece.gpa && gpa < piece.gpa + piece.length);
    if (isThere !== isSaid) throw new Error('page ' + gpa / PAGE + (isSaid ? ' is not there' : ' is there'));
  }
  return JSON.stringify([
    pieces,
    slotsOf(partition.slots.values()),
    slotsOf(other.slots.values()),
    space.flatView().map(({ gpa, length, name }) => [gpa, length, name]),
    [...regions.values()].map(({ name, closed, size, offset }) => [name, closed, size, offset]),
    [regions, spaces].map((table) => [...table.keys()]),
    Object.values(names).map((table) => table instanceof Map && [...table]),
    [sinks.size, overdue.size, withheld.size],
    ram !== undefined && !ram.closed && ram.mappings().length,
    bar !== undefined && !bar.region.closed && bar.region.mappings(),
    manager !== undefined && { ...manager.inspect(), plans: undefined },
  ], (_, value) => (typeof value === 'bigint' ? String(value) : value));
}

/** Calls \`action\` with room for \`room\` frames of stack, and \`words\` words less. */
function nearTheEnd(room, words, action) {
  let left = room;
  const padding = Array(words).fill(0);
  const act = () => action();
  const dive = () => {
    try {
      dive();
    } catch {}
    if (left-- === 0) act(...padding);
  };
  dive();
}

const problems = [];
const ends = {};

/** Makes one change with little stack. Says how that ended. */
function tryOnce(title, make, change, { room, before, after }) {
  const there = make();
  let end = 'not begun';
  nearTheEnd(room, (room * 7) % 16, () => {
    try {
      change(there);
      end = 'done';
    } catch (error) {
      end = error.code ?? error.name;
    }
  });
  let now;
  try {
    there.map.transaction(() => {});
    now = told(there);
  } catch (error) {
    now = error.code ?? String(error);
  }
  const isBroken = now === 'POISONED' || now === 'CORE_TRAPPED';
  if (isBroken) {
    try {
      there.map.createRegion({ name: 'x', kind: 'ram', size: PAGE });
      problems.push([title, room, 'a broken map takes a change']);
    } catch (error) {
      if (error.code !== now) problems.push([title, room, 'a broken map says ' + error]);
    }
  } else if (now !== (end === 'done' ? after : before) && !(now === before && title.endsWith('goes on after it'))) {
    problems.push([title, room, end, now, end === 'done' ? after : before]);
  }
  try {
    there.close();
    if (!isBroken && there.partition.slots.size + there.other.slots.size > 0) problems.push([title, room, 'slots are left']);
  } catch (error) {
    problems.push([title, room, 'it is not closed: ' + error]);
  }
  const kind = isBroken ? 'broken' : end;
  ends[kind] = (ends[kind] ?? 0) + 1;
  return end;
}

async function tryAll(make, changes) {
  for (const [title, change] of Object.entries(changes)) {
    const states = [() => {}, change].map((body) => {
      const there = make();
      body(there);
      const state = told(there);
      there.close();
      return state;
    });
    const [before, after] = states;
    // What has never run is compiled first, which needs more stack than anything else.
    tryOnce(title, make, change, { room: 1000, before, after });
    let inARow = 0;
    for (let room = 0; inARow < 10 && room < 2000; room++) {
      const end = tryOnce(title, make, change, { room, before, after });
      inARow = end === 'done' ? inARow + 1 : 0;
      // What weak references have pointed at goes only between two jobs.
      if (room % 50 === 0) await new Promise(setImmediate);
    }
    if (inARow < 10) problems.push([title, 'is never done']);
  }
}

await tryAll(machine, CHANGES);
await tryAll(guest, GUEST_CHANGES);
if (isMainThread) console.log(JSON.stringify({ ends, problems }));
else parentPort.postMessage({ ends, problems });
`;

interface Result {
  readonly ends: Record<string, number>;
  readonly problems: unknown[];
}

function inWorker(stackSizeMb: number): Promise<Result> {
  return new Promise((resolve, reject) => {
    const url = new URL(`data:text/javascript,${encodeURIComponent(STORY)}`);
    const worker = new Worker(url, { resourceLimits: { stackSizeMb } });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

function inProcess(): Result {
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', STORY], { encoding: 'utf8' });
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout);
}

const THREADS: readonly [name: string, run: () => Promise<Result> | Result][] = [
  ['a worker of 0.5 MiB', () => inWorker(0.5)],
  ['a worker of 1 MiB', () => inWorker(1)],
  ['a worker of 4 MiB', () => inWorker(4)],
  ['the main thread', inProcess],
];

for (const [name, run] of THREADS) {
  test(`the call stack of ${name} runs out: what is said is what is`, async (t) => {
    const { ends, problems } = await run();
    t.log(JSON.stringify(ends));
    t.deepEqual(problems, []);
    t.true(ends.RangeError! > 100 && ends.done! > 100);
  });
}
