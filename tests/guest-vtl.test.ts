// Trust levels: VTL2 sees VTL0's memory again at the alias map, and each may do with it what it is left.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { WorkerGuestMemory } from '../ts/access/worker-guest-memory.ts';
import type { RamBacking } from '../ts/guest/backing.ts';
import { PartitionAttachError } from '../ts/guest/errors.ts';
import type { GuestMemoryManager } from '../ts/guest/manager.ts';
import { RecordingPartition } from '../ts/guest/recording-partition.ts';
import type { Vtl } from '../ts/guest/vtl.ts';
import { Failing } from './support/failing.ts';
import { footprint } from './support/footprint.ts';
import { kvmTest } from './support/guest.ts';
import { joinedSlots } from './support/joined-slots.ts';
import { takenBack } from './support/taken-back.ts';
import { buildVm, GIB, Guest, got, MIB, vmTest, wrote } from './support/vm.ts';

const PAGE = 0x1000;
const ALIAS = 2 * GIB;
/** Within the test guest's reach of 4 GiB. */
const ALIASED = { maxAddress: GIB - 1, vtl0AliasMap: ALIAS };
const AT = 2 * MIB;
const range = { gpa: AT, length: PAGE };

/** Ranges that a recording partition shows: "0-1fffff rwx". */
function slots(partition: RecordingPartition): string[] {
  return joinedSlots(partition.slots.values()).map(
    ({ gpa, length, access }) => `${gpa.toString(16)}-${(gpa + length - 1).toString(16)} ${access}`,
  );
}

function attached(
  manager: GuestMemoryManager,
  vtl: Vtl,
  options: { canExecuteProtect?: boolean } = {},
): RecordingPartition {
  const partition = new RecordingPartition({ name: `vtl${vtl}`, ...options });
  manager.attachPartition(partition, { vtl });
  return partition;
}

vmTest('VTL2 sees all of VTL0 again at the alias map, and VTL0 does not', ALIASED, (t, manager, vtl0) => {
  const vtl2 = new Guest(manager, { vtl: 2 });
  t.is(vtl0.write(AT, 0x1234), wrote(0x1234));
  t.is(vtl2.read(AT), got(0x1234));
  t.is(vtl2.read(ALIAS + AT), got(0x1234));
  t.is(vtl2.write(ALIAS + AT, 0x99), wrote(0x99));
  t.is(vtl0.read(AT), got(0x99));
  t.is(vtl0.read(ALIAS + AT), 'mmio read 80200000');
  vtl2.close();
});

vmTest(
  'the alias map shows private RAM too',
  {
    ...ALIASED,
    ram: [{ ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind: 'private' } }],
  },
  (t, manager, vtl0) => {
    const vtl2 = new Guest(manager, { vtl: 2 });
    t.is(vtl2.write(ALIAS + AT, 7), wrote(7));
    t.is(vtl0.read(AT), got(7));
    vtl2.close();
  },
);

vmTest("one trust level's write exits while the other's lands", ALIASED, (t, manager, vtl0) => {
  const vtl2 = new Guest(manager, { vtl: 2 });
  manager.setVtlProtection(0, range, 'rx');
  t.is(vtl0.write(AT, 1), 'mmio write 200000 = 1');
  t.is(vtl0.read(AT), got(0));
  t.is(vtl2.write(AT, 2), wrote(2));
  t.is(vtl0.read(AT), got(2));
  t.is(vtl0.write(AT + PAGE, 3), wrote(3), 'the page behind is not concerned');

  manager.setVtlProtection(0, range, 'none');
  t.is(vtl0.read(AT), 'mmio read 200000');
  t.is(vtl2.read(ALIAS + AT), got(2));

  manager.setVtlProtection(0, range, 'rwx');
  t.is(vtl0.write(AT, 4), wrote(4));
  vtl2.close();
});

vmTest(
  'the monitor reads and writes as the trust level does, through the client it had before',
  ALIASED,
  (t, manager) => {
    const [vtl0, vtl2] = [manager.client(0).memory, manager.client(2).memory];
    vtl0.writeU32(AT, 1);
    t.is(vtl2.readU32(AT), 1);
    manager.setVtlProtection(0, range, 'rx');
    t.throws(() => vtl0.writeU32(AT, 2), { code: 'GUEST_ACCESS' });
    t.is(vtl0.readU32(AT), 1);
    vtl2.writeU32(AT, 3);
    t.is(vtl0.readU32(AT), 3);
    manager.setVtlProtection(2, { gpa: AT, length: 2 * PAGE }, 'none');
    t.throws(() => vtl2.readU32(AT), { code: 'GUEST_ACCESS' });
    t.is(vtl0.readU32(AT), 3);
    manager.setVtlProtection(2, { gpa: AT, length: 2 * PAGE }, 'rwx');
    manager.setVtlProtection(0, range, 'rwx');
    vtl0.writeU32(AT, 5);
    t.is(vtl2.readU32(AT), 5);
    t.is(manager.client(0).memory, vtl0);
    t.is(manager.guestMemory, vtl0);
  },
);

test('protections split and merge, and what is taken back leaves no trace in what the guest sees', (t) => {
  const manager = buildVm(ALIASED);
  const vtl0 = attached(manager, 0);
  const vtl2 = attached(manager, 2);
  const set = (page: number, pages: number, access: 'none' | 'r' | 'rx' | 'rw' | 'rwx') =>
    manager.setVtlProtection(0, { gpa: page * PAGE, length: pages * PAGE }, access);
  set(16, 16, 'r');
  t.deepEqual(slots(vtl0), ['0-ffff rwx', '10000-1ffff r', '20000-3fffff rwx']);
  set(24, 16, 'rx');
  t.deepEqual(slots(vtl0), ['0-ffff rwx', '10000-17fff r', '18000-27fff rx', '28000-3fffff rwx']);
  set(20, 2, 'none');
  t.deepEqual(slots(vtl0), ['0-ffff rwx', '10000-13fff r', '16000-17fff r', '18000-27fff rx', '28000-3fffff rwx']);
  t.deepEqual(
    manager.vtlProtections(0).map(({ gpa, length, access }) => `${gpa.toString(16)}+${length.toString(16)} ${access}`),
    ['10000+4000 r', '14000+2000 none', '16000+2000 r', '18000+10000 rx'],
  );
  set(20, 2, 'r');
  set(24, 16, 'r');
  t.deepEqual(slots(vtl0), ['0-ffff rwx', '10000-27fff r', '28000-3fffff rwx']);
  set(0, 64, 'rwx');
  t.deepEqual(slots(vtl0), ['0-3fffff rwx']);
  t.deepEqual(slots(vtl2), ['0-3fffff rwx', '80000000-803fffff rwx']);
  manager.close();
});

test('a partition that is attached later gets the protections of its trust level', (t) => {
  const manager = buildVm(ALIASED);
  manager.setVtlProtection(2, { gpa: MIB, length: MIB }, 'r');
  t.deepEqual(slots(attached(manager, 0)), ['0-3fffff rwx']);
  t.deepEqual(slots(attached(manager, 2)), [
    ...['0-fffff rwx', '100000-1fffff r', '200000-3fffff rwx'],
    ...['80000000-800fffff rwx', '80100000-801fffff r', '80200000-803fffff rwx'],
  ]);
  manager.close();
});

test('what a hypervisor cannot express is refused, unless the nearest will do', (t) => {
  const manager = buildVm(ALIASED);
  const able = attached(manager, 0);
  const unable = attached(manager, 0, { canExecuteProtect: false });
  for (const access of ['r', 'rw'] as const) {
    const error = t.throws(() => manager.setVtlProtection(0, range, access), { code: 'EXECUTE_CONTROL' });
    t.regex(error!.message, /nearest/);
  }
  t.deepEqual(slots(able), ['0-3fffff rwx'], 'nothing happened');
  manager.setVtlProtection(0, range, 'rw', { nearest: true });
  t.deepEqual(slots(able), ['0-1fffff rwx', '200000-200fff rw', '201000-3fffff rwx']);
  t.deepEqual(slots(unable), ['0-3fffff rwx']);
  t.notThrows(() => attached(manager, 0, { canExecuteProtect: false }), 'the nearest was accepted for late ones too');

  manager.setVtlProtection(2, range, 'r');
  const before = footprint();
  const error = t.throws(() => attached(manager, 2, { canExecuteProtect: false }), {
    instanceOf: PartitionAttachError,
  });
  t.like(error!.cause, { code: 'EXECUTE_CONTROL' });
  t.deepEqual(footprint(), before);
  manager.close();
});

test('the nearest is accepted for a protection, not for the trust level', (t) => {
  const manager = buildVm(ALIASED);
  const set = (page: number, pages: number, access: 'r' | 'rx' | 'rwx', nearest: boolean) =>
    manager.setVtlProtection(0, { gpa: page * PAGE, length: pages * PAGE }, access, { nearest });
  const isAttachable = () => {
    try {
      const partition = new RecordingPartition({ canExecuteProtect: false });
      manager.attachPartition(partition).close();
      return true;
    } catch (error) {
      t.like(error, { code: 'ATTACH_FAILED', cause: { code: 'EXECUTE_CONTROL' } });
      return false;
    }
  };
  set(16, 4, 'r', true);
  t.true(isAttachable());
  set(32, 1, 'r', false);
  t.false(isAttachable(), 'one of them was not accepted');
  set(32, 1, 'rx', false);
  t.true(isAttachable());
  set(17, 1, 'rx', true);
  t.true(isAttachable(), 'what is left of an accepted one on either side is');
  set(18, 1, 'r', false);
  t.false(isAttachable());
  set(18, 1, 'rwx', false);
  attached(manager, 0, { canExecuteProtect: false });
  t.throws(() => set(48, 1, 'r', false), { code: 'EXECUTE_CONTROL' });
  manager.close();
});

test('a trust level has a view from its first protection on, for which nothing is mapped', (t) => {
  const manager = buildVm(ALIASED);
  const { memory } = manager.client(0);
  const sinks = () => manager.map.context.sinks.size;
  const set = (access: 'rx' | 'rwx') => manager.setVtlProtection(0, range, access);
  set('rwx');
  t.is(sinks(), 1, 'nothing is protected yet');
  const before = footprint();
  takenBack(t, manager.map, () => set('rx'));
  t.is(sinks(), 1);
  for (let i = 0; i < 3; i++) {
    set('rx');
    t.is(sinks(), 2);
    takenBack(t, manager.map, () => set('rwx'));
    t.throws(() => memory.writeU8(AT, 1), { code: 'GUEST_ACCESS' });
    const lease = memory.lock({ gpa: AT + PAGE, length: 8 }, 'write', { holder: 'disk' });
    set('rwx');
    memory.writeU8(AT + PAGE, i);
    lease.release();
    t.deepEqual(footprint(), before);
    t.is(memory.readU8(AT + PAGE), i);
  }
  manager.close();
});

/** RAM of every backing that exists only as its mapping. */
const PRIVATE = [
  { kind: 'private' },
  { kind: 'file', path: '/proc/self/exe', copyOnWrite: true },
] as const satisfies readonly RamBacking[];

for (const backing of PRIVATE) {
  test(`trust levels are protected from private RAM as from any other (${backing.kind})`, (t) => {
    const before = footprint();
    const manager = buildVm({ ...ALIASED, ram: [{ ranges: [{ gpa: 0, length: 4 * MIB }], backing }] });
    const [vtl0, vtl2] = [manager.client(0), manager.client(2)];
    const worker = WorkerGuestMemory.fromToken(vtl0.token);
    const partition = attached(manager, 0);
    const refused = { code: 'GUEST_ACCESS' } as const;
    vtl0.memory.writeU32(AT, 1);
    manager.setVtlProtection(0, range, 'rx');
    for (const memory of [vtl0.memory, worker]) {
      t.throws(() => memory.writeU32(AT, 2), refused);
      t.throws(() => memory.write(AT - 8, new Uint8Array(16)), { ...refused, message: /0x200000/ });
      t.is(memory.readU32(AT), 1);
    }
    vtl2.memory.writeU32(AT, 3);
    t.is(worker.readU32(AT), 3);
    t.deepEqual(slots(partition), ['0-1fffff rwx', '200000-200fff rx', '201000-3fffff rwx']);
    const own = manager.addRam({ name: 'own', ranges: [{ gpa: GIB / 2, length: MIB }], backing: { kind: 'private' } });
    worker.writeU32(GIB / 2, 5);
    own.remove();
    t.throws(() => worker.readU32(GIB / 2), refused);
    manager.setVtlProtection(0, range, 'none');
    t.throws(() => vtl0.memory.lock(range, 'read', { holder: 'disk' }), refused);
    const lease = vtl2.memory.lock(range, 'write', { holder: 'watch' });
    t.throws(() => manager.setVtlProtection(2, range, 'rx'), { code: 'LEASED' });
    lease.release();
    t.is(vtl2.memory.readU32(AT), 3);
    manager.close();
    t.throws(() => worker.readU32(0), refused);
    worker.close();
    t.deepEqual(footprint(), before);
  });
}

test("who has a trust level's token sees what the level sees, before and after protections", (t) => {
  const before = footprint();
  const manager = buildVm(ALIASED);
  const [vtl0, vtl2] = [manager.client(0), manager.client(2)];
  const workers = [vtl0, vtl2].map(({ token }) => WorkerGuestMemory.fromToken(token));
  const of = (index: number) => workers[index]!;
  t.is(manager.client(0).token, vtl0.token);
  t.is(new Set([vtl0.token, vtl2.token, manager.va.token]).size, 3);
  const refused = { code: 'GUEST_ACCESS' } as const;
  of(0).writeU32(AT, 1);
  t.is(of(1).readU32(AT), 1);
  for (let round = 0; round < 2; round++) {
    manager.setVtlProtection(0, range, 'rx');
    t.throws(() => of(0).writeU32(AT, 2), refused);
    t.is(of(0).readU32(AT), 1);
    manager.setVtlProtection(0, range, 'none');
    t.throws(() => of(0).readU32(AT), refused);
    t.throws(() => of(0).compareExchange(AT, 4, 1, 2), refused);
    t.throws(() => vtl0.memory.readU32(AT), refused);
    of(1).writeU32(AT, 1);
    manager.setVtlProtection(0, range, 'rwx');
    of(0).writeU32(AT, 1);
  }
  t.is(manager.client(0).token, vtl0.token, 'it is good for ever');
  manager.close();
  t.throws(() => of(0).readU32(AT), refused);
  t.throws(() => vtl0.token, { code: 'CLOSED' });
  for (const worker of workers) worker.close();
  t.deepEqual(footprint(), before);
});

test('a token that is asked for in a transaction that comes to nothing is none', (t) => {
  const manager = buildVm(ALIASED);
  takenBack(t, manager.map, () => void manager.client(2).token);
  t.is(manager.map.context.sinks.size, 1);
  t.is(typeof manager.client(2).token, 'bigint');
  manager.close();
});

test('an access that is under way has ended when the memory is protected from it', async (t) => {
  const manager = buildVm({ ...ALIASED, ram: [{ ranges: [{ gpa: 0, length: 64 * MIB }] }] });
  const { memory, token } = manager.client(0);
  const whole = { gpa: 0, length: 64 * MIB };
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     import(workerData.index).then(({ WorkerGuestMemory }) => {
       const memory = WorkerGuestMemory.fromToken(workerData.token);
       const bytes = new Uint8Array(64 * 2 ** 20);
       for (let round = 1; ; round++) {
         bytes.fill(round);
         try {
           memory.write(0, bytes);
         } catch (error) {
           parentPort.postMessage(error.code);
           return;
         }
         if (round === 2) parentPort.postMessage('writes');
       }
     });`,
    { eval: true, workerData: { index: new URL('../index.js', import.meta.url).href, token } },
  );
  t.deepEqual(await once(worker, 'message'), ['writes']);
  const ended = once(worker, 'message');
  manager.setVtlProtection(0, whole, 'rx');
  const seen = new Uint8Array(64 * MIB);
  memory.read(0, seen);
  t.deepEqual(await ended, ['GUEST_ACCESS']);
  const after = new Uint8Array(64 * MIB);
  memory.read(0, after);
  t.is(Buffer.compare(seen, after), 0, 'nothing was written after the protection');
  await once(worker, 'exit');
  manager.close();
});

test('ten thousand protections cost what one does, and are one when they meet', (t) => {
  const manager = buildVm({ ...ALIASED, debug: false, ram: [{ ranges: [{ gpa: 0, length: 128 * MIB }] }] });
  const set = (page: number, access: 'rx' | 'rwx') =>
    manager.setVtlProtection(0, { gpa: page * PAGE, length: PAGE }, access);
  const began = performance.now();
  for (let page = 1; page < 20_000; page += 2) set(page, 'rx');
  t.log(`${((performance.now() - began) / 10).toFixed(0)} us a protection`);
  t.is(manager.vtlProtections(0).length, 10_000);
  for (let page = 2; page < 20_000; page += 2) set(page, 'rx');
  t.deepEqual(manager.vtlProtections(0), [{ gpa: PAGE, length: 19_999 * PAGE, access: 'rx' }]);
  manager.close();
});

test('RAM that goes takes its protections along: what comes there has none', (t) => {
  const manager = buildVm(ALIASED);
  const partition = attached(manager, 0);
  const dimm = { name: 'dimm', ranges: [{ gpa: GIB / 2, length: MIB }] };
  const added = manager.addRam(dimm);
  const before = slots(partition);
  manager.setVtlProtection(0, range, 'rx');
  manager.setVtlProtection(0, { gpa: GIB / 2 - PAGE, length: 2 * PAGE }, 'none');
  manager.setVtlProtection(2, { gpa: GIB / 2 + PAGE, length: PAGE }, 'rx');
  const wholeState = () => [slots(partition), manager.vtlProtections(0), manager.vtlProtections(2), added.closed];
  const protectedState = wholeState();
  takenBack(t, manager.map, () => added.remove());
  t.deepEqual(wholeState(), protectedState);
  added.remove();
  t.deepEqual(manager.vtlProtections(0), [
    { ...range, access: 'rx' },
    { gpa: GIB / 2 - PAGE, length: PAGE, access: 'none' },
  ]);
  t.deepEqual(manager.vtlProtections(2), []);
  manager.addRam(dimm);
  manager.setVtlProtection(0, { gpa: 0, length: 4 * MIB }, 'rwx');
  t.deepEqual(slots(partition), before);
  manager.close();
});

kvmTest('KVM has no execute control, and says so', (t) => {
  const manager = buildVm();
  const guest = new Guest(manager);
  t.throws(() => manager.setVtlProtection(0, range, 'r'), { code: 'EXECUTE_CONTROL' });
  manager.setVtlProtection(0, range, 'r', { nearest: true });
  t.is(guest.write(AT, 1), 'mmio write 200000 = 1');
  manager.close();
  guest.close();
});

test('a protection that fails anywhere leaves the state before', (t) => {
  const manager = buildVm(ALIASED);
  const [first, second] = [attached(manager, 0), attached(manager, 0)];
  const memory = manager.client(0).memory;
  const wholeState = () => ({
    slots: [slots(first), slots(second)],
    protections: manager.vtlProtections(0),
    footprint: footprint(),
  });
  for (const setUp of [false, true]) {
    if (setUp) manager.setVtlProtection(0, { gpa: 0x10000, length: PAGE }, 'rx');
    for (const partition of [first, second]) {
      const before = wholeState();
      for (let steps = 0; ; steps++) {
        partition.failAfter = steps;
        try {
          manager.setVtlProtection(0, { gpa: 0x8000, length: 0x10000 }, 'none');
          partition.failAfter = Number.POSITIVE_INFINITY;
          t.true(steps >= 1);
          manager.setVtlProtection(0, { gpa: 0x8000, length: 0x10000 }, 'rwx');
          if (setUp) manager.setVtlProtection(0, { gpa: 0x10000, length: PAGE }, 'rx');
          break;
        } catch (error) {
          t.is((error as { code: string }).code, 'PLAN_FAILED');
          t.deepEqual(wholeState(), before);
          memory.writeU8(0x9000, steps);
        }
      }
    }
  }
  manager.close();
});

test('limits that cannot be set are as they were; those that cannot be put back close the memory until a repair', (t) => {
  const manager = buildVm(ALIASED);
  const { memory } = manager.client(0);
  const other = { gpa: MIB, length: PAGE };
  manager.setVtlProtection(0, range, 'rx');
  const failing = new Failing(manager.map.context);
  const swap = () =>
    manager.map.transaction(() => {
      manager.setVtlProtection(0, other, 'none');
      manager.setVtlProtection(0, range, 'rwx');
    });
  const before = [manager.vtlProtections(0), footprint()];
  for (failing.after = 0; failing.after < 2; failing.after++) {
    const { after } = failing;
    t.throws(swap, { code: 'PLAN_FAILED' });
    failing.after = after;
    t.deepEqual([manager.vtlProtections(0), footprint()], before);
    memory.writeU8(MIB, 1);
    t.throws(() => memory.writeU8(AT, 1), { code: 'GUEST_ACCESS' });
  }
  [failing.after, failing.unwindAfter] = [1, 0];
  t.throws(swap, { code: 'RANGE_LOST', message: /0x100000/ });
  [failing.after, failing.unwindAfter] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  t.throws(() => memory.readU8(MIB), { code: 'GUEST_ACCESS' });
  t.is(manager.client(2).memory.readU8(MIB), 1, 'another level goes on');
  t.deepEqual(manager.repair(), []);
  t.is(memory.readU8(MIB), 1);
  swap();
  t.throws(() => memory.readU8(MIB), { code: 'GUEST_ACCESS' });
  memory.writeU8(AT, 1);
  manager.close();
});

test('attaching VTL2 fails wholly or not at all, at every step', (t) => {
  const manager = buildVm({ ...ALIASED, x86LegacySupport: true });
  manager.setVtlProtection(2, { gpa: 0xc8000, length: 0x2000 }, 'rx');
  const before = footprint();
  for (let steps = 0; ; steps++) {
    const partition = new RecordingPartition();
    partition.failAfter = steps;
    try {
      manager.attachPartition(partition, { vtl: 2 });
      partition.failAfter = Number.POSITIVE_INFINITY;
      t.true(steps > 30);
      break;
    } catch (error) {
      t.true(error instanceof PartitionAttachError);
      t.is(partition.slots.size, 0);
      t.deepEqual(footprint(), before);
    }
  }
  manager.close();
});

test('the slot budget holds for all that a partition is given', (t) => {
  const manager = buildVm({ ...ALIASED, slotBudget: 3 });
  const partition = attached(manager, 2);
  t.throws(() => manager.setVtlProtection(2, { gpa: 0, length: PAGE }, 'rx'), { code: 'NO_SLOTS' });
  t.deepEqual(slots(partition), ['0-3fffff rwx', '80000000-803fffff rwx']);
  manager.close();
});

test('a level, range or access that does not exist is refused', (t) => {
  const manager = buildVm(ALIASED);
  const refused = (body: () => void) => t.throws(body, { code: 'INVALID_ARGUMENT' });
  refused(() => manager.client(1 as Vtl));
  refused(() => manager.attachPartition(new RecordingPartition(), { vtl: 3 as Vtl }));
  refused(() => manager.setVtlProtection(0, { gpa: 1, length: PAGE }, 'none'));
  refused(() => manager.setVtlProtection(0, { gpa: 0, length: 2 * GIB }, 'none'));
  refused(() => manager.setVtlProtection(0, range, 'w' as never));
  refused(() => manager.setVtlProtection(0, range, 'rx', { nearby: true } as never));
  manager.close();
  t.throws(() => manager.setVtlProtection(0, range, 'rx'), { code: 'CLOSED' });
});

test('a protection of a hole is not one of the RAM that is added there later', (t) => {
  const manager = buildVm();
  t.teardown(() => manager.close());
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  manager.setVtlProtection(0, { gpa: 2 * MIB, length: 8 * MIB }, 'none');
  manager.addRam({ ranges: [{ gpa: 6 * MIB, length: MIB }] });
  t.deepEqual(manager.vtlProtections(0), [
    { gpa: 2 * MIB, length: 4 * MIB, access: 'none' },
    { gpa: 7 * MIB, length: 3 * MIB, access: 'none' },
  ]);
  manager.client(0).memory.writeU8(6 * MIB, 1);
  t.deepEqual([...partition.slots.values()].map(({ gpa }) => gpa).sort(), [0, 6 * MIB].sort());
});
