// A guest whose vCPUs and devices are in workers while the main thread changes its memory map again and again: nobody
// ever meets a wrong byte, an exit that the guest has not asked for, or a signal; and nothing is left of it.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { ExecutionContext } from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import type { Vcpu } from '../ts/core/native.ts';
import { type GuestMemoryManager, MembackingError, type PlanMessage, SharedMemory } from '../ts/index.ts';
import { vmOf } from '../ts/sinks/kvm.ts';
import { deviceOf } from './support/clients.ts';
import { footprint } from './support/footprint.ts';
import { enterUserMode, kvmTest, start } from './support/guest.ts';
import { Random, SEED, tries } from './support/random.ts';
import { PAGE } from './support/shim-plan.ts';
import { buildVm, Guest, MIB } from './support/vm.ts';

/** Words that workers share with the test: what they count, and one that stops them. */
const COUNTS = [
  ...['sweeps', 'wrong sweeps', 'spurious exits', 'right', 'wrong', 'nothing there', 'leases', 'refused leases'],
  ...['errors', 'stop'],
] as const;
type Count = (typeof COUNTS)[number];

const SWEPT = [
  { start: MIB, end: 2 * MIB },
  { start: 2 * MIB, end: 3 * MIB },
];
/** RAM whose pages begin with their numbers, under a ROM that comes and goes. */
const NUMBERED = 4 * MIB;
const NUMBERED_PAGES = 256;
const PAM = { gpa: 0xc8000, length: 0x4000 };
/** A DAX window, and a BAR that moves: the pages of both begin with DEVICE and a number. */
const DAX = 0x8000_0000;
const BARS = [0x9000_0000, 0x9100_0000];
const DEVICE = 0x1000;
const DEVICE_PAGES = 64;

const PLACES = { PAGE, NUMBERED, NUMBERED_PAGES, PAM, DAX, BARS, DEVICE, DEVICE_PAGES };

const COMMON = `
const { parentPort, workerData } = require('node:worker_threads');
const { counts, names } = workerData;
const count = (name) => Atomics.add(counts, names.indexOf(name), 1);
const isOver = () => Atomics.load(counts, names.indexOf('stop')) === 1;
`;

/** Runs a vCPU whose program sends to port 15 after each sweep over its pages, and to 16 where a page is not as it was
 *  left. */
const VCPU = `${COMMON}
import(workerData.module).then(({ Vcpu }) => {
  const vcpu = Vcpu.fromToken(workerData.token);
  parentPort.postMessage('running');
  while (!isOver()) {
    const exit = vcpu.runToExit();
    if (exit.kind === 'io' && exit.port === 0x15) count('sweeps');
    else if (exit.kind === 'io') count('wrong sweeps');
    else if (exit.kind !== 'kicked') count('spurious exits');
  }
  vcpu.close();
}).catch((error) => { console.error(error); count('errors'); });
`;

/** Turns of a device with `memory`: it reads and writes where something is at times, and checks whatever it finds
 *  there. */
const TURNS = `
const bytes = new Uint8Array(4 * PAGE);
const words = new Uint32Array(bytes.buffer);
const isOf = (word, first) => word >= first && word < first + DEVICE_PAGES;
const lease = (gpa) => {
  const held = memory.lock({ gpa, length: PAGE }, 'write', { holder: 'device' });
  try {
    count('leases');
    const shown = new Uint32Array(held.view.buffer, 0, 1);
    const first = shown[0];
    for (let i = 0; i < 3000; i++) if (shown[0] !== first || memory.readU32(gpa) !== first) return false;
    return isOf(first, DEVICE);
  } finally {
    held.release();
  }
};
const accesses = [
  (i) => memory.readU32(NUMBERED + (i % NUMBERED_PAGES) * PAGE) === i % NUMBERED_PAGES,
  (i) => {
    const page = i % (NUMBERED_PAGES - 4);
    memory.read(NUMBERED + page * PAGE, bytes);
    return [0, 1, 2, 3].every((index) => words[index * 1024] === page + index);
  },
  (i) => (memory.writeU32(NUMBERED + (i % NUMBERED_PAGES) * PAGE + 64 + 4 * index, i), true),
  () => [0, 0x600d].includes(memory.readU32(PAM.gpa + 0x1000)),
  (i) => isOf(memory.readU32(DAX + (i % DEVICE_PAGES) * PAGE), DEVICE),
  (i) => isOf(memory.readU32(BARS[i % 2] + ((i >> 1) % DEVICE_PAGES) * PAGE), DEVICE),
  (i) => i % 64 !== 0 || lease(i % 128 === 0 ? BARS[0] : DAX + ((i >> 6) % DEVICE_PAGES) * PAGE),
];
const turn = (i) => {
  for (const access of accesses) {
    try {
      count(access(i) ? 'right' : 'wrong');
    } catch (error) {
      if (error.code === 'GUEST_ACCESS') count('nothing there');
      else if (error.code === 'LEASED') count('refused leases');
      else { console.error(error); count('errors'); }
    }
  }
};
`;

const DEVICE_WORKER = `${COMMON}
import(workerData.module).then(({ WorkerGuestMemory }) => {
  const { PAGE, NUMBERED, NUMBERED_PAGES, PAM, DAX, BARS, DEVICE, DEVICE_PAGES } = workerData.places;
  const { index } = workerData;
  const memory = WorkerGuestMemory.fromToken(workerData.token);
  ${TURNS}
  parentPort.postMessage('running');
  for (let i = 0; !isOver(); i++) turn(i);
  memory.close();
}).catch((error) => { console.error(error); count('errors'); });
`;

/** Statement by which a process begins to do what a worker does, until `isOver` is true; it then has its counts. */
const DEVICE_PROCESS = `(async () => {
  const { PAGE, NUMBERED, NUMBERED_PAGES, PAM, DAX, BARS, DEVICE, DEVICE_PAGES } = ${JSON.stringify(PLACES)};
  const index = 2;
  const counts = {};
  const count = (name) => (counts[name] = (counts[name] ?? 0) + 1);
  ${TURNS}
  globalThis.isOver = false;
  for (let i = 0; !isOver; i++) {
    turn(i);
    if (i % 256 === 0) await new Promise(setImmediate);
  }
  return counts;
})()`.replaceAll('; ', ';\n');

/** Changes that the main thread makes, over and over. */
function changesOf(manager: GuestMemoryManager): (readonly [what: string, change: (turn: number) => void])[] {
  const { ramVisibility, deviceMapper, map, root } = manager;
  const file = SharedMemory.create(DEVICE_PAGES * PAGE);
  for (let page = 0; page < DEVICE_PAGES; page++) file.write(page * PAGE, numbered(DEVICE + page));
  const window = deviceMapper.newRegion(DEVICE_PAGES * PAGE, 'dax');
  window.control.mapToGuest(DAX);
  const bar = deviceMapper.newRegion(DEVICE_PAGES * PAGE, 'bar');
  bar.region.map(0, file.fd, 0, DEVICE_PAGES * PAGE, true);
  const rom = map.createRegion({ name: 'rom', kind: 'rom', size: 4 * PAGE });
  const image = SharedMemory.create(4 * PAGE);
  for (let page = 0; page < 4; page++) image.write(page * PAGE, numbered(16 + page));
  rom.map({ object: image });
  const place = (page: number) => page % DEVICE_PAGES;
  const random = new Random();
  return [
    ['PAM', () => ramVisibility.set(PAM, random.pick(['unmapped', 'read-only', 'read-write'] as const))],
    ['DAX, mapped', (turn) => window.region.map(place(turn) * PAGE, file.fd, place(turn * 7) * PAGE, PAGE, true)],
    ['DAX, unmapped', (turn) => window.region.unmap(place(turn * 3) * PAGE, PAGE)],
    ['BAR', (turn) => bar.control.mapToGuest(BARS[turn % 2]!)],
    ['protection', (turn) => protect(manager, turn)],
    ['ROM over RAM', (turn) => turn % 16 === 0 && rom.place(root, { offset: NUMBERED + 16 * PAGE, priority: 256 })],
    ['no ROM over RAM', (turn) => turn % 16 === 0 && rom.remove()],
  ];
}

function protect({ va }: GuestMemoryManager, turn: number): void {
  va.protect({ gpa: NUMBERED + 8 * PAGE, length: PAGE, access: turn % 2 === 0 ? 'r' : 'rwx' });
}

function numbered(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

async function workersOn(manager: GuestMemoryManager, vcpus: readonly Vcpu[], counts: Int32Array): Promise<Worker[]> {
  const data = { module: artefact('index.js').href, counts, names: COUNTS };
  const workers = [
    ...vcpus.map(({ token }) => new Worker(VCPU, { eval: true, workerData: { ...data, token } })),
    ...[0, 1].map((index) => {
      const workerData = { ...data, places: PLACES, index, token: manager.va.token };
      return new Worker(DEVICE_WORKER, { eval: true, workerData });
    }),
  ];
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  return workers;
}

async function stress(t: ExecutionContext, manager: GuestMemoryManager, guest: Guest): Promise<void> {
  t.log(`seed ${SEED}`);
  const vcpus = [guest.vcpu, vmOf(guest.partition).createVcpu(1)];
  enterUserMode(vcpus[1]!);
  for (const [index, { start: rbx, end: rcx }] of SWEPT.entries()) start(vcpus[index]!, 'sweep', { rbx, rcx });
  for (let page = 0; page < NUMBERED_PAGES; page++) manager.guestMemory.write(NUMBERED + page * PAGE, numbered(page));
  manager.guestMemory.writeU32(PAM.gpa + 0x1000, 0x600d);
  const changes = changesOf(manager);
  const plans = { 'unchanged-bytes': 0, changed: 0, none: 0 };
  const onPlan = (message: unknown) => {
    plans[(message as PlanMessage).disturbance]++;
  };
  subscribe('membacking:plan', onPlan);
  const counts = new Int32Array(new SharedArrayBuffer(4 * COUNTS.length));
  const counted = (what: Count) => Atomics.load(counts, COUNTS.indexOf(what));
  const workers = await workersOn(manager, vcpus, counts);
  const device = await deviceOf(manager, { name: 'device process', lazy: true, deadline: 20_000 });
  await device.run(`globalThis.work = ${DEVICE_PROCESS}; 0`);
  let leased = 0;
  const wanted = tries(4000);
  const isContent = () => counted('sweeps') > 0 && counted('leases') > 0 && counted('nothing there') > 0 && leased > 0;
  for (let turn = 0; turn * changes.length < wanted || !isContent(); turn++) {
    for (const [, change] of changes) {
      try {
        change(turn);
      } catch (error) {
        if (!(error instanceof MembackingError) || error.code !== 'LEASED') throw error;
        leased++;
      }
    }
    if (turn % 64 === 0) await sleep(0);
  }
  unsubscribe('membacking:plan', onPlan);
  const ended = workers.map((worker) => once(worker, 'exit'));
  Atomics.store(counts, COUNTS.indexOf('stop'), 1);
  for (const vcpu of vcpus) vcpu.kick();
  const found = (await device.run('globalThis.isOver = true; work')) as Partial<Record<Count, number>>;
  t.is(await device.end(), 0);
  t.deepEqual((await Promise.all(ended)).flat(), [0, 0, 0, 0]);
  t.log('in the device process', found);
  for (const what of ['wrong', 'errors'] as const) t.is(found[what], undefined, what);
  for (const what of ['right', 'leases', 'nothing there'] as const) t.true(found[what]! > 0, what);
  t.log({ ...Object.fromEntries(COUNTS.map((what) => [what, counted(what)])), leased, plans });
  for (const what of ['wrong sweeps', 'spurious exits', 'wrong', 'errors'] as const) t.is(counted(what), 0, what);
  t.true(plans['unchanged-bytes'] > 0, 'some changes hold the vCPUs');
  vcpus[1]!.close();
}

kvmTest('vCPUs, devices in workers and one in a process meet nothing wrong while the map changes', async (t) => {
  const before = footprint();
  const manager = buildVm({ x86LegacySupport: true, ram: [{ ranges: [{ gpa: 0, length: 8 * MIB }] }] });
  const guest = new Guest(manager);
  await stress(t, manager, guest);
  manager.close();
  guest.close();
  t.deepEqual(footprint().mappings, before.mappings);
});

kvmTest('a worker that is in the guest is terminated within a second, and the map changes as before', async (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  const guest = new Guest(manager);
  const counts = new Int32Array(new SharedArrayBuffer(4 * COUNTS.length));
  start(guest.vcpu, 'spin');
  const data = { module: artefact('index.js').href, counts, names: COUNTS, token: guest.vcpu.token };
  const worker = new Worker(VCPU, { eval: true, workerData: data });
  await once(worker, 'message');
  await sleep(20);
  const before = performance.now();
  await worker.terminate();
  t.true(performance.now() - before < 1000);
  manager.ramVisibility.set(PAM, 'unmapped');
  t.is(guest.read(0x1000 - 4), 'out 10 = 0', 'the vCPU is free');
  guest.close();
  manager.close();
});
