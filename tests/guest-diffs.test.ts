// Diffs: the pages that were written since their base, by whomever, and no others; of a snapshot on disk, of a template
// in memory, of each other.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import {
  GuestMemoryBuilder,
  type GuestMemoryManager,
  mergeSnapshot,
  type SnapshotLayout,
  verifySnapshot,
} from '../ts/index.ts';
import { footprint } from './support/footprint.ts';
import { Random, tries } from './support/random.ts';
import { tempFolder } from './support/temp-folder.ts';
import { eachMethodTest, trackingMissing, trackingTest } from './support/tracking.ts';

const PAGE = 0x1000;
const PAGES = 700; // more than a step
const HIGH = 0x1_0000_0000;

/** A guest with shared RAM at 0 and private RAM at HIGH. */
function makeGuest(): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 * HIGH - 1, debug: true })
    .addRam({ name: 'low', ranges: [{ gpa: 0, length: PAGES * PAGE }] })
    .addRam({ name: 'high', ranges: [{ gpa: HIGH, length: PAGES * PAGE }], backing: 'private' })
    .build();
  for (const gpa of [0x1000, HIGH + PAGE]) manager.guestMemory.write(gpa, Buffer.from(`at ${gpa}`));
  return manager;
}

/** Pages of a snapshot's memory file, block by block: `low 1 2 9`. */
function pagesOf({ ram }: Pick<SnapshotLayout, 'ram'>): string[] {
  return ram.map(({ name, pages }) => [name, ...pages.flatMap(numbers)].join(' '));
}

function numbers({ offset, length }: { offset: number; length: number }): number[] {
  return Array.from({ length: length / PAGE }, (_, i) => offset / PAGE + i);
}

/** Bytes of all RAM. */
function bytesOf(manager: GuestMemoryManager): Buffer {
  const bytes = Buffer.alloc(2 * PAGES * PAGE);
  manager.guestMemory.read(0, bytes.subarray(0, PAGES * PAGE));
  manager.guestMemory.read(HIGH, bytes.subarray(PAGES * PAGE));
  return bytes;
}

trackingTest('a diff has the pages that were written since its base, and no others', async (t) => {
  const before = footprint();
  const folder = tempFolder(t);
  const manager = makeGuest();
  await manager.snapshot(join(folder, 'a'));
  manager.guestMemory.writeU8(0x1000, 'a'.charCodeAt(0)); // what is there already
  manager.guestMemory.writeU8(0x9000, 1);
  manager.guestMemory.read(0x5000, new Uint8Array(PAGE));
  manager.guestMemory.write(HIGH + PAGE, new Uint8Array(32)); // zeroes
  manager.discard({ gpa: HIGH + 8 * PAGE, length: PAGE });
  t.deepEqual(pagesOf(await manager.snapshot(join(folder, 'b'), { base: join(folder, 'a') })), ['low 1 9', 'high 1 8']);
  manager.guestMemory.writeU8(0x2000, 1);
  t.deepEqual(pagesOf(await manager.snapshot(join(folder, 'c'), { base: join(folder, 'b') })), ['low 2', 'high']);
  // Of a base again, and of none that the guest remembers.
  t.deepEqual(pagesOf(await manager.snapshot(join(folder, 'd'), { base: join(folder, 'b') })), ['low 2', 'high']);
  t.deepEqual(pagesOf(await manager.snapshot(join(folder, 'e'), { base: join(folder, 'a') })), ['low 2 9', 'high 1']);
  for (const name of ['b', 'c', 'd', 'e']) t.deepEqual(await verifySnapshot(join(folder, name)), []);
  manager.close();
  t.deepEqual(footprint(), before);
});

trackingTest('a diff that came to nothing takes no page from the next one', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest();
  const base = join(folder, 'base');
  await manager.snapshot(base);
  manager.guestMemory.writeU8(0x3000, 1);
  const controller = new AbortController();
  const givenUp = { base, signal: controller.signal, progress: () => controller.abort() };
  manager.guestMemory.writeU8(HIGH, 1);
  await t.throwsAsync(manager.snapshot(join(folder, 'diff'), givenUp), { code: 'ABORTED' });
  manager.guestMemory.writeU8(0x4000, 1);
  t.deepEqual(pagesOf(await manager.snapshot(join(folder, 'diff'), { base })), ['low 3 4', 'high 0']);
  manager.close();
});

test.serial('memory that others may write to is compared with the base', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest();
  const backing = manager.sharedMemory({ partial: true });
  const other = new GuestMemoryBuilder()
    .addRam({ name: 'low', ranges: [{ gpa: 0, length: PAGES * PAGE }], backing: { kind: 'handed-over', backing } })
    .build();
  await manager.snapshot(join(folder, 'a'));
  manager.guestMemory.writeU8(0x1000, 'a'.charCodeAt(0));
  other.guestMemory.writeU8(0x7000, 1);
  const { ram } = await manager.snapshot(join(folder, 'b'), { base: join(folder, 'a') });
  t.deepEqual(ram[0]!.pages.flatMap(numbers), [7]);
  for (const each of [manager, other, backing]) each.close();
});

eachMethodTest('private memory says which pages it holds while it is tracked, too', (t, method) => {
  // Smaller than a huge page, of which this machine might make some.
  const ranges = [{ gpa: 0, length: 64 * PAGE }];
  const manager = new GuestMemoryBuilder().addRam({ ranges, backing: 'private' }).build();
  const { object } = manager.va.pieces()[0]!;
  manager.guestMemory.writeU8(PAGE, 1);
  const tracker = manager.trackDirty({ method });
  manager.guestMemory.writeU8(5 * PAGE, 1);
  tracker.collect();
  t.deepEqual(
    object.dataRanges().flatMap(({ offset, length }) => numbers({ offset: Number(offset), length: Number(length) })),
    [1, 5],
  );
  manager.close();
});

eachMethodTest('a guest of a template knows its own pages while it is tracked, too', async (t, method) => {
  const parent = makeGuest();
  for (let page = 0; page < 64; page++) parent.guestMemory.writeU8(page * PAGE, 1);
  const template = await parent.freeze();
  const { manager } = template.builder().build();
  const object = manager.va.pieces()[0]!.object;
  manager.guestMemory.writeU8(PAGE, 2);
  const tracker = manager.trackDirty({ method });
  manager.guestMemory.writeU8(5 * PAGE, 2);
  t.is(manager.guestMemory.readU8(7 * PAGE), 1);
  for (let round = 0; round < 2; round++) {
    t.deepEqual(object.ownRanges(), [
      { offset: PAGE, length: PAGE },
      { offset: 5 * PAGE, length: PAGE },
    ]);
    tracker.collect();
  }
  manager.guestMemory.writeU8(9 * PAGE, 2);
  t.deepEqual([...tracker.collect()], [{ gpa: 9 * PAGE, length: PAGE }]);
  for (const each of [manager, template, parent]) each.close();
});

trackingTest('RAM that came since the base is whole in a diff', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest();
  await manager.snapshot(join(folder, 'a'));
  manager.removeRam('high');
  manager.addRam({ name: 'high', ranges: [{ gpa: HIGH, length: PAGES * PAGE }], backing: 'private' });
  manager.addRam({ name: 'new', ranges: [{ gpa: HIGH / 2, length: 4 * PAGE }] });
  manager.guestMemory.writeU8(HIGH / 2 + PAGE, 1);
  const layout = await manager.snapshot(join(folder, 'b'), { base: join(folder, 'a') });
  t.deepEqual(pagesOf(layout), ['low', 'high 1', 'new 1']);
  const { manager: restored } = await GuestMemoryBuilder.fromSnapshot(join(folder, 'b'));
  t.deepEqual([restored.guestMemory.readU8(HIGH + PAGE), restored.guestMemory.readU8(HIGH / 2 + PAGE)], [0, 1]);
  for (const each of [manager, restored]) each.close();
});

trackingTest('histories of writes and diffs, of the last snapshot or the one before, are exact', async (t) => {
  const before = footprint();
  for (let seed = 1; seed <= tries(6); seed++) {
    const random = new Random(seed);
    const folder = tempFolder(t);
    const manager = makeGuest();
    /** Pages written since each snapshot. */
    const since = new Map<string, Set<number>[]>();
    const take = async (name: string, base: string | undefined) => {
      const layout = await manager.snapshot(join(folder, name), base === undefined ? {} : { base: join(folder, base) });
      if (base !== undefined) {
        const expected = since.get(base)!.map((set) => [...set].sort((a, b) => a - b));
        t.deepEqual(
          layout.ram.map(({ pages }) => pages.flatMap(numbers)),
          expected,
          `seed ${seed}, ${name}`,
        );
      }
      for (const known of [...since.keys()]) if (known !== base) since.delete(known);
      since.set(name, [new Set(), new Set()]);
    };
    await take('0', undefined);
    for (let i = 1; i < 8; i++) {
      for (let j = random.below(30); j >= 0; j--) {
        const [block, page, count] = [random.below(2), random.below(PAGES - 4), 1 + random.below(3)];
        const gpa = block * HIGH + page * PAGE;
        if (random.below(4) === 0) manager.discard({ gpa, length: count * PAGE });
        else manager.guestMemory.write(gpa + 8, Buffer.alloc((count - 1) * PAGE + 8, random.below(3)));
        for (const sets of since.values()) for (let k = 0; k < count; k++) sets[block]!.add(page + k);
      }
      await take(String(i), random.pick([undefined, ...since.keys()]));
    }
    const name = random.pick([...since.keys()]);
    await take('last', name);
    const { manager: restored } = await GuestMemoryBuilder.fromSnapshot(join(folder, 'last'), { mode: 'map' });
    t.true(bytesOf(restored).equals(bytesOf(manager)), `seed ${seed}`);
    restored.close();
    manager.close();
  }
  t.deepEqual(footprint(), before);
});

// ---- Templates -----------------------------------------------------------------------------------

test.serial("a guest's diff against its template is a snapshot, which the template resumes", async (t) => {
  const before = footprint();
  const folder = tempFolder(t);
  const parent = makeGuest();
  const template = await parent.freeze();
  const { manager: guest } = template.builder({ debug: true }).build();
  guest.guestMemory.writeU32(0x9000, 9);
  guest.guestMemory.read(0, new Uint8Array(PAGES * PAGE));
  guest.guestMemory.write(HIGH + PAGE, new Uint8Array(32));
  const first = await guest.snapshot(join(folder, 'first'), { base: template, state: 'first' });
  t.deepEqual(first.base, { id: template.id, folder: undefined });
  t.deepEqual(pagesOf(first), ['low 9', 'high 1']);
  guest.guestMemory.writeU32(0xa000, 10);
  await guest.snapshot(join(folder, 'second'), { base: join(folder, 'first'), state: 'second' });
  for (const name of ['first', 'second']) {
    const resumed = await template.builder({ diff: join(folder, name) }).buildAsync();
    t.is(resumed.state, name);
    const { guestMemory } = resumed.manager;
    t.deepEqual([guestMemory.readU32(0x9000), guestMemory.readU32(0xa000)], [9, name === 'first' ? 0 : 10]);
    t.deepEqual([guestMemory.readU32(HIGH + PAGE), guestMemory.readU8(0x1000)], [0, 'a'.charCodeAt(0)]);
    guestMemory.writeU8(0x7000, 7);
    // Of the template, and of what it went on from.
    const ofTemplate = await resumed.manager.snapshot(join(folder, `${name} of template`), { base: template });
    t.deepEqual(pagesOf(ofTemplate), [name === 'first' ? 'low 7 9' : 'low 7 9 10', 'high 1']);
    const next = await resumed.manager.snapshot(join(folder, `${name} next`), { base: join(folder, name) });
    t.deepEqual(pagesOf(next), ['low 7', 'high']);
    resumed.manager.close();
  }
  for (const each of [parent, guest, template]) each.close();
  t.deepEqual(footprint(), before);
});

for (const tracked of ['at first', 'between two', 'never']) {
  test.serial(
    `diffs of one template, again and again, have all that was written (tracked by the user ${tracked})`,
    async (t) => {
      const before = footprint();
      const folder = tempFolder(t);
      const parent = makeGuest();
      const template = await parent.freeze();
      const { manager: guest } = template.builder({ debug: true }).build();
      const { guestMemory } = guest;
      if (tracked === 'at first' && trackingMissing === undefined) guest.trackDirty();
      const diff = async (name: string) => pagesOf(await guest.snapshot(join(folder, name), { base: template }));
      guestMemory.writeU8(0x5000, 5);
      guestMemory.writeU8(0x6000, 6);
      t.deepEqual(await diff('a'), ['low 5 6', 'high']);
      guestMemory.writeU8(0x7000, 7);
      if (tracked === 'between two' && trackingMissing === undefined) guest.trackDirty();
      guestMemory.writeU8(0x6000, 0); // as it was
      guestMemory.writeU8(HIGH, 1);
      t.deepEqual(await diff('b'), ['low 5 7', 'high 0']);
      guest.discard({ gpa: 0x5000, length: PAGE });
      t.deepEqual(await diff('c'), ['low 7', 'high 0']);
      const { ram } = await guest.snapshot(join(folder, 'whole'));
      t.deepEqual(pagesOf({ ram }), ['low 1 7', 'high 0 1']);
      const { manager: resumed } = await template.builder({ diff: join(folder, 'c') }).buildAsync();
      t.true(bytesOf(resumed).equals(bytesOf(guest)));
      for (const each of [resumed, guest, parent, template]) each.close();
      t.deepEqual(footprint(), before);
    },
  );
}

test.serial('a diff of a template is resumed by no other one, and by no folder', async (t) => {
  const before = footprint();
  const folder = tempFolder(t);
  const parent = makeGuest();
  const [template, other] = [await parent.freeze(), await parent.freeze()];
  const { manager } = template.builder().build();
  const diff = join(folder, 'diff');
  await manager.snapshot(diff, { base: template });
  const refused = { code: 'SNAPSHOT_BASE' };
  await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(diff), { ...refused, message: /template.builder\(\{ diff \}\)/ });
  await t.throwsAsync(mergeSnapshot(diff, join(folder, 'merged')), refused);
  await t.throwsAsync(other.builder({ diff }).buildAsync(), refused);
  await t.throwsAsync(parent.snapshot(join(folder, 'x'), { base: diff }), refused);
  t.throws(() => template.builder({ diff }).build(), { code: 'INVALID_ARGUMENT' });
  t.throws(() => template.builder({ diff: 1 as never }), { code: 'INVALID_ARGUMENT' });
  const signal = AbortSignal.abort();
  await t.throwsAsync(template.builder({ diff }).buildAsync({ signal }), { code: 'ABORTED' });
  await t.throwsAsync(template.builder({ diff: join(folder, 'nothing') }).buildAsync(), { code: 'SYSTEM' });
  const builder = template.builder({ diff });
  template.close();
  await t.throwsAsync(builder.buildAsync(), { code: 'CLOSED' });
  await t.throwsAsync(manager.snapshot(join(folder, 'x'), { base: template }), { code: 'CLOSED' });
  t.throws(() => template.builder(), { code: 'CLOSED' });
  t.false(existsSync(join(folder, 'x')));
  for (const each of [parent, manager, other]) each.close();
  t.deepEqual(footprint(), before);
});

trackingTest('a parent goes on, and its diff against its template has what it wrote since', async (t) => {
  const folder = tempFolder(t);
  const parent = makeGuest();
  const template = await parent.freeze();
  parent.guestMemory.writeU8(0x6000, 1);
  t.deepEqual(pagesOf(await parent.snapshot(join(folder, 'diff'), { base: template })), ['low 6', 'high']);
  const { manager } = await template.builder({ diff: join(folder, 'diff') }).buildAsync();
  t.true(bytesOf(manager).equals(bytesOf(parent)));
  for (const each of [parent, template, manager]) each.close();
});

eachMethodTest('a hundred guests of one template keep what each has written, tracked or not', async (t, method) => {
  const before = footprint();
  const folder = tempFolder(t);
  const parent = new GuestMemoryBuilder({ maxAddress: 2 ** 24 - 1 })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: 256 * PAGE }] })
    .build();
  for (let page = 0; page < 256; page++) parent.guestMemory.writeU32(page * PAGE, page);
  const template = await parent.freeze();
  parent.close();
  const builder = template.builder();
  const guests = Array.from({ length: 100 }, () => builder.build().manager);
  for (const guest of guests.slice(50)) guest.trackDirty({ method });
  for (const [i, { guestMemory }] of guests.entries()) {
    for (let page = i; page < 256; page += 100) guestMemory.writeU32(page * PAGE, 1000 + i);
  }
  for (const [i, guest] of guests.entries()) {
    const layout = await guest.snapshot(join(folder, String(i)), { base: template });
    t.deepEqual(
      layout.ram[0]!.pages.flatMap(numbers),
      [i, i + 100, i + 200].filter((page) => page < 256),
    );
    guest.close();
  }
  for (const i of [0, 42, 99]) {
    const { manager } = await template.builder({ diff: join(folder, String(i)) }).buildAsync();
    const seen = Array.from({ length: 256 }, (_, page) => manager.guestMemory.readU32(page * PAGE));
    t.deepEqual(
      seen,
      seen.map((_, page) => (page % 100 === i ? 1000 + i : page)),
    );
    manager.close();
  }
  template.close();
  t.deepEqual(footprint(), before);
});
