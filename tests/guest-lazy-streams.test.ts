// Lazy restores from streams: a guest runs while its memory is on its way, and waits for what the stream has not
// reached. A stream that ends, fails, hangs or lies is told to who waits, and leaves nothing.

import { PassThrough, Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { GuestMemoryBuilder, type GuestMemoryManager, type RestoreOptions, type SnapshotOptions } from '../ts/index.ts';
import { parseLayout } from '../ts/snapshot/layout.ts';
import { HEAD, headOf, RECORD, type RecordKind } from '../ts/snapshot/records.ts';
import { footprint } from './support/footprint.ts';
import { guestImage, kvmMissing } from './support/guest.ts';
import { lazyTest, pagerThreads, WaitingGuest } from './support/lazy.ts';
import { recorded } from './support/recorded-stream.ts';
import { tempFolder } from './support/temp-folder.ts';
import { trackingMissing } from './support/tracking.ts';

const PAGE = 0x1000;
const MIB = 2 ** 20;
const HIGH = 0x8000_0000;
/** Pages that hold something, each of them followed by one that does not. */
const FIRST = MIB;
const COUNT = 64;
const pages = Array.from({ length: COUNT }, (_, i) => FIRST + 2 * i * PAGE);
const wordAt = (gpa: number) => 0x600d0000 + gpa / PAGE;

function makeGuest(): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 32 - 1, x86LegacySupport: true })
    .addRam({ name: 'low', ranges: [{ gpa: 0, length: 4 * MIB }] })
    .addRam({ name: 'high', ranges: [{ gpa: HIGH, length: 16 * PAGE }], backing: 'private' })
    .build();
  manager.guestMemory.write(0, guestImage());
  for (const gpa of pages) {
    manager.guestMemory.writeU32(gpa, wordAt(gpa));
    // Touched, and so announced; but zeroes, and so left out.
    manager.guestMemory.writeU32(gpa + PAGE, 0);
  }
  manager.guestMemory.writeU32(HIGH, 0x600d);
  manager.deviceMapper.newRegion(4 * PAGE, 'bar').control.mapToGuest(0xe000_0000);
  return manager;
}

/** All bytes of a guest in a stream. */
async function aStream(): Promise<Buffer> {
  const manager = makeGuest();
  const bytes = await recorded(manager);
  manager.close();
  return bytes;
}

/** Records of a stream, each with its head. */
function recordsOf(bytes: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = HEAD + bytes.readUInt32LE(at + 4);
    records.push(bytes.subarray(at, at + length));
    at += length;
  }
  return records;
}

function made(kind: RecordKind, offset: number, payload: Uint8Array): Buffer {
  return Buffer.concat([headOf(kind, offset, payload), payload]);
}

const lazily = (stream: Readable, options: RestoreOptions = {}) =>
  GuestMemoryBuilder.fromSnapshot(stream, { mode: 'lazy', ...options });

/** Listeners that a stream has of this package. */
const listeners = (stream: Readable) =>
  ['readable', 'end', 'close', 'error'].map((event) => `${event} ${stream.listenerCount(event)}`);

/** A test after which nothing is left. */
function streamTest(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  lazyTest(title, async (t) => {
    const before = footprint();
    await body(t);
    // What was closed lets go of its files when they are not read any more.
    for (let i = 0; i < 100 && footprint().descriptors.length > before.descriptors.length; i++) await setTimeout(5);
    t.deepEqual(footprint(), before);
    t.is(pagerThreads(), 0);
  });
}

streamTest('a guest is there before its memory, each page when the stream has reached it', async (t) => {
  const bytes = await aStream();
  const [first, ...rest] = recordsOf(bytes);
  const stream = new PassThrough();
  const untouched = listeners(stream);
  stream.write(first);
  const steps: number[] = [];
  const { manager, lazy, state, devices } = await lazily(stream, { progress: (done) => steps.push(done) });
  const memory = manager.guestMemory;
  t.is(state, 'recorded');
  t.is(devices[0]!.control.gpa, 0xe000_0000);
  t.is(memory.readU32(3 * MIB), 0, 'a page that was never touched is zeroes, and awaited by nobody');
  const absent = { code: 'GUEST_ACCESS', message: /has yet to give it/ };
  t.throws(() => memory.readU32(pages[0]!), absent);
  const reached = pages[9]!;
  const half = rest.findIndex((record) => Number(record.readBigUInt64LE(16)) > reached);
  const loading = lazy!.load({ range: { gpa: reached, length: PAGE } });
  for (const record of rest.slice(0, half)) stream.write(record);
  await loading;
  t.is(memory.readU32(reached), wordAt(reached));
  t.is(memory.readU32(pages[3]! + PAGE), 0, 'a page that is left out is zeroes');
  t.throws(() => memory.readU32(pages[20]!), absent);
  manager.discard({ gpa: pages[21]!, length: PAGE });
  memory.writeU32(pages[21]!, 7);
  memory.writeU32(reached, 8);
  stream.write(Buffer.concat([...rest.slice(half), Buffer.from('rest')]));
  await lazy!.load();
  t.is(lazy!.absentBytes, 0);
  t.deepEqual([memory.readU32(reached), memory.readU32(pages[21]!)], [8, 7], 'what was written since stays');
  for (const gpa of pages.slice(22)) t.deepEqual([memory.readU32(gpa), memory.readU32(gpa + PAGE)], [wordAt(gpa), 0]);
  t.is(memory.readU32(HIGH), 0x600d);
  t.is(
    steps.at(-1),
    rest.slice(0, -1).reduce((sent, record) => sent + record.length - HEAD, 0),
  );
  t.deepEqual(listeners(stream), untouched);
  t.is(String(stream.read()), 'rest');
  t.false(stream.destroyed);
  await t.throwsAsync(lazy!.saveWorkingSet(), { code: 'INVALID_ARGUMENT' });
  const whole = await manager.snapshot(tempFolder(t));
  const sent = parseLayout(String(rest.at(-1)!.subarray(HEAD)));
  t.deepEqual(whole.ram[0]!.pages, sent.ram[0]!.pages, 'zeroes are left out again');
  manager.close();
});

for (const live of trackingMissing === undefined ? [false, true] : [false]) {
  streamTest(`a ${live ? 'live ' : ''}snapshot waits for what is on its way`, async (t) => {
    const records = recordsOf(await aStream());
    const stream = new PassThrough();
    for (const record of records.slice(0, 20)) stream.write(record);
    const { manager } = await lazily(stream);
    const folder = tempFolder(t);
    const writing = manager.snapshot(folder, { live });
    await setTimeout(20);
    for (const record of records.slice(20)) stream.write(record);
    const { ram } = await writing;
    t.deepEqual(ram[0]!.pages, parseLayout(String(records.at(-1)!.subarray(HEAD))).ram[0]!.pages);
    const again = await GuestMemoryBuilder.fromSnapshot(folder);
    for (const gpa of pages) t.is(again.manager.guestMemory.readU32(gpa), wordAt(gpa));
    again.manager.close();
    manager.close();
  });
}

if (kvmMissing === undefined) {
  streamTest('a guest waits until the stream reaches its page, while JavaScript goes on', async (t) => {
    const [first, ...rest] = recordsOf(await aStream());
    const stream = new PassThrough();
    stream.write(first);
    const { manager, lazy } = await lazily(stream);
    const guest = new WaitingGuest(manager);
    const reading = guest.read(pages[COUNT - 1]!);
    for (const record of rest) {
      t.is(await Promise.race([reading, setTimeout(1)]), undefined);
      stream.write(record);
      if (Number(record.readBigUInt64LE(16)) === pages[COUNT - 1]!) break;
    }
    t.is(await reading, wordAt(pages[COUNT - 1]!));
    t.true(lazy!.waits >= 1);
    const high = guest.read(HIGH);
    stream.write(Buffer.concat(rest.slice(-2)));
    t.is(await high, 0x600d);
    t.is(await guest.read(pages[0]! + PAGE), 0);
    guest.close();
    manager.close();
  });

  streamTest('a page that a stream does not reach in time is lost; it is there when the stream gets on', async (t) => {
    const [first, ...rest] = recordsOf(await aStream());
    const stream = new PassThrough();
    // The guest's own pages.
    const own = rest.findIndex((record) => Number(record.readBigUInt64LE(16)) >= FIRST);
    stream.write(Buffer.concat([first!, ...rest.slice(0, own)]));
    const { manager, lazy } = await lazily(stream, { pageTimeout: 50 });
    const guest = new WaitingGuest(manager);
    t.is(await guest.read(pages[0]!), 'memory-fault');
    t.is(await guest.read(pages[0]!), 'memory-fault');
    await setTimeout(20);
    t.regex(guest.lost.get(pages[0]!)!, /has not given it in time/);
    stream.write(Buffer.concat(rest.slice(own)));
    await lazy!.load();
    t.is(await guest.read(pages[0]!), wordAt(pages[0]!));
    guest.close();
    manager.close();
  });
}

/** Fates of a stream after a part of its pages, and the code and words of the error. */
const FAILURES: Readonly<
  Record<string, { readonly next: (stream: PassThrough, records: Buffer[]) => void; code: string; says: RegExp }>
> = {
  'ends early': { next: (stream) => stream.end(), code: 'SNAPSHOT_DAMAGED', says: /it ends too early/ },
  breaks: {
    next: (stream) => stream.destroy(new Error('the line is cut')),
    ...{ code: 'STREAM_FAILED', says: /the line is cut/ },
  },
  'is closed': { next: (stream) => stream.destroy(), code: 'SNAPSHOT_DAMAGED', says: /it ends too early/ },
  'is damaged': {
    next(stream, [, record]) {
      record![HEAD] = ~record![HEAD]!;
      stream.write(record);
    },
    ...{ code: 'SNAPSHOT_DAMAGED', says: /a record is not as it was written/ },
  },
  'goes back': {
    next: (stream, [before]) => stream.write(before),
    ...{ code: 'SNAPSHOT_DAMAGED', says: /not those that it has announced/ },
  },
  'has pages that it has not announced': {
    next: (stream) => stream.write(made(RECORD.pages, 3 * MIB, Buffer.alloc(PAGE, 1))),
    ...{ code: 'SNAPSHOT_DAMAGED', says: /not those that it has announced/ },
  },
  'has pages of no RAM': {
    next: (stream) => stream.write(made(RECORD.pages, 64 * MIB, Buffer.alloc(PAGE, 1))),
    ...{ code: 'SNAPSHOT_DAMAGED', says: /pages of no RAM/ },
  },
  'ends with another guest': {
    next(stream, records) {
      const layout = String(records.at(-1)!.subarray(HEAD)).replace('"bar"', '"rab"');
      stream.write(made(RECORD.end, 0, Buffer.from(layout)));
    },
    ...{ code: 'SNAPSHOT_DAMAGED', says: /another layout/ },
  },
  'ends with nonsense': {
    next: (stream) => stream.write(made(RECORD.end, 0, Buffer.from('{}'))),
    ...{ code: 'SNAPSHOT_LAYOUT', says: /this is no snapshot/ },
  },
};

for (const [what, { next, code, says }] of Object.entries(FAILURES)) {
  streamTest(`a stream that ${what} is told to who waits, and loses what has not come`, async (t) => {
    const [first, ...rest] = recordsOf(Buffer.from(await aStream()));
    const stream = new PassThrough();
    stream.on('error', () => {});
    const half = rest.findIndex((record) => Number(record.readBigUInt64LE(16)) > pages[9]!);
    stream.write(Buffer.concat([first!, ...rest.slice(0, half)]));
    const { manager, lazy } = await lazily(stream);
    const guest = kvmMissing === undefined ? new WaitingGuest(manager) : undefined;
    const reading = guest?.read(pages[20]!);
    const loading = lazy!.load();
    await lazy!.load({ range: { gpa: pages[9]!, length: PAGE } });
    next(stream, rest.slice(half - 1));
    await t.throwsAsync(loading, { code, message: says });
    await t.throwsAsync(lazy!.load({ range: { gpa: pages[20]!, length: PAGE } }), { code });
    t.is(manager.guestMemory.readU32(pages[9]!), wordAt(pages[9]!), 'what has come stays');
    if (guest !== undefined) {
      t.is(await reading, 'memory-fault');
      t.is(await guest.read(pages[30]!), 'memory-fault', 'nobody waits for what cannot come');
      await setTimeout(20);
      t.regex(guest.lost.get(pages[20]!)!, says);
      guest.close();
    }
    t.deepEqual(listeners(stream), listeners(new PassThrough().on('error', () => {})));
    manager.close();
  });
}

streamTest('a guest that is closed, and a signal, let go of the stream', async (t) => {
  const [first] = recordsOf(await aStream());
  for (const how of ['close', 'signal'] as const) {
    const stream = new PassThrough();
    const untouched = listeners(stream);
    stream.write(first);
    const controller = new AbortController();
    const { manager, lazy } = await lazily(stream, { signal: controller.signal });
    const loading = lazy!.load();
    if (how === 'close') manager.close();
    else controller.abort();
    await t.throwsAsync(loading, { code: 'ABORTED' });
    manager.close();
    t.deepEqual(listeners(stream), untouched);
  }
  const stream = new PassThrough();
  stream.write(first);
  const { manager, lazy } = await lazily(stream);
  for (const range of [{}, { range: { gpa: FIRST, length: PAGE } }]) {
    const controller = new AbortController();
    const loading = lazy!.load({ ...range, signal: controller.signal });
    await setTimeout(5);
    controller.abort();
    await t.throwsAsync(loading, { code: 'ABORTED' });
  }
  manager.close();
});

streamTest('RAM goes while its pages are on their way', async (t) => {
  const [first, ...rest] = recordsOf(await aStream());
  const stream = new PassThrough();
  stream.write(first);
  const { manager, lazy } = await lazily(stream);
  manager.removeRam('high');
  stream.write(Buffer.concat(rest));
  await lazy!.load();
  t.is(manager.guestMemory.readU32(pages[0]!), wordAt(pages[0]!));
  manager.close();
});

streamTest('a diff comes by a stream: the rest is read from its base, which must be that one', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest();
  await manager.snapshot(folder);
  const memory = manager.guestMemory;
  memory.writeU32(pages[1]!, 1);
  memory.write(pages[2]!, new Uint8Array(PAGE));
  // Written, and as it was.
  memory.writeU32(pages[3]!, wordAt(pages[3]!));
  const bytes = await recorded(manager, { base: folder });
  const [first, ...rest] = recordsOf(bytes);
  const stream = new PassThrough();
  stream.write(first);
  const restored = await lazily(stream);
  await restored.lazy!.load({ range: { gpa: pages[0]!, length: PAGE } });
  t.is(restored.manager.guestMemory.readU32(pages[0]!), wordAt(pages[0]!), 'what the base has does not wait');
  stream.write(Buffer.concat(rest));
  await restored.lazy!.load();
  const words = pages.map((gpa) => restored.manager.guestMemory.readU32(gpa));
  t.deepEqual(words, [wordAt(pages[0]!), 1, 0, ...pages.slice(3).map(wordAt)]);
  restored.manager.close();

  await manager.snapshot(folder);
  manager.close();
  for (const mode of ['copy', 'lazy'] as const) {
    const again = Readable.from([bytes], { objectMode: false });
    await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(again, { mode }), { code: 'SNAPSHOT_BASE' }, mode);
  }
});

// ---- Guests that went on meanwhile -----------------------------------------------------------------

/** Pages that are written for the last time when the guest is held: one that was sent before, the zeroes behind it, one
 *  that nobody had touched, and one that becomes zeroes. */
const LAST = [pages[1]!, pages[1]! + PAGE, 3 * MIB, pages[5]!];

/** Records of a live snapshot of a guest that is written to while it is copied. */
async function liveRecords(manager: GuestMemoryManager, options: SnapshotOptions = {}): Promise<Buffer[]> {
  const memory = manager.guestMemory;
  let steps = 0;
  const progress = () => {
    if (steps++ > 0) return;
    memory.writeU32(pages[0]!, 1); // sent before
    // Touched by nobody before, and enough for another round.
    memory.write(2 * MIB, Buffer.alloc(MIB / 2, 2));
    memory.write(pages[2]!, new Uint8Array(PAGE));
  };
  const state = () => {
    for (const gpa of LAST) memory.writeU32(gpa, gpa === pages[5]! ? 0 : 7);
    manager.deviceMapper.regions[0]!.region.move(0xf000_0000);
    return 'held';
  };
  return recordsOf(await recorded(manager, { live: true, progress, state, ...options }));
}

const isLast = (record: Buffer) => record.readUInt32LE(0) === RECORD.last;
const wordsOf = (manager: GuestMemoryManager) =>
  [...pages, ...pages.map((gpa) => gpa + PAGE), 2 * MIB, 3 * MIB, HIGH].map((gpa) => manager.guestMemory.readU32(gpa));

/** A test of live streams, where they can be had. */
const liveTest = trackingMissing === undefined ? streamTest : () => {};

liveTest(
  'a guest that went on is there before the pages of its last round, and all others are as they are to be',
  async (t) => {
    const source = makeGuest();
    const records = await liveRecords(source);
    const at = records.findIndex(isLast);
    const stream = new PassThrough();
    const restoring = lazily(stream);
    for (const record of records.slice(0, at)) stream.write(record);
    t.is(await Promise.race([restoring, setTimeout(20)]), undefined, 'nothing is known to be as it is to be');
    stream.write(records[at]);
    const { manager, lazy, state, devices } = await restoring;
    t.is(state, 'held');
    t.is(devices[0]!.control.gpa, 0xf000_0000);
    const memory = manager.guestMemory;
    t.deepEqual(
      [pages[0]!, 2 * MIB, pages[2]!, pages[3]!, HIGH].map((gpa) => memory.readU32(gpa)),
      [...[1, 0x02020202, 0, wordAt(pages[3]!), 0x600d]],
    );
    t.is(lazy!.absentBytes, LAST.length * PAGE);
    for (const gpa of LAST)
      t.throws(() => memory.readU32(gpa), { code: 'GUEST_ACCESS', message: /has yet to give it/ });
    const guest = kvmMissing === undefined ? new WaitingGuest(manager) : undefined;
    const reading = guest?.read(pages[1]!);
    manager.discard({ gpa: 3 * MIB, length: PAGE });
    stream.write(Buffer.concat([...records.slice(at + 1), Buffer.from('rest')]));
    await lazy!.load();
    source.guestMemory.writeU32(3 * MIB, 0);
    t.deepEqual(wordsOf(manager), wordsOf(source));
    t.is(String(stream.read()), 'rest');
    if (guest !== undefined) t.is(await reading, 7);
    guest?.close();
    for (const each of [source, manager]) each.close();
  },
);

liveTest('a diff of a guest that went on comes by a stream, and without a word of what is last', async (t) => {
  const folder = tempFolder(t);
  const source = makeGuest();
  await source.snapshot(folder);
  source.guestMemory.writeU32(pages[6]!, 6);
  source.guestMemory.writeU32(pages[7]!, wordAt(pages[7]!)); // as it was
  const records = await liveRecords(source, { base: folder });
  for (const sent of [records, records.filter((record) => !isLast(record))]) {
    const { manager, lazy } = await lazily(Readable.from(sent, { objectMode: false }));
    await lazy!.load();
    t.is(lazy!.absentBytes, 0);
    t.deepEqual(wordsOf(manager), wordsOf(source));
    manager.close();
  }
  const copied = await GuestMemoryBuilder.fromSnapshot(Readable.from(records, { objectMode: false }));
  t.deepEqual(wordsOf(copied.manager), wordsOf(source));
  for (const each of [source, copied.manager]) each.close();
});

/** Records behind the word of what is last, as they must not be, and the words of the error. */
const WRONG_ENDS: Readonly<Record<string, readonly [change: (last: Buffer[]) => Buffer[], says: RegExp]>> = {
  'lacks one of its last pages': [(last) => last.toSpliced(1, 1), /announced as its last do not come/],
  'has none of its last pages': [(last) => last.slice(-1), /announced as its last do not come/],
  'sends one of its last pages again': [
    ([page, ...more]) => [page!, page!, ...more],
    /not those that it has announced/,
  ],
  'sends a page that was settled': [
    (last) => [made(RECORD.pages, pages[3]!, Buffer.alloc(PAGE, 1)), ...last],
    /not those that it has announced/,
  ],
  'says once more what is last': [
    (last) => [made(RECORD.last, 0, last.at(-1)!.subarray(HEAD)), ...last],
    /what comes is no record of memory/,
  ],
  'ends with another guest than it has said': [
    (last) => [made(RECORD.end, 0, Buffer.from(String(last.at(-1)!.subarray(HEAD)).replace('"bar"', '"rab"')))],
    /another layout/,
  ],
  'does not end': [(last) => last.slice(0, -1), /it ends too early/],
};

for (const [what, [change, says]] of Object.entries(WRONG_ENDS)) {
  liveTest(`a stream of a guest that went on, which ${what}, loses what has not come`, async (t) => {
    const source = makeGuest();
    const records = await liveRecords(source);
    source.close();
    const behind = records.findIndex(isLast) + 1;
    const sent = [...records.slice(0, behind), ...change(records.slice(behind))];
    const { manager, lazy } = await lazily(Readable.from(sent, { objectMode: false }));
    await t.throwsAsync(lazy!.load(), { code: 'SNAPSHOT_DAMAGED', message: says });
    t.is(manager.guestMemory.readU32(pages[3]!), wordAt(pages[3]!), 'what is settled stays');
    manager.close();
  });
}

liveTest('a guest that went on is none where its stream fails before it says what is last', async (t) => {
  const source = makeGuest();
  const records = await liveRecords(source);
  source.close();
  const at = records.findIndex(isLast);
  const other = Buffer.from(String(records[at]!.subarray(HEAD)).replace(/"id": "./, '"id": "0'));
  const ends: readonly (readonly [Buffer[], string])[] = [
    [[], 'SNAPSHOT_DAMAGED'],
    [[made(RECORD.last, 0, other)], 'SNAPSHOT_DAMAGED'],
    [[made(RECORD.last, 0, Buffer.from('{}'))], 'SNAPSHOT_LAYOUT'],
    [[made(RECORD.pages, 64 * MIB, Buffer.alloc(PAGE))], 'SNAPSHOT_DAMAGED'],
  ];
  for (const [end, code] of ends) {
    const stream = Readable.from([...records.slice(0, at), ...end], { objectMode: false });
    const untouched = listeners(stream);
    await t.throwsAsync(lazily(stream), { code });
    t.deepEqual(listeners(stream), untouched);
  }
  const stream = new PassThrough();
  const controller = new AbortController();
  const restoring = lazily(stream, { signal: controller.signal });
  for (const record of records.slice(0, at)) stream.write(record);
  await setTimeout(20);
  controller.abort();
  await t.throwsAsync(restoring, { code: 'ABORTED' });
});

test('options that are for something else are refused', async (t) => {
  const invalid = { code: 'INVALID_ARGUMENT' };
  const pageSource = () => new Uint8Array(PAGE);
  await t.throwsAsync(lazily(new PassThrough(), { pageSource }), invalid);
  await t.throwsAsync(lazily(new PassThrough(), { pageTimeout: 0 }), invalid);
  await t.throwsAsync(lazily(new PassThrough(), { mode: 'copy', pageTimeout: 5 }), invalid);
});
