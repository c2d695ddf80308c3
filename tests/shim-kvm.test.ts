// The shim's KVM: slots, vCPUs, exits and kicks, with a guest that runs.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { ExecutionContext } from 'ava';
import * as abi from '../assembly/abi.ts';
import { artefact } from '../ts/core/artefact.ts';
import { KVM_CAP, KVM_EXIT } from '../ts/core/kvm-numbers.ts';
import { type Kvm, native, type Vcpu, type Vm } from '../ts/core/native.ts';
import { VcpuExit } from '../ts/sinks/vcpu-exit.ts';
import { enterUserMode, GUEST_SIZE, guestImage, inWords, kvmTest, next, runOnce, start } from './support/guest.ts';
import { PATIENCE } from './support/patience.ts';
import { getRegisters, getSpecialRegisters, setRegisters, setSpecialRegisters } from './support/registers.ts';
import {
  encode,
  footprint,
  makeWorld,
  PAGE,
  PARTITION,
  PRIVATE,
  READ,
  SHARED,
  VA,
  type World,
} from './support/shim-plan.ts';

const { OP_VA_MAP, OP_VA_PARK, OP_VA_UNPARK, OP_SLOT_ADD, OP_SLOT_DELETE, OP_EVENT_ADD, OP_EVENT_REMOVE } = abi;

/** GPA where the tests put memory of their own; above what the guest needs. */
const TARGET = 0x100000;
const SIZE = 0x200000;

interface Machine extends World {
  kvm: Kvm;
  vm: Vm;
  vcpu: Vcpu;
}

/** The guest's own memory is slot 0; TARGET is a hole. */
function makeMachine(): Machine {
  const world = makeWorld({ size: SIZE, objectSize: SIZE });
  const kvm = native().Kvm.open();
  const vm = kvm.createVm();
  world.executor.setSink(PARTITION, abi.SINK_PARTITION, vm);
  world.run(
    { op: OP_VA_MAP, length: GUEST_SIZE, object: SHARED },
    { op: OP_SLOT_ADD, sink: PARTITION, va: VA, length: GUEST_SIZE },
  );
  world.space.write(0, guestImage());
  const vcpu = vm.createVcpu(0);
  enterUserMode(vcpu);
  return { ...world, kvm, vm, vcpu };
}

function closeAll({ vcpu, vm, kvm, ...world }: Machine): void {
  for (const handle of [vcpu, vm, kvm]) handle.close();
  world.close();
}

function machineTest(title: string, body: (t: ExecutionContext, machine: Machine) => void | Promise<void>): void {
  kvmTest(title, async (t) => {
    const machine = makeMachine();
    try {
      await body(t, machine);
    } finally {
      closeAll(machine);
    }
  });
}

const slot = { sink: PARTITION, va: VA, slot: 1, gpa: TARGET, offset: TARGET };

// ---- The system --------------------------------------------------------------------------------

kvmTest('limits are read, not assumed', (t) => {
  const kvm = native().Kvm.open();
  const vm = kvm.createVm();
  t.is(vm.slotLimit, vm.checkExtension(KVM_CAP.NR_MEMSLOTS));
  t.true(kvm.checkExtension(KVM_CAP.READONLY_MEM) > 0);
  t.true(kvm.checkExtension(KVM_CAP.IMMEDIATE_EXIT) > 0);
  t.true(kvm.checkExtension(KVM_CAP.MAX_VCPUS) >= 1);
  t.is(kvm.checkExtension(0x7fffffff), 0);
  t.throws(() => vm.createVcpu(2 ** 31 - 1), { code: 'EINVAL' });
  kvm.close();
  vm.createVcpu(0).close();
  vm.close();
});

kvmTest('a VM gets an interrupt controller and a timer', (t) => {
  const kvm = native().Kvm.open();
  const vm = kvm.createVm();
  t.throws(() => vm.irqLine(4, true), { code: 'ENXIO', message: /KVM_IRQ_LINE/ });
  vm.setTssAddress(0xfffbd000);
  vm.createIrqchip();
  vm.createPit();
  vm.irqLine(4, true);
  vm.irqLine(4, false);
  t.throws(() => vm.createIrqchip(), { code: 'EEXIST' });
  vm.close();
  kvm.close();
});

machineTest('registers keep what is put into them', (t, { vcpu }) => {
  setRegisters(vcpu, { rax: 2n ** 64n - 1n, r15: 5n });
  setRegisters(vcpu, { rbx: 7n });
  t.like(getRegisters(vcpu), { rax: 2n ** 64n - 1n, rbx: 7n, r15: 5n });
  setSpecialRegisters(vcpu, { gs: { ...getSpecialRegisters(vcpu).gs, base: 0x123456789n } });
  t.like(getSpecialRegisters(vcpu), {
    gs: { base: 0x123456789n, selector: 0x1b, dpl: 3 },
    cs: { selector: 0x23, type: 0xb, l: 1 },
    gdt: { base: 0x17000n, limit: 39 },
    cr3: 0x10000n,
    efer: 0x500n,
  });
  t.throws(() => vcpu.readState('registers', new Uint8Array(8)), { code: 'ERR_OUT_OF_RANGE' });
});

// ---- Slots -------------------------------------------------------------------------------------

machineTest('a guest reads and writes what a slot shows', (t, machine) => {
  t.is(runOnce(machine.vcpu, 'read', { rbx: TARGET }), 'mmio read 100000');
  machine.run({ op: OP_VA_MAP, gpa: TARGET, object: SHARED, offset: TARGET }, { op: OP_SLOT_ADD, ...slot });
  t.is(runOnce(machine.vcpu, 'write', { rbx: TARGET + 8, rax: 0xabcd }), 'out 11 = abcd');
  t.is(machine.space.load(TARGET + 8, 4), 0xabcd);
  machine.space.store(TARGET + 8, 4, 0x1234, 0);
  t.is(runOnce(machine.vcpu, 'read', { rbx: TARGET + 8 }), 'out 10 = 1234');
  machine.run({ op: OP_SLOT_DELETE, ...slot });
  t.is(runOnce(machine.vcpu, 'read', { rbx: TARGET + 8 }), 'mmio read 100008');
});

machineTest('a write to a read-only slot exits and changes nothing', (t, machine) => {
  machine.run(
    { op: OP_VA_MAP, gpa: TARGET, object: SHARED, offset: TARGET },
    { op: OP_SLOT_ADD, ...slot, access: READ },
  );
  machine.space.store(TARGET, 4, 5, 0);
  t.is(runOnce(machine.vcpu, 'write', { rbx: TARGET, rax: 9 }), 'mmio write 100000 = 9');
  t.is(runOnce(machine.vcpu, 'read', { rbx: TARGET }), 'out 10 = 5');
});

machineTest('a mapping is replaced under a live slot and the guest sees it', (t, machine) => {
  machine.run({ op: OP_VA_MAP, gpa: TARGET, object: SHARED, offset: TARGET }, { op: OP_SLOT_ADD, ...slot });
  machine.space.store(TARGET, 4, 1, 0);
  t.is(runOnce(machine.vcpu, 'read', { rbx: TARGET }), 'out 10 = 1');
  machine.run({ op: OP_VA_UNPARK, gpa: TARGET, object: PRIVATE });
  t.is(runOnce(machine.vcpu, 'write', { rbx: TARGET, rax: 2 }), 'out 11 = 2');
  machine.run({ op: OP_VA_PARK, gpa: TARGET, object: PRIVATE });
  machine.run({ op: OP_VA_MAP, gpa: TARGET, object: SHARED, offset: TARGET });
  t.is(runOnce(machine.vcpu, 'read', { rbx: TARGET }), 'out 10 = 1');
  machine.run({ op: OP_VA_UNPARK, gpa: TARGET, object: PRIVATE });
  t.is(runOnce(machine.vcpu, 'read', { rbx: TARGET }), 'out 10 = 2', 'private memory was not lost');
});

machineTest('a guest in memory that is not there faults, and goes on when it is', (t, machine) => {
  machine.run({ op: OP_SLOT_ADD, ...slot });
  t.is(runOnce(machine.vcpu, 'read', { rbx: TARGET }), 'memory-fault');
  t.is(next(machine.vcpu), 'memory-fault');
  machine.run({ op: OP_VA_MAP, gpa: TARGET, object: SHARED, offset: TARGET });
  machine.space.store(TARGET, 4, 0x77, 0);
  t.is(next(machine.vcpu), 'out 10 = 77');
});

machineTest('slots that cannot be are refused', (t, machine) => {
  const refused = (command: object) => machine.refused({ op: OP_SLOT_ADD, ...slot, ...command });
  machine.run({ op: OP_SLOT_ADD, ...slot });
  t.regex(refused({ gpa: 2 * TARGET }).message, /in use/);
  t.like(refused({ slot: 2 }), { code: 'EEXIST', syscall: 'KVM_SET_USER_MEMORY_REGION' });
  t.regex(refused({ slot: machine.vm.slotLimit }).message, /no such slot/);
  t.regex(refused({ slot: 2, offset: SIZE }).message, /inside a stretch of its VA space/);
  t.regex(refused({ slot: 2, offset: 8 }).message, /whole page/);
  t.regex(refused({ slot: 2, va: 9 }).message, /no VA space/);
  t.regex(refused({ slot: 2, access: 0 }).message, /readable/);
  t.regex(machine.refused({ op: OP_SLOT_DELETE, ...slot, slot: 2 }).message, /empty/);
  t.is(refused({ slot: 2, gpa: -PAGE, length: 2 * PAGE }).code, 'EINVAL');
});

machineTest(
  'events that cannot be are refused; one that could not be put back leaves none in its page',
  (t, machine) => {
    const EVENTS = 40;
    const { executor, vcpu } = machine;
    const bell = native().EventFd.create();
    executor.setSink(EVENTS, abi.SINK_EVENTS, machine.vm);
    executor.setEvent(1, bell);
    const event = { sink: EVENTS, object: 1, gpa: 2 * TARGET + 8, length: 4, access: abi.ACCESS_WRITE };
    const refused = (command: object) => machine.refused({ ...event, ...command } as never).message;
    machine.run({ op: OP_EVENT_ADD, ...event });
    t.is(runOnce(vcpu, 'write', { rbx: event.gpa, rax: 1 }), 'out 11 = 1');
    t.regex(refused({ op: OP_EVENT_ADD }), /EEXIST.*KVM_IOEVENTFD/);
    t.regex(refused({ op: OP_EVENT_ADD, object: 2 }), /no such event/);
    t.regex(refused({ op: OP_EVENT_ADD, gpa: -4, length: 8 }), /past the last address/);
    t.regex(refused({ op: OP_EVENT_REMOVE, gpa: event.gpa + 4 }), /not there/);
    t.regex(refused({ op: OP_EVENT_ADD + 2 }), /no such operation/);
    t.regex(refused({ op: OP_EVENT_ADD, slot: abi.EVENT_COALESCED, length: 2 ** 32 }), /less than 4 GiB/);
    const secured = executor.secure(encode([{ op: OP_EVENT_ADD, ...event, gpa: event.gpa + 16 }]), 0, false);
    t.is(secured, abi.SECURED_CLOSED);
    t.is(runOnce(vcpu, 'write', { rbx: event.gpa, rax: 2 }), 'mmio write 200008 = 2');
    machine.run({ op: OP_EVENT_ADD, ...event });
    executor.clearSink(EVENTS);
    t.is(
      runOnce(vcpu, 'write', { rbx: event.gpa, rax: 3 }),
      'mmio write 200008 = 3',
      'what is left goes with its sink',
    );
    t.is(bell.take(), 1n);
    executor.clearEvent(1);
    bell.close();
  },
);

// ---- Exits -------------------------------------------------------------------------------------

machineTest('a read of a port gets the answer', (t, { vcpu }) => {
  const exit = new VcpuExit(vcpu);
  t.is(runOnce(vcpu, 'echo'), 'in 13');
  exit.dataView.setUint32(0, 0xcafe, true);
  t.is(next(vcpu), 'out 14 = cafe');
  t.is(next(vcpu), 'in 13');
  t.is(next(vcpu), 'out 14 = 0', 'no answer is 0');
});

machineTest('a read of MMIO gets the answer', (t, { vcpu }) => {
  const exit = new VcpuExit(vcpu);
  t.is(runOnce(vcpu, 'read', { rbx: 0xfee0_0000 }), 'mmio read fee00000');
  t.deepEqual([exit.size, exit.isWrite], [4, false]);
  exit.dataView.setUint32(0, 0xbeef, true);
  t.is(next(vcpu), 'out 10 = beef');
});

machineTest('a string instruction sends all its bytes', (t, { vcpu, space }) => {
  space.write(
    0x2000,
    Uint8Array.from('hello, host', (letter) => letter.charCodeAt(0)),
  );
  start(vcpu, 'send', { rsi: 0x2000, rcx: 11, rdx: 0x402 });
  const exit = new VcpuExit(vcpu);
  let sent = '';
  while (sent.length < 11) {
    vcpu.run();
    t.is(inWords(exit).slice(0, 7), 'out 402');
    sent += String.fromCharCode(...exit.data.subarray(0, exit.size * exit.count));
  }
  t.is(sent, 'hello, host');
});

machineTest('a guest that halts says so, and one that falls over too', (t, { vm, vcpu, space }) => {
  t.is(runOnce(vcpu, 'fall'), 'shutdown');
  const realMode = vm.createVcpu(1);
  space.store(0x2000, 1, 0xf4, 0); // hlt
  setSpecialRegisters(realMode, { cs: { ...getSpecialRegisters(realMode).cs, base: 0n, selector: 0 } });
  setRegisters(realMode, { rip: 0x2000n, rflags: 2n });
  t.is(next(realMode), 'hlt');
  realMode.close();
});

machineTest('an instruction that an exit interrupted can be finished without going on', (t, { vcpu }) => {
  const exit = new VcpuExit(vcpu);
  runOnce(vcpu, 'read', { rbx: 0xfee0_0000, rax: 5 });
  t.is(getRegisters(vcpu).rax, 5n);
  exit.dataView.setUint32(0, 0xbeef, true);
  vcpu.kick();
  t.is(vcpu.finish(), KVM_EXIT.INTR);
  t.is(getRegisters(vcpu).rax, 0xbeefn);
  t.is(next(vcpu), 'kicked', 'the kick is still there');
  t.is(next(vcpu), 'out 10 = beef');
});

// ---- Kicks -------------------------------------------------------------------------------------

machineTest('a kick before the run ends the run at once', (t, { vcpu }) => {
  start(vcpu, 'spin');
  vcpu.kick();
  vcpu.kick();
  t.is(next(vcpu), 'kicked');
  vcpu.kick();
  t.is(next(vcpu), 'kicked');
  t.is(runOnce(vcpu, 'write', { rbx: 0x3000, rax: 1 }), 'out 11 = 1', 'and no later one');
});

/** Kicks each time it is told to, after a short and varying while. */
const KICKER = `
const { parentPort, workerData } = require('node:worker_threads');
const { Vcpu } = require(workerData.addon);
const vcpu = Vcpu.fromToken(workerData.token);
const turn = new Int32Array(workerData.turn);
parentPort.postMessage('ready');
for (let round = 0; round < workerData.rounds; round++) {
  Atomics.wait(turn, 0, round);
  for (let spin = (round * 37) % 2000; spin > 0; spin--) Atomics.load(turn, 0);
  vcpu.kick();
}
vcpu.close();
`;

machineTest('a kick from another thread never loses the race', async (t, { vcpu }) => {
  const rounds = 1000;
  const turn = new Int32Array(new SharedArrayBuffer(4));
  const addon = artefact('membacking.node').pathname;
  const worker = new Worker(KICKER, {
    eval: true,
    workerData: { token: vcpu.token, turn: turn.buffer, rounds, addon },
  });
  await once(worker, 'message');
  start(vcpu, 'spin');
  for (let round = 0; round < rounds; round++) {
    Atomics.store(turn, 0, round + 1);
    Atomics.notify(turn, 0);
    if (next(vcpu) !== 'kicked') t.fail(`round ${round}`);
  }
  await once(worker, 'exit');
  t.is(runOnce(vcpu, 'echo'), 'in 13', 'each kick ended one run');
});

machineTest('a guest runs in the background while JavaScript goes on', async (t, { vcpu, space }) => {
  const exit = new VcpuExit(vcpu);
  start(vcpu, 'watch', { rbx: 0x3000 });
  const run = vcpu.runAsync();
  t.throws(() => vcpu.run(), { code: 'ERR_VCPU_RUNNING' });
  t.throws(() => vcpu.runAsync(), { code: 'ERR_VCPU_RUNNING' });
  t.throws(() => getRegisters(vcpu), { code: 'ERR_VCPU_RUNNING' });
  await sleep(20);
  space.store(0x3000, 4, 0x55, 0);
  t.is(await run, KVM_EXIT.IO);
  t.is(inWords(exit), 'out 12 = 55');
  start(vcpu, 'echo');
  await vcpu.runAsync();
  exit.dataView.setUint32(0, 99, true);
  await vcpu.runAsync();
  t.is(inWords(exit), 'out 14 = 63');
});

machineTest('a background run ends by a kick', async (t, { vcpu }) => {
  start(vcpu, 'spin');
  for (let round = 0; round < 100; round++) {
    const run = vcpu.runAsync();
    if (round % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    vcpu.kick();
    t.is(await run, KVM_EXIT.INTR);
  }
});

machineTest('two vCPUs run at once and see each other', async (t, { vm, vcpu, space }) => {
  const second = vm.createVcpu(1);
  enterUserMode(second);
  start(vcpu, 'watch', { rbx: 0x3000 });
  start(second, 'spin');
  const [watching, spinning] = [vcpu.runAsync(), second.runAsync()];
  second.kick();
  t.is(await spinning, KVM_EXIT.INTR);
  start(second, 'write', { rbx: 0x3000, rax: 0x99 });
  t.is(await second.runAsync(), KVM_EXIT.IO);
  t.is(await watching, KVM_EXIT.IO);
  t.is(inWords(new VcpuExit(vcpu)), 'out 12 = 99');
  t.is(space.load(0x3000, 4), 0x99);
  second.close();
});

// ---- Pauses ------------------------------------------------------------------------------------

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

machineTest('a paused guest stands still, and goes on without an exit', async (t, { vm, vcpu, space, ...machine }) => {
  start(vcpu, 'count', { rbx: 0x3000 });
  const run = vcpu.runAsync();
  const system = { sink: PARTITION, va: VA, length: GUEST_SIZE };
  for (let round = 0; round < 50; round++) {
    while (space.load(0x3000, 4) < round + 1) await sleep(1);
    vm.pause();
    const counted = space.load(0x3000, 4);
    machine.run({ op: OP_SLOT_DELETE, ...system }, { op: OP_SLOT_ADD, ...system });
    if (round === 0) await sleep(20);
    t.is(space.load(0x3000, 4), counted);
    space.store(0x3000, 4, round, 0);
    vm.resume();
  }
  vcpu.kick();
  t.is(await run, KVM_EXIT.INTR);
  t.true(new VcpuExit(vcpu).isKicked);
});

machineTest('pauses nest, and hold runs that begin later', async (t, { vm, vcpu }) => {
  vm.pause();
  vm.pause();
  t.throws(() => vcpu.run(), { code: 'EBUSY', message: /paused/ });
  vm.resume();
  let ended = false;
  const second = vm.createVcpu(1);
  const run = second.runAsync().then(() => {
    ended = true;
  });
  await sleep(20);
  t.false(ended);
  vm.resume();
  await run;
  t.throws(() => vm.resume(), { code: 'ERR_NOT_PAUSED' });
  vm.pause();
  const held = second.runAsync();
  second.kick();
  t.is(await held, KVM_EXIT.INTR, 'a kick ends what is held');
  vm.resume();
  second.close();
});

// ---- Closing -----------------------------------------------------------------------------------

/** Starts a run in the background, says so, and is then told to end without waiting for it. */
const RUNNER = `
const { parentPort, workerData } = require('node:worker_threads');
const { Vcpu } = require(workerData.addon);
const run = Vcpu.fromToken(workerData.token).runAsync();
parentPort.postMessage('running');
parentPort.once('message', () => process.exit());
`;

machineTest('a worker may end while a guest runs in its background', async (t, { vcpu }) => {
  start(vcpu, 'spin');
  for (const end of ['terminate', 'exit'] as const) {
    const workerData = { token: vcpu.token, addon: artefact('membacking.node').pathname };
    const worker = new Worker(RUNNER, { eval: true, workerData });
    await once(worker, 'message');
    t.throws(() => vcpu.run(), { code: 'ERR_VCPU_RUNNING' });
    const ended = once(worker, 'exit');
    if (end === 'exit') worker.postMessage('end');
    else await worker.terminate();
    await ended;
  }
  t.is(runOnce(vcpu, 'echo'), 'in 13', 'the vCPU is free');
});

/** A virtual machine whose guest never leaves: its vCPU. Source for programs of their own. */
const ENDLESS = `
const { KvmPartition, MemoryMap, SharedMemory, Vcpu } = await import(INDEX);
const map = new MemoryMap();
const root = map.createRegion({ name: 'root', kind: 'container', size: 2 ** 32 });
const flash = map.createRegion({ name: 'flash', kind: 'ram', size: 0x1000 }).place(root, { offset: 0xfffff000 });
flash.map({ object: SharedMemory.create(0x1000) });
const space = map.createAddressSpace({ name: 'guest', root });
const va = map.attachVaSpace(space);
const partition = KvmPartition.open();
map.attachPartition(partition, { space, va });
va.memory.write(0xfffffff0, Uint8Array.of(0xeb, 0xfe));
const vcpu = partition.createVcpu(0);
globalThis.kept = vcpu; // it must not be collected
`;
const RUN = "parentPort.postMessage('running'); for (;;) vcpu.run();";
const OTHERS_VCPU = `
const { Vcpu } = await import(workerData.index);
const vcpu = Vcpu.fromToken(workerData.token);
`;
const soon = (action: string) => `once('message', () => setTimeout(() => { ${action} }, 50));`;

/** Ends of a process while a worker of it is in the guest: what the main thread does, and the worker. */
const ENDINGS: [title: string, main: string, worker: string][] = [
  ['the process ends', `${ENDLESS} start({ token: vcpu.token }).${soon('process.exit(7)')}`, OTHERS_VCPU + RUN],
  ['the process ends, whose main thread never had this package', `start({}).${soon('process.exit(7)')}`, ENDLESS + RUN],
  [
    'the process ends while the run waits in a machine that is paused',
    `${ENDLESS} partition.pause(); start({ token: vcpu.token }).${soon('process.exit(7)')}`,
    OTHERS_VCPU + RUN,
  ],
  [
    'the worker is terminated',
    `const worker = start({}); worker.${soon('worker.terminate().then(() => process.exit(7))')}`,
    ENDLESS + RUN,
  ],
];

for (const [title, main, worker] of ENDINGS) {
  kvmTest(`a guest that never leaves a worker holds nobody up: ${title}`, async (t) => {
    const program = `
      import { Worker } from 'node:worker_threads';
      const INDEX = process.argv[1];
      const body = process.argv[2];
      const start = (data) => new Worker(body, { eval: true, workerData: { index: INDEX, ...data } });
      ${main}`;
    const body = `
      import { parentPort, workerData } from 'node:worker_threads';
      const INDEX = workerData.index;
      ${worker}`;
    const args = ['--input-type=module', '-e', program, artefact('index.js').href, body];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
    t.deepEqual(await once(child, 'exit'), [7, null]);
    clearTimeout(timer);
  });
}

kvmTest('everything closes in every order and leaves nothing behind', (t) => {
  closeAll(makeMachine());
  const before = footprint();
  const names = ['vcpu', 'vm', 'kvm', 'executor', 'space', 'shared', 'private'] as const;
  for (let rotation = 0; rotation < names.length; rotation++) {
    for (const order of [names, [...names].reverse()]) {
      const machine = makeMachine();
      runOnce(machine.vcpu, 'write', { rbx: 0x3000 });
      for (let index = 0; index < names.length; index++) machine[order[(index + rotation) % names.length]!].close();
      closeAll(machine);
      t.throws(() => machine.vcpu.run(), { code: 'ERR_CLOSED' });
      t.throws(() => machine.vm.fd, { code: 'ERR_CLOSED' });
      t.throws(() => machine.kvm.createVm(), { code: 'ERR_CLOSED' });
    }
  }
  t.deepEqual(footprint(), before);
});

machineTest('a guest loses its memory and its vCPU when the VM is closed', (t, { vm, vcpu }) => {
  t.is(runOnce(vcpu, 'write', { rbx: 0x3000, rax: 1 }), 'out 11 = 1');
  vm.close();
  t.throws(() => vcpu.run(), { code: 'EBADF', message: /the VM is closed/ });
});

machineTest('closing a vCPU, or its VM, ends a run in the background', async (t, { vm, vcpu, read }) => {
  const second = vm.createVcpu(1);
  enterUserMode(second);
  start(vcpu, 'spin');
  start(second, 'count', { rbx: 0x3000 });
  const [first, other] = [vcpu.runAsync(), second.runAsync()];
  while (read(0x3000, 4).every((byte) => byte === 0)) await sleep(1);
  vcpu.close();
  await t.throwsAsync(first, { code: 'ERR_CLOSED' });
  vm.close();
  t.is(await other, KVM_EXIT.INTR);
  second.close();
});
