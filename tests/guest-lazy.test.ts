// Lazy restores: each page comes when somebody touches it first, whoever that is, and only then.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import {
  GuestMemoryBuilder,
  inspectSnapshot,
  type PageLostMessage,
  type RestoredGuest,
  type SnapshotLayout,
  verifySnapshot,
} from '../ts/index.ts';
import { descriptors } from './support/footprint.ts';
import { guestImage, kvmMissing } from './support/guest.ts';
import { lazyTest, pagerThreads } from './support/lazy.ts';
import { namelessFile } from './support/nameless-file.ts';
import { tempFolder } from './support/temp-folder.ts';
import { METHODS } from './support/tracking.ts';
import { Guest, got, MIB, wrote } from './support/vm.ts';

const PAGE = 0x1000;
const SIZE = 4 * MIB;
/** Pages that hold something, but for the guest's own. */
const FIRST = MIB;
const COUNT = 64;

/** Word at the beginning of each of the pages. */
const wordAt = (gpa: number) => 0x600d0000 + gpa / PAGE;
const pages = Array.from({ length: COUNT }, (_, i) => FIRST + i * 2 * PAGE);

/** A folder with a snapshot of a guest in whose RAM every second page of a range holds something. */
async function aSnapshot(t: ExecutionContext): Promise<string> {
  const folder = tempFolder(t);
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 32 - 1, x86LegacySupport: true })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: SIZE }] })
    .build();
  manager.guestMemory.write(0, guestImage());
  for (const gpa of pages) manager.guestMemory.writeU32(gpa, wordAt(gpa));
  await manager.snapshot(folder);
  manager.close();
  return folder;
}

/** Path of a snapshot's memory file. */
const memoryOf = (folder: string) => join(folder, readdirSync(folder).find((name) => name.startsWith('memory-'))!);

/** Pages of the snapshot that a restore has not brought. */
const absentPages = ({ lazy }: RestoredGuest) => lazy!.absentBytes / PAGE;

/** A test with a lazy restore of a snapshot, after which nothing is left of it. */
function restoredTest(
  title: string,
  body: (t: ExecutionContext, restored: RestoredGuest, folder: string) => void | Promise<void>,
): void {
  lazyTest(title, async (t) => {
    const folder = await aSnapshot(t);
    const before = descriptors();
    const restored = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy' });
    t.is(pagerThreads(), 1);
    try {
      await body(t, restored, folder);
    } finally {
      restored.manager.close();
    }
    t.is(pagerThreads(), 0);
    t.deepEqual(descriptors(), before);
    const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
    t.deepEqual(
      maps.filter((line) => line.includes('membacking:ram')),
      [],
    );
  });
}

/** The monitor's memory of the restored guest. */
const memoryIn = ({ manager }: RestoredGuest) => manager.guestMemory;

restoredTest('a page comes with the first touch, and no other with it', (t, restored) => {
  const all = absentPages(restored);
  t.is(memoryIn(restored).readU32(pages[0]!), wordAt(pages[0]!));
  t.is(absentPages(restored), all - 1);
  t.is(memoryIn(restored).readU32(pages[0]! + 4), 0);
  t.is(memoryIn(restored).readU32(pages[0]! + PAGE), 0, 'a page of zeroes is in no file');
  t.is(absentPages(restored), all - 1);
  memoryIn(restored).writeU8(pages[1]! + 5, 1);
  t.is(memoryIn(restored).readU32(pages[1]!), wordAt(pages[1]!), 'the rest of a page that is written');
  const bytes = new Uint8Array(4 * PAGE);
  memoryIn(restored).read(pages[2]!, bytes);
  t.is(new DataView(bytes.buffer).getUint32(2 * PAGE, true), wordAt(pages[3]!));
  t.is(absentPages(restored), all - 4);
});

restoredTest('a system call into guest memory finds what was there', (t, restored) => {
  const file = openSync('/dev/zero', 'r');
  const lease = memoryIn(restored).lock({ gpa: pages[4]!, length: PAGE }, 'write', { holder: 'a device' });
  readSync(file, lease.view, 8, 8, 0);
  closeSync(file);
  t.is(memoryIn(restored).readU32(pages[4]!), wordAt(pages[4]!));
  lease.release();
});

restoredTest('what is discarded is zeroes, and is not brought', (t, restored) => {
  const all = absentPages(restored);
  memoryIn(restored).readU32(pages[0]!);
  restored.manager.discard({ gpa: FIRST, length: 8 * PAGE });
  t.is(absentPages(restored), all - 4);
  for (const gpa of pages.slice(0, 4)) t.is(memoryIn(restored).readU32(gpa), 0);
  t.is(memoryIn(restored).readU32(pages[4]!), wordAt(pages[4]!));
});

restoredTest('what is discarded in the background is zeroes, and is not brought', async (t, restored) => {
  const { manager, lazy } = restored;
  const all = absentPages(restored);
  manager.guestMemory.writeU32(FIRST + PAGE, 1);
  t.true(Number(await manager.discardAsync({ gpa: FIRST, length: MIB })) >= PAGE);
  t.is(absentPages(restored), all - COUNT);
  for (const gpa of pages)
    t.deepEqual([manager.guestMemory.readU32(gpa), manager.guestMemory.readU32(gpa + PAGE)], [0, 0]);
  manager.guestMemory.writeU32(pages[0]!, 7);
  await lazy!.load();
  t.is(manager.guestMemory.readU32(pages[0]!), 7);
});

restoredTest(
  'what JavaScript has no answer for, it never touches: many accesses, a file that ends',
  (t, restored, folder) => {
    for (let i = 0; i < 5000; i++) memoryIn(restored).readU32(pages[0]!);
    truncateSync(memoryOf(folder), pages[8]!);
    for (let i = 0; i < 5000; i++) t.throws(() => memoryIn(restored).readU32(pages[8]!), { code: 'GUEST_ACCESS' });
  },
);

restoredTest(
  'all pages are loaded in the background, and nothing depends on the files then',
  async (t, restored, folder) => {
    const steps: number[] = [];
    await restored.lazy!.load({ progress: (done, total) => steps.push(done / total) });
    t.is(absentPages(restored), 0);
    t.is(steps.at(-1), 1);
    truncateSync(memoryOf(folder), 0);
    for (const gpa of pages) t.is(memoryIn(restored).readU32(gpa), wordAt(gpa));
    await t.throwsAsync(restored.lazy!.load({ signal: AbortSignal.abort() }), { code: 'ABORTED' });
  },
);

restoredTest(
  'RAM is hidden, shown read-only, moved under a BAR, removed and added while pages are coming',
  (t, { manager, lazy }) => {
    const ram = { gpa: 0xc0000, length: 0x4000 };
    manager.ramVisibility.set(ram, 'unmapped');
    manager.ramVisibility.set(ram, 'read-only');
    const { control, region } = manager.deviceMapper.newRegion(8 * PAGE, 'bar');
    const fd = namelessFile(8 * PAGE);
    region.map(0, fd, 0, 8 * PAGE, true);
    closeSync(fd);
    control.mapToGuest(FIRST);
    control.mapToGuest(FIRST + 4 * PAGE);
    control.unmapFromGuest();
    manager.ramVisibility.set(ram, 'read-write');
    const added = manager.addRam({ ranges: [{ gpa: 16 * MIB, length: MIB }], backing: 'private' });
    manager.guestMemory.writeU32(16 * MIB, 7);
    t.is(manager.guestMemory.readU32(16 * MIB), 7);
    added.close();
    for (const gpa of pages) t.is(manager.guestMemory.readU32(gpa), wordAt(gpa));
    manager.removeRam('ram');
    t.is(lazy!.absentBytes, 0);
  },
);

restoredTest('a whole snapshot brings what it has not, and zeroes stay holes', async (t, restored, folder) => {
  const { manager, lazy } = restored;
  const pagesIn = ({ ram }: Pick<SnapshotLayout, 'ram'>) =>
    ram[0]!.pages.flatMap(({ offset, length }) => Array.from({ length: length / PAGE }, (_, i) => offset + i * PAGE));
  const [facts] = await inspectSnapshot(folder);
  manager.guestMemory.readU32(pages[0]! + PAGE);
  manager.guestMemory.write(pages[1]!, new Uint8Array(PAGE));
  manager.discard({ gpa: pages[2]!, length: PAGE });
  manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'unmapped');
  const target = tempFolder(t);
  const whole = await manager.snapshot(target);
  t.deepEqual(
    pagesIn(whole),
    pagesIn(facts!.layout).filter((offset) => offset !== pages[1] && offset !== pages[2]),
  );
  t.deepEqual(await verifySnapshot(target), []);
  // The file system has blocks of its own in between.
  t.true(512 * statSync(memoryOf(target)).blocks <= PAGE * (pagesIn(whole).length + 8));
  t.is(lazy!.absentBytes, 0, 'nothing is left to bring');
  t.is(manager.guestMemory.readU32(pages[3]!), wordAt(pages[3]!));
});

restoredTest(
  'a snapshot has what is there and what is not, and a diff only what may differ',
  async (t, restored, folder) => {
    const { manager } = restored;
    const all = absentPages(restored);
    manager.guestMemory.readU32(pages[0]!);
    manager.guestMemory.writeU32(pages[1]! + 4, 1);
    manager.guestMemory.writeU32(3 * MIB, 2);
    manager.discard({ gpa: pages[2]!, length: PAGE });
    const diff = await manager.snapshot(tempFolder(t), { base: folder });
    t.deepEqual(
      diff.ram[0]!.pages.map(({ offset }) => offset),
      [pages[1]!, pages[2]!, 3 * MIB],
    );
    t.is(absentPages(restored), all - 3);
    const whole = tempFolder(t);
    await manager.snapshot(whole);
    t.deepEqual(await verifySnapshot(whole), []);
    const again = await GuestMemoryBuilder.fromSnapshot(whole, { mode: 'lazy' });
    t.is(again.manager.guestMemory.readU32(pages[1]!), wordAt(pages[1]!));
    t.is(again.manager.guestMemory.readU32(pages[1]! + 4), 1);
    t.is(again.manager.guestMemory.readU32(pages[2]!), 0);
    t.is(again.manager.guestMemory.readU32(pages[3]!), wordAt(pages[3]!));
    again.manager.close();
  },
);

for (const { method, missing } of METHODS) {
  if (missing !== undefined) continue;
  restoredTest(`pages that come are not dirty, and those that are written are (${method})`, (t, { manager }) => {
    const memory = manager.guestMemory;
    memory.readU32(pages[0]!);
    const tracker = manager.trackDirty({ method });
    memory.readU32(pages[1]!);
    memory.readU32(pages[1]! + PAGE);
    memory.writeU32(pages[2]!, 1);
    memory.writeU32(pages[2]! + PAGE, 1);
    memory.writeU32(pages[0]!, 1);
    const gpas = () => [...tracker.collect()].flatMap(({ gpa, length }) => [Number(gpa), Number(gpa) + Number(length)]);
    t.deepEqual(gpas(), [pages[0]!, pages[0]! + PAGE, pages[2]!, pages[2]! + 2 * PAGE]);
    t.deepEqual(gpas(), []);
    memory.writeU32(pages[1]!, 1);
    memory.writeU32(pages[3]!, 1);
    t.deepEqual(gpas(), [pages[1]!, pages[1]! + PAGE, pages[3]!, pages[3]! + PAGE]);
    tracker.close();
    t.is(memory.readU32(pages[5]!), wordAt(pages[5]!));
    t.is(memory.readU32(pages[5]! + PAGE), 0);
    const next = manager.trackDirty({ method });
    memory.writeU32(pages[6]!, 1);
    t.deepEqual(
      [...next.collect()].map(({ gpa }) => gpa),
      [pages[6]!],
    );
  });
}

// ---- What cannot be read -----------------------------------------------------------------------

/** Calls `body`, and gives the pages that were said to be lost meanwhile. */
async function lostIn(body: () => void | Promise<void>): Promise<number[]> {
  const lost: number[] = [];
  const listener = (message: unknown) => lost.push((message as PageLostMessage).offset);
  subscribe('membacking:page-lost', listener);
  await body();
  await new Promise((resolve) => setTimeout(resolve, 20));
  unsubscribe('membacking:page-lost', listener);
  return lost;
}

restoredTest('a page that cannot be read is an error for who touches it, each time', async (t, restored, folder) => {
  const { manager } = restored;
  truncateSync(memoryOf(folder), pages[8]! + 1);
  const lost = await lostIn(() => {
    t.is(manager.guestMemory.readU32(pages[7]!), wordAt(pages[7]!));
    for (let i = 0; i < 2; i++) {
      const error = t.throws(() => manager.guestMemory.readU32(pages[8]! + 4), { code: 'GUEST_ACCESS' });
      t.regex(error!.message, /the file of its pages ends before/);
      t.throws(() => manager.guestMemory.writeU32(pages[9]!, 1), { code: 'GUEST_ACCESS' });
    }
  });
  t.deepEqual(lost, [pages[8]!, pages[9]!]);
  await t.throwsAsync(restored.lazy!.load(), { code: 'SYSTEM', message: /the file of its pages ends before/ });
  await t.throwsAsync(manager.snapshot(tempFolder(t)), { code: 'GUEST_ACCESS' });
  const lease = manager.guestMemory.lock({ gpa: pages[10]!, length: PAGE }, 'write', { holder: 'a device' });
  t.throws(() => lease.view, { code: 'SYSTEM', message: /the file of its pages ends before/ });
  lease.release();
  // Memory that is given back is zeroes, and there.
  manager.discard({ gpa: pages[8]!, length: 4 * PAGE });
  t.is(manager.guestMemory.readU32(pages[8]!), 0);
});

if (kvmMissing === undefined) {
  restoredTest(
    'a guest finds its pages, and ends with a fault at one that cannot be read',
    async (t, { manager }, folder) => {
      const guest = new Guest(manager);
      t.is(guest.read(pages[0]!), got(wordAt(pages[0]!)));
      t.is(guest.write(pages[1]! + 4, 1), wrote(1));
      t.is(guest.read(pages[1]!), got(wordAt(pages[1]!)));
      t.is(guest.read(pages[1]! + PAGE), got(0));
      truncateSync(memoryOf(folder), pages[8]!);
      const lost = await lostIn(() => {
        t.is(guest.read(pages[8]!), 'memory-fault');
        t.is(guest.read(pages[8]!), 'memory-fault');
      });
      t.deepEqual(lost, [pages[8]!]);
      t.is(guest.read(pages[2]!), got(wordAt(pages[2]!)));
      manager.discard({ gpa: pages[8]!, length: PAGE });
      t.is(guest.read(pages[8]!), got(0));
      guest.close();
    },
  );
}
