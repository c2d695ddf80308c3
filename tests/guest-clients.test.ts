// Guest memory in other processes: the same bytes there, whatever the map does; a change is complete when all have
// confirmed it, and nobody who does not keeps anything but himself.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { artefact } from '../ts/core/artefact.ts';
import { native } from '../ts/core/native.ts';
import { GuestMemoryClient, SharedMemory } from '../ts/index.ts';
import { Mapper } from '../ts/sinks/mapper.ts';
import { AT, BAR, clientTest, deviceOf, PAGE, settled } from './support/clients.ts';
import { DeviceProcess } from './support/device-process.ts';
import { MIB } from './support/vm.ts';

const HIGH_BAR = 0x2_0000_0000;

for (const lazy of [false, true]) {
  const kind = lazy ? 'lazy' : 'eager';
  clientTest(`${kind}: both sides see each other's writes, and every change of the map`, async (t, manager) => {
    const device = await deviceOf(manager, { lazy });
    manager.guestMemory.writeU32(AT, 0x1234);
    t.is(await device.run(`memory.readU32(${AT})`), 0x1234);
    await device.run(`memory.writeU64(${AT} + ${PAGE}, 5n)`);
    t.is(manager.guestMemory.readU64(AT + PAGE), 5n);
    t.is(await device.run(`Number(memory.compareExchange(${AT}, 4, 0x1234, 7))`), 0x1234);
    t.is(manager.guestMemory.readU32(AT), 7);

    const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'bar');
    const file = SharedMemory.create(4 * PAGE);
    region.map(0, file.fd, 0, 4 * PAGE, true);
    file.write(0, Uint8Array.of(9));
    t.is(await device.run(`memory.readU8(${BAR})`), 'GUEST_ACCESS hole');
    control.mapToGuest(BAR);
    t.is(await device.run(`memory.readU8(${BAR})`), 9);
    control.mapToGuest(HIGH_BAR);
    t.is(await device.run(`memory.readU8(${BAR})`), 'GUEST_ACCESS hole');
    t.is(await device.run(`memory.readU8(${HIGH_BAR})`), 9);
    control.unmapFromGuest();
    t.is(await device.run(`memory.readU8(${HIGH_BAR})`), 'GUEST_ACCESS hole');
    file.close();
    t.is(await device.end(), 0);
  });
}

clientTest('a read-only client has descriptors and mappings that cannot be written', async (t, manager) => {
  const device = await deviceOf(manager, { readOnly: true });
  manager.guestMemory.writeU8(AT, 3);
  t.is(await device.run(`memory.readU8(${AT})`), 3);
  t.is(await device.run(`memory.writeU8(${AT}, 4)`), 'GUEST_ACCESS read-only');
  t.deepEqual(await device.run('mappings(/memfd:ram/).map((line) => line.split(" ")[1])'), ['r--s']);
  t.is(await device.run('descriptors(/memfd:ram/).map((fd) => fs.writeSync(fd, "x"))'), 'EBADF');
  await device.end();
});

clientTest('a client sees the ranges of its share alone, and a lazy one maps what it has used', async (t, manager) => {
  const ranges = [
    { gpa: 3 * MIB, length: PAGE },
    { gpa: AT, length: 2 * PAGE },
  ];
  const narrow = await deviceOf(manager, { ranges });
  const reads = (at: number) => `memory.readU8(${at})`;
  t.is(await narrow.run(reads(AT)), 0);
  t.is(await narrow.run(reads(AT + 2 * PAGE)), 'GUEST_ACCESS hole');
  t.is(await narrow.run(reads(3 * MIB)), 0);
  t.is(await narrow.run(reads(3 * MIB - 1)), 'GUEST_ACCESS hole');
  t.is(await narrow.run('mappings(/memfd:ram/).length'), 2);
  const lazy = await deviceOf(manager, { lazy: true });
  t.deepEqual(await lazy.run('[mappings(/memfd:ram/).length, descriptors(/memfd:ram/).length]'), [0, 0]);
  t.is(await lazy.run(reads(AT)), 0);
  t.deepEqual(await lazy.run('[mappings(/memfd:ram/).length, descriptors(/memfd:ram/).length]'), [1, 1]);
  t.is(await lazy.run(`memory.read(${AT} - 8, new Uint8Array(16))`), undefined, 'a read over two units');
  t.is(await lazy.run(reads(5 * MIB)), 'GUEST_ACCESS hole');
  const [narrowEnd, lazyEnd] = await Promise.all([narrow.end(), lazy.end()]);
  t.deepEqual([narrowEnd, lazyEnd], [0, 0]);
});

clientTest('memory stays as long as somebody has it, also without its client', async (t, manager) => {
  const device = await deviceOf(manager, { lazy: true });
  await device.run('(await import("node:v8")).setFlagsFromString("--expose-gc")');
  await device.run('globalThis.gc = (await import("node:vm")).runInNewContext("gc")');
  await device.run('client = undefined');
  for (let turn = 0; turn < 3; turn++) await device.run('gc()');
  manager.guestMemory.writeU8(AT, 5);
  t.is(await device.run(`memory.readU8(${AT})`), 5);
  t.is(await device.end(), 0);
});

clientTest('a client is protected as its trust level is, before and after it came', async (t, manager) => {
  manager.setVtlProtection(2, { gpa: AT, length: PAGE }, 'none');
  const [vtl0, vtl2] = [await deviceOf(manager, { lazy: true }), await deviceOf(manager, {}, 2)];
  t.is(await vtl0.run(`memory.readU8(${AT})`), 0);
  t.is(await vtl2.run(`memory.readU8(${AT})`), 'GUEST_ACCESS hole');
  manager.setVtlProtection(2, { gpa: AT, length: PAGE }, 'rwx');
  manager.setVtlProtection(0, { gpa: AT, length: PAGE }, 'r', { nearest: true });
  t.is(await vtl2.run(`memory.writeU8(${AT}, 1)`), undefined);
  t.is(await vtl0.run(`memory.writeU8(${AT}, 2)`), 'GUEST_ACCESS read-only');
  t.is(await vtl0.run(`memory.readU8(${AT})`), 1);
  await Promise.all([vtl0.end(), vtl2.end()]);
});

clientTest('descriptors come once, and go with the last mapping', async (t, manager) => {
  const device = await deviceOf(manager);
  const held = () => device.run('descriptors(/memfd:(bar|ram)/).length');
  const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'bar');
  const file = SharedMemory.create(4 * PAGE, { name: 'bar' });
  region.map(0, file.fd, 0, PAGE, true);
  region.map(2 * PAGE, file.fd, PAGE, PAGE, true);
  file.close();
  t.is(await held(), 1);
  control.mapToGuest(BAR);
  t.is(await held(), 2);
  region.unmap(0, PAGE);
  t.is(await held(), 2);
  region.unmap(0, 4 * PAGE);
  // What is not mapped any more is forgotten after the change.
  await settled(t, async () => (await held()) === 1);
  await device.end();
});

clientTest('a process has one VA space of a memory, however often it is opened', async (t, manager) => {
  const client = manager.client();
  const device = await DeviceProcess.open(
    client.share({ lazy: true }),
    client.share(),
    client.share({ readOnly: true }),
  );
  t.is(await device.run(`memory.readU8(${AT})`), 0);
  const spaces = () => [...manager.map.context.sinks].filter((sink) => sink instanceof Mapper).length;
  const mapped = 'mappings(/memfd:ram/).map((line) => line.split(" ")[1])';
  t.deepEqual([spaces(), await device.run(mapped)], [1, ['rw-s']]);
  await device.run('globalThis.clients = [client]; clients.push(await open(3)); 0');
  t.is(await device.run('clients[1].token === clients[0].token'), true);
  t.is(await device.run(`clients[1].memory.readU8(3 * ${MIB})`), 0);
  await device.run('clients.push(await open(4)); 0');
  t.is(await device.run('clients[2].token === clients[0].token'), true, 'an eager one makes the lazy one eager');
  t.is(await device.run(`mappings(/memfd:ram/).length`), 1);
  t.is(spaces(), 1);
  await device.run('clients.push(await open(5)); 0');
  t.is(await device.run('clients[3].token === clients[0].token'), false, 'less of the memory is another one');
  t.deepEqual([spaces(), await device.run(mapped)], [2, ['r--s', 'rw-s']]);
  await device.run('clients[0].close(); clients[2].close()');
  t.is(await device.run(`clients[1].memory.readU8(${AT})`), 0);
  await device.run('clients.forEach((each) => each.close())');
  await settled(t, () => spaces() === 0);
  const left = '[...mappings(/membacking:client|memfd:ram/), ...descriptors(/memfd:ram/)].length';
  await settled(t, async () => (await device.run(left)) === 0);
  await device.end();
});

clientTest('a client that waits for its manager keeps no other from opening', async (t, manager) => {
  const [silent, theirs] = native().Channel.pair();
  const device = new DeviceProcess([theirs, manager.client().share()]);
  const order = `const order = []; await Promise.allSettled([
    open(3, 1000).catch(() => order.push('silent')), open(4).then(() => order.push('open')), open(4).then(() => order.push('open'))
  ]); order`;
  t.deepEqual(await device.run(order.replaceAll(/\s+/g, ' ')), ['open', 'open', 'silent']);
  silent.close();
  theirs.close();
  await device.end();
});

clientTest('a worker opens a ticket without a process in between, in its bounds', async (t, manager) => {
  const whole = await GuestMemoryClient.open(manager.client().share());
  whole.memory.writeU8(AT, 6);
  const ticket = manager.client().share({ readOnly: true, ranges: [{ gpa: AT, length: PAGE }] });
  const worker = new Worker(WORKER, {
    eval: true,
    workerData: { module: artefact('index.js').href, ticket, AT, PAGE },
  });
  const [answers] = await once(worker, 'message');
  t.deepEqual(answers, [6, 'GUEST_ACCESS', 'GUEST_ACCESS']);
  await worker.terminate();
  manager.client().unshare(ticket);
  await t.throwsAsync(GuestMemoryClient.open(ticket), { code: 'CLOSED' });
  whole.close();
});

/** Reads, writes, and reads behind the range of its ticket. */
const WORKER = `
const { parentPort, workerData } = require('node:worker_threads');
const { module: path, ticket, AT, PAGE } = workerData;
import(path).then(async ({ GuestMemoryClient }) => {
  const { memory } = await GuestMemoryClient.open(ticket);
  const accesses = [() => memory.readU8(AT), () => memory.writeU8(AT, 1), () => memory.readU8(AT + PAGE)];
  parentPort.postMessage(accesses.map((access) => {
    try { return access(); } catch (error) { return error.code; }
  }));
});
`;

clientTest('a ticket that is taken back, or a manager that ends, leaves nothing mapped', async (t, manager) => {
  const client = manager.client();
  const tickets = [client.share(), client.share({ lazy: true })] as const;
  const devices = await Promise.all(tickets.map((ticket) => DeviceProcess.open(ticket)));
  for (const device of devices) t.is(await device.run(`memory.readU8(${AT})`), 0);
  client.unshare(tickets[0]);
  manager.close();
  for (const device of devices) {
    t.is(await device.run(`memory.readU8(${AT})`), 'GUEST_ACCESS hole');
    t.is(await device.run('client.ended'), true);
    t.deepEqual(await device.run('[mappings(/memfd:ram/), descriptors(/memfd:ram/)]'), [[], []]);
    t.is(await device.run('(client.close(), client.close(), client.closed)'), true);
    t.deepEqual(await device.run('mappings(/membacking:client/)'), []);
    t.is(await device.end(), 0);
  }
});

for (const lazy of [false, true]) {
  const kind = lazy ? 'lazy' : 'eager';
  clientTest(
    `private memory has one mapper: it is not shared, and refused beside a client: ${kind}`,
    async (t, manager) => {
      const client = manager.client();
      const device = await DeviceProcess.open(client.share({ name: 'disk', lazy }));
      const ranges = [{ gpa: 16 * MIB, length: MIB }];
      const own = { name: 'own', ranges, backing: 'private' } as const;
      const error = t.throws(() => manager.addRam(own), { code: 'PRIVATE_TWICE' });
      if (lazy) t.regex(error!.message, /"own" is private memory.*client "disk"/);
      t.is(manager.map.leases().length, 0);
      t.is(await device.run('memory.readU8(16 * 2 ** 20)'), 'GUEST_ACCESS hole');
      await device.end();
      await settled(t, () => manager.map.context.sinks.size === 2);

      const waiting = new DeviceProcess([client.share({ lazy })]);
      manager.addRam(own);
      t.is(await waiting.run('await open(3); 0'), 'NOT_SHARED', 'a ticket from before');
      t.like(
        t.throws(() => client.share({ lazy }), { code: 'NOT_SHARED' }),
        { details: { names: ['own'] } },
      );
      const narrow = await deviceOf(manager, { lazy, ranges: [{ gpa: 0, length: 4 * MIB }] });
      t.is(await narrow.run(`memory.readU8(${AT})`), 0);
      const more = { name: 'more', ranges: [{ gpa: 32 * MIB, length: MIB }], backing: 'private' } as const;
      manager.addRam(more).close();
      await Promise.all([narrow.end(), waiting.end()]);
    },
  );
}

clientTest('a change that a client refuses is taken back everywhere', async (t, manager) => {
  const [able, unable] = [await deviceOf(manager), await deviceOf(manager, { name: 'disk' })];
  const free = await unable.run('const free = fs.openSync("/dev/null"); fs.closeSync(free); free');
  execFileSync('prlimit', ['--pid', `${unable.pid}`, `--nofile=${free}:${free}`]);
  const { control, region } = manager.deviceMapper.newRegion(PAGE, 'bar');
  const file = SharedMemory.create(PAGE);
  region.map(0, file.fd, 0, PAGE, true);
  const error = t.throws(() => control.mapToGuest(BAR), { code: 'PLAN_FAILED' });
  t.regex(error!.message, /not confirmed by disk \(process \d+\)/);
  t.is(await able.run(`memory.readU8(${BAR})`), 'GUEST_ACCESS hole');
  t.is(control.gpa, undefined);
  file.close();
  t.is(await unable.run(`memory.readU8(${AT})`), 0);
  await Promise.all([able.end(), unable.end()]);
});
