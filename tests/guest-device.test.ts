// Device memory: BARs and DAX windows as their devices and buses use them, with real guests.

import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeSync,
} from 'node:fs';
import { inspect } from 'node:util';
import test from 'ava';
import { GuestMemoryBuilder } from '../ts/guest/builder.ts';
import { HOLE_POLICIES } from '../ts/guest/device.ts';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import { RecordingPartition } from '../ts/guest/recording-partition.ts';
import { PrivateMemory, SharedMemory } from '../ts/index.ts';
import { renderExplanation } from '../ts/text/render.ts';
import { descriptors, footprint } from './support/footprint.ts';
import { aim, FAR_WINDOW } from './support/guest.ts';
import { namelessFile } from './support/nameless-file.ts';
import { takenBack } from './support/taken-back.ts';
import { addressWidth, buildVm, GIB, got, MIB, vmTest, wrote } from './support/vm.ts';

const PAGE = 0x1000;
const BAR = 0x8000_0000;
const TIB = 2 ** 40;

/** A file in which each page begins with its number plus `first`. The descriptor is the caller's to close. */
function pagesFile(pages: number, first: number): number {
  const fd = namelessFile(0);
  const page = Buffer.alloc(PAGE);
  for (let i = 0; i < pages; i++) {
    page.writeUInt32LE(first + i);
    writeSync(fd, page, 0, PAGE, i * PAGE);
  }
  return fd;
}

/** Bytes that the monitor reads at the start of each page; '-' where nothing is. */
function seen(manager: GuestMemoryManager, gpa: number, pages: number): (number | string)[] {
  return Array.from({ length: pages }, (_, i) => {
    try {
      return manager.guestMemory.readU32(gpa + i * PAGE);
    } catch (error) {
      return (error as { details: { fault: string } }).details.fault === 'hole' ? '-' : 'gone';
    }
  });
}

vmTest(
  'a file mapped into a BAR is seen by the guest, before, while and after the BAR is placed',
  {},
  (t, manager, guest) => {
    const { control, region } = manager.deviceMapper.newRegion(MIB, 'bar');
    const fd = pagesFile(16, 0x100);
    region.map(0, fd, 2 * PAGE, 2 * PAGE, true);
    t.is(guest.read(BAR), 'mmio read 80000000', 'not placed yet');
    control.mapToGuest(BAR);
    t.is(guest.read(BAR), got(0x102));
    t.is(guest.read(BAR + PAGE), got(0x103));
    t.is(guest.read(BAR + 2 * PAGE), 'memory-fault', 'nothing is mapped there');
    region.map(2 * PAGE, fd, 0, PAGE);
    closeSync(fd);
    t.is(guest.read(BAR + 2 * PAGE), got(0x100));
    t.is(guest.write(BAR, 0xfeed), wrote(0xfeed));
    control.unmapFromGuest();
    t.is(guest.read(BAR), 'mmio read 80000000');
    region.unmap(PAGE, PAGE);
    control.mapToGuest(BAR);
    t.is(guest.read(BAR), got(0xfeed));
    t.is(guest.read(BAR + PAGE), 'memory-fault');
    t.is(guest.read(BAR + 2 * PAGE), got(0x100));
  },
);

vmTest('a DAX window overwrites and splits like mmap', {}, (t, manager, guest) => {
  const { control, region } = manager.deviceMapper.newRegion(8 * PAGE, 'dax');
  control.mapToGuest(BAR);
  const [a, b] = [pagesFile(8, 0xa0), pagesFile(8, 0xb0)];
  region.map(0, a, 0, 8 * PAGE);
  t.deepEqual(seen(manager, BAR, 8), [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7]);
  region.map(3 * PAGE, b, 6 * PAGE, 2 * PAGE);
  region.unmap(6 * PAGE, PAGE);
  t.deepEqual(seen(manager, BAR, 8), [0xa0, 0xa1, 0xa2, 0xb6, 0xb7, 0xa5, '-', 0xa7]);
  t.deepEqual(
    region.mappings().map(({ offset, length, fileOffset }) => [offset, length, fileOffset].map((each) => each / PAGE)),
    [
      [0, 3, 0],
      [3, 2, 6],
      [5, 1, 5],
      [7, 1, 7],
    ],
  );
  t.is(guest.read(BAR + 3 * PAGE), got(0xb6));
  t.is(guest.read(BAR + 6 * PAGE), 'memory-fault');
  t.is(guest.read(BAR + 7 * PAGE), got(0xa7));
  for (const fd of [a, b]) closeSync(fd);
});

vmTest('a BAR that moves takes exactly its live mappings along', {}, (t, manager, guest) => {
  const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'bar');
  const fd = pagesFile(4, 0x50);
  region.map(0, fd, 0, 4 * PAGE, true);
  region.unmap(PAGE, PAGE);
  control.mapToGuest(BAR);
  t.is(guest.write(BAR + 8, 7), wrote(7));
  const before = region.mappings();
  control.mapToGuest(BAR + 16 * MIB);
  t.deepEqual(region.mappings(), before);
  t.is(control.gpa, BAR + 16 * MIB);
  t.is(guest.read(BAR), 'mmio read 80000000');
  t.is(guest.read(BAR + 16 * MIB + 8), got(7));
  t.deepEqual(seen(manager, BAR + 16 * MIB, 4), [0x50, '-', 0x52, 0x53]);
  control.mapToGuest(BAR + PAGE);
  t.deepEqual(seen(manager, BAR, 5), ['-', 0x50, '-', 0x52, 0x53], 'to a place that overlaps the old one');
  closeSync(fd);
});

vmTest(
  'a guest that reads a DAX page whose file was truncated goes on when the page is there again',
  {},
  (t, manager, guest) => {
    const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'dax');
    control.mapToGuest(BAR);
    const fd = pagesFile(4, 0x60);
    region.map(0, fd, 0, 4 * PAGE, true);
    t.is(guest.read(BAR + 2 * PAGE), got(0x62));
    ftruncateSync(fd, PAGE);
    t.is(guest.read(BAR + 2 * PAGE), 'memory-fault');
    t.is(guest.write(BAR + 2 * PAGE, 1), 'memory-fault');
    t.deepEqual(seen(manager, BAR, 4), [0x60, 'gone', 'gone', 'gone']);
    t.is(guest.read(BAR), got(0x60));
    ftruncateSync(fd, 4 * PAGE);
    t.is(guest.read(BAR + 2 * PAGE), got(0), 'new pages of the file');
    closeSync(fd);
  },
);

vmTest('holes read as zeroes where that is the policy, and cannot be written', {}, (t, manager, guest) => {
  const { control, region } = manager.deviceMapper.newRegion(8 * MIB, 'bar', { holes: 'zero' });
  control.mapToGuest(BAR);
  t.is(guest.read(BAR + 5 * MIB), got(0));
  t.regex(guest.write(BAR + 5 * MIB, 1), /memory-fault|mmio write/);
  const fd = pagesFile(2, 0x70);
  region.map(5 * MIB, fd, 0, 2 * PAGE, true);
  t.is(guest.read(BAR + 5 * MIB), got(0x70));
  t.is(region.mappings().length, 1);
  region.unmap(5 * MIB, PAGE);
  t.deepEqual(seen(manager, BAR + 5 * MIB, 3), [0, 0x71, 0]);
  closeSync(fd);
});

test('a device region is as long as it is made, where it is placed', (t) => {
  const manager = buildVm();
  const fd = pagesFile(4, 0x70);
  for (const holes of HOLE_POLICIES) {
    const { control, region } = manager.deviceMapper.newRegion(2 * PAGE, `bar ${holes}`, { holes });
    control.mapToGuest(BAR);
    region.map(0, fd, 0, PAGE);
    region.resize(8 * MIB);
    t.is(region.length, 8 * MIB);
    region.map(8 * MIB - PAGE, fd, PAGE, PAGE);
    const hole = holes === 'zero' ? 0 : '-';
    t.deepEqual(seen(manager, BAR, 4), [0x70, hole, hole, hole], holes);
    t.deepEqual(seen(manager, BAR + 8 * MIB - 2 * PAGE, 3), [hole, 0x71, '-'], holes);
    region.resize(2 * PAGE);
    t.deepEqual(region.mappings().length, 1);
    t.deepEqual(seen(manager, BAR, 3), [0x70, hole, '-'], holes);
    t.throws(() => region.map(2 * PAGE, fd, 0, PAGE), { code: 'BAD_RANGE' });
    t.throws(() => region.resize(PAGE + 1), { code: 'INVALID_ARGUMENT' });
    t.throws(
      () =>
        manager.map.transaction(() => {
          region.resize(3 * PAGE);
          t.is(region.length, 3 * PAGE);
          throw new Error('not this time');
        }),
      { message: 'not this time' },
    );
    t.is(region.length, 2 * PAGE);
    region.region.resize(0);
    t.is(region.length, 0);
    region.close();
  }
  manager.close();
  closeSync(fd);
});

test('a small region with zeroes in its holes grows to a TiB with a thousand mappings', (t) => {
  const manager = buildVm({ debug: false });
  const { region } = manager.deviceMapper.newRegion(PAGE, 'bar', { holes: 'zero' });
  region.resize(2 ** 40);
  t.true(region.region.mappings().length <= 1025);
  manager.close();
});

test('what is mapped writable in a region that stays in place costs no slot, what is mapped read-only has its own', (t) => {
  const manager = buildVm();
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const { control, region } = manager.deviceMapper.newRegion(64 * PAGE, 'dax');
  control.mapToGuest(BAR);
  const fd = pagesFile(64, 0);
  const before = partition.events.length;
  for (let i = 0; i < 32; i++) region.map(i * 2 * PAGE, fd, i * PAGE, PAGE, true);
  region.map(0, fd, 0, 32 * PAGE, true);
  region.unmap(3 * PAGE, 8 * PAGE);
  t.is(partition.events.length, before);
  region.map(0, fd, 0, PAGE);
  const slots = [...partition.slots.values()].filter(({ gpa }) => gpa >= BAR);
  t.deepEqual(slots.map(({ gpa, length, access }) => [Number(gpa) - BAR, length, access]).sort(), [
    [0, PAGE, 'rx'],
    [PAGE, 63 * PAGE, 'rwx'],
  ]);
  closeSync(fd);
  manager.close();
  t.is(partition.slots.size, 0);
});

test('thousands of mappings of a few files need a few descriptors, and none when they are gone', (t) => {
  const manager = buildVm({ debug: false });
  const { control, region } = manager.deviceMapper.newRegion(64 * MIB, 'dax');
  control.mapToGuest(BAR);
  const files = [pagesFile(4, 0), pagesFile(4, 4), pagesFile(4, 8)];
  const before = descriptors().length;
  manager.map.transaction(() => {
    for (let i = 0; i < 6000; i++) region.map(2 * i * PAGE, files[i % 3]!, (i % 4) * PAGE, PAGE, i % 2 === 0);
  });
  t.is(descriptors().length - before, 4, 'one for each file that is written, and for the one that was read before');
  region.unmap(0, 2 * 5999 * PAGE);
  t.is(region.mappings().length, 1);
  t.is(descriptors().length - before, 1);
  region.map(2 * 5999 * PAGE, files[0]!, 0, PAGE);
  t.is(descriptors().length - before, 1, 'the file that was mapped over is let go');
  control.unmapFromGuest();
  region.close();
  t.is(descriptors().length, before);
  for (const fd of files) closeSync(fd);
  manager.close();
});

test('a file that is opened once is mapped without its descriptor, and goes when it is closed and unmapped', (t) => {
  const manager = buildVm();
  const { control, region } = manager.deviceMapper.newRegion(8 * PAGE, 'dax');
  control.mapToGuest(BAR);
  const fd = pagesFile(4, 0x10);
  const before = descriptors().length;
  const file = manager.deviceMapper.openFile(fd, { writable: true });
  const reader = manager.deviceMapper.openFile(fd);
  t.deepEqual([file.writable, reader.writable], [true, true], 'a file that is written is read through the same object');
  region.map(0, file, PAGE, 2 * PAGE, true);
  region.map(4 * PAGE, fd, 0, PAGE);
  closeSync(fd);
  t.deepEqual(seen(manager, BAR, 5), [0x11, 0x12, '-', '-', 0x10]);
  t.is(descriptors().length - before, 0, 'one more for the region, one less of ours');
  region.unmap(0, 8 * PAGE);
  region.map(0, file, 3 * PAGE, 4 * PAGE, true);
  t.deepEqual(seen(manager, BAR, 5), [0x13, 'gone', 'gone', 'gone', '-'], 'behind the end of the file');

  takenBack(t, manager.map, () => file.close());
  t.false(file.closed);
  file.close();
  t.throws(() => region.map(0, file, 0, PAGE), { code: 'CLOSED' });
  t.deepEqual(seen(manager, BAR, 1), [0x13], 'what is mapped stays');
  region.unmap(0, 8 * PAGE);
  t.is(descriptors().length - before, 0, 'the other handle holds it');
  reader.close();
  t.is(descriptors().length - before, -1);
  manager.close();
});

test('a file that is opened read-only is not mapped writable; one of another manager not at all', (t) => {
  const [manager, other] = [buildVm(), buildVm()];
  const { region } = manager.deviceMapper.newRegion(8 * PAGE, 'dax');
  const fd = pagesFile(4, 0x10);
  const before = descriptors().length;
  const file = manager.deviceMapper.openFile(fd);
  t.throws(() => region.map(0, file, 0, PAGE, true), { code: 'READONLY_OBJECT' });
  region.map(0, file, 0, PAGE);
  const foreign = other.deviceMapper.openFile(fd);
  t.throws(() => region.map(0, foreign, 0, PAGE), { code: 'INVALID_ARGUMENT' });
  t.throws(() => manager.deviceMapper.openFile(-1), { code: 'INVALID_ARGUMENT' });
  t.throws(() => region.map(0, {} as never, 0, PAGE), { code: 'INVALID_ARGUMENT' });
  takenBack(t, manager.map, () => void manager.deviceMapper.openFile(fd, { writable: true }));
  t.is(descriptors().length - before, 2);
  for (const each of [manager, other]) each.close();
  t.deepEqual([file.closed, foreign.closed], [true, true]);
  closeSync(fd);
});

test('a file may be mapped beyond its end, and shows there what it has when it has grown', (t) => {
  const manager = buildVm();
  const { control, region } = manager.deviceMapper.newRegion(8 * PAGE, 'dax');
  control.mapToGuest(BAR);
  const fd = pagesFile(1, 0x10);
  const before = descriptors().length;
  region.map(0, fd, 0, PAGE);
  region.map(PAGE, fd, 0, 4 * PAGE);
  t.deepEqual(seen(manager, BAR, 5), [0x10, 0x10, 'gone', 'gone', 'gone'], 'behind the end of the file');
  ftruncateSync(fd, 2 * PAGE + 10);
  writeSync(fd, new Uint8Array([0x22]), 0, 1, 2 * PAGE);
  t.deepEqual(seen(manager, BAR, 5), [0x10, 0x10, 0, 0x22, 'gone']);
  t.is(descriptors().length - before, 1);
  closeSync(fd);
  manager.close();
});

test('a descriptor that was mapped before is the file that it is open on now', (t) => {
  const manager = buildVm();
  const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'dax');
  control.mapToGuest(BAR);
  const fd = pagesFile(2, 0x40);
  for (const page of [0, 1]) region.map(page * PAGE, fd, page * PAGE, PAGE, true);
  closeSync(fd);
  t.throws(() => region.map(2 * PAGE, fd, 0, PAGE), { code: 'SYSTEM' });
  const next = pagesFile(2, 0x50);
  t.is(next, fd, 'the system gives the number out again');
  region.map(2 * PAGE, next, PAGE, PAGE);
  t.deepEqual(seen(manager, BAR, 4), [0x40, 0x41, 0x51, '-']);

  const writer = openSync(`/proc/self/fd/${next}`, 'r+');
  const reader = openSync(`/proc/self/fd/${next}`, 'r');
  const objectOf = (file: number, writable: boolean) => {
    region.map(3 * PAGE, file, 0, PAGE, writable);
    return region.region.mappings().at(-1)!.object;
  };
  const [before, again] = [objectOf(reader, false), objectOf(reader, false)];
  t.is(again, before);
  const written = objectOf(writer, true);
  t.not(written, before);
  t.is(objectOf(reader, false), written, 'who reads a file that is written does so through the same object');
  t.throws(() => region.map(3 * PAGE, reader, 0, PAGE, true), { code: 'SYSTEM' });
  for (const each of [next, writer, reader]) closeSync(each);
  manager.close();
});

test('a descriptor gives the access that it was opened for, also to a file that is known', (t) => {
  const manager = buildVm();
  const { region } = manager.deviceMapper.newRegion(4 * PAGE, 'dax');
  const fd = pagesFile(2, 0x30);
  const readOnly = openSync(`/proc/self/fd/${fd}`, 'r');
  region.map(0, fd, 0, PAGE, true);
  t.like(
    t.throws(() => region.map(PAGE, readOnly, 0, PAGE, true)),
    { code: 'SYSTEM', details: { code: 'EACCES' } },
  );
  region.map(PAGE, readOnly, 0, PAGE);
  t.deepEqual(
    region.mappings().map(({ writable }) => writable),
    [true, false],
  );
  for (const each of [fd, readOnly]) closeSync(each);
  manager.close();
});

vmTest(
  'a device region that ends is taken from the guest, and comes back with its transaction',
  {},
  (t, manager, guest) => {
    const fd = pagesFile(1, 0x30);
    const before = footprint();
    {
      const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'bar');
      using _ = region;
      region.map(0, fd, 0, PAGE);
      control.mapToGuest(BAR);
      const lease = manager.guestMemory.lock({ gpa: BAR, length: 8 }, 'read', { holder: 'disk' });
      t.throws(() => region.close(), { code: 'LEASED' });
      lease.release();
      takenBack(t, manager.map, () => region.close());
      t.is(guest.read(BAR), got(0x30));
      t.is(control.gpa, BAR);
    }
    t.is(guest.read(BAR), 'mmio read 80000000');
    t.deepEqual(manager.inspect().devices, []);
    t.deepEqual(footprint(), before);
    closeSync(fd);
  },
);

vmTest('a BAR that the guest puts past the highest address is not seen there', {}, (t, manager, guest) => {
  const fd = pagesFile(2, 0x30);
  const { control, region } = manager.deviceMapper.newRegion(2 * PAGE, 'bar');
  region.map(0, fd, 0, 2 * PAGE);
  control.mapToGuest(16 * GIB - PAGE);
  t.is(manager.guestMemory.readU32(16 * GIB - PAGE), 0x30);
  control.mapToGuest(2n ** 64n - 4096n);
  t.is(guest.read(BAR), 'mmio read 80000000');
  control.mapToGuest(BAR);
  t.is(guest.read(BAR + PAGE), got(0x31));
  closeSync(fd);
});

test('what cannot be mapped changes nothing, and leaves no descriptor', (t) => {
  const manager = buildVm();
  const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'bar');
  control.mapToGuest(BAR);
  const fd = pagesFile(2, 0x30);
  const other = pagesFile(2, 0x40);
  const readOnly = openSync(`/proc/self/fd/${other}`, 'r');
  const writeOnly = openSync(`/proc/self/fd/${fd}`, 'a');
  region.map(0, fd, 0, 2 * PAGE);
  const before = footprint();
  const refused = (code: string, body: () => void) => {
    t.throws(body, { code });
    t.deepEqual(footprint(), before);
    t.deepEqual(seen(manager, BAR, 4), [0x30, 0x31, '-', '-']);
  };
  refused('SYSTEM', () => region.map(0, 9999, 0, PAGE));
  refused('SYSTEM', () => region.map(0, readOnly, 0, PAGE, true));
  refused('SYSTEM', () => region.map(0, writeOnly, 0, PAGE));
  refused('INVALID_ARGUMENT', () => region.map(1, fd, 0, PAGE));
  refused('INVALID_ARGUMENT', () => region.map(0, fd, 0, 0));
  refused('INVALID_ARGUMENT', () => region.map(0, fd, -PAGE, PAGE));
  refused('INVALID_ARGUMENT', () => region.map(0, fd, 0, 5 * PAGE));
  refused('BAD_RANGE', () => region.map(3 * PAGE, other, 0, 2 * PAGE));
  refused('INVALID_ARGUMENT', () => control.mapToGuest(BAR + 5));
  refused('INVALID_ARGUMENT', () => manager.deviceMapper.newRegion(100, 'odd'));
  refused('INVALID_ARGUMENT', () => manager.deviceMapper.newRegion(PAGE, 'odd', { holes: 'ones' as never }));
  takenBack(t, manager.map, () => {
    region.map(PAGE, other, 0, PAGE);
    manager.deviceMapper.newRegion(4 * MIB, 'never', { holes: 'zero' }).control.mapToGuest(BAR + MIB);
    control.mapToGuest(BAR + 2 * MIB);
  });
  t.is(control.gpa, BAR);
  t.deepEqual(footprint(), before);
  t.deepEqual(seen(manager, BAR, 4), [0x30, 0x31, '-', '-']);
  for (const each of [fd, other, readOnly, writeOnly]) closeSync(each);
  t.throws(() => fstatSync(fd), { code: 'EBADF' });
  manager.close();
  t.true(region.closed);
});

test('what there is of a guest is JSON, wherever the guest has put a BAR', (t) => {
  const manager = new GuestMemoryBuilder({ maxAddress: GIB - 1, vtl0AliasMap: 2n ** 60n })
    .addRam({ ranges: [{ gpa: 0, length: MIB }], backing: { kind: 'private' } })
    .build();
  t.teardown(() => manager.close());
  manager.deviceMapper.newRegion(PAGE, 'nowhere');
  manager.deviceMapper.newRegion(MIB, 'bar').control.mapToGuest(0xffff_ffff_fff0_0000n);
  const facts = manager.inspect();
  t.deepEqual(JSON.parse(JSON.stringify(facts)), {
    regions: 4,
    maxAddress: GIB - 1,
    ...{ stretches: [{ gpa: 0, length: GIB }], maxStretches: 256, maxStretchBytes: 2 ** 44 },
    vtl0AliasMap: '0x1000000000000000',
    ram: [
      {
        ...{ name: 'ram', backing: 'private', size: MIB, transparentHugePages: false },
        pieces: [{ gpa: 0, length: MIB, visibility: 'read-write' }],
      },
    ],
    writableRam: [],
    devices: [
      { name: 'nowhere', length: PAGE, hidden: false, mappings: [] },
      { name: 'bar', length: MIB, gpa: '0xfffffffffff00000', hidden: true, mappings: [] },
    ],
    partitions: [],
    protections: [],
    leases: [],
    lost: [],
    events: [],
    trappingPages: [],
    plans: {
      ...{ plans: 1, commands: 1, failed: 0, disturbing: 0 },
      classes: { none: 1, changed: 0, 'unchanged-bytes': 0 },
    },
  });
  t.is(BigInt(facts.devices[1]!.gpa!), 0xffff_ffff_fff0_0000n);
});

test('a BAR that is placed read-only has a read-only slot, and the flat view says so', (t) => {
  const manager = buildVm();
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const { control, region } = manager.deviceMapper.newRegion(2 * PAGE, 'bar');
  const fd = pagesFile(2, 0);
  region.map(0, fd, 0, 2 * PAGE, true);
  const shown = () => {
    const slot = [...partition.slots.values()].find(({ gpa }) => gpa === BAR);
    const range = manager.map.context.spaces.values().next().value!.find(BAR);
    return [slot?.access, range?.readonly];
  };
  control.mapToGuest(BAR, { writable: false });
  t.deepEqual(shown(), ['rx', true]);
  control.mapToGuest(BAR);
  t.deepEqual(shown(), ['rwx', false]);
  region.map(0, fd, 0, 2 * PAGE);
  t.deepEqual(shown(), ['rx', true], 'read-only by its mapping');
  t.throws(() => manager.guestMemory.writeU8(BAR, 1), { code: 'GUEST_ACCESS' });
  for (const more of [[true], [{ writable: 1 }], [{ readonly: true }], [undefined, 1]] as never[][]) {
    t.throws(() => control.mapToGuest(BAR, ...more), { code: 'INVALID_ARGUMENT' });
  }
  closeSync(fd);
  manager.close();
});

test('a BAR of which nothing is seen is said to be hidden, and by whom', (t) => {
  const manager = buildVm();
  t.teardown(() => manager.close());
  const bar = (name: string, gpa: number | bigint, priority = 0) => {
    const { control, region } = manager.deviceMapper.newRegion(2 * PAGE, name, { priority });
    control.mapToGuest(gpa);
    return region.region;
  };
  const under = bar('under RAM', MIB);
  bar('over RAM', 2 * MIB, 256);
  bar('half under RAM', 4 * MIB - PAGE);
  const past = bar('past the end', 2n ** 63n);
  t.deepEqual(manager.space.hidden, [under, past]);
  const { devices } = manager.inspect();
  t.deepEqual(
    devices.filter(({ hidden }) => hidden).map(({ name }) => name),
    ['under RAM', 'past the end'],
  );
  const hiddenAt = (gpa: number) => manager.space.explain(gpa).hidden.map(({ name, seen }) => [name, seen]);
  t.deepEqual([hiddenAt(MIB), hiddenAt(4 * MIB - PAGE)], [[['under RAM', false]], [['half under RAM', true]]]);
  t.regex(renderExplanation(manager.space.explain(MIB)).join('\n'), /hidden .*under RAM.*seen nowhere/);
  under.setFlags({ enabled: false });
  t.deepEqual(manager.space.hidden, [past], 'what is disabled is not meant to be seen');
});

/** Reason why KVM cannot have slots of 8 TiB here; undefined: it can. */
function whyNoHugeSlots(): string | undefined {
  if (addressWidth() < 44) return `physical addresses of this machine have ${addressWidth()} bits`;
  const tables = ['kvm_intel/parameters/ept', 'kvm_amd/parameters/npt'].map((name) => `/sys/module/${name}`);
  const isNested = tables.some((path) => existsSync(path) && /^[Y1]/.test(readFileSync(path, 'latin1')));
  return isNested ? undefined : 'without nested paging, KVM keeps 8 bytes a page of a slot: 16 GiB';
}

vmTest('a window of 8 TiB has the slots that KVM can have', { maxAddress: 16 * TIB - 1 }, (t, manager, guest) => {
  const reason = whyNoHugeSlots();
  if (reason !== undefined) {
    t.log(`skipped: ${reason}`);
    t.pass();
    return;
  }
  const { map, root, guestMemory } = manager;
  const memory = SharedMemory.create(8 * TIB, { name: 'window' });
  const window = map.createRegion({ name: 'window', kind: 'device', size: 8 * TIB });
  window.map({ object: memory });
  window.place(root, { offset: 8 * TIB });
  const slots = guest.attached.attachments[0]!.slots();
  t.deepEqual(
    slots.map(({ gpa, length }) => [gpa, length]),
    [
      [0, 4 * MIB],
      [8 * TIB, 4 * TIB],
      [12 * TIB, 4 * TIB],
    ],
  );
  for (const { gpa, bytes } of aim(12n * 2n ** 40n)) guestMemory.write(gpa, bytes);
  guestMemory.writeU32(12 * TIB, 0x1234);
  t.is(guest.read(FAR_WINDOW), got(0x1234));
  t.is(guest.write(FAR_WINDOW, 0x5678), wrote(0x5678));
  t.is(guestMemory.readU32(12 * TIB), 0x5678);
  memory.close();
});

// ---- Memory that a driver gives ------------------------------------------------------------------

test('what a driver gives is mapped as files are, named, and neither given back nor prefetched', (t) => {
  const before = footprint();
  const manager = new GuestMemoryBuilder({ debug: true }).addRam({ ranges: [{ gpa: 0, length: MIB }] }).build();
  const { control, region } = manager.deviceMapper.newRegion(4 * PAGE, 'bar');
  control.mapToGuest(BAR);
  const zero = openSync('/dev/zero', 'r+');
  region.map(0, zero, 0, 2 * PAGE, true);
  const file = manager.deviceMapper.openFile(zero, { writable: true });
  region.map(2 * PAGE, file, 0, PAGE, true);
  closeSync(zero);
  manager.guestMemory.writeU32(BAR, 1);
  manager.guestMemory.writeU32(BAR + 2 * PAGE, 2);
  t.deepEqual(seen(manager, BAR, 4), [1, 0, 2, '-']);
  t.deepEqual(
    region.mappings().map(({ kind }) => kind),
    ['driver', 'driver'],
  );
  t.deepEqual(manager.inspect().devices[0]!.mappings[0]!.kind, 'driver');
  t.regex(renderExplanation(manager.space.explain(BAR)).join('\n'), /mapping +driver +file \d+ +writable/);
  const lease = manager.guestMemory.lock({ gpa: BAR, length: PAGE }, 'write', { holder: 'test' });
  t.throws(() => lease.view, { code: 'NO_VIEW' }, 'a driver may take it away');
  lease.release();
  file.close();
  manager.close();
  t.deepEqual(footprint(), before);
});

test('a descriptor of a driver says how much of it is wanted; what its mmap refuses, the error names', (t) => {
  const manager = new GuestMemoryBuilder({ debug: true }).addRam({ ranges: [{ gpa: 0, length: MIB }] }).build();
  const { region } = manager.deviceMapper.newRegion(4 * PAGE, 'bar');
  const zero = openSync('/dev/zero', 'r+');
  const memory = SharedMemory.fromFd(zero, { size: PAGE });
  t.is(memory.kind, 'driver');
  t.regex(inspect(memory), /driver/);
  t.throws(() => SharedMemory.fromFd(zero), { message: /size/ });
  const copy = PrivateMemory.fromFile(zero, { size: PAGE });
  const nothing = openSync('/dev/null', 'r+');
  const error = t.throws(() => region.map(0, nothing, 0, PAGE, true), { code: 'SYSTEM' });
  t.like(error?.cause, { code: 'ENODEV' });
  t.deepEqual(region.mappings(), []);
  for (const each of [memory, copy]) each.close();
  for (const fd of [zero, nothing]) closeSync(fd);
  manager.close();
});

vmTest('the run page of a vCPU is memory that a driver gives, of each vCPU its own', {}, (t, manager, guest) => {
  const vcpus = [1, 2].map((id) => guest.partition.createVcpu(id));
  const fds = readdirSync('/proc/self/fd').filter((fd) => linkOf(fd).includes('kvm-vcpu'));
  t.is(fds.length, 3);
  const { control, region } = manager.deviceMapper.newRegion(3 * PAGE, 'run pages');
  for (const [i, fd] of fds.entries()) region.map(i * PAGE, Number(fd), 0, PAGE, true);
  control.mapToGuest(BAR);
  const unused = 4; // bytes of padding in kvm_run
  for (const i of fds.keys()) manager.guestMemory.writeU8(BAR + i * PAGE + unused, i);
  t.deepEqual(
    [...fds.keys()].map((i) => manager.guestMemory.readU8(BAR + i * PAGE + unused)),
    [0, 1, 2],
  );
  t.is(guest.read(BAR + PAGE + unused), got(1));
  region.map(0, Number(fds[0]), 64 * PAGE, PAGE, true);
  t.throws(() => manager.guestMemory.readU8(BAR), { code: 'GUEST_ACCESS', message: /its driver does not give it/ });
  for (const vcpu of vcpus) vcpu.close();
});

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}
