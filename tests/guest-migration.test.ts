// Live migration: a guest goes on at the other end of a stream, and of two sides never both have it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import * as tls from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { GuestMemoryBuilder, type GuestMemoryManager, type Migration, RecordingPartition } from '../ts/index.ts';
import { parseLayout } from '../ts/snapshot/layout.ts';
import { HEAD, headOf, RECORD, type RecordKind } from '../ts/snapshot/records.ts';
import { hugePageTest } from './support/accounting.ts';
import { descriptors, footprint } from './support/footprint.ts';
import { kvmMissing } from './support/guest.ts';
import { Random, tries } from './support/random.ts';
import { makeSwept, RunningGuest } from './support/running-guest.ts';
import { tempFolder } from './support/temp-folder.ts';
import { trackingMissing, trackingTest } from './support/tracking.ts';

const PAGE = 0x1000;
const MIB = 2 ** 20;

// ---- Guests that run -------------------------------------------------------------------------------

/** Both ends of a Unix socket. */
async function socketPair(t: ExecutionContext): Promise<[Duplex, Duplex]> {
  const path = join(tempFolder(t), 'socket');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const far = once(server, 'connection');
  const near = connect(path);
  const [end] = (await far) as [Duplex];
  server.close();
  return [near, end];
}

/** Both ends of a connection with TLS, by a key that both know. */
async function tlsPair(): Promise<[Duplex, Duplex]> {
  const psk = Buffer.alloc(16, 7);
  const common = { ciphers: 'PSK-AES128-GCM-SHA256', maxVersion: 'TLSv1.2' } as const;
  const server = tls.createServer({ ...common, pskCallback: () => psk });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const far = once(server, 'secureConnection');
  const { port } = server.address() as AddressInfo;
  const pskCallback = () => ({ psk, identity: 'guest' });
  const near = tls.connect({ ...common, port, pskCallback, checkServerIdentity: () => undefined });
  const [end] = (await far) as [Duplex];
  server.close();
  return [near, end];
}

function kvmTracking(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  const settled = async (t: ExecutionContext) => {
    await body(t);
    // Threads of vCPUs take a moment to end, and what is left is looked at below.
    while (descriptors().some((each) => each.includes('kvm-v'))) await setTimeout(10);
  };
  if (kvmMissing === undefined) trackingTest(title, settled);
  else test.skip(`${title}: ${kvmMissing}`, body);
}

for (const [name, makePair] of [
  ['a Unix socket', socketPair],
  ['TLS', tlsPair],
] as const) {
  for (const kind of ['shared', 'private'] as const) {
    kvmTracking(`a running guest with ${kind} RAM goes through ${name} and back, and loses nothing`, async (t) => {
      const before = footprint().mappings;
      let guest = new RunningGuest(makeSwept(kind));
      guest.start();
      for (let hop = 0; hop < 2; hop++) {
        const [near, far] = await makePair(t);
        const [migration, { manager, state }] = await Promise.all([
          guest.manager.migrateOut(near, { maxDowntime: 60_000, state: guest.heldState }),
          GuestMemoryBuilder.migrateIn(far, { debug: true }),
        ]);
        t.true(migration.rounds >= 2 && migration.bytes > 0 && migration.downtime > 0);
        guest.close();
        for (const end of [near, far]) end.destroy();
        guest = new RunningGuest(manager, state);
        guest.sweep(t, 2);
        guest.start();
      }
      await guest.stop();
      guest.close();
      t.deepEqual(footprint().mappings, before);
    });
  }
}

/** Program that takes a guest at its standard input, sweeps on with it, and says how that was. */
const RECEIVER = `
import { Duplex } from 'node:stream';
const { GuestMemoryBuilder, KvmPartition } = await import(process.argv[1]);
const stream = Duplex.from({ readable: process.stdin, writable: process.stdout });
const { manager, state } = await GuestMemoryBuilder.migrateIn(stream);
const partition = KvmPartition.open();
manager.attachPartition(partition);
const vcpu = partition.createVcpu(0);
partition.restore(state.partition);
vcpu.restore(state.vcpu);
const ports = [1, 2, 3].map(() => vcpu.runToExit().port);
for (const each of [vcpu, partition, manager]) each.close();
console.error(ports.join());
process.exit();
`;

kvmTracking('a running guest goes into another process, through its pipes', async (t) => {
  const guest = new RunningGuest(makeSwept());
  guest.start();
  const child = spawn(process.execPath, ['--input-type=module', '-e', RECEIVER, join(process.cwd(), 'build/index.js')]);
  let said = '';
  child.stderr.on('data', (text) => (said += text));
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
  stream.on('error', () => {}); // the process ends it
  await guest.manager.migrateOut(stream, { maxDowntime: 60_000, state: guest.heldState });
  await once(child, 'close');
  t.is(said.trim(), '21,21,21', 'each sweep ends at port 15, and none at 16');
  guest.close();
});

kvmTracking('a running guest is snapshotted into a stream, and goes on at both ends', async (t) => {
  const guest = new RunningGuest(makeSwept());
  guest.start();
  const stream = new PassThrough();
  const [layout, { manager, state }] = await Promise.all([
    guest.manager.snapshot(stream, { live: true, maxDowntime: 60_000, state: guest.state }),
    GuestMemoryBuilder.fromSnapshot(stream),
  ]);
  t.true(layout.ram[0]!.pages.length > 0);
  await guest.stop();
  guest.sweep(t, 2);
  const again = new RunningGuest(manager, state);
  again.sweep(t, 3);
  for (const each of [guest, again]) each.close();
});

// ---- Huge pages ------------------------------------------------------------------------------------

const HUGE = 2 * MIB;

if (trackingMissing === undefined) {
  hugePageTest(
    'huge pages stay whole where both sides have them, and are ordinary ones where not',
    HUGE,
    4,
    async (t) => {
      const before = footprint();
      const manager = new GuestMemoryBuilder()
        .addRam({
          name: 'huge',
          ranges: [{ gpa: 0, length: 2 * HUGE }],
          backing: { kind: 'shared', hugePageSize: HUGE },
        })
        .build();
      manager.guestMemory.writeU32(HUGE + PAGE, 0x600d);
      const received: GuestMemoryManager[] = [];
      for (const [from, pageSize] of [
        [manager, HUGE],
        [manager, PAGE], // the pool is empty now
      ] as const) {
        const [near, far] = endPair();
        const [, guest] = await Promise.all([from.migrateOut(near), GuestMemoryBuilder.migrateIn(far)]);
        received.push(guest.manager);
        t.is(guest.manager.ramObject('huge').granularity, pageSize);
        t.is(guest.manager.guestMemory.readU32(HUGE + PAGE), 0x600d);
      }
      for (const each of [manager, ...received]) each.close();
      t.deepEqual(footprint(), before);
    },
  );
}

// ---- Streams that fail -----------------------------------------------------------------------------

/** One end of a pair in memory. */
class End extends Duplex {
  other: End | undefined;
  #wake = () => {};
  /** Bytes that still go through. */
  left = Number.POSITIVE_INFINITY;
  readonly sent: Buffer[] = [];

  override _read(): void {
    this.#wake();
  }

  override _write(chunk: Buffer, _: string, done: (error?: Error) => void): void {
    const passed = chunk.subarray(0, this.left);
    this.left -= passed.length;
    this.sent.push(passed);
    if (passed.length > 0 && !this.other!.push(passed)) {
      this.other!.#wake = () => {
        this.other!.#wake = () => {};
        done();
      };
    } else done();
    if (this.left === 0) for (const end of [this, this.other!]) end.destroy(new Error('the line is cut'));
  }

  override _final(done: () => void): void {
    this.other!.push(null);
    done();
  }
}

function endPair(): [End, End] {
  const [a, b] = [new End(), new End()];
  [a.other, b.other] = [b, a];
  return [a, b];
}

trackingTest('no list of pages is sent while a guest is held, and all of them are there', async (t) => {
  const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 4 * MIB }] }).build();
  for (let gpa = 0; gpa < 4 * MIB; gpa += 2 * PAGE) manager.guestMemory.writeU32(gpa, gpa + 1);
  const [near, far] = endPair();
  const [, received] = await Promise.all([manager.migrateOut(near), GuestMemoryBuilder.migrateIn(far)]);
  const sent = Buffer.concat(near.sent);
  let layout = '';
  for (let at = 0; at < sent.length; at += HEAD + sent.readUInt32LE(at + 4)) {
    if (sent.readUInt32LE(at) === RECORD.end)
      layout = String(sent.subarray(at + HEAD, at + HEAD + sent.readUInt32LE(at + 4)));
  }
  t.deepEqual(parseLayout(layout).ram[0]!.pages, []);
  const bytes = [manager, received.manager].map(({ guestMemory }) => {
    const all = Buffer.alloc(4 * MIB);
    guestMemory.read(0, all);
    return all;
  });
  t.true(bytes[0]!.equals(bytes[1]!));
  for (const each of [manager, received.manager]) each.close();
});

/** A guest with memory and devices, on a partition that writes down what is asked of it. */
function recordedGuest() {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 33 - 1, x86LegacySupport: true })
    .addRam({ name: 'low', ranges: [{ gpa: 0, length: 4 * MIB }] })
    .addRam({ name: 'high', ranges: [{ gpa: 2 ** 32, length: 16 * PAGE }], backing: { kind: 'private' } })
    .build();
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  for (const gpa of [0x1000, 0xc0000, 2 ** 32 + PAGE]) manager.guestMemory.write(gpa, Buffer.from(`at ${gpa}`));
  manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'read-only');
  manager.deviceMapper.newRegion(4 * PAGE, 'bar').control.mapToGuest(0xe000_0000);
  partition.events.length = 0;
  /** Whether the guest may run. */
  const runs = () => {
    const count = (wanted: string) => partition.events.filter(({ event }) => event === wanted).length;
    return count('pause') === count('resume');
  };
  return { manager, runs };
}

/** State that is asked for when the guest is held: the guest has written once more. */
function stateOf(manager: GuestMemoryManager): () => string {
  return () => {
    manager.guestMemory.write(0x2000, Buffer.from('at last'));
    return 'held';
  };
}

type Outcome = { readonly value: unknown } | { readonly code: string };

async function outcome(promise: Promise<unknown>, ends: readonly End[]): Promise<Outcome> {
  try {
    return { value: await promise };
  } catch (error) {
    for (const end of ends) end.destroy();
    return { code: (error as { code: string }).code };
  }
}

/** Migrates through a pair; each side ends the stream where it fails. */
async function migrate(manager: GuestMemoryManager, [near, far]: [End, End]): Promise<[Outcome, Outcome]> {
  for (const end of [near, far]) end.on('error', () => {});
  return Promise.all([
    outcome(manager.migrateOut(near, { state: stateOf(manager) }), [near, far]),
    outcome(GuestMemoryBuilder.migrateIn(far), [near, far]),
  ]);
}

function close(received: Outcome): void {
  if ('value' in received) (received.value as { manager: GuestMemoryManager }).manager.close();
}

trackingTest('all that a guest is comes out at the other end, and stays held where it was', async (t) => {
  const before = footprint();
  const { manager, runs } = recordedGuest();
  const steps: number[] = [];
  const pair = endPair();
  const [sent, { manager: received, state, devices }] = await Promise.all([
    manager.migrateOut(pair[0], { state: stateOf(manager), progress: (done) => steps.push(done) }),
    GuestMemoryBuilder.migrateIn(pair[1]),
  ]);
  t.like(sent, { rounds: 2, bytes: 4 * PAGE } satisfies Partial<Migration>);
  t.true(steps.length > 1);
  t.false(runs());
  t.is(state, 'held');
  const seen = Buffer.alloc(7);
  received.guestMemory.read(0x2000, seen);
  t.is(seen.toString(), 'at last');
  t.is(devices[0]!.control.gpa, 0xe000_0000);
  t.is(received.ramVisibility.at(0xc0000), 'read-only');
  t.false(pair[0].destroyed || pair[0].writableEnded, 'it is its owner\u2019s to end');
  t.deepEqual([pair[0].listenerCount('error'), pair[1].listenerCount('readable')], [0, 0]);
  for (const each of [manager, received]) each.close();
  t.deepEqual(footprint(), before);
});

trackingTest('a stream that is cut anywhere leaves the guest on exactly one side, or on neither', async (t) => {
  const { manager, runs } = recordedGuest();
  const whole = endPair();
  const [sent, received] = await migrate(manager, whole);
  t.true('value' in sent);
  close(received);
  manager.close();
  const records = whole[0].sent.map(({ length }) => length);
  const bytes = records.reduce((sum, length) => sum + length, 0);
  const ends = records.map((_, i) => records.slice(0, i + 1).reduce((sum, length) => sum + length, 0));
  const random = new Random();
  const places = [1, ...ends.flatMap((end) => [end - 1, end, end + 1, end + HEAD])].filter((at) => at < bytes);
  for (let i = 0; i < tries(20); i++) places.push(1 + random.below(bytes - 1));
  const answer = whole[1].sent.reduce((sum, { length }) => sum + length, 0);
  t.false(runs());
  const before = footprint();
  const cut = async (limit: (pair: [End, End]) => void, what: string) => {
    const guest = recordedGuest();
    const pair = endPair();
    limit(pair);
    const [out, into] = await migrate(guest.manager, pair);
    const isThere = 'value' in into;
    t.false(isThere && guest.runs(), `${what}: on both sides`);
    if ('code' in out) {
      const isUnsure = out.code === 'MIGRATION_UNSURE';
      t.is(guest.runs(), !isUnsure, `${what}: ${out.code}`);
      t.true(isUnsure || ['STREAM_FAILED', 'SNAPSHOT_DAMAGED'].includes(out.code), `${what}: ${out.code}`);
      const seen = Buffer.alloc(7);
      guest.manager.guestMemory.read(0x1000, seen);
      t.is(seen.toString(), 'at 4096');
    }
    close(into);
    guest.manager.close();
    t.deepEqual(footprint(), before, what);
  };
  for (const at of places) await cut(([near]) => Object.assign(near, { left: at }), `cut at ${at} of ${bytes}`);
  for (const at of [1, HEAD, answer - 1, answer]) {
    await cut(([, far]) => Object.assign(far, { left: at }), `answer cut at ${at} of ${answer}`);
  }
});

/** Record of a side that makes up its own. */
function record(kind: number, payload: Uint8Array, offset = 0): Buffer {
  return Buffer.concat([headOf(kind as RecordKind, offset, payload), payload]);
}

trackingTest('answers that are none leave the guest where it is', async (t) => {
  const before = footprint();
  const { manager, runs } = recordedGuest();
  const id = Buffer.from('00000000-0000-4000-8000-000000000000');
  const answers: Readonly<Record<string, Buffer>> = {
    'of another guest': record(RECORD.ready, id),
    'of no kind': record(9, id),
    'that is a word to go on': record(RECORD.go, id),
    'with pages': record(RECORD.pages, Buffer.alloc(PAGE)),
    'longer than an identity': record(RECORD.ready, Buffer.alloc(37)),
    'at an offset': record(RECORD.ready, id, PAGE),
    'of half a head': Buffer.alloc(HEAD / 2),
    'of noise': Buffer.alloc(1000, 0xa5),
  };
  for (const [what, answer] of Object.entries(answers)) {
    const [near, far] = endPair();
    for (const end of [near, far]) end.on('error', () => {});
    far.resume();
    far.end(answer);
    const error = await t.throwsAsync(manager.migrateOut(near), undefined, what);
    t.is((error as unknown as { code: string }).code, 'SNAPSHOT_DAMAGED', what);
    t.true(runs(), what);
    t.deepEqual([near.listenerCount('readable'), near.listenerCount('end')], [0, 0]);
  }
  manager.close();
  t.deepEqual(footprint(), before);
});

trackingTest('what comes and is no guest leaves nothing, and is not answered', async (t) => {
  const { manager } = recordedGuest();
  const whole = endPair();
  const [, received] = await migrate(manager, whole);
  close(received);
  manager.close();
  const bytes = Buffer.concat(whole[0].sent);
  const go = bytes.subarray(-HEAD - 36);
  const begin = whole[0].sent[0]!;
  const text = String(begin.subarray(HEAD));
  const random = new Random();
  const before = footprint();
  const coming: [string, Buffer][] = [
    [
      'a word to go on for another guest',
      Buffer.concat([bytes.subarray(0, -go.length), record(RECORD.go, Buffer.alloc(36, '0'))]),
    ],
    ['no word to go on', Buffer.concat([bytes.subarray(0, -go.length), begin])],
    [
      'a diff',
      record(
        RECORD.begin,
        Buffer.from(
          text.replace('"memory"', '"base": {"id":"00000000-0000-4000-8000-000000000000","folder":"/"},\n"memory"'),
        ),
      ),
    ],
    ['no layout', record(RECORD.begin, Buffer.from('{}'))],
    ['pages first', record(RECORD.pages, Buffer.alloc(PAGE))],
  ];
  for (let i = 0; i < tries(60); i++) {
    const other = Buffer.from(bytes);
    const at = random.below(other.length);
    other[at]! ^= 1 << random.below(8);
    coming.push([`another byte at ${at}`, other]);
  }
  for (const [what, each] of coming) {
    const [near, far] = endPair();
    near.resume();
    near.end(each);
    const error = await t.throwsAsync(GuestMemoryBuilder.migrateIn(far), undefined, what);
    t.regex((error as unknown as { code: string }).code, /^SNAPSHOT_(DAMAGED|LAYOUT|VERSION)$/, what);
    t.deepEqual(footprint(), before, what);
  }
});

trackingTest('a migration is given up on either side, and the guest goes on', async (t) => {
  const before = footprint();
  const { manager, runs } = recordedGuest();
  const giveUp = async (work: (signal: AbortSignal) => Promise<unknown>) => {
    const controller = new AbortController();
    void setTimeout(20).then(() => controller.abort('enough'));
    await t.throwsAsync(work(controller.signal), { code: 'ABORTED' });
  };
  // Nobody answers.
  const [near, far] = endPair();
  far.resume();
  await giveUp((signal) => manager.migrateOut(near, { signal }));
  await giveUp((signal) => GuestMemoryBuilder.migrateIn(endPair()[0], { signal }));
  await t.throwsAsync(manager.migrateOut(endPair()[0], { state: () => Promise.reject(new Error('no state')) }), {
    message: 'no state',
  });
  const busy = () => manager.guestMemory.write(0, Buffer.alloc(MIB, 1));
  const [slow, end] = endPair();
  end.resume();
  await t.throwsAsync(manager.migrateOut(slow, { maxDowntime: 1, progress: busy, state: busy as never }));
  t.true(runs());
  t.true(manager.guestMemory.readU8(0) === 1);
  manager.close();
  t.deepEqual(footprint(), before);
});

test.serial('what is asked of a migration as it must not be is refused', async (t) => {
  const { manager } = recordedGuest();
  const invalid = { code: 'INVALID_ARGUMENT' };
  await t.throwsAsync(manager.migrateOut(new PassThrough() as never, { maxDowntime: 0 }), invalid);
  await t.throwsAsync(manager.migrateOut('folder' as never), invalid);
  await t.throwsAsync(manager.migrateOut(endPair()[0], { base: 'x' } as never), invalid);
  await t.throwsAsync(GuestMemoryBuilder.migrateIn({} as never), invalid);
  await t.throwsAsync(GuestMemoryBuilder.migrateIn(endPair()[0], { mode: 'map' } as never), invalid);
  manager.close();
  await t.throwsAsync(manager.migrateOut(endPair()[0]), { code: 'CLOSED' });
});
