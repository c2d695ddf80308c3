// Histories of guests that are restored lazily, again and again, beside a plain model of their bytes: whatever happens
// while pages are coming, every byte is as it was left.

import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import {
  type DeviceRegionControl,
  type DirtyTracker,
  GuestMemoryBuilder,
  type GuestMemoryManager,
  KvmPartition,
  type RestoredGuest,
  Vcpu,
} from '../ts/index.ts';
import { vmOf } from '../ts/sinks/kvm.ts';
import { enterUserMode, guestImage, kvmMissing, registersFor } from './support/guest.ts';
import { lazyTest, pagerThreads } from './support/lazy.ts';
import { namelessFile } from './support/nameless-file.ts';
import { Random, tries } from './support/random.ts';
import { tempFolder } from './support/temp-folder.ts';
import { attempt, METHODS } from './support/tracking.ts';
import { MIB } from './support/vm.ts';

const PAGE = 0x1000;
const SIZE = 2 * MIB;
const PAGES = SIZE / PAGE;
/** Ways to track dirty pages here. */
const ways = METHODS.filter(({ missing }) => missing === undefined).map(({ method }) => method);

function makeMemory(): GuestMemoryManager {
  return new GuestMemoryBuilder({ maxAddress: 2 ** 36 - 1, x86LegacySupport: true, debug: true })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: SIZE }] })
    .build();
}

/** A guest's memory beside the word at the beginning of each page. */
class World {
  readonly #random: Random;
  readonly #folder: string;
  readonly #words = new Map<number, number>();
  #manager = makeMemory();
  #bar: DeviceRegionControl | undefined;
  #base: string | undefined;
  #tracker: DirtyTracker | undefined;
  #count = 0;

  constructor(random: Random, folder: string) {
    this.#random = random;
    this.#folder = folder;
    this.#addBar();
    for (let i = 0; i < 200; i++) this.#write(random.below(PAGES));
  }

  close(): void {
    this.#manager.close();
  }

  readonly steps: Record<string, (t: ExecutionContext) => void | Promise<void>> = {
    read: (t) => {
      const page = this.#random.below(PAGES);
      const word = this.#shown(page) ? this.#manager.guestMemory.readU32(page * PAGE) : this.#word(page);
      t.is(word, this.#words.get(page) ?? 0, `page ${page}`);
    },
    write: () => this.#write(this.#random.below(PAGES)),
    lease: (t) => {
      const page = this.#random.below(PAGES);
      if (!this.#shown(page) || !this.#isWritable(page)) return;
      const lease = this.#manager.guestMemory.lock({ gpa: page * PAGE, length: PAGE }, 'write', { holder: 'history' });
      const { buffer, byteOffset } = lease.view;
      t.is(new DataView(buffer, byteOffset).getUint32(0, true), this.#words.get(page) ?? 0);
      lease.release();
    },
    discard: () => {
      const [first, count] = [this.#random.below(PAGES - 8), 1 + this.#random.below(8)];
      const range = { gpa: first * PAGE, length: count * PAGE };
      if (attempt(() => this.#manager.discard(range)) !== undefined) return;
      for (let page = first; page < first + count; page++) this.#words.delete(page);
    },
    free: async () => {
      const [first, count] = [this.#random.below(PAGES - 256), 128 + this.#random.below(128)];
      const freed = this.#manager.discardAsync({ gpa: first * PAGE, length: count * PAGE });
      const isDone = await freed.then(
        () => true,
        () => false,
      );
      for (let page = first; isDone && page < first + count; page++) this.#words.delete(page);
    },
    pam: () => {
      const { gpa, length } = this.#random.pick(this.#manager.ramVisibility.ranges());
      const visibility = this.#random.pick(['unmapped', 'read-only', 'read-write', 'read-write'] as const);
      this.#manager.ramVisibility.set({ gpa, length }, visibility);
    },
    bar: () => {
      if (this.#random.below(3) === 0) this.#bar!.unmapFromGuest();
      else this.#bar!.mapToGuest(this.#random.pick([0x10000, MIB + 0x8000, 0x8000_0000]));
    },
    hotplug: () => {
      const added = this.#manager.addRam({ ranges: [{ gpa: 16 * MIB, length: MIB }], backing: 'private' });
      this.#manager.guestMemory.writeU32(16 * MIB, 1);
      added.close();
    },
    track: () => {
      if (ways.length === 0) return;
      if (this.#tracker !== undefined && this.#random.below(2) === 0) {
        this.#tracker.collect();
        return;
      }
      this.#tracker?.close();
      this.#tracker = this.#manager.trackDirty({ method: this.#random.pick(ways) });
    },
    restore: async () => {
      const folder = join(this.#folder, String(this.#count++));
      const base = this.#random.below(2) === 0 ? this.#base : undefined;
      await this.#manager.snapshot(folder, base === undefined ? {} : { base });
      this.#become(await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy' }));
      this.#base = folder;
    },
  };

  /** Compares every page with the model. */
  check(t: ExecutionContext): void {
    for (let page = 0; page < PAGES; page++) t.is(this.#word(page), this.#words.get(page) ?? 0, `page ${page}`);
  }

  #become({ manager, devices }: RestoredGuest): void {
    this.#manager.close();
    this.#manager = manager;
    this.#tracker = undefined;
    this.#bar = devices[0]!.control;
  }

  #addBar(): void {
    const { control, region } = this.#manager.deviceMapper.newRegion(16 * PAGE, 'bar');
    const fd = namelessFile(16 * PAGE);
    region.map(0, fd, 0, 16 * PAGE, true);
    closeSync(fd);
    this.#bar = control;
  }

  #piece(page: number): { readonly access: string } | undefined {
    const gpa = page * PAGE;
    return this.#manager.va
      .pieces()
      .find((each) => each.object === this.#object && each.gpa <= gpa && gpa < Number(each.gpa) + Number(each.length));
  }

  #shown(page: number): boolean {
    return this.#piece(page) !== undefined;
  }

  #isWritable(page: number): boolean {
    return this.#piece(page)!.access.includes('w');
  }

  get #object() {
    return this.#manager.ramObject('ram');
  }

  /** Word of a page, wherever it is. */
  #word(page: number): number {
    const bytes = Buffer.alloc(4);
    this.#object.read(page * PAGE, bytes);
    return bytes.readUInt32LE();
  }

  #write(page: number): void {
    const value = 1 + this.#random.below(2 ** 31);
    if (this.#shown(page) && this.#isWritable(page)) this.#manager.guestMemory.writeU32(page * PAGE, value);
    else this.#object.write(page * PAGE, new Uint8Array(Uint32Array.of(value).buffer));
    this.#words.set(page, value);
  }
}

lazyTest('whatever happens while pages are coming, no byte is lost', async (t) => {
  for (let seed = 1; seed <= tries(4); seed++) {
    const random = new Random(seed);
    const world = new World(random, tempFolder(t));
    t.log(`seed ${seed}`);
    for (let i = 0; i < 300; i++) {
      const step =
        i % 60 === 20 ? 'restore' : random.pick(Object.keys(world.steps).filter((name) => name !== 'restore'));
      await world.steps[step]!(t);
    }
    world.check(t);
    world.close();
  }
  t.is(pagerThreads(), 0);
});

if (kvmMissing === undefined) {
  lazyTest('a guest goes through its memory while RAM is hidden, moved and added around it', async (t) => {
    const [from, to] = [8 * MIB, 24 * MIB];
    const folder = tempFolder(t);
    const parent = new GuestMemoryBuilder({ maxAddress: 2 ** 32 - 1, x86LegacySupport: true })
      .addRam({ name: 'ram', ranges: [{ gpa: 0, length: to }] })
      .build();
    parent.guestMemory.write(0, guestImage());
    for (let gpa = from; gpa < to; gpa += PAGE) parent.guestMemory.writeU32(gpa, 7);
    await parent.snapshot(folder);
    parent.close();

    const { manager, lazy } = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy' });
    const partition = KvmPartition.open();
    manager.attachPartition(partition);
    const addon = vmOf(partition).createVcpu(0);
    const vcpu = Vcpu.of(0, addon);
    enterUserMode(addon);
    registersFor(addon, 'sweep', { rbx: from, rcx: to, rax: 7 });
    const { control, region } = manager.deviceMapper.newRegion(16 * PAGE, 'bar');
    const fd = namelessFile(16 * PAGE);
    region.map(0, fd, 0, 16 * PAGE, true);
    closeSync(fd);
    for (let round = 8; round < 11; round++) {
      let isDone = false;
      const run = vcpu.runAsync().finally(() => {
        isDone = true;
      });
      for (let i = 0; !isDone; i++) {
        manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, i % 2 === 0 ? 'unmapped' : 'read-write');
        control.mapToGuest(MIB + (i % 16) * 32 * PAGE);
        manager.addRam({ ranges: [{ gpa: 64 * MIB, length: MIB }], backing: 'private' }).close();
        await manager.discardAsync({ gpa: 4 * MIB, length: MIB });
      }
      const exit = await run;
      t.deepEqual(exit.kind === 'io' && [exit.port, Buffer.from(exit.data).readUInt32LE()], [0x15, round]);
    }
    t.is(lazy!.waits >= (to - from) / PAGE, true);
    vcpu.close();
    partition.close();
    manager.close();
  });
}
