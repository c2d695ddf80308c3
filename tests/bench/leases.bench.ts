// Leases and windows: what one costs, and what those that are there cost every change elsewhere. Plans are made, and
// handed to an executor that does nothing.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { artefact } from '../../ts/core/artefact.ts';
import { type GuestMemory, type Lease, MemoryMap, type Region, SharedMemory, type VaSpace } from '../../ts/index.ts';
import { type Group, runGroup } from './support/group.ts';
import { atMost, compare, type Side, speedAtLeast } from './support/measure.ts';

const MIB = 2 ** 20;
const SLOT = 2 * MIB;
const WINDOW_GPA = 2 ** 32;
const HALF_MICROSECOND = 500;
const AS_FAST = 1 / 1.2;

const idle = { execute: (_core: unknown, _first: number, count: number) => count, failure: undefined };

/** RAM of 256 MiB and, from 4 GiB on, a DAX window with `mappings` of 2 MiB. */
class Machine {
  readonly map = new MemoryMap();
  readonly va: VaSpace;
  readonly dax: Region;
  readonly #ram = SharedMemory.create(256 * MIB);
  readonly #file = SharedMemory.create(2 ** 40);
  readonly #root = this.map.createRegion({ name: 'root', kind: 'container', size: 2 ** 52 });
  readonly #leases: Lease[] = [];

  constructor(mappings: number) {
    const { map } = this;
    const size = 256 * MIB;
    const ram = map.createRegion({ name: 'ram', kind: 'ram', size });
    ram.map({ object: this.#ram, length: size });
    ram.place(this.#root);
    this.va = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root: this.#root }), { size: 2 ** 40 });
    // Only RAM is there really.
    map.context.runner.connect(this.va.id, idle);
    this.dax = map.createRegion({ name: 'dax', kind: 'device', size: Math.max(1, mappings) * SLOT });
    map.transaction(() => {
      for (let slot = 0; slot < mappings; slot++) this.show(slot, (slot * 7919) % 500_000);
    });
    this.place();
  }

  show(slot: number, fileSlot: number): void {
    this.dax.map({ offset: slot * SLOT, object: this.#file, objectOffset: fileSlot * SLOT, length: SLOT });
  }

  place(): void {
    this.dax.place(this.#root, { offset: WINDOW_GPA });
  }

  lock(gpa: number, length: number): Lease {
    return this.va.memory.lock({ gpa, length }, 'write', { holder: 'disk' });
  }

  /** Holds `count` leases in RAM, of which each touches the next. */
  hold(count: number): this {
    for (let i = 0; i < count; i++) this.#leases.push(this.lock(4096 * i, 4097));
    return this;
  }

  openWindow(): this {
    for (let i = 0; i < 100_000; i++) this.va.memory.readU32(i * 4);
    return this;
  }

  close(): void {
    for (const lease of this.#leases) lease.release();
    this.map.close();
    this.#ram.close();
    this.#file.close();
  }
}

/** Memory is locked and released again, page by page. */
function leasing(machine: Machine, operations: number): Side {
  return {
    run: () => {
      for (let i = 0; i < operations; i++) machine.lock(i * 8192, 4096).release();
    },
  };
}

/** Leases, one after the other, of `places` pieces in turn. It stands alone: a worker runs its text, too. */
function leaseAll(memory: GuestMemory, operations: number, places: number, isViewed: boolean): void {
  for (let i = 0; i < operations; i++) {
    const lease = memory.lock({ gpa: (i % places) * 8192, length: 4096 }, 'write', { holder: 'disk' });
    if (isViewed) void lease.view;
    lease.release();
  }
}

/** A worker that leases when it is told to: as a device's, it has no guest memory of another kind. */
class LeasingWorker {
  static readonly #BODY = `
    const { parentPort, workerData: { module, token } } = require('node:worker_threads');
    import(module).then(({ WorkerGuestMemory }) => {
      const memory = WorkerGuestMemory.fromToken(token);
      parentPort.on('message', (given) => parentPort.postMessage((${leaseAll})(memory, ...given)));
    });`;
  readonly #worker: Worker;

  constructor(token: bigint) {
    const workerData = { module: artefact('index.js').href, token };
    this.#worker = new Worker(LeasingWorker.#BODY, { eval: true, workerData });
  }

  async leaseAll(operations: number, places: number, isViewed: boolean): Promise<void> {
    this.#worker.postMessage([operations, places, isViewed]);
    await once(this.#worker, 'message');
  }

  end(): Promise<number> {
    return this.#worker.terminate();
  }
}

/** Leases of workers, with and without a view, beside those of the map's own thread. */
async function elsewhere(group: Group): Promise<void> {
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'ram', kind: 'ram', size: 16 * MIB });
  root.map({ object: SharedMemory.create(16 * MIB), length: 16 * MIB });
  const va = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }));
  const worker = new LeasingWorker(va.token);
  const operations = 10_000;
  const MANY = 1000;
  for (const [name, isViewed] of [
    ['lease and release', false],
    ['lease, view and release', true],
  ] as const) {
    const what = `${name}, in a worker`;
    group.doing(what);
    const goals = [atMost(300)];
    const ours = { run: () => worker.leaseAll(operations, MANY, isViewed) };
    const baseline = { what: "the map's own thread", run: () => leaseAll(va.memory, operations, MANY, isViewed) };
    await group.add(compare({ what, operations, goals, ours, baseline }));
  }
  for (const [where, holding] of [
    ["in the map's own thread", (places: number) => leaseAll(va.memory, operations, places, true)],
    ['in a worker', (places: number) => worker.leaseAll(operations, places, true)],
  ] as const) {
    const what = `lease, view and release of 16 pieces again and again, ${where}`;
    group.doing(what);
    const baseline = { what: 'of others each time', run: () => holding(MANY) };
    await group.add(compare({ what, operations, goals: [atMost(1000)], ours: { run: () => holding(16) }, baseline }));
  }
  await worker.end();
  map.close();
}

async function leases(group: Group): Promise<void> {
  const plain = new Machine(0);
  const operations = 1000;
  for (const [name, machine] of [
    ['4096 pieces behind it', new Machine(4096)],
    ['a window open', new Machine(0).openWindow()],
    ['50000 other leases', new Machine(0).hold(50_000)],
  ] as const) {
    const what = `lease and release, ${name}`;
    group.doing(what);
    const goals = [atMost(HALF_MICROSECOND), speedAtLeast(AS_FAST)];
    const other = { what: 'nothing else there', ...leasing(plain, operations) };
    await group.add(compare({ what, operations, goals, ours: leasing(machine, operations), baseline: other }));
    machine.close();
  }
  plain.close();
}

/** One mapping after the other is replaced, far away from what is leased. */
function changing(machine: Machine, operations: number): Side {
  let turn = 0;
  return {
    run: () => {
      turn++;
      for (let i = 0; i < operations; i++) machine.show(i % 1000, (i * 7919 + turn) % 500_000);
    },
  };
}

async function changes(group: Group): Promise<void> {
  const plain = new Machine(1000);
  const operations = 1000;
  for (const [name, machine] of [
    ['a window open', new Machine(1000).openWindow()],
    ['1 lease elsewhere', new Machine(1000).hold(1)],
    ['1000 leases elsewhere', new Machine(1000).hold(1000)],
    ['50000 leases elsewhere and a window open', new Machine(1000).openWindow().hold(50_000)],
  ] as const) {
    const what = `a mapping is replaced, ${name}`;
    group.doing(what);
    const other = { what: 'nothing leased, no window', ...changing(plain, operations) };
    const goals = [speedAtLeast(AS_FAST)];
    await group.add(compare({ what, operations, goals, ours: changing(machine, operations), baseline: other }));
    machine.close();
  }
  plain.close();
}

async function placing(group: Group): Promise<void> {
  const plain = new Machine(100_000);
  const placed = (machine: Machine): Side => ({ prepare: () => machine.dax.remove(), run: () => machine.place() });
  for (const [name, machine] of [
    ['1 lease elsewhere and a window open', new Machine(100_000).openWindow().hold(1)],
  ] as const) {
    const what = `100000 mappings are placed, ${name}`;
    group.doing(what);
    const other = { what: 'nothing leased, no window', ...placed(plain) };
    const goals = [speedAtLeast(AS_FAST)];
    await group.add(compare({ what, operations: 1, leastPairs: 7, goals, ours: placed(machine), baseline: other }));
    machine.close();
  }
  plain.close();
}

await runGroup(async (group) => {
  await leases(group);
  await elsewhere(group);
  await changes(group);
  await placing(group);
});
