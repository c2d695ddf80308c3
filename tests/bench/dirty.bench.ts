// Dirty pages: a tracker against the bare ioctl on memory of the same size, and what a first write costs under one: of
// the monitor, and of a guest, there beside KVM's own log.

import { existsSync } from 'node:fs';
import { GuestMemoryBuilder, type GuestMemoryManager, KVM_EXIT, KvmPartition } from '../../ts/index.ts';
import { vmOf } from '../../ts/sinks/kvm.ts';
import { enterUserMode, guestImage, start } from '../support/cpl3-guest.ts';
import { baseline, type Pieces } from './support/baseline.ts';
import { type Group, runGroup } from './support/group.ts';
import { compare, speedAtLeast } from './support/measure.ts';
import { eachPlacement } from './support/placement.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const GIB = 2 ** 30;

function guest(length: number): GuestMemoryManager {
  return new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length }] }).build();
}

/** Pieces of `length` bytes, one every `step` bytes, `count` in all. */
function pieces({ va }: GuestMemoryManager, length: number, step = length, count = 1): Pieces {
  return BigUint64Array.from(
    Array.from({ length: count }, (_, i) => [va.base + BigInt(i * step), BigInt(length), 0n]).flat(),
  );
}

interface Work {
  readonly what: string;
  /** Bytes of RAM. */
  readonly size: number;
  /** Pages written before each turn, and bytes from one to the next. */
  readonly written: number;
  readonly step: number;
}

const WORKS: readonly Work[] = [
  { what: '64 MiB, nothing written', size: 64 * MIB, written: 0, step: PAGE },
  { what: '1 GiB, nothing written', size: GIB, written: 0, step: PAGE },
  { what: '4 GiB, nothing written', size: 4 * GIB, written: 0, step: PAGE },
  { what: '1 GiB, 64 MiB written at one place', size: GIB, written: 16_384, step: PAGE },
  { what: '1 GiB, 1 % written, each page alone', size: GIB, written: 2621, step: 100 * PAGE },
];

async function collects(group: Group): Promise<void> {
  for (const { what, size, written, step } of WORKS) {
    group.doing(`collect of ${what}`);
    const [ours, bare] = [guest(size), guest(size)];
    const [ourPages, barePages] = [ours, bare].map((manager) => pieces(manager, PAGE, step, written)) as [
      Pieces,
      Pieces,
    ];
    const whole = pieces(bare, size);
    const tracker = ours.trackDirty();
    baseline.watch(whole);
    await group.add(
      compare({
        ...{ what: `collect of ${what}`, operations: 1, goals: [speedAtLeast(0.9)] },
        ours: { prepare: () => baseline.touch(ourPages, 1), run: () => void tracker.collect().bytes },
        baseline: {
          what: 'the ioctl in a loop',
          prepare: () => baseline.touch(barePages, 1),
          run: () => baseline.collect(whole),
        },
      }),
    );
    ours.close();
    bare.close();
  }
}

async function firstWrites(group: Group): Promise<void> {
  const count = 8192;
  group.doing('first writes');
  const [ours, bare] = [guest(64 * MIB), guest(64 * MIB)];
  const [ourPages, barePages] = [pieces(ours, count * PAGE), pieces(bare, count * PAGE)];
  const tracker = ours.trackDirty();
  for (const each of [ourPages, barePages]) baseline.touch(each, count);
  await group.add(
    compare({
      ...{ what: 'first write to a page under a tracker', operations: count },
      ours: { prepare: () => void tracker.collect(), run: () => baseline.touch(ourPages, count) },
      baseline: { what: 'the same without one', run: () => baseline.touch(barePages, count) },
    }),
  );
  ours.close();
  bare.close();
}

async function firstWritesByFaults(group: Group): Promise<void> {
  const count = 256;
  group.doing('first writes by faults');
  const ours = guest(MIB);
  const tracker = ours.trackDirty({ method: 'faults' });
  const ourPages = pieces(ours, count * PAGE);
  const barePages = BigUint64Array.of(baseline.serveFaults(-1, MIB), BigInt(MIB), 0n);
  for (const each of [ourPages, barePages]) baseline.touch(each, count);
  const sides = {
    ours: { prepare: () => void tracker.collect(), run: () => baseline.touch(ourPages, count) },
    baseline: {
      what: 'a bare handler in C',
      prepare: () => baseline.protectFaults(),
      run: () => baseline.touch(barePages, count),
    },
  };
  await eachPlacement(async (where) => {
    const what = `first write to a page under a tracker by faults, the thread ${where}`;
    await group.add(await compare({ what, operations: count, goals: [speedAtLeast(1 / 1.2)], ...sides }));
  });
  baseline.endFaults();
  ours.close();
}

/** A guest that writes to each of `count` pages from the first MiB on, and stops. */
class Sweeper {
  readonly size = 64 * MIB;
  readonly manager = guest(this.size);
  readonly #partition = KvmPartition.open();
  readonly vm = vmOf(this.#partition);
  readonly #vcpu = this.vm.createVcpu(0);

  constructor(count: number) {
    this.manager.guestMemory.write(0, guestImage());
    this.manager.attachPartition(this.#partition);
    enterUserMode(this.#vcpu);
    start(this.#vcpu, 'sweep', { rbx: MIB, rcx: MIB + count * PAGE });
    this.sweep();
  }

  sweep(): void {
    while (this.#vcpu.run() !== KVM_EXIT.IO);
  }

  close(): void {
    this.#vcpu.close();
    this.#partition.close();
    this.manager.close();
  }
}

/** First writes of a guest under either method: what a live snapshot that may hold it for long costs it, and one that
 *  may not. */
async function firstWritesByMethod(group: Group): Promise<void> {
  if (!existsSync('/dev/kvm')) return;
  group.doing('first writes of a guest by faults');
  const count = 1024;
  const [byFaults, byScans] = [new Sweeper(count), new Sweeper(count)];
  const faults = byFaults.manager.trackDirty({ method: 'faults' });
  const scans = byScans.manager.trackDirty({ method: 'scan' });
  const sides = {
    ours: { prepare: () => void faults.collect(), run: () => byFaults.sweep() },
    baseline: { what: 'by scans', prepare: () => void scans.collect(), run: () => byScans.sweep() },
  };
  await eachPlacement(async (where) => {
    const what = `a guest's first write to a page under a tracker by faults, the thread ${where}`;
    await group.add(await compare({ what, operations: count, ...sides }));
  });
  for (const each of [byFaults, byScans]) each.close();
}

async function firstWritesOfGuests(group: Group): Promise<void> {
  if (!existsSync('/dev/kvm')) return;
  group.doing('first writes of a guest');
  const count = 8192;
  const [tracked, logged, watched, bare] = Array.from({ length: 4 }, () => new Sweeper(count)) as [
    Sweeper,
    Sweeper,
    Sweeper,
    Sweeper,
  ];
  const whole = pieces(watched.manager, watched.size);
  baseline.watch(whole);
  const tracker = tracked.manager.trackDirty();
  const slot = 0;
  baseline.logWrites(logged.vm.fd, slot, logged.size, logged.manager.va.base);
  const ours = { prepare: () => void tracker.collect(), run: () => tracked.sweep() };
  const what = "a guest's first write to a page under a tracker";
  const untracked = { what: 'without one', run: () => bare.sweep() };
  await group.add(compare({ what, operations: count, ours, baseline: untracked }));
  const byIoctl = {
    what: 'the ioctl in a loop',
    prepare: () => baseline.collect(whole),
    run: () => watched.sweep(),
  };
  const goals = [speedAtLeast(0.9)];
  await group.add(
    compare({ what: `${what}, beside the bare ioctl`, operations: count, ours, baseline: byIoctl, goals }),
  );
  const byKvm = {
    what: "under KVM's dirty log",
    prepare: () => baseline.takeLog(logged.vm.fd, slot, logged.size / PAGE),
    run: () => logged.sweep(),
  };
  await group.add(compare({ what: `${what}, beside KVM's log`, operations: count, ours, baseline: byKvm }));
  for (const each of [tracked, logged, watched, bare]) each.close();
}

await runGroup(async (group) => {
  await collects(group);
  await firstWrites(group);
  await firstWritesByFaults(group);
  await firstWritesOfGuests(group);
  await firstWritesByMethod(group);
});
