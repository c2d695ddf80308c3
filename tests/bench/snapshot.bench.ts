// Snapshots: a whole one against `cp` of its file, a diff against writing its pages, forks of a template, for how long
// a live one holds the guest, lazy restores against an empty guest and a bare fault handler, and migration. In memory,
// so that it is the copying that is measured, and not a disk.

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  createReadStream,
  createWriteStream,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import { GuestMemoryBuilder, type GuestMemoryManager, KvmPartition, RecordingPartition } from '../../ts/index.ts';
import { vmOf } from '../../ts/sinks/kvm.ts';
import { enterUserMode, guestImage, registersFor } from '../support/cpl3-guest.ts';
import { baseline } from './support/baseline.ts';
import { type Group, runGroup } from './support/group.ts';
import { atMost, compare, longestTurn, median, type Side, speedAtLeast } from './support/measure.ts';
import { eachPlacement } from './support/placement.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** A guest of which every page was written, and holds something up to the first GiB: files of it need no more. */
function makeGuest(length: number): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 36 - 1 }).addRam({ ranges: [{ gpa: 0, length }] }).build();
  const bytes = Buffer.alloc(Math.min(length, 16 * MIB));
  for (let at = 0; at < bytes.length; at += 8) bytes.writeUInt32LE((at * 2654435761) % 2 ** 32, at);
  for (let gpa = 0; gpa < length; gpa += bytes.length) {
    if (gpa === GIB) bytes.fill(0);
    manager.guestMemory.write(gpa, bytes);
  }
  return manager;
}

/** A guest of a template of one of 1 GiB. */
async function makeFork(): Promise<GuestMemoryManager> {
  const parent = makeGuest(GIB);
  const template = await parent.freeze();
  const { manager } = template.builder().build();
  for (const each of [parent, template]) each.close();
  return manager;
}

async function whole(group: Group, folder: string, what: string, manager: GuestMemoryManager): Promise<void> {
  const [target, copy] = [join(folder, 'whole'), join(folder, 'copy')];
  group.doing(`snapshot of ${what}`);
  const held = await longestTurn(() => manager.snapshot(target));
  const memory = join(folder, 'memory');
  execFileSync('cp', [join(target, readdirSync(target).find((name) => name.startsWith('memory-'))!), memory]);
  await group.add(
    await compare({
      ...{ what: `snapshot of ${what}`, operations: 1, leastPairs: 5, goals: [speedAtLeast(0.8)] },
      ours: {
        prepare: () => rmSync(target, { recursive: true, force: true }),
        run: async () => void (await manager.snapshot(target)),
      },
      baseline: {
        what: '`cp` of its memory file',
        prepare: () => rmSync(copy, { force: true }),
        run: () => void execFileSync('cp', [memory, copy]),
      },
    }),
  );
  await group.add({
    ...{ what: `longest turn of the event loop in the first one`, unit: 'ns', ours: held, goals: [atMost(20e6)] },
  });
  for (const each of [target, copy, memory]) rmSync(each, { recursive: true });
  manager.close();
}

/** One page of a hundred. */
const SCATTERED = Array.from({ length: Math.floor(GIB / PAGE / 100) }, (_, i) => i * 100 * PAGE);

function writeScattered({ guestMemory }: GuestMemoryManager, value: number): void {
  for (const gpa of SCATTERED) guestMemory.writeU32(gpa, value);
}

/** Writing the pages of a guest in C, as a diff has them. */
function writingScattered(guest: () => GuestMemoryManager, path: string): Side & { readonly what: string } {
  let pages: BigUint64Array;
  return {
    what: 'pwrite of these pages in C, fsync, rename',
    prepare: () => {
      rmSync(path, { force: true });
      writeScattered(guest(), 8);
      const { base } = guest().va;
      pages = BigUint64Array.from(SCATTERED.flatMap((gpa) => [base + BigInt(gpa), BigInt(PAGE), BigInt(gpa)]));
    },
    run: () => baseline.writePages(path, GIB, pages),
  };
}

async function diff(group: Group, folder: string): Promise<void> {
  const manager = makeGuest(GIB);
  const [base, target, pages] = [join(folder, 'base'), join(folder, 'diff'), join(folder, 'pages')];
  await manager.snapshot(base);
  group.doing('diff');
  await group.add(
    await compare({
      ...{ what: 'diff of 1 % of 1 GiB, each page alone', operations: 1, leastPairs: 9, goals: [speedAtLeast(0.8)] },
      ours: {
        prepare: () => {
          rmSync(target, { recursive: true, force: true });
          writeScattered(manager, 7);
        },
        run: async () => void (await manager.snapshot(target, { base })),
      },
      baseline: writingScattered(() => manager, pages),
    }),
  );
  for (const each of [base, target, pages]) rmSync(each, { recursive: true });
  manager.close();
}

async function firstDiff(group: Group, folder: string): Promise<void> {
  group.doing('first diff of a fork');
  const parent = makeGuest(GIB);
  const template = await parent.freeze();
  parent.close();
  const [target, pages] = [join(folder, 'diff'), join(folder, 'pages')];
  let fork: GuestMemoryManager | undefined;
  const prepare = () => {
    fork?.close();
    rmSync(target, { recursive: true, force: true });
    fork = template.builder().build().manager;
    writeScattered(fork, 7);
  };
  const run = async () => void (await fork!.snapshot(target, { base: template }));
  await group.add(
    await compare({
      ...{ what: 'first diff of 1 % of a fork of 1 GiB', operations: 1, leastPairs: 9, goals: [] },
      ours: { prepare, run },
      baseline: writingScattered(() => fork!, pages),
    }),
  );
  const turns: number[] = [];
  for (let i = 0; i < 9; i++) {
    prepare();
    turns.push(await longestTurn(run));
  }
  await group.add({
    ...{ what: 'longest turn of the event loop in it', unit: 'ns', ours: median(turns), goals: [atMost(20e6)] },
  });
  for (const each of [target, pages]) rmSync(each, { recursive: true });
  for (const each of [fork!, template]) each.close();
}

async function forks(group: Group): Promise<void> {
  group.doing('forks');
  const parent = makeGuest(GIB);
  const template = await parent.freeze();
  parent.close();
  const builder = template.builder();
  let made: GuestMemoryManager | undefined;
  const prepare = () => made?.close();
  await group.add(
    await compare({
      ...{ what: 'fork of a template of 1 GiB', operations: 1, goals: [atMost(2e6)] },
      ours: {
        prepare,
        run: () => {
          made = builder.build().manager;
        },
      },
      baseline: {
        what: 'a guest of new memory',
        prepare,
        run: () => {
          const ram = { ranges: [{ gpa: 0, length: GIB }] };
          made = new GuestMemoryBuilder({ maxAddress: 2 ** 36 - 1 }).addRam(ram).build();
        },
      },
    }),
  );
  made?.close();
  template.close();
}

/** Bytes that this process has for itself: memory that it has written, and its page tables. */
async function memoryInUse(): Promise<number> {
  // Garbage goes in several turns: what has finalizers, after those have run.
  for (let i = 0; i < 3; i++) {
    globalThis.gc!();
    await setImmediate();
  }
  const [smaps, status] = ['smaps_rollup', 'status'].map((name) => readFileSync(`/proc/self/${name}`, 'utf8'));
  const kib = [/^Private_Dirty:\s+(\d+)/m.exec(smaps!), /^VmPTE:\s+(\d+)/m.exec(status!)];
  return 1024 * kib.reduce((sum, found) => sum + Number(found![1]), 0);
}

async function idleClones(group: Group, folder: string): Promise<void> {
  group.doing('idle clones');
  const COUNT = 100;
  const parent = makeGuest(64 * MIB);
  await parent.snapshot(join(folder, 'clones'));
  parent.close();
  const clones: GuestMemoryManager[] = [];
  const make = async () => {
    const { manager } = await GuestMemoryBuilder.fromSnapshot(join(folder, 'clones'), { mode: 'map' });
    manager.guestMemory.writeU32(0, clones.push(manager));
  };
  for (let i = 0; i < 10; i++) await make(); // what the process needs once
  const before = await memoryInUse();
  for (let i = 0; i < COUNT; i++) await make();
  await group.add({
    ...{
      what: 'memory of an idle clone of 64 MiB, of a hundred',
      unit: 'bytes',
      ours: ((await memoryInUse()) - before) / COUNT,
    },
    goals: [atMost(MIB)],
  });
  for (const each of clones) each.close();
  rmSync(join(folder, 'clones'), { recursive: true });
}

/** Both ends of a Unix socket. */
async function socketPair(path: string): Promise<[Socket, Socket]> {
  const server = createServer().listen(path);
  await once(server, 'listening');
  const far = once(server, 'connection') as Promise<[Socket]>;
  const ends: [Socket, Socket] = [connect(path), (await far)[0]];
  server.close();
  return ends;
}

/** Downtime of a guest of which every other page was written: as many stretches as there can be. */
async function scatteredMigration(group: Group, folder: string): Promise<void> {
  group.doing('migration of scattered pages');
  const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: GIB }] }).build();
  for (let gpa = 0; gpa < GIB; gpa += 2 * PAGE) manager.guestMemory.writeU32(gpa, 7);
  const downtimes: number[] = [];
  for (let i = 0; i < 5; i++) {
    const ends = await socketPair(join(folder, 'socket'));
    const [{ downtime }, guest] = await Promise.all([
      manager.migrateOut(ends[0]),
      GuestMemoryBuilder.migrateIn(ends[1]),
    ]);
    downtimes.push(downtime * 1e6);
    guest.manager.close();
    for (const end of ends) end.destroy();
  }
  const what = 'downtime of an idle guest of 1 GiB, every other page of which was written';
  await group.add({ what, unit: 'ns', ours: median(downtimes), goals: [] });
  manager.close();
}

async function migration(group: Group, folder: string): Promise<void> {
  group.doing('migration');
  const manager = makeGuest(GIB);
  const [memory, copy, path] = ['memory', 'copy', 'socket'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  await pipeline(memoryOf(manager), createWriteStream(memory));
  let ends: [Socket, Socket] | undefined;
  let received: GuestMemoryManager | undefined;
  const prepare = async () => {
    received?.close();
    for (const end of ends ?? []) end.destroy();
    rmSync(copy, { force: true });
    ends = await socketPair(path);
  };
  const downtimes: number[] = [];
  await group.add(
    await compare({
      ...{ what: 'migration of 1 GiB through a Unix socket', operations: 1, leastPairs: 5, goals: [speedAtLeast(0.8)] },
      ours: {
        prepare,
        run: async () => {
          const [{ downtime }, guest] = await Promise.all([
            manager.migrateOut(ends![0]),
            GuestMemoryBuilder.migrateIn(ends![1]),
          ]);
          downtimes.push(downtime * 1e6);
          received = guest.manager;
        },
      },
      baseline: {
        what: 'its memory file copied through one',
        prepare,
        run: async () => {
          const source = createReadStream(memory, { highWaterMark: MIB });
          await Promise.all([pipeline(source, ends![0]), pipeline(ends![1], createWriteStream(copy))]);
        },
      },
    }),
  );
  await group.add({ what: 'downtime of it, of a guest that is idle', unit: 'ns', ours: median(downtimes), goals: [] });
  for (const each of [manager, received]) each?.close();
  for (const end of ends ?? []) end.destroy();
  for (const each of [memory, copy]) rmSync(each, { force: true });
}

/** Bytes of a guest of 1 GiB. */
function* memoryOf(manager: GuestMemoryManager): Generator<Buffer> {
  for (let gpa = 0; gpa < GIB; gpa += MIB) {
    const bytes = Buffer.alloc(MIB);
    manager.guestMemory.read(gpa, bytes);
    yield bytes;
  }
}

/** Partition that says for how long it was held, in nanoseconds. */
class TimedPartition extends RecordingPartition {
  readonly times: number[] = [];
  #began = 0;
  override pause(): void {
    this.#began = performance.now();
  }
  override resume(): void {
    this.times.push((performance.now() - this.#began) * 1e6);
  }
}

/** Nanoseconds for which live snapshots hold a guest that writes 10 MiB in a second. */
async function holdOf(size: number, maxDowntime: number, folder: string): Promise<number> {
  const manager = makeGuest(size);
  const partition = new TimedPartition();
  manager.attachPartition(partition);
  let page = 0;
  const timer = setInterval(() => {
    for (let i = 0; i < 26; i++) manager.guestMemory.writeU32((page++ % (size / PAGE)) * PAGE, page);
  }, 10);
  const live = () => manager.snapshot(join(folder, 'live'), { live: true, maxDowntime });
  // The first ones are those that the compiler learns from.
  for (let i = 0; i < 2; i++) await live();
  partition.times.length = 0;
  for (let i = 0; i < 9; i++) await live();
  clearInterval(timer);
  rmSync(join(folder, 'live'), { recursive: true });
  manager.close();
  return median(partition.times);
}

async function holds(group: Group, folder: string): Promise<void> {
  for (const maxDowntime of [1, 300]) {
    let ofLeast: number | undefined;
    for (const size of [64 * MIB, GIB, 8 * GIB]) {
      const name = size < GIB ? '64 MiB' : `${size / GIB} GiB`;
      const what = `hold of a live snapshot of ${name}, under 10 MiB/s, of ${maxDowntime} ms that it may be`;
      group.doing(what);
      const ours = await holdOf(size, maxDowntime, folder);
      ofLeast ??= ours;
      const goals = maxDowntime === 1 && size > GIB ? [atMost(2 * ofLeast)] : [];
      await group.add({ what, unit: 'ns', ours, baseline: { what: 'of 64 MiB', value: ofLeast }, goals });
    }
  }
}

/** A folder with a snapshot of a guest of `size` bytes, of which the first `data` hold something. */
async function aSnapshot(folder: string, size: number, data: number): Promise<string> {
  const target = join(folder, `${size}`);
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 36 - 1 })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: size }] })
    .build();
  const bytes = Buffer.alloc(16 * MIB, 7);
  for (let gpa = 0; gpa < data; gpa += bytes.length) manager.guestMemory.write(gpa, bytes);
  manager.guestMemory.write(0, guestImage());
  await manager.snapshot(target);
  manager.close();
  return target;
}

/** Nanoseconds from `make` to a guest's first exit. */
async function toFirstExit(make: () => Promise<GuestMemoryManager> | GuestMemoryManager): Promise<number> {
  const partition = KvmPartition.open();
  const vcpu = vmOf(partition).createVcpu(0);
  enterUserMode(vcpu);
  registersFor(vcpu, 'out', {});
  const started = performance.now();
  const manager = await make();
  manager.attachPartition(partition);
  vcpu.run();
  const time = (performance.now() - started) * 1e6;
  vcpu.close();
  partition.close();
  manager.close();
  return time;
}

async function lazyStarts(group: Group, folder: string): Promise<void> {
  if (!existsSync('/dev/kvm')) return;
  for (const size of [64 * MIB, 8 * GIB]) {
    const name = size < GIB ? '64 MiB' : '8 GiB';
    group.doing(`lazy restore of ${name}`);
    const target = await aSnapshot(folder, size, 64 * MIB);
    const lazily = async () => (await GuestMemoryBuilder.fromSnapshot(target, { mode: 'lazy' })).manager;
    const empty = () => {
      const ram = { name: 'ram', ranges: [{ gpa: 0, length: size }] };
      const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 36 - 1 }).addRam(ram).build();
      manager.guestMemory.write(0, guestImage());
      return manager;
    };
    const differences: number[] = [];
    for (let i = 0; i < 25; i++) differences.push((await toFirstExit(lazily)) - (await toFirstExit(empty)));
    await group.add({
      ...{ what: `lazy restore of ${name}, to the guest's first exit, over an empty guest`, unit: 'ns' },
      ...{ ours: median(differences), goals: [atMost(3e6)] },
    });
    rmSync(target, { recursive: true });
  }
}

async function lazyFaults(group: Group, folder: string): Promise<void> {
  group.doing('lazy faults');
  const [size, pages] = [GIB, 256];
  const target = await aSnapshot(folder, size, size);
  const memory = join(target, readdirSync(target).find((name) => name.startsWith('memory-'))!);
  const { manager } = await GuestMemoryBuilder.fromSnapshot(target, { mode: 'lazy' });
  const fd = openSync(memory, 'r');
  const bare = baseline.serveFaults(fd, size);
  const touching = (base: bigint) => {
    let next = 0;
    return () => {
      baseline.touch(BigUint64Array.of(base + BigInt((next++ * pages * PAGE) % size), BigInt(pages * PAGE), 0n), pages);
    };
  };
  const sides = {
    ours: { run: touching(manager.va.base) },
    baseline: { what: 'a bare handler in C', run: touching(bare) },
  };
  await eachPlacement(async (where) => {
    const what = `first touch of a page of a lazy restore, the handler ${where}`;
    await group.add(await compare({ what, operations: pages, goals: [speedAtLeast(1 / 1.2)], ...sides }));
  });
  baseline.endFaults();
  closeSync(fd);
  manager.close();
  await workingSets(group, target);
  rmSync(target, { recursive: true });
}

/** Waits of a guest that goes through 64 MiB again and again, as its restore finds out what it wants. */
async function workingSets(group: Group, target: string): Promise<void> {
  const waits: number[] = [];
  for (let i = 0; i < 2; i++) {
    const { manager, lazy } = await GuestMemoryBuilder.fromSnapshot(target, { mode: 'lazy' });
    await new Promise((resolve) => setTimeout(resolve, 200));
    for (let page = 0; page < 16_384; page++) manager.guestMemory.readU32(((page * 37) % 16_384) * PAGE);
    waits.push(lazy!.waits);
    await lazy!.saveWorkingSet();
    manager.close();
  }
  const [without, withSet] = waits as [number, number];
  await group.add({
    ...{ what: 'waits for 16 384 pages, 200 ms after a restore with a working set', unit: 'count', ours: withSet },
    ...{ baseline: { what: 'without one', value: without }, goals: [atMost(without / 20)] },
  });
}

await runGroup(async (group) => {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'membacking-bench-'));
  try {
    await whole(group, folder, '1 GiB', makeGuest(GIB));
    await whole(group, folder, 'a fork of 1 GiB', await makeFork());
    await diff(group, folder);
    await firstDiff(group, folder);
    await forks(group);
    await idleClones(group, folder);
    await holds(group, folder);
    await migration(group, folder);
    await scatteredMigration(group, folder);
    await lazyStarts(group, folder);
    await lazyFaults(group, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
