// Histories of a guest's memory beside a plain model: exactly what was written is dirty, whatever else happens.

import assert from 'node:assert/strict';
import { closeSync, readSync, writeSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { GuestMemoryBuilder } from '../ts/guest/builder.ts';
import type { DirtyPages } from '../ts/guest/dirty-pages.ts';
import type { DirtyTracker } from '../ts/guest/dirty-tracker.ts';
import type { AddedRam, GuestMemoryManager, RestoredDevice } from '../ts/guest/manager.ts';
import type { DirtyMethod, MemoryObject } from '../ts/index.ts';
import { GUEST_SIZE, guestImage, kvmMissing } from './support/guest.ts';
import { lazyMissing } from './support/lazy.ts';
import { namelessFile } from './support/nameless-file.ts';
import { Random, SEED, tries } from './support/random.ts';
import { tempFolder } from './support/temp-folder.ts';
import { attempt, eachMethodTest } from './support/tracking.ts';
import { Guest, MIB, wrote } from './support/vm.ts';

const PAGE = 0x1000;
const BAR = 0x8000_0000;
const KINDS = ['shared', 'private'] as const;

/** A guest's memory, and a device region of it. */
interface Made {
  readonly manager: GuestMemoryManager;
  readonly bar: Pick<RestoredDevice, 'control' | 'region'>;
}

function make(): Made {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 36 - 1, x86LegacySupport: true, debug: true })
    .addRam({ name: 'low', ranges: [{ gpa: 0, length: 2 * MIB }], backing: { kind: 'private' } })
    .addRam({ name: 'high', ranges: [{ gpa: 2 * MIB, length: MIB }] })
    .build();
  return { manager, bar: manager.deviceMapper.newRegion(64 * PAGE, 'bar') };
}

/** Makes one of which every other page is still to come. */
async function restore(folder: string): Promise<Made> {
  const { manager } = make();
  for (let gpa = 0; gpa < 3 * MIB; gpa += 2 * PAGE) manager.guestMemory.writeU32(gpa, gpa + 1);
  await manager.snapshot(folder);
  manager.close();
  const restored = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'lazy', debug: true });
  return { manager: restored.manager, bar: restored.devices[0]! };
}

/** Memory of a guest beside a plain set of the pages that are dirty. */
class World {
  readonly #random: Random;
  readonly manager: GuestMemoryManager;
  readonly #bar: Made['bar'];
  readonly #fd = namelessFile(32 * PAGE, '/dev/shm');
  readonly #source = namelessFile(0);
  readonly #trackers: { tracker: DirtyTracker; dirty: Map<MemoryObject, Set<number>> }[] = [];
  /** Guest that writes, too; undefined where there is no KVM. */
  readonly #guest: Guest | undefined;
  #added: { readonly ram: AddedRam; readonly object: MemoryObject } | undefined;

  constructor(random: Random, method: DirtyMethod, { manager, bar }: Made) {
    this.#random = random;
    writeSync(this.#source, Buffer.alloc(4 * PAGE, 1));
    this.manager = manager;
    this.#bar = bar;
    this.#bar.region.map(0, this.#fd, 0, 32 * PAGE, true);
    if (kvmMissing === undefined) {
      this.manager.guestMemory.write(0, guestImage());
      this.#guest = new Guest(this.manager);
      this.steps.guest = () => this.#guestWrites();
    }
    for (let i = 0; i < 2; i++) this.#trackers.push({ tracker: this.manager.trackDirty({ method }), dirty: new Map() });
  }

  close(): void {
    this.manager.close();
    this.#guest?.close();
    for (const fd of [this.#fd, this.#source]) closeSync(fd);
  }

  readonly steps: Record<string, () => void> = {
    write: () => this.#write((gpa, bytes) => this.manager.guestMemory.write(gpa, bytes)),
    lease: () =>
      this.#write((gpa, bytes) => {
        const lease = this.manager.guestMemory.lock({ gpa, length: bytes.length }, 'write', { holder: 'history' });
        // A file that can become shorter has no view.
        const view = attempt(() => lease.view) === undefined ? lease.view : undefined;
        if (view === undefined) this.manager.guestMemory.write(gpa, bytes);
        else readSync(this.#source, view, 0, bytes.length, 0);
        lease.release();
      }),
    object: () => {
      const { object, objectOffset, length } = this.#random.pick(this.#pieces());
      const offset = objectOffset + this.#random.below(length);
      object.write(offset, Uint8Array.of(1));
      this.#note(object, offset, 1);
    },
    discard: () => {
      const gpa = GUEST_SIZE + this.#random.below(767 - GUEST_SIZE / PAGE) * PAGE;
      const length = (1 + this.#random.below(8)) * PAGE;
      if (attempt(() => this.manager.discard({ gpa, length })) === undefined) this.#noteGpa(gpa, length);
    },
    pam: () => {
      const range = this.#random.pick(this.manager.ramVisibility.ranges().filter(({ gpa }) => gpa > 0));
      this.manager.ramVisibility.set(
        { gpa: range.gpa, length: range.length },
        this.#random.pick(['unmapped', 'read-only', 'read-write', 'read-write'] as const),
      );
    },
    bar: () => {
      const { control, region } = this.#bar;
      const what = this.#random.below(4);
      if (what === 0) control.unmapFromGuest();
      else if (what === 1)
        region.map(this.#random.below(32) * PAGE, this.#fd, this.#random.below(16) * PAGE, 16 * PAGE, true);
      else control.mapToGuest(this.#random.pick([0x20000, MIB + 0x8000, BAR, BAR + 0x20000]));
    },
    hotplug: () => {
      if (this.#added === undefined) {
        const kind = this.#random.pick(KINDS);
        const ram = this.manager.addRam({ ranges: [{ gpa: 16 * MIB, length: 32 * PAGE }], backing: { kind } });
        const { object } = this.manager.va.pieces().find(({ gpa }) => gpa === 16 * MIB)!;
        this.#added = { ram, object };
      } else {
        this.#added.ram.close();
        for (const { dirty } of this.#trackers) dirty.delete(this.#added.object);
        this.#added = undefined;
      }
    },
  };

  /** Asks a tracker, and compares with the model. */
  collect(t: ExecutionContext): void {
    // Which page tables a processor has marked nobody can foretell: all of them are written.
    this.manager.guestMemory.write(0, guestImage());
    this.#noteGpa(0, GUEST_SIZE);
    const { tracker, dirty } = this.#random.pick(this.#trackers);
    const pages = tracker.collect();
    const found = new Map<MemoryObject, number[]>();
    for (const { object, offset, length } of pages.byObject) {
      const list = found.get(object) ?? [];
      for (let page = 0; page < Number(length) / PAGE; page++) list.push(Number(offset) / PAGE + page);
      found.set(object, list);
    }
    const expected = [...dirty].flatMap(([object, set]) => (set.size === 0 ? [] : [[object, set] as const]));
    t.is(found.size, expected.length);
    for (const [object, set] of expected) {
      t.deepEqual(
        found.get(object),
        [...set].sort((a, b) => a - b),
        object.name,
      );
    }
    t.deepEqual(pagesOf(pages), this.#visible(dirty));
    t.is(hiddenPages(pages), Number(pages.bytes) / PAGE - this.#shownPages(dirty));
    dirty.clear();
  }

  #write(write: (gpa: number, bytes: Uint8Array) => void): void {
    const piece = this.#random.pick(this.#pieces().filter(({ access }) => access.includes('w')));
    const length = Math.min(1 + this.#random.below(3 * PAGE), piece.length);
    const gpa = piece.gpa + this.#random.below(piece.length - length + 1);
    write(gpa, new Uint8Array(length).fill(this.#random.below(256)));
    this.#noteGpa(gpa, length);
  }

  /** Pieces of the VA space, without the memory that the guest runs from. */
  #pieces() {
    return this.manager.va.pieces().map(({ object, access, ...piece }) => {
      const [gpa, objectOffset, length] = [piece.gpa, piece.objectOffset, piece.length].map(Number) as [
        number,
        number,
        number,
      ];
      const before = Math.max(0, GUEST_SIZE - gpa);
      return { object, access, gpa: gpa + before, objectOffset: objectOffset + before, length: length - before };
    });
  }

  #guestWrites(): void {
    const { gpa, length } = this.#random.pick(this.#pieces().filter(({ access }) => access.includes('w')));
    const at = gpa + 4 * this.#random.below(length / 4);
    const value = this.#random.below(256);
    assert.equal(this.#guest!.write(at, value), wrote(value));
    this.#noteGpa(at, 4);
  }

  #noteGpa(gpa: number, length: number): void {
    for (const piece of this.manager.va.pieces()) {
      const from = Math.max(gpa, Number(piece.gpa));
      const to = Math.min(gpa + length, Number(piece.gpa) + Number(piece.length));
      if (from < to) this.#note(piece.object, Number(piece.objectOffset) + from - Number(piece.gpa), to - from);
    }
  }

  #note(object: MemoryObject, offset: number, length: number): void {
    for (const { dirty } of this.#trackers) {
      const set = dirty.get(object) ?? new Set();
      dirty.set(object, set);
      for (let page = Math.floor(offset / PAGE); page * PAGE < offset + length; page++) set.add(page);
    }
  }

  #visible(dirty: ReadonlyMap<MemoryObject, ReadonlySet<number>>): number[] {
    return this.manager.va.pieces().flatMap((piece) => {
      const first = Number(piece.objectOffset) / PAGE;
      return Array.from({ length: Number(piece.length) / PAGE }, (_, page) => page).flatMap((page) =>
        dirty.get(piece.object)?.has(first + page) ? [Number(piece.gpa) / PAGE + page] : [],
      );
    });
  }

  #shownPages(dirty: ReadonlyMap<MemoryObject, ReadonlySet<number>>): number {
    const shown = this.manager.va
      .pieces()
      .flatMap(({ object, objectOffset, length }) =>
        Array.from(
          { length: Number(length) / PAGE },
          (_, page) => [object, Number(objectOffset) / PAGE + page] as const,
        ),
      );
    let count = 0;
    for (const [object, set] of dirty) {
      for (const page of set) if (shown.some(([other, at]) => other === object && at === page)) count++;
    }
    return count;
  }
}

function pagesOf(pages: DirtyPages): number[] {
  return [...pages].flatMap(({ gpa, length }) =>
    Array.from({ length: Number(length) / PAGE }, (_, page) => Number(gpa) / PAGE + page),
  );
}

function hiddenPages(pages: DirtyPages): number {
  return pages.hidden.reduce((total, { length }) => total + Number(length) / PAGE, 0);
}

async function checkHistories(t: ExecutionContext, method: DirtyMethod, made: () => Promise<Made>): Promise<void> {
  t.log(`seed ${SEED}`);
  const random = new Random();
  for (let history = 0; history < tries(12); history++) {
    const world = new World(random, method, await made());
    try {
      for (let step = 0; step < 120; step++) {
        world.steps[random.pick(Object.keys(world.steps))]!();
        if (random.below(6) === 0) world.collect(t);
      }
    } finally {
      world.close();
    }
  }
}

eachMethodTest('histories of writes and changes: exactly what was written is dirty', (t, method) =>
  checkHistories(t, method, async () => make()),
);

if (lazyMissing === undefined) {
  eachMethodTest('histories while pages are coming: exactly what was written is dirty', (t, method) =>
    checkHistories(t, method, () => restore(tempFolder(t))),
  );
}
