// Snapshots in streams: what goes in comes out, through whatever; a stream that ends, fails, hangs or lies leaves
// nothing.

import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { Duplex, PassThrough, Readable, Writable } from 'node:stream';
import test from 'ava';
import { GuestMemoryBuilder, type GuestMemoryManager, MembackingError } from '../ts/index.ts';
import { HEAD, headOf, RECORD, type RecordKind } from '../ts/snapshot/records.ts';
import { footprint } from './support/footprint.ts';
import { Random, tries } from './support/random.ts';
import { recorded } from './support/recorded-stream.ts';
import { tempFolder } from './support/temp-folder.ts';

const PAGE = 0x1000;
const MIB = 2 ** 20;
const HIGH = 0x1_0000_0000;

/** A guest of which all kinds of things are to be remembered. */
function makeGuest(size = 4 * MIB): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 * HIGH - 1, x86LegacySupport: true })
    .addRam({ name: 'low', ranges: [{ gpa: 0, length: size }] })
    .addRam({ name: 'high', ranges: [{ gpa: HIGH, length: 16 * PAGE }], backing: 'private' })
    .build();
  for (const gpa of [0x1000, 0xc0000, HIGH + PAGE]) manager.guestMemory.write(gpa, Buffer.from(`at ${gpa}`));
  manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'read-only');
  manager.deviceMapper.newRegion(4 * PAGE, 'bar').control.mapToGuest(0xe000_0000);
  return manager;
}

function textAt({ guestMemory }: GuestMemoryManager, gpa: number): string {
  const bytes = new Uint8Array(32);
  guestMemory.read(gpa, bytes);
  return Buffer.from(bytes).toString().replace(/\0+$/, '');
}

/** Code of the error that a restore of some bytes ends with. */
async function codeOf(bytes: Buffer): Promise<string> {
  try {
    const { manager } = await GuestMemoryBuilder.fromSnapshot(Readable.from([bytes], { objectMode: false }));
    manager.close();
    return 'a guest';
  } catch (error) {
    if (!(error instanceof MembackingError)) throw error;
    return error.code;
  }
}

/** Both ends of a Unix socket. */
async function socketPair(folder: string): Promise<[Socket, Socket]> {
  const server = createServer();
  server.listen(join(folder, 'socket'));
  await once(server, 'listening');
  const near = connect(join(folder, 'socket'));
  const [far] = (await once(server, 'connection')) as [Socket];
  server.close();
  return [near, far];
}

test.serial('a guest goes through a stream as it is', async (t) => {
  const before = footprint();
  const manager = makeGuest();
  const stream = new PassThrough();
  const steps: [number, number][] = [];
  const [layout, restored] = await Promise.all([
    manager.snapshot(stream, { state: { rip: 1n } }),
    GuestMemoryBuilder.fromSnapshot(stream, { progress: (...step) => steps.push(step), debug: true }),
  ]);
  t.deepEqual(restored.state, { rip: 1n });
  t.is(layout.ram[0]!.pages.length, 2);
  t.deepEqual(steps.at(-1), [3 * PAGE, 3 * PAGE]);
  for (const gpa of [0x1000, 0xc0000, HIGH + PAGE]) t.is(textAt(restored.manager, gpa), `at ${gpa}`);
  t.throws(() => restored.manager.guestMemory.writeU8(0xc0000, 1), { code: 'GUEST_ACCESS' });
  t.is(restored.devices[0]!.control.gpa, 0xe000_0000);
  t.false(stream.writableEnded, 'it is its owner\u2019s to end');
  for (const each of [manager, restored.manager]) each.close();
  t.deepEqual(footprint(), before);
});

test.serial('files, pipes and sockets carry what is larger than they hold', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest(24 * MIB);
  const random = new Random();
  const bytes = Buffer.alloc(8 * MIB, 1);
  for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(random.below(2 ** 32), i);
  manager.guestMemory.write(8 * MIB, bytes);
  const check = ({ manager: restored }: { manager: GuestMemoryManager }) => {
    const seen = Buffer.alloc(bytes.length);
    restored.guestMemory.read(8 * MIB, seen);
    t.true(seen.equals(bytes));
    restored.close();
  };
  const file = createWriteStream(join(folder, 'file'));
  await manager.snapshot(file);
  file.end();
  await once(file, 'finish');
  check(await GuestMemoryBuilder.fromSnapshot(createReadStream(join(folder, 'file'))));
  const [near, far] = await socketPair(folder);
  const [, restored] = await Promise.all([manager.snapshot(near), GuestMemoryBuilder.fromSnapshot(far)]);
  check(restored);
  for (const each of [near, far]) each.destroy();
  manager.close();
});

test.serial('what follows a snapshot in its stream stays there: another one, say', async (t) => {
  const manager = makeGuest();
  const bytes = await recorded(manager);
  manager.close();
  const stream = Readable.from([Buffer.concat([bytes, bytes, Buffer.from('rest')])], { objectMode: false });
  for (let i = 0; i < 2; i++) (await GuestMemoryBuilder.fromSnapshot(stream)).manager.close();
  t.is(String(stream.read()), 'rest');
});

test.serial('a diff goes through a stream, to where its base is', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest();
  await manager.snapshot(join(folder, 'base'));
  manager.guestMemory.writeU8(0x9000, 9);
  manager.guestMemory.write(0x1000, new Uint8Array(PAGE));
  const stream = new PassThrough();
  const [{ base, ram }, restored] = await Promise.all([
    manager.snapshot(stream, { base: join(folder, 'base') }),
    GuestMemoryBuilder.fromSnapshot(stream),
  ]);
  t.is(base!.folder, join(folder, 'base'));
  t.true(ram[0]!.onBase);
  t.deepEqual([textAt(restored.manager, 0x1000), textAt(restored.manager, 0xc0000)], ['', `at ${0xc0000}`]);
  t.is(restored.manager.guestMemory.readU8(0x9000), 9);
  for (const each of [manager, restored.manager]) each.close();
});

test.serial('what is asked of a stream as it must not be is refused', async (t) => {
  const manager = makeGuest();
  const bytes = await recorded(manager);
  const asked = (stream: Readable, options = {}) => GuestMemoryBuilder.fromSnapshot(stream, options);
  const invalid = { code: 'INVALID_ARGUMENT' };
  await t.throwsAsync(asked(new PassThrough(), { mode: 'map' }), invalid);
  await t.throwsAsync(manager.snapshot({} as never), invalid);
  await t.throwsAsync(GuestMemoryBuilder.fromSnapshot({} as never), invalid);
  await t.throwsAsync(asked(Readable.from([{}, {}])), { code: 'SNAPSHOT_DAMAGED' });
  await t.throwsAsync(asked(Readable.from([bytes]).setEncoding('latin1')), { code: 'SNAPSHOT_DAMAGED' });
  manager.close();
});

// ---- Streams that fail -----------------------------------------------------------------------------

test.serial('a stream that ends anywhere, or of which any byte is another one, leaves nothing', async (t) => {
  const manager = makeGuest();
  const bytes = await recorded(manager);
  manager.close();
  const before = footprint();
  const random = new Random();
  const places = [0, 1, HEAD - 1, HEAD, HEAD + 1, bytes.length - 1];
  for (let i = 0; i < tries(60); i++) places.push(random.below(bytes.length));
  for (const at of places) t.is(await codeOf(bytes.subarray(0, at)), 'SNAPSHOT_DAMAGED', `ends at ${at}`);
  for (const at of places) {
    const other = Buffer.from(bytes);
    other[at]! ^= 1 << random.below(8);
    t.is(await codeOf(other), 'SNAPSHOT_DAMAGED', `another byte at ${at}`);
  }
  t.is(await codeOf(bytes), 'a guest');
  t.deepEqual(footprint(), before);
});

test.serial('records that somebody has made up are refused', async (t) => {
  const manager = makeGuest();
  const bytes = await recorded(manager);
  manager.close();
  const before = footprint();
  const begin = bytes.subarray(0, HEAD + bytes.readUInt32LE(4));
  const made = (kind: number, offset: number, payload: Uint8Array) =>
    Buffer.concat([headOf(kind as RecordKind, offset, payload), payload]);
  const layout = String(begin.subarray(HEAD));
  const records: Readonly<Record<string, Buffer>> = {
    'of no kind': made(9, 0, Buffer.alloc(8)),
    empty: made(RECORD.pages, 0, Buffer.alloc(0)),
    'of half a page': made(RECORD.pages, 0, Buffer.alloc(PAGE / 2)),
    'from the middle of a page on': made(RECORD.pages, 8, Buffer.alloc(PAGE)),
    'of more pages than a record has': made(RECORD.pages, 0, Buffer.alloc(MIB + PAGE)),
    'behind all RAM': made(RECORD.pages, 64 * MIB, Buffer.alloc(PAGE)),
    'over the end of a block': made(RECORD.pages, 4 * MIB - PAGE, Buffer.alloc(2 * PAGE)),
    'far away': made(RECORD.pages, 2 ** 53 - PAGE, Buffer.alloc(PAGE)),
    'of the beginning again': Buffer.from(begin),
    'of another end': made(RECORD.end, 0, Buffer.from(layout.replace(/"id": "./, '"id": "0').replace('low', 'row'))),
    'of an end that is no layout': made(RECORD.end, 0, Buffer.from('{}')),
  };
  const told: string[] = [];
  for (const [what, record] of Object.entries(records)) {
    told.push(`a record ${what}: ${await codeOf(Buffer.concat([begin, record, bytes.subarray(begin.length)]))}`);
  }
  t.snapshot(told);
  t.deepEqual(footprint(), before);
});

test.serial('a writer that fails at any record is told, and the guest is as it was', async (t) => {
  const before = footprint();
  const manager = makeGuest();
  for (let left = 0; left < 5; left++) {
    let calls = left;
    const stream = new Writable({
      highWaterMark: 1,
      write(_chunk, _encoding, done) {
        done(calls-- > 0 ? null : new Error('the line is cut'));
      },
    });
    const error = await t.throwsAsync(manager.snapshot(stream), { code: 'STREAM_FAILED' });
    t.is((error!.cause as Error).message, 'the line is cut');
  }
  const ended = new PassThrough();
  ended.end();
  await t.throwsAsync(manager.snapshot(ended), { code: 'STREAM_FAILED' });
  const destroyed = new PassThrough();
  destroyed.destroy();
  await t.throwsAsync(manager.snapshot(destroyed), { code: 'STREAM_FAILED' });
  t.is(textAt(manager, 0x1000), `at ${0x1000}`);
  manager.close();
  t.deepEqual(footprint(), before);
});

test.serial('a stream that is destroyed in the midst of a write, and says nothing of it, has failed', async (t) => {
  const manager = makeGuest();
  const before = footprint();
  const silent: Writable = new Writable({ write: () => void setImmediate(() => silent.destroy()) });
  await t.throwsAsync(manager.snapshot(silent), { code: 'STREAM_FAILED', message: /it was closed/ });
  manager.close();
  t.true(footprint().descriptors.length <= before.descriptors.length);
});

test.serial('a stream that hangs is given up with the signal, on either side', async (t) => {
  const manager = makeGuest();
  const bytes = await recorded(manager);
  const before = footprint();
  const hanging = new Duplex({ read() {}, write() {} });
  const giveUp = (work: (signal: AbortSignal) => Promise<unknown>) => {
    const controller = new AbortController();
    setImmediate(() => controller.abort('enough'));
    return t.throwsAsync(work(controller.signal), { code: 'ABORTED' });
  };
  await giveUp((signal) => manager.snapshot(hanging, { signal }));
  await giveUp((signal) => GuestMemoryBuilder.fromSnapshot(hanging, { signal }));
  const half = new PassThrough();
  half.write(bytes.subarray(0, bytes.length - PAGE));
  await giveUp((signal) => GuestMemoryBuilder.fromSnapshot(half, { signal }));
  const failing = new PassThrough();
  failing.write(bytes.subarray(0, 2000));
  setImmediate(() => failing.destroy(new Error('the line is cut')));
  failing.on('error', () => {});
  await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(failing), { code: 'STREAM_FAILED' });
  t.deepEqual(footprint(), before);
  manager.close();
});
