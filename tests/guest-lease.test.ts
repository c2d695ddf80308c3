// Leases: memory in use stays as it is; who wants to change it is refused with the holders' names, or waits.

import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, read, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import type { GuestMemory } from '../ts/access/guest-memory.ts';
import type { Lease } from '../ts/access/lease.ts';
import type { LocalGuestMemory } from '../ts/access/local-guest-memory.ts';
import { WorkerGuestMemory } from '../ts/access/worker-guest-memory.ts';
import { SharedMemory } from '../ts/asked/object.ts';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import { RecordingPartition } from '../ts/guest/recording-partition.ts';
import type { MemorySlot } from '../ts/sinks/partition.ts';
import { footprint } from './support/footprint.ts';
import { joinedSlots } from './support/joined-slots.ts';
import { AT, hide, leaseTest, PAM } from './support/leases.ts';
import { buildVm, GIB, Guest, got, MIB, vmTest, wrote } from './support/vm.ts';

const PAGE = 0x1000;

/** Keeps the process alive until then, which `AbortSignal.timeout` does not. */
function abortedAfter(milliseconds: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), milliseconds);
  return controller.signal;
}

leaseTest('memory in use is neither hidden nor replaced nor protected, and the error says who has it', (t, manager) => {
  const disk = manager.guestMemory.lock({ gpa: AT + 8, length: 16 }, 'write', { holder: 'disk 0' });
  const net = manager.guestMemory.lock({ gpa: AT + 16, length: 100 }, 'read', { holder: 'net' });
  const error = t.throws(() => hide(manager), { code: 'LEASED' });
  t.regex(error!.message, /"disk 0", "net"/);
  t.deepEqual((error as unknown as { details: unknown }).details, {
    leases: [
      { holder: 'disk 0', mode: 'write', gpa: AT + 8, length: 16 },
      { holder: 'net', mode: 'read', gpa: AT + 16, length: 100 },
    ],
  });
  t.throws(() => manager.ramVisibility.set(PAM, 'read-only'), { code: 'LEASED', message: /"disk 0":/ });
  t.throws(() => manager.va.protect({ gpa: 0xc9000, length: PAGE, access: 'none' }), { code: 'LEASED' });
  t.throws(() => manager.setVtlProtection(0, { gpa: 0xc9000, length: PAGE }, 'rx'), { code: 'LEASED' });
  t.is(manager.ramVisibility.at(AT), 'read-write');
  t.is(manager.map.leases().length, 2);
  disk.release();
  disk.release();
  t.true(disk.released);
  manager.ramVisibility.set(PAM, 'read-only');
  t.throws(() => hide(manager), { code: 'LEASED' });
  net[Symbol.dispose]();
  hide(manager);
});

leaseTest('what is not in use changes freely beside ten thousand leases', (t, manager) => {
  const { guestMemory } = manager;
  const leases = Array.from({ length: 10_000 }, (_, i) =>
    guestMemory.lock({ gpa: MIB + i * 256, length: 4096 }, 'write', { holder: `ring ${i}` }),
  );
  const before = performance.now();
  for (let i = 0; i < 200; i++) manager.ramVisibility.set(PAM, i % 2 === 0 ? 'unmapped' : 'read-write');
  t.log(`${((performance.now() - before) * 5).toFixed(0)} us a flip`);
  t.throws(() => manager.ramVisibility.set({ gpa: MIB, length: 3 * MIB }, 'unmapped'), { code: 'LEASED' });
  for (const lease of leases) lease.release();
  manager.ramVisibility.set({ gpa: MIB, length: 3 * MIB }, 'unmapped');
});

leaseTest('only memory that is there now can be leased, with the access it has', (t, manager) => {
  const { guestMemory } = manager;
  const lock =
    (gpa: number, length: number, mode: 'read' | 'write' = 'read') =>
    () =>
      guestMemory.lock({ gpa, length }, mode, { holder: 'test' });
  t.throws(lock(4 * MIB - 8, 16), { code: 'GUEST_ACCESS', message: /0x400000 has no memory/ });
  t.throws(lock(2 ** 45, 8), { code: 'GUEST_ACCESS' });
  manager.ramVisibility.set(PAM, 'read-only');
  t.throws(lock(0xc7ff0, 32, 'write'), { code: 'GUEST_ACCESS', message: /0xc8000 is read-only/ });
  lock(0xc7ff0, 32)().release();
  hide(manager);
  t.throws(lock(0xc7ff0, 32), { code: 'GUEST_ACCESS', message: /0xc8000 has no memory/ });
  const refused = (body: () => void) => t.throws(body, { code: 'INVALID_ARGUMENT' });
  refused(lock(0, 0));
  refused(lock(-1, 1));
  refused(lock(0, 8, 'keep' as never));
  refused(() => guestMemory.lock({ gpa: 0, length: 8 }, 'read', {} as never));
  refused(() => guestMemory.lock({ gpa: 0, length: 8 }, 'read', { holder: 'x', until: 3 } as never));
  t.deepEqual(manager.map.leases(), []);
});

for (const hook of ['pause', 'deleteSlot', 'addSlot', 'resume'] as const) {
  for (const failures of [0, 1]) {
    leaseTest(
      `while a plan is carried out ${hook} gets no lease, ${failures ? 'and fails' : 'and goes on'}`,
      (t, manager) => {
        const lock = () => manager.guestMemory.lock({ gpa: AT, length: 8 }, 'write', { holder: hook }).release();
        const change = () => manager.ramVisibility.set(PAM, 'read-only');
        const partition = new RecordingPartition();
        manager.attachPartition(partition);
        const real = partition[hook] as (slot?: MemorySlot) => void;
        let left = failures;
        partition[hook] = (slot?: MemorySlot) => {
          t.throws(lock, { code: 'LEASED', message: /is about to change/ });
          if (left-- > 0) throw new Error('no');
          real.call(partition, slot);
        };
        manager.map.transaction(lock);
        if (failures) t.throws(change, { code: hook === 'resume' ? 'RESUME_FAILED' : 'PLAN_FAILED' });
        else change();
        t.deepEqual(manager.map.leases(), []);
        partition[hook] = real;
      },
    );
  }
}

vmTest(
  'while somebody waits the guest does not see the memory, and nobody else gets it',
  { x86LegacySupport: true },
  async (t, manager, guest) => {
    const { guestMemory } = manager;
    t.is(guest.write(AT, 0x77), wrote(0x77));
    const lease = guestMemory.lock({ gpa: AT, length: 64 }, 'write', { holder: 'disk' });
    const hidden = manager.whenFree(() => hide(manager));
    t.is(guest.read(AT), 'mmio read c9000');
    t.is(guest.read(0xcb000), got(0), 'what is not leased stays until the change');
    t.throws(() => guestMemory.lock({ gpa: 0xcb000, length: 8 }, 'read', { holder: 'late' }), { code: 'LEASED' });
    guestMemory.lock({ gpa: MIB, length: 8 }, 'read', { holder: 'elsewhere' }).release();
    t.is(guestMemory.readU32(AT), 0x77);
    lease.release();
    await hidden;
    t.is(guest.read(AT), 'mmio read c9000');
    t.is(guest.read(0xcb000), 'mmio read cb000');
    manager.ramVisibility.set(PAM, 'read-write');
    t.is(guest.read(AT), got(0x77), 'with the change, what was kept from the guest is given back');
    guestMemory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'late' }).release();
  },
);

leaseTest('nothing that changes with what is waited for is leased, in whatever view', async (t, manager) => {
  const other = { gpa: 0xd0000, length: 0x4000 };
  manager.setVtlProtection(0, { gpa: MIB, length: PAGE }, 'rx');
  const [vtl0, vtl2] = [manager.client(0).memory, manager.client(2).memory];
  const lock = (memory: LocalGuestMemory, gpa: number, mode: 'read' | 'write') =>
    memory.lock({ gpa, length: 8 }, mode, { holder: 'late' }).release();
  const lease = vtl2.lock({ gpa: AT, length: 8 }, 'write', { holder: 'disk' });
  const changed = manager.whenFree(() =>
    manager.ramVisibility.setAll([
      { ...PAM, visibility: 'unmapped' },
      { ...other, visibility: 'read-only' },
    ]),
  );
  for (const memory of [vtl0, vtl2]) {
    t.throws(() => lock(memory, PAM.gpa, 'read'), { code: 'LEASED' });
    t.throws(() => lock(memory, other.gpa, 'write'), { code: 'LEASED' });
    lock(memory, other.gpa, 'read');
    lock(memory, 0xd4000, 'write');
  }
  lease.release();
  await changed;
  lock(vtl0, other.gpa, 'read');
});

vmTest(
  'whoever waits takes from the guest what the change would, and from nobody else',
  {},
  async (t, manager, vtl0) => {
    const at = MIB;
    const vtl2 = new Guest(manager, { vtl: 2 });
    const [memory0, memory2] = [manager.client(0).memory, manager.client(2).memory];
    for (const before of ['rwx', 'rx'] as const) {
      // With a protection elsewhere, VTL0 has a view of its own.
      manager.setVtlProtection(0, { gpa: 2 * MIB, length: PAGE }, before);
      const lease = memory0.lock({ gpa: at, length: 8 }, 'write', { holder: 'disk' });
      const changed = manager.whenFree(() => manager.setVtlProtection(0, { gpa: at, length: PAGE }, 'rx'));
      t.is(vtl0.read(at), got(0));
      t.is(vtl0.write(at, 1), `mmio write ${at.toString(16)} = 1`);
      t.is(vtl2.write(at, 0), wrote(0));
      memory2.lock({ gpa: at, length: 8 }, 'write', { holder: 'VTL2' }).release();
      memory0.lock({ gpa: at, length: 8 }, 'read', { holder: 'reader' }).release();
      t.throws(() => memory0.lock({ gpa: at, length: 8 }, 'write', { holder: 'writer' }), { code: 'LEASED' });
      lease.release();
      await changed;
      t.is(vtl0.read(at), got(0));
      t.is(vtl0.write(at, 1), `mmio write ${at.toString(16)} = 1`);
      manager.setVtlProtection(0, { gpa: at, length: PAGE }, 'rwx');
      t.is(vtl0.write(at, 0), wrote(0));
    }
    vtl2.close();
  },
);

for (const access of ['none', 'rx'] as const) {
  test.serial(
    `where no slot is left to take "${access}" from a part, waiting takes it from the whole slot`,
    async (t) => {
      const manager = buildVm({ slotBudget: 1 });
      const partition = new RecordingPartition();
      manager.attachPartition(partition);
      const accesses = () => [...partition.slots.values()].map((slot) => slot.access);
      const lease = manager.guestMemory.lock({ gpa: MIB, length: 8 }, 'write', { holder: 'disk' });
      const changed = manager.whenFree(() => manager.setVtlProtection(0, { gpa: 0, length: 4 * MIB }, access));
      const after = access === 'none' ? [] : [access];
      t.deepEqual(accesses(), after);
      lease.release();
      await changed;
      t.deepEqual(accesses(), after);
      manager.setVtlProtection(0, { gpa: 0, length: 4 * MIB }, 'rwx');
      t.deepEqual(accesses(), ['rwx']);
      manager.close();
    },
  );
}

leaseTest('what another map has leased is not waited for', async (t, manager) => {
  const other = buildVm({ x86LegacySupport: true });
  const lease = other.guestMemory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'disk' });
  const error = await t.throwsAsync(
    manager.whenFree(() => hide(other)),
    { code: 'LEASED', message: /"disk"/ },
  );
  t.like(error, { details: { leases: [{ holder: 'disk' }] } });
  lease.release();
  other.close();
});

for (const [name, options, code] of [
  ['deadline', () => ({ deadline: 20 }), 'LEASED'],
  ['signal', () => ({ signal: abortedAfter(20) }), 'ABORTED'],
] as const) {
  vmTest(
    `a ${name} ends the wait, and the guest sees its memory again`,
    { x86LegacySupport: true },
    async (t, manager, guest) => {
      const lease = manager.guestMemory.lock({ gpa: AT, length: 64 }, 'write', { holder: 'disk' });
      const error = await t.throwsAsync(
        manager.whenFree(() => hide(manager), options()),
        { code, message: /"disk"/ },
      );
      t.like(error, { details: { leases: [{ holder: 'disk', gpa: AT }] } });
      t.is(guest.write(AT, 5), wrote(5));
      t.is(manager.ramVisibility.at(AT), 'read-write');
      manager.guestMemory.lock({ gpa: AT, length: 64 }, 'write', { holder: 'other' }).release();
      lease.release();
    },
  );
}

leaseTest(
  'a change that was given up before it began is not made, whether it would have to wait or not',
  async (t, manager) => {
    const signal = AbortSignal.abort('no');
    const change = () => manager.whenFree(() => hide(manager), { signal });
    const givenUp = { code: 'ABORTED', message: 'a change was given up; nothing was changed' };
    t.like(await t.throwsAsync(change(), givenUp), { cause: 'no', details: { leases: [] } });
    const lease = manager.guestMemory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'disk' });
    await t.throwsAsync(change(), givenUp);
    lease.release();
    t.is(manager.ramVisibility.at(AT), 'read-write');

    const controller = new AbortController();
    const held = manager.guestMemory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'disk' });
    const waiting = manager.whenFree(() => hide(manager), { signal: controller.signal });
    held.release();
    controller.abort();
    await t.throwsAsync(waiting, givenUp, 'nor when the last lease has just ended');
    t.is(manager.ramVisibility.at(AT), 'read-write');
  },
);

leaseTest('a lease that is taken in a transaction goes with it if that comes to nothing', async (t, manager) => {
  const lock = () => manager.guestMemory.lock({ gpa: AT, length: 8 }, 'write', { holder: 'body' });
  let lease = lock();
  lease.release();
  t.throws(() =>
    manager.map.transaction(() => {
      lease = lock();
      lease.view[0] = 1;
      throw new Error('no');
    }),
  );
  t.true(lease.released);
  manager.map.transaction(() => {
    t.throws(() =>
      manager.map.transaction(() => {
        lock();
        throw new Error('only the inner one');
      }),
    );
    lease = lock();
  });
  t.deepEqual(manager.map.leases(), [lease.facts]);
  lease.release();

  const ownWay = () => {
    lock();
    hide(manager);
  };
  await t.throwsAsync(
    manager.whenFree(ownWay),
    { code: 'LEASED', message: /"body"/ },
    'its own leases are not waited for',
  );
  t.deepEqual(manager.map.leases(), []);
  hide(manager);
});

leaseTest('a wait with nothing to wait for is a transaction', async (t, manager) => {
  t.is(await manager.whenFree(() => 7), 7);
  await t.throwsAsync(
    manager.whenFree(() => {
      hide(manager);
      throw new Error('no');
    }),
    { message: 'no' },
  );
  t.is(manager.ramVisibility.at(AT), 'read-write');
  await t.throwsAsync(manager.whenFree(7 as never), { code: 'INVALID_ARGUMENT' });
  await t.throwsAsync(
    manager.whenFree(() => 7, { deadline: -1 }),
    { code: 'INVALID_ARGUMENT' },
  );
  await t.throwsAsync(
    manager.whenFree(() => 7, { timeout: 1 } as never),
    { code: 'INVALID_ARGUMENT' },
  );
});

leaseTest(
  'protections that change while memory is kept from the guest hold when it is given back',
  async (t, manager) => {
    const partition = new RecordingPartition();
    manager.attachPartition(partition);
    const accessAt = (gpa: number) => {
      const all = [...partition.slots.values()];
      return all.find((slot) => slot.gpa <= gpa && gpa < Number(slot.gpa) + Number(slot.length))?.access ?? 'none';
    };
    const lease = manager.guestMemory.lock({ gpa: AT, length: 64 }, 'read', { holder: 'disk' });
    const hidden = manager.whenFree(() => hide(manager), { deadline: 100 });
    t.is(accessAt(AT), 'none');
    manager.setVtlProtection(0, { gpa: 0xc9000, length: 0x2000 }, 'rx');
    t.is(accessAt(AT), 'none');
    t.is(accessAt(0xca000), 'rx');
    const late = new RecordingPartition();
    manager.attachPartition(late);
    t.false([...late.slots.values()].some((slot) => slot.gpa <= AT && AT < Number(slot.gpa) + Number(slot.length)));
    await t.throwsAsync(hidden, { code: 'LEASED' });
    t.is(accessAt(AT), 'rx');
    t.deepEqual(
      [...late.slots.values()].map(({ gpa, access }) => [gpa, access]).sort(),
      [...partition.slots.values()].map(({ gpa, access }) => [gpa, access]).sort(),
    );
    lease.release();
  },
);

test.serial('hiding memory from the guest fails wholly, at every step', async (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const slots = () =>
    [...partition.slots.values()].map(({ gpa, length, access }) => [gpa, length, access].join()).sort();
  const before = slots();
  const lease = manager.guestMemory.lock({ gpa: AT, length: 64 }, 'read', { holder: 'disk' });
  for (let steps = 0; steps < 3; steps++) {
    partition.failAfter = steps;
    await t.throwsAsync(
      manager.whenFree(() => hide(manager), { deadline: 1 }),
      { code: 'PLAN_FAILED' },
    );
    t.deepEqual(slots(), before);
    manager.guestMemory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'other' }).release();
  }
  lease.release();
  manager.close();
});

test.serial('what could not be given back at the end of a wait is given back with the next change', async (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const slots = () => joinedSlots(partition.slots.values());
  const before = slots();
  const lease = manager.guestMemory.lock({ gpa: AT, length: 64 }, 'read', { holder: 'disk' });
  for (let steps = 0; ; steps++) {
    const hidden = manager.whenFree(() => hide(manager), { deadline: 1 });
    const withheld = slots();
    t.notDeepEqual(withheld, before);
    partition.failAfter = steps;
    const error = await t.throwsAsync(hidden, { code: 'LEASED', message: /^memory at 0xc9000 is in use by "disk"/ });
    t.like(error, { details: { leases: [{ holder: 'disk' }] } });
    if (error!.cause === undefined) {
      partition.failAfter = Number.POSITIVE_INFINITY;
      t.true(steps > 0);
      break;
    }
    t.like(error, { cause: { code: 'PLAN_FAILED' } });
    t.deepEqual(slots(), withheld);
    manager.guestMemory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'other' }).release();
    partition.failAfter = 0;
    t.throws(() => manager.map.transaction(() => {}), { code: 'PLAN_FAILED' });
    t.deepEqual(slots(), withheld);
    manager.addRam({ ranges: [{ gpa: GIB, length: MIB }] }).remove();
    t.deepEqual(slots(), before);
  }
  t.deepEqual(slots(), before);
  lease.release();
  manager.close();
});

test.serial('where a vCPU cannot be resumed after memory was hidden from it, it is given back', async (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const before = joinedSlots(partition.slots.values());
  const lease = manager.guestMemory.lock({ gpa: AT, length: 64 }, 'read', { holder: 'disk' });
  partition.resume = () => {
    partition.resume = () => {};
    throw new Error('no');
  };
  await t.throwsAsync(
    manager.whenFree(() => hide(manager)),
    { code: 'RESUME_FAILED' },
  );
  t.deepEqual(joinedSlots(partition.slots.values()), before);
  manager.guestMemory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'other' }).release();
  lease.release();
  manager.close();
});

test.serial('a manager that is closed takes all leases back, and says who still held what', async (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  const lease = manager.guestMemory.lock({ gpa: AT, length: 64 }, 'write', { holder: 'disk' });
  const waiting = manager.whenFree(() => hide(manager));
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
  manager.close();
  t.true(lease.released);
  const warning = await warned;
  t.like(warning, { name: 'MembackingWarning', code: 'LEASES_ENDED' });
  t.regex(warning.message, /"disk" write 0xc9000-0xc903f/);
  await t.throwsAsync(waiting, { code: 'CLOSED' });
  t.throws(() => lease.view, { code: 'CLOSED' });
});

// ---- Views -------------------------------------------------------------------------------------

leaseTest('a view is the memory itself, the same each time, and empty after release', (t, manager) => {
  const { guestMemory } = manager;
  const lease = guestMemory.lock({ gpa: AT + 3, length: 0x2000 }, 'write', { holder: 'ring' });
  const { view } = lease;
  t.is(lease.view, view);
  t.is(view.length, 0x2000);
  guestMemory.writeU8(AT + 4, 9);
  t.is(view[1], 9);
  view[0x1fff] = 7;
  t.is(guestMemory.readU8(AT + 3 + 0x1fff), 7);
  lease.release();
  t.is(view.length, 0);
  t.is(view[1], undefined);
  t.throws(() => lease.view, { code: 'CLOSED' });
  hide(manager);
});

leaseTest('memory that JavaScript must not touch has no view', (t, manager) => {
  const { guestMemory, ramVisibility } = manager;
  ramVisibility.set(PAM, 'read-only');
  const readOnly = guestMemory.lock({ gpa: AT, length: 8 }, 'read', { holder: 'rom' });
  t.throws(() => readOnly.view, { code: 'NO_VIEW' });
  readOnly.release();

  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  const fd = openSync(join(folder, 'dax'), 'w+');
  rmSync(folder, { recursive: true });
  ftruncateSync(fd, PAGE);
  const { control, region } = manager.deviceMapper.newRegion(PAGE, 'dax');
  control.mapToGuest(0x8000_0000);
  region.map(0, fd, 0, PAGE, true);
  const file = guestMemory.lock({ gpa: 0x8000_0000, length: 8 }, 'write', { holder: 'dax' });
  t.throws(() => file.view, { code: 'NO_VIEW' });
  t.throws(() => control.unmapFromGuest(), { code: 'LEASED' });
  t.throws(() => region.unmap(0, PAGE), { code: 'LEASED' });
  file.release();

  const sealed = SharedMemory.create(PAGE);
  region.map(0, sealed.fd, 0, PAGE, true);
  sealed.close();
  const memory = guestMemory.lock({ gpa: 0x8000_0000, length: 8 }, 'write', { holder: 'shared memory device' });
  t.is(memory.view.length, 8, 'a file that is sealed against that has one');
  memory.release();
  closeSync(fd);
});

leaseTest('memory that is leased to be read may become read-only, by its flag and by what is mapped', (t, manager) => {
  const file = SharedMemory.create(2 * PAGE);
  const { control, region } = manager.deviceMapper.newRegion(PAGE, 'bar');
  region.map(0, file.fd, 0, PAGE, true);
  control.mapToGuest(0x8000_0000);
  const lease = manager.guestMemory.lock({ gpa: 0x8000_0000, length: 8 }, 'read', { holder: 'reader' });
  region.map(0, file.fd, 0, PAGE, false);
  t.throws(() => manager.guestMemory.writeU8(0x8000_0000, 1), { code: 'GUEST_ACCESS', message: /read-only/ });
  region.region.setFlags({ readonly: true });
  t.throws(() => region.map(0, file.fd, PAGE, PAGE, false), { code: 'LEASED' }, 'but not another page');
  lease.release();
  file.close();
});

test.serial('a manager that a partition does not let go is open, and so are its leases', async (t) => {
  const manager = buildVm();
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const lease = manager.guestMemory.lock({ gpa: MIB, length: PAGE }, 'write', { holder: 'ring' });
  partition.failAfter = 0;
  t.throws(() => manager.close(), { code: 'PLAN_FAILED' });
  t.false(manager.closed);
  t.false(lease.released);
  lease.view[0] = 7;
  t.is(manager.guestMemory.readU8(MIB), 7);
  t.is(partition.slots.size, 1);
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
  manager.close();
  t.true(lease.released);
  await warned;
});

test.serial('a closed manager takes views back before the memory goes', async (t) => {
  const manager = buildVm();
  const { view } = manager.guestMemory.lock({ gpa: MIB, length: PAGE }, 'write', { holder: 'ring' });
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
  manager.close();
  t.is(view.length, 0);
  await warned;
});

/** Whether something is mapped or reserved between two host addresses. */
function isTaken(start: bigint, end: bigint): boolean {
  return readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .some((line) => {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
      return to !== undefined && BigInt(`0x${from}`) < end && BigInt(`0x${to}`) > start;
    });
}

const ENDINGS: Readonly<Record<string, (manager: GuestMemoryManager, lease: Lease) => void>> = {
  'is released': (manager, lease) => {
    lease.release();
    manager.close();
  },
  'is closed': (manager, lease) => {
    lease.close();
    manager.close();
  },
  'ends with its manager': (manager) => {
    manager.close();
  },
};

const ALL_ENDINGS = Object.entries(ENDINGS).flatMap(([ending, end]) => [
  { ending, end, leasedBefore: 0 },
  { ending: `${ending}, of memory that was leased before,`, end, leasedBefore: 3 },
]);

for (const { ending, end, leasedBefore } of ALL_ENDINGS) {
  test.serial(`a read in flight into a view whose lease ${ending} reaches nobody else's memory`, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const fd = openSync(pipe, 'r+');
    rmSync(folder, { recursive: true });
    const begin = () => {
      const manager = buildVm();
      const take = () => manager.guestMemory.lock({ gpa: MIB, length: PAGE }, 'write', { holder: 'disk' });
      for (let i = 0; i < leasedBefore; i++) {
        const before = take();
        before.view[0] = i;
        before.release();
      }
      const lease = take();
      const { base, size } = manager.va;
      const done = new Promise<NodeJS.ErrnoException | null>((resolve) => read(fd, lease.view, 0, PAGE, null, resolve));
      end(manager, lease);
      t.throws(() => lease.view, { code: 'CLOSED' });
      return { done, lowest: base, behind: base + BigInt(size) };
    };
    const { done, lowest, behind } = begin();
    const isKept = isTaken(lowest, behind);
    // Each is as large as the one that is gone, and would fit in there.
    const others = Array.from({ length: 100 }, () => buildVm());
    writeSync(fd, Buffer.alloc(PAGE, 7));
    t.is((await done)?.code, 'EFAULT');
    t.true(isKept);
    for (const other of others) {
      const { va, guestMemory } = other;
      t.true(va.base >= behind || va.base + BigInt(va.size) <= lowest, 'it has addresses of its own');
      t.is(guestMemory.readU8(MIB), 0);
      other.close();
    }
    closeSync(fd);
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    while (isTaken(lowest, behind)) {
      collect();
      await new Promise((resolve) => setImmediate(resolve));
    }
    t.pass('its addresses went with the view');
  });
}

leaseTest('a view that is sent elsewhere is copied or refused, and stays the memory', (t, manager) => {
  for (let turn = 0; turn < 4; turn++) {
    const lease = manager.guestMemory.lock({ gpa: MIB, length: PAGE }, 'write', { holder: 'ring' });
    const { view } = lease;
    view[0] = 1;
    structuredClone(view)[0] = 2;
    try {
      structuredClone(view, { transfer: [view.buffer as ArrayBuffer] })[0] = 3;
    } catch (error) {
      t.like(error, { name: 'DataCloneError' });
    }
    t.deepEqual([view.length, view[0], manager.guestMemory.readU8(MIB)], [PAGE, 1, 1]);
    lease.release();
    t.is(view.length, 0);
  }
});

for (const [kind, memoryOf] of [
  ["the map's own thread", ({ guestMemory }) => guestMemory],
  ['a worker', ({ va }) => WorkerGuestMemory.fromToken(va.token)],
] as const satisfies readonly (readonly [string, (of: GuestMemoryManager) => GuestMemory])[]) {
  test.serial(`who had a view of memory that is leased again and again in ${kind} has it no more`, (t) => {
    const before = footprint();
    const manager = buildVm();
    const memory = memoryOf(manager);
    const former: Uint8Array[] = [];
    for (let turn = 0; turn < 400; turn++) {
      // Several lengths at one place, and more places than are kept.
      const range = { gpa: MIB + (turn % 100) * PAGE, length: turn % 7 === 0 ? 100 : PAGE };
      const lease = memory.lock(range, 'write', { holder: 'ring' });
      const { view } = lease;
      t.is(view.length, range.length);
      view.fill(turn);
      t.is(memory.readU8(range.gpa + range.length - 1), turn % 256);
      lease.release();
      former.push(view);
    }
    t.true(former.every((view) => view.length === 0 && view.buffer.byteLength === 0));
    t.is(new Set(former.map(({ buffer }) => buffer)).size, former.length);
    const held = memory.lock({ gpa: MIB, length: PAGE }, 'write', { holder: 'ring' });
    const { view } = held;
    if (memory instanceof WorkerGuestMemory) memory.close();
    manager.close();
    t.is(view.length, 0);
    t.deepEqual(footprint().descriptors, before.descriptors);
  });
}

vmTest('a guest and a view see each other', {}, (t, manager, guest) => {
  using lease = manager.guestMemory.lock({ gpa: MIB, length: PAGE }, 'write', { holder: 'ring' });
  const words = new Uint32Array(lease.view.buffer);
  t.is(guest.write(MIB, 0xcafe), wrote(0xcafe));
  t.is(words[0], 0xcafe);
  words[1] = 0xf00d;
  t.is(guest.read(MIB + 4), got(0xf00d));
});
