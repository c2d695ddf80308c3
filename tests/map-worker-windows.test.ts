// Guest memory that workers read and write in place while the map changes in another thread: no change waits for a
// worker that is not there any more, none for long, and whoever comes late sees what is there now.

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import { native } from '../ts/core/native.ts';
import { type MembackingError, MemoryMap, SharedMemory, WorkerGuestMemory } from '../ts/index.ts';
import { Machine } from './support/map-state.ts';
import { Random, SEED, tries } from './support/random.ts';
import { PAGE } from './support/shim-plan.ts';

/** Body of a worker that has guest memory of a token, and tells when it is under way. */
function workerOn(machine: Machine, body: string): Worker {
  const code = `
const { parentPort, workerData } = require('node:worker_threads');
const { module: path, token, PAGE } = workerData;
import(path).then(({ WorkerGuestMemory }) => {
  const memory = WorkerGuestMemory.fromToken(token);
  const begun = () => parentPort.postMessage('begun');
  ${body}
});`;
  const workerData = { module: artefact('index.js').href, token: machine.va.token, PAGE };
  return new Worker(code, { eval: true, workerData });
}

/** Hides a page and shows it again. Returns the milliseconds that this took. */
function change({ ram, memory }: Machine): number {
  const before = performance.now();
  ram.unmap(0, PAGE);
  ram.map({ object: memory, length: 32 * PAGE });
  return performance.now() - before;
}

function workerTest(title: string, body: (t: ExecutionContext, machine: Machine) => Promise<void>): void {
  test.serial(title, async (t) => {
    const machine = new Machine();
    machine.fill();
    await body(t, machine);
    machine.end(t);
  });
}

workerTest('a worker that ends in the middle of an access holds no change up', async (t, machine) => {
  const turns = 20;
  let slowest = 0;
  for (let turn = 0; turn < turns; turn++) {
    const worker = workerOn(
      machine,
      `const bytes = new Uint8Array(16 * PAGE);
       for (let i = 0; ; i++) {
         try { memory.read(PAGE, bytes); memory.writeU32(PAGE + 4, i); } catch {}
         if (i === 3000) begun();
       }`,
    );
    await once(worker, 'message');
    await sleep(turn % 5);
    const ended = worker.terminate();
    for (let i = 0; i < 50; i++) slowest = Math.max(slowest, change(machine));
    await ended;
    slowest = Math.max(slowest, change(machine));
  }
  t.log(`the slowest of ${turns * 51} changes took ${slowest.toFixed(1)} ms`);
  t.true(slowest < 1000);
});

workerTest('an access that ends in an exception leaves its window', async (t, machine) => {
  const worker = workerOn(
    machine,
    `for (let i = 0; i < 3000; i++) memory.readU32(0);
     const deep = (depth) => { memory.readU32(0); memory.readU64(8); deep(depth + 1); };
     for (let i = 0; i < 200; i++) try { deep(0); } catch (error) { if (!(error instanceof RangeError)) throw error; }
     begun();
     setInterval(() => {}, 1000);`,
  );
  await once(worker, 'message');
  t.true(change(machine) < 1000);
  await worker.terminate();
});

workerTest('what has changed when a change returns is what a worker reads then', async (t, machine) => {
  const { ram, memory, va } = machine;
  const words = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads');
     import(workerData.module).then(({ WorkerGuestMemory }) => {
       const memory = WorkerGuestMemory.fromToken(workerData.token);
       for (let turn = 0; ; ) {
         const next = Atomics.load(workerData.words, 0);
         if (next === turn) { memory.readU32(0); continue; }
         turn = next;
         Atomics.store(workerData.words, 1, memory.readU32(0) + 0x1000 * turn);
         Atomics.notify(workerData.words, 1);
       }
     });`,
    { eval: true, workerData: { module: artefact('index.js').href, token: va.token, words } },
  );
  const wrong: number[] = [];
  let seen = 0;
  for (let turn = 1; turn <= 3000; turn++) {
    const page = turn % 32;
    ram.map({ object: memory, objectOffset: page * PAGE, length: PAGE });
    Atomics.store(words, 0, turn);
    Atomics.wait(words, 1, seen);
    seen = Atomics.load(words, 1);
    if (seen !== page + 0x1000 * turn) wrong.push(turn);
  }
  t.deepEqual(wrong, []);
  await worker.terminate();
});

test('a thread has 256 windows, of which each is shut by itself; one more takes the place of the oldest', (t) => {
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'device', size: 600 * PAGE });
  const object = SharedMemory.create(PAGE);
  const gpaOf = (piece: number) => 2 * piece * PAGE;
  map.transaction(() => {
    for (let piece = 0; piece < 300; piece++) root.map({ offset: gpaOf(piece), object, length: PAGE });
  });
  const va = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }));
  const reservation = native().Reservation.fromToken(va.token);
  const gates = new Int32Array(reservation.windowGates);
  const opened = Array.from({ length: 300 }, (_, piece) => reservation.openWindow(gpaOf(piece), true, 2 ** 31)?.number);
  t.deepEqual(
    opened,
    opened.map((_, piece) => piece % 256),
  );
  root.unmap(gpaOf(200), PAGE);
  const shut = Array.from({ length: 256 }, (_, number) => number).filter((number) => gates[2 * number + 1] === 0);
  t.deepEqual(shut, [200]);
  t.is(reservation.openWindow(gpaOf(1), true, 2 ** 31)?.number, 200);
  reservation.close();
  map.close();
});

test(`pieces are told apart, however many windows come and go (seed ${SEED})`, (t) => {
  const PIECES = 300;
  const random = new Random();
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'device', size: 2 * PIECES * PAGE });
  const object = SharedMemory.create(2 * PIECES * PAGE);
  for (let page = 0; page < 2 * PIECES; page++) object.write(page * PAGE, Uint8Array.of(page & 0xff, page >> 8));
  const va = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }));
  const memory = WorkerGuestMemory.fromToken(va.token);
  /** Page of the object that each piece shows, and whether it may be written; undefined: none. */
  const shown: ({ page: number; writable: boolean } | undefined)[] = new Array(PIECES).fill(undefined);
  const change = (piece: number) => {
    const offset = 2 * piece * PAGE;
    const page = random.below(2 * PIECES);
    const writable = random.below(4) > 0;
    shown[piece] = random.below(5) > 0 ? { page, writable } : undefined;
    if (shown[piece] === undefined) root.unmap(offset, PAGE);
    else root.map({ offset, object, objectOffset: page * PAGE, length: PAGE, writable });
  };
  const outcome = (act: () => number): unknown => {
    try {
      return act();
    } catch (error) {
      return (error as MembackingError).details.fault;
    }
  };
  map.transaction(() => {
    for (let piece = 0; piece < PIECES; piece++) change(piece);
  });
  const wrong: unknown[] = [];
  for (let turn = 0; turn < tries(200_000); turn++) {
    if (turn % 500 === 0) change(random.below(PIECES));
    // Mostly among some, so that windows are opened for them.
    const piece = random.below(random.below(8) > 0 ? 40 : PIECES);
    const gpa = 2 * piece * PAGE;
    const expected = shown[piece];
    const read = outcome(() => memory.readU16(gpa));
    if (read !== (expected?.page ?? 'hole')) wrong.push([turn, piece, read, expected]);
    const written = outcome(() => {
      memory.writeU16(gpa + 8, piece);
      return 0;
    });
    const isRefused = expected === undefined ? 'hole' : expected.writable ? 0 : 'read-only';
    if (written !== isRefused) wrong.push([turn, piece, written, expected]);
  }
  t.deepEqual(wrong, []);
  memory.close();
  map.close();
});
