// Errors that say what to do: which file, how much less, where else.

import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import test from 'ava';
import { GuestMemoryBuilder, MemoryMap, PrivateMemory, SharedMemory, Vcpu, WorkerGuestMemory } from '../ts/index.ts';
import { withFiles } from './support/cli.ts';

test('a file that is too short is named, with its size', (t) => {
  withFiles({ 'bios.bin': 'short' }, (folder) => {
    const fd = openSync(join(folder, 'bios.bin'), 'r+');
    writeSync(fd, 'longer than it was');
    const file = `descriptor ${fd} (${join(folder, 'bios.bin')}, 18 bytes) cannot be mapped: `;
    const refused = (action: () => unknown) => t.throws(action, { code: 'SYSTEM' })!.message;
    t.true(refused(() => SharedMemory.fromFd(fd, { size: 0x10000 })).startsWith(`${file}ENXIO: the file is shorter`));
    t.true(refused(() => PrivateMemory.fromFile(fd, { size: 0x10000 })).startsWith(file));
    closeSync(fd);
  });
});

test('more addresses than a process has: less is to be asked for', (t) => {
  const hint = /cannot be reserved: ENOMEM.*: lower its size$/;
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'container', size: 2 ** 50 });
  const space = map.createAddressSpace({ name: 'memory', root });
  t.throws(() => map.attachVaSpace(space, { size: 2 ** 48 }), { code: 'SYSTEM', message: hint });
  const half = () => map.attachVaSpace(space, { size: 2 ** 46 });
  t.throws(() => [half(), half()], { code: 'SYSTEM', message: hint }, 'the second at the latest: there are 2^47');
  map.close();
});

test('a token that nothing has', (t) => {
  t.throws(() => WorkerGuestMemory.fromToken(1n), {
    code: 'CLOSED',
    message: /no VA space that is open in this process has this token/,
  });
  t.throws(() => Vcpu.fromToken(1n), {
    code: 'CLOSED',
    message: /no vCPU that is open in this process has this token/,
  });
});

test('a handle is not posted to another thread as an empty object', (t) => {
  const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x1000 }] }).build();
  const object = SharedMemory.create(0x1000);
  const { port1, port2 } = new MessageChannel();
  const { map, va, space, root, guestMemory, ramVisibility, deviceMapper } = manager;
  const { control, region } = deviceMapper.newRegion(0x1000, 'bar');
  const lease = guestMemory.lock({ gpa: 0, length: 8 }, 'read', { holder: 'disk' });
  const parts = [map, va, space, root, guestMemory, manager.client(), ramVisibility, deviceMapper, control, region];
  const handles = [manager, ...parts, lease, object];
  for (const handle of handles) {
    t.throws(() => port1.postMessage(handle), { any: true, name: 'DataCloneError' }, String(handle));
    t.throws(() => structuredClone({ handle }), { any: true, name: 'DataCloneError' });
  }
  port1.postMessage(va.token);
  lease.release();
  port1.close();
  port2.close();
  object.close();
  manager.close();
});
