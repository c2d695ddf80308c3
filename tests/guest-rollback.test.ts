// Every command of every plan of the manager's operations fails in turn, on real memory and with a real guest where
// there is KVM: afterwards nothing has happened, descriptors and mappings of the process included.

import { closeSync } from 'node:fs';
import test from 'ava';
import { addonObjectOf } from '../ts/asked/object.ts';
import type { MembackingError } from '../ts/core/errors.ts';
import type { DeviceRegionControl, MappedRegion } from '../ts/guest/device.ts';
import type { AddedRam, GuestMemoryManager } from '../ts/guest/manager.ts';
import { RecordingPartition } from '../ts/guest/recording-partition.ts';
import { KvmPartition } from '../ts/sinks/kvm.ts';
import { Failing } from './support/failing.ts';
import { footprint } from './support/footprint.ts';
import { kvmMissing } from './support/guest.ts';
import { joinedSlots } from './support/joined-slots.ts';
import { namelessFile } from './support/nameless-file.ts';
import { alignRows } from './support/table.ts';
import { buildVm, GIB, MIB } from './support/vm.ts';

const PAGE = 0x1000;
const BAR = 0x8000_0000;
const PAM = { gpa: 0xc8000, length: 0x4000 };
const WINDOW = { gpa: 0xc9000, length: 3 * PAGE };

/** RAM that PAM switches, a DIMM with a protection, a BAR that shows two pages of a file, both trust levels. */
class World {
  /** Worlds of a test that has not ended well. */
  static readonly open = new Set<World>();
  readonly manager: GuestMemoryManager;
  readonly dimm: AddedRam;
  readonly control: DeviceRegionControl;
  readonly region: MappedRegion;
  readonly file = namelessFile(8 * PAGE);
  readonly other = namelessFile(8 * PAGE);
  readonly partitions = kvmMissing
    ? [new RecordingPartition(), new RecordingPartition()]
    : [KvmPartition.open(), KvmPartition.open()];
  readonly failing: Failing;

  constructor() {
    this.manager = buildVm({ x86LegacySupport: true, vtl0AliasMap: 2 ** 36 });
    this.dimm = this.manager.addRam({ name: 'dimm', ranges: [{ gpa: GIB, length: MIB }] });
    const { control, region } = this.manager.deviceMapper.newRegion(8 * PAGE, 'bar');
    [this.control, this.region] = [control, region];
    region.map(0, this.file, 0, 2 * PAGE, true);
    control.mapToGuest(BAR);
    this.manager.setVtlProtection(2, { gpa: GIB, length: PAGE }, 'rx');
    this.failing = new Failing(this.manager.map.context);
    this.manager.attachPartition(this.partitions[0]!);
    World.open.add(this);
  }

  /** State that is seen: memory that was kept from the guest comes back in parts. */
  state() {
    const { plans, partitions, ...facts } = this.manager.inspect();
    const fewest = partitions.map(({ slots, slotSplits, ...rest }) => ({ slots: slots - slotSplits, ...rest }));
    return { facts, fewest, footprint: footprint(), pieces: this.manager.va.pieces().length };
  }

  close(): void {
    World.open.delete(this);
    this.failing.after = Number.POSITIVE_INFINITY;
    this.manager.close();
    for (const partition of this.partitions) if (partition instanceof KvmPartition) partition.close();
    for (const fd of [this.file, this.other]) closeSync(fd);
  }
}

test.afterEach.always(() => {
  for (const world of World.open) world.close();
});

const OPERATIONS: Readonly<Record<string, (world: World) => unknown>> = {
  'a piece of RAM is hidden': ({ manager }) => manager.ramVisibility.set(PAM, 'unmapped'),
  'two pieces are switched': ({ manager }) =>
    manager.ramVisibility.setAll([
      { ...PAM, visibility: 'unmapped' },
      { gpa: 0xcc000, length: 0x4000, visibility: 'read-only' },
    ]),
  'a piece is write-protected but for a window': ({ manager }) =>
    manager.map.transaction(() => {
      manager.ramVisibility.keepWritable(WINDOW);
      manager.ramVisibility.set(PAM, 'read-only');
    }),
  'RAM is added': ({ manager }) => manager.addRam({ ranges: [{ gpa: 2 * GIB - MIB, length: MIB }] }),
  'RAM with a range on either side is added': ({ manager }) => {
    const ranges = [
      { gpa: GIB - MIB, length: MIB },
      { gpa: GIB + MIB, length: MIB },
    ];
    return manager.addRam({ ranges });
  },
  'RAM is removed': ({ dimm }) => dimm.remove(),
  'a file is mapped over another': ({ region, other }) => region.map(PAGE, other, 0, 4 * PAGE),
  'a part is unmapped': ({ region }) => region.unmap(0, PAGE),
  'a BAR is moved': ({ control }) => control.mapToGuest(BAR + PAGE),
  'a BAR is hidden': ({ control }) => control.unmapFromGuest(),
  'a BAR of zeroes is placed': ({ manager }) =>
    manager.map.transaction(() =>
      manager.deviceMapper.newRegion(5 * MIB, 'zeroes', { holes: 'zero' }).control.mapToGuest(3 * GIB),
    ),
  'a trust level gets its own view': ({ manager }) => manager.setVtlProtection(0, { gpa: 0, length: 2 * MIB }, 'rx'),
  'a protection goes': ({ manager }) => manager.setVtlProtection(2, { gpa: GIB, length: PAGE }, 'rwx'),
  'VTL2 is attached': ({ manager, partitions }) => manager.attachPartition(partitions[1]!, { vtl: 2 }),
};

test.serial('wherever an operation fails, nothing has happened', (t) => {
  const rows: string[][] = [];
  for (const [title, operate] of Object.entries(OPERATIONS)) {
    const world = new World();
    const before = world.state();
    let after = 0;
    for (; ; after++) {
      world.failing.after = after;
      try {
        operate(world);
        break;
      } catch (error) {
        const { code, cause } = error as { code: string; cause?: { code?: string } };
        t.true([code, cause?.code].includes('PLAN_FAILED') || code === 'ALLOCATION_FAILED', `${title}: ${error}`);
        t.deepEqual(world.state(), before, `${title}, after ${after} commands`);
      }
    }
    world.failing.after = Number.POSITIVE_INFINITY;
    t.true(after > 0, title);
    t.notDeepEqual(world.state(), before, title);
    rows.push([title, `${after} commands`]);
    world.close();
  }
  for (const row of alignRows(rows)) t.log(row);
});

test.serial('where taking it back fails too, something is lost, and a repair brings all of it back', (t) => {
  const lost = new Set<string>();
  for (const [title, operate] of Object.entries(OPERATIONS)) {
    for (const [after, unwindAfter] of [1, 2, 4].flatMap((done) => [0, 1].map((back) => [done, back] as const))) {
      const world = new World();
      const { manager, failing } = world;
      const before = world.state();
      Object.assign(failing, { after, unwindAfter });
      const codes = codesOf(() => operate(world));
      Object.assign(failing, { after: Number.POSITIVE_INFINITY, unwindAfter: Number.POSITIVE_INFINITY });
      const where = `${title}, after ${after} and ${unwindAfter} commands`;
      if (codes.length > 0) {
        t.true(
          codes.some((code) => ['PLAN_FAILED', 'ALLOCATION_FAILED', 'RANGE_LOST'].includes(code)),
          `${where}: ${codes}`,
        );
        t.is(codes.includes('RANGE_LOST'), manager.map.lost().length > 0, where);
        if (codes.includes('RANGE_LOST')) lost.add(title);
        manager.ramVisibility.set({ gpa: 0xdc000, length: 0x4000 }, 'read-only');
        manager.ramVisibility.set({ gpa: 0xdc000, length: 0x4000 }, 'read-write');
        t.deepEqual(manager.repair(), [], where);
        t.deepEqual(world.state(), before, where);
      }
      world.close();
    }
  }
  t.log([...lost]);
  t.true(lost.size > 5);
});

/** Codes of an error and of what it was caused by; none where nothing is thrown. */
function codesOf(body: () => unknown): string[] {
  const codes: string[] = [];
  try {
    body();
  } catch (error) {
    for (let each = error as MembackingError | undefined; each?.code; each = each.cause as MembackingError) {
      codes.push(each.code);
    }
  }
  return codes;
}

/** Moments at which a plan of a wait fails, and with what the wait then ends. */
const WAITS = {
  'the guest is kept away': { code: 'PLAN_FAILED' },
  'the guest gets its memory back': { code: 'LEASED', cause: { code: 'PLAN_FAILED' } },
  'the change is made': { code: 'PLAN_FAILED', cause: { code: 'PLAN_FAILED' } },
} as const;

test.serial(
  'wherever a wait fails, nothing has happened, and with the next change the guest has all its memory',
  async (t) => {
    const rows: string[][] = [];
    for (const [title, expected] of Object.entries(WAITS)) {
      const world = new World();
      const { manager, failing } = world;
      const before = world.state();
      const isFirst = title === 'the guest is kept away';
      const options = title === 'the change is made' ? {} : { deadline: 1 };
      let after = 0;
      for (; ; after++) {
        const lease = manager.guestMemory.lock({ gpa: 0xc9000, length: 8 }, 'write', { holder: 'disk' });
        if (isFirst) failing.after = after;
        const waiting = manager.whenFree(() => manager.ramVisibility.set(PAM, 'unmapped'), options);
        failing.after = isFirst ? Number.POSITIVE_INFINITY : after;
        if (title === 'the change is made') lease.release();
        const error = await waiting.then(
          () => undefined,
          (reason: MembackingError) => reason,
        );
        failing.after = Number.POSITIVE_INFINITY;
        lease.release();
        if (error === undefined || (error.code === 'LEASED' && error.cause === undefined)) break;
        t.like(error, expected, `${title}, after ${after} commands`);
        manager.map.transaction(() => {});
        t.deepEqual(world.state(), before, `${title}, after ${after} commands`);
      }
      t.true(after > 0, title);
      rows.push([title, `${after} commands`]);
      world.close();
    }
    for (const row of alignRows(rows)) t.log(row);
  },
);

test.serial('memory that the system does not take back stays as it is, and so does all else', async (t) => {
  const ram = [0, MIB].map((gpa) => ({ name: `ram${gpa}`, ranges: [{ gpa, length: MIB }] }));
  const manager = buildVm({ ram });
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const range = { gpa: MIB - PAGE, length: 2 * PAGE };
  manager.guestMemory.write(range.gpa, new Uint8Array(2 * PAGE).fill(7));
  const state = () => [footprint(), [...partition.slots], manager.map.leases(), manager.inspect().plans.failed];
  const before = state();
  const backing = addonObjectOf(manager.va.pieces()[1]!.object);
  const fail = () => {
    throw Object.assign(new Error('EOPNOTSUPP'), { code: 'EOPNOTSUPP', errno: -95, syscall: 'fallocate' });
  };
  for (const name of ['discard', 'discardLater'])
    Object.defineProperty(backing, name, { configurable: true, value: fail });
  const refused = { code: 'SYSTEM', message: /discarded/ } as const;
  t.throws(() => manager.discard(range), refused);
  t.deepEqual(state(), before);
  const lease = manager.guestMemory.lock({ gpa: MIB, length: 8 }, 'read', { holder: 'disk' });
  const waiting = manager.discardWhenFree(range);
  lease.release();
  await t.throwsAsync(waiting, refused);
  t.deepEqual(joinedSlots(partition.slots.values()), [{ gpa: 0, length: 2 * MIB, access: 'rwx' }]);
  t.is(manager.guestMemory.readU8(MIB), 7);
  manager.guestMemory.lock({ gpa: MIB, length: 8 }, 'read', { holder: 'disk' }).release();
  for (const name of ['discard', 'discardLater']) Reflect.deleteProperty(backing, name);
  t.is(manager.discard(range), PAGE);
  manager.ramVisibility.set({ gpa: MIB, length: MIB }, 'unmapped');
  t.deepEqual(joinedSlots(partition.slots.values()), [{ gpa: 0, length: MIB, access: 'rwx' }], 'the map goes on');
  manager.close();
});

test.serial('a guest that is closed is gone without a trace', (t) => {
  const before = footprint();
  for (let i = 0; i < 3; i++) new World().close();
  t.deepEqual(footprint(), before);
});
