// Real guests that check all their memory while they go on: from every kind of restore, and from restores of restores.

import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { ExecutionContext } from 'ava';
import {
  GuestMemoryBuilder,
  type GuestMemoryManager,
  KvmPartition,
  type PartitionState,
  type PlainState,
  type RamBacking,
  type RestoredGuest,
  type RestoreMode,
  type Template,
  Vcpu,
  type VcpuState,
} from '../ts/index.ts';
import { vmOf } from '../ts/sinks/kvm.ts';
import { footprint } from './support/footprint.ts';
import { enterUserMode, guestImage, kvmTest, registersFor } from './support/guest.ts';
import { Random, tries } from './support/random.ts';
import { tempFolder } from './support/temp-folder.ts';

const MIB = 2 ** 20;
/** Memory that the guest sweeps: every page of it is counted up in each round, and must be as it was left. */
const FROM = MIB;
const TO = 8 * MIB;

/** A guest's memory before its first round, and where it is restored. */
function makeMemory(backing: RamBacking['kind'] & ('shared' | 'private')): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 32 - 1 })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: TO }], backing: { kind: backing } })
    .build();
  manager.guestMemory.write(0, guestImage());
  return manager;
}

/** A guest that sweeps its memory, round by round. */
class Sweeper {
  readonly manager: GuestMemoryManager;
  readonly #partition = KvmPartition.open();
  readonly #vcpu: Vcpu;
  /** Rounds that it has done. */
  rounds: number;

  /** A guest on memory at its beginning, or as it was when `state` was saved. */
  constructor(manager: GuestMemoryManager, state?: PlainState) {
    this.manager = manager;
    manager.attachPartition(this.#partition);
    const vcpu = vmOf(this.#partition).createVcpu(0);
    enterUserMode(vcpu);
    registersFor(vcpu, 'sweep', { rbx: FROM, rcx: TO });
    this.#vcpu = Vcpu.of(0, vcpu);
    this.rounds = 0;
    if (state === undefined) return;
    const saved = state as unknown as { vcpu: VcpuState; partition: PartitionState; rounds: number };
    this.#partition.restore(saved.partition);
    this.#vcpu.restore(saved.vcpu);
    this.rounds = saved.rounds;
  }

  /** State of the guest, for a snapshot. */
  get state(): PlainState {
    const state = { vcpu: this.#vcpu.save(), partition: this.#partition.save(), rounds: this.rounds };
    return state as unknown as PlainState;
  }

  /** Goes on for some rounds, in each of which all memory is as it was left. */
  sweep(t: ExecutionContext, rounds: number, why: string): void {
    for (let i = 0; i < rounds; i++) {
      const exit = this.#vcpu.runToExit();
      this.rounds++;
      const seen = exit.kind === 'io' ? [exit.port, Buffer.from(exit.data).readUInt32LE()] : [exit.kind];
      t.deepEqual(seen, [0x15, this.rounds], why);
    }
  }

  close(): void {
    this.#vcpu.close();
    this.#partition.close();
    this.manager.close();
  }
}

/** Ways for a guest to go on as another one. */
const WAYS = ['copy', 'map', 'lazy', 'diff by copy', 'diff by map', 'diff by lazy', 'stream', 'fork'] as const;
type Way = (typeof WAYS)[number];

/** A guest that goes on as another one, again and again. */
class Journey {
  guest: Sweeper;
  readonly #t: ExecutionContext;
  readonly #folder: string;
  /** Base of the next diff. */
  #base: string | Template<RestoredGuest> | undefined;
  /** The template at the end of the chain of diffs. */
  #template: Template<RestoredGuest> | undefined;
  readonly #templates: Template<RestoredGuest>[] = [];
  readonly #log: string[] = [];

  constructor(t: ExecutionContext, backing: 'shared' | 'private') {
    this.#t = t;
    this.#folder = tempFolder(t);
    this.guest = new Sweeper(makeMemory(backing));
    this.#log.push(backing);
  }

  /** Sweeps, goes on as another one, and sweeps again. */
  async go(way: Way, rounds: number): Promise<void> {
    this.#log.push(way);
    const why = this.#log.join(', ');
    this.guest.sweep(this.#t, rounds, why);
    const { manager, state } = await this.#become(way);
    // What the old one writes from now on is its own.
    this.guest.sweep(this.#t, 1, why);
    this.guest.close();
    this.guest = new Sweeper(manager, state);
    this.guest.sweep(this.#t, rounds, why);
  }

  async #become(way: Way): Promise<RestoredGuest> {
    const { manager, state } = this.guest;
    if (way === 'fork') {
      this.#template = await manager.freeze({ state });
      this.#base = this.#template;
      this.#templates.push(this.#template);
      return this.#template.builder().build();
    }
    if (way === 'stream') {
      this.#base = undefined;
      this.#template = undefined;
      const stream = new PassThrough();
      const [, restored] = await Promise.all([
        manager.snapshot(stream, { state }),
        GuestMemoryBuilder.fromSnapshot(stream),
      ]);
      return restored;
    }
    const folder = join(this.#folder, String(this.#log.length));
    const base = way.startsWith('diff') ? this.#base : undefined;
    await manager.snapshot(folder, base === undefined ? { state } : { state, base });
    if (base === undefined) this.#template = undefined;
    this.#base = folder;
    if (this.#template !== undefined) return this.#template.builder({ diff: folder }).buildAsync();
    return GuestMemoryBuilder.fromSnapshot(folder, { mode: way.split(' ').at(-1) as RestoreMode });
  }

  close(): void {
    this.guest.close();
    for (const template of this.#templates) template.close();
  }
}

for (const backing of ['shared', 'private'] as const) {
  kvmTest(`a guest with ${backing} RAM goes on from every kind of restore, and loses nothing`, async (t) => {
    const before = footprint();
    const journey = new Journey(t, backing);
    for (const way of WAYS) await journey.go(way, 2);
    // A snapshot of a restore of a diff of a fork.
    for (const way of [
      'fork',
      'diff by map',
      'diff by copy',
      'map',
      'diff by lazy',
      'lazy',
      'diff by map',
      'copy',
    ] as const)
      await journey.go(way, 2);
    journey.close();
    t.deepEqual(footprint(), before);
  });
}

kvmTest('guests that go on at random, again and again, lose nothing', async (t) => {
  const before = footprint();
  for (let seed = 1; seed <= tries(3); seed++) {
    const random = new Random(seed);
    const journey = new Journey(t, random.pick(['shared', 'private'] as const));
    for (let i = 0; i < 12; i++) await journey.go(random.pick(WAYS), 1 + random.below(3));
    journey.close();
  }
  t.deepEqual(footprint(), before);
});

kvmTest('guests of one template run at once, each on its own memory', async (t) => {
  const before = footprint();
  const parent = new Sweeper(makeMemory('shared'));
  parent.sweep(t, 2, 'parent');
  const template = await parent.manager.freeze({ state: parent.state });
  const builder = template.builder();
  const guests = Array.from({ length: 20 }, () => {
    const { manager, state } = builder.build();
    return new Sweeper(manager, state);
  });
  for (let round = 0; round < 3; round++) {
    for (const [i, guest] of guests.entries()) guest.sweep(t, (i + round) % 3, `guest ${i}`);
  }
  parent.sweep(t, 2, 'parent');
  for (const each of [...guests, parent, template]) each.close();
  t.deepEqual(footprint(), before);
});
