// End to end under a live KVM slot: the public API against the bare system calls on a machine that looks the same.

import { KvmPartition, MemoryMap, type Region, SharedMemory } from '../../ts/index.ts';
import { vmOf } from '../../ts/sinks/kvm.ts';
import { Random } from '../support/random.ts';
import { baseline, type Pieces } from './support/baseline.ts';
import { type Group, runGroup } from './support/group.ts';
import { compare, type Side, speedAtLeast } from './support/measure.ts';

const SLOT = 2 * 1024 * 1024;
const WINDOW_SLOTS = 4096;
const FILE_SLOTS = 128;
const WINDOW_GPA = 2 ** 32;
const PAGES = SLOT / 4096;

/** A KVM machine with a DAX window of 8 GiB, all of it mapped, and 64 KiB of RAM that can be made read-only. */
class Machine {
  readonly map = new MemoryMap();
  readonly file = SharedMemory.create(FILE_SLOTS * SLOT);
  readonly partition = KvmPartition.open();
  readonly window: Region;
  readonly pam: Region;
  readonly base: bigint;

  constructor() {
    const { map, file } = this;
    const root = map.createRegion({ name: 'root', kind: 'container', size: 2 ** 40 });
    this.window = map.createRegion({ name: 'dax', kind: 'device', size: WINDOW_SLOTS * SLOT });
    this.window.place(root, { offset: WINDOW_GPA });
    this.pam = map.createRegion({ name: 'pam', kind: 'ram', size: 0x4000 });
    this.pam.map({ object: file, length: 0x4000 });
    this.pam.place(root, { offset: 0xc0000 });
    map.transaction(() => {
      for (let slot = 0; slot < WINDOW_SLOTS; slot++) this.show(slot, (slot * 7) % FILE_SLOTS);
    });
    const space = map.createAddressSpace({ name: 'guest', root });
    const va = map.attachVaSpace(space, { size: 2 ** 40 });
    map.attachPartition(this.partition, { space, va });
    this.base = va.base;
  }

  show(slot: number, fileSlot: number): void {
    this.window.map({ offset: slot * SLOT, object: this.file, objectOffset: fileSlot * SLOT, length: SLOT });
  }

  hva(slot: number): bigint {
    return this.base + BigInt(WINDOW_GPA + slot * SLOT);
  }
}

type Request = readonly [slot: number, fileSlot: number];

function piecesOf(machine: Machine, requests: readonly Request[]): Pieces {
  return BigUint64Array.from(
    requests.flatMap(([slot, fileSlot]) => [machine.hva(slot), BigInt(SLOT), BigInt(fileSlot * SLOT)]),
  );
}

/** The piece that pieces which follow each other are. */
function whole(pieces: Pieces): Pieces {
  return BigUint64Array.of(pieces[0]!, BigInt(pieces.length / 3) * BigInt(SLOT), pieces[2]!);
}

interface Work {
  /** Requests of one turn. */
  readonly requests: () => Request[];
  readonly count: number;
  /** Pages of each slot that are touched before it is mapped anew. */
  readonly touched: number;
  /** Requests in a transaction. */
  readonly batch: number;
  /** Whether the bare side maps all of it by one call. */
  readonly isOneCall?: boolean;
}

/** Both sides get the same requests, each on its own machine. */
function sides(machine: Machine, bare: Machine, { requests, touched, batch, isOneCall }: Work): [Side, Side] {
  let next: Request[] = [];
  let pieces: Pieces;
  const ours: Side = {
    prepare: () => {
      next = requests();
      baseline.touch(piecesOf(machine, next), touched);
    },
    run: () => {
      if (batch === 1) {
        for (const [slot, fileSlot] of next) machine.show(slot, fileSlot);
        return;
      }
      for (let first = 0; first < next.length; first += batch) {
        machine.map.transaction(() => {
          for (let i = first; i < first + batch; i++) machine.show(next[i]![0], next[i]![1]);
        });
      }
    },
  };
  const theirs: Side = {
    prepare: () => {
      pieces = piecesOf(bare, requests());
      baseline.touch(pieces, touched);
    },
    run: () => baseline.remap(bare.file.fd, isOneCall ? whole(pieces) : pieces),
  };
  return [ours, theirs];
}

const random = new Random(11);

/** Different slots, so that each was touched. */
function scattered(count: number): Request[] {
  const start = random.below(WINDOW_SLOTS);
  // 1201 and 4096 have no common divisor.
  return Array.from({ length: count }, (_, i) => [(start + i * 1201) % WINDOW_SLOTS, random.below(FILE_SLOTS)]);
}

function contiguous(count: number): Request[] {
  const start = random.below(WINDOW_SLOTS / 64) * 64;
  const fileStart = random.below(FILE_SLOTS - 64);
  return Array.from({ length: count }, (_, i) => [start + i, fileStart + i]);
}

const WORKS: readonly (Work & { what: string; speed: number })[] = [
  { what: 'untouched, one by one', speed: 0.75, requests: () => scattered(512), count: 512, touched: 0, batch: 1 },
  { what: 'one page touched', speed: 0.9, requests: () => scattered(512), count: 512, touched: 1, batch: 1 },
  { what: 'all touched', speed: 0.98, requests: () => scattered(32), count: 32, touched: PAGES, batch: 1 },
  { what: 'untouched, batches of 64', speed: 0.95, requests: () => scattered(512), count: 512, touched: 0, batch: 64 },
  { what: '64 that follow each other', speed: 5, requests: () => contiguous(64), count: 64, touched: 0, batch: 64 },
  {
    ...{ what: '64 that follow each other, beside one call', speed: 0.3, requests: () => contiguous(64) },
    ...{ count: 64, touched: 0, batch: 64, isOneCall: true },
  },
];

async function remaps(group: Group, machine: Machine, bare: Machine): Promise<void> {
  for (const work of WORKS) {
    group.doing(`DAX remap, ${work.what}`);
    const [ours, theirs] = sides(machine, bare, work);
    await group.add(
      compare({
        ...{ what: `DAX remap, ${work.what}`, operations: work.count, goals: [speedAtLeast(work.speed)] },
        ...{ ours, baseline: { what: 'bare mmap', ...theirs } },
      }),
    );
  }
}

async function flips(group: Group, machine: Machine, bare: Machine): Promise<void> {
  group.doing('PAM flip');
  const operations = 100;
  const run = () => {
    for (let i = 0; i < operations; i++) machine.pam.setFlags({ readonly: i % 2 === 0 });
  };
  const shown = BigUint64Array.of(bare.base + 0xc0000n, 0x4000n, 0xc0000n);
  // The window's slot comes first.
  const slot = 0;
  const bareRun = () => baseline.flip(vmOf(bare.partition).fd, slot, shown, true, operations);
  await group.add(
    compare({
      ...{ what: 'PAM flip', operations, goals: [speedAtLeast(0.9)], ours: { run } },
      baseline: { what: 'bare ioctls and mprotect', run: bareRun },
    }),
  );
}

/** Toggles a ROM of 64 KiB over RAM of `size`, that has been cut there before. */
function overlay(size: number): Side {
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'container', size: 2 ** 40 });
  const file = SharedMemory.create(size);
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size });
  ram.map({ object: file, length: size });
  ram.place(root, { offset: 0 });
  const rom = map.createRegion({ name: 'rom', kind: 'rom', size: 0x1_0000 });
  rom.map({ object: SharedMemory.create(0x1_0000), length: 0x1_0000 });
  rom.place(root, { offset: 0xf_0000, priority: 1 });
  const space = map.createAddressSpace({ name: 'guest', root });
  const va = map.attachVaSpace(space, { size: 2 ** 40 });
  map.attachPartition(KvmPartition.open(), { space, va });
  return {
    run: () => {
      for (let i = 0; i < OVERLAYS; i++) rom.setFlags({ enabled: i % 2 === 1 });
    },
  };
}

const OVERLAYS = 100;

async function overlays(group: Group): Promise<void> {
  group.doing('a ROM over RAM');
  const what = 'toggle a ROM over 8 GiB of RAM';
  const goals = [speedAtLeast(0.9)];
  const small = { what: 'over 16 MiB', ...overlay(2 ** 24) };
  await group.add(compare({ what, operations: OVERLAYS, goals, ours: overlay(2 ** 33), baseline: small }));
}

await runGroup(async (group) => {
  const [machine, bare] = [new Machine(), new Machine()];
  await remaps(group, machine, bare);
  await flips(group, machine, bare);
  await overlays(group);
});
