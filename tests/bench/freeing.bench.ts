// Giving memory back, against the same by bare system calls: how long it takes, and for how long the thread that
// changes the map is held up by what is freed in the background. And what a map of many regions says of itself.

import { inspect } from 'node:util';
import { type GpaRange, GuestMemoryBuilder, type GuestMemoryManager, MemoryMap, SharedMemory } from '../../ts/index.ts';
import { baseline } from './support/baseline.ts';
import { type Group, runGroup } from './support/group.ts';
import { atMost, compare, median, type Side, speedAtLeast } from './support/measure.ts';

const PAGE = 4096;
const GIB = 2 ** 30;
const MILLISECOND = 1e6;
const PAGES = 4096;
const MAPPINGS = 55_000;

function build(): GuestMemoryManager {
  return new GuestMemoryBuilder().addRam({ name: 'ram', ranges: [{ gpa: 0, length: GIB }] }).build();
}

/** Writes to each page of a range. */
function touch({ guestMemory }: GuestMemoryManager, { gpa, length }: { gpa: number; length: number }): void {
  for (let done = 0; done < length; done += PAGE) guestMemory.writeU8(gpa + done, 1);
}

/** Every other page is given back: one by one, in a list, by fallocate. */
async function discards(group: Group): Promise<void> {
  const [manager, bare] = [build(), build()];
  const pages = Array.from({ length: PAGES }, (_, i) => ({ gpa: 2 * i * PAGE, length: PAGE }));
  const prepareFor = (of: GuestMemoryManager) => () => {
    for (const page of pages) touch(of, page);
  };
  const backing = bare.sharedMemory();
  const { fd } = backing.parts()[0]!;
  const pieces = BigUint64Array.from(pages.flatMap(({ gpa, length }) => [0n, BigInt(length), BigInt(gpa)]));
  const other = { what: 'bare fallocate', prepare: prepareFor(bare), run: () => baseline.punch(fd, pieces) };
  const ways: readonly [name: string, run: () => unknown, goal: number][] = [
    ['one by one', () => pages.forEach((page) => void manager.discard(page)), 0.2],
    ['in a list', () => manager.discard(pages), 0.6],
  ];
  for (const [name, run, goal] of ways) {
    const what = `discard of a page, ${name}`;
    group.doing(what);
    const ours: Side = { prepare: prepareFor(manager), run: () => void run() };
    await group.add(compare({ what, operations: PAGES, goals: [speedAtLeast(goal)], ours, baseline: other }));
  }
  for (const each of [manager, bare, backing]) each.close();
}

/** Milliseconds for which the thread was held up at most, until the promise settles. */
async function heldUp(work: () => Promise<unknown>): Promise<number> {
  let [longest, isDone] = [0, false];
  let before = performance.now();
  const look = () => {
    const now = performance.now();
    longest = Math.max(longest, now - before);
    before = now;
    if (!isDone) setImmediate(look);
  };
  setImmediate(look);
  await work();
  isDone = true;
  look();
  return longest;
}

const LONG: readonly [
  name: string,
  now: (of: GuestMemoryManager) => void,
  later: (of: GuestMemoryManager) => Promise<unknown>,
][] = [
  ['discard', (of) => of.discard(ALL), (of) => of.discardAsync(ALL)],
  ['removeRam', (of) => of.removeRam('ram'), (of) => of.removeRamAsync('ram')],
  ['close', (of) => of.close(), (of) => of.closeAsync()],
];
const ALL: GpaRange = { gpa: 0, length: GIB };

async function longCalls(group: Group): Promise<void> {
  for (const [name, now, later] of LONG) {
    const what = `${name}Async of 1 GiB: the thread is held up at most`;
    group.doing(what);
    const [ours, base]: [number[], number[]] = [[], []];
    for (let turn = 0; turn < 3; turn++) {
      for (const [times, call] of [
        [ours, later],
        [base, async (of: GuestMemoryManager) => now(of)],
      ] as const) {
        const manager = build();
        touch(manager, { gpa: 0, length: GIB });
        times.push((await heldUp(() => call(manager))) * MILLISECOND);
        manager.close();
      }
    }
    group.rows.push(heldUpRow(what, name, ours, base));
  }
}

/** A region of many mappings is placed: at once, and in the background. */
async function placing(group: Group): Promise<void> {
  const what = `placing ${MAPPINGS} mappings in the background: the thread is held up at most`;
  group.doing(what);
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'container', size: 2 ** 40 });
  map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }));
  const object = SharedMemory.create(PAGE);
  const window = map.createRegion({ name: 'window', kind: 'device', size: MAPPINGS * PAGE });
  map.transaction(() => {
    for (let i = 0; i < MAPPINGS; i++) window.map({ object, offset: i * PAGE });
  });
  const place = () => window.place(root);
  const [ours, base]: [number[], number[]] = [[], []];
  for (let turn = 0; turn < 3; turn++) {
    for (const [times, call] of [
      [ours, () => map.transactionAsync(place)],
      [base, async () => place()],
    ] as const) {
      times.push((await heldUp(call)) * MILLISECOND);
      window.remove();
    }
  }
  group.rows.push(heldUpRow(what, 'at once', ours, base));
  await map.closeAsync();
  object.close();
}

/** Row of times for which the thread was held up. */
function heldUpRow(
  what: string,
  other: string,
  ours: readonly number[],
  base: readonly number[],
): Group['rows'][number] {
  const speeds = ours.map((each, i) => base[i]! / each);
  return {
    ...{ what, unit: 'ns', ours: median(ours), goals: [atMost(20 * MILLISECOND)] },
    baseline: { what: other, value: median(base) },
    speed: { median: median(speeds), p10: Math.min(...speeds), p90: Math.max(...speeds), pairs: speeds.length },
  };
}

async function texts(group: Group): Promise<void> {
  const what = 'text of a map of 50000 regions, as console.log shows it';
  group.doing(what);
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'container', size: GIB });
  map.createAddressSpace({ name: 'guest', root });
  map.transaction(() => {
    for (let i = 0; i < 50_000; i++) {
      map.createRegion({ name: `device ${i}`, kind: 'mmio', size: PAGE }).place(root, { offset: i * PAGE });
    }
  });
  const ours = { run: () => void inspect(map) };
  const whole = { what: 'all of it', run: () => void inspect(map, { maxArrayLength: null }) };
  await group.add(
    compare({ what, operations: 1, leastPairs: 3, goals: [atMost(50 * MILLISECOND)], ours, baseline: whole }),
  );
  map.close();
}

await runGroup(async (group) => {
  await discards(group);
  await longCalls(group);
  await placing(group);
  await texts(group);
});
