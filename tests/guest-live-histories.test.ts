// Histories of live snapshots and migrations: while the memory is copied, the guest sweeps it, and the monitor writes,
// discards, switches RAM, moves BARs and brings RAM. What comes out is one moment's guest.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import {
  type DirtyMethod,
  GuestMemoryBuilder,
  type GuestMemoryManager,
  MembackingError,
  type RestoredGuest,
} from '../ts/index.ts';
import { guestImage, kvmMissing } from './support/guest.ts';
import { Random, tries } from './support/random.ts';
import { RunningGuest, SWEPT_SIZE } from './support/running-guest.ts';
import { tempFolder } from './support/temp-folder.ts';
import { eachMethodTest } from './support/tracking.ts';

const PAGE = 0x1000;
const MIB = 2 ** 20;
const MORE = 2 ** 32;
const MORE_SIZE = 4 * MIB;
/** Memory below 1 MiB that is switched. */
const LEGACY = 0xc0000;
const VISIBILITIES = ['unmapped', 'read-only', 'read-write'] as const;
/** Codes of refusals that a history may meet, and that change nothing. */
const REFUSED = ['NOT_DISCARDABLE', 'GUEST_ACCESS'];

function makeGuest(): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 33 - 1, x86LegacySupport: true })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: SWEPT_SIZE }] })
    .addRam({ name: 'more', ranges: [{ gpa: MORE, length: MORE_SIZE }], backing: { kind: 'private' } })
    .build();
  manager.guestMemory.write(0, guestImage());
  manager.deviceMapper.newRegion(4 * PAGE, 'bar');
  return manager;
}

/** Facts of all that is not the guest's to sweep: hashes of the bytes, and how the guest sees them. */
function factsOf(manager: GuestMemoryManager) {
  const bytes = (name: string, offset: number, length: number) => {
    const read = Buffer.alloc(length);
    manager.ramObject(name).read(offset, read);
    return createHash('sha1').update(read).digest('hex');
  };
  return {
    legacy: bytes('ram', LEGACY, MIB - LEGACY),
    more: bytes('more', 0, MORE_SIZE),
    visibility: manager.ramVisibility.ranges().map(({ visibility }) => visibility),
    bar: manager.inspect().devices[0]!.gpa,
  };
}

/** One random thing that a monitor does. */
function step(manager: GuestMemoryManager, random: Random): void {
  const { guestMemory, ramVisibility, deviceMapper } = manager;
  const page = () => random.below(MORE_SIZE / PAGE) * PAGE;
  const segment = LEGACY + random.below(16) * 0x4000;
  const deeds = [
    () => guestMemory.writeU32(MORE + page() + 4 * random.below(1024), random.below(2 ** 32)),
    () => guestMemory.write(MORE + page(), Buffer.alloc(PAGE, random.below(3))),
    () => ramVisibility.write(segment + random.below(0x3ff0), Buffer.from(`at ${random.below(100)}`)),
    () => guestMemory.writeU32(segment, random.below(2 ** 32)),
    () => manager.discard({ gpa: MORE + page(), length: PAGE }),
    () => {
      const range = random.pick(ramVisibility.ranges().filter(({ gpa }) => gpa >= LEGACY && gpa < MIB));
      ramVisibility.set({ gpa: range.gpa, length: range.length }, random.pick(VISIBILITIES));
    },
    () => {
      const [bar] = deviceMapper.regions;
      const at = 0xe000_0000 + random.below(4) * 0x10_0000;
      if (bar!.region.offset === undefined) bar!.region.place(manager.root, { offset: at });
      else if (random.below(3) === 0) bar!.region.remove();
      else bar!.region.move(at);
    },
  ];
  try {
    random.pick(deeds)();
  } catch (error) {
    if (!(error instanceof MembackingError) || !REFUSED.includes(error.code)) throw error;
  }
}

/** Both ends of a duplex stream in memory. */
function duplexPair(): [Duplex, Duplex] {
  const [there, back] = [new PassThrough(), new PassThrough()];
  return [Duplex.from({ writable: there, readable: back }), Duplex.from({ writable: back, readable: there })];
}

type Options = Parameters<GuestMemoryManager['migrateOut']>[1];

/** Guest that comes of a live snapshot in a stream. */
async function throughStream(
  manager: GuestMemoryManager,
  options: Options,
  mode: 'copy' | 'lazy',
): Promise<RestoredGuest> {
  const stream = new PassThrough();
  const restored = GuestMemoryBuilder.fromSnapshot(stream, { mode });
  restored.catch(() => {});
  try {
    await manager.snapshot(stream, { ...options, live: true });
    return await restored;
  } finally {
    stream.end();
  }
}

/** Ways out of a guest that runs, each with the guest that comes of it. */
const WAYS: Readonly<
  Record<string, (manager: GuestMemoryManager, folder: string, options: Options) => Promise<RestoredGuest>>
> = {
  folder: async (manager, folder, options) => {
    await manager.snapshot(folder, { ...options, live: true });
    return GuestMemoryBuilder.fromSnapshot(folder, { mode: 'map' });
  },
  stream: (manager, _, options) => throughStream(manager, options, 'copy'),
  'stream that is restored lazily': async (manager, _, options) => {
    const restored = await throughStream(manager, options, 'lazy');
    await restored.lazy!.load();
    return restored;
  },
  migration: async (manager, _, options) => {
    const [near, far] = duplexPair();
    for (const end of [near, far]) end.on('error', () => {});
    const restored = GuestMemoryBuilder.migrateIn(far);
    restored.catch(() => {});
    try {
      await manager.migrateOut(near, options);
      return await restored;
    } catch (error) {
      for (const end of [near, far]) end.destroy();
      throw error;
    }
  },
};

async function live(t: ExecutionContext, random: Random, way: string, method: DirtyMethod): Promise<void> {
  const folder = tempFolder(t);
  const guest = new RunningGuest(makeGuest());
  const { manager } = guest;
  // The copy's own tracker goes by the method of this one.
  manager.trackDirty({ method });
  const busy = () => {
    for (let i = random.below(20); i > 0; i--) step(manager, random);
  };
  busy();
  guest.start();
  const timer = setInterval(busy, 1);
  const comes = random.below(4) === 0;
  let held: ReturnType<typeof factsOf> | undefined;
  const state = async () => {
    const saved = way === 'migration' ? await guest.heldState() : await guest.state();
    clearInterval(timer);
    held = factsOf(manager);
    return saved;
  };
  const progress = () => {
    if (comes && manager.inspect().ram.length < 3)
      manager.addRam({ name: 'new', ranges: [{ gpa: (3 * MORE) / 2, length: PAGE }] });
    else if (held === undefined) busy();
  };
  try {
    const restored = await WAYS[way]!(manager, join(folder, 'live'), { maxDowntime: 60_000, state, progress });
    t.false(comes, 'RAM has come');
    t.deepEqual(factsOf(restored.manager), held);
    const again = new RunningGuest(restored.manager, restored.state);
    again.sweep(t, 2);
    again.close();
  } catch (error) {
    if (!comes || !(error instanceof MembackingError)) throw error;
    t.is(error.code, 'RAM_CHANGED');
  } finally {
    clearInterval(timer);
    await guest.stop();
  }
  if (way !== 'migration') guest.sweep(t, 1);
  guest.close();
}

for (const way of Object.keys(WAYS)) {
  if (kvmMissing !== undefined) test.skip(`live histories into a ${way}: ${kvmMissing}`, () => {});
  else {
    const title = `live histories into a ${way}, whatever the monitor does meanwhile, are of one moment`;
    eachMethodTest(title, async (t, method) => {
      const random = new Random();
      for (let i = 0; i < tries(8); i++) await live(t, random, way, method);
    });
  }
}
