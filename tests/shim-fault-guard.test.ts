// A fault at guest memory leaves the thread as it was: protection-key rights, signal mask, alternate stack and the
// control words of the floating-point units.

import { once } from 'node:events';
import { ftruncateSync, openSync, unlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import * as abi from '../assembly/abi.ts';
import { artefact } from '../ts/core/artefact.ts';
import { native } from '../ts/core/native.ts';
import { enterUserMode, guestImage, kvmTest, runOnce, start } from './support/guest.ts';
import { makeWorld, PAGE, PARTITION, READ, SHARED, VA, type World } from './support/shim-plan.ts';

const { OP_VA_MAP, OP_SLOT_ADD } = abi;
const HELPER = fileURLToPath(artefact('obj/thread-state.node'));
const ADDON = fileURLToPath(artefact('membacking.node'));
const FILE = 3;

/** State of a thread, as tests/native/thread-state.cc reads it. */
interface ThreadState {
  readonly keyRights: string;
  readonly signalMask: string;
  readonly alternateStack: string;
  readonly x87Control: string;
  readonly sseControl: string;
}

/** Everything that can fault in the world of `makeFaultyWorld`, as source for workers too: gives how often it did. */
const FAULTS = `(space) => {
  const [hole, readOnly, gone] = [0x20000, 0x21000, 0x22000];
  const bytes = new Uint8Array(3 * 4096);
  const accesses = [
    ...[hole, gone].flatMap((at) => [() => space.read(at, bytes), () => space.load(at, 4)]),
    ...[hole, readOnly, gone].flatMap((at) => [
      () => space.write(at, bytes), () => space.store(at, 8, 1, 2), () => space.compareExchange(at, 2, 0, 0, 1, 0),
    ]),
    () => space.read(hole - 100, bytes),
    () => space.write(hole - 100, bytes),
  ];
  return accesses.filter((access) => access() < 0).length;
}`;
const FAULTS_MADE = 15;

/** Memory in front of page 20, where a hole is; page 21 is read-only, page 22 behind the end of its file. */
function makeFaultyWorld(): World {
  const world = makeWorld({ objectSize: 0x20 * PAGE });
  const path = join(tmpdir(), `membacking-guard-${process.pid}-${Math.random()}`);
  const fd = openSync(path, 'w+');
  unlinkSync(path);
  ftruncateSync(fd, PAGE);
  const file = native().MemoryObject.fromFd(fd, PAGE, true);
  world.executor.setObject(FILE, file);
  world.run(
    { op: OP_VA_MAP, gpa: 0, length: 0x20 * PAGE, object: SHARED },
    { op: OP_VA_MAP, gpa: 0x21 * PAGE, object: SHARED, access: READ },
    { op: OP_VA_MAP, gpa: 0x22 * PAGE, object: FILE },
  );
  ftruncateSync(fd, 0);
  file.close();
  return world;
}

const { around } = createRequire(import.meta.url)(HELPER) as {
  around(body: () => void): [ThreadState, ThreadState];
};

function statesHere({ space }: World): [ThreadState, ThreadState] {
  // biome-ignore lint/security/noGlobalEval: the same source as in a worker
  const faults = eval(FAULTS) as (space: World['space']) => number;
  return around(() => {
    if (faults(space) !== FAULTS_MADE) throw new Error('not every access faulted');
  });
}

const hasKeys = around(() => {})[0].keyRights !== 'none';

test('faults on the main thread change nothing of it', (t) => {
  const world = makeFaultyWorld();
  const [before, after] = statesHere(world);
  t.deepEqual(after, before);
  world.close();
});

const WORKER = `
const { parentPort, workerData } = require('node:worker_threads');
const { Reservation, Vcpu } = require(workerData.addon);
const { around } = require(workerData.helper);
const space = Reservation.fromToken(workerData.space);
const vcpu = workerData.vcpu === undefined ? undefined : Vcpu.fromToken(workerData.vcpu);
let [reason, count] = [0, 0];
const states = around(() => {
  reason = vcpu?.run();
  count = (${FAULTS})(space);
});
space.close();
vcpu?.close();
parentPort.postMessage({ states, reason, count });
`;

interface Answer {
  readonly states: [ThreadState, ThreadState];
  readonly reason: number | undefined;
  readonly count: number;
}

async function inWorker(space: World['space'], vcpu?: bigint | number): Promise<Answer> {
  const workerData = { addon: ADDON, helper: HELPER, space: space.token, vcpu };
  const worker = new Worker(WORKER, { eval: true, workerData });
  const [answer] = await once(worker, 'message');
  await worker.terminate();
  return answer;
}

test('faults on a worker change nothing of it', async (t) => {
  const world = makeFaultyWorld();
  const { states, count } = await inWorker(world.space);
  t.is(count, FAULTS_MADE);
  t.deepEqual(states[1], states[0]);
  world.close();
});

kvmTest('faults on a thread that runs a vCPU change nothing of it, nor does the run', async (t) => {
  const world = makeFaultyWorld();
  world.space.write(0, guestImage());
  const kvm = native().Kvm.open();
  const vm = kvm.createVm();
  world.executor.setSink(PARTITION, abi.SINK_PARTITION, vm);
  world.run({ op: OP_SLOT_ADD, sink: PARTITION, length: 0x20 * PAGE, va: VA });
  const vcpu = vm.createVcpu(0);
  enterUserMode(vcpu);
  t.is(runOnce(vcpu, 'read', { rbx: 0 }), 'out 10 = 0');
  const [before, after] = statesHere(world);
  t.deepEqual(after, before, 'on the main thread');

  start(vcpu, 'spin');
  const answer = inWorker(world.space, vcpu.token);
  for (let isAnswered = false; !isAnswered; ) {
    vcpu.kick();
    isAnswered = await Promise.race([answer.then(() => true), new Promise<false>((go) => setTimeout(go, 20, false))]);
  }
  const { states, reason, count } = await answer;
  t.is(reason, 10, 'kicked');
  t.is(count, FAULTS_MADE);
  t.deepEqual(states[1], states[0]);
  vcpu.close();
  vm.close();
  kvm.close();
  world.close();
});

(hasKeys ? test : test.skip)(
  'rights of protection keys were among it (skipped where the processor has no keys)',
  (t) => {
    const world = makeFaultyWorld();
    const [{ keyRights }] = statesHere(world);
    // Rights that the kernel enters a handler with.
    t.not(keyRights, '55555554');
    world.close();
  },
);
