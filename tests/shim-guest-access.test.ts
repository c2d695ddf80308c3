// Reading and writing guest memory: every bad access is a code and a GPA, never the end of the process.

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { ftruncateSync, openSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import * as abi from '../assembly/abi.ts';
import { artefact } from '../ts/core/artefact.ts';
import {
  ACCESS_FAULTS,
  FACT_GPA,
  FACT_HIGH,
  FACT_LOW,
  native,
  type Reservation,
  type Width,
} from '../ts/core/native.ts';
import { PATIENCE } from './support/patience.ts';
import { makeWorld, PAGE, PRIVATE, READ, SHARED, type World } from './support/shim-plan.ts';

const { OP_VA_MAP, OP_VA_UNMAP, OP_VA_PROTECT, OP_VA_UNPARK } = abi;
const WIDTHS: Width[] = [1, 2, 4, 8];

/** 'ok', or the fault with its GPA: 'hole at 2000'. */
function outcome(space: Reservation, result: number): string {
  return result >= 0 ? 'ok' : `${ACCESS_FAULTS[-result]} at ${space.facts[FACT_GPA]!.toString(16)}`;
}

/** Pages 0 and 1 writable, 2 a hole, 3 read-only, 4 no access, 5 behind the end of its file, 6 private; the VA space
 *  ends at page 8. */
function makeMixedWorld(): World {
  const world = makeWorld({ size: 8 * PAGE });
  const path = join(tmpdir(), `membacking-truncated-${process.pid}-${Math.random()}`);
  const fd = openSync(path, 'w+');
  unlinkSync(path);
  ftruncateSync(fd, PAGE);
  const truncated = native().MemoryObject.fromFd(fd, PAGE, true);
  world.executor.setObject(3, truncated);
  world.run(
    { op: OP_VA_MAP, gpa: 0, length: 2 * PAGE, object: SHARED },
    { op: OP_VA_MAP, gpa: 3 * PAGE, object: SHARED, offset: 3 * PAGE, access: READ },
    { op: OP_VA_MAP, gpa: 4 * PAGE, object: SHARED, offset: 4 * PAGE },
    { op: OP_VA_PROTECT, gpa: 4 * PAGE, object: SHARED, access: 0 },
    { op: OP_VA_MAP, gpa: 5 * PAGE, object: 3 },
    { op: OP_VA_UNPARK, gpa: 6 * PAGE, object: PRIVATE },
  );
  ftruncateSync(fd, 0);
  truncated.close();
  return world;
}

const MAP = [
  // page, reading, writing
  [0, 'ok', 'ok'],
  [1, 'ok', 'ok'],
  [2, 'hole', 'hole'],
  [3, 'ok', 'read-only'],
  [4, 'hole', 'hole'],
  [5, 'gone', 'gone'],
  [6, 'ok', 'ok'],
  [7, 'hole', 'hole'],
  [8, 'outside', 'outside'],
] as const;

test('each kind of bad memory has its own code', (t) => {
  const world = makeMixedWorld();
  const { space } = world;
  for (const [page, reading, writing] of MAP) {
    const at = (fault: string) => (fault === 'ok' ? fault : `${fault} at ${(page * PAGE).toString(16)}`);
    const bytes = new Uint8Array(PAGE);
    t.is(outcome(space, space.read(page * PAGE, bytes)), at(reading), `read page ${page}`);
    t.is(outcome(space, space.write(page * PAGE, bytes)), at(writing), `write page ${page}`);
    for (const width of WIDTHS) {
      t.is(outcome(space, space.load(page * PAGE, width)), at(reading), `load page ${page}`);
      t.is(outcome(space, space.store(page * PAGE, width, 0, 0)), at(writing), `store page ${page}`);
      t.is(outcome(space, space.compareExchange(page * PAGE, width, 0, 0, 0, 0)), at(writing), `exchange page ${page}`);
    }
  }
  world.close();
});

test('a copy that meets bad memory has done exactly what comes before', (t) => {
  const world = makeMixedWorld();
  const { space } = world;
  t.is(space.write(0, new Uint8Array(2 * PAGE).fill(7)), 0);
  const bytes = new Uint8Array(4 * PAGE);
  t.is(outcome(space, space.read(PAGE - 5, bytes)), 'hole at 2000');
  t.deepEqual(bytes.subarray(0, PAGE + 5), new Uint8Array(PAGE + 5).fill(7));
  t.true(bytes.subarray(PAGE + 5).every((byte) => byte === 0));
  t.is(outcome(space, space.write(PAGE - 5, bytes.fill(9))), 'hole at 2000');
  t.deepEqual(world.read(PAGE - 6, PAGE + 6), new Uint8Array(PAGE + 6).fill(9).fill(7, 0, 1));
  t.is(outcome(space, space.write(6 * PAGE + 1, bytes)), 'hole at 7000');
  world.close();
});

test('a copy that fails at its first page leaves the next one alone, whatever its length and alignment', (t) => {
  const world = makeWorld();
  const { space } = world;
  world.run({ op: OP_VA_MAP, gpa: PAGE, length: 2 * PAGE, object: SHARED });
  const untouched = new Uint8Array(PAGE);
  const room = new Uint8Array(3 * PAGE);
  for (const length of [24, 40, 100, 300, 700, 1500, 3000, 7000]) {
    for (let shift = 0; shift < PAGE; shift += 16) {
      const bytes = room.subarray(shift, shift + length).fill(7);
      const gpa = PAGE - 1 - (length >> 2);
      t.is(outcome(space, space.write(gpa, bytes)), `hole at ${gpa.toString(16)}`);
      t.is(outcome(space, space.read(gpa, bytes)), `hole at ${gpa.toString(16)}`);
      if (bytes.some((byte) => byte !== 7)) t.fail(`reading ${length} bytes, ${shift}`);
    }
    t.deepEqual(world.read(PAGE, PAGE), untouched, `writing ${length} bytes`);
  }
  world.close();
});

test('addresses beyond everything are outside', (t) => {
  const world = makeWorld({ size: 8 * PAGE });
  const { space } = world;
  world.run({ op: OP_VA_MAP, gpa: 7 * PAGE, object: SHARED });
  for (const gpa of [8 * PAGE, 2 ** 47, 2 ** 52, 2 ** 53, 2 ** 63, 2 ** 64, 1e300, Infinity, -1, Number.NaN]) {
    t.is(ACCESS_FAULTS[-space.load(gpa, 1)], 'outside', `${gpa}`);
    t.is(ACCESS_FAULTS[-space.write(gpa, new Uint8Array(1))], 'outside', `${gpa}`);
  }
  t.is(outcome(space, space.load(8 * PAGE - 4, 8)), 'outside at 7ffc', 'the end is inside the value');
  t.is(outcome(space, space.read(8 * PAGE - 4, new Uint8Array(5))), 'outside at 8000');
  t.is(outcome(space, space.read(8 * PAGE, new Uint8Array(0))), 'ok', 'nothing, at the end');
  world.close();
});

test('values are little-endian, of every width, also across pages', (t) => {
  const world = makeWorld();
  const { space } = world;
  world.run({ op: OP_VA_MAP, gpa: 0, length: 2 * PAGE, object: SHARED });
  space.write(PAGE - 4, Uint8Array.of(0x11, 0x22, 0x33, 0x84, 0x55, 0x66, 0x77, 0x88));
  t.is(space.load(PAGE - 4, 1), 0x11);
  t.is(space.load(PAGE - 4, 2), 0x2211);
  t.is(space.load(PAGE - 4, 4), 0x84332211, 'never negative');
  t.is(space.load(PAGE - 4, 8), 0x84332211);
  t.is(space.facts[FACT_HIGH], 0x88776655);
  t.is(space.store(PAGE - 3, 8, 0xaabbccdd, 0x01020304), 0);
  t.deepEqual([...world.read(PAGE - 4, 10)], [0x11, 0xdd, 0xcc, 0xbb, 0xaa, 4, 3, 2, 1, 0]);
  world.close();
});

test('a compare-exchange stores only what it was told to replace', (t) => {
  const world = makeWorld();
  const { space } = world;
  world.run({ op: OP_VA_MAP, gpa: 0, object: SHARED });
  for (const width of WIDTHS) {
    const high = width === 8 ? 5 : 0;
    space.write(0, new Uint8Array(8));
    space.store(0, width, 9, high);
    t.is(space.compareExchange(0, width, 8, high, 1, 0), 0);
    t.deepEqual([space.facts[FACT_LOW], space.facts[FACT_HIGH]], [9, high]);
    t.is(space.compareExchange(0, width, 9, high, 0x1ff, 6), 1);
    space.load(0, 8);
    const stored = { 1: [0xff, 0], 2: [0x1ff, 0], 4: [0x1ff, 0], 8: [0x1ff, 6] }[width];
    t.deepEqual([...space.facts.subarray(0, 2)], stored);
    if (width > 1) t.is(outcome(space, space.compareExchange(1, width, 0, 0, 0, 0)), 'misaligned at 1');
  }
  world.close();
});

test('arguments of a wrong kind are refused', (t) => {
  const { space, ...world } = makeWorld();
  t.throws(() => space.load('0' as never, 4), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => space.load(0, 3 as never), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => space.read(0, new Uint16Array(2) as never), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => space.store(0, 4, -1, 0), { code: 'ERR_OUT_OF_RANGE' });
  const detached = new Uint8Array(8);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  t.is(space.read(0, detached), 0, 'no bytes are wanted');
  world.close();
});

test('taking the facts away harms nobody', (t) => {
  const { space, ...world } = makeWorld();
  const { buffer } = space.facts;
  try {
    t.is(structuredClone(buffer, { transfer: [buffer] }).byteLength, 24);
  } catch (error) {
    // Newer versions of Node do not let go of memory that an addon gave them.
    t.is((error as Error).name, 'DataCloneError');
  }
  t.is(ACCESS_FAULTS[-space.load(0, 4)], 'hole');
  world.close();
});

test('a fault in WebAssembly is still its own', async (t) => {
  makeWorld().close(); // the handlers are installed
  // (module (memory 1) (func (export "load") (param i32) (result i32) local.get 0 i32.load))
  const source = '0061736d0100000001060160017f017f030201000503010001070801046c6f616400000a0901070020002802000b';
  const { instance } = await WebAssembly.instantiate(Buffer.from(source, 'hex'));
  const load = instance.exports.load as (at: number) => number;
  t.is(load(0), 0);
  t.throws(() => load(0x10000), { instanceOf: WebAssembly.RuntimeError });
});

test('a signal that is not about guest memory ends the process as ever', (t) => {
  const addon = artefact('membacking.node').pathname;
  for (const signal of ['SIGSEGV', 'SIGBUS'] as const) {
    const script = `require('${addon}').Reservation.create(4096); process.kill(process.pid, '${signal}'); for (;;);`;
    t.is(spawnSync(process.execPath, ['-e', script], { timeout: PATIENCE }).signal, signal);
  }
});

// ---- While the map changes ---------------------------------------------------------------------

/** Runs in a worker until told to stop; counts what it meets, and checks that each page is all of one kind. */
const READER = `
const { parentPort, workerData } = require('node:worker_threads');
const { Reservation } = require(workerData.addon);
const space = Reservation.fromToken(workerData.token);
const stop = new Int32Array(workerData.stop);
const bytes = new Uint8Array(8 * 4096);
const seen = { done: 0, faults: 0, strange: 0 };
parentPort.postMessage('ready');
while (Atomics.load(stop, 0) === 0) {
  for (const result of [space.read(0, bytes), space.load(4096, 8), space.store(8192 + 16, 4, 1, 0),
                        space.write(4096 * 3, bytes.subarray(0, 4096)), space.compareExchange(64, 8, 0, 0, 0, 0)]) {
    if (result >= 0) seen.done++;
    else if (result === -2 || result === -3) seen.faults++;
    else seen.strange++;
  }
}
space.close();
parentPort.postMessage(seen);
`;

test('workers read and write while the map changes under them', async (t) => {
  const world = makeWorld();
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const workerData = { token: world.space.token, stop: stop.buffer, addon: artefact('membacking.node').pathname };
  const workers = [1, 2].map(() => new Worker(READER, { eval: true, workerData }));
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  const results = workers.map((worker) => once(worker, 'message'));
  const length = 8 * PAGE;
  for (const until = Date.now() + 500; Date.now() < until; ) {
    world.run(
      { op: OP_VA_MAP, gpa: 0, length, object: SHARED },
      { op: OP_VA_MAP, gpa: 0, length, object: SHARED, offset: length },
      { op: OP_VA_PROTECT, gpa: PAGE, length: 2 * PAGE, object: SHARED, access: READ },
      { op: OP_VA_UNMAP, gpa: 2 * PAGE, length: 3 * PAGE },
      { op: OP_VA_UNMAP, gpa: 0, length },
      { op: OP_VA_UNPARK, gpa: 0, length, object: PRIVATE },
      { op: abi.OP_VA_PARK, gpa: 0, length, object: PRIVATE },
    );
  }
  Atomics.store(stop, 0, 1);
  for (const [seen] of await Promise.all(results)) {
    t.log(seen);
    t.true(seen.done > 0 && seen.faults > 0 && seen.strange === 0);
  }
  await Promise.all(workers.map((worker) => worker.terminate()));
  world.close();
});

/** Copies across pages that come and go, and looks at what a failed copy has left alone: the bytes from its GPA on. The
 *  mirror shows the same memory, and stays. */
const COPIER = `
const { parentPort, workerData } = require('node:worker_threads');
const { Reservation } = require(workerData.addon);
const [space, mirror] = workerData.tokens.map((token) => Reservation.fromToken(token));
const stop = new Int32Array(workerData.stop);
const length = 2000;
let at = 20;
const [old, fresh, bytes] = [1, 2, 0].map((value) => Buffer.alloc(length, value));
const seen = { whole: 0, failed: 0, wrong: [] };
const check = (what, result, copied, left) => {
  if (result >= 0) return seen.whole++;
  seen.failed++;
  const done = space.facts[2] - at;
  const isRight = bytes.subarray(0, done).equals(copied.subarray(0, done)) && bytes.subarray(done).equals(left.subarray(done));
  if (!isRight && seen.wrong.length < 5) seen.wrong.push(what + ' ' + done);
};
parentPort.postMessage('ready');
while (Atomics.load(stop, 0) === 0) {
  at = (at + 1040) % 8192;
  mirror.write(at, old);
  bytes.fill(9);
  check('read', space.read(at, bytes), old, Buffer.alloc(length, 9));
  const result = space.write(at, fresh);
  mirror.read(at, bytes);
  check('write', result, fresh, old);
}
for (const each of [space, mirror]) each.close();
parentPort.postMessage(seen);
`;

test('a copy that fails while the map changes has left the rest alone, to the byte', async (t) => {
  const world = makeWorld();
  const mirror = native().Reservation.create(8 * PAGE);
  const [length, sink] = [4 * PAGE, 3];
  world.executor.setSink(sink, abi.SINK_VA, mirror);
  world.run({ op: OP_VA_MAP, sink, length, object: SHARED }, { op: OP_VA_MAP, length, object: SHARED });
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const tokens = [world.space.token, mirror.token];
  const workerData = { tokens, stop: stop.buffer, addon: artefact('membacking.node').pathname };
  const worker = new Worker(COPIER, { eval: true, workerData });
  await once(worker, 'message');
  const result = once(worker, 'message');
  for (const until = Date.now() + 1000; Date.now() < until; ) {
    for (const gpa of [PAGE, 2 * PAGE, 0]) {
      world.run({ op: OP_VA_UNMAP, gpa }, { op: OP_VA_MAP, length, object: SHARED });
    }
  }
  Atomics.store(stop, 0, 1);
  const [seen] = await result;
  t.log(seen);
  t.true(seen.whole > 0 && seen.failed > 0);
  t.deepEqual(seen.wrong, []);
  await worker.terminate();
  mirror.close();
  world.close();
});

test('a worker may keep the memory longer than who made it', async (t) => {
  const world = makeWorld();
  world.run({ op: OP_VA_MAP, object: SHARED });
  const { token } = world.space;
  const second = native().Reservation.fromToken(token);
  world.close();
  t.is(second.store(0, 4, 77, 0), 0);
  t.is(second.load(0, 4), 77);
  second.close();
  t.throws(() => native().Reservation.fromToken(token), { code: 'ERR_CLOSED' });
});
