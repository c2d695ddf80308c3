// Clients that die, stop or refuse: the manager goes on, and nobody else loses anything.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import { SharedMemory } from '../ts/index.ts';
import { Mapper } from '../ts/sinks/mapper.ts';
import { AT, BAR, clientTest, PAGE } from './support/clients.ts';
import { DeviceProcess } from './support/device-process.ts';
import { Failing } from './support/failing.ts';
import { tries } from './support/random.ts';
import { MIB } from './support/vm.ts';

const protect = (manager: GuestMemoryManager, access: 'none' | 'rwx') =>
  manager.setVtlProtection(0, { gpa: AT, length: PAGE }, access);
const READ = `memory.readU8(${AT})`;
const mappersOf = ({ map }: GuestMemoryManager) => [...map.context.sinks].filter((sink) => sink instanceof Mapper);

clientTest('a change that a stopped client does not confirm is taken back, also there', async (t, manager) => {
  const client = manager.client();
  const stopped = await DeviceProcess.open(client.share({ name: 'disk', deadline: 100 }));
  const other = await DeviceProcess.open(client.share({ lazy: true }));
  t.is(await other.run(READ), 0);
  await stopped.stop();
  for (let round = 0; round < 3; round++) {
    const error = t.throws(() => protect(manager, 'none'), { code: 'PLAN_FAILED', message: /did not confirm/ });
    t.like(error, { details: { who: `disk (process ${stopped.pid})` } });
  }
  t.is(await other.run(READ), 0);
  stopped.resume();
  t.is(await stopped.run(READ), 0);
  protect(manager, 'none');
  t.is(await stopped.run(READ), 'GUEST_ACCESS hole');
  await Promise.all([stopped.end(), other.end()]);
});

clientTest('a stopped client is cut off where the manager was told so: its own child is killed', async (t, manager) => {
  const client = manager.client();
  const stopped = await DeviceProcess.open(client.share({ name: 'disk', deadline: 100, whenSilent: 'cut-off' }));
  const other = await DeviceProcess.open(client.share());
  const warned = once(process, 'warning');
  await stopped.stop();
  protect(manager, 'none');
  t.is(await stopped.ended, 'SIGKILL');
  const [{ code, message }] = await warned;
  t.is(code, 'CLIENT_CUT_OFF');
  t.regex(message, /"disk" \(process \d+\) was cut off.*it was killed/);
  t.is(await other.run(READ), 'GUEST_ACCESS hole');
  t.is(mappersOf(manager).length, 1);
  await other.end();
});

const SIZE = 64 * MIB;

/** Protects every other page of RAM above 1 MiB, in one transaction: more commands than a socket has room for. */
function protectMany(manager: GuestMemoryManager, access: 'none' | 'rwx'): void {
  manager.map.transaction(() => {
    for (let gpa = MIB; gpa < SIZE; gpa += 2 * PAGE) manager.setVtlProtection(0, { gpa, length: PAGE }, access);
  });
}

const READ_MANY = `Array.from({ length: 4 }, (_, i) => { try { return memory.readU8(${AT} + i * ${PAGE}) } catch { return -1 } })`;

clientTest(
  'a client that reads slowly takes its time; one that does not read at all loses alone',
  async (t, manager) => {
    const client = manager.client();
    const slow = await DeviceProcess.open(client.share({ name: 'disk', deadline: 20_000 }));
    const other = await DeviceProcess.open(client.share({ deadline: 20_000 }));
    // Stopped and let go on in turns, by somebody else, as this process waits.
    const turns = `for i in $(seq 60); do kill -STOP ${slow.pid}; sleep 0.01; kill -CONT ${slow.pid}; sleep 0.002; done`;
    const stopping = once(spawn('sh', ['-c', turns]), 'exit');
    for (const access of ['none', 'rwx', 'none'] as const) protectMany(manager, access);
    await stopping;
    for (const each of [slow, other]) t.deepEqual(await each.run(READ_MANY), [-1, 0, -1, 0]);
    await slow.end();

    // Time enough to map all of these pieces on a machine that is busy.
    const stopped = await DeviceProcess.open(client.share({ deadline: 3000 }));
    await stopped.stop();
    t.throws(() => protectMany(manager, 'rwx'), { code: 'PLAN_FAILED' });
    t.is(await stopped.ended, 'SIGKILL', 'what takes the change back finds no room');
    t.deepEqual(await other.run(READ_MANY), [-1, 0, -1, 0]);
    protectMany(manager, 'rwx');
    t.deepEqual(await other.run(READ_MANY), [0, 0, 0, 0]);
    await other.end();
  },
  { ram: [{ ranges: [{ gpa: 0, length: SIZE }] }] },
);

clientTest('processes are killed at any point of changes, which go on', async (t, manager) => {
  const kills = tries(20);
  const client = manager.client();
  const witness = await DeviceProcess.open(client.share());
  const { control, region } = manager.deviceMapper.newRegion(PAGE, 'bar');
  const file = SharedMemory.create(PAGE);
  file.write(0, Uint8Array.of(5));
  region.map(0, file.fd, 0, PAGE, true);
  let changes = 0;
  for (let kill = 0; kill < kills; kill++) {
    const device = await DeviceProcess.open(client.share({ lazy: kill % 2 === 0 }));
    device.run(`setTimeout(() => process.kill(process.pid, 'SIGKILL'), ${kill % 7}); ${READ}`).catch(() => {});
    let isAlive = true;
    device.ended.then(() => {
      isAlive = false;
    });
    while (isAlive) {
      control.mapToGuest(BAR);
      control.unmapFromGuest();
      changes += 2;
      await new Promise(setImmediate);
    }
    t.is(await device.ended, 'SIGKILL');
  }
  t.log(`${kills} kills, ${changes} changes`);
  control.mapToGuest(BAR);
  t.is(await witness.run(`memory.readU8(${BAR})`), 5);
  while (mappersOf(manager).length > 1) await new Promise(setImmediate);
  file.close();
  await witness.end();
});

clientTest('each failure point of a change leaves three clients as they were', async (t, manager) => {
  const client = manager.client();
  const devices = await Promise.all(
    [{}, { lazy: true }, { readOnly: true }].map((options) => DeviceProcess.open(client.share(options))),
  );
  const seen = () => Promise.all(devices.map((each) => each.run(`[${READ}, memory.readU8(${AT} + ${PAGE})]`)));
  const before = await seen();
  const failing = new Failing(manager.map.context);
  let failed = 0;
  for (let after = 0; ; after++) {
    failing.after = after;
    try {
      protect(manager, 'none');
      break;
    } catch {
      failed++;
      failing.after = Number.POSITIVE_INFINITY;
      t.deepEqual(await seen(), before, `after ${after} commands`);
    }
  }
  failing.after = Number.POSITIVE_INFINITY;
  t.true(failed >= 4, `${failed}`);
  t.deepEqual(
    await seen(),
    devices.map(() => 'GUEST_ACCESS hole'),
  );
  await Promise.all(devices.map((each) => each.end()));
});
