// Guest memory at a path: processes come to it as they like, each a client of its own; who may not come has nothing,
// and who misbehaves harms himself alone.

import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import * as abi from '../assembly/abi.ts';
import { artefact } from '../ts/core/artefact.ts';
import { GuestMemoryClient } from '../ts/index.ts';
import { Mapper } from '../ts/sinks/mapper.ts';
import { AT, clientTest, PAGE, settled } from './support/clients.ts';
import { DeviceProcess } from './support/device-process.ts';
import { RawChannel } from './support/raw-peer.ts';
import { tempFolder } from './support/temp-folder.ts';

const READ = `memory.readU8(${AT})`;
const SOMEBODY_ELSE = 65_534;

function socketIn(t: ExecutionContext): string {
  return join(tempFolder(t), 'ram.sock');
}

/** Has a process open a path. */
const open = (device: DeviceProcess, path: string) => device.run(`await open(${JSON.stringify(path)}); 0`);

clientTest('processes come to a path, each a client of its own, until it is taken back', async (t, manager) => {
  const path = socketIn(t);
  const client = manager.client();
  const ticket = client.share({ name: 'disk', path, lazy: true });
  t.like(ticket, { path, fd: undefined });
  t.is(lstatSync(path).mode & 0o777, 0o600);
  manager.guestMemory.writeU8(AT, 3);
  const devices = [new DeviceProcess(), new DeviceProcess()];
  for (const device of devices) t.is(await open(device, path), 0);
  for (const device of devices) t.is(await device.run(READ), 3);
  manager.setVtlProtection(0, { gpa: AT, length: PAGE }, 'none');
  for (const device of devices) t.is(await device.run(READ), 'GUEST_ACCESS hole');
  t.is(await devices[0]!.end(), 0);
  await settled(t, () => mappersIn(manager).length === 1);
  t.regex(mappersIn(manager)[0]!.name, new RegExp(`^disk \\(process ${devices[1]!.pid}\\)$`));
  const again = new DeviceProcess();
  t.is(await open(again, path), 0);
  const inThisProcess = await GuestMemoryClient.open(ticket);
  t.throws(() => inThisProcess.memory.readU8(AT), { code: 'GUEST_ACCESS' });
  inThisProcess.close();
  client.unshare(ticket);
  t.false(existsSync(path));
  for (const device of [again, devices[1]!]) {
    await settled(t, async () => (await device.run('client.ended')) === true);
    t.is(await device.run(`client.close(); await open(${JSON.stringify(path)}); 0`), 'SYSTEM');
    t.is(await device.end(), 0);
  }
});

const mappersIn = ({ map }: { map: { context: { sinks: Iterable<unknown> } } }) =>
  [...map.context.sinks].filter((sink) => sink instanceof Mapper);

clientTest('a path is taken from nobody; a socket that nobody listens at any more is replaced', async (t, manager) => {
  const path = socketIn(t);
  const client = manager.client();
  writeFileSync(path, 'not a socket');
  const refused = { code: 'SYSTEM', message: /EADDRINUSE/ };
  t.throws(() => client.share({ path }), refused);
  t.is(readFileSync(path, 'utf8'), 'not a socket');
  const other = join(path, '..', 'other.sock');
  const first = client.share({ path: other });
  t.throws(() => client.share({ path: other }), refused);
  client.unshare(first);

  // As a process leaves it that is killed.
  const device = new DeviceProcess();
  await device.run(
    `const { createServer } = await import('node:net'); await new Promise((done) => createServer().listen(${JSON.stringify(other)}, done)); 0`,
  );
  t.throws(() => client.share({ path: other }), refused);
  device.kill();
  await device.ended;
  t.true(existsSync(other));
  const ticket = client.share({ path: other });
  const guest = new DeviceProcess();
  t.is(await open(guest, other), 0);
  await guest.end();
  client.unshare(ticket);
  t.false(existsSync(other));
  for (const bad of ['', 'x'.repeat(200), 'a\0b'])
    t.throws(() => client.share({ path: bad }), { code: 'INVALID_ARGUMENT' });
  t.throws(() => client.share({ path: join(path, 'nowhere') }), { code: 'SYSTEM' });
  t.throws(() => client.share({ uids: [0] }), {
    code: 'INVALID_ARGUMENT',
    message: /uids is for those who come to a path/,
  });
  await t.throwsAsync(GuestMemoryClient.open(other), { code: 'SYSTEM' });
});

clientTest('only those who were named may come', async (t, manager) => {
  const path = socketIn(t);
  const client = manager.client();
  const [one, other] = [new DeviceProcess(), new DeviceProcess()];
  const ticket = client.share({ path, pids: [one.pid] });
  t.is(await open(other, path), 'SYSTEM');
  t.is(await open(one, path), 0);
  t.is(mappersIn(manager).length, 1);
  client.unshare(ticket);
  const few = client.share({ path, maxClients: 1 });
  t.is(await open(other, path), 0);
  t.is(await one.run(`client.close(); await open(${JSON.stringify(path)}); 0`), 'SYSTEM');
  client.unshare(few);
  await Promise.all([one.end(), other.end()]);
});

/** Reason why no process can be another user's; undefined: one can. */
function whyNobodyElse(): string | undefined {
  if (process.getuid!() !== 0) return 'only root starts processes of other users';
  const load = ['--input-type=module', '-e', 'await import(process.argv[1])', artefact('index.js').href];
  const { status } = spawnSync(process.execPath, load, { uid: SOMEBODY_ELSE, stdio: 'ignore' });
  return status === 0 ? undefined : 'other users cannot read Node.js, or what was built';
}

clientTest('another user comes where he is named, and finds a manager that he trusts', async (t, manager) => {
  const reason = whyNobodyElse();
  if (reason !== undefined) {
    t.log(`skipped: ${reason}`);
    t.pass();
    return;
  }
  const path = socketIn(t);
  chmodSync(join(path, '..'), 0o755);
  const client = manager.client();
  const own = client.share({ path });
  const device = new DeviceProcess([], { uid: SOMEBODY_ELSE });
  t.is(await open(device, path), 'SYSTEM', 'the socket is this user’s');
  chmodSync(path, 0o666);
  t.is(await open(device, path), 'SYSTEM', 'and so is the memory');
  client.unshare(own);
  const ticket = client.share({ path, uids: [SOMEBODY_ELSE] });
  t.is(await open(device, path), 0);
  t.is(await device.run(READ), 0);
  client.unshare(ticket);
  await device.end();
});

clientTest('a flood of callers who say nothing, or nonsense, keeps nobody else away', async (t, manager) => {
  const path = socketIn(t);
  const client = manager.client();
  const ticket = client.share({ path });
  const device = new DeviceProcess();
  await device.run('0');
  const flood: RawChannel[] = [];
  for (let i = 0; i < 60; i++) flood.push(RawChannel.connect(path));
  for (const [index, each] of flood.entries()) {
    if (index % 3 === 0) each.send(Uint8Array.of(1));
    if (index % 3 === 1) each.send({ kind: abi.MESSAGE_READY });
  }
  t.is(await open(device, path), 0);
  t.is(await device.run(READ), 0);
  manager.setVtlProtection(0, { gpa: AT, length: PAGE }, 'none');
  t.is(await device.run(READ), 'GUEST_ACCESS hole');
  let left = 0;
  for (const each of flood) if (each.hasEnded) left++;
  t.true(left >= 56, `${left}`);
  for (const each of flood) each.close();
  client.unshare(ticket);
  await device.end();
});
