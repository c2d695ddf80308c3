// The pages behind RAM, in the kernel's own accounting: huge, from a node, resident, pinned; added, and given back.

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { WorkerGuestMemory } from '../ts/access/worker-guest-memory.ts';
import { SharedMemory } from '../ts/asked/object.ts';
import type { MembackingError } from '../ts/core/errors.ts';
import { GuestMemoryBuilder, type GuestMemoryOptions } from '../ts/guest/builder.ts';
import { MemoryBuildError } from '../ts/guest/errors.ts';
import type { GpaRange } from '../ts/guest/layout.ts';
import type { AddedRam, GuestMemoryManager } from '../ts/guest/manager.ts';
import type { RamOptions } from '../ts/guest/ram-options.ts';
import { hugePageTest, namesOf, policiesOf, smapsOf } from './support/accounting.ts';
import { footprint } from './support/footprint.ts';
import { kvmMissing } from './support/guest.ts';
import { takenBack } from './support/taken-back.ts';
import { buildVm, GIB, Guest, got, MIB, vmTest, wrote } from './support/vm.ts';

const PAGE = 0x1000;
const HUGE = 2 * MIB;
const KINDS = ['shared', 'private'] as const;

function builder(ram: Partial<RamOptions>, options: GuestMemoryOptions = {}): GuestMemoryBuilder {
  const at = { ranges: [{ gpa: 0, length: 16 * MIB }] };
  return new GuestMemoryBuilder({ maxAddress: GIB - 1, ...options }).addRam({ ...at, ...ram });
}

/** All huge pages that are free, until it is closed. */
function takeFreePages(): SharedMemory {
  const count = (name: string) => Number(readFileSync(`/sys/kernel/mm/hugepages/hugepages-2048kB/${name}`, 'utf8'));
  return SharedMemory.create((count('free_hugepages') - count('resv_hugepages')) * HUGE, { hugePageSize: HUGE });
}

/** The kernel's account of the range of VA in which the RAM is. */
function smaps({ va }: GuestMemoryManager, gpa = 0, length = 16 * MIB): Record<string, number> {
  return smapsOf(va.base + BigInt(gpa), BigInt(length));
}

// ---- Resident ----------------------------------------------------------------------------------

for (const kind of KINDS) {
  test.serial(`${kind} RAM that is prefetched is resident when it is built, and progress is told`, async (t) => {
    const told: number[] = [];
    const manager = await builder({
      backing: { kind },
      ranges: [{ gpa: 0, length: 160 * MIB }],
      prefetch: true,
    }).buildAsync({
      progress: (done, total) => {
        t.is(total, 160 * MIB);
        told.push(done);
      },
    });
    t.is(told.length, 3);
    t.is(told.at(-1), 160 * MIB);
    t.is(smaps(manager, 0, 160 * MIB).Rss, 160 * MIB);
    if (kind === 'shared') t.is(manager.inspect().ram[0]!.allocatedBytes, 160 * MIB);
    manager.close();
  });
}

test.serial('a file system without space is named, by what touches its memory and by a prefetch', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-full-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', folder]);
  if (mounted.status !== 0) {
    t.pass();
    t.log('no file system can be mounted here');
    return;
  }
  try {
    const fd = openSync(join(folder, 'ram'), 'w+');
    ftruncateSync(fd, 4 * MIB);
    const ram = { ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind: 'fd', fd } } as const;
    const manager = builder(ram).build();
    const full = { code: 'GUEST_ACCESS', message: /now: no space is left on its file system$/ } as const;
    const error = t.throws<MembackingError>(() => manager.guestMemory.write(0, new Uint8Array(4 * MIB).fill(1)), full);
    t.is(error?.details.gpa, MIB);
    t.throws(() => manager.guestMemory.writeU8(3 * MIB, 1), full);
    const other = WorkerGuestMemory.fromToken(manager.va.token);
    t.throws(() => other.readU8(3 * MIB), { message: /its file system is full or has failed/ });
    other.close();
    manager.close();
    const refused = { code: 'ALLOCATION_FAILED', message: /ENOSPC: no space is left on its file system/ };
    await t.throwsAsync(builder({ ...ram, prefetch: true }).buildAsync(), refused);
    closeSync(fd);
  } finally {
    spawnSync('umount', [folder]);
    rmSync(folder, { recursive: true });
  }
});

test.serial('a prefetch that is aborted leaves nothing, and so does a callback that throws', async (t) => {
  const before = footprint();
  const ram = builder({ ranges: [{ gpa: 0, length: 640 * MIB }], prefetch: true });
  const abort = new AbortController();
  const { signal } = abort;
  await t.throwsAsync(ram.buildAsync({ signal, progress: () => abort.abort('enough') }), { code: 'ABORTED' });
  t.deepEqual(footprint(), before);
  const error = new Error('callback');
  await t.throwsAsync(
    ram.buildAsync({
      progress: () => {
        throw error;
      },
    }),
    { is: error },
  );
  t.deepEqual(footprint(), before);
  t.throws(() => ram.build(), { instanceOf: MemoryBuildError, code: 'NEEDS_ASYNC' });
  await t.throwsAsync(ram.buildAsync({ onprogress: () => {} } as never), { code: 'INVALID_ARGUMENT' });
  const late = builder({}).buildAsync({ signal: AbortSignal.abort('before') });
  t.is((await t.throwsAsync(late, { code: 'ABORTED' }))!.cause, 'before', 'also where nothing is prefetched');
  t.deepEqual(footprint(), before);
});

for (const kind of KINDS) {
  test.serial(`${kind} RAM that is pinned is resident, stays so, and is not discarded`, (t) => {
    const manager = builder({ backing: { kind } }, { pinMappings: true }).build();
    if (kind === 'private') t.is(smaps(manager).Locked, 16 * MIB);
    t.is(kind === 'private' ? smaps(manager).Rss : manager.inspect().ram[0]!.allocatedBytes, 16 * MIB);
    t.throws(() => manager.discard({ gpa: 0, length: PAGE }), { code: 'NOT_DISCARDABLE', message: /pinned/ });
    manager.close();
  });
}

// ---- Huge --------------------------------------------------------------------------------------

hugePageTest('RAM of explicit huge pages is what the kernel says it is', HUGE, 8, (t) => {
  const manager = builder({ backing: { kind: 'shared', hugePageSize: HUGE } }).build();
  manager.guestMemory.writeU32(5 * MIB, 1);
  t.is(smaps(manager).Shared_Hugetlb! + smaps(manager).Private_Hugetlb!, HUGE);
  const lease = manager.guestMemory.lock({ gpa: 0, length: PAGE }, 'write', { holder: 'ring' });
  t.throws(() => lease.view, { code: 'NO_VIEW', message: /huge pages .* use read and write/ });
  lease.release();
  t.throws(() => manager.discard({ gpa: 4 * MIB, length: PAGE }), { code: 'NOT_DISCARDABLE', message: /0x200000/ });
  t.is(manager.discard({ gpa: 4 * MIB, length: HUGE }), HUGE);
  t.is(manager.guestMemory.readU32(5 * MIB), 0);
  manager.close();
});

hugePageTest('a pool that is too small says how many pages are missing', HUGE, 2, (t) => {
  const before = footprint();
  const error = t.throws(
    () =>
      builder(
        { ranges: [{ gpa: 0, length: 64 * GIB }], backing: { kind: 'shared', hugePageSize: HUGE } },
        { maxAddress: 64 * GIB - 1 },
      ).build(),
    {
      instanceOf: MemoryBuildError,
      code: 'HUGE_PAGES_MISSING',
    },
  );
  const { needed, free, missing } = error!.details as Record<string, number>;
  t.is(needed, 32768);
  t.is(missing, needed! - free!);
  t.regex(error!.message, /echo \d+ > \/sys\/kernel\/mm\/hugepages\/hugepages-2048kB\/nr_hugepages/);
  t.deepEqual(footprint(), before);
});

test.serial('RAM that is not made of whole huge pages is refused', (t) => {
  const huge = { kind: 'shared', hugePageSize: HUGE } as const;
  const refused = (ram: Partial<RamOptions>) =>
    t.throws(() => builder({ backing: huge, ...ram }).build(), {
      instanceOf: MemoryBuildError,
      code: 'HUGE_PAGE_SIZE',
    });
  if (!existsSync('/sys/kernel/mm/hugepages/hugepages-2048kB')) {
    t.pass('there are no such pages');
    return;
  }
  refused({ ranges: [{ gpa: 0, length: 3 * MIB }] });
  t.regex(refused({ ranges: [{ gpa: MIB, length: HUGE }] })!.message, /0x100000 .* backing of its own/);
});

hugePageTest('huge pages that are handed over are whole ones, and are not copied on write', HUGE, 8, (t) => {
  const manager = builder({ backing: { kind: 'shared', hugePageSize: HUGE } }).build();
  const backing = manager.sharedMemory();
  manager.close();
  const before = footprint();
  const refused = (code: string, message: RegExp, ranges: GpaRange[], copyOnWrite = false) => {
    const ram = builder({ backing: { kind: 'handed-over', backing, copyOnWrite }, ranges });
    t.throws(() => ram.build(), { instanceOf: MemoryBuildError, code, message });
    t.deepEqual(footprint(), before);
  };
  refused('HUGE_PAGE_SIZE', /0x100000 .* whole huge pages of 0x200000/, [{ gpa: MIB, length: 16 * MIB }]);
  refused('HUGE_PAGE_SIZE', /whole huge pages of 0x200000/, [
    { gpa: 0, length: 3 * MIB },
    { gpa: 4 * MIB, length: 13 * MIB },
  ]);
  refused('BACKING_SIZE', /0x1000000 bytes, its RAM 0x300000/, [{ gpa: 0, length: 3 * MIB }]);
  refused('OPTION_MISFIT', /huge pages cannot be copied on write/, [{ gpa: 0, length: 16 * MIB }], true);
  builder({ backing: { kind: 'handed-over', backing } })
    .build()
    .close();
  backing.close();
});

hugePageTest('a huge page that was given back comes again only if one is free', HUGE, 8, (t) => {
  const manager = builder({ backing: { kind: 'shared', hugePageSize: HUGE } }).build();
  manager.guestMemory.writeU8(4 * MIB, 1);
  manager.discard({ gpa: 4 * MIB, length: HUGE });
  using other = takeFreePages();
  t.throws(() => manager.guestMemory.readU8(4 * MIB), { code: 'GUEST_ACCESS', message: /no huge page is free/ });
  other.close();
  t.is(manager.guestMemory.readU8(4 * MIB), 0);
  manager.close();
});

hugePageTest('huge pages without a reservation are taken when they are touched, and missing then', HUGE, 8, (t) => {
  const huge = { backing: { kind: 'shared', hugePageSize: HUGE }, noReserve: true } as const;
  const far = { ranges: [{ gpa: 0, length: 64 * GIB }] };
  builder({ ...huge, ...far }, { maxAddress: 64 * GIB - 1 })
    .build()
    .close();
  const manager = builder(huge).build();
  using other = takeFreePages();
  t.throws(() => manager.guestMemory.writeU8(5 * MIB, 1), { code: 'GUEST_ACCESS', message: /no huge page is free/ });
  other.close();
  manager.guestMemory.writeU8(5 * MIB, 1);
  t.is(smaps(manager).Shared_Hugetlb! + smaps(manager).Private_Hugetlb!, HUGE, 'only what was touched');

  using backing = manager.sharedMemory();
  manager.close();
  using more = takeFreePages();
  const again = { ...huge, backing: { kind: 'handed-over', backing } } as const;
  const second = builder(again).build();
  t.is(second.guestMemory.readU8(5 * MIB), 1);
  second.close();
  t.throws(() => builder({ ...again, noReserve: false }).build(), { code: 'ALLOCATION_FAILED' });
  more.close();
});

if (kvmMissing) test.skip(`a guest that touches a huge page that is missing: ${kvmMissing}`, () => {});
else
  hugePageTest('a guest that touches a huge page that is missing exits, and goes on when one is free', HUGE, 8, (t) => {
    const high = { name: 'high', ranges: [{ gpa: GIB, length: 16 * MIB }], noReserve: true };
    const manager = buildVm({
      ram: [{ ranges: [{ gpa: 0, length: 4 * MIB }] }, { ...high, backing: { kind: 'shared', hugePageSize: HUGE } }],
    });
    const guest = new Guest(manager);
    const other = takeFreePages();
    t.is(guest.read(GIB + 5 * MIB), 'memory-fault');
    other.close();
    t.is(guest.write(GIB + 5 * MIB, 7), wrote(7));
    manager.close();
    guest.close();
  });

test.serial('ordinary memory is not reserved, and may be asked not to be', (t) => {
  const isAllReserved = readFileSync('/proc/sys/vm/overcommit_memory', 'utf8').trim() === '2';
  builder({ noReserve: true }).build().close();
  const mine = builder({ backing: { kind: 'private' }, noReserve: true });
  if (isAllReserved) t.throws(() => mine.build(), { code: 'OPTION_MISFIT', message: /make it shared/ });
  else t.notThrows(() => mine.build().close());
});

test.serial('a file has transparent huge pages by a prefetch or not at all, and its copy has none', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  const path = join(folder, 'ram');
  writeFileSync(path, '');
  truncateSync(path, 16 * MIB);
  const before = footprint();
  const ram = (copyOnWrite: boolean, prefetch: boolean) =>
    builder({ backing: { kind: 'file', path, copyOnWrite }, transparentHugePages: true, prefetch });
  const misfit = { instanceOf: MemoryBuildError, code: 'OPTION_MISFIT' };
  t.throws(() => ram(false, false).build(), { ...misfit, message: /by a prefetch only/ });
  t.throws(() => ram(true, false).build(), { ...misfit, message: /page by page/ });
  await t.throwsAsync(ram(true, true).buildAsync(), misfit);
  t.deepEqual(footprint(), before);
  (await ram(false, true).buildAsync()).close();
  rmSync(folder, { recursive: true });
});

for (const kind of KINDS) {
  test.serial(`transparent huge pages for ${kind} RAM come, or the error says how to switch them on`, (t) => {
    const setting = `/sys/kernel/mm/transparent_hugepage/${kind === 'private' ? 'enabled' : 'shmem_enabled'}`;
    if (!existsSync(setting)) {
      t.pass('this kernel has none');
      return;
    }
    const isOff = /\[(never|deny)\]/.test(readFileSync(setting, 'utf8'));
    const ram = builder({ backing: { kind }, transparentHugePages: true });
    if (isOff) {
      const error = t.throws(() => ram.build(), { instanceOf: MemoryBuildError, code: 'HUGE_PAGES_OFF' });
      t.true(error!.message.includes(setting));
    }
    const soft = builder({ backing: { kind }, transparentHugePages: 'if-possible' }).build();
    t.is(soft.inspect().ram[0]!.transparentHugePages, !isOff);
    soft.close();
    if (isOff) return;
    const manager = ram.build();
    manager.guestMemory.write(0, new Uint8Array(4 * MIB).fill(1));
    const { AnonHugePages, ShmemPmdMapped } = smaps(manager);
    t.true(AnonHugePages! + ShmemPmdMapped! >= HUGE);
    manager.close();
  });
}

test.serial('huge pages in a memfd come with a prefetch, whatever the machine is set to', async (t) => {
  const manager = await builder({ transparentHugePages: true, prefetch: true }).buildAsync();
  manager.guestMemory.write(0, new Uint8Array(4 * MIB).fill(1));
  t.log(`${smaps(manager).ShmemPmdMapped! / MIB} of 16 MiB mapped by huge pages`);
  t.is(manager.inspect().ram[0]!.allocatedBytes, 16 * MIB);
  manager.close();
});

test.serial('what means nothing for a backing is refused', (t) => {
  const before = footprint();
  const file = SharedMemory.create(16 * MIB);
  t.throws(() => builder({ backing: { kind: 'private', hugePageSize: HUGE } as never }).build(), {
    code: 'INVALID_ARGUMENT',
  });
  t.throws(() => builder({ numaNode: -1 }), { code: 'INVALID_ARGUMENT' });
  t.throws(() => builder({ transparentHugePages: 'soft' as never }), { code: 'INVALID_ARGUMENT' });
  t.throws(() => builder({ backing: { kind: 'file', path: '/dev/null' } }).build(), { instanceOf: MemoryBuildError });
  file.close();
  t.deepEqual(footprint(), before);
});

// ---- From where --------------------------------------------------------------------------------

for (const kind of KINDS) {
  test.serial(`${kind} RAM comes from the NUMA node that was asked for`, (t) => {
    const manager = builder({ backing: { kind }, numaNode: 0 }).build();
    manager.guestMemory.writeU8(0, 1);
    t.true(policiesOf(manager.va.base, BigInt(16 * MIB)).includes('bind:0'));
    manager.close();
  });
}

test.serial('a NUMA node that is absent is an error, and nothing is left', (t) => {
  const before = footprint();
  t.throws(() => builder({ numaNode: 700 }).build(), {
    instanceOf: MemoryBuildError,
    code: 'NUMA_NODE_ABSENT',
    message: /700/,
  });
  t.deepEqual(footprint(), before);
});

// ---- Added and given back ----------------------------------------------------------------------

vmTest('RAM comes and goes while the guest runs', {}, (t, manager, guest) => {
  const before = footprint();
  t.is(guest.read(GIB), `mmio read ${GIB.toString(16)}`);
  const added = manager.addRam({ name: 'dimm0', ranges: [{ gpa: GIB, length: 2 * MIB }] });
  t.is(guest.write(GIB + MIB, 5), wrote(5));
  t.is(guest.read(GIB + MIB), got(5));
  t.is(manager.ramVisibility.at(GIB), 'read-write');
  const lease = manager.guestMemory.lock({ gpa: GIB, length: 8 }, 'read', { holder: 'disk' });
  t.throws(() => added.remove(), { code: 'LEASED' });
  t.is(guest.read(GIB + MIB), got(5));
  lease.release();
  added.remove();
  t.true(added.closed);
  added.remove();
  t.is(guest.read(GIB), `mmio read ${GIB.toString(16)}`);
  t.is(manager.ramVisibility.at(GIB), undefined);
  t.deepEqual(footprint(), before);
});

test.serial('RAM without a name gets the first that is free, also while other RAM comes', async (t) => {
  const at = (gpa: number, name?: string) => ({ ranges: [{ gpa, length: MIB }], ...(name ? { name } : {}) });
  const manager = buildVm({ ram: [at(0), at(MIB, 'ram'), at(2 * MIB, 'ram2'), at(3 * MIB)] });
  const names = () => manager.inspect().ram.map(({ name }) => name);
  t.deepEqual(names(), ['ram1', 'ram', 'ram2', 'ram3']);
  manager.removeRam('ram1');
  t.is(manager.addRam(at(GIB)).name, 'ram1');
  const both = [
    manager.addRamAsync(at(2 * GIB)),
    manager.addRamAsync(at(3 * GIB)),
    manager.addRamAsync(at(4 * GIB, 'a')),
  ];
  t.throws(() => manager.addRam(at(5 * GIB, 'ram4')), { code: 'NAME_TAKEN' });
  t.throws(() => manager.addRam(at(2 * GIB)), { code: 'RAM_OVERLAP' });
  await t.throwsAsync(manager.addRamAsync(at(5 * GIB, 'a')), { code: 'NAME_TAKEN' });
  t.deepEqual(
    (await Promise.all(both)).map(({ name }) => name),
    ['ram4', 'ram5', 'a'],
  );
  await t.throwsAsync(manager.addRamAsync({ ...at(6 * GIB, 'b'), numaNode: 700 }), { code: 'NUMA_NODE_ABSENT' });
  t.is(manager.addRam(at(6 * GIB, 'b')).name, 'b', 'what did not come has no name');
  manager.close();
});

vmTest(
  'RAM that the guest was built with is removed by its name',
  { ram: [{ ranges: [{ gpa: 0, length: 4 * MIB }] }, { name: 'dimm0', ranges: [{ gpa: GIB, length: MIB }] }] },
  (t, manager, guest) => {
    t.is(guest.write(GIB, 5), wrote(5));
    const lease = manager.guestMemory.lock({ gpa: GIB, length: 8 }, 'read', { holder: 'disk' });
    t.throws(() => manager.removeRam('dimm0'), { code: 'LEASED' });
    lease.release();
    manager.setVtlProtection(0, { gpa: GIB, length: PAGE }, 'rx');
    manager.removeRam('dimm0');
    t.deepEqual(manager.vtlProtections(0), []);
    t.is(guest.read(GIB), `mmio read ${GIB.toString(16)}`);
    t.throws(() => manager.removeRam('dimm0'), { code: 'INVALID_ARGUMENT', message: /"dimm0"; there is "ram"/ });
    const added = manager.addRam({ name: 'dimm0', ranges: [{ gpa: GIB, length: MIB }] });
    manager.removeRam('dimm0');
    t.true(added.closed);
    added.remove();
    manager.addRam({ name: 'dimm0', ranges: [{ gpa: GIB, length: MIB }] });
    added.remove();
    t.is(guest.read(GIB), got(0), 'the old handle does not concern the new RAM');
  },
);

test.serial('the handle of RAM that a transaction took back is closed, and one that it gave back is open', (t) => {
  const manager = buildVm();
  const handles: AddedRam[] = [];
  takenBack(t, manager.map, () => handles.push(manager.addRam({ ranges: [{ gpa: GIB, length: MIB }] })));
  t.true(handles[0]!.closed);
  handles[0]!.remove();
  const added = manager.addRam({ ranges: [{ gpa: GIB, length: MIB }] });
  takenBack(t, manager.map, () => {
    added.remove();
    t.true(added.closed);
  });
  t.false(added.closed);
  manager.close();
  t.true(added.closed);
});

test.serial('RAM that does not fit is not added, and leaves nothing', async (t) => {
  const manager = buildVm({ slotBudget: 2 });
  const before = footprint();
  const refused = (code: string, ram: RamOptions) => {
    t.throws(() => manager.addRam(ram), { code });
    t.deepEqual(footprint(), before);
  };
  refused('RAM_OVERLAP', { ranges: [{ gpa: 2 * MIB, length: MIB }] });
  refused('RAM_TOO_LARGE', { ranges: [{ gpa: 16 * GIB, length: MIB }] });
  refused('NAME_TAKEN', { name: 'ram', ranges: [{ gpa: GIB, length: MIB }] });
  refused('NEEDS_ASYNC', { ranges: [{ gpa: GIB, length: MIB }], prefetch: true });
  takenBack(t, manager.map, () => manager.addRam({ ranges: [{ gpa: GIB, length: MIB }] }));
  t.deepEqual(footprint(), before);
  const added = await manager.addRamAsync({ ranges: [{ gpa: GIB, length: MIB }], prefetch: true });
  takenBack(t, manager.map, () => added.remove());
  t.false(added.closed);
  t.is(manager.guestMemory.readU32(GIB), 0);
  manager.close();
});

for (const kind of KINDS) {
  vmTest(
    `what a guest gives back of ${kind} RAM is the machine's again`,
    {
      ram: [{ ranges: [{ gpa: 0, length: 16 * MIB }], backing: { kind } }],
    },
    (t, manager, guest) => {
      const rss = () => (kind === 'private' ? smaps(manager).Rss! : Number(manager.inspect().ram[0]!.allocatedBytes));
      manager.guestMemory.write(4 * MIB, new Uint8Array(8 * MIB).fill(7));
      const before = rss();
      t.is(manager.discard({ gpa: 6 * MIB, length: 2 * MIB }), 2 * MIB);
      t.is(before - rss(), 2 * MIB);
      t.is(guest.read(6 * MIB), got(0));
      t.is(guest.read(8 * MIB), got(0x07070707));
      t.is(manager.discard({ gpa: 6 * MIB + PAGE, length: PAGE }), 0, 'nothing is left there');
    },
  );
}

test.serial('memory that is in use, hidden, protected or no RAM is not discarded', (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  const range = { gpa: 0xc8000, length: 0x4000 };
  manager.guestMemory.writeU32(0xc8000, 1);
  const refused = (code: string, message: RegExp, of = range) => {
    t.throws(() => manager.discard(of), { code, message });
  };
  for (const memory of [manager.guestMemory, manager.client(2).memory, manager.va.memory]) {
    const lease = memory.lock({ gpa: 0xc9000, length: 8 }, 'read', { holder: 'disk' });
    refused('LEASED', /"disk"/);
    lease.release();
  }
  manager.setVtlProtection(2, { gpa: 0xc9000, length: PAGE }, 'none');
  refused('NOT_DISCARDABLE', /trust level/);
  manager.setVtlProtection(2, { gpa: 0xc9000, length: PAGE }, 'rwx');
  manager.ramVisibility.set(range, 'read-only');
  refused('NOT_DISCARDABLE', /writable RAM/);
  refused('NOT_DISCARDABLE', /writable RAM/, { gpa: 4 * MIB - PAGE, length: 2 * PAGE });
  refused('NOT_DISCARDABLE', /whole pages/, { gpa: 0x10, length: PAGE });
  refused('INVALID_ARGUMENT', /length/, { gpa: 0, length: 0 });
  manager.ramVisibility.set(range, 'read-write');
  t.is(manager.guestMemory.readU32(0xc8000), 1);
  t.is(manager.discard(range), PAGE);
  manager.close();
});

vmTest(
  'what is leased is given back when it is free, and the guest is kept away until then',
  {},
  async (t, manager, guest) => {
    const range = { gpa: MIB, length: 4 * PAGE };
    manager.guestMemory.write(MIB, new Uint8Array(4 * PAGE).fill(7));
    t.is(await manager.discardWhenFree({ gpa: MIB + 3 * PAGE, length: PAGE }), PAGE, 'at once where nothing is leased');
    const lease = manager.guestMemory.lock({ gpa: MIB, length: 8 }, 'read', { holder: 'disk' });
    t.throws(() => manager.discard(range), { code: 'LEASED', message: /discardWhenFree waits for that/ });
    await t.throwsAsync(manager.discardWhenFree(range, { deadline: 1 }), { code: 'LEASED', message: /"disk"/ });
    t.is(guest.read(MIB), got(0x07070707));

    const freed = manager.discardWhenFree(range);
    t.is(guest.read(MIB), `mmio read ${MIB.toString(16)}`);
    t.is(guest.read(MIB + PAGE), got(0x07070707));
    for (const vtl of [0, 2] as const) {
      const late = () => manager.client(vtl).memory.lock({ gpa: MIB + PAGE, length: 8 }, 'read', { holder: 'late' });
      t.throws(late, { code: 'LEASED' });
    }
    lease.release();
    t.is(await freed, 3 * PAGE);
    t.is(guest.read(MIB), got(0));

    await t.throwsAsync(manager.discardWhenFree({ gpa: GIB, length: PAGE }), { code: 'NOT_DISCARDABLE' });
    await t.throwsAsync(
      manager.whenFree(() => manager.discard(range)),
      { code: 'NOT_DISCARDABLE', message: /transaction/ },
    );
  },
);

test.serial('everything that is mapped is named in /proc/self/smaps', (t) => {
  const manager = buildVm({
    ram: [
      { ranges: [{ gpa: 0, length: MIB }] },
      { name: 'mine', ranges: [{ gpa: MIB, length: MIB }], backing: { kind: 'private' } },
    ],
  });
  manager.guestMemory.writeU8(MIB, 1);
  const names = namesOf(manager.va.base, BigInt(16 * GIB)).join('\n');
  t.regex(names, /memfd:ram/);
  t.regex(
    readFileSync('/proc/self/smaps', 'utf8'),
    /membacking:ram mine/,
    'the page behind it, where the kernel does not name private memory',
  );
  t.regex(names, /membacking:va guest/);
  manager.close();
});
