// Up to three regions over four pages, in a core with recording sinks and in the model. A world is a number: it can be
// gone to from any other, by the changes that lead there, all in one transaction.

import * as abi from '../../assembly/abi.ts';
import { PlanRunner } from '../../ts/apply/runner.ts';
import { lengthOf } from '../../ts/core/address.ts';
import { Core } from '../../ts/core/core.ts';
import type { MembackingError } from '../../ts/core/errors.ts';
import { accessName } from '../../ts/core/kinds.ts';
import { FailAfter } from './fail-after.ts';
import { Model } from './model.ts';
import { Recorder } from './recorder.ts';

const PAGE = abi.PAGE_SIZE;

/** Place of a region, in pages. */
export interface Place {
  readonly start: number;
  readonly size: number;
  readonly priority: number;
  readonly enabled: boolean;
  readonly readonly: boolean;
  /** Pages of a container at which it has no memory, one bit each. */
  readonly holes: number;
}

/** Places of the regions, by number; undefined: it stands nowhere. They are placed in this order. */
export type Arrangement = readonly (Place | undefined)[];

export interface Inhabitant {
  readonly kind: 'ram' | 'rom' | 'device' | 'mmio' | 'container' | 'alias';
  /** Memory that it maps; `the-first` for that of the first one. An alias maps none: it shows the first one. */
  readonly memory: 'shared' | 'private' | 'none' | 'the-first';
  /** Pages that the memory maps at once. Default 1. */
  readonly pageSize?: number;
  /** Pages at which memory is mapped. A container has a region of RAM at each of its pages. */
  readonly pages: readonly number[];
  /** Whether it has an event at each of its pages, and one that reaches from each into the next. Default false. */
  readonly hasEvents?: boolean;
}

/** Every stretch of `pages` pages, and nowhere. */
export function stretches(pages: number): ({ start: number; size: number } | undefined)[] {
  const all: ({ start: number; size: number } | undefined)[] = [undefined];
  for (let start = 0; start < pages; start++)
    for (let size = 1; start + size <= pages; size++) all.push({ start, size });
  return all;
}

/** Every way in which `count` things can be of higher, equal or lower rank, as ranks from 0 on without gaps. */
export function rankings(count: number): number[][] {
  const all: number[][] = [[]];
  for (let i = 0; i < count; i++)
    all.push(...all.splice(0).flatMap((ranks) => range(count).map((rank) => [...ranks, rank])));
  return all.filter((ranks) => range(Math.max(...ranks) + 1).every((rank) => ranks.includes(rank)));
}

export function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

const KINDS = {
  ram: abi.KIND_RAM,
  rom: abi.KIND_ROM,
  device: abi.KIND_DEVICE,
  mmio: abi.KIND_MMIO,
  container: abi.KIND_CONTAINER,
} as const;

/** Picture of an arrangement: five numbers a page, for the flat view, the VA space, the slots, what may be used of the
 *  VA space, and the events that begin there; 0 for nothing. */
export type Answer = Int32Array;

const ACCESS_CODES = new Map(range(8).map((access) => [accessName(access) as string, access]));

/** Place of a region that stands nowhere, and may be seen all the same: through an alias. */
const NOWHERE: Place = { start: 0, size: 0, priority: 0, enabled: true, readonly: false, holes: 0 };

export class SmallWorld {
  readonly #pages: number;
  readonly #inhabitants: readonly Inhabitant[];
  readonly #core: Core;
  readonly #recorder = new Recorder();
  readonly #failing = new FailAfter(this.#recorder);
  readonly #runner: PlanRunner;
  readonly #space: number;
  readonly #va: number;
  readonly #slots: number;
  readonly #events: number;
  /** The model's events: region, offset and length in bytes, by the core's ids. */
  readonly #eventPlaces: { readonly region: number; readonly offset: number; readonly length: number }[] = [];
  /** The core's ids. The root is region 0. */
  readonly #regions: number[] = [];
  readonly #children: (readonly number[])[] = [];
  readonly #sizes: number[] = [];
  readonly #holes: number[] = [];
  /** Objects by the id of a container's child. */
  readonly #objectOf = new Map<number, number>();
  readonly #objects: (number | undefined)[] = [];
  #now: Arrangement = [];
  #class = 0;

  constructor(pages: number, inhabitants: readonly Inhabitant[], debug = false) {
    this.#pages = pages;
    this.#inhabitants = inhabitants;
    const core = new Core({ debug });
    const runner = new PlanRunner(core);
    this.#core = core;
    this.#runner = runner;
    runner.observe((_, { disturbance }) => {
      this.#recorder.beginPlan();
      this.#class = disturbance;
    });
    core.begin();
    core.createRegion(abi.KIND_CONTAINER, pages * PAGE, 0);
    for (const { kind, memory, pages: mapped, pageSize = 1, hasEvents } of inhabitants) {
      const size = pages * PAGE;
      const first = this.#regions[0] as number;
      const id = kind === 'alias' ? core.createAlias(first, 0, size, 0) : core.createRegion(KINDS[kind], size, 0);
      if (hasEvents) this.#addEvents(id);
      this.#regions.push(id);
      this.#sizes.push(pages);
      this.#holes.push(0);
      this.#children.push(kind === 'container' ? this.#fill(id) : []);
      if (memory === 'none') {
        this.#objects.push(undefined);
        continue;
      }
      const object =
        memory === 'the-first' ? (this.#objects[0] as number) : this.#addObject(memory === 'private', size, pageSize);
      this.#objects.push(object);
      for (const page of mapped) if (page < pages) this.#map(id, page, object);
    }
    this.#space = core.createSpace(0, 0);
    this.#va = core.attach(abi.SINK_VA, this.#space, { last: pages * PAGE - 1 });
    const partition = core.createPartition(pages);
    this.#slots = core.attach(abi.SINK_PARTITION, this.#space, { partition, va: this.#va, last: pages * PAGE - 1 });
    this.#recorder.addVa(this.#va, pages * PAGE);
    this.#recorder.addPartition(partition, pages);
    this.#recorder.attach(this.#slots, partition, this.#va, 0);
    runner.connect(this.#va, this.#failing);
    runner.connect(this.#slots, this.#failing, { partition, pausable: undefined, va: this.#va });
    this.#events = core.attach(abi.SINK_EVENTS, this.#space, { va: this.#slots, last: pages * PAGE - 1 });
    this.#recorder.addEvents(this.#events, this.#slots);
    runner.connect(this.#events, this.#failing);
    runner.commit();
    this.#now = inhabitants.map(() => undefined);
  }

  #addObject(isPrivate: boolean, size: number, pageSize: number): number {
    const kind = isPrivate ? abi.OBJECT_PRIVATE : abi.OBJECT_SHARED;
    const object = this.#core.createObject(kind, abi.OBJECT_WRITABLE, size, pageSize * PAGE);
    this.#recorder.addObject(object, isPrivate, true, size, pageSize * PAGE);
    return object;
  }

  #addEvents(region: number): void {
    for (const page of range(this.#pages)) {
      const events = [
        { offset: page * PAGE + 0x10, length: 4 },
        { offset: (page + 1) * PAGE - 4, length: 8 },
      ];
      for (const { offset, length } of page + 1 < this.#pages ? events : events.slice(0, 1)) {
        const id = this.#core.createEvent(region, offset, length, 0, 0);
        this.#eventPlaces[id] = { region, offset, length };
      }
    }
  }

  #map(region: number, page: number, object: number): void {
    this.#core.map(region, page * PAGE, PAGE, object, page * PAGE, abi.MAPPING_WRITABLE);
  }

  /** A region of RAM for each page of a container. */
  #fill(container: number): number[] {
    const core = this.#core;
    return range(this.#pages).map((page) => {
      const id = core.createRegion(abi.KIND_RAM, PAGE, 0);
      const object = core.createObject(abi.OBJECT_SHARED, abi.OBJECT_WRITABLE, PAGE);
      this.#recorder.addObject(object, false, true, PAGE);
      this.#objectOf.set(id, object);
      core.map(id, 0, PAGE, object, 0, abi.MAPPING_WRITABLE);
      core.place(id, container, page * PAGE, 0);
      return id;
    });
  }

  /** Whatever leads from the arrangement that there is to this one. Returns why it was refused. */
  become(next: Arrangement): string | undefined {
    const core = this.#core;
    const [sizes, holes] = [[...this.#sizes], [...this.#holes]];
    core.begin();
    let isReordered = false;
    for (const [i, id] of this.#regions.entries()) {
      const [before, after] = [this.#now[i], next[i]];
      if (before !== undefined && (after === undefined || isReordered)) core.remove(id);
      if (after === undefined) {
        // An alias still shows it, all of it.
        if (i === 0) this.#resize(i, this.#pages);
        continue;
      }
      this.#resize(i, after.size);
      if (before?.enabled !== after.enabled || before.readonly !== after.readonly) {
        core.setFlags(id, (after.enabled ? 0 : abi.REGION_DISABLED) | (after.readonly ? abi.REGION_READONLY : 0));
      }
      for (const [page, child] of (this.#children[i] as readonly number[]).entries()) {
        if (((this.#holes[i] as number) ^ after.holes) & (1 << page)) {
          core.setFlags(child, after.holes & (1 << page) ? abi.REGION_DISABLED : 0);
        }
      }
      this.#holes[i] = after.holes;
      if (before === undefined || isReordered) {
        // Regions behind it are placed again too: it is seen before them as it was.
        core.place(id, 0, after.start * PAGE, after.priority);
        isReordered = true;
        continue;
      }
      if (before.start !== after.start) core.move(id, after.start * PAGE);
      if (before.priority !== after.priority) core.setPriority(id, after.priority);
    }
    const { error } = this.#runner.commit();
    if (error !== undefined) {
      for (const i of this.#regions.keys()) {
        this.#sizes[i] = sizes[i] as number;
        this.#holes[i] = holes[i] as number;
      }
      return (error as MembackingError).code;
    }
    this.#now = next;
    if (this.#class !== this.#recorder.disturbance()) {
      throw new Error(`the plan says class ${this.#class}, and it is ${this.#recorder.disturbance()}`);
    }
    return undefined;
  }

  /** Tries to become another arrangement, while commands fail as `schedule` says; then none fails any more, and what is
   *  lost is made again. `half`: pages that have moved of one that fails. Returns the code of the error. */
  becomeInVain(next: Arrangement, half: number | undefined, schedule: readonly number[]): string | undefined {
    const core = this.#core;
    this.#failing.half = half;
    this.#failing.plan(...schedule);
    const code = this.become(next);
    this.#failing.plan();
    this.#recorder.checkContents();
    for (const sink of [this.#va, this.#slots, this.#events]) {
      for (const { start, last } of core.lost(sink)) {
        core.begin();
        core.repair(sink, start, lengthOf(start, last));
        const { error } = this.#runner.commit();
        if (error !== undefined) throw error;
      }
    }
    this.#recorder.checkContents();
    return code;
  }

  /** Whether the partition was shut down: it has no slots any more. */
  get isDown(): boolean {
    return this.#core.isDown(this.#slots);
  }

  /** Resizes a region: what is new at the end is mapped; what is gone there was unmapped with it. */
  #resize(index: number, size: number): void {
    const before = this.#sizes[index] as number;
    if (size === before) return;
    const id = this.#regions[index] as number;
    this.#core.resize(id, size * PAGE);
    this.#sizes[index] = size;
    const { pages } = this.#inhabitants[index] as Inhabitant;
    const object = this.#objects[index];
    if (object === undefined) return;
    for (const page of pages) {
      if (page >= before && page < size) this.#map(id, page, object);
    }
  }

  /** Memory that the VA space shows at a page, or a slot that has it from elsewhere. */
  #shownAt(page: number): { object: number; page: number; access: string; isElsewhere: boolean } | undefined {
    const mapped = this.#recorder.vaPage(this.#va, page);
    if (mapped !== undefined) return { ...mapped, isElsewhere: false };
    const shown = this.#recorder.shownBySlot(this.#slots, page);
    return shown && { ...shown, isElsewhere: true };
  }

  /** Picture that the core and the sinks show now. */
  answer(): Answer {
    const answer = new Int32Array(this.#pages * 5);
    for (const { start, last, id, offset, flags, kind } of this.#core.flat(this.#space)) {
      const isReadonly = kind === abi.KIND_ROM || flags & abi.FLAT_READONLY ? 1 : 0;
      const first = (start as number) / PAGE;
      for (let page = first; page * PAGE <= last; page++) {
        answer[page] = (id << 8) | (((offset as number) / PAGE + page - first) << 1) | isReadonly;
      }
    }
    for (let page = 0; page < this.#pages; page++) {
      const shown = this.#shownAt(page);
      if (shown !== undefined) {
        answer[this.#pages + page] =
          ((shown.object + 1) << 8) | (shown.page << 3) | (ACCESS_CODES.get(shown.access) as number);
      }
      const part = shown?.isElsewhere ? shown : this.#recorder.part(this.#va, page);
      if (part !== undefined) answer[3 * this.#pages + page] = ACCESS_CODES.get(part.access) as number;
    }
    for (const { start, last, access } of this.#recorder.slots(this.#slots)) {
      for (let page = start; page <= last; page++) answer[2 * this.#pages + page] = ACCESS_CODES.get(access) as number;
    }
    for (const { event, gpa } of this.#recorder.events(this.#events)) this.#enterEvent(answer, event, gpa);
    return answer;
  }

  #enterEvent(answer: Answer, event: number, gpa: number): void {
    const at = 4 * this.#pages + Math.floor(gpa / PAGE);
    answer[at] = (answer[at] as number) * 100 + event + 1;
  }

  /** Picture that the model has of an arrangement, or the codes with one of which it must be refused. */
  expected(arrangement: Arrangement): Answer | ReadonlySet<string> {
    const model = new Model();
    model.region(0, 'container', this.#pages);
    for (const [i, { kind, memory, pages: mapped, pageSize = 1 }] of this.#inhabitants.entries()) {
      const place = arrangement[i] ?? (i === 0 ? { ...NOWHERE, size: this.#pages } : undefined);
      if (place === undefined) continue;
      const { start, size, priority, enabled, readonly, holes } = place;
      const id = this.#regions[i] as number;
      if (kind === 'alias') {
        model.alias(id, this.#regions[0] as number, 0, size, { enabled, readonly });
        model.place(id, 0, start, priority);
        continue;
      }
      model.region(id, kind, size, { enabled, readonly });
      for (const [event, place] of this.#eventPlaces.entries()) if (place.region === id) model.event(event, place);
      const object = this.#objects[i];
      if (object !== undefined) model.object(object, pageSize);
      if (memory !== 'none') for (const page of mapped) model.map(id, page, 1, object as number, page, true);
      for (const [page, child] of (this.#children[i] as readonly number[]).entries()) {
        model.region(child, 'ram', 1, { enabled: !(holes & (1 << page)) });
        model.map(child, 0, 1, this.#objectOf.get(child) as number, 0, true);
        model.place(child, id, page);
      }
      if (arrangement[i] !== undefined) model.place(id, 0, start, priority);
    }
    const problems = new Set(range(this.#pages).flatMap((page) => model.problemAt(0, page) ?? []));
    if (problems.size > 0) return problems;
    const answer = new Int32Array(this.#pages * 5);
    for (let page = 0; page < this.#pages; page++) {
      const seen = model.visibleAt(0, page);
      if (seen !== undefined) answer[page] = (seen.region << 8) | (seen.offsetInRegion << 1) | (seen.readonly ? 1 : 0);
      const va = model.vaPage(0, page);
      if (va !== undefined) {
        answer[this.#pages + page] = ((va.object + 1) << 8) | (va.page << 3) | (ACCESS_CODES.get(va.access) as number);
      }
      const part = model.part(0, page);
      if (part !== undefined) answer[3 * this.#pages + page] = ACCESS_CODES.get(part.access) as number;
      const slot = model.slotAccess(0, page);
      if (slot !== undefined) answer[2 * this.#pages + page] = ACCESS_CODES.get(slot) as number;
    }
    for (const { event, gpa } of model.events(0, this.#pages)) this.#enterEvent(answer, event, gpa);
    return answer;
  }
}
