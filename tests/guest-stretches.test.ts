// Device regions where today's firmware puts them: at the top of the guest's addresses, far behind its RAM.

import { readFileSync } from 'node:fs';
import test from 'ava';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import { GuestMemoryBuilder, PrivateMemory, RecordingPartition, SharedMemory, WorkerGuestMemory } from '../ts/index.ts';
import { Failing } from './support/failing.ts';
import { aim, FAR_WINDOW } from './support/guest.ts';
import { footprint } from './support/shim-plan.ts';
import { addressWidth, got, MIB, vmTest, wrote } from './support/vm.ts';

const PAGE = 4096;
const TOP = 2 ** 51;
const LOW = 0x8000_0000;
const NO_LIMIT = { maxAddress: 2 ** 52 - 1 };
const RAM = { ranges: [{ gpa: 0, length: 64 * MIB }] };

/** A BAR of a MiB, of which a file shows all. */
function barOf(manager: GuestMemoryManager, length = MIB, name = 'bar') {
  const file = SharedMemory.create(length);
  const { region, control } = manager.deviceMapper.newRegion(length, name);
  region.map(0, file.fd, 0, length, true);
  file.close();
  return { region, control };
}

/** Lines of this process's mappings that VA spaces have. */
function reservations(): number {
  return readFileSync('/proc/self/maps', 'utf8').match(/membacking:va/g)?.length ?? 0;
}

test('a BAR at 2^51 is read and written by the monitor, its workers and its partitions', (t) => {
  const manager = new GuestMemoryBuilder().addRam(RAM).build();
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const { control } = barOf(manager);
  control.mapToGuest(TOP);
  const { guestMemory, va } = manager;
  const [, stretch] = va.stretches();
  t.like(stretch, { gpa: TOP, length: 2 * MIB });
  t.deepEqual(
    [...partition.slots.values()].map(({ gpa, hva }) => [gpa, hva]),
    [
      [0, va.base],
      [TOP, stretch!.hva],
    ],
  );
  t.is(va.hvaOf(TOP + 5), stretch!.hva + 5n);
  t.is(va.hvaOf(TOP + 2 * MIB), undefined);
  guestMemory.writeU64(TOP + MIB - 8, 0x1234_5678_9abc_def0n);
  t.is(guestMemory.readU64(TOP + MIB - 8), 0x1234_5678_9abc_def0n);
  t.throws(() => guestMemory.readU32(TOP + MIB - 2), { code: 'GUEST_ACCESS' });
  const worker = WorkerGuestMemory.fromToken(va.token);
  t.is(worker.readU32(TOP + MIB - 4), 0x1234_5678);
  t.is(worker.compareExchange(TOP, 4, 0, 7), 0n);
  // Often enough for a window, which goes with the BAR.
  for (let i = 0; i < 3000; i++) guestMemory.writeU32(TOP + 4, i);
  t.is(guestMemory.readU32(TOP + 4), 2999);
  control.mapToGuest(2 ** 50);
  t.is(guestMemory.readU32(2 ** 50 + 4), 2999);
  t.throws(() => guestMemory.readU32(TOP + 4), { code: 'GUEST_ACCESS', message: /has no memory/ });
  t.throws(() => worker.readU32(TOP), { code: 'GUEST_ACCESS' });
  control.mapToGuest(TOP);
  t.is(guestMemory.readU32(TOP + 4), 2999);
  control.unmapFromGuest();
  t.is(va.stretches().length, 1);
  worker.close();
  manager.close();
});

test('leases are in one stretch, and keep it', (t) => {
  const manager = new GuestMemoryBuilder().addRam(RAM).build();
  const { control, region } = barOf(manager, 2 * MIB);
  control.mapToGuest(TOP);
  const { guestMemory } = manager;
  const lease = guestMemory.lock({ gpa: TOP + PAGE, length: PAGE }, 'write', { holder: 'disk' });
  lease.view[0] = 99;
  t.is(guestMemory.readU8(TOP + PAGE), 99);
  t.throws(() => control.mapToGuest(2 ** 50), { code: 'LEASED', message: /disk/ });
  lease.release();
  // A BAR that grows beside its stretch has two.
  region.resize(4 * MIB);
  const file = SharedMemory.create(2 * MIB);
  region.map(2 * MIB, file.fd, 0, 2 * MIB, true);
  file.close();
  const across = { gpa: TOP + 2 * MIB - PAGE, length: 2 * PAGE };
  t.throws(() => guestMemory.lock(across, 'read', { holder: 'disk' }), {
    code: 'GUEST_ACCESS',
    message: /one stretch of the VA space/,
  });
  guestMemory.write(across.gpa, new Uint8Array(2 * PAGE).fill(5));
  const bytes = new Uint8Array(2 * PAGE);
  guestMemory.read(across.gpa, bytes);
  t.true(bytes.every((byte) => byte === 5));
  guestMemory.writeU32(TOP + 2 * MIB - 2, 0x04030201);
  t.is(guestMemory.readU32(TOP + 2 * MIB - 2), 0x04030201);
  t.throws(() => guestMemory.compareExchange(TOP + 2 * MIB - 2, 4, 0, 1), { message: /not a multiple of its width/ });
  manager.close();
});

test('registers need no addresses of the monitor, wherever they are', (t) => {
  const manager = new GuestMemoryBuilder().addRam(RAM).build();
  const { map, root, space, va } = manager;
  const registers = map.createRegion({ name: 'registers', kind: 'mmio', size: 0x4000 });
  for (const offset of [0x3800_0000_0000, 2 ** 52, 2n ** 64n - 0x4000n]) {
    registers.place(root, { offset });
    t.is(space.find(offset)?.name, 'registers');
    registers.remove();
  }
  t.is(va.stretches().length, 1);
  manager.close();
});

test('protections of a trust level, dirty pages and private memory at the top', (t) => {
  const manager = new GuestMemoryBuilder().addRam(RAM).build();
  const { control } = barOf(manager);
  control.mapToGuest(TOP);
  manager.setVtlProtection(0, { gpa: TOP, length: PAGE }, 'r');
  const { memory } = manager.client(0);
  t.throws(() => memory.writeU32(TOP, 1), { code: 'GUEST_ACCESS', message: /read-only/ });
  memory.writeU32(TOP + PAGE, 1);
  manager.setVtlProtection(0, { gpa: TOP, length: PAGE }, 'rwx');
  memory.writeU32(TOP, 1);

  const own = PrivateMemory.create(4 * PAGE, { name: 'own' });
  const scratch = manager.map.createRegion({ name: 'scratch', kind: 'device', size: 4 * PAGE });
  scratch.map({ object: own });
  scratch.place(manager.root, { offset: 2 ** 46 });
  memory.writeU32(2 ** 46, 77);
  scratch.move(2 ** 45);
  t.is(memory.readU32(2 ** 45), 77);
  manager.close();
  own.close();
});

test('the number and the bytes of stretches are bounded, and a BAR that would need more stays where it was', (t) => {
  const manager = new GuestMemoryBuilder({ maxStretches: 2, maxStretchBytes: 8 * MIB }).addRam(RAM).build();
  const bars = [1, 2, 3].map((i) => barOf(manager, MIB, `bar ${i}`));
  bars[0]!.control.mapToGuest(TOP);
  bars[1]!.control.mapToGuest(TOP + 2 ** 40);
  t.throws(() => bars[2]!.control.mapToGuest(TOP + 2 ** 41), { code: 'NO_STRETCHES', message: /maxStretches/ });
  t.is(bars[2]!.control.gpa, undefined);
  bars[2]!.control.mapToGuest(TOP + MIB);
  const facts = manager.inspect();
  t.deepEqual(
    [facts.maxStretches, facts.maxStretchBytes, facts.stretches.map(({ gpa }) => gpa)],
    [2, 8 * MIB, [0, TOP, TOP + 2 ** 40]],
  );
  for (let i = 0; i < 100; i++) bars[1]!.control.mapToGuest(2 ** 45 + i * 2 ** 36);
  t.is(manager.va.stretches().length, 3);
  manager.close();
});

test('a thousand guests of 64 MiB, each with a BAR at 2^51, are in one process', (t) => {
  const builder = new GuestMemoryBuilder().addRam(RAM);
  const guests: GuestMemoryManager[] = [];
  try {
    for (let i = 0; i < 1000; i++) {
      const manager = builder.build();
      guests.push(manager);
      barOf(manager).control.mapToGuest(TOP);
      manager.guestMemory.writeU32(TOP, i);
      manager.guestMemory.writeU32(64 * MIB - 4, i);
    }
    for (const [i, { guestMemory }] of guests.entries()) {
      t.is(guestMemory.readU32(TOP), i);
      t.is(guestMemory.readU32(64 * MIB - 4), i);
    }
  } finally {
    for (const guest of guests) guest.close();
  }
});

test('addresses that the process has not: the BAR is where it was', (t) => {
  const manager = new GuestMemoryBuilder({ maxStretchBytes: 2 ** 52 }).addRam(RAM).build();
  const { control } = manager.deviceMapper.newRegion(2 ** 47, 'vast');
  const error = t.throws(() => control.mapToGuest(2 ** 50), { code: 'PLAN_FAILED', message: /va-reserve.*ENOMEM/ });
  t.regex(error!.message, /nothing was changed/);
  t.is(control.gpa, undefined);
  t.is(manager.va.stretches().length, 1);
  manager.close();
});

test('whichever command fails of a BAR that moves, nothing has happened, and nothing is left', (t) => {
  const before = [footprint(), reservations()];
  const manager = new GuestMemoryBuilder().addRam(RAM).build();
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const { control } = barOf(manager);
  control.mapToGuest(TOP);
  manager.guestMemory.writeU32(TOP, 0x55);
  const failing = new Failing(manager.map.context);
  const slots = [...partition.slots.values()];
  // Its slot and its memory go, the new stretch, its memory and its slot come.
  for (let command = 0; command < 5; command++) {
    failing.after = command;
    t.throws(() => control.mapToGuest(2 ** 50), { code: 'PLAN_FAILED' });
    failing.after = Number.POSITIVE_INFINITY;
    t.is(manager.guestMemory.readU32(TOP), 0x55);
    t.deepEqual([...partition.slots.values()], slots);
    t.is(manager.va.stretches().length, 2);
  }
  control.mapToGuest(2 ** 50);
  t.is(manager.guestMemory.readU32(2 ** 50), 0x55);
  manager.close();
  t.deepEqual([footprint(), reservations()], before);
});

test('pages that are written at the top are dirty ones', (t) => {
  const manager = new GuestMemoryBuilder().addRam(RAM).build();
  const { control } = barOf(manager);
  control.mapToGuest(TOP);
  let tracker: ReturnType<GuestMemoryManager['trackDirty']>;
  try {
    tracker = manager.trackDirty();
  } catch (error) {
    t.is((error as { code: string }).code, 'NO_DIRTY_TRACKING');
    manager.close();
    return;
  }
  manager.guestMemory.writeU32(TOP + 3 * PAGE, 1);
  t.deepEqual([...tracker.collect()], [{ gpa: TOP + 3 * PAGE, length: PAGE }]);
  control.mapToGuest(2 ** 50);
  manager.guestMemory.writeU32(2 ** 50 + 5 * PAGE, 1);
  t.deepEqual([...tracker.collect()], [{ gpa: 2 ** 50 + 5 * PAGE, length: PAGE }]);
  manager.close();
});

vmTest("a guest's BAR goes to the top of its physical addresses, and back", NO_LIMIT, (t, manager, guest) => {
  const { guestMemory } = manager;
  const { control } = barOf(manager);
  // What a guest without nested paging has slots for, too.
  const top = 2 ** Math.min(addressWidth(), 52) - 2 * MIB;
  for (const { gpa, bytes } of aim(BigInt(top))) guestMemory.write(gpa, bytes);
  control.mapToGuest(LOW);
  t.is(guest.write(LOW, 0x55), wrote(0x55));
  for (const value of [0x66, 0x77]) {
    control.mapToGuest(top);
    t.is(guest.write(FAR_WINDOW, value), wrote(value));
    t.is(guestMemory.readU32(top), value);
    control.mapToGuest(LOW);
    t.is(guest.read(LOW), got(value));
    t.is(guestMemory.readU32(LOW), value);
    t.is(guest.read(FAR_WINDOW), `mmio read ${top.toString(16)}`);
    t.is(manager.va.stretches().length, 1);
  }
});
