// Memory that a map takes: the core's, and JavaScript's beside it; and what the core keeps after a large change.

import { readFileSync } from 'node:fs';
import { nativeOf } from '../../ts/apply/native-executor.ts';
import type { Core } from '../../ts/core/core.ts';
import { MemoryMap, type Region, SharedMemory } from '../../ts/index.ts';
import { type Group, runGroup } from './support/group.ts';
import { atMost, speedAtLeast } from './support/measure.ts';

const PAGE = 4096;
const SLOT = 2 * 2 ** 20;
const FILE_SLOTS = 1_000_003;

const idle = { execute: (_core: unknown, _first: number, count: number) => count, failure: undefined };

/** Bytes of the core's memory that the machine has for it. */
function residentBytes({ memory }: Core): number {
  const size = new RegExp(`^\\w+-\\w+ rw-p .*\\nSize: +${memory.buffer.byteLength / 1024} kB$`, 'm');
  const own = readFileSync('/proc/self/smaps', 'utf8').split(size)[1]!;
  return Number(/^Rss: +(\d+) kB$/m.exec(own)![1]) * 1024;
}

/** A map whose VA space gets its plans and nobody carries them out, and a region that is placed in it. */
class Machine {
  readonly map = new MemoryMap();
  readonly #root = this.map.createRegion({ name: 'root', kind: 'container', size: 2 ** 52 });
  readonly #file = SharedMemory.create(FILE_SLOTS * SLOT);

  constructor() {
    const va = this.map.attachVaSpace(this.map.createAddressSpace({ name: 'guest', root: this.#root }), {
      size: 2 ** 42,
    });
    this.map.context.runner.connect(va.id, idle);
  }

  window(mappings: number): Region {
    const size = mappings * SLOT;
    return this.map.createRegion({ name: 'dax', kind: 'device', size }).place(this.#root, { offset: 2 ** 32 });
  }

  fill(window: Region, mappings: number): void {
    this.map.transaction(() => {
      for (let slot = 0; slot < mappings; slot++) {
        const objectOffset = ((slot * 7919) % FILE_SLOTS) * SLOT;
        window.map({ offset: slot * SLOT, object: this.#file, objectOffset, length: SLOT });
      }
    });
  }

  region(index: number): Region {
    const region = this.map.createRegion({ name: `device ${index}`, kind: 'mmio', size: PAGE });
    return region.place(this.#root, { offset: index * PAGE });
  }

  close(): void {
    this.map.close();
    this.#file.close();
  }
}

function kept(group: Group, mappings: number): void {
  const what = `memory that the core keeps, ${mappings} mappings in one transaction`;
  group.doing(what);
  const machine = new Machine();
  const { context } = machine.map;
  machine.fill(machine.window(mappings), mappings);
  nativeOf(context).giveBack(context.core);
  const [ours, used] = [residentBytes(context.core), context.core.heapInUse()];
  group.rows.push({
    ...{ what, unit: 'bytes', ours, goals: [speedAtLeast(1 / 3)] },
    baseline: { what: 'what is in use', value: used },
    speed: { median: used / ours, p10: used / ours, p90: used / ours, pairs: 1 },
  });
  machine.close();
}

function perRegion(group: Group): void {
  const count = 50_000;
  group.doing(`memory of ${count} regions`);
  const machine = new Machine();
  const { core } = machine.map.context;
  const heap = () => {
    globalThis.gc!();
    return process.memoryUsage().heapUsed;
  };
  machine.region(count);
  const [heapBefore, coreBefore] = [heap(), core.heapInUse()];
  const regions = Array.from({ length: count }, (_, index) => machine.region(index));
  const each = (bytes: number) => bytes / regions.length;
  const [inHeap, inCore] = [each(heap() - heapBefore), each(core.heapInUse() - coreBefore)];
  group.rows.push(
    { what: 'memory of a region: the core', unit: 'bytes', ours: inCore, goals: [atMost(200)] },
    { what: 'memory of a region: JavaScript', unit: 'bytes', ours: inHeap, goals: [] },
    { what: 'memory of a region: both', unit: 'bytes', ours: inCore + inHeap, goals: [] },
  );
  machine.close();
}

await runGroup(async (group) => {
  perRegion(group);
  for (const mappings of [100_000, 1_000_000]) kept(group, mappings);
});
