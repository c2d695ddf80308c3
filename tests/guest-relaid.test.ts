// Guests of a snapshot that lie otherwise than they did: other ranges of RAM, more of it, other places of BARs.

import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import {
  GuestMemoryBuilder,
  type GuestMemoryManager,
  type OtherLayout,
  RecordingPartition,
  type RestoredGuest,
} from '../ts/index.ts';
import { footprint } from './support/footprint.ts';
import { kvmMissing } from './support/guest.ts';
import { makeSwept, RunningGuest, SWEPT_SIZE } from './support/running-guest.ts';
import { tempFolder } from './support/temp-folder.ts';

const PAGE = 0x1000;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

function makeGuest(): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ maxAddress: 8 * GIB - 1, x86LegacySupport: true })
    .addRam({ name: 'low', ranges: [{ gpa: 0, length: 4 * MIB }] })
    .addRam({ name: 'more', ranges: [{ gpa: 4 * GIB, length: 16 * PAGE }], backing: { kind: 'private' } })
    .build();
  for (const gpa of [0xc0000, 3 * MIB, 4 * GIB + PAGE]) manager.guestMemory.writeU32(gpa, gpa / PAGE);
  manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'read-only');
  manager.deviceMapper.newRegion(4 * PAGE, 'bar').control.mapToGuest(0xe000_0000);
  manager.deviceMapper.newRegion(4 * PAGE, 'window').control.mapToGuest(0xf000_0000);
  return manager;
}

const WAYS: Readonly<
  Record<string, (manager: GuestMemoryManager, folder: string, layout: OtherLayout) => Promise<RestoredGuest>>
> = {
  copy: (manager, folder, layout) => viaFolder(manager, folder, { mode: 'copy', layout }),
  map: (manager, folder, layout) => viaFolder(manager, folder, { mode: 'map', layout }),
  lazy: (manager, folder, layout) => viaFolder(manager, folder, { mode: 'lazy', layout }),
  stream: async (manager, _, layout) => {
    const stream = new PassThrough();
    const restored = GuestMemoryBuilder.fromSnapshot(stream, { layout });
    return (await Promise.all([restored, manager.snapshot(stream)]))[0];
  },
};

async function viaFolder(
  manager: GuestMemoryManager,
  folder: string,
  options: { mode: 'copy' | 'map' | 'lazy'; layout: OtherLayout },
): Promise<RestoredGuest> {
  const target = join(folder, options.mode);
  await manager.snapshot(target);
  return GuestMemoryBuilder.fromSnapshot(target, options);
}

for (const [way, restore] of Object.entries(WAYS)) {
  test.serial(
    `RAM lies in other ranges and BARs at other places, by ${way}, and a diff of that is a snapshot`,
    async (t) => {
      const before = footprint();
      const folder = tempFolder(t);
      const source = makeGuest();
      const layout: OtherLayout = {
        ram: {
          low: [
            { gpa: 0, length: 2 * MIB },
            { gpa: 6 * GIB, length: 2 * MIB },
          ],
          more: [{ gpa: 16 * GIB, length: 16 * PAGE }],
        },
        devices: { bar: 0xd000_0000, window: null },
        maxAddress: 32 * GIB - 1,
        slotBudget: 2,
      };
      const { manager, devices } = await restore(source, folder, layout);
      const { guestMemory } = manager;
      t.is(guestMemory.readU32(0xc0000), 0xc0);
      t.is(guestMemory.readU32(6 * GIB + MIB), (3 * MIB) / PAGE);
      t.is(guestMemory.readU32(16 * GIB + PAGE), (4 * GIB + PAGE) / PAGE);
      for (const gpa of [3 * MIB, 4 * GIB]) t.throws(() => guestMemory.readU8(gpa), { code: 'GUEST_ACCESS' });
      t.is(manager.ramVisibility.at(0xc0000), 'read-only');
      t.deepEqual(
        devices.map(({ control }) => control.gpa),
        [0xd000_0000, undefined],
      );
      t.throws(() => manager.attachPartition(new RecordingPartition()), { message: /no memory slot left/ });
      guestMemory.writeU32(6 * GIB, 7);
      await manager.snapshot(join(folder, 'again'));
      const again = await GuestMemoryBuilder.fromSnapshot(join(folder, 'again'), { layout: { slotBudget: 100 } });
      t.is(again.manager.guestMemory.readU32(6 * GIB), 7);
      again.manager.attachPartition(new RecordingPartition());
      for (const each of [source, manager, again.manager]) each.close();
      t.deepEqual(footprint(), before);
    },
  );
}

for (const way of ['copy', 'lazy', 'stream'] as const) {
  test.serial(`a block of RAM has more bytes than it had, by ${way}: zeroes, which are RAM`, async (t) => {
    const source = makeGuest();
    const layout = { ram: { low: [{ gpa: 0, length: 6 * MIB }], more: [{ gpa: 4 * GIB, length: MIB }] } };
    const { manager } = await WAYS[way]!(source, tempFolder(t), layout);
    const { guestMemory } = manager;
    t.is(guestMemory.readU32(3 * MIB), (3 * MIB) / PAGE);
    t.is(guestMemory.readU32(4 * GIB + PAGE), (4 * GIB + PAGE) / PAGE);
    for (const gpa of [4 * MIB, 6 * MIB - 4, 4 * GIB + MIB - 4]) {
      t.is(guestMemory.readU32(gpa), 0);
      guestMemory.writeU32(gpa, 1);
    }
    for (const each of [source, manager]) each.close();
  });
}

if (kvmMissing !== undefined) test.skip(`a guest goes on with more RAM: ${kvmMissing}`, () => {});
else {
  test.serial('a guest goes on with twice the RAM that it had', async (t) => {
    const folder = tempFolder(t);
    const guest = new RunningGuest(makeSwept());
    guest.sweep(t, 2);
    await guest.manager.snapshot(folder, { state: await guest.heldState() });
    guest.close();
    const layout = { ram: { ram: [{ gpa: 0, length: 2 * SWEPT_SIZE }] } };
    const { manager, state } = await GuestMemoryBuilder.fromSnapshot(folder, { layout });
    const again = new RunningGuest(manager, state);
    again.sweep(t, 3);
    t.is(manager.guestMemory.readU32(2 * SWEPT_SIZE - 4), 0);
    again.close();
  });
}

test.serial('a layout that the snapshot cannot have is refused, and leaves nothing', async (t: ExecutionContext) => {
  const folder = tempFolder(t);
  const source = makeGuest();
  await source.snapshot(folder);
  source.close();
  const before = footprint();
  const range = (gpa: number, length: number) => [{ gpa, length }];
  const refused: [OtherLayout, string, RegExp][] = [
    [{ ram: { lo: range(0, 4 * MIB) } }, 'INVALID_ARGUMENT', /has no RAM "lo"; it has "low", "more"/],
    [{ ram: { low: range(0, 2 * MIB) } }, 'INVALID_ARGUMENT', /RAM "low" has 0x400000 bytes, and its ranges 0x200000/],
    [{ ram: { low: range(0, 8 * MIB) } }, 'INVALID_ARGUMENT', /more RAM is a block of its own/],
    [{ ram: { low: [] } }, 'INVALID_ARGUMENT', /and its ranges 0x0/],
    [{ ram: { low: 7 as never } }, 'INVALID_ARGUMENT', /must be a list/],
    [{ ram: { low: [{ gpa: 0, size: 1 } as never] } }, 'INVALID_ARGUMENT', /no option "size"/],
    [{ ram: { low: range(4 * GIB, 4 * MIB) } }, 'SNAPSHOT_LAYOUT', /is given twice/],
    [{ ram: { more: range(2 * MIB, 16 * PAGE) } }, 'SNAPSHOT_LAYOUT', /is given twice/],
    [{ ram: { more: range(16 * GIB, 16 * PAGE) } }, 'SNAPSHOT_LAYOUT', /past the highest address/],
    [{ devices: { bars: 0 } }, 'INVALID_ARGUMENT', /has no device region "bars"; it has "bar", "window"/],
    [{ devices: { bar: -1 } }, 'INVALID_ARGUMENT', /bar must be/],
    [{ devices: { bar: 7 } }, 'SNAPSHOT_LAYOUT', /devices\[0\] cannot be had/],
    [{ slotBudget: 0 }, 'INVALID_ARGUMENT', /slotBudget/],
    [{ maxAddress: MIB - 1 }, 'SNAPSHOT_LAYOUT', /past the highest address/],
    [{ pinned: true } as never, 'INVALID_ARGUMENT', /no option "pinned"/],
  ];
  for (const [layout, code, message] of refused) {
    await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(folder, { mode: 'map', layout }), { code, message });
  }
  t.deepEqual(footprint(), before);
});
