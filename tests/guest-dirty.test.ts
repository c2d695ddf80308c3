// Dirty pages: exactly those that somebody wrote, whoever it was and wherever they are seen now.

import { once } from 'node:events';
import {
  closeSync,
  ftruncateSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import type { ExecutionContext } from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import { GuestMemoryBuilder } from '../ts/guest/builder.ts';
import type { DirtyPages } from '../ts/guest/dirty-pages.ts';
import type { DirtyTracker } from '../ts/guest/dirty-tracker.ts';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import { KVM_EXIT, type MemoryObject, PrivateMemory, SharedMemory } from '../ts/index.ts';
import { memoryOf } from '../ts/sinks/va-space.ts';
import { hugePageTest } from './support/accounting.ts';
import { Failing } from './support/failing.ts';
import { footprint } from './support/footprint.ts';
import { GUEST_SIZE, start } from './support/guest.ts';
import { namelessFile } from './support/nameless-file.ts';
import { tries } from './support/random.ts';
import { attempt, eachMethodTest, METHODS } from './support/tracking.ts';
import { GIB, type Guest, got, MIB, vmTest, wrote } from './support/vm.ts';

const PAGE = 0x1000;
const BAR = 0x8000_0000;
/** Type of file systems in memory. */
const TMPFS = 0x01021994;
const KINDS = ['shared', 'private'] as const;
type Kind = (typeof KINDS)[number];

function built(kind: Kind): GuestMemoryManager {
  const ram = { ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind } };
  return new GuestMemoryBuilder({ maxAddress: 2 ** 36 - 1, x86LegacySupport: true, debug: true }).addRam(ram).build();
}

/** Descriptors that tracking needs. */
function watches(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return /userfaultfd|pagemap/.test(target) ? [target] : [];
    } catch {
      return []; // the descriptor that listed the others
    }
  });
}

/** A test with a guest's memory whose dirty pages are tracked; skipped where that cannot be. Nothing may be left. */
function dirtyTest(
  title: string,
  kind: Kind,
  body: (t: ExecutionContext, manager: GuestMemoryManager, tracker: DirtyTracker) => void | Promise<void>,
): void {
  eachMethodTest(title, async (t, method) => {
    const before = watches();
    const manager = built(kind);
    try {
      await body(t, manager, manager.trackDirty({ method }));
    } finally {
      manager.close();
    }
    t.deepEqual(watches(), before);
  });
}

/** Dirty pages as text: `1000+2 5000+1`, addresses in hexadecimal and pages. */
function text(pages: DirtyPages): string {
  return [...pages].map(({ gpa, length }) => `${gpa.toString(16)}+${Number(length) / PAGE}`).join(' ');
}
function hiddenText(pages: DirtyPages): string {
  return pages.hidden.map(({ offset, length }) => `${offset.toString(16)}+${Number(length) / PAGE}`).join(' ');
}

// ---- Who writes --------------------------------------------------------------------------------

const WRITERS: Record<string, (manager: GuestMemoryManager) => string> = {
  'JavaScript, a byte': ({ guestMemory }) => {
    guestMemory.writeU8(0x3fff, 1);
    return '3000+1';
  },
  'JavaScript, over the end of a page': ({ guestMemory }) => {
    guestMemory.write(0x3ffe, Uint8Array.of(1, 2, 3));
    return '3000+2';
  },
  'a compare-exchange': ({ guestMemory }) => {
    guestMemory.compareExchange(0x5008, 8, 0, 1);
    return '5000+1';
  },
  'a view of a lease': ({ guestMemory }) => {
    const lease = guestMemory.lock({ gpa: 0x6000, length: 0x3000 }, 'write', { holder: 'test' });
    lease.view[0x2000] = 1;
    lease.release();
    return '8000+1';
  },
  'read(2) into a lease': ({ guestMemory }) => {
    const fd = namelessFile(0);
    writeSync(fd, Buffer.alloc(0x1800, 7));
    const lease = guestMemory.lock({ gpa: 0x6000, length: 0x4000 }, 'write', { holder: 'test' });
    readSync(fd, lease.view, 0x800, 0x1800, 0);
    lease.release();
    closeSync(fd);
    return '6000+2';
  },
  'the memory object itself': ({ va }) => {
    va.pieces()[0]!.object.write(0x4ffc, Uint8Array.of(1, 2, 3, 4, 5));
    return '4000+2';
  },
  'a balloon': (manager) => {
    manager.discard({ gpa: 0x10000, length: 0x4000 });
    return '10000+4';
  },
  'nobody who only reads': ({ guestMemory }) => {
    guestMemory.read(0x2000, new Uint8Array(0x4000));
    return '';
  },
  'nobody who fails': ({ guestMemory }) => {
    try {
      guestMemory.writeU8(8 * MIB, 1);
    } catch {}
    return '';
  },
};

for (const kind of KINDS) {
  for (const [writer, write] of Object.entries(WRITERS)) {
    dirtyTest(`${kind} pages are dirty once: written by ${writer}`, kind, (t, manager, tracker) => {
      // Twice: on pages that nobody has touched yet, and on others.
      for (let round = 0; round < 2; round++) {
        const expected = write(manager);
        const pages = tracker.collect();
        t.is(text(pages), expected);
        t.is(hiddenText(pages), '');
        t.is(text(tracker.collect()), '');
        manager.guestMemory.write(0, new Uint8Array(MIB / 2));
        tracker.collect();
      }
    });
  }

  dirtyTest(`${kind} pages that are discarded in the background are dirty once`, kind, async (t, manager, tracker) => {
    const range = { gpa: MIB, length: MIB };
    manager.guestMemory.write(MIB, Buffer.alloc(MIB, 7));
    tracker.collect();
    await manager.discardAsync(range);
    t.is(text(tracker.collect()), '100000+256');
    t.is(manager.guestMemory.readU32(MIB + PAGE), 0);
    t.is(text(tracker.collect()), '');
    manager.guestMemory.writeU32(MIB + 2 * PAGE, 1);
    t.is(text(tracker.collect()), '102000+1');
  });

  dirtyTest(`${kind} pages that were written before the tracking are not dirty`, kind, (t, manager, tracker) => {
    manager.guestMemory.writeU8(0x1000, 1);
    const second = manager.trackDirty();
    t.is(text(second.collect()), '');
    t.is(text(tracker.collect()), '1000+1');
    second.close();
    manager.guestMemory.writeU8(0x2000, 1);
    t.is(text(tracker.collect()), '2000+1');
  });

  dirtyTest(`each tracker has its own set of ${kind} pages`, kind, (t, manager, one) => {
    const other = manager.trackDirty();
    manager.guestMemory.writeU8(0x1000, 1);
    t.is(text(one.collect()), '1000+1');
    manager.guestMemory.writeU8(0x2000, 1);
    t.is(text(other.collect()), '1000+2');
    t.is(text(one.collect()), '2000+1');
    one.close();
    manager.guestMemory.writeU8(0x3000, 1);
    t.is(text(other.collect()), '3000+1');
    t.throws(() => one.collect(), { code: 'CLOSED' });
  });

  // ---- Where pages go --------------------------------------------------------------------------

  dirtyTest(`${kind} RAM that is hidden stays dirty, and is found at its object`, kind, (t, manager, tracker) => {
    const pam = { gpa: 0xc0000, length: 0x4000 };
    manager.guestMemory.writeU8(0xc1000, 1);
    manager.guestMemory.writeU8(0xc5000, 1);
    manager.ramVisibility.set(pam, 'unmapped');
    const pages = tracker.collect();
    t.is(text(pages), 'c5000+1');
    t.is(hiddenText(pages), 'c1000+1');
    t.is(pages.bytes, 2 * PAGE);
    manager.va.pieces()[0]!.object.write(0xc2000, Uint8Array.of(1));
    manager.ramVisibility.set(pam, 'read-only');
    t.is(text(tracker.collect()), 'c2000+1');
    manager.ramVisibility.set(pam, 'read-write');
    t.is(text(tracker.collect()), '', 'to come back is no write');
    manager.guestMemory.writeU8(0xc3000, 1);
    manager.ramVisibility.set(pam, 'read-only');
    t.is(text(tracker.collect()), 'c3000+1');
  });

  dirtyTest(
    `a BAR of ${kind} memory keeps its dirty pages when it is moved`,
    kind,
    (t, { map, root, guestMemory }, tracker) => {
      const memory = kind === 'shared' ? SharedMemory.create(16 * PAGE) : PrivateMemory.create(16 * PAGE);
      const region = map.createRegion({ name: 'bar', kind: 'device', size: 16 * PAGE });
      region.map({ offset: 0, object: memory, objectOffset: 0, length: 16 * PAGE, writable: true });
      region.place(root, { offset: BAR, priority: 1 });
      guestMemory.writeU8(BAR + 0x2000, 1);
      region.move(BAR + MIB);
      guestMemory.writeU8(BAR + MIB + 0x4000, 1);
      t.is(text(tracker.collect()), '80102000+1 80104000+1');
      guestMemory.writeU8(BAR + MIB + 0x6000, 1);
      region.remove();
      const pages = tracker.collect();
      t.is(text(pages), '');
      t.is(hiddenText(pages), '6000+1');
      t.is(pages.hidden[0]!.object, memory);
      memory.close();
    },
  );
}

dirtyTest(
  'a page that is seen at two addresses is dirty at both',
  'shared',
  (t, { map, root, guestMemory }, tracker) => {
    const memory = SharedMemory.create(4 * PAGE);
    for (const at of [BAR, BAR + MIB]) {
      const region = map.createRegion({ name: 'window', kind: 'device', size: 4 * PAGE });
      region.map({ offset: 0, object: memory, objectOffset: 0, length: 4 * PAGE, writable: true });
      region.place(root, { offset: at, priority: 1 });
    }
    guestMemory.writeU8(BAR + PAGE, 1);
    const pages = tracker.collect();
    t.is(text(pages), '80001000+1 80101000+1');
    t.is(pages.byObject.length, 1);
    memory.close();
  },
);

dirtyTest('RAM that comes is clean, and what went is forgotten', 'shared', (t, manager, tracker) => {
  const ram = manager.addRam({ ranges: [{ gpa: 16 * MIB, length: MIB }], backing: { kind: 'private' } });
  t.is(text(tracker.collect()), '');
  manager.guestMemory.writeU8(16 * MIB + PAGE, 1);
  t.is(text(tracker.collect()), '1001000+1');
  manager.guestMemory.writeU8(16 * MIB + PAGE, 1);
  ram.remove();
  const pages = tracker.collect();
  t.is(text(pages), '');
  t.is(hiddenText(pages), '');
});

dirtyTest('pages that follow each other are one range, wherever in the object', 'shared', (t, manager, tracker) => {
  manager.addRam({ ranges: [{ gpa: GIB, length: GIB }] });
  for (const at of [64 * MIB, 128 * MIB, GIB - 2 * PAGE]) {
    manager.guestMemory.write(GIB + at - PAGE, new Uint8Array(3 * PAGE));
    manager.guestMemory.writeU8(GIB + at - 3 * PAGE, 1);
  }
  t.is(text(tracker.collect()), '43ffd000+1 43fff000+3 47ffd000+1 47fff000+3 7fffb000+1 7fffd000+3');
});

dirtyTest('every VA space of the map is watched, also one that comes later', 'shared', (t, manager, tracker) => {
  const { map, space } = manager;
  const later = map.attachVaSpace(space, { name: 'later', size: 2 ** 30 });
  later.memory.writeU8(0x5000, 1);
  t.is(text(tracker.collect()), '5000+1');
  tracker.close();
  const second = manager.trackDirty();
  later.memory.writeU8(0x6000, 1);
  manager.guestMemory.writeU8(0x7000, 1);
  t.is(text(second.collect()), '6000+2');
  later.close();
});

dirtyTest('RAM that is prefetched is clean', 'shared', async (t, manager, tracker) => {
  for (const [index, kind] of KINDS.entries()) {
    const ranges = [{ gpa: (16 + 16 * index) * MIB, length: 4 * MIB }];
    await manager.addRamAsync({ ranges, backing: { kind }, prefetch: true });
    t.is(text(tracker.collect()), '');
  }
  for (const start of [16 * MIB, 32 * MIB]) manager.guestMemory.writeU8(start + PAGE, 1);
  t.is(text(tracker.collect()), '1001000+1 2001000+1');
});

dirtyTest('a file that grows behind its end is watched there', 'shared', (t, manager, tracker) => {
  const fd = namelessFile(PAGE, '/dev/shm');
  const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'window');
  region.map(0, fd, 0, 4 * PAGE, true);
  control.mapToGuest(BAR);
  tracker.collect();
  t.throws(() => manager.guestMemory.writeU8(BAR + 2 * PAGE, 1), { code: 'GUEST_ACCESS' });
  ftruncateSync(fd, 4 * PAGE);
  manager.guestMemory.writeU8(BAR + 2 * PAGE, 1);
  t.is(text(tracker.collect()), '80002000+1');
  closeSync(fd);
});

dirtyTest(
  'a file that is not in memory is watched by scans; where the kernel has none, it counts as written',
  'shared',
  (t, manager, tracker) => {
    const fd = namelessFile(4 * PAGE);
    const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'window');
    region.map(0, fd, 0, 4 * PAGE, true);
    closeSync(fd);
    control.mapToGuest(BAR);
    manager.guestMemory.writeU8(BAR + PAGE, 1);
    const object = manager.va.pieces().at(-1)!.object;
    const isCoarse = METHODS[0]!.missing !== undefined && statfsSync(tmpdir()).type !== TMPFS;
    for (const expected of ['80001000+1', '']) {
      const pages = tracker.collect();
      t.is(text(pages), isCoarse ? '80000000+4' : expected);
      t.deepEqual(pages.unwatched, isCoarse ? [object] : []);
    }
  },
);

for (const kind of KINDS) {
  eachMethodTest(`${kind} RAM that is pinned is tracked, hidden and shown again`, (t, method) => {
    const options = { maxAddress: 2 ** 36 - 1, x86LegacySupport: true, pinMappings: true, debug: true };
    const ram = { ranges: [{ gpa: 0, length: 2 * MIB }], backing: { kind } };
    const manager = new GuestMemoryBuilder(options).addRam(ram).build();
    const tracker = manager.trackDirty({ method });
    const pam = { gpa: 0xc0000, length: 0x4000 };
    manager.guestMemory.writeU8(0xc1000, 1);
    manager.ramVisibility.set(pam, 'unmapped');
    manager.ramVisibility.set(pam, 'read-write');
    t.is(text(tracker.collect()), 'c1000+1');
    manager.guestMemory.writeU8(0xc2000, 1);
    t.is(text(tracker.collect()), 'c2000+1');
    manager.close();
  });
}

for (const { method, missing } of METHODS) {
  if (missing !== undefined) continue;
  hugePageTest(`a huge page is dirty as a whole (${method})`, 2 * MIB, 2, (t) => {
    const ram = { ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind: 'shared', hugePageSize: 2 * MIB } } as const;
    const manager = new GuestMemoryBuilder().addRam(ram).build();
    const tracker = manager.trackDirty({ method });
    manager.guestMemory.writeU8(0x201000, 1);
    t.is(text(tracker.collect()), '200000+512');
    manager.va.pieces()[0]!.object.write(0x1000, Uint8Array.of(1));
    t.is(text(tracker.collect()), '0+512');
    t.is(text(tracker.collect()), '');
    manager.close();
  });
}

dirtyTest('all trackers of a map go by one method', 'shared', (t, manager, tracker) => {
  const other = tracker.method === 'scan' ? 'faults' : 'scan';
  const second = manager.trackDirty();
  t.is(second.method, tracker.method);
  manager.guestMemory.writeU8(0x1000, 1);
  const invalid = { code: 'INVALID_ARGUMENT' };
  t.throws(() => manager.trackDirty({ method: other }), { ...invalid, message: /has trackers that do not go by/ });
  t.throws(() => manager.trackDirty({ method: 'log' as never }), invalid);
  t.throws(() => manager.trackDirty({ by: 'scan' } as never), invalid);
  t.is(text(tracker.collect()), '1000+1', 'what was refused has changed nothing');
  t.is(text(second.collect()), '1000+1');
});

dirtyTest('memory that others may write to is named', 'shared', (t, manager, tracker) => {
  t.deepEqual(tracker.collect().untracked, []);
  const fd = namelessFile(MIB);
  const { control, region } = manager.deviceMapper.newRegion(MIB, 'window');
  region.map(0, fd, 0, MIB, true);
  control.mapToGuest(BAR);
  t.is(tracker.collect().untracked.length, 1);
  const ram = manager.va.pieces()[0]!.object as SharedMemory;
  t.true(ram.fd >= 0);
  t.deepEqual(new Set(tracker.collect().untracked), new Set([ram, manager.va.pieces().at(-1)!.object]));
  closeSync(fd);
});

// ---- The end of it -----------------------------------------------------------------------------

/** Whether the kernel watches any mapping of the VA space. */
function isWatched({ va }: GuestMemoryManager): boolean {
  const base = memoryOf(va).reservation.base;
  const end = base + BigInt(va.size);
  let inside = false;
  return readFileSync('/proc/self/smaps', 'utf8')
    .split('\n')
    .some((line) => {
      const range = /^([0-9a-f]+)-[0-9a-f]+ /.exec(line);
      if (range) inside = BigInt(`0x${range[1]}`) >= base && BigInt(`0x${range[1]}`) < end;
      return inside && line.startsWith('VmFlags:') && line.includes(' uw');
    });
}

dirtyTest('trackers leave nothing, closed or not', 'private', (t) => {
  const before = footprint();
  for (let round = 0; round < 4; round++) {
    const manager = built('private');
    const trackers = [manager.trackDirty(), manager.trackDirty()];
    manager.guestMemory.writeU8(0x1000, 1);
    manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'unmapped');
    for (const tracker of trackers.slice(round % 3)) tracker.close();
    manager.close();
  }
  t.deepEqual(footprint(), before);
});

dirtyTest('the last tracker takes the watch with it', 'shared', (t, manager, tracker) => {
  const other = manager.trackDirty();
  t.true(isWatched(manager));
  tracker.close();
  tracker.close();
  t.true(isWatched(manager));
  other.close();
  t.false(isWatched(manager));
  manager.guestMemory.writeU8(0x1000, 1);
  const third = manager.trackDirty();
  t.is(text(third.collect()), '');
  manager.close();
  t.true(third.closed);
  third.close();
  t.throws(() => third.collect(), { code: 'CLOSED' });
  t.is(inspect(third), 'the dirty tracker (closed)');
});

// ---- Guests ------------------------------------------------------------------------------------

/** A test with a guest at VTL0 whose memory is tracked. `written` says, as `text` does, what was written since it was
 *  asked last, but for the guest's page tables: a processor that walks them writes to them, or counts as if it did. */
function guestTest(
  title: string,
  body: (t: ExecutionContext, manager: GuestMemoryManager, guest: Guest, written: () => string) => void | Promise<void>,
): void {
  for (const kind of KINDS) {
    const ram = { ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind } };
    for (const { method, missing } of METHODS) {
      if (missing !== undefined) continue;
      vmTest(`${title} (${kind}, ${method})`, { ram: [ram], x86LegacySupport: true }, (t, manager, guest) => {
        const tracker = manager.trackDirty({ method });
        return body(t, manager, guest, () => ownWrites(tracker.collect()));
      });
    }
  }
}

/** Dirty pages as text, but for those that the guest itself needs. */
function ownWrites(pages: DirtyPages): string {
  return [...pages]
    .flatMap(({ gpa, length }) => Array.from({ length: Number(length) / PAGE }, (_, page) => Number(gpa) + page * PAGE))
    .filter((gpa) => gpa >= GUEST_SIZE)
    .map((gpa) => gpa.toString(16))
    .join(' ');
}

guestTest('what a guest writes is dirty, each time anew, and what it reads is not', (t, _, guest, written) => {
  for (let round = 1; round < 4; round++) {
    t.is(guest.read(0x30000), got(round - 1));
    t.is(written(), '');
    t.is(guest.write(0x30000, round), wrote(round));
    t.is(guest.write(0x123004, round), wrote(round));
    t.is(written(), '30000 123000');
    t.is(written(), '');
  }
});

guestTest('what a guest writes is dirty wherever it is seen', (t, manager, guest, written) => {
  const memory = SharedMemory.create(4 * PAGE);
  const region = manager.map.createRegion({ name: 'bar', kind: 'device', size: 4 * PAGE });
  region.map({ offset: 0, object: memory, objectOffset: 0, length: 4 * PAGE, writable: true });
  region.place(manager.root, { offset: BAR, priority: 1 });
  t.is(guest.write(BAR + PAGE, 7), wrote(7));
  region.move(BAR + MIB);
  t.is(guest.write(BAR + MIB + 2 * PAGE, 8), wrote(8));
  t.is(written(), '80101000 80102000');
  manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'read-only');
  t.is(guest.write(0xc0000, 9), 'mmio write c0000 = 9');
  t.is(guest.write(0xc4000, 9), wrote(9));
  manager.ramVisibility.set({ gpa: 0xc4000, length: 0x4000 }, 'read-only');
  t.is(written(), 'c4000');
  memory.close();
});

guestTest(
  'a guest that counts while its memory is exchanged stops nowhere, and loses no count',
  async (t, manager, guest) => {
    const tracker = manager.trackDirty();
    const memories = [0, 1].map(() => SharedMemory.create(PAGE));
    const region = manager.map.createRegion({ name: 'window', kind: 'device', size: PAGE });
    const show = (object: MemoryObject) =>
      region.map({ offset: 0, object, objectOffset: 0, length: PAGE, writable: true });
    show(memories[0]!);
    region.place(manager.root, { offset: BAR, priority: 1 });
    start(guest.vcpu, 'count', { rbx: BAR });
    const run = guest.vcpu.runAsync();
    const copies = new Copies(memories, tracker);
    const missed: number[] = [];
    for (let round = 0; round < tries(600); round++) {
      show(memories[(round + 1) % 2]!);
      copies.update();
      if (!copies.isTrue(memories[round % 2]!)) missed.push(round);
      await new Promise((resolve) => setImmediate(resolve));
    }
    guest.vcpu.kick();
    t.is(await run, KVM_EXIT.INTR);
    copies.update();
    t.deepEqual(missed, []);
    t.true(memories.every((memory) => copies.isTrue(memory) && firstWord(memory, 0) > 0));
    for (const memory of memories) memory.close();
  },
);

// ---- Changes that fail -------------------------------------------------------------------------

for (const kind of KINDS) {
  dirtyTest(`a change that is taken back anywhere loses no ${kind} page`, kind, (t, manager, tracker) => {
    const failing = new Failing(manager.map.context);
    const { ramVisibility, guestMemory } = manager;
    const hidden = { gpa: 0xc0000, length: 0x8000, visibility: 'unmapped' } as const;
    const protectedRam = { gpa: 0xd0000, length: 0x8000, visibility: 'read-only' } as const;
    for (let after = 0; ; after++) {
      guestMemory.writeU8(0xc1000, after);
      guestMemory.writeU8(0xd1000, after);
      failing.after = after;
      const outcome = attempt(() => ramVisibility.setAll([hidden, protectedRam]));
      failing.after = Number.POSITIVE_INFINITY;
      const pages = tracker.collect();
      if (outcome === undefined) {
        t.is(text(pages), 'd1000+1');
        t.is(hiddenText(pages), 'c1000+1');
        t.true(after > 1);
        return;
      }
      t.is(text(pages), 'c1000+1 d1000+1');
      guestMemory.writeU8(0xc2000, after);
      t.is(text(tracker.collect()), 'c2000+1', 'what was put back is watched');
    }
  });
}

// ---- At the same time --------------------------------------------------------------------------

/** Copies of the first word of each page of some memories, kept by what a tracker says is dirty. */
class Copies {
  readonly #words: ReadonlyMap<MemoryObject, Uint32Array>;
  readonly #tracker: DirtyTracker;

  constructor(memories: readonly MemoryObject[], tracker: DirtyTracker) {
    this.#words = new Map(memories.map((memory) => [memory, new Uint32Array(Number(memory.size) / PAGE)]));
    this.#tracker = tracker;
  }

  update(): void {
    for (const { object, offset, length } of this.#tracker.collect().byObject) {
      const words = this.#words.get(object);
      if (words === undefined) continue;
      for (let page = Number(offset) / PAGE; page < (Number(offset) + Number(length)) / PAGE; page++) {
        words[page] = firstWord(object, page);
      }
    }
  }

  /** Whether the copy of a memory is what it is now. */
  isTrue(memory: MemoryObject): boolean {
    return this.#words.get(memory)!.every((word, page) => word === firstWord(memory, page));
  }
}

function firstWord(object: MemoryObject, page: number): number {
  const word = new Uint32Array(1);
  object.read(page * PAGE, new Uint8Array(word.buffer));
  return word[0]!;
}

/** Writes its own count to one page after the other, until it is told to stop. Says the counts last written, and the
 *  faults that were none of a hole. */
const WRITER = `
const { parentPort, workerData } = require('node:worker_threads');
const { Reservation } = require(workerData.addon);
const space = Reservation.fromToken(workerData.token);
const stop = new Int32Array(workerData.stop);
let [count, faults] = [0, 0];
parentPort.postMessage('ready');
while (Atomics.load(stop, 0) === 0) {
  count++;
  if (space.store(workerData.gpa + (count % 16) * 4096, 4, count, 0) !== 0) faults++;
}
space.close();
parentPort.postMessage({ count, faults });
`;

dirtyTest(
  'who writes while another thread exchanges what is there faults never, and no write is missed',
  'shared',
  async (t, manager, tracker) => {
    const { map, root } = manager;
    const memories = [0, 1].map(() => SharedMemory.create(16 * PAGE));
    const region = map.createRegion({ name: 'window', kind: 'device', size: 16 * PAGE });
    const show = (object: MemoryObject) =>
      region.map({ offset: 0, object, objectOffset: 0, length: 16 * PAGE, writable: true });
    show(memories[0]!);
    region.place(root, { offset: BAR, priority: 1 });
    tracker.collect();
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const workerData = {
      token: manager.va.token,
      gpa: BAR,
      stop: stop.buffer,
      addon: artefact('membacking.node').pathname,
    };
    const worker = new Worker(WRITER, { eval: true, workerData });
    await once(worker, 'message');
    const copies = new Copies(memories, tracker);
    const missed: number[] = [];
    for (let round = 0; round < tries(1500); round++) {
      show(memories[(round + 1) % 2]!);
      copies.update();
      // Nobody writes to the one that is not shown.
      if (!copies.isTrue(memories[round % 2]!)) missed.push(round);
    }
    const ended = once(worker, 'message');
    Atomics.store(stop, 0, 1);
    const [{ count, faults }] = await ended;
    copies.update();
    t.deepEqual(missed, []);
    t.is(faults, 0);
    t.true(count > 0);
    t.true(memories.every((memory) => copies.isTrue(memory)));
    await worker.terminate();
    for (const memory of memories) memory.close();
  },
);
