// The shim's plan reader, against the real kernel: /proc/self/maps is the witness.

import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import * as abi from '../assembly/abi.ts';
import { artefact } from '../ts/core/artefact.ts';
import { native, type SystemError } from '../ts/core/native.ts';
import { PATIENCE } from './support/patience.ts';
import {
  type Command,
  encode,
  footprint,
  makeWorld,
  mapsOf,
  PAGE,
  PARTITION,
  PRIVATE,
  READ,
  SHARED,
  spaceMaps,
  VA,
  type World,
} from './support/shim-plan.ts';

const { OP_VA_MAP, OP_VA_UNMAP, OP_VA_PROTECT, OP_VA_PARK, OP_VA_UNPARK, OP_SLOT_ADD, OP_SLOT_DELETE } = abi;
const EMPTY = ['0 40000 ---p'];

function worldTest(title: string, body: (t: ExecutionContext, world: World) => void): void {
  test.serial(title, (t) => {
    const before = footprint();
    const world = makeWorld();
    try {
      body(t, world);
    } finally {
      world.close();
    }
    t.deepEqual(footprint(), before);
  });
}

const pattern = (length: number, seed: number) => Uint8Array.from({ length }, (_, index) => (index * 7 + seed) & 0xff);
const pages = (count: number) => count * PAGE;

// ---- The operations ----------------------------------------------------------------------------

worldTest('a new VA space has address space only', (t, world) => {
  t.deepEqual(spaceMaps(world), EMPTY);
  t.is(world.space.base % 0x200000n, 0n);
});

test('a VA space may be larger than any memory', (t) => {
  const space = native().Reservation.create(2n ** 44n);
  t.is(space.size, 2n ** 44n);
  space.close();
});

worldTest('a shared object is seen at two GPAs', (t, world) => {
  world.run(
    { op: OP_VA_MAP, gpa: pages(2), length: pages(4), object: SHARED, offset: pages(1) },
    { op: OP_VA_MAP, gpa: pages(10), length: pages(1), object: SHARED, offset: pages(3), access: READ },
  );
  t.deepEqual(spaceMaps(world), [
    '0 2000 ---p',
    '2000 4000 rw-s /memfd:test (deleted)+1000',
    '6000 4000 ---p',
    'a000 1000 r--s /memfd:test (deleted)+3000',
    'b000 35000 ---p',
  ]);
  world.space.write(pages(4), pattern(PAGE, 1));
  t.deepEqual(world.read(pages(10), PAGE), pattern(PAGE, 1));
});

worldTest('a mapping is replaced in one step and taken away again', (t, world) => {
  world.run(
    { op: OP_VA_MAP, gpa: 0, length: pages(8), object: SHARED },
    { op: OP_VA_MAP, gpa: pages(2), length: pages(2), object: SHARED, offset: pages(20) },
  );
  t.deepEqual(spaceMaps(world).slice(0, 3), [
    '0 2000 rw-s /memfd:test (deleted)+0',
    '2000 2000 rw-s /memfd:test (deleted)+14000',
    '4000 4000 rw-s /memfd:test (deleted)+4000',
  ]);
  world.run({ op: OP_VA_UNMAP, gpa: 0, length: pages(8) });
  t.deepEqual(spaceMaps(world), EMPTY);
});

worldTest('protections change in place', (t, world) => {
  world.run(
    { op: OP_VA_MAP, gpa: 0, length: pages(4), object: SHARED },
    { op: OP_VA_PROTECT, gpa: pages(1), length: pages(1), object: SHARED, access: READ },
    { op: OP_VA_PROTECT, gpa: pages(2), length: pages(1), object: SHARED, access: 0 },
    { op: OP_VA_PROTECT, gpa: pages(3), length: pages(1), object: SHARED, access: abi.ACCESS_ALL },
  );
  t.deepEqual(
    spaceMaps(world).map((line) => line.split(' ')[2]),
    ['rw-s', 'r--s', '---s', 'rw-s', '---p'],
    'and nothing is ever executable',
  );
});

worldTest('private memory is hidden and comes back with its contents, elsewhere', (t, world) => {
  const secret = pattern(pages(4), 3);
  world.run({ op: OP_VA_UNPARK, gpa: pages(8), length: pages(4), offset: pages(2), object: PRIVATE });
  t.is(world.space.write(pages(8), secret), 0);
  world.run({ op: OP_VA_PARK, gpa: pages(8), length: pages(4), offset: pages(2), object: PRIVATE });
  t.deepEqual(spaceMaps(world), EMPTY);
  world.run({ op: OP_VA_UNPARK, gpa: pages(20), length: pages(4), offset: pages(2), object: PRIVATE, access: READ });
  t.deepEqual(world.read(pages(20), pages(4)), secret);
  t.true(spaceMaps(world)[1]?.startsWith('14000 4000 r--p'));
});

worldTest('private memory that is cut in odd ways is parked whole and comes back whole', (t, world) => {
  const length = pages(23);
  const contents = pattern(length, 5);
  world.run({ op: OP_VA_UNPARK, gpa: pages(3), length, offset: pages(1), object: PRIVATE });
  world.space.write(pages(3), contents);
  for (const [page, count, access] of [
    [4, 1, READ],
    [6, 3, 0],
    [7, 1, READ],
    [20, 6, READ],
  ] as const) {
    world.run({ op: OP_VA_PROTECT, gpa: pages(page), length: pages(count), object: PRIVATE, access });
  }
  t.true(spaceMaps(world).length > 8, 'many pieces');
  world.run({ op: OP_VA_PARK, gpa: pages(3), length, offset: pages(1), object: PRIVATE });
  t.deepEqual(spaceMaps(world), EMPTY);

  // Home again it is cut by going out in parts, at places where they do not fit together.
  const parts = [
    { at: 40, from: 1, count: 5 },
    { at: 30, from: 6, count: 9 },
    { at: 2, from: 15, count: 9 },
  ];
  for (const { at, from, count } of parts) {
    world.run({ op: OP_VA_UNPARK, gpa: pages(at), length: pages(count), offset: pages(from), object: PRIVATE });
    t.deepEqual(world.read(pages(at), pages(count)), contents.slice(pages(from - 1), pages(from - 1 + count)));
  }
  for (const { at, from, count } of parts) {
    world.run({ op: OP_VA_PARK, gpa: pages(at), length: pages(count), offset: pages(from), object: PRIVATE });
  }
  world.run({ op: OP_VA_UNPARK, gpa: 0, length, offset: pages(1), object: PRIVATE });
  t.deepEqual(world.read(0, length), contents);
});

worldTest('a copy-on-write file keeps what was written over it, hidden or not', (t, world) => {
  const path = join(tmpdir(), `membacking-shim-${process.pid}`);
  const fd = openSync(path, 'w+');
  unlinkSync(path);
  writeSync(fd, pattern(pages(2), 9));
  const image = native().MemoryObject.privateFile(fd, pages(2));
  world.executor.setObject(7, image);
  world.run({ op: OP_VA_UNPARK, gpa: 0, length: pages(2), object: 7 });
  t.deepEqual(world.read(0, pages(2)), pattern(pages(2), 9));
  world.space.write(16, Uint8Array.of(1, 2, 3));
  world.run({ op: OP_VA_PARK, gpa: 0, length: pages(2), object: 7 });
  t.deepEqual(spaceMaps(world), EMPTY);
  world.run({ op: OP_VA_UNPARK, gpa: pages(5), length: pages(2), object: 7 });
  t.deepEqual(world.read(pages(5) + 16, 3), Uint8Array.of(1, 2, 3));
  t.deepEqual(world.read(pages(6), PAGE), pattern(pages(2), 9).slice(PAGE));
  image.close();
  closeSync(fd);
  world.executor.clearObject(7);
});

worldTest('a plan stops at the first failure and says what was done', (t, world) => {
  const plan = encode([
    { op: OP_VA_MAP, gpa: 0, object: SHARED },
    { op: OP_VA_MAP, gpa: PAGE, object: SHARED },
    { op: OP_VA_MAP, gpa: pages(64), object: SHARED },
    { op: OP_VA_UNMAP, gpa: 0 },
  ]);
  t.is(world.executor.run(plan, 0, 4), 2);
  t.like(world.executor.failure, { code: 'EINVAL', errno: -22, syscall: 'plan' });
  t.is(world.executor.run(plan, 3 * abi.COMMAND_SIZE, 1), 1, 'from the middle of the memory');
  t.is(world.executor.failure, undefined);
  t.is(spaceMaps(world)[1]?.slice(0, 9), '1000 1000');
});

worldTest('the kernel says no: nothing has changed', (t, world) => {
  const fd = openSync('/proc/self/exe', 'r');
  const readOnly = native().MemoryObject.fromFd(fd, PAGE, false);
  closeSync(fd);
  world.run({ op: OP_VA_MAP, gpa: 0, length: pages(4), object: SHARED });
  world.executor.setObject(9, readOnly);
  world.run({ op: OP_VA_MAP, gpa: PAGE, object: 9, access: READ });
  const before = spaceMaps(world);
  const error = world.refused({ op: OP_VA_PROTECT, gpa: PAGE, object: SHARED });
  t.like(error, { code: 'EACCES', syscall: 'mprotect' });
  t.deepEqual(spaceMaps(world), before);
  world.executor.clearObject(9);
  readOnly.close();
});

// ---- What is refused before any call -----------------------------------------------------------

const HUGE = 2 ** 62;

const INVALID: [what: string, command: Command][] = [
  ['no operation', { op: 0 }],
  ['an operation of an unknown kind', { op: 99 }],
  ['an unknown operation of a VA space', { op: OP_VA_UNPARK + 4 }],
  ['a stretch where there is one', { op: abi.OP_VA_RESERVE }],
  ['a stretch past what the VA space reaches', { op: abi.OP_VA_RESERVE, gpa: pages(64) }],
  ['a stretch that is not there', { op: abi.OP_VA_RELEASE }],
  ['an unknown sink', { op: OP_VA_UNMAP, sink: 77 }],
  ['a sink far beyond the table', { op: OP_VA_UNMAP, sink: 0xffffffff }],
  ['a length of 0', { op: OP_VA_UNMAP, length: 0 }],
  ['half a page', { op: OP_VA_UNMAP, length: PAGE / 2 }],
  ['a start inside a page', { op: OP_VA_UNMAP, gpa: 8 }],
  ['one page past the end', { op: OP_VA_UNMAP, gpa: pages(63), length: pages(2) }],
  ['all past the end', { op: OP_VA_UNMAP, gpa: pages(64) }],
  ['a range that wraps', { op: OP_VA_UNMAP, gpa: PAGE, length: -PAGE }],
  ['a huge range', { op: OP_VA_UNMAP, length: HUGE }],
  ['an unknown object', { op: OP_VA_MAP, object: 5 }],
  ['an object far beyond the table', { op: OP_VA_MAP, object: 0xffffffff }],
  ['a private object where a shared one belongs', { op: OP_VA_MAP, object: PRIVATE }],
  ['an offset inside a page', { op: OP_VA_MAP, object: SHARED, offset: 8 }],
  ['one page past the end of the object', { op: OP_VA_MAP, object: SHARED, offset: pages(31), length: pages(2) }],
  ['an offset that wraps', { op: OP_VA_MAP, object: SHARED, offset: -PAGE, length: pages(2) }],
  ['an unknown access', { op: OP_VA_MAP, object: SHARED, access: 8 }],
  ['an unknown object to protect', { op: OP_VA_PROTECT, object: 5 }],
  ['a shared object to park', { op: OP_VA_PARK, object: SHARED }],
  ['a shared object to bring back', { op: OP_VA_UNPARK, object: SHARED }],
  ['a home past the end', { op: OP_VA_UNPARK, object: PRIVATE, offset: pages(32) }],
  ['a home inside a page', { op: OP_VA_PARK, object: PRIVATE, offset: 16 }],
  ['a slot of a VA space', { op: OP_SLOT_ADD, sink: VA, va: VA }],
  ['a slot of no partition', { op: OP_SLOT_DELETE, sink: PARTITION, va: VA }],
];

for (const [what, command] of INVALID) {
  worldTest(`a record with ${what} is refused`, (t, world) => {
    t.like(world.refused(command), { code: 'EINVAL', syscall: 'plan' });
    t.deepEqual(spaceMaps(world), EMPTY);
  });
}

worldTest('nothing is written through an object that is not writable', (t, world) => {
  const readOnly = native().MemoryObject.fromFd(world.shared.fd!, pages(4), false);
  world.executor.setObject(3, readOnly);
  t.regex(world.refused({ op: OP_VA_MAP, object: 3 }).message, /read-only/);
  world.run({ op: OP_VA_MAP, object: 3, access: READ });
  t.regex(world.refused({ op: OP_VA_PROTECT, object: 3 }).message, /read-only/);
  readOnly.close();
  world.executor.clearObject(3);
});

worldTest('a plan outside of its memory is refused whole', (t, world) => {
  const plan = encode([{ op: OP_VA_MAP, object: SHARED }]);
  for (const [pointer, count] of [
    [0, 2],
    [1, 1],
    [64, 1],
    [0xffffffff, 0xffffffff],
  ] as const) {
    t.throws(() => world.executor.run(plan, pointer, count), { code: 'ERR_OUT_OF_RANGE' });
  }
  for (const bad of [-1, 0.5, Number.NaN, 2 ** 32]) {
    t.throws(() => world.executor.run(plan, bad, 1), { code: 'ERR_OUT_OF_RANGE' });
  }
  t.throws(() => world.executor.run(new Uint8Array(64) as never, 0, 1), { code: 'ERR_INVALID_ARG_TYPE' });
  t.is(world.executor.run(plan, 64, 0), 0);
  t.deepEqual(spaceMaps(world), EMPTY);
});

test('arguments of a wrong kind are refused with the name of the argument', (t) => {
  const { Reservation, MemoryObject, Executor } = native();
  const outOfRange = { instanceOf: RangeError, code: 'ERR_OUT_OF_RANGE', message: /^size / };
  for (const size of [-1, 0.5, Number.NaN, Infinity, 2 ** 53, -1n, 2n ** 64n, 0, 100]) {
    t.throws(() => Reservation.create(size), outOfRange);
    t.throws(() => MemoryObject.privateMemory(size), outOfRange);
  }
  t.throws(() => Reservation.create('4096' as never), { instanceOf: TypeError, code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => Reservation.create(2n ** 63n), { code: 'ENOMEM' });
  t.throws(() => MemoryObject.memfd('x', PAGE, 3000), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => MemoryObject.fromFd(99999, PAGE, false), { code: 'EBADF' });

  const executor = Executor.create();
  t.throws(() => executor.setSink(1, abi.SINK_VA, executor as never), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => executor.setSink(1, abi.SINK_VA, Object.create(executor) as never), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => executor.setSink(2 ** 31, abi.SINK_VA, undefined as never), { code: 'ERR_OUT_OF_RANGE' });
  for (const kind of [0, abi.SINK_KINDS + 1, 0.5]) {
    t.throws(() => executor.setSink(1, kind, undefined as never), { code: 'ERR_OUT_OF_RANGE' });
  }
  t.throws(() => Reflect.construct(Executor as never, []), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => executor.clearSink.call(Reservation as never, 1), { instanceOf: TypeError });
  t.is(executor.run.call(Reservation as never, new ArrayBuffer(0), 0, 0), 0, 'it knows whose it is');
  executor.close();
});

test('a descriptor that cannot be mapped as asked is refused with its own reason', (t) => {
  const { MemoryObject } = native();
  const refused = (fd: number, size: number, writable: boolean) =>
    t.throws<SystemError>(() => MemoryObject.fromFd(fd, size, writable))?.code;
  const file = openSync('/proc/self/exe', 'r');
  t.is(refused(file, PAGE, true), 'EACCES', 'opened for reading only');
  t.is(refused(file, 2 ** 45, false), 'ENXIO', 'shorter than that');
  closeSync(file);
  const nothing = openSync('/dev/null', 'r+');
  t.is(refused(nothing, PAGE, true), 'ENODEV', 'a driver that gives no memory');
  closeSync(nothing);
  const folder = openSync('/', 'r');
  t.is(refused(folder, PAGE, false), 'ENODEV', 'a folder');
  closeSync(folder);
});

test('a memory file cannot shrink under its mappings, and pages can be given back', (t) => {
  const backing = native().MemoryObject.memfd('sealed', pages(4), 0);
  t.throws(() => ftruncateSync(backing.fd!, PAGE), { code: 'EPERM' });
  t.throws(() => ftruncateSync(backing.fd!, pages(8)), { code: 'EPERM' });
  t.is(backing.allocatedBytes, 0n);
  writeSync(backing.fd!, new Uint8Array(PAGE).fill(1), 0, PAGE, PAGE);
  t.is(backing.allocatedBytes, BigInt(PAGE));
  t.like(backing, { kind: 'shared', size: BigInt(pages(4)), writable: true, granularity: PAGE });
  backing.close();
});

// ---- Anything at all ---------------------------------------------------------------------------

/** xorshift32: the same numbers for the same seed. */
function randomFrom(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

worldTest('random and mutated plans do no harm', (t, world) => {
  const seed = Number(process.env.SEED ?? Date.now() & 0xffffff);
  t.log(`SEED=${seed}`);
  const random = randomFrom(seed);
  const below = (limit: number) => random() % limit;
  const others = Array.from({ length: 4 }, () => native().Reservation.create(pages(4)));
  // Mappings outside that are ours: the guard page behind the VA space, and other VA spaces.
  const outside = () => [
    ...mapsOf(world.space.base + world.space.size, BigInt(PAGE)),
    ...others.flatMap(({ base, size }) => mapsOf(base, size + BigInt(PAGE))),
  ];
  const before = outside();

  for (let round = 0; round < 3000; round++) {
    const count = 1 + below(8);
    const plan = encode(
      Array.from({ length: count }, () => ({
        op: 1 + below(7),
        sink: 1 + below(2),
        gpa: pages(below(66)),
        length: pages(below(20)),
        offset: pages(below(34)),
        object: 1 + below(2),
        access: below(8),
        slot: below(4),
      })),
    );
    const bytes = new Uint8Array(plan);
    const mutations = round % 3 === 0 ? 0 : round % 3 === 1 ? below(4) : bytes.length;
    for (let done = 0; done < mutations; done++) bytes[below(bytes.length)] = random();
    const carriedOut = world.executor.run(plan, 0, count);
    t.is(carriedOut === count, world.executor.failure === undefined);
    if (carriedOut === 0 && world.executor.failure?.syscall === 'undo') t.fail('a command was left half done');
  }
  t.deepEqual(outside(), before);
  for (const other of others) other.close();
  const covered = spaceMaps(world).reduce((sum, line) => sum + Number.parseInt(line.split(' ')[1]!, 16), 0);
  t.is(covered, pages(64), 'no hole is left in the reservation');
  world.run({ op: OP_VA_UNMAP, gpa: 0, length: pages(64) });
  t.deepEqual(spaceMaps(world), EMPTY);
});

// ---- At the limit ----------------------------------------------------------------------------------

/** Maps every second page until the kernel has had enough, and then takes one page back. */
const EXHAUST = `
const { Reservation, MemoryObject, Executor } = require(process.argv[1]);
const plan = Buffer.from(process.argv[2], 'base64');
const length = 200000;
const executor = Executor.create();
executor.setSink(1, ${abi.SINK_VA}, Reservation.create(length * 8192));
executor.setObject(1, MemoryObject.memfd('limit', 4096, 0));
const [map, unmap] = [plan.subarray(0, 64), plan.subarray(64)];
const all = Buffer.alloc(length * 64);
for (let index = 0; index < length; index++) {
  map.copy(all, index * 64);
  all.writeBigUInt64LE(BigInt(index * 8192), index * 64 + 8);
}
const one = unmap.buffer.slice(unmap.byteOffset, unmap.byteOffset + 64);
const done = executor.run(all.buffer, 0, length);
const { code, message } = executor.failure;
const takenBack = executor.unwind(one, 0, 1);
// Again and again; and JavaScript goes on, with all the memory and the threads that it wants.
const refused = Array.from({ length: 5 }, () => executor.run(all.buffer, done * 64, length - done));
const objects = Array.from({ length: 300000 }, (_, index) => ({ index, text: 'x' + index }));
const { Worker } = require('node:worker_threads');
const worker = new Worker('require("node:worker_threads").parentPort.postMessage(1)', { eval: true });
worker.once('message', () => {
  const unmapped = executor.run(unmap.buffer.slice(unmap.byteOffset, unmap.byteOffset + 64), 0, 1);
  console.log(JSON.stringify({
    isFull: done < length, code, isExplained: /; this process has \\d+ mappings and may have \\d+ /.test(message),
    takenBack, isRefused: refused.every((more) => more < 3), objects: objects.length, unmapped,
  }));
});
`;

test('when the process has all the mappings that it may have, plans fail and are taken back, and JavaScript goes on', (t) => {
  const plan = Buffer.from(
    encode([
      { op: OP_VA_MAP, object: SHARED },
      { op: OP_VA_UNMAP, gpa: pages(2) },
    ]),
  );
  const args = ['-e', EXHAUST, artefact('membacking.node').pathname, plan.toString('base64')];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: PATIENCE });
  const expected = { isFull: true, code: 'ENOMEM', isExplained: true, takenBack: 1, isRefused: true };
  t.deepEqual(JSON.parse(stdout || '{}'), { ...expected, objects: 300_000, unmapped: 1 }, stderr);
});

// ---- Closing -----------------------------------------------------------------------------------

test.serial('handles are closed in any order, twice, and are no use afterwards', (t) => {
  const before = footprint();
  const names = ['executor', 'space', 'shared', 'private'] as const;
  for (const first of names) {
    const world = makeWorld();
    world.run({ op: OP_VA_MAP, object: SHARED }, { op: OP_VA_UNPARK, gpa: PAGE, object: PRIVATE });
    world[first].close();
    for (const name of names) world[name].close();
    const closed = { code: 'ERR_CLOSED' };
    t.throws(() => world.space.base, closed);
    t.throws(() => world.space.load(0, 4), closed);
    t.throws(() => world.shared.fd, closed);
    t.throws(() => world.executor.run(new ArrayBuffer(0), 0, 0), closed);
    t.throws(() => native().Executor.create().setSink(1, abi.SINK_VA, world.space), closed);
  }
  t.deepEqual(footprint(), before);
});

test.serial('a plan still works after the caller has let go of what it names', (t) => {
  const world = makeWorld();
  world.shared.close();
  world.run({ op: OP_VA_MAP, object: SHARED });
  t.is(world.space.store(0, 4, 42, 0), 0);
  world.close();
});
