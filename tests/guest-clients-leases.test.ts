// Leases of other processes: what a client holds is not taken away, errors say which client has it, and it ends with
// its process, or when a monitor has waited long enough.

import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { GuestMemoryClient, type GuestMemoryManager, type MembackingError } from '../ts/index.ts';
import { AT, clientTest, deviceOf, PAGE, settled } from './support/clients.ts';
import { DeviceProcess } from './support/device-process.ts';
import { PATIENCE } from './support/patience.ts';
import { got, MIB, vmTest, wrote } from './support/vm.ts';

const RANGE = { gpa: AT, length: PAGE };
const protect = (manager: GuestMemoryManager) => manager.setVtlProtection(0, RANGE, 'none');
/** Takes a lease in a device's process. */
const lock = (gpa = AT, mode = 'write') =>
  `globalThis.lease = memory.lock({ gpa: ${gpa}, length: 16 }, '${mode}', { holder: 'queue' }); 0`;
const READ = `memory.readU8(${AT})`;

clientTest('a lease that a ticket leads to in the process of the manager holds, too', async (t, manager) => {
  const client = manager.client();
  const ticket = client.share({ ranges: [{ gpa: AT, length: PAGE }] });
  const opened = await GuestMemoryClient.open(ticket);
  const lease = opened.memory.lock({ gpa: AT, length: 8 }, 'write', { holder: 'worker' });
  t.throws(() => manager.setVtlProtection(0, { gpa: AT, length: PAGE }, 'none'), { code: 'LEASED' });
  t.throws(() => client.unshare(ticket), { code: 'IN_USE' });
  lease.release();
  client.unshare(ticket);
  t.throws(() => opened.memory.readU8(AT), { code: 'GUEST_ACCESS' });
  opened.close();
});

clientTest('what a client has leased is not taken away, and the error says who has it', async (t, manager) => {
  const ticket = manager.client().share({ name: 'disk' });
  const device = await DeviceProcess.open(ticket);
  await device.run(lock());
  const holder = `queue in disk (process ${device.pid})`;
  const leases = [{ holder, mode: 'write', gpa: AT, length: 16 }] as const;
  t.deepEqual(manager.map.leases(), leases);
  const error = t.throws(() => protect(manager), { code: 'LEASED' });
  t.deepEqual((error as MembackingError).details, { leases });
  t.true(error!.message.includes(`in use by "${holder}"`));
  t.throws(() => manager.discard(RANGE), { code: 'LEASED' });
  t.throws(() => manager.client().unshare(ticket), { code: 'LEASED' });
  t.is(await device.run(`lease.view.fill(7); ${READ}`), 7);
  t.is(manager.guestMemory.readU8(AT), 7);
  manager.setVtlProtection(0, { gpa: AT + PAGE, length: PAGE }, 'none');
  await device.run('lease.release()');
  t.deepEqual(manager.map.leases(), []);
  protect(manager);
  t.is(await device.run(READ), 'GUEST_ACCESS hole');
  manager.client().unshare(ticket);
  await device.end();
});

clientTest(
  'a lease to read goes on with read-only memory; a lazy client leases what it has not seen',
  async (t, manager) => {
    const device = await deviceOf(manager, { lazy: true });
    t.is(await device.run(lock(AT, 'read')), 0);
    manager.setVtlProtection(0, RANGE, 'r', { nearest: true });
    t.throws(() => protect(manager), { code: 'LEASED' });
    t.is(await device.run(lock(AT)), 'GUEST_ACCESS read-only');
    t.is(await device.run(lock(8 * MIB)), 'GUEST_ACCESS hole');
    t.is(await device.run(`memory.lock({ gpa: ${2 * MIB - 8}, length: 16 }, 'read', { holder: 'both units' }); 0`), 0);
    t.is(manager.map.leases().length, 2);
    await device.end();
  },
);

clientTest('a change waits until a client lets go, and no new lease comes in between', async (t, manager) => {
  const device = await deviceOf(manager, { name: 'disk' });
  await device.run(lock());
  let isDone = false;
  const waiting = manager
    .whenFree(() => protect(manager))
    .then(() => {
      isDone = true;
    });
  t.is(await device.run(lock(AT, 'read')), 'LEASED');
  t.is(await device.run(`lease.released`), false);
  t.is(
    await device.run(`memory.lock({ gpa: ${AT + PAGE}, length: 16 }, 'write', { holder: 'other page' }).release()`),
    undefined,
  );
  t.false(isDone);
  await device.run('lease.release()');
  await waiting;
  t.is(await device.run(READ), 'GUEST_ACCESS hole');
  await t.throwsAsync(
    manager.whenFree(() => {
      throw new Error('own');
    }),
    { message: 'own' },
  );
  await device.end();
});

vmTest('while a change waits for a client, the guest is kept from what is leased', {}, async (t, manager, guest) => {
  t.timeout(PATIENCE);
  const device = await deviceOf(manager);
  await device.run(lock());
  t.is(guest.write(AT, 5), wrote(5));
  const waiting = manager.whenFree(() => protect(manager));
  t.regex(guest.read(AT), /^(?!out)/);
  t.is(await device.run(READ), 5, 'who has leased it has it');
  await device.run('lease.release()');
  await waiting;
  manager.setVtlProtection(0, RANGE, 'rwx');
  t.is(guest.read(AT), got(5));
  await device.end();
});

for (const [ending, end] of [
  ['is killed', "process.kill(process.pid, 'SIGKILL')"],
  ['exits', 'process.exit()'],
  ['closes its client', 'client.close()'],
]) {
  clientTest(`the leases of a process that ${ending} end with that`, async (t, manager) => {
    const device = await deviceOf(manager);
    await device.run(lock());
    await device.run('lease.view[0]');
    const freed = manager.whenFree(() => protect(manager), { deadline: 5000 });
    device.run(`setTimeout(() => ${end}, 20); 0`).catch(() => {});
    await freed;
    t.deepEqual(manager.map.leases(), []);
    await device.run('0').then(
      () => device.end(),
      () => {},
    );
  });
}

clientTest('at the deadline a monitor ends what a client holds, with a view or without', async (t, manager) => {
  const device = await deviceOf(manager);
  await device.run(lock());
  await manager.whenFree(() => protect(manager), { deadline: 10, revoke: true });
  t.is(await device.run('lease.released'), true);
  t.is(await device.run('lease.view'), 'CLOSED');
  t.is(await device.run(READ), 'GUEST_ACCESS hole');
  manager.setVtlProtection(0, RANGE, 'rwx');

  await device.run(lock());
  await device.run('globalThis.view = lease.view; view.fill(1); 0');
  await manager.whenFree(() => protect(manager), { deadline: 10, revoke: true });
  t.deepEqual(await device.run('[lease.released, view.length]'), [true, 0]);
  await device.end();
});

clientTest('a lease without a view ends while its thread is busy, whose next access is refused', async (t, manager) => {
  const device = await deviceOf(manager);
  await device.run(lock());
  const busy = device.run(`for (;;) memory.writeU8(${AT}, 9); 0`);
  while (manager.guestMemory.readU8(AT) !== 9) await sleep(1);
  await manager.whenFree(() => protect(manager), { deadline: 10, revoke: true });
  manager.guestMemory.writeU8(AT + PAGE, 1);
  t.is(await busy, 'GUEST_ACCESS hole');
  t.is(await device.run('lease.released'), true);
  await device.end();
});

/** Has a device look at a view for as long as it lives, so that nobody can ask its thread for anything. */
async function block(device: DeviceProcess, manager: GuestMemoryManager): Promise<void> {
  await device.run(lock());
  await device.run('globalThis.view = lease.view; 0');
  device.run('setTimeout(() => { for (;;) view[0] = 9; }, 1); 0').catch(() => {});
  while (manager.guestMemory.readU8(AT) !== 9) await sleep(1);
}

clientTest(
  'a process that does not come to it keeps its view, and the change is refused with its name',
  async (t, manager) => {
    const device = await deviceOf(manager, { name: 'disk' });
    await block(device, manager);
    const revoked = manager.whenFree(() => protect(manager), { deadline: 10, revoke: true });
    const holder = `queue in disk (process ${device.pid})`;
    t.like(await t.throwsAsync(revoked, { code: 'LEASED' }), { details: { leases: [{ holder }] } });
    t.is(manager.guestMemory.readU8(AT), 9);
  },
);

clientTest('where the manager was told so, it is cut off instead', async (t, manager) => {
  const [device, other] = [await deviceOf(manager, { whenSilent: 'cut-off' }), await deviceOf(manager)];
  await block(device, manager);
  const warned = once(process, 'warning');
  await manager.whenFree(() => protect(manager), { deadline: 10, revoke: true });
  t.is(await device.ended, 'SIGKILL');
  t.like((await warned)[0], { code: 'CLIENT_CUT_OFF' });
  t.is(await other.run(READ), 'GUEST_ACCESS hole');
  await other.end();
});

clientTest('a manager that is closed ends leases of clients, and says whose they were', async (t, manager) => {
  const device = await deviceOf(manager, { name: 'disk' });
  await device.run(lock());
  await device.run('lease.view[0]');
  const warned = once(process, 'warning');
  manager.close();
  const [warning] = await warned;
  t.like(warning, { code: 'LEASES_ENDED' });
  t.true(warning.message.includes(`queue in disk (process ${device.pid})`));
  await settled(t, async () => (await device.run(READ)) === 'GUEST_ACCESS hole');
  t.is(await device.run('lease.released'), true);
  t.is(await device.end(), 0);
});
