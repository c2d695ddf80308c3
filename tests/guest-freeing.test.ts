// Memory that goes back to the machine: ranges in lists, and everything that is freed in the background. What nobody is
// to reach any more, nobody reaches from the call on.

import { setTimeout as wait } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { PrivateMemory, SharedMemory } from '../ts/asked/object.ts';
import type { GpaRange } from '../ts/guest/layout.ts';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import { MemoryMap } from '../ts/map/map.ts';
import { Failing } from './support/failing.ts';
import { footprint } from './support/footprint.ts';
import { buildVm, GIB, MIB } from './support/vm.ts';

const PAGE = 0x1000;
const KINDS = ['shared', 'private'] as const;
type Kind = (typeof KINDS)[number];

/** A test for each kind of RAM, with a manager of 4 MiB at 0 and `size` bytes at 1 GiB, all of which are 7. */
function ramTest(
  title: string,
  size: number,
  body: (t: ExecutionContext, manager: GuestMemoryManager, kind: Kind) => void | Promise<void>,
): void {
  for (const kind of KINDS) {
    test.serial(`${kind} RAM: ${title}`, async (t) => {
      const before = footprint();
      const manager = buildVm();
      manager.addRam({ name: 'more', ranges: [{ gpa: GIB, length: size }], backing: { kind } });
      manager.guestMemory.write(GIB, new Uint8Array(size).fill(7));
      await body(t, manager, kind);
      manager.close();
      t.deepEqual(footprint(), before, 'nothing is left');
    });
  }
}

/** Pages from 1 GiB on, by number. */
const pages = (first: number, count = 1): GpaRange => ({ gpa: GIB + first * PAGE, length: count * PAGE });

/** Numbers of the pages that are 0, of the first `count`. */
function zeroes(manager: GuestMemoryManager, count: number): number[] {
  const all = Array.from({ length: count }, (_, page) => page);
  return all.filter((page) => manager.guestMemory.readU8(GIB + page * PAGE) === 0);
}

ramTest('a list of ranges is discarded in one call, in any order, each byte once', MIB, async (t, manager) => {
  const list = [pages(9), pages(2, 2), pages(3, 3), pages(0)];
  t.is(manager.discard(list), 6 * PAGE);
  t.deepEqual(zeroes(manager, 16), [0, 2, 3, 4, 5, 9]);
  t.is(manager.discard([]), 0);
  t.is(await manager.discardAsync([]), 0);
  t.is(await manager.discardAsync([pages(1), pages(11)]), 2 * PAGE);
  t.is(await manager.discardWhenFree([pages(12), pages(7)]), 2 * PAGE);
  t.deepEqual(zeroes(manager, 16), [0, 1, 2, 3, 4, 5, 7, 9, 11, 12]);
});

ramTest('a list with one range that cannot be discarded changes nothing', MIB, async (t, manager) => {
  const lease = manager.guestMemory.lock({ gpa: GIB + 5 * PAGE, length: 1 }, 'read', { holder: 'disk' });
  const wrong = {
    LEASED: [pages(1), pages(5)],
    NOT_DISCARDABLE: [pages(1), { gpa: GIB - PAGE, length: PAGE }],
    INVALID_ARGUMENT: [pages(1), { gpa: GIB, length: 0 }],
  };
  for (const [code, list] of Object.entries(wrong)) {
    t.throws(() => manager.discard(list), { code });
    await t.throwsAsync(manager.discardAsync(list), { code });
  }
  t.is(manager.discard([pages(4), pages(6)]), 2 * PAGE, 'around what is leased');
  lease.release();
  t.deepEqual(zeroes(manager, 16), [4, 6]);
});

ramTest('while a range is discarded in the background, nobody leases it', 8 * MIB, async (t, manager) => {
  const lock = (range: GpaRange) => manager.guestMemory.lock(range, 'write', { holder: 'disk' }).release();
  const range = pages(0, 1024);
  const freed = manager.discardAsync(range);
  t.throws(() => lock(pages(1023)), { code: 'LEASED' });
  lock(pages(1024));
  t.is(await freed, range.length);
  lock(pages(1023));
  t.is(zeroes(manager, 2048).length, 1024);
});

ramTest('what shows there meanwhile loses nothing', 8 * MIB, async (t, manager) => {
  const file = SharedMemory.create(4 * MIB);
  file.write(0, new Uint8Array(4 * MIB).fill(9));
  const device = manager.deviceMapper.newRegion(4 * MIB, 'bar');
  device.region.map(0, file.fd, 0, 4 * MIB, true);
  const freed = manager.discardAsync(pages(0, 1024));
  const all = { gpa: GIB, length: 8 * MIB };
  manager.ramVisibility.set(all, 'unmapped');
  device.control.mapToGuest(GIB);
  t.is(await freed, 4 * MIB);
  t.deepEqual([...new Set(read(manager, GIB, 4 * MIB))], [9]);
  device.control.unmapFromGuest();
  manager.ramVisibility.set(all, 'read-write');
  t.is(zeroes(manager, 2048).length, 1024);
  file.close();
});

ramTest('discarding is given up before it begins, or between parts', 160 * MIB, async (t, manager) => {
  const range = { gpa: GIB, length: 160 * MIB };
  await t.throwsAsync(manager.discardAsync(range, { signal: AbortSignal.abort() }), { code: 'ABORTED' });
  t.deepEqual(zeroes(manager, 16), []);
  const control = new AbortController();
  const freed = manager.discardAsync(range, { signal: control.signal });
  control.abort();
  await t.throwsAsync(freed, { code: 'ABORTED', message: /0x4000000 bytes had been/ });
  t.is(zeroes(manager, (160 * MIB) / PAGE).length, (64 * MIB) / PAGE);
  await t.throwsAsync(manager.discardAsync(range, { signal: 1 as never }), { code: 'INVALID_ARGUMENT' });
});

ramTest('RAM that is hidden, or closed, while it is discarded ends that', 160 * MIB, async (t, manager) => {
  const range = { gpa: GIB, length: 160 * MIB };
  const hidden = manager.discardAsync(range);
  manager.ramVisibility.set(range, 'unmapped');
  await t.throwsAsync(hidden, { code: 'NOT_DISCARDABLE' });
  manager.ramVisibility.set(range, 'read-write');
  t.is(zeroes(manager, (160 * MIB) / PAGE).length, (64 * MIB) / PAGE);
  const closed = manager.discardAsync(range);
  manager.close();
  await t.throwsAsync(closed, { code: 'CLOSED' });
});

function read(manager: GuestMemoryManager, gpa: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  manager.guestMemory.read(gpa, bytes);
  return bytes;
}

// ---- Ends --------------------------------------------------------------------------------------

/** Bytes that this process has in memory. */
const resident = () => process.memoryUsage().rss;

ramTest(
  'removed in the background, it is gone at once, and the memory is back later',
  256 * MIB,
  async (t, manager) => {
    const before = resident();
    const removed = manager.removeRamAsync('more');
    t.throws(() => manager.guestMemory.readU8(GIB), { code: 'GUEST_ACCESS' });
    t.deepEqual(manager.ramVisibility.at(GIB), undefined);
    await removed;
    t.true(before - resident() > 200 * MIB);
    await t.throwsAsync(manager.removeRamAsync('more'), { code: 'INVALID_ARGUMENT' });
    const again = manager.addRam({ ranges: [{ gpa: GIB, length: MIB }] });
    await again.closeAsync();
    t.true(again.closed);
    await again.closeAsync();
  },
);

ramTest('what cannot be removed in the background keeps its bytes', 4 * MIB, async (t, manager) => {
  const failing = new Failing(manager.map.context);
  for (let after = 0; ; after++) {
    failing.after = after;
    const error = await manager.removeRamAsync('more').catch((reason) => reason);
    failing.after = Number.POSITIVE_INFINITY;
    if (error === undefined) break;
    t.is(error.code, 'PLAN_FAILED');
    t.deepEqual([...new Set(read(manager, GIB, 4 * MIB))], [7]);
  }
  t.throws(() => manager.guestMemory.readU8(GIB), { code: 'GUEST_ACCESS' });
});

ramTest('nothing is closed in the background inside a transaction', MIB, async (t, manager) => {
  const added = manager.addRam({ name: 'added', ranges: [{ gpa: 2 * GIB, length: MIB }] });
  const refused = manager.map.transaction(() => {
    const all = [manager.removeRamAsync('more'), added.closeAsync(), manager.closeAsync()];
    return { all: all.map((one) => one.catch((error) => error.code)) };
  });
  t.deepEqual(await Promise.all(refused.all), ['IN_USE', 'IN_USE', 'IN_USE']);
  t.deepEqual(zeroes(manager, 16), []);
});

ramTest(
  'closed in the background, it is closed at once, and the memory is back later',
  256 * MIB,
  async (t, manager) => {
    const before = resident();
    const { guestMemory } = manager;
    const closed = manager.closeAsync();
    t.true(manager.closed);
    t.throws(() => guestMemory.readU8(GIB), { code: 'CLOSED' });
    await closed;
    t.true(before - resident() > 200 * MIB);
    await manager.closeAsync();
  },
);

test.serial('a map and its objects are closed in the background', async (t) => {
  const before = footprint();
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'container', size: GIB });
  const objects = [SharedMemory.create(64 * MIB), PrivateMemory.create(64 * MIB)];
  for (const [i, object] of objects.entries()) {
    const ram = map.createRegion({ name: 'ram', kind: 'ram', size: 64 * MIB }).place(root, { offset: i * 64 * MIB });
    ram.map({ object });
  }
  const { memory } = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }));
  memory.write(0, new Uint8Array(128 * MIB).fill(7));
  await map.closeAsync();
  const last = new Uint8Array(1);
  for (const object of objects) {
    object.read(64 * MIB - 1, last);
    t.is(last[0], 7, "objects are their owner's");
  }
  const full = resident();
  await Promise.all(objects.map((object) => object.closeAsync()));
  t.true(full - resident() > 50 * MIB, 'of private memory; shared memory is in no page table any more');
  await map.closeAsync();
  await new MemoryMap().closeAsync();
  await wait(0);
  t.deepEqual(footprint(), before);
});
