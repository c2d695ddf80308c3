// Memory behind mappings: what the shim does to it, and what the kernel's own accounting says to that.

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import * as abi from '../assembly/abi.ts';
import { artefact } from '../ts/core/artefact.ts';
import { type MemoryObject, native } from '../ts/core/native.ts';
import { bytesOf, hugePageTest, namesOf, policiesOf, smapsOf, statusOf } from './support/accounting.ts';
import { namelessFile } from './support/nameless-file.ts';
import { PATIENCE } from './support/patience.ts';
import {
  encode,
  footprint,
  makeWorld,
  PAGE,
  PRIVATE,
  READ,
  SHARED,
  spaceMaps,
  type World,
} from './support/shim-plan.ts';

const { OP_VA_MAP, OP_VA_UNMAP, OP_VA_PROTECT, OP_VA_PARK, OP_VA_UNPARK } = abi;
const MIB = 2 ** 20;
const HUGE = 2 * MIB;
const GIANT = 2 ** 30;

const pages = (count: number) => count * PAGE;

function memoryTest(title: string, body: (t: ExecutionContext, world: World) => void | Promise<void>): void {
  test.serial(title, async (t) => {
    const before = footprint();
    const world = makeWorld({ size: 8 * MIB, objectSize: 4 * MIB });
    try {
      await body(t, world);
    } finally {
      world.close();
    }
    // Memory that a detached view held goes in a turn of its own.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    t.deepEqual(footprint(), before);
  });
}

/** The executor knows it as object 3. */
function add(world: World, backing: MemoryObject): MemoryObject {
  world.executor.setObject(3, backing);
  return backing;
}

/** A file without a name, of the given bytes. */
function makeFile(contents: Uint8Array): number {
  const fd = namelessFile(0);
  writeSync(fd, contents);
  return fd;
}

const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte);

/** smaps' sums of a part of the world's VA space. */
const shown = ({ space }: World, gpa: number, length: number) => smapsOf(space.base + BigInt(gpa), BigInt(length));

// ---- Moving private memory ---------------------------------------------------------------------

/** Reads page 0 until the first word of `shared` is negative: counts in the second how often it was present while the
 *  first was odd, in the third how often it was absent. */
const WITNESS = `
const { parentPort, workerData } = require('node:worker_threads');
const { Reservation } = require(workerData.addon);
const space = Reservation.fromToken(workerData.token);
const shared = new Int32Array(workerData.shared);
parentPort.postMessage('ready');
for (let before = 0; before >= 0; ) {
  before = Atomics.load(shared, 0);
  const result = space.load(0, 4);
  if (before > 0 && before % 2 === 1 && Atomics.load(shared, 0) === before) Atomics.add(shared, result >= 0 ? 1 : 2, 1);
}
space.close();
parentPort.postMessage('done');
`;

memoryTest('private memory comes over shared memory without a moment of nothing', async (t, world) => {
  const shared = new Int32Array(new SharedArrayBuffer(12));
  const workerData = { token: world.space.token, shared: shared.buffer, addon: artefact('membacking.node').pathname };
  const worker = new Worker(WITNESS, { eval: true, workerData });
  await once(worker, 'message');
  const length = 2 * MIB;
  while (Atomics.load(shared, 1) < 1000 && Atomics.load(shared, 2) === 0) {
    world.run({ op: OP_VA_MAP, length, object: SHARED });
    Atomics.add(shared, 0, 1);
    world.run({ op: OP_VA_UNPARK, length, object: PRIVATE });
    Atomics.add(shared, 0, 1);
    world.run({ op: OP_VA_PARK, length, object: PRIVATE });
  }
  const ended = once(worker, 'message');
  Atomics.store(shared, 0, -1);
  await ended;
  t.is(shared[2], 0);
  await worker.terminate();
});

/** Maps until the kernel has had enough; then private memory cannot be shown read-only, and must stay at home. */
const EXHAUSTED = `
const { Reservation, MemoryObject, Executor } = require(process.argv[1]);
const [map, unpark] = process.argv.slice(2).map((plan) => Uint8Array.from(Buffer.from(plan, 'base64')).buffer);
const executor = Executor.create();
const length = 70000;
const space = Reservation.create(length * 8192);
executor.setSink(1, ${abi.SINK_VA}, space);
executor.setObject(1, MemoryObject.memfd('limit', 4096, 0));
const home = MemoryObject.privateMemory(65536);
executor.setObject(2, home);
const all = Buffer.alloc(length * 64);
for (let index = 0; index < length; index++) {
  all.set(new Uint8Array(map), index * 64);
  all.writeBigUInt64LE(BigInt(index * 8192), index * 64 + 8);
}
// Commands that take back may use all that is kept in reserve.
executor.unwind(all.buffer, 0, length);
const done = executor.unwind(unpark, 0, 1);
const { code, syscall } = executor.failure;
home.pin();
// Before JavaScript needs anything.
executor.close();
space.close();
console.log(JSON.stringify({ done, code, syscall }));
`;

test('private memory that cannot be shown stays at home as it was', (t) => {
  const plans = [
    { op: OP_VA_MAP, object: SHARED },
    { op: OP_VA_UNPARK, object: PRIVATE, offset: PAGE, access: READ },
  ].map((command) => Buffer.from(encode([command])).toString('base64'));
  // No thread of V8's own needs memory meanwhile.
  const args = [
    '--single-threaded',
    '--v8-pool-size=0',
    '-e',
    EXHAUSTED,
    artefact('membacking.node').pathname,
    ...plans,
  ];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: PATIENCE });
  t.deepEqual(JSON.parse(stdout || '{}'), { done: 0, code: 'ENOMEM', syscall: 'mprotect' }, stderr);
});

// ---- Giving memory back ------------------------------------------------------------------------

memoryTest('what is discarded of a memfd is memory of the machine again', (t, world) => {
  world.run({ op: OP_VA_MAP, length: pages(8), object: SHARED });
  world.space.write(0, filled(pages(8), 7));
  const before = bytesOf(world.shared.fd!);
  t.is(world.shared.discard(pages(2), pages(3)), BigInt(pages(3)));
  t.is(before - bytesOf(world.shared.fd!), pages(3));
  t.is(shown(world, 0, pages(8)).Rss, pages(5));
  t.deepEqual(world.read(pages(1), PAGE), filled(PAGE, 7));
  t.deepEqual(world.read(pages(2), pages(3)), filled(pages(3), 0));
  t.deepEqual(world.read(pages(5), PAGE), filled(PAGE, 7));
  t.is(world.shared.discard(pages(100), pages(50)), 0n, 'nothing was there');
});

memoryTest('what is discarded of private memory is memory of the machine again', (t, world) => {
  world.run({ op: OP_VA_UNPARK, length: pages(8), object: PRIVATE });
  world.space.write(0, filled(pages(6), 7));
  t.is(world.private.discard(0, pages(8)), 0n, 'it is not at home');
  t.is(world.space.discardPrivate(pages(1), pages(7)), BigInt(pages(5)));
  t.is(shown(world, 0, pages(8)).Anonymous, pages(1));
  t.deepEqual(world.read(0, PAGE), filled(PAGE, 7));
  t.deepEqual(world.read(PAGE, pages(7)), filled(pages(7), 0));
  // Some kernels show a reader the one page of zeroes, others give it pages of its own.
  const resident = BigInt(shown(world, 0, pages(8)).Anonymous! - PAGE);
  t.is(world.space.discardPrivate(pages(1), pages(7)), resident, 'what reading made resident');
  world.space.write(pages(4), filled(PAGE, 9));
  world.run({ op: OP_VA_PARK, length: pages(8), object: PRIVATE });
  t.is(world.private.discard(pages(4), pages(4)), BigInt(pages(1)));
  world.run({ op: OP_VA_UNPARK, length: pages(8), object: PRIVATE });
  t.deepEqual(world.read(0, pages(8)), Uint8Array.from([...filled(PAGE, 7), ...filled(pages(7), 0)]));
});

memoryTest('what is shared is not discarded with what is private', (t, world) => {
  world.run({ op: OP_VA_MAP, length: pages(2), object: SHARED });
  world.run({ op: OP_VA_UNPARK, gpa: pages(2), length: pages(2), object: PRIVATE });
  world.space.write(0, filled(pages(4), 5));
  t.is(world.space.discardPrivate(0, pages(6)), BigInt(pages(2)), 'over a hole, too');
  t.deepEqual(world.read(0, pages(4)), filled(pages(4), 0).fill(5, 0, pages(2)));
});

memoryTest('the copy of a file is the file again', (t, world) => {
  const fd = makeFile(filled(pages(4), 3));
  const image = add(world, native().MemoryObject.privateFile(fd, pages(4)));
  world.run({ op: OP_VA_UNPARK, length: pages(4), object: 3 });
  t.is(world.read(0, pages(4))[0], 3);
  t.is(world.space.discardPrivate(0, pages(4)), 0n, 'what was only read belongs to the file');
  world.space.write(PAGE, filled(pages(2), 4));
  t.is(world.space.discardPrivate(0, pages(4)), BigInt(pages(2)));
  t.deepEqual(world.read(0, pages(4)), filled(pages(4), 3));
  world.executor.clearObject(3);
  image.close();
  closeSync(fd);
});

memoryTest('ranges that are not whole pages of it are refused', async (t, world) => {
  const ranges: [number, number][] = [
    [0, 0],
    [8, PAGE],
    [0, 8],
    [4 * MIB, PAGE],
    [4 * MIB - PAGE, 2 * PAGE],
    [2 ** 52, PAGE],
  ];
  for (const [offset, length] of ranges) {
    for (const backing of [world.shared, world.private]) {
      t.throws(() => backing.discard(offset, length), { code: 'EINVAL' });
      await t.throwsAsync(backing.populate(offset, length), { code: 'EINVAL' });
    }
  }
  for (const [gpa, length] of [...ranges.slice(0, 3), [8 * MIB, PAGE], [8 * MIB - PAGE, 2 * PAGE]] as const) {
    t.throws(() => world.space.discardPrivate(gpa, length), { code: 'ERR_OUT_OF_RANGE' });
  }
  t.throws(() => world.shared.discard(-1, PAGE), { code: 'ERR_OUT_OF_RANGE' });
  const fd = openSync('/proc/self/exe', 'r');
  const readOnly = native().MemoryObject.fromFd(fd, PAGE, false);
  t.throws(() => readOnly.discard(0, PAGE), { code: 'EBADF', message: /fallocate/ });
  closeSync(fd);
  readOnly.close();
});

// ---- Populating --------------------------------------------------------------------------------

memoryTest('populated memory is there before anybody touches it', async (t, world) => {
  await Promise.all([0, 1, 2].map((part) => world.shared.populate(part * MIB, MIB)));
  t.is(bytesOf(world.shared.fd!), 3 * MIB);
  await Promise.all([0, 1, 2, 3].map((part) => world.private.populate(part * MIB, MIB)));
  world.run({ op: OP_VA_UNPARK, gpa: 4 * MIB, length: 4 * MIB, object: PRIVATE });
  t.is(shown(world, 4 * MIB, 4 * MIB).Anonymous, 4 * MIB);
});

memoryTest('populating keeps what is there', async (t, world) => {
  world.run(
    { op: OP_VA_MAP, length: MIB, object: SHARED },
    { op: OP_VA_UNPARK, gpa: MIB, length: PAGE, object: PRIVATE },
  );
  world.space.write(0, filled(MIB + PAGE, 6));
  world.run({ op: OP_VA_PARK, gpa: MIB, length: PAGE, object: PRIVATE });
  await Promise.all([world.shared.populate(0, MIB), world.private.populate(0, MIB)]);
  world.run({ op: OP_VA_UNPARK, gpa: MIB, length: PAGE, object: PRIVATE });
  t.deepEqual(world.read(0, MIB + PAGE), filled(MIB + PAGE, 6));
});

memoryTest('private memory in a VA space is not populated at home', async (t, world) => {
  world.run({ op: OP_VA_UNPARK, length: PAGE, offset: MIB, object: PRIVATE });
  await t.throwsAsync(world.private.populate(0, 4 * MIB), { code: 'EBUSY', message: /VA space/ });
  t.throws(() => world.private.pin(), { code: 'EBUSY' });
  await world.private.populate(0, MIB);
  world.run({ op: OP_VA_PARK, length: PAGE, offset: MIB, object: PRIVATE });
  await world.private.populate(0, 4 * MIB);
});

memoryTest('a file that ends before cannot be populated', async (t) => {
  const fd = makeFile(filled(pages(2), 1));
  const backing = native().MemoryObject.fromFd(fd, pages(2), true);
  ftruncateSync(fd, PAGE);
  await t.throwsAsync(backing.populate(0, pages(2)), { code: 'ENXIO', message: /madvise/ });
  await backing.populate(0, PAGE);
  closeSync(fd);
  backing.close();
});

memoryTest('an object may be closed, and plans carried out, while it is populated', async (t, world) => {
  const { MemoryObject } = native();
  const [large, privately] = [MemoryObject.memfd('large', 64 * MIB, 0), MemoryObject.privateMemory(64 * MIB)];
  const populating = [large.populate(0, 64 * MIB), privately.populate(0, 64 * MIB)];
  large.close();
  privately.close();
  for (let round = 0; round < 100; round++) {
    world.run({ op: OP_VA_UNPARK, length: MIB, object: PRIVATE }, { op: OP_VA_PARK, length: MIB, object: PRIVATE });
  }
  await Promise.all(populating);
  t.throws(() => large.populate(0, PAGE), { code: 'ERR_CLOSED' });
});

test('a thread may end while it populates', async (t) => {
  const script = `
    const { MemoryObject } = require(process.argv[2] ?? require('node:worker_threads').workerData);
    MemoryObject.memfd('left', ${64 * MIB}, 0).populate(0, ${64 * MIB});
    process.exit();`;
  const worker = new Worker(script, { eval: true, workerData: artefact('membacking.node').pathname });
  const [code] = await once(worker, 'exit');
  t.is(code, 0);
});

// ---- Huge pages --------------------------------------------------------------------------------

/** Whether the kernel gives huge pages when memory is touched that asked for them. */
function givesHugePages(setting: 'enabled' | 'shmem_enabled'): boolean {
  const choice = (file: string) => {
    try {
      return /\[(\w+)\]/.exec(readFileSync(`/sys/kernel/mm/transparent_hugepage/${file}`, 'utf8'))?.[1];
    } catch {
      return undefined;
    }
  };
  const ofSize = choice(`hugepages-2048kB/${setting}`);
  const decisive = ofSize === undefined || ofSize === 'inherit' ? choice(setting) : ofSize;
  return !['never', 'deny', undefined].includes(decisive);
}

memoryTest('private memory that was advised so comes in huge pages, and takes them along', async (t, world) => {
  const given = world.private.adviseHugePages();
  t.is(given, givesHugePages('enabled'));
  await world.private.populate(0, HUGE);
  world.run({ op: OP_VA_UNPARK, gpa: HUGE, length: 2 * HUGE, object: PRIVATE });
  world.space.store(2 * HUGE, 1, 1, 0);
  t.is(shown(world, HUGE, 2 * HUGE).AnonHugePages, given ? 2 * HUGE : 0);
});

memoryTest('a memfd that was advised so is in huge pages at the latest when it is populated', async (t, world) => {
  const given = world.shared.adviseHugePages();
  t.is(given, givesHugePages('shmem_enabled'));
  world.run({ op: OP_VA_MAP, gpa: HUGE, length: 2 * HUGE, object: SHARED });
  world.space.store(2 * HUGE, 1, 1, 0);
  world.space.store(HUGE, 1, 2, 0);
  const hugeBytes = () => shown(world, HUGE, 2 * HUGE).ShmemPmdMapped;
  t.is(hugeBytes(), given ? 2 * HUGE : 0);
  await world.shared.populate(0, HUGE);
  // Older kernels leave page tables that there are as they are, though the pages behind them are one now.
  world.run({ op: OP_VA_UNMAP, gpa: HUGE, length: 2 * HUGE });
  world.run({ op: OP_VA_MAP, gpa: HUGE, length: 2 * HUGE, object: SHARED });
  world.space.load(HUGE, 1);
  world.space.load(2 * HUGE, 1);
  t.log({ given, hugeBytes: hugeBytes() });
  t.true(hugeBytes() === (given ? 2 * HUGE : HUGE) || !givesHugePages('enabled'));
  t.is(world.space.load(HUGE, 1), 2);
});

hugePageTest('huge pages are discarded, populated and pinned whole', HUGE, 3, async (t) => {
  const before = footprint();
  const world = makeWorld({ size: 4 * HUGE });
  const huge = add(world, native().MemoryObject.memfd('huge', 2 * HUGE, HUGE));
  t.throws(() => huge.adviseHugePages(), { code: 'EINVAL', message: /already/ });
  huge.setNumaNode(0);
  world.run({ op: OP_VA_MAP, gpa: 2 * HUGE, length: 2 * HUGE, object: 3 });
  t.deepEqual(policiesOf(world.space.base + BigInt(2 * HUGE), BigInt(2 * HUGE)), ['bind:0']);
  await huge.populate(0, 2 * HUGE);
  t.is(bytesOf(huge.fd!), 2 * HUGE);
  world.space.store(2 * HUGE, 1, 8, 0);
  t.throws(() => huge.discard(0, PAGE), { code: 'EINVAL', message: /whole pages/ });
  t.throws(() => huge.discard(PAGE, HUGE), { code: 'EINVAL', message: /whole pages/ });
  t.is(huge.discard(HUGE, HUGE), BigInt(HUGE));
  t.is(bytesOf(huge.fd!), HUGE);
  huge.pin();
  t.is(bytesOf(huge.fd!), 2 * HUGE);
  t.is(world.space.load(2 * HUGE, 1), 8);
  world.executor.clearObject(3);
  huge.close();
  world.close();
  t.deepEqual(footprint(), before);
});

hugePageTest('a huge page that is not there is an error, no signal', HUGE, 1, async (t) => {
  const huge = native().MemoryObject.memfd('huge', HUGE, HUGE);
  await huge.populate(0, HUGE);
  t.is(huge.discard(0, HUGE), BigInt(HUGE));
  t.throws(() => native().MemoryObject.memfd('huge', 2 ** 40, HUGE), { code: 'ENOMEM' });
  huge.close();
});

hugePageTest('pages of 1 GiB fit into a VA space', GIANT, 1, (t) => {
  const world = makeWorld({ size: 2 * GIANT });
  const giant = add(world, native().MemoryObject.memfd('giant', GIANT, GIANT));
  world.run({ op: OP_VA_MAP, gpa: GIANT, length: GIANT, object: 3 });
  t.is(world.space.store(2 * GIANT - 8, 8, 1, 2), 0);
  t.is(bytesOf(giant.fd!), GIANT);
  world.executor.clearObject(3);
  giant.close();
  world.close();
});

// ---- NUMA --------------------------------------------------------------------------------------

memoryTest('memory comes from the node that was chosen, wherever it is shown', (t, world) => {
  world.shared.setNumaNode(0);
  world.private.setNumaNode(0);
  world.run(
    { op: OP_VA_MAP, length: MIB, object: SHARED },
    { op: OP_VA_UNPARK, gpa: MIB, length: MIB, object: PRIVATE },
  );
  world.space.write(0, filled(2 * MIB, 1));
  t.deepEqual(policiesOf(world.space.base, BigInt(2 * MIB)), ['bind:0']);
});

memoryTest('a node that is absent is an error, and changes nothing', (t, world) => {
  const online = readFileSync('/sys/devices/system/node/online', 'utf8').trim();
  const absent = Number(/\d+$/.exec(online)) + 1;
  for (const node of [absent, 1023, 1024, 2 ** 32 - 1]) {
    t.throws(() => world.shared.setNumaNode(node), { code: 'EINVAL', message: /no such NUMA node/ });
    t.throws(() => world.private.setNumaNode(node), { code: 'EINVAL', message: /no such NUMA node/ });
  }
  const fd = makeFile(filled(PAGE, 1));
  const file = native().MemoryObject.fromFd(fd, PAGE, true);
  if (readFileSync('/proc/self/mounts', 'utf8').includes(` ${tmpdir()} tmpfs `)) file.setNumaNode(0);
  else t.throws(() => file.setNumaNode(0), { code: 'EOPNOTSUPP' });
  closeSync(fd);
  file.close();
  world.run({ op: OP_VA_MAP, length: MIB, object: SHARED });
  t.deepEqual(policiesOf(world.space.base, BigInt(MIB)), ['default']);
});

// ---- Pinning -----------------------------------------------------------------------------------

memoryTest('pinned shared memory is resident until it is closed', (t, world) => {
  const before = statusOf('VmLck');
  world.shared.pin();
  world.shared.pin();
  t.is(statusOf('VmLck'), before + 4 * MIB);
  t.is(bytesOf(world.shared.fd!), 4 * MIB);
  t.is(world.shared.discard(0, PAGE), BigInt(PAGE));
});

memoryTest('pinned private memory is resident wherever it is shown', (t, world) => {
  const before = statusOf('VmLck');
  world.private.pin();
  world.run(
    { op: OP_VA_UNPARK, length: MIB, offset: MIB, object: PRIVATE },
    { op: OP_VA_PROTECT, length: PAGE, object: PRIVATE, access: READ },
  );
  t.like(shown(world, 0, MIB), { Locked: MIB, Rss: MIB });
  world.run({ op: OP_VA_PARK, length: MIB, offset: MIB, object: PRIVATE });
  world.run({ op: OP_VA_UNPARK, length: 2 * MIB, offset: 0, object: PRIVATE });
  t.is(shown(world, 0, 2 * MIB).Locked, 2 * MIB);
  t.is(world.space.discardPrivate(0, PAGE), BigInt(PAGE), 'and is discarded all the same');
  t.is(shown(world, 0, 2 * MIB).Rss, 2 * MIB - PAGE);
  world.run({ op: OP_VA_PARK, length: 2 * MIB, offset: 0, object: PRIVATE });
  world.run({ op: OP_VA_UNPARK, length: 4 * MIB, offset: 0, object: PRIVATE });
  t.is(shown(world, 0, 4 * MIB).Locked, 4 * MIB - PAGE, 'what stayed at home, too');
  t.is(statusOf('VmLck'), before + 4 * MIB);
});

// ---- What files may do -------------------------------------------------------------------------

test('only what is sealed, or private, stays as long as it is', (t) => {
  const { MemoryObject } = native();
  const memfd = MemoryObject.memfd('sealed', PAGE, 0);
  const fd = makeFile(filled(PAGE, 1));
  const backings = [memfd, MemoryObject.fromFd(memfd.fd!, PAGE, true), MemoryObject.privateFile(memfd.fd!, PAGE)];
  backings.push(
    MemoryObject.privateMemory(PAGE),
    MemoryObject.fromFd(fd, PAGE, true),
    MemoryObject.privateFile(fd, PAGE),
  );
  t.deepEqual(
    backings.map(({ isShrinkable }) => isShrinkable),
    [false, false, false, false, true, true],
  );
  for (const backing of backings) backing.close();
  closeSync(fd);
});

// ---- Names -------------------------------------------------------------------------------------

test.serial('everything has a name in /proc/self/smaps', (t) => {
  const { Reservation, MemoryObject } = native();
  const space = Reservation.create(MIB, 'guest $1\n');
  const before = readFileSync('/proc/self/smaps', 'utf8');
  t.true(namesOf(space.base, space.size).some((name) => name.includes('membacking:va guest _1_')));
  t.regex(before, /membacking:va guest _1_/);
  const home = MemoryObject.privateMemory(MIB, 'ram');
  t.regex(readFileSync('/proc/self/smaps', 'utf8'), /membacking:ram ram/);
  space.close();
  home.close();
  t.notRegex(readFileSync('/proc/self/smaps', 'utf8'), /membacking:(va guest|ram ram)/);
  t.throws(() => Reservation.create(MIB, 5 as never), { code: 'ERR_INVALID_ARG_TYPE' });
});

memoryTest('a name does not keep pieces apart', (t, world) => {
  for (let page = 0; page < 6; page++) world.run({ op: OP_VA_MAP, gpa: pages(page), object: SHARED });
  for (const page of [1, 3, 5, 0, 4, 2]) world.run({ op: OP_VA_UNMAP, gpa: pages(page) });
  t.is(spaceMaps(world).length, 1);
});

// ---- Views -------------------------------------------------------------------------------------

memoryTest('a view is the memory itself, until it is detached', (t, world) => {
  world.run({ op: OP_VA_MAP, length: pages(4), object: SHARED });
  const view = world.space.view(PAGE + 8, pages(2));
  const twin = world.space.view(PAGE + 8, pages(2));
  const bytes = new Uint8Array(view);
  t.is(bytes.length, pages(2));
  world.space.store(PAGE + 8, 4, 0x01020304, 0);
  t.deepEqual([...bytes.subarray(0, 4)], [4, 3, 2, 1]);
  new Uint8Array(twin)[1] = 9;
  t.is(bytes[1], 9);
  t.is(world.space.load(PAGE + 9, 1), 9);
  world.space.detachView(view);
  t.is(view.byteLength, 0);
  t.is(bytes.length, 0);
  t.is(bytes[0], undefined);
  t.is(new Uint8Array(twin)[1], 9, 'its twin is another buffer');
  t.throws(() => world.space.detachView(view), { code: 'ERR_DETACHED' });
  world.space.detachView(twin);
});

memoryTest('a view keeps the VA space, whatever becomes of the handle', (t, world) => {
  world.run({ op: OP_VA_MAP, length: PAGE, object: SHARED });
  const second = native().Reservation.fromToken(world.space.token);
  const views = [world.space.view(0, PAGE), world.space.view(0, PAGE)];
  const other = native().Reservation.create(PAGE);
  t.throws(() => other.detachView(views[0]!), { code: 'ERR_OUT_OF_RANGE', message: /of this Reservation/ });
  other.close();
  world.close();
  t.throws(() => world.space.detachView(views[0]!), { code: 'ERR_CLOSED' });
  second.detachView(views[0]!);
  const third = native().Reservation.fromToken(second.token);
  second.close();
  new Uint8Array(views[1]!)[5] = 1;
  t.is(new Uint8Array(views[1]!)[5], 1);
  third.detachView(views[1]!);
  third.close();
});

memoryTest('a view moves to another buffer with what it keeps', (t, world) => {
  world.run({ op: OP_VA_MAP, length: PAGE, object: SHARED });
  const { space } = world;
  const first = space.view(0, PAGE);
  new Uint8Array(first)[3] = 7;
  const second = space.moveView(first);
  t.deepEqual([first.byteLength, second.byteLength, new Uint8Array(second)[3]], [0, PAGE, 7]);
  t.throws(() => space.moveView(first), { code: 'ERR_DETACHED' });
  const third = space.moveView(second);
  t.throws(() => space.detachView(first), { code: 'ERR_DETACHED' });
  t.throws(() => space.detachView(third), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => space.moveView(new ArrayBuffer(8)), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => space.moveView(new Uint8Array(8) as never), { code: 'ERR_INVALID_ARG_TYPE' });
  new Uint8Array(third)[3]!++;
  t.is(space.load(3, 1), 8);
  space.detachView(first, third);
  t.is(third.byteLength, 0);
});

memoryTest('views that cannot be are refused', (t, world) => {
  const { space } = world;
  for (const [gpa, length] of [
    [0, 0],
    [8 * MIB, 1],
    [0, 8 * MIB + 1],
    [2 ** 52, 1],
  ] as const) {
    t.throws(() => space.view(gpa, length), { code: 'ERR_OUT_OF_RANGE' });
  }
  t.throws(() => space.view(-1, 1), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => space.view('0' as never, 1), { code: 'ERR_INVALID_ARG_TYPE' });
  for (const stranger of [new ArrayBuffer(8), new Uint8Array(8), undefined, world.executor]) {
    t.throws(() => space.detachView(stranger as never), { code: 'ERR_INVALID_ARG_TYPE' });
  }
  const large = native().Reservation.create(2 ** 33);
  large.detachView(large.view(2 ** 32, 2 ** 32));
  t.throws(() => large.view(0, 2 ** 32 + 1), { code: 'ERR_OUT_OF_RANGE', message: /4 GiB/ });
  large.close();
});
