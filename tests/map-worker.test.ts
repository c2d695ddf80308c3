// Guest memory in a worker while the map changes in another thread: right values or clear errors, never a signal.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import { type GuestMemory, PrivateMemory, type VaSpace, WorkerGuestMemory } from '../ts/index.ts';
import { Machine, refusal } from './support/map-state.ts';
import { footprint, PAGE } from './support/shim-plan.ts';

/** Outcomes that a worker counts, and behind their counts the word that stops it. */
const COUNTS = ['right', 'wrong', 'hole', 'read-only', 'another error'] as const;

/** The first word of page n of RAM is n, of the ROM over it 0x1000 + n; private memory that is sometimes at page 40 has
 *  900. */
const WORKER = `
const { parentPort, workerData } = require('node:worker_threads');
const { module: path, token, counts, names, PAGE } = workerData;
const isPage = (word, page) => Number(word) % 0x1000 === page;
import(path).then(({ WorkerGuestMemory }) => {
  const memory = WorkerGuestMemory.fromToken(token);
  const bytes = new Uint8Array(8 * PAGE);
  const words = new Uint32Array(bytes.buffer);
  const accesses = [
    () => (memory.read(0, bytes), [0, 1, 2, 3, 4, 5, 6, 7].every((page) => isPage(words[page * 1024], page))),
    () => isPage(memory.readU8(2 * PAGE), 2),
    () => isPage(memory.readU32(4 * PAGE), 4),
    () => isPage(memory.readU64(5 * PAGE), 5),
    () => isPage(memory.compareExchange(6 * PAGE, 4, 0, 0), 6),
    () => memory.readU32(40 * PAGE) === 900,
    () => (memory.writeU32(7 * PAGE + 64, 1), true),
    () => (memory.write(3 * PAGE + 64, bytes.subarray(64, PAGE)), true),
  ];
  parentPort.postMessage('begun');
  while (Atomics.load(counts, names.length) === 0) {
    for (const access of accesses) {
      let what;
      try {
        what = access() ? 'right' : 'wrong';
      } catch (error) {
        what = error.code === 'GUEST_ACCESS' && names.includes(error.details.fault) ? error.details.fault : 'another error';
      }
      Atomics.add(counts, names.indexOf(what), 1);
    }
  }
  const errors = () => accesses.map((access) => {
    try { return access(); } catch (error) { return error.name + ' ' + error.code; }
  });
  parentPort.once('message', () => {
    const open = errors();
    memory.close();
    memory.close();
    parentPort.postMessage([...open, ...errors()]);
  });
  parentPort.postMessage('stopped');
});
`;

test.serial('a worker reads and writes while the map changes, and gets errors when it is closed', async (t) => {
  const before = footprint();
  const machine = new Machine();
  const { map, root, ram, va, memory } = machine;
  machine.fill();
  const [rom, own] = [map.createRegion({ name: 'rom', kind: 'rom', size: 4 * PAGE }), PrivateMemory.create(PAGE)];
  ram.map({ object: memory, objectOffset: 50 * PAGE, offset: 4 * PAGE, length: 4 * PAGE });
  for (let page = 4; page < 8; page++) va.memory.writeU32(page * PAGE, 0x1000 + page);
  rom.map({ object: memory, objectOffset: 50 * PAGE, length: 4 * PAGE });
  ram.map({ object: memory, length: 32 * PAGE });
  const device = map.createRegion({ name: 'device', kind: 'device', size: PAGE }).place(root, { offset: 40 * PAGE });
  device.map({ object: own });
  va.memory.writeU32(40 * PAGE, 900);

  const counts = new Int32Array(new SharedArrayBuffer(4 * (COUNTS.length + 1)));
  const counted = (what: (typeof COUNTS)[number]) => Atomics.load(counts, COUNTS.indexOf(what));
  const { token } = va;
  const workerData = { module: artefact('index.js').href, token, counts, names: COUNTS, PAGE };
  const worker = new Worker(WORKER, { eval: true, workerData });
  await once(worker, 'message');
  const stopped = once(worker, 'message');
  // A worker that has not met everything is waited for.
  for (let round = 0; round < 3000 || [counted('right'), counted('hole'), counted('read-only')].includes(0); round++) {
    rom.place(root, { offset: 4 * PAGE, priority: 1 });
    ram.unmap(2 * PAGE, PAGE);
    device.move(44 * PAGE);
    ram.map({ object: memory, length: 32 * PAGE });
    rom.remove();
    device.move(40 * PAGE);
  }
  Atomics.store(counts, COUNTS.length, 1);
  await stopped;
  t.log(Object.fromEntries(COUNTS.map((what) => [what, counted(what)])));
  t.deepEqual([counted('wrong'), counted('another error')], [0, 0]);

  va.close();
  const answered = once(worker, 'message');
  worker.postMessage('the VA space is closed');
  const [answers] = await answered;
  t.deepEqual(answers, [
    ...Array.from({ length: 8 }, () => 'MembackingError GUEST_ACCESS'),
    ...Array.from({ length: 8 }, () => 'MembackingError CLOSED'),
  ]);
  await worker.terminate();
  t.regex(
    refusal(() => WorkerGuestMemory.fromToken(token)),
    /^CLOSED: the guest memory of another thread: /,
  );
  t.throws(() => va.token, { code: 'CLOSED' });
  own.close();
  map.close();
  memory.close();
  t.deepEqual(footprint(), before);
});

type Access = (memory: GuestMemory) => unknown;

/** Accesses to RAM at 0, a ROM at page 4 and nothing from page 32 on: each gives the same value, or the same error, and
 *  leaves the same bytes in every class of guest memory. Several of one line are made in turn; the last one's value
 *  counts. */
const ACCESSES: readonly [what: string, ...accesses: Access[]][] = [
  ['a byte', (memory) => memory.writeU8(1, 0xfe), (memory) => memory.readU8(1)],
  ['two bytes', (memory) => memory.writeU16(2, 0xfedc), (memory) => memory.readU16(2)],
  ['four bytes', (memory) => memory.writeU32(4, 0xfedcba98), (memory) => memory.readU32(4)],
  ['eight bytes', (memory) => memory.writeU64(8, 2n ** 64n - 2n), (memory) => memory.readU64(8)],
  ['eight bytes, given as a number', (memory) => memory.writeU64(8, 7), (memory) => memory.readU64(8)],
  [
    'eight bytes across pages, not aligned',
    (memory) => memory.writeU64(PAGE - 3, 0x0102030405060708n),
    (memory) => memory.readU64(PAGE - 3),
  ],
  ['many bytes', (memory) => memory.write(64, Uint8Array.of(1, 2, 3)), (memory) => readOf(memory, 63, 5)],
  ['no bytes', (memory) => memory.write(64, new Uint8Array()), (memory) => readOf(memory, 64, 0)],
  ['an exchange that happens', (memory) => memory.compareExchange(16, 4, 0, 5)],
  ['and what it left', (memory) => memory.readU32(16)],
  ['an exchange that does not', (memory) => memory.compareExchange(16, 4, 0, 6)],
  ['and what it left there', (memory) => memory.readU32(16)],
  ['an exchange of eight bytes', (memory) => memory.compareExchange(24, 8, 0n, 2n ** 63n)],
  ['and what that left', (memory) => memory.readU64(24)],
  ['a read of a ROM', (memory) => memory.readU32(4 * PAGE)],
  ['a write to a ROM', (memory) => memory.writeU8(4 * PAGE, 1)],
  ['bytes that end in a ROM', (memory) => memory.write(4 * PAGE - 2, Uint8Array.of(1, 2, 3))],
  ['an exchange in a ROM', (memory) => memory.compareExchange(4 * PAGE, 1, 0, 0)],
  ['an exchange that is not aligned', (memory) => memory.compareExchange(18, 4, 0, 0)],
  ['a read of a hole', (memory) => memory.readU8(32 * PAGE)],
  ['bytes that end in a hole', (memory) => readOf(memory, 32 * PAGE - 1, 2)],
  ['a write past the VA space', (memory) => memory.writeU64(64 * PAGE, 0)],
  ['a read at the end of 64 bits', (memory) => memory.readU16(2n ** 64n - 1n)],
];

function readOf(memory: GuestMemory, gpa: number, length: number): number[] {
  const into = new Uint8Array(length);
  memory.read(gpa, into);
  return [...into];
}

test.serial('an access gives the same in every class of guest memory', (t) => {
  const answers = [(va: VaSpace) => va.memory, ({ token }: VaSpace) => WorkerGuestMemory.fromToken(token)].map(
    (memoryOf) => {
      const machine = new Machine();
      const rom = machine.map.createRegion({ name: 'rom', kind: 'rom', size: PAGE });
      rom.map({ object: machine.memory, objectOffset: 50 * PAGE, length: PAGE });
      rom.place(machine.root, { offset: 4 * PAGE, priority: 1 });
      const memory = memoryOf(machine.va);
      const results = ACCESSES.map(([what, ...accesses]) => `${what}: ${answerOf(accesses, memory)}`);
      const bytes = readOf(machine.va.memory, 0, 32 * PAGE).join();
      if (memory instanceof WorkerGuestMemory) memory.close();
      machine.end(t);
      return { results, bytes };
    },
  );
  t.deepEqual(answers[1], answers[0]);
  t.snapshot(answers[0]!.results);
});

/** The value that the last access gives, or the error of the first that throws. */
function answerOf(accesses: readonly Access[], memory: GuestMemory): string {
  let value: unknown;
  const refused = refusal(() => {
    for (const access of accesses) value = access(memory);
  });
  return refused === 'nothing' ? String(value) : refused;
}

test.serial('the memory of another thread refuses what that of this thread does', (t) => {
  const machine = new Machine();
  const { va } = machine;
  const other = WorkerGuestMemory.fromToken(va.token);
  const bad: unknown[] = [-1, 0.5, 2n ** 64n, '0', null];
  const calls: ((memory: GuestMemory, value: never) => unknown)[] = [
    (memory, value) => memory.readU8(value),
    (memory, value) => memory.writeU16(0, value),
    (memory, value) => memory.writeU32(value, 0),
    (memory, value) => memory.writeU64(0, value),
    (memory, value) => memory.read(0, value),
    (memory, value) => memory.write(value, new Uint8Array(1)),
    (memory, value) => memory.compareExchange(0, value, 0, 0),
    (memory, value) => memory.compareExchange(0, 8, value, 0),
  ];
  for (const call of calls) {
    for (const value of bad) {
      const answer = refusal(() => call(other, value as never));
      t.regex(answer, /^INVALID_ARGUMENT: /);
      t.is(
        answer,
        refusal(() => call(va.memory, value as never)),
      );
    }
  }
  for (const gpa of [63 * PAGE, 64 * PAGE, 2n ** 64n - 1n]) {
    const answer = refusal(() => other.readU64(gpa));
    t.regex(answer, /^GUEST_ACCESS: /);
    t.is(
      answer,
      refusal(() => va.memory.readU64(gpa)),
    );
  }
  for (const token of [-1, '1', undefined]) {
    t.regex(
      refusal(() => WorkerGuestMemory.fromToken(token as never)),
      /^INVALID_ARGUMENT: token must be /,
    );
  }
  other.writeU16(PAGE - 1, 0xabcd);
  other.writeU64(8, 2n ** 64n - 1n);
  t.deepEqual([va.memory.readU16(PAGE - 1), va.memory.readU64(8)], [0xabcd, 2n ** 64n - 1n]);
  other[Symbol.dispose]();
  t.true(other.closed);
  machine.end(t);
});
