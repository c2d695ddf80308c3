// A guest as its devices and trust levels use it: through the manager, with real memory, against the bare system calls
// on memory that looks the same.

import {
  type DeviceFile,
  GuestMemoryBuilder,
  type GuestMemoryManager,
  type MappedRegion,
  SharedMemory,
  type VtlAccess,
} from '../../ts/index.ts';
import { Random } from '../support/random.ts';
import { baseline, type Pieces } from './support/baseline.ts';
import { type Group, runGroup } from './support/group.ts';
import { atMost, compare, type Side, speedAtLeast } from './support/measure.ts';

const PAGE = 4096;
const GIB = 2 ** 30;
const MICROSECOND = 1000;
/** PROT_* of what a trust level is left. */
const PROTECTIONS: Readonly<Record<VtlAccess, bigint>> = { none: 0n, r: 1n, rx: 1n, rw: 3n, rwx: 3n };

function build(bytes: number): GuestMemoryManager {
  return new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: bytes }] }).build();
}

// ---- Protections of a trust level ------------------------------------------------------------------

interface Protection {
  readonly page: number;
  readonly pages?: number;
  readonly access: VtlAccess;
}

/** A guest whose VTL0 has a view of its own, and a bare mapping of the same size. */
class Levels {
  readonly manager = build(GIB);
  readonly #bare = build(GIB);

  constructor() {
    this.manager.setVtlProtection(0, { gpa: GIB - PAGE, length: PAGE }, 'r');
  }

  close(): void {
    this.manager.close();
    this.#bare.close();
  }

  set(protections: readonly Protection[]): void {
    for (const { page, pages = 1, access } of protections) {
      this.manager.setVtlProtection(0, { gpa: page * PAGE, length: pages * PAGE }, access);
    }
  }

  pieces(protections: readonly Protection[]): Pieces {
    const { base } = this.#bare.va;
    return BigUint64Array.from(
      protections.flatMap(({ page, pages = 1, access }) => [
        base + BigInt(page * PAGE),
        BigInt(pages * PAGE),
        PROTECTIONS[access],
      ]),
    );
  }
}

/** Neighbours that are never alike, and one mapping for the system. */
function inTurns(count: number): Protection[] {
  return Array.from({ length: count }, (_, page) => ({ page, access: page % 2 === 0 ? 'r' : 'rx' }));
}

/** Both sides of a comparison: each makes the same protections, after all of them were taken back. */
function sides(levels: Levels, protections: readonly Protection[], run: (body: () => void) => void): [Side, Side] {
  const all = levels.pieces(protections);
  const whole: Protection = { page: 0, pages: protections.length, access: 'rwx' };
  const ours: Side = {
    prepare: () => levels.set([whole]),
    run: () => run(() => levels.set(protections)),
  };
  const bare: Side = {
    prepare: () => baseline.protect(levels.pieces([whole])),
    run: () => baseline.protect(all),
  };
  return [ours, bare];
}

async function protections(group: Group): Promise<void> {
  const levels = new Levels();
  const { map } = levels.manager;
  const goals = [atMost(5 * MICROSECOND)];
  for (const count of [1000, 15_000, 100_000]) {
    const what = `VTL protection of a page, ${count} in one transaction`;
    group.doing(what);
    const [ours, bare] = sides(levels, inTurns(count), (body) => map.transaction(body));
    const operations = count;
    await group.add(
      compare({ what, operations, leastPairs: 3, goals, ours, baseline: { what: 'bare mprotect', ...bare } }),
    );
  }
  const live = 30_000;
  const random = new Random(13);
  levels.set([{ page: 0, pages: 100_000, access: 'rwx' }]);
  map.transaction(() => levels.set(inTurns(live)));
  let next: Protection[] = [];
  const prepare = () => {
    next = Array.from({ length: 100 }, () => random.below(live)).flatMap((page) => [
      { page, access: 'none' },
      { page, access: page % 2 === 0 ? 'r' : 'rx' },
    ]);
  };
  const what = `VTL protection of a page, one by one, ${live} there`;
  group.doing(what);
  await group.add(
    compare({
      ...{ what, operations: 200, goals },
      ours: { prepare, run: () => levels.set(next) },
      baseline: { what: 'bare mprotect', prepare, run: () => baseline.protect(levels.pieces(next)) },
    }),
  );
  levels.close();
}

// ---- Device memory ---------------------------------------------------------------------------------

const SLOT = 2 * 2 ** 20;
const WINDOW_SLOTS = 4096;
const FILE_SLOTS = 128;
const WINDOW_GPA = 4 * GIB;

/** A DAX window of 8 GiB, all of it mapped from one file. */
class Window {
  readonly manager = build(GIB);
  readonly #file = SharedMemory.create(FILE_SLOTS * SLOT);
  readonly #region: MappedRegion;
  readonly #open: DeviceFile;

  constructor() {
    const { control, region } = this.manager.deviceMapper.newRegion(WINDOW_SLOTS * SLOT, 'dax');
    this.#region = region;
    this.#open = this.manager.deviceMapper.openFile(this.fd, { writable: true });
    this.manager.map.transaction(() => {
      for (let slot = 0; slot < WINDOW_SLOTS; slot++) this.mapFd(slot, (slot * 7) % FILE_SLOTS);
    });
    control.mapToGuest(WINDOW_GPA);
  }

  get fd(): number {
    return this.#file.fd;
  }

  close(): void {
    this.manager.close();
    this.#file.close();
  }

  mapFd(slot: number, fileSlot: number): void {
    this.#region.map(slot * SLOT, this.fd, fileSlot * SLOT, SLOT, true);
  }

  mapFile(slot: number, fileSlot: number): void {
    this.#region.map(slot * SLOT, this.#open, fileSlot * SLOT, SLOT, true);
  }

  mapObject(slot: number, fileSlot: number): void {
    // All in one literal: copies of objects that hold fractions, as V8 sees large offsets, cost more than the mapping.
    const [offset, objectOffset] = [slot * SLOT, fileSlot * SLOT];
    this.#region.region.map({ offset, object: this.#file, objectOffset, length: SLOT, writable: true });
  }

  hva(slot: number): bigint {
    return this.manager.va.base + BigInt(WINDOW_GPA + slot * SLOT);
  }
}

async function deviceMemory(group: Group): Promise<void> {
  const [window, bare] = [new Window(), new Window()];
  const random = new Random(17);
  const operations = 256;
  let next: (readonly [slot: number, fileSlot: number])[] = [];
  let pieces: Pieces;
  const prepare = () => {
    const start = random.below(WINDOW_SLOTS);
    // 1201 and 4096 have no common divisor.
    next = Array.from({ length: operations }, (_, i) => [(start + i * 1201) % WINDOW_SLOTS, random.below(FILE_SLOTS)]);
    pieces = BigUint64Array.from(next.flatMap(([slot, from]) => [bare.hva(slot), BigInt(SLOT), BigInt(from * SLOT)]));
  };
  const ways: readonly [name: string, map: (slot: number, fileSlot: number) => void][] = [
    ['Region.map', (slot, fileSlot) => window.mapObject(slot, fileSlot)],
    ['deviceMapper, by descriptor', (slot, fileSlot) => window.mapFd(slot, fileSlot)],
    ['deviceMapper, by open file', (slot, fileSlot) => window.mapFile(slot, fileSlot)],
  ];
  for (const [name, map] of ways) {
    const what = `DAX remap of 2 MiB over another, ${name}`;
    group.doing(what);
    await group.add(
      compare({
        ...{ what, operations, goals: [speedAtLeast(0.6)] },
        ours: {
          prepare,
          run: () => {
            for (const [slot, fileSlot] of next) map(slot, fileSlot);
          },
        },
        baseline: { what: 'bare mmap', prepare, run: () => baseline.remap(bare.fd, pieces) },
      }),
    );
  }
  for (const each of [window, bare]) each.close();
}

await runGroup(async (group) => {
  await protections(group);
  await deviceMemory(group);
});
