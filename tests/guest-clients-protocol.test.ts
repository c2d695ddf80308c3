// The protocol of clients, and peers that lie about every field of it: a lie is seen, and hurts the liar alone.

import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import * as abi from '../assembly/abi.ts';
import { decodeMessage, encodeMessage, type Message } from '../ts/core/message.ts';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import type { ShareOptions } from '../ts/index.ts';
import { Mapper } from '../ts/sinks/mapper.ts';
import { AT, BAR, clientTest, deviceOf, PAGE, settled } from './support/clients.ts';
import type { DeviceProcess } from './support/device-process.ts';
import { Random } from './support/random.ts';
import { RawChannel, RawPeer } from './support/raw-peer.ts';
import { MIB } from './support/vm.ts';

const READ = `memory.readU8(${AT})`;
const mappersOf = ({ map }: GuestMemoryManager) => [...map.context.sinks].filter((sink) => sink instanceof Mapper);
const protect = (manager: GuestMemoryManager, access: 'none' | 'rwx' = 'none') =>
  manager.setVtlProtection(0, { gpa: AT, length: PAGE }, access);

// ---- Messages ----------------------------------------------------------------------------------

const word = fc.nat({ max: 0xffffffff });
const wide = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const messages = fc.record({
  ...{ kind: word, version: word, error: word, done: word, objects: word, count: word },
  ...{ sequence: wide, start: wide, length: wide, memory: wide, mapper: wide },
});

test('a message is what was sent, and nothing of another length is one', (t) => {
  fc.assert(
    fc.property(messages, fc.nat({ max: 200 }), (message, length) => {
      const bytes = encodeMessage(message);
      const decoded = decodeMessage(bytes)!;
      for (const [name, value] of Object.entries(message)) t.is(BigInt(decoded[name as keyof Message]), BigInt(value));
      t.is(decodeMessage(new Uint8Array(length)) === undefined, length !== abi.MESSAGE_SIZE);
    }),
  );
});

// ---- Requests ----------------------------------------------------------------------------------

type Said = Partial<Message> & Pick<Message, 'kind'>;

/** Messages of peers at each stage, none of which is due then. */
const LIES: Readonly<Record<'new' | 'greeted' | 'open', Readonly<Record<string, Said | Uint8Array>>>> = {
  new: {
    'a byte': Uint8Array.of(1),
    'half a message': encodeMessage({ kind: abi.MESSAGE_HELLO }).subarray(0, 32),
    'a message that is too long': new Uint8Array(8192),
    'another version': { kind: abi.MESSAGE_HELLO, version: 99 },
    'no hello': { kind: abi.MESSAGE_READY },
    'a request for memory before a hello': { kind: abi.MESSAGE_ASK, length: 1 },
    'a message of a manager': { kind: abi.MESSAGE_RUN },
    'a kind that there is not': { kind: 77 },
    'an end': { kind: abi.MESSAGE_END },
  },
  greeted: {
    'a second hello': { kind: abi.MESSAGE_HELLO },
    'the mapper of somebody else': { kind: abi.MESSAGE_READY, mapper: 2 ** 40 },
    'a request for memory': { kind: abi.MESSAGE_ASK, start: 0, length: 1 },
    'a version that changes': { kind: abi.MESSAGE_READY, version: 1 },
    'a confirmation where a request is due': { kind: abi.MESSAGE_DONE_RUN, sequence: 1 },
  },
  open: {
    'a third hello': { kind: abi.MESSAGE_HELLO },
    'ready twice': { kind: abi.MESSAGE_READY },
    'no bytes': { kind: abi.MESSAGE_ASK, start: AT, length: 0 },
    'memory that no VA space reaches': { kind: abi.MESSAGE_ASK, start: 2n ** 63n, length: PAGE },
    'the last byte that there is': { kind: abi.MESSAGE_ASK, start: 2n ** 64n - 1n, length: 2n ** 64n - 1n },
    'memory in another version': { kind: abi.MESSAGE_ASK, start: AT, length: PAGE, version: 2 },
  },
};

async function peerAt(stage: keyof typeof LIES, manager: GuestMemoryManager, options?: ShareOptions): Promise<RawPeer> {
  const peer = new RawPeer(RawChannel.of(manager.client().share({ deadline: 200, name: 'liar', ...options }).fd!));
  if (stage !== 'new') await peer.greet();
  if (stage === 'open') await peer.open();
  return peer;
}

for (const [stage, lies] of Object.entries(LIES) as [keyof typeof LIES, (typeof LIES)['new']][]) {
  for (const [what, lie] of Object.entries(lies)) {
    clientTest(`a peer that asks for ${what} is ended, and nobody else`, async (t, manager) => {
      const peer = await peerAt(stage, manager);
      // Whoever floods fills its own socket.
      for (let i = 0; peer.requests.send(lie) && i < 10_000; i++);
      if (stage === 'open') peer.confirm(2);
      while ((await peer.requests.receive()) !== null);
      await settled(t, () => mappersOf(manager).length === 0);
      protect(manager);
      peer.close();
    });
  }
}

clientTest('whatever peers say at first, nothing but their shares ends', async (t, manager) => {
  const device = await deviceOf(manager);
  for (const said of fc.sample(fc.array(messages, { minLength: 1, maxLength: 3 }), 50)) {
    const peer = await peerAt('new', manager);
    for (const each of said) peer.requests.send(each);
    while ((await peer.requests.receive()) !== null);
    peer.close();
  }
  protect(manager);
  t.is(await device.run(READ), 'GUEST_ACCESS hole');
  await device.end();
});

// ---- Confirmations -----------------------------------------------------------------------------

type Lie = (peer: RawPeer) => void;

/** Confirmations of the second run, which has one command: a page is protected. */
const CONFIRMATIONS: Readonly<Record<string, Lie>> = {
  'another kind': (peer) => peer.confirm(2, { kind: abi.MESSAGE_ASK }),
  'another version': (peer) => peer.confirm(2, { version: abi.ABI_VERSION + 1 }),
  'a run that was not sent': (peer) => peer.confirm(3),
  'the run before': (peer) => peer.confirm(1),
  'a run of which nobody has heard': (peer) => peer.confirm(Number.MAX_SAFE_INTEGER),
  'more commands than there were': (peer) => peer.confirm(2, { done: 2 }),
  'fewer commands without an error': (peer) => peer.confirm(2, { done: 0 }),
  'an error that there is not': (peer) => peer.confirm(2, { error: 0xffffffff, done: 0 }),
  'half of it': (peer) => peer.runs.send(encodeMessage({ kind: abi.MESSAGE_DONE_RUN, sequence: 2 }).subarray(0, 40)),
  'more than it is': (peer) => peer.runs.send(new Uint8Array(4096)),
  'it with a descriptor': (peer) => {
    const fd = openSync('/dev/null', 'r');
    peer.runs.send({ kind: abi.MESSAGE_DONE_RUN, sequence: 2, done: 1 }, [fd]);
    closeSync(fd);
  },
};

for (const [what, lie] of Object.entries(CONFIRMATIONS)) {
  clientTest(`a peer that confirms ${what} is cut off, and the change is made`, async (t, manager) => {
    const [peer, device] = [await peerAt('open', manager), await deviceOf(manager)];
    const warned = once(process, 'warning');
    lie(peer);
    protect(manager);
    t.like((await warned)[0], { code: 'CLIENT_CUT_OFF' });
    await othersLostNothing(t, manager, device);
    peer.close();
  });
}

async function othersLostNothing(
  t: ExecutionContext,
  manager: GuestMemoryManager,
  device: DeviceProcess,
): Promise<void> {
  await settled(t, () => mappersOf(manager).length === 1);
  t.is(await device.run(READ), 'GUEST_ACCESS hole');
  protect(manager, 'rwx');
  t.is(await device.run(READ), 0);
  await device.end();
}

clientTest(
  'a peer that refuses has the change taken back, and is cut off where it refuses that too',
  async (t, manager) => {
    const [peer, device] = [await peerAt('open', manager), await deviceOf(manager)];
    peer.confirm(2, { error: 12, done: 0 });
    peer.confirm(3);
    const error = t.throws(() => protect(manager), { code: 'PLAN_FAILED', message: /not confirmed by liar/ });
    t.like(error, { cause: { code: 'ENOMEM' } });
    t.is(await device.run(READ), 0);
    peer.confirm(4, { error: 12, done: 0 });
    peer.confirm(5, { error: 12, done: 0 });
    const warned = once(process, 'warning');
    t.throws(() => protect(manager), { code: 'PLAN_FAILED' });
    t.like((await warned)[0], { code: 'CLIENT_CUT_OFF' });
    t.is(await device.run(READ), 0);
    protect(manager);
    await othersLostNothing(t, manager, device);
    peer.close();
  },
);

clientTest('a peer that says nothing has the change taken back', async (t, manager) => {
  const [peer, device] = [await peerAt('open', manager), await deviceOf(manager)];
  t.throws(() => protect(manager), { code: 'PLAN_FAILED', message: /did not confirm the change in time/ });
  t.is(await device.run(READ), 0);
  peer.close();
  protect(manager);
  await othersLostNothing(t, manager, device);
});

// ---- The table of locks ------------------------------------------------------------------------

clientTest(
  'a peer that writes nonsense into its table holds the manager up in its own name at most',
  async (t, manager) => {
    const [peer, device] = [
      await peerAt('open', manager, { whenSilent: 'cut-off', ranges: [{ gpa: AT, length: PAGE }] }),
      await deviceOf(manager),
    ];
    const { control } = manager.deviceMapper.newRegion(PAGE, 'bar', { holes: 'zero' });
    const random = new Random();
    const length = abi.LOCKS_HEADER_SIZE + abi.LOCK_BARS * abi.LOCK_BAR_SIZE + 50 * abi.LOCK_ENTRY_SIZE;
    for (let round = 0; round < 20; round++) {
      peer.writeTable(
        0,
        Uint8Array.from({ length }, () => random.below(256)),
      );
      for (const { holder, gpa, length: bytes } of manager.map.leases()) {
        t.true(holder.endsWith(` in liar (process ${process.pid})`), holder);
        t.true(gpa >= 0 && bytes > 0 && gpa + bytes <= 2 ** abi.GPA_BITS);
      }
      control.mapToGuest(BAR);
      control.unmapFromGuest();
    }
    lockAll(peer);
    t.throws(() => protect(manager), { code: 'LEASED', message: /in liar \(process/ });
    const warned = once(process, 'warning');
    await manager.whenFree(() => protect(manager), { deadline: 0, revoke: true });
    t.like((await warned)[0], { code: 'CLIENT_CUT_OFF' });
    await othersLostNothing(t, manager, device);
    peer.close();
  },
);

clientTest('a peer that asks for nonsense, and does not let go of a lock, is cut off', async (t, manager) => {
  const [peer, device] = [await peerAt('open', manager), await deviceOf(manager)];
  lockAll(peer);
  const warned = once(process, 'warning');
  peer.requests.send(new Uint8Array(3));
  t.like((await warned)[0], { code: 'CLIENT_CUT_OFF' });
  protect(manager);
  await othersLostNothing(t, manager, device);
  peer.close();
});

/** Enters a lock on all memory into the table of a peer. */
function lockAll(peer: RawPeer): void {
  const entry = encodeEntry(7n, 0n, BigInt(4 * MIB));
  peer.writeTable(12, new Uint8Array(Uint32Array.of(abi.LOCK_ENTRIES).buffer));
  peer.writeTable(abi.LOCKS_HEADER_SIZE + abi.LOCK_BARS * abi.LOCK_BAR_SIZE, entry);
}

/** Entry of a lock to write. */
function encodeEntry(...[id, start, end]: [bigint, bigint, bigint]): Uint8Array {
  return new Uint8Array(BigUint64Array.of(id, start, end, 1n).buffer);
}
