// The core through the public API: plans are made, and handed to an executor that does nothing. Each change is made
// once more in a map with a recorder, leases and a window.

import { MemoryMap, type Region, SharedMemory } from '../../ts/index.ts';
import { Random } from '../support/random.ts';
import { baseline } from './support/baseline.ts';
import { type Group, runGroup } from './support/group.ts';
import { atMost, compare, type Side, speedAtLeast } from './support/measure.ts';
import { OPENVMM_MAPPINGS, OPENVMM_OVERLAY, OPENVMM_REGIONS, QEMU_COMMIT } from './support/peers.ts';
import type { Point, Row } from './support/rows.ts';

const PAGE = 4096;
const SLOT = 2 * 1024 * 1024;
const FILE_SLOTS = 1_000_003;
/** Operations in a turn. */
const TURN = 1000;

const idle = { execute: (_core: unknown, _first: number, count: number) => count, failure: undefined };

/** GPA of RAM that nothing changes, and its bytes. */
const [STILL_GPA, STILL_BYTES] = [2 ** 40, 64 * 2 ** 20];

/** A map whose VA space gets its plans and nobody carries them out: but that of RAM which stays as it is. */
class Machine {
  readonly map = new MemoryMap();
  readonly root = this.map.createRegion({ name: 'root', kind: 'container', size: 2 ** 52 });
  readonly file = SharedMemory.create(FILE_SLOTS * SLOT);

  /** `isLoaded`: what is changed is recorded, and elsewhere there are leases and a window. */
  constructor(isLoaded: boolean) {
    const { map, root } = this;
    const still = map.createRegion({ name: 'still', kind: 'ram', size: STILL_BYTES });
    still.map({ object: SharedMemory.create(STILL_BYTES) });
    still.place(root, { offset: STILL_GPA });
    const { id, memory } = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }), { size: 2 ** 41 });
    map.context.runner.connect(id, idle);
    if (!isLoaded) return;
    for (let i = 0; i < 1000; i++) {
      memory.lock({ gpa: STILL_GPA + i * PAGE, length: 64 }, 'write', { holder: 'disk' });
    }
    for (let i = 0; i < 10_000; i++) memory.readU32(STILL_GPA + i * 4);
    map.context.record({ write: () => {} });
  }

  get bytesInUse(): number {
    return this.map.context.core.heapInUse();
  }
}

/** Offset in the file of what a place shows. */
function objectOffsetOf(place: number): number {
  return ((place * 7919) % FILE_SLOTS) * SLOT;
}

/** A DAX window with `live` mappings of 2 MiB in four times as many places. */
class Window implements Side {
  readonly #random = new Random(7);
  readonly #machine: Machine;
  readonly #window: Region;
  /** Places, the first `live` of which are mapped. */
  readonly #places: number[];
  readonly #live: number;
  #changes: { unmap: number; map: number; objectOffset: number }[] = [];
  readonly bytesPerMapping: number;

  constructor(live: number, isLoaded = false) {
    this.#machine = new Machine(isLoaded);
    const { map, root } = this.#machine;
    this.#live = live;
    this.#places = this.#random.shuffled(Array.from({ length: live * 4 }, (_, place) => place));
    this.#window = map.createRegion({ name: 'dax', kind: 'device', size: live * 4 * SLOT });
    this.#window.place(root, { offset: 2 ** 32 });
    this.#map(0, 0);
    this.#window.unmap(0, SLOT);
    const before = this.#machine.bytesInUse;
    for (const place of this.#places.slice(0, live)) this.#map(place * SLOT, objectOffsetOf(place));
    this.bytesPerMapping = (this.#machine.bytesInUse - before) / live;
  }

  #map(offset: number, objectOffset: number): void {
    this.#window.map({ offset, object: this.#machine.file, objectOffset, length: SLOT, writable: true });
  }

  prepare(): void {
    const [random, places, live] = [this.#random, this.#places, this.#live];
    this.#changes = Array.from({ length: TURN / 2 }, () => {
      const [from, to] = [random.below(live), live + random.below(places.length - live)];
      const [before, next] = [places[from]!, places[to]!];
      [places[from], places[to]] = [next, before];
      return { unmap: before * SLOT, map: next * SLOT, objectOffset: objectOffsetOf(next) };
    });
  }

  run(): void {
    for (const { unmap, map, objectOffset } of this.#changes) {
      this.#window.unmap(unmap, SLOT);
      this.#map(map, objectOffset);
    }
  }

  /** All of a turn in one transaction. */
  readonly batch: Side = {
    prepare: () => this.prepare(),
    run: () => this.#machine.map.transaction(() => this.run()),
  };
}

/** std::map of as many keys. */
function tree(live: number): Side & { what: string } {
  const model = new Random(7);
  const places = model.shuffled(Array.from({ length: live * 4 }, (_, place) => place));
  let isFilled = false;
  let keys = new Float64Array();
  return {
    what: 'std::map, erase and insert',
    prepare: () => {
      if (!isFilled) baseline.treeFill(Float64Array.from(places.slice(0, live)));
      isFilled = true;
      const changed: number[] = [];
      for (let i = 0; i < TURN / 2; i++) {
        const [from, to] = [model.below(live), live + model.below(places.length - live)];
        changed.push(places[from]!, places[to]!);
        [places[from], places[to]] = [places[to]!, places[from]!];
      }
      keys = Float64Array.from(changed);
    },
    run: () => baseline.treeChange(keys),
  };
}

/** `count` small regions side by side, and RAM with a ROM over it. */
class Regions {
  readonly #random = new Random(3);
  readonly bytesPerRegion: number;
  readonly #regions: Region[];
  readonly #rom: Region;
  #toggled: Region[] = [];

  constructor(count: number, { hasMemory = false, isLoaded = false } = {}) {
    const machine = new Machine(isLoaded);
    const { map, root, file } = machine;
    const ram = map.createRegion({ name: 'ram', kind: 'ram', size: 2 ** 30 });
    ram.map({ object: file, length: 2 ** 30 });
    ram.place(root, { offset: 2 ** 39 });
    this.#rom = map.createRegion({ name: 'rom', kind: 'rom', size: 2 ** 20 });
    this.#rom.map({ object: file, objectOffset: 2 ** 31, length: 2 ** 20 });
    this.#rom.place(root, { offset: 2 ** 39 + 2 ** 29, priority: 1 });
    const before = machine.bytesInUse;
    this.#regions = map.transaction(() =>
      Array.from({ length: count }, (_, index) => {
        const region = map.createRegion({ name: `bar ${index}`, kind: hasMemory ? 'device' : 'mmio', size: PAGE });
        if (hasMemory) region.map({ object: file, objectOffset: 2 ** 32 + index * PAGE, length: PAGE });
        return region.place(root, { offset: 2 * index * PAGE });
      }),
    );
    this.bytesPerRegion = (machine.bytesInUse - before) / count;
  }

  readonly toggle: Side = {
    prepare: () => {
      this.#toggled = Array.from({ length: TURN / 2 }, () => this.#random.pick(this.#regions));
    },
    run: () => {
      for (const region of this.#toggled) {
        region.setFlags({ enabled: false });
        region.setFlags({ enabled: true });
      }
    },
  };

  readonly overlay: Side = {
    run: () => {
      for (let i = 0; i < TURN / 2; i++) {
        this.#rom.setFlags({ enabled: false });
        this.#rom.setFlags({ enabled: true });
      }
    },
  };
}

const MICROSECOND = 1000;
const MOST_GROWTH = speedAtLeast(0.5);

/** Row of a change of a map that is loaded, beside the same change of one that is not. */
function loadedBeside(what: string, loaded: Side, plain: Side): Promise<Row> {
  const named = `${what}, with a recorder, 1000 leases and a window`;
  return compare({ what: named, operations: TURN, ours: loaded, baseline: side('without', plain) });
}

async function mappings(group: Group): Promise<void> {
  const sizes = [1000, 4096, 32_768, 100_000];
  const windows = new Map<number, Window>();
  const [points, treePoints]: [Point[], Point[]] = [[], []];
  for (const size of sizes) {
    group.doing(`DAX mapping add and remove, ${size} live`);
    const window = new Window(size);
    windows.set(size, window);
    const goals = size === 100_000 ? [atMost(MICROSECOND)] : [];
    const what = `DAX mapping add or remove, ${size} live`;
    const row = await group.add(compare({ what, ours: window, baseline: tree(size), operations: TURN, goals }));
    await group.add(loadedBeside(what, new Window(size, true), window));
    points.push({ size, ns: row.ours });
    treePoints.push({ size, ns: row.baseline!.value });
  }
  const [small, large] = [windows.get(1000)!, windows.get(100_000)!];
  group.doing('DAX growth');
  const growth = { what: 'DAX, 100000 live against 1000', operations: TURN, goals: [MOST_GROWTH] };
  await group.add(compare({ ...growth, ours: large, baseline: side('1000 live', small) }));
  group.doing('DAX in batches');
  for (const [size, window] of [[1000, small] as const, [100_000, large] as const]) {
    const what = `DAX, 1000 adds and removes in one transaction, ${size} live`;
    const batch = { what, operations: TURN, goals: [atMost(400)] };
    await group.add(compare({ ...batch, ours: window.batch, baseline: side('one by one', window) }));
  }
  await group.add(bytes('memory of the core per mapping', large.bytesPerMapping, 100));
  group.plots.push({
    name: 'dax',
    title: 'Adding or removing one DAX mapping',
    sizeTitle: 'live mappings',
    curves: [{ name: 'membacking', points }, { name: 'std::map alone (native)', points: treePoints }, OPENVMM_MAPPINGS],
  });
}

async function regions(group: Group): Promise<void> {
  const sizes = [10, 1000, 10_000, 50_000];
  const machines = new Map<number, Regions>();
  const [toggles, overlays]: [Point[], Point[]] = [[], []];
  for (const size of sizes) {
    group.doing(`region toggle among ${size}`);
    const machine = new Regions(size);
    machines.set(size, machine);
    const few = size === 10 ? EMPTY_CALLS : side('10 regions', machines.get(10)!.toggle);
    const fewOverlay = size === 10 ? EMPTY_CALLS : side('10 others', machines.get(10)!.overlay);
    const goals = size === 10 ? [atMost(MICROSECOND)] : [atMost(MICROSECOND), MOST_GROWTH];
    const toggle = { what: `toggle one of ${size} regions`, ours: machine.toggle, baseline: few };
    toggles.push({ size, ns: (await group.add(compare({ ...toggle, operations: TURN, goals }))).ours });
    const overlay = { what: `toggle a ROM over RAM, ${size} others`, ours: machine.overlay, baseline: fewOverlay };
    overlays.push({ size, ns: (await group.add(compare({ ...overlay, operations: TURN, goals }))).ours });
    const withMemory = new Regions(size, { hasMemory: true });
    const memory = { what: `toggle one of ${size} regions of memory`, ours: withMemory.toggle };
    await group.add(compare({ ...memory, operations: TURN, goals, baseline: side('without memory', machine.toggle) }));
    const loaded = new Regions(size, { hasMemory: true, isLoaded: true });
    await group.add(loadedBeside(memory.what, loaded.toggle, withMemory.toggle));
    await group.add(loadedBeside(overlay.what, loaded.overlay, withMemory.overlay));
  }
  await group.add(bytes('memory of the core per region', machines.get(50_000)!.bytesPerRegion, 200));
  const axis = { sizeTitle: 'regions' };
  group.plots.push(
    {
      ...{ name: 'toggle', title: 'Showing or hiding one region', ...axis },
      curves: [{ name: 'membacking', points: toggles }, OPENVMM_REGIONS, QEMU_COMMIT],
    },
    {
      ...{ name: 'overlay', title: 'Showing or hiding a ROM over RAM', ...axis },
      curves: [{ name: 'membacking', points: overlays }, OPENVMM_OVERLAY, QEMU_COMMIT],
    },
  );
}

function side(what: string, from: Side): Side & { what: string } {
  return { what, prepare: () => from.prepare?.(), run: () => from.run() };
}

const EMPTY_CALLS = {
  what: 'an empty Node-API call',
  run: () => {
    for (let i = 0; i < TURN; i++) baseline.empty();
  },
};

async function bytes(what: string, ours: number, most: number) {
  return { what, unit: 'bytes' as const, ours, goals: [atMost(most)] };
}

await runGroup(async (group) => {
  await mappings(group);
  await regions(group);
});
