// Changes as a monitor makes them: through the manager beside the raw map, with a recorder, leases and a window, with
// caches that others have used meanwhile, and the very first ones. Against the bare system calls, or against the same
// change of a map that has nothing of this.

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  type AttachedPartition,
  GuestMemoryBuilder,
  type GuestMemoryManager,
  KvmPartition,
  type Lease,
  type MappedRegion,
  SharedMemory,
} from '../../ts/index.ts';
import { vmOf } from '../../ts/sinks/kvm.ts';
import { baseline, type Pieces } from './support/baseline.ts';
import { type Group, runGroup } from './support/group.ts';
import { compare, median, rowOf, type Side, speedAtLeast } from './support/measure.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const SLOT = 2 * MIB;
const SLOTS = 512;
const WINDOW_GPA = 2 ** 32;
const PAM = { gpa: 0xc8000, length: 0x4000 };
const OPERATIONS = 100;
const AS_FAST = 1 / 1.2;
const BARE_FLIP = 'bare ioctls and mprotect';

/** A guest with RAM that PAM registers switch, a DAX window and a BAR of 2 MiB, all of it with memory. */
class Monitor {
  readonly manager: GuestMemoryManager;
  readonly partition = KvmPartition.open();
  readonly attached: AttachedPartition;
  readonly #file = SharedMemory.create(SLOTS * SLOT);
  readonly #dax: MappedRegion;
  readonly #leases: Lease[] = [];

  constructor() {
    const builder = new GuestMemoryBuilder({ x86LegacySupport: true });
    this.manager = builder.addRam({ ranges: [{ gpa: 0, length: 256 * MIB }] }).build();
    const { control, region } = this.manager.deviceMapper.newRegion(SLOTS * SLOT, 'dax');
    this.#dax = region;
    this.manager.map.transaction(() => {
      for (let slot = 0; slot < SLOTS; slot++) this.show(slot, (slot * 7) % SLOTS);
    });
    control.mapToGuest(WINDOW_GPA);
    this.attached = this.manager.attachPartition(this.partition);
  }

  /** Records to nowhere, holds leases elsewhere, and has a window open. */
  load(): this {
    const { manager } = this;
    manager.map.context.record({ write: () => {} });
    for (let i = 0; i < 1000; i++) {
      this.#leases.push(
        manager.guestMemory.lock({ gpa: 16 * MIB + i * PAGE, length: 64 }, 'write', { holder: 'disk' }),
      );
    }
    for (let i = 0; i < 100_000; i++) manager.guestMemory.readU32(32 * MIB + (i % 1000) * 4);
    return this;
  }

  show(slot: number, fileSlot: number): void {
    this.#dax.map(slot * SLOT, this.#file.fd, fileSlot * SLOT, SLOT, true);
  }
  hide(slot: number): void {
    this.#dax.unmap(slot * SLOT, SLOT);
  }
  pieces(slots: readonly (readonly [slot: number, fileSlot: number])[]): Pieces {
    const { base } = this.manager.va;
    return BigUint64Array.from(
      slots.flatMap(([slot, from]) => [base + BigInt(WINDOW_GPA + slot * SLOT), BigInt(SLOT), BigInt(from * SLOT)]),
    );
  }
  get fd(): number {
    return this.#file.fd;
  }

  flip(isReadOnly: boolean): void {
    this.manager.ramVisibility.set(PAM, isReadOnly ? 'read-only' : 'read-write');
  }
  close(): void {
    for (const lease of this.#leases) lease.release();
    this.manager.close();
    this.partition.close();
    this.#file.close();
  }
}

/** Bytes that push everything else out of the processor's caches. */
const others = new Float64Array(4 * MIB);

function warm(): void {}

function cool(): void {
  for (let i = 0; i < others.length; i += 8) others[i]! += 1;
}

/** The bare calls of flips, by the slot that shows the range. */
function bareFlips(bare: Monitor): (isReadOnly: boolean, count: number) => void {
  const { slot } = bare.attached.attachments[0]!.slots().find(({ gpa }) => gpa === PAM.gpa)!;
  const { gpa, length } = PAM;
  const shown = BigUint64Array.of(bare.manager.va.base + BigInt(gpa), BigInt(length), BigInt(gpa));
  return (isReadOnly, count) => baseline.flip(vmOf(bare.partition).fd, slot, shown, isReadOnly, count);
}

// ---- First flips ---------------------------------------------------------------------------------

const PROCESSES = 21;
const FOLLOWING = 8;
/** Milliseconds that the guest runs before each of them. */
const APART = 1;
const SIDES = ['manager', 'bare'] as const;

/** Milliseconds of the first flips of a monitor that has just attached its guest's memory. */
function firstFlips(side: (typeof SIDES)[number]): number[] {
  const monitor = new Monitor();
  const bare = bareFlips(monitor);
  const flip = side === 'bare' ? (isReadOnly: boolean) => bare(isReadOnly, 1) : monitor.flip.bind(monitor);
  return Array.from({ length: 1 + FOLLOWING }, (_, i) => {
    const since = performance.now();
    while (performance.now() - since < APART);
    const started = performance.now();
    flip(i % 2 === 0);
    return performance.now() - started;
  });
}

/** First flips in pairs of new processes, of which each has only some. */
function firsts(group: Group): void {
  group.doing('first PAM flips of new processes');
  const args = ['--enable-source-maps', fileURLToPath(import.meta.url)];
  const times = Array.from({ length: PROCESSES }, () =>
    SIDES.map((side): number[] => JSON.parse(execFileSync(process.execPath, [...args, side], { encoding: 'utf8' }))),
  );
  const add = (what: string, of: (flips: readonly number[]) => number) => {
    const [ours, bare] = SIDES.map((_, side) => times.map((pair) => of(pair[side]!) * 1e6));
    group.rows.push(rowOf({ what, baseline: { what: BARE_FLIP }, goals: [speedAtLeast(0.5)] }, ours!, bare!));
  };
  add('first PAM flip of a process', ([first]) => first!);
  add(`${FOLLOWING} PAM flips that follow it`, ([, ...following]) => median(following));
}

// ---- Changes of a monitor that runs --------------------------------------------------------------

async function flips(group: Group, monitor: Monitor, bare: Monitor): Promise<void> {
  const bareMany = bareFlips(bare);
  const turns = (count: number, flip: (isReadOnly: boolean) => void): Side => ({
    run: () => {
      for (let i = 0; i < count; i++) flip(i % 2 === 0);
    },
  });
  group.doing('PAM flips');
  await group.add(
    compare({
      ...{ what: 'PAM flip through the manager', operations: OPERATIONS, goals: [speedAtLeast(0.8)] },
      ours: turns(OPERATIONS, (isReadOnly) => monitor.flip(isReadOnly)),
      baseline: { what: BARE_FLIP, run: () => bareMany(true, OPERATIONS) },
    }),
  );
  await group.add(
    compare({
      ...{ what: 'two PAM flips through the manager, cold caches', operations: 2, goals: [speedAtLeast(0.6)] },
      ours: { prepare: cool, ...turns(2, (isReadOnly) => monitor.flip(isReadOnly)) },
      baseline: { what: BARE_FLIP, prepare: cool, run: () => bareMany(true, 2) },
    }),
  );
}

/** A change of the DAX window: ours, and bare. */
interface Change {
  readonly what: string;
  readonly goal: number;
  ours(monitor: Monitor, slot: number, fileSlot: number): void;
  bare(fd: number, pieces: Pieces): void;
}

const CHANGES: readonly Change[] = [
  {
    ...{ what: 'DAX remap over another', goal: 0.6 },
    ours: (monitor, slot, fileSlot) => monitor.show(slot, fileSlot),
    bare: (fd, pieces) => baseline.remap(fd, pieces),
  },
  {
    ...{ what: 'DAX unmap and map again, memory slots too', goal: 0 },
    ours: (monitor, slot, fileSlot) => {
      monitor.hide(slot);
      monitor.show(slot, fileSlot);
    },
    bare: (fd, pieces) => {
      baseline.clear(pieces);
      baseline.remap(fd, pieces);
    },
  },
];

function changing(monitor: Monitor, { ours }: Change, prepare = warm): Side {
  let turn = 0;
  return {
    prepare,
    run: () => {
      turn++;
      for (let i = 0; i < OPERATIONS; i++) ours(monitor, (i * 5) % SLOTS, (i * 11 + turn * 3) % SLOTS);
    },
  };
}

async function changes(group: Group, [monitor, loaded, bare]: readonly [Monitor, Monitor, Monitor]): Promise<void> {
  const slots = Array.from({ length: OPERATIONS }, (_, i) => [(i * 5) % SLOTS, (i * 11) % SLOTS] as const);
  const pieces = bare.pieces(slots);
  for (const change of CHANGES) {
    const { what, goal } = change;
    group.doing(what);
    const calls = (prepare = warm) => ({ what: 'bare mmap', prepare, run: () => change.bare(bare.fd, pieces) });
    const same = { operations: OPERATIONS, goals: goal === 0 ? [] : [speedAtLeast(goal)] };
    await group.add(compare({ ...same, what, ours: changing(monitor, change), baseline: calls() }));
    const cold = { ...same, what: `${what}, cold caches` };
    await group.add(compare({ ...cold, ours: changing(monitor, change, cool), baseline: calls(cool) }));
    const withAll = `${what}, with a recorder, 1000 leases and a window`;
    const plain = { what: 'without', ...changing(monitor, change) };
    const goals = [speedAtLeast(AS_FAST)];
    await group.add(
      compare({ operations: OPERATIONS, goals, what: withAll, ours: changing(loaded, change), baseline: plain }),
    );
  }
}

/** A BAR with memory is shown and hidden, among others. */
async function toggles(group: Group): Promise<void> {
  for (const count of [10, 200]) {
    const [plain, loaded] = [new Monitor(), new Monitor().load()].map((monitor) => {
      const bars = Array.from({ length: count }, (_, i) => {
        const { control, region } = monitor.manager.deviceMapper.newRegion(SLOT, `bar ${i}`);
        region.map(0, monitor.fd, i * SLOT, SLOT, true);
        control.mapToGuest(2 * WINDOW_GPA + 2 * i * SLOT);
        return region.region;
      });
      const run = () => {
        for (let i = 0; i < OPERATIONS; i++) bars[(i >> 1) % count]!.setFlags({ enabled: i % 2 === 1 });
      };
      return { run, close: () => monitor.close() };
    });
    const what = `a BAR of 2 MiB of memory is shown or hidden, of ${count}, with a recorder, leases and a window`;
    group.doing(what);
    const other = { what: 'without', run: plain!.run };
    const goals = [speedAtLeast(AS_FAST)];
    await group.add(compare({ what, operations: OPERATIONS, goals, ours: { run: loaded!.run }, baseline: other }));
    for (const each of [plain, loaded]) each!.close();
  }
}

const side = SIDES.find((name) => name === process.argv[2]);
if (side !== undefined) {
  console.log(JSON.stringify(firstFlips(side)));
  process.exit();
}
await runGroup(async (group) => {
  firsts(group);
  const [monitor, bare] = [new Monitor(), new Monitor()];
  await flips(group, monitor, bare);
  const loaded = new Monitor().load();
  await changes(group, [monitor, loaded, bare]);
  for (const each of [monitor, loaded, bare]) each.close();
  await toggles(group);
});
