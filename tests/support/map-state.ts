// Everything that a live memory map holds, as lines: what must be the same after what has not happened.

import { readFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { PlanRunner } from '../../ts/apply/runner.ts';
import { Core } from '../../ts/core/core.ts';
import type { MembackingError } from '../../ts/core/errors.ts';
import { Names } from '../../ts/core/names.ts';
import {
  type AddressSpace,
  type Attachment,
  type KvmPartition,
  MemoryMap,
  type MemorySlot,
  type Partition,
  type Region,
  SharedMemory,
  type VaSpace,
} from '../../ts/index.ts';
import type { Context } from '../../ts/map/context.ts';
import { parseTrace } from '../../ts/trace/read.ts';
import { Replayer } from '../../ts/trace/replay.ts';
import { footprint, mapsOf, PAGE } from './shim-plan.ts';

/** State of the core and the handles, as lines. */
function stateOf({ core, names, regions, sinks }: Context): string[] {
  const line = (...items: unknown[]) =>
    items.map((item) => JSON.stringify(item, (_, value) => (typeof value === 'bigint' ? `${value}` : value))).join(' ');
  return [
    ...[...regions].flatMap(([id, { name, closed }]) => [
      line('region', name, closed, core.region(id)),
      ...core.children(id).map((row) => line('  child', row)),
      ...core.mappings(id).map((row) => line('  mapping', row)),
    ]),
    ...[...names.spaces.keys()].flatMap((id) => [
      line('space', id),
      ...core.flat(id).map((row) => line('  flat', row)),
    ]),
    ...[...sinks].flatMap(({ id, name, closed }) => [
      line('sink', id, name, closed),
      ...core.protections(id).map((row) => line('  protection', row)),
      ...core.withheld(id).map((row) => line('  withheld', row)),
      ...core.sinkRows(id).map((row) => line('  row', row)),
    ]),
    line('names', ...Object.values(names).map((table) => (table instanceof Map ? [...table] : []))),
  ];
}

/** A hypervisor that logs what it is told as text, and refuses one call when told to. */
export class LoggingPartition implements Partition {
  readonly name: string;
  readonly slotLimit: number;
  readonly slots = new Map<number, MemorySlot>();
  /** Calls so far, in order. */
  readonly calls: string[] = [];
  /** Slots given and taken until one call throws. */
  failsAfter = Number.POSITIVE_INFINITY;

  constructor(name = 'recorder', slotLimit = 8) {
    this.name = name;
    this.slotLimit = slotLimit;
  }

  addSlot(slot: MemorySlot): void {
    this.#call(`add ${slot.slot}: ${slot.gpa.toString(16)} + ${slot.length.toString(16)} ${slot.access}`);
    if (this.slots.has(slot.slot)) throw new Error(`slot ${slot.slot} is in use`);
    this.slots.set(slot.slot, slot);
  }

  deleteSlot({ slot }: MemorySlot): void {
    this.#call(`delete ${slot}`);
    if (!this.slots.delete(slot)) throw new Error(`slot ${slot} is empty`);
  }

  pause(): void {
    this.calls.push('pause');
  }

  resume(): void {
    this.calls.push('resume');
  }

  #call(what: string): void {
    if (this.failsAfter-- === 0) throw new Error(`the hypervisor refuses to ${what}`);
    this.calls.push(what);
  }
}

/** A small machine on real memory: an address space of which the lower half is RAM, all mapped to one object that is as
 *  large as the address space. */
export class Machine {
  readonly before = footprint();
  readonly text: string[] = [];
  readonly map: MemoryMap;
  readonly root: Region;
  readonly ram: Region;
  readonly space: AddressSpace;
  readonly va: VaSpace;
  readonly memory: SharedMemory;
  readonly context: Context;
  /** The bytes of every plan; the one that made the root had none. */
  readonly plans = [''];

  constructor({ pages = 64, debug = true } = {}) {
    const map = new MemoryMap({ record: { write: (text) => this.text.push(text) }, debug });
    this.map = map;
    this.memory = SharedMemory.create(pages * PAGE, { name: 'memory' });
    this.root = map.createRegion({ name: 'system', kind: 'container', size: pages * PAGE });
    this.context = map.context;
    this.context.runner.observe((core, { commands }) => void this.plans.push(hexOf(core.planBytes(commands))));
    this.ram = map.createRegion({ name: 'ram', kind: 'ram', size: (pages / 2) * PAGE }).place(this.root);
    this.space = map.createAddressSpace({ name: 'guest', root: this.root });
    this.va = map.attachVaSpace(this.space, { name: 'va', size: pages * PAGE });
    this.ram.map({ object: this.memory, length: (pages / 2) * PAGE });
  }

  /** `slotLimit`: the fewest that do for what is shown keep slots from staying cut. */
  attach(partition: KvmPartition | Partition, options: { slotLimit?: number } = {}): Attachment {
    return this.map.attachPartition(partition, { space: this.space, va: this.va, ...options });
  }

  /** Core, handles, names; real mappings; the recording. */
  state(): string[] {
    return [...stateOf(this.context), ...mapsOf(this.va.base, BigInt(this.va.size)), ...this.text];
  }

  /** Every page's first word. */
  contents(): (number | string)[] {
    return Array.from({ length: Number(this.va.size) / PAGE }, (_, page) => wordAt(this.va, page * PAGE));
  }

  /** Writes its number in each page of RAM, from page `first` on. */
  fill(first = 0): void {
    for (let page = first; page < Number(this.ram.size) / PAGE; page++) this.va.memory.writeU32(page * PAGE, page);
  }

  /** The plans of the recording, replayed through another core alone. */
  replay(): string[] {
    const core = new Core({ debug: true });
    const runner = new PlanRunner(core);
    const plans: string[] = [];
    runner.observe((_, { commands }) => void plans.push(hexOf(core.planBytes(commands))));
    const replayer = new Replayer(core, runner, new Names());
    for (const operation of parseTrace(this.text.join('')).operations) replayer.apply(operation);
    return plans;
  }

  /** Closes all, and checks that nothing of it is left. */
  end(t: ExecutionContext): void {
    this.map.close();
    this.memory.close();
    t.deepEqual(footprint(), this.before);
    t.deepEqual(
      mapsOf(this.va.base, BigInt(this.va.size)).filter((line) => line.includes('memfd')),
      [],
    );
  }
}

/** The word at a GPA, or what is wrong with it. */
export function wordAt(va: VaSpace, gpa: number): number | string {
  try {
    return va.memory.readU32(gpa);
  } catch (error) {
    return (error as MembackingError).details.fault as string;
  }
}

/** `code: message` of what is thrown; `nothing` if nothing is. */
export function refusal(body: () => unknown): string {
  try {
    body();
    return 'nothing';
  } catch (error) {
    const { code, message } = error as MembackingError;
    return `${code}: ${message}`;
  }
}

/** Does as `refusal` does, for what a promise is rejected with. */
export async function refusalOf(work: Promise<unknown>): Promise<string> {
  const ended = await work
    .then(() => () => {})
    .catch((error: unknown) => () => {
      throw error;
    });
  return refusal(ended);
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** Number of mappings of this process. */
export function mappingCount(): number {
  return readFileSync('/proc/self/maps', 'utf8').split('\n').length;
}
