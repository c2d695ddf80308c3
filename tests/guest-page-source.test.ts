// Lazy restores from a page source, and with a working set: pages that lie elsewhere, and those that come by
// themselves.

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { GuestMemoryBuilder, type PageSource, type RestoredGuest } from '../ts/index.ts';
import { descriptors } from './support/footprint.ts';
import { guestImage, kvmMissing } from './support/guest.ts';
import { lazyTest, pagerThreads, WaitingGuest } from './support/lazy.ts';
import { tempFolder } from './support/temp-folder.ts';
import { MIB } from './support/vm.ts';

const PAGE = 0x1000;
const SIZE = 4 * MIB;
const FIRST = MIB;
const COUNT = 256;
const wordAt = (gpa: number) => 0x600d0000 + gpa / PAGE;

/** A folder with a snapshot of a guest's RAM, and the bytes of that. */
async function aSnapshot(t: ExecutionContext): Promise<{ folder: string; memory: Buffer }> {
  const folder = tempFolder(t);
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 32 - 1 })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: SIZE }] })
    .build();
  manager.guestMemory.write(0, guestImage());
  for (let gpa = FIRST; gpa < FIRST + COUNT * PAGE; gpa += PAGE) manager.guestMemory.writeU32(gpa, wordAt(gpa));
  await manager.snapshot(folder);
  manager.close();
  return { folder, memory: readFileSync(memoryOf(folder)) };
}

const memoryOf = (folder: string) => join(folder, readdirSync(folder).find((name) => name.startsWith('memory-'))!);

/** Ways in which a source answers, by offset; others get the page. */
type Answers = Readonly<Record<number, () => Uint8Array | Promise<Uint8Array>>>;

/** The page of the guest at an address. */
function pageOf(gpa: number): Buffer {
  const page = Buffer.alloc(PAGE);
  page.writeUInt32LE(wordAt(gpa));
  return page;
}

/** Facts of a restore from a source. */
interface Sourced extends RestoredGuest {
  /** Offsets that the source was asked for. */
  readonly asked: number[];
}

/** A test with a guest whose pages a source gives; the snapshot's own file is gone. */
function sourceTest(
  title: string,
  answers: Answers,
  body: (t: ExecutionContext, restored: Sourced) => Promise<void>,
): void {
  lazyTest(title, async (t) => {
    const { folder, memory } = await aSnapshot(t);
    rmSync(memoryOf(folder));
    const asked: number[] = [];
    const pageSource: PageSource = (ram, offset) => {
      t.is(ram, 'ram');
      asked.push(offset);
      const answer = answers[offset];
      if (answer !== undefined) return answer();
      const page = memory.subarray(offset, offset + PAGE);
      return offset % (2 * PAGE) === 0 ? page : setTimeout(1).then(() => page);
    };
    const options = { mode: 'lazy', pageSource, pageTimeout: 300 } as const;
    const restored = await GuestMemoryBuilder.fromSnapshot(folder, options);
    t.is(pagerThreads(), 1);
    try {
      await body(t, { ...restored, asked });
    } finally {
      restored.manager.close();
    }
    t.is(pagerThreads(), 0);
    t.false(descriptors().some((name) => name.includes('userfaultfd')));
  });
}

sourceTest(
  'pages are loaded from a source that gives one, many, at once or later',
  {
    [FIRST]: () => Buffer.concat([0, 1, 2, 3].map((i) => pageOf(FIRST + i * PAGE))),
  },
  async (t, { manager, lazy, asked }) => {
    await lazy!.load({ range: { gpa: FIRST + 8, length: 6 * PAGE } });
    t.deepEqual(asked, [FIRST, FIRST + 4 * PAGE, FIRST + 5 * PAGE, FIRST + 6 * PAGE]);
    for (let i = 0; i < 7; i++) t.is(manager.guestMemory.readU32(FIRST + i * PAGE), wordAt(FIRST + i * PAGE));
    manager.discard({ gpa: FIRST + 7 * PAGE, length: PAGE });
    await lazy!.load();
    t.false(asked.includes(FIRST + 7 * PAGE), 'what was discarded is not asked for');
    t.is(manager.guestMemory.readU32(FIRST + 7 * PAGE), 0);
    t.is(manager.guestMemory.readU32(FIRST + 255 * PAGE), wordAt(FIRST + 255 * PAGE));
    t.is(lazy!.absentBytes, 0);
  },
);

sourceTest(
  'JavaScript in the thread of the source is refused what has yet to come, and never waits for itself',
  {},
  async (t, { manager, lazy, asked }) => {
    const memory = manager.guestMemory;
    const absent = { code: 'GUEST_ACCESS', message: /the source of its pages has yet to give it: load it before/ };
    t.throws(() => memory.readU32(FIRST), absent);
    t.throws(() => memory.writeU32(FIRST, 1), absent);
    t.throws(() => memory.compareExchange(FIRST, 4, 0, 1), absent);
    t.throws(() => memory.read(FIRST - 8, new Uint8Array(16)), absent);
    const lease = memory.lock({ gpa: FIRST, length: PAGE }, 'write', { holder: 'a device' });
    t.throws(() => lease.view, { code: 'SYSTEM', message: /has yet to give it/ });
    lease.release();
    t.deepEqual(asked, []);
    t.is(memory.readU32(FIRST - PAGE), 0, 'a page of zeroes is in no source');
    await lazy!.load({ range: { gpa: FIRST, length: PAGE } });
    t.is(memory.readU32(FIRST), wordAt(FIRST));
  },
);

sourceTest('a snapshot asks for what has yet to come, once', {}, async (t, { manager, lazy, asked }) => {
  manager.discard({ gpa: FIRST + PAGE, length: PAGE });
  await lazy!.load({ range: { gpa: FIRST + 2 * PAGE, length: PAGE } });
  const folder = tempFolder(t);
  await manager.snapshot(folder);
  t.is(lazy!.absentBytes, 0);
  t.is(new Set(asked).size, asked.length);
  t.false(asked.includes(FIRST + PAGE));
  const again = await GuestMemoryBuilder.fromSnapshot(folder);
  for (let i = 0; i < COUNT; i++) {
    t.is(again.manager.guestMemory.readU32(FIRST + i * PAGE), i === 1 ? 0 : wordAt(FIRST + i * PAGE));
  }
  again.manager.close();
});

sourceTest(
  'a snapshot of what a source does not give comes to nothing, or is given up',
  {
    [FIRST]: () => Promise.reject(new Error('no network')),
    [FIRST + PAGE]: () => new Promise<Uint8Array>(() => {}),
  },
  async (t, { manager }) => {
    const folder = tempFolder(t);
    await t.throwsAsync(manager.snapshot(folder), { message: 'no network' });
    manager.discard({ gpa: FIRST, length: PAGE });
    const controller = new AbortController();
    const waiting = manager.snapshot(folder, { signal: controller.signal });
    await setTimeout(20);
    controller.abort();
    await t.throwsAsync(waiting, { code: 'ABORTED' });
    t.deepEqual(readdirSync(folder), []);
  },
);

/** A source that has stopped. */
const never = () => new Promise<Uint8Array>(() => {});
const FAILING: Answers = {
  [FIRST]: () => {
    throw new Error('no such page');
  },
  [FIRST + PAGE]: () => Promise.reject(new Error('no network')),
  [FIRST + 2 * PAGE]: () => new Uint8Array(100),
  [FIRST + 3 * PAGE]: never,
  [FIRST + 4 * PAGE]: () => 'text' as unknown as Uint8Array,
};

sourceTest(
  'a load says what the source has thrown, or that it gives no page',
  FAILING,
  async (t, { manager, lazy }) => {
    const load = (gpa: number) => lazy!.load({ range: { gpa, length: PAGE } });
    await t.throwsAsync(load(FIRST), { message: 'no such page' });
    await t.throwsAsync(load(FIRST + PAGE), { message: 'no network' });
    await t.throwsAsync(load(FIRST + 2 * PAGE), { code: 'INVALID_ARGUMENT', message: /not 100 bytes/ });
    await t.throwsAsync(load(FIRST + 4 * PAGE), { code: 'INVALID_ARGUMENT' });
    await load(FIRST + 5 * PAGE);
    t.is(manager.guestMemory.readU32(FIRST + 5 * PAGE), wordAt(FIRST + 5 * PAGE));
  },
);

if (kvmMissing === undefined) {
  sourceTest(
    'a guest waits for its pages while JavaScript goes on; one that the source does not give is lost',
    FAILING,
    async (t, { manager, asked }) => {
      const guest = new WaitingGuest(manager);
      const { lost } = guest;
      t.is(await guest.read(FIRST + 8 * PAGE), wordAt(FIRST + 8 * PAGE));
      t.is(await guest.read(FIRST + 9 * PAGE), wordAt(FIRST + 9 * PAGE));
      t.true(asked.includes(FIRST + 8 * PAGE));
      for (let i = 0; i < 5; i++) t.is(await guest.read(FIRST + i * PAGE), 'memory-fault', `page ${i}`);
      await setTimeout(20);
      t.deepEqual(
        [...lost.keys()],
        Array.from({ length: 5 }, (_, i) => FIRST + i * PAGE),
      );
      t.is(lost.get(FIRST), 'no such page');
      t.is(lost.get(FIRST + PAGE), 'no network');
      t.regex(lost.get(FIRST + 2 * PAGE)!, /not 100 bytes/);
      t.regex(lost.get(FIRST + 3 * PAGE)!, /has not given it in time/);
      guest.close();
    },
  );

  let isSlow = true;
  sourceTest(
    'a page that was lost is there again when the source gives it after all',
    { [FIRST]: () => setTimeout(isSlow ? 400 : 1).then(() => pageOf(FIRST)) },
    async (t, { manager, lazy }) => {
      const guest = new WaitingGuest(manager);
      t.is(await guest.read(FIRST), 'memory-fault');
      t.is(await guest.read(FIRST), 'memory-fault');
      t.throws(() => manager.guestMemory.readU32(FIRST), { code: 'GUEST_ACCESS', message: /in time/ });
      isSlow = false;
      await lazy!.load({ range: { gpa: FIRST, length: PAGE } });
      t.is(await guest.read(FIRST), wordAt(FIRST));
      t.is(manager.guestMemory.readU32(FIRST), wordAt(FIRST));
      guest.close();
    },
  );
}

lazyTest('a page source is for a lazy restore, and a function', async (t) => {
  const { folder } = await aSnapshot(t);
  const invalid = { code: 'INVALID_ARGUMENT' };
  const pageSource = () => new Uint8Array(PAGE);
  await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(folder, { pageSource }), invalid);
  await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy', pageTimeout: 5 }), invalid);
  await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy', pageSource: 5 as never }), invalid);
  await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy', pageSource, pageTimeout: 0 }), invalid);
});

// ---- Working sets ------------------------------------------------------------------------------

/** Touches pages in an order of their own. */
function work({ manager }: RestoredGuest): void {
  for (let i = 0; i < COUNT; i++) manager.guestMemory.readU32(FIRST + ((i * 37) % COUNT) * PAGE);
}

lazyTest('a restore fetches first what earlier ones wanted, so that nobody waits for it', async (t) => {
  const { folder } = await aSnapshot(t);
  const first = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy' });
  work(first);
  t.is(first.lazy!.waits, COUNT);
  await first.lazy!.saveWorkingSet();
  first.manager.close();
  await t.throwsAsync(first.lazy!.saveWorkingSet(), { code: 'CLOSED' });

  const second = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy' });
  const own = guestImage().length / PAGE;
  while (second.lazy!.absentBytes > own * PAGE) await setTimeout(1);
  work(second);
  t.is(second.lazy!.waits, 0);
  second.manager.guestMemory.readU32(0x1000);
  t.is(second.lazy!.waits, 1);
  await second.lazy!.saveWorkingSet();
  second.manager.close();

  const { wanted } = JSON.parse(readFileSync(workingSetOf(folder), 'utf8')) as { wanted: { pages: string }[] };
  t.regex(wanted[0]!.pages, /^256\+1 293\+1 330\+1 /, 'in the order in which they were wanted');
  t.is(wanted.at(-1)!.pages, '1+1');
  await GuestMemoryBuilder.fromSnapshot(folder).then(async ({ manager }) => {
    await manager.snapshot(folder);
    manager.close();
  });
  t.throws(() => workingSetOf(folder), undefined, 'it goes with its snapshot');
});

lazyTest(
  'a source is asked first for what earlier restores wanted, in large steps, and at once by who waits',
  async (t) => {
    const { folder, memory } = await aSnapshot(t);
    const first = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy' });
    for (const gpa of [FIRST + 64 * PAGE, FIRST, FIRST + PAGE, FIRST + 2 * PAGE, FIRST + 3 * PAGE]) {
      first.manager.guestMemory.readU32(gpa);
    }
    await first.lazy!.saveWorkingSet();
    first.manager.close();

    const asked: string[] = [];
    const pageSource: PageSource = async (_, offset, length) => {
      asked.push(`${offset / PAGE}+${length / PAGE}`);
      await setTimeout(1);
      // One page at a time, now and then; and one is not to be had.
      if (offset === FIRST + PAGE) throw new Error('no such page');
      return memory.subarray(offset, offset + (offset === FIRST ? PAGE : length));
    };
    const { manager, lazy } = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy', pageSource });
    const before = lazy!.absentBytes;
    while (lazy!.absentBytes > before - 2 * PAGE) await setTimeout(1);
    t.deepEqual(asked, ['256+4', '257+3', '320+1'], 'what is left out is left, and the next step goes on');
    t.is(manager.guestMemory.readU32(FIRST + 64 * PAGE), wordAt(FIRST + 64 * PAGE));
    t.throws(() => manager.guestMemory.readU32(FIRST + 2 * PAGE), { code: 'GUEST_ACCESS' });
    await t.throwsAsync(lazy!.load(), { message: 'no such page' });
    manager.close();
  },
);

const workingSetOf = (folder: string) => {
  const name = readdirSync(folder).find((each) => each.startsWith('working-set-'));
  if (name === undefined) throw new Error('there is no working set');
  return join(folder, name);
};

lazyTest('a working set that was tampered with is refused by its field', async (t) => {
  const { folder } = await aSnapshot(t);
  const restored = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy' });
  work(restored);
  await restored.lazy!.saveWorkingSet();
  restored.manager.close();
  const path = workingSetOf(folder);
  const good = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  const bad = [
    { ...good, id: 'another' },
    { ...good, version: 2 },
    { ...good, wanted: 5 },
    { ...good, more: 1 },
    ...['', '1', '1+0', '99999999+1', '1023+2', '-1+1', 5, null].map((pages) => ({
      ...good,
      wanted: [{ ram: 'ram', pages }],
    })),
    { ...good, wanted: [{ ram: 'other', pages: '1+1' }] },
  ].map((json) => JSON.stringify(json));
  for (const text of [...bad, '', '{', '[]']) {
    writeFileSync(path, text);
    const error = await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy' }), undefined, text);
    t.regex((error as { code?: string }).code!, /^SNAPSHOT_(LAYOUT|VERSION)$/, text);
  }
  t.is(pagerThreads(), 0);
  t.false(descriptors().some((name) => name.includes('userfaultfd')));
});
