// Leases of other threads: what a worker holds is not taken away, refused changes say who holds it, and it ends with
// its worker, or when a monitor has waited long enough.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import { type GuestMemory, type GuestMemoryManager, MembackingError, WorkerGuestMemory } from '../ts/index.ts';
import { AT, hide, leaseTest, PAM } from './support/leases.ts';
import { PAGE } from './support/shim-plan.ts';
import { buildVm, MIB } from './support/vm.ts';

/** Worker with the guest's memory. `body` may post to `parentPort`. */
async function workerOn(manager: GuestMemoryManager, body: string): Promise<Worker> {
  const code = `
const { parentPort, workerData } = require('node:worker_threads');
const { module: path, token, AT, PAGE } = workerData;
import(path).then(({ WorkerGuestMemory }) => {
  const memory = WorkerGuestMemory.fromToken(token);
  const lock = (mode = 'write') => memory.lock({ gpa: AT, length: PAGE }, mode, { holder: 'disk worker' });
  ${body}
  parentPort.postMessage('begun');
});`;
  const workerData = { module: artefact('index.js').href, token: manager.va.token, AT, PAGE };
  const worker = new Worker(code, { eval: true, workerData });
  await once(worker, 'message');
  return worker;
}

leaseTest('what a worker has leased is not taken away, and the error says who has it', async (t, manager) => {
  const worker = await workerOn(
    manager,
    `const lease = lock();
     lease.view[4] = 77;
     parentPort.once('message', () => {
       const { view } = lease;
       lease.release();
       parentPort.postMessage([view.length, lease.released]);
     });`,
  );
  t.is(manager.guestMemory.readU8(AT + 4), 77);
  const leases = [{ holder: 'disk worker', mode: 'write', gpa: AT, length: PAGE }] as const;
  t.deepEqual(manager.map.leases(), leases);
  const error = t.throws(() => hide(manager), { code: 'LEASED', message: /in use by "disk worker"/ });
  t.like(error, { details: { leases } });
  t.throws(() => manager.ramVisibility.set(PAM, 'read-only'), { code: 'LEASED' });
  t.throws(() => manager.discard({ gpa: AT, length: PAGE }), { code: 'LEASED' });
  const hidden = manager.whenFree(() => hide(manager));
  t.throws(() => manager.guestMemory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'late' }), { code: 'LEASED' });
  const other = WorkerGuestMemory.fromToken(manager.va.token);
  t.throws(() => other.lock({ gpa: AT, length: 8 }, 'read', { holder: 'late' }), { code: 'LEASED' });
  const answered = once(worker, 'message');
  worker.postMessage('release');
  t.deepEqual((await answered)[0], [0, true]);
  await hidden;
  t.is(manager.ramVisibility.at(AT), 'unmapped');
  other.close();
  await worker.terminate();
});

for (const ending of ['is terminated', 'exits']) {
  leaseTest(`the leases of a worker that ${ending} end with it`, async (t, manager) => {
    const worker = await workerOn(
      manager,
      `lock(); lock('read').view;
       parentPort.once('message', () => process.exit());`,
    );
    t.is(manager.map.leases().length, 2);
    const hidden = manager.whenFree(() => hide(manager), { deadline: 5000 });
    if (ending === 'exits') worker.postMessage('exit');
    else await worker.terminate();
    await hidden;
    t.deepEqual(manager.map.leases(), []);
  });
}

type Lock = (memory: GuestMemory) => unknown;

const LOCKS: Readonly<Record<string, Lock>> = {
  'a part of RAM': (memory) => memory.lock({ gpa: 8, length: 16 }, 'write', { holder: 'x' }),
  'more than there is': (memory) => memory.lock({ gpa: 4 * MIB - 8, length: 16 }, 'read', { holder: 'x' }),
  'what no VA space has': (memory) => memory.lock({ gpa: 2 ** 45, length: 8 }, 'read', { holder: 'x' }),
  'read-only memory to write': (memory) => memory.lock({ gpa: 0xd0000, length: 8 }, 'write', { holder: 'x' }),
  'read-only memory to read': (memory) => memory.lock({ gpa: 0xd0000, length: 8 }, 'read', { holder: 'x' }),
  'a view of read-only memory': (memory) => memory.lock({ gpa: 0xd0000, length: 8 }, 'read', { holder: 'x' }).view,
  'hidden memory': (memory) => memory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'x' }),
  'no bytes': (memory) => memory.lock({ gpa: 0, length: 0 }, 'read', { holder: 'x' }),
  'no address': (memory) => memory.lock({ gpa: -1, length: 1 }, 'read', { holder: 'x' }),
  'no such mode': (memory) => memory.lock({ gpa: 0, length: 1 }, 'keep' as never, { holder: 'x' }),
  'for nobody': (memory) => memory.lock({ gpa: 0, length: 1 }, 'read', {} as never),
};

leaseTest('a lease is refused in every class of guest memory for the same reasons', (t, manager) => {
  manager.ramVisibility.set({ gpa: 0xd0000, length: 0x4000 }, 'read-only');
  hide(manager);
  const other = WorkerGuestMemory.fromToken(manager.va.token);
  const answers = [manager.guestMemory, other].map((memory) =>
    Object.entries(LOCKS).map(([what, lock]) => {
      try {
        lock(memory);
        return `${what}: leased`;
      } catch (error) {
        const { code, message, details } = error as MembackingError;
        return `${what}: ${code} ${message} ${JSON.stringify(details)}`;
      }
    }),
  );
  t.deepEqual(answers[1], answers[0]);
  t.is(answers[0]!.filter((answer) => answer.endsWith(': leased')).length, 2);
  other.close();
  t.is(manager.map.leases().length, 3, 'those of this thread; the others ended with their memory');
  manager.ramVisibility.set(PAM, 'read-write');
});

leaseTest('a protection of a trust level heeds leases of its workers, and no others', (t, manager) => {
  manager.setVtlProtection(0, { gpa: MIB, length: PAGE }, 'rx');
  const [level, all] = [manager.client(0).token, manager.va.token].map((token) => WorkerGuestMemory.fromToken(token));
  const protect = () => manager.setVtlProtection(0, { gpa: AT, length: PAGE }, 'rx');
  const lease = level!.lock({ gpa: AT, length: 8 }, 'write', { holder: 'disk' });
  t.throws(protect, { code: 'LEASED', message: /"disk"/ });
  lease.release();
  all!.lock({ gpa: AT, length: 8 }, 'write', { holder: 'monitor' });
  protect();
  t.throws(() => level!.lock({ gpa: AT, length: 8 }, 'write', { holder: 'disk' }), {
    code: 'GUEST_ACCESS',
    message: /0xc9000 is read-only/,
  });
  for (const memory of [level!, all!]) memory.close();
});

leaseTest('a closed memory ends its leases and detaches their views', (t, manager) => {
  const other = WorkerGuestMemory.fromToken(manager.va.token);
  const leases = [1, 2].map((page) => other.lock({ gpa: page * PAGE, length: 8 }, 'write', { holder: 'disk' }));
  const { view } = leases[0]!;
  t.is(leases[0]!.view, view);
  other.close();
  t.deepEqual([view.length, ...leases.map(({ released }) => released)], [0, true, true]);
  for (const lease of leases) lease.release();
  t.deepEqual(manager.map.leases(), []);
});

leaseTest('each lease of a thread has the holder that it was taken for', (t, manager) => {
  const other = WorkerGuestMemory.fromToken(manager.va.token);
  const holders = ['disk', 'net', 'net', 'disk', 'a queue whose name is long enough to lie elsewhere', 'disk'];
  for (const [page, holder] of holders.entries()) {
    t.throws(() => other.lock({ gpa: 2 ** 52, length: 8 }, 'write', { holder: `${holder}, refused` }));
    other.lock({ gpa: page * PAGE, length: 8 }, 'write', { holder });
  }
  const leases = manager.map.leases().sort((one, another) => Number(one.gpa) - Number(another.gpa));
  t.deepEqual(
    leases.map((lease) => lease.holder),
    holders,
  );
  other.close();
});

leaseTest('at the deadline a monitor may end leases, whatever their holders do', async (t, manager) => {
  const other = WorkerGuestMemory.fromToken(manager.va.token);
  const own = manager.guestMemory.lock({ gpa: AT, length: 8 }, 'write', { holder: 'own' });
  const held = other.lock({ gpa: AT, length: 8 }, 'write', { holder: 'worker' });
  const { view } = own;
  await manager.whenFree(() => hide(manager), { deadline: 10, revoke: true });
  t.deepEqual([own.released, held.released, view.length], [true, true, 0]);
  for (const lease of [own, held]) t.throws(() => lease.view, { code: 'CLOSED' });
  for (const lease of [own, held]) lease.release();

  manager.ramVisibility.set(PAM, 'read-write');
  const shown = other.lock({ gpa: AT, length: 8 }, 'write', { holder: 'viewer' });
  shown.view[0] = 9;
  const { view: theirs } = shown;
  await manager.whenFree(() => hide(manager), { deadline: 10, revoke: true });
  t.deepEqual([shown.released, theirs.length], [true, 0], 'who has a view is asked');
  other.close();
  await t.throwsAsync(
    manager.whenFree(() => {}, { revoke: true }),
    { code: 'INVALID_ARGUMENT' },
  );
});

leaseTest('a worker that has a view lets it go when it is asked to', async (t, manager) => {
  const worker = await workerOn(
    manager,
    `const lease = lock();
     const { view } = lease;
     parentPort.on('message', () => parentPort.postMessage([view.length, lease.released]));`,
  );
  await manager.whenFree(() => hide(manager), { deadline: 10, revoke: true });
  const answered = once(worker, 'message');
  worker.postMessage('is it?');
  t.deepEqual((await answered)[0], [0, true]);
  await worker.terminate();
});

leaseTest('a worker that does not come to it keeps its view until it is terminated', async (t, manager) => {
  const worker = await workerOn(
    manager,
    `const { view } = lock();
     setTimeout(() => { for (;;) view[0] = 9; }, 1);`,
  );
  while (manager.guestMemory.readU8(AT) !== 9) await new Promise((resolve) => setTimeout(resolve, 1));
  const revoked = manager.whenFree(() => hide(manager), { deadline: 10, revoke: true });
  t.like(await t.throwsAsync(revoked, { code: 'LEASED' }), { details: { leases: [{ holder: 'disk worker' }] } });
  await worker.terminate();
  hide(manager);
});

test.serial('a manager that is closed ends the leases of other threads, and says whose they were', async (t) => {
  const manager = buildVm();
  const other = WorkerGuestMemory.fromToken(manager.va.token);
  const lease = other.lock({ gpa: MIB, length: 8 }, 'write', { holder: 'worker' });
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
  manager.close();
  t.like(await warned, { code: 'LEASES_ENDED' });
  t.true(lease.released);
  t.throws(() => other.readU8(MIB), { instanceOf: MembackingError, code: 'GUEST_ACCESS' });
  other.close();
});
