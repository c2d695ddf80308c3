// Random histories: numbers become operations that are legal where they come to stand, and every end of a transaction
// is held against the model. Addresses are in pages.

import * as abi from '../../assembly/abi.ts';
import { WHOLE_SPACE } from '../../ts/core/address.ts';
import { MembackingError } from '../../ts/core/errors.ts';
import type { TraceOperation } from '../../ts/trace/operations.ts';
import { formatOperation } from '../../ts/trace/write.ts';
import { Model, type ModelFlags, type ModelKind } from './model.ts';
import { type Build, World } from './world.ts';

const PAGE = abi.PAGE_SIZE;
/** Pages of a space that are looked at: more than any root has. */
const SPAN = 48;
const MAX_REGIONS = 14;
const KINDS = ['ram', 'rom', 'device', 'mmio', 'container', 'ram', 'container'] as const;
const ACCESSES = ['rwx', 'rx', 'r', 'none', 'rw', 'rwx'] as const;

/** Spaces, by id: root region, and the page at which it stands. */
const SPACES = [
  { root: 0, offset: 0 },
  { root: 1, offset: 8 },
] as const;

interface MemoryFacts {
  readonly isPrivate: boolean;
  readonly isWritable: boolean;
  readonly pages: number;
  /** Pages that are mapped at once. Default 1. */
  readonly pageSize?: number;
}

const OBJECTS: readonly MemoryFacts[] = [
  { isPrivate: false, isWritable: true, pages: 64 },
  { isPrivate: false, isWritable: false, pages: 32 },
  { isPrivate: true, isWritable: true, pages: 16 },
  { isPrivate: true, isWritable: true, pages: 8 },
  { isPrivate: false, isWritable: true, pages: 64, pageSize: 4 },
  { isPrivate: false, isWritable: true, pages: 32, pageSize: 2 },
];

interface VaSink {
  readonly kind: 'va';
  readonly space: 0 | 1;
  readonly pages: number;
  readonly protections: Map<number, string>;
  readonly withheld: Map<number, string>;
}

interface Attachment {
  readonly kind: 'attachment';
  readonly partition: number;
  readonly va: number;
  readonly gpaOffset: number;
  /** Pages of the space that it can be given. */
  readonly pages: number;
  readonly protections: Map<number, string>;
  readonly withheld: Map<number, string>;
}

interface View {
  readonly kind: 'view';
  readonly va: number;
  readonly pages: number;
  readonly protections: Map<number, string>;
  readonly withheld: Map<number, string>;
}

type Sink = VaSink | View | Attachment;

/** Slots of each partition: few enough for some changes to be too much. `cut`: pages of the stretches at whose ends
 *  they are cut. */
const PARTITIONS = [
  { slots: 10, largestSlot: WHOLE_SPACE, cut: Number.POSITIVE_INFINITY },
  { slots: 6, largestSlot: 12 * PAGE, cut: 8 },
] as const;

/** Attachments that there may be, each at most once at a time. */
const PLACES = [
  { va: 0, partition: 0, gpaOffset: 0, pages: 32 },
  { va: 0, partition: 0, gpaOffset: 64, pages: 32 },
  { va: 0, partition: 1, gpaOffset: 0, pages: 40 },
  { va: 1, partition: 1, gpaOffset: 128, pages: 40 },
] as const;

export interface Step {
  readonly action: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
}

interface Region {
  readonly kind: ModelKind;
  readonly target: number | undefined;
  size: number;
  parent: number | undefined;
}

/** The access that both limits leave. */
function narrowed(one: string | undefined, access: string): string {
  return [...(one ?? 'rwx')].filter((right) => access.includes(right)).join('');
}

/** Access that a sink's protections and what is withheld from it leave, page by page. */
function limitsOf({ protections, withheld }: Sink): ReadonlyMap<number, string> {
  const limits = new Map(protections);
  for (const [page, access] of withheld) limits.set(page, narrowed(limits.get(page), access));
  return limits;
}

/** All that the history has made so far; what is aborted is made again from the operations before it. */
class State {
  readonly model = modelOfObjects();
  readonly regions = new Map<number, Region>();
  readonly sinks = new Map<number, Sink>();
  /** Pages that hypervisors keep for themselves. */
  readonly kept = new Set<string>();

  apply(operation: TraceOperation): void {
    const { model, regions, sinks } = this;
    const page = (address: number | bigint) => Number(address) / PAGE;
    switch (operation.op) {
      case 'region': {
        const { id, kind, size } = operation;
        model.region(id, kind, page(size), flagsOf(operation));
        regions.set(id, { kind, target: undefined, size: page(size), parent: undefined });
        return;
      }
      case 'alias': {
        const { id, target, offset, size } = operation;
        model.alias(id, target, page(offset), page(size), flagsOf(operation));
        regions.set(id, { kind: 'alias', target, size: page(size), parent: undefined });
        return;
      }
      case 'destroy':
        model.destroy(operation.id);
        regions.delete(operation.id);
        return;
      case 'place':
        model.place(operation.id, operation.parent, page(operation.offset), operation.priority);
        this.region(operation.id).parent = operation.parent;
        return;
      case 'remove':
        model.remove(operation.id);
        this.region(operation.id).parent = undefined;
        return;
      case 'move':
        model.move(operation.id, page(operation.offset));
        return;
      case 'retarget':
        model.retarget(operation.id, page(operation.offset));
        return;
      case 'resize':
        model.resize(operation.id, page(operation.size));
        this.region(operation.id).size = page(operation.size);
        return;
      case 'priority':
        model.setPriority(operation.id, operation.priority);
        return;
      case 'flags':
        model.setFlags(operation.id, flagsOf(operation));
        return;
      case 'map': {
        const { region, offset, length, object, objectOffset, writable } = operation;
        model.map(region, page(offset), page(length), object, page(objectOffset), writable);
        return;
      }
      case 'unmap':
        model.unmap(operation.region, page(operation.offset), page(operation.length));
        return;
      case 'va':
        sinks.set(operation.id, {
          kind: 'va',
          space: operation.space as 0 | 1,
          pages: page(operation.size),
          protections: new Map(),
          withheld: new Map(),
        });
        return;
      case 'view': {
        const limits = { protections: new Map(), withheld: new Map() };
        sinks.set(operation.id, { kind: 'view', va: operation.va, pages: page(operation.size), ...limits });
        return;
      }
      case 'attach': {
        const { id, partition, va, gpaOffset, lastGpa } = operation;
        const pages = (Number(lastGpa) + 1 - Number(gpaOffset)) / PAGE;
        const limits = { protections: new Map(), withheld: new Map() };
        sinks.set(id, { kind: 'attachment', partition, va, gpaOffset: page(gpaOffset), pages, ...limits });
        return;
      }
      case 'detach':
        sinks.delete(operation.id);
        return;
      case 'protect': {
        const { protections } = sinks.get(operation.sink) as Sink;
        for (let i = 0; i < page(operation.length); i++) {
          if (operation.access === 'rwx') protections.delete(page(operation.start) + i);
          else protections.set(page(operation.start) + i, operation.access);
        }
        return;
      }
      case 'withhold': {
        const { withheld } = sinks.get(operation.sink) as Sink;
        for (let at = page(operation.start); at < page(operation.start) + page(operation.length); at++) {
          const left = narrowed(withheld.get(at), operation.access);
          if (left === 'rwx') withheld.delete(at);
          else withheld.set(at, left);
        }
        return;
      }
      case 'give-back': {
        const { withheld } = sinks.get(operation.sink) as Sink;
        for (let i = 0; i < page(operation.length); i++) withheld.delete(page(operation.start) + i);
        return;
      }
      case 'keep':
        for (let i = 0; i < page(operation.length); i++) {
          const key = keptKey(operation.partition, page(operation.start) + i);
          if (operation.kept) this.kept.add(key);
          else this.kept.delete(key);
        }
    }
  }

  region(id: number): Region {
    return this.regions.get(id) as Region;
  }

  spaceOf(sink: Sink): (typeof SPACES)[number] {
    const va = sink.kind === 'va' ? sink : (this.sinks.get(sink.va) as VaSink);
    return SPACES[va.space];
  }

  /** Slots that a partition must be given through an attachment: one for each flat range, or part of one protection. */
  slots(attachment: Attachment): { start: number; last: number; access: string }[] {
    const { root, offset } = this.spaceOf(attachment);
    const { protections, withheld } = attachment;
    const { cut } = PARTITIONS[attachment.partition]!;
    const left = limitsOf(attachment);
    const slots: { start: number; last: number; access: string; key: string }[] = [];
    for (let page = 0; page < SPAN; page++) {
      const limits = limitsOf(this.sinks.get(attachment.va) as VaSink);
      if (this.kept.has(keptKey(attachment.partition, page + attachment.gpaOffset))) continue;
      const access = this.model.slotAccess(root, page, offset, left, limits);
      const seen = this.model.visibleAt(root, page, offset);
      if (access === undefined || seen === undefined) continue;
      const { region, offsetInRegion, readonly, nonvolatile } = seen;
      const key = [
        region,
        offsetInRegion - page,
        readonly,
        nonvolatile,
        protections.get(page),
        withheld.get(page),
        access,
      ].join();
      const run = slots.at(-1);
      const goesOn = run !== undefined && run.last === page - 1 && run.key === key && page % cut !== 0;
      if (goesOn) run.last = page;
      else slots.push({ start: page, last: page, access, key });
    }
    return slots.map(({ start, last, access }) => ({ start, last, access }));
  }

  /** Reasons why the state cannot be shown by the sinks; none if it can. */
  problems(): Set<string> {
    const problems = new Set<string>();
    const shown = new Set<string>();
    const used = PARTITIONS.map(() => 0);
    for (const sink of this.sinks.values()) {
      const { root, offset } = this.spaceOf(sink);
      if (sink.kind === 'attachment') {
        const slots = this.slots(sink);
        used[sink.partition] = (used[sink.partition] as number) + slots.length;
        const limit = Math.min(sink.pages, (this.sinks.get(sink.va) as VaSink).pages);
        if (slots.some(({ last }) => last >= limit)) problems.add('PAST_LIMIT');
        continue;
      }
      if (sink.kind === 'view') continue;
      for (let page = 0; page < SPAN; page++) {
        const problem = this.model.problemAt(root, page, offset, limitsOf(sink));
        if (problem !== undefined) problems.add(problem);
        const piece = this.model.vaPage(root, page, offset, limitsOf(sink));
        if (piece === undefined) continue;
        if (page >= sink.pages) problems.add('PAST_LIMIT');
        if (!OBJECTS[piece.object]?.isPrivate) continue;
        const key = `${piece.object}+${piece.page}`;
        if (shown.has(key)) problems.add('PRIVATE_TWICE');
        shown.add(key);
      }
    }
    if (used.some((count, i) => count > (PARTITIONS[i]?.slots as number))) problems.add('NO_SLOTS');
    return problems;
  }
}

/** A page of a partition's own. */
function keptKey(partition: number, page: number): string {
  return `${partition} ${page}`;
}

function modelOfObjects(): Model {
  const model = new Model();
  for (const [id, { pageSize = 1 }] of OBJECTS.entries()) model.object(id, pageSize);
  return model;
}

function flagsOf(flags: Partial<ModelFlags>): Partial<ModelFlags> {
  const { enabled, readonly, nonvolatile } = flags;
  return {
    ...(enabled === undefined ? {} : { enabled }),
    ...(readonly === undefined ? {} : { readonly }),
    ...(nonvolatile === undefined ? {} : { nonvolatile }),
  };
}

/** RAM, a device, private memory, a bus with a device on it, and a window onto RAM in the other space. */
function* prelude(): Generator<TraceOperation> {
  const flags = { readonly: false, nonvolatile: false, enabled: true };
  const make = (id: number, kind: Exclude<ModelKind, 'alias'>, pages: number): TraceOperation => {
    return { op: 'region', id, name: `r${id}`, kind, size: pages * PAGE, ...flags };
  };
  const place = (id: number, parent: number, page: number, priority = 0): TraceOperation => {
    return { op: 'place', id, parent, offset: page * PAGE, priority };
  };
  const map = (region: number, pages: number, object: number, writable = true): TraceOperation => {
    return { op: 'map', region, offset: 0, length: pages * PAGE, object, objectOffset: 0, writable };
  };
  yield* [make(2, 'ram', 16), map(2, 16, 0), place(2, 0, 0, -1)];
  yield* [make(3, 'device', 8), map(3, 4, 1, false), place(3, 0, 18)];
  yield* [make(4, 'ram', 6), map(4, 6, 2), place(4, 0, 4, 1)];
  yield* [make(5, 'container', 10), make(6, 'mmio', 2), place(6, 5, 3), place(5, 0, 10, 1)];
  yield { op: 'alias', id: 7, name: 'a7', target: 2, offset: 8 * PAGE, size: 6 * PAGE, ...flags };
  yield place(7, 1, 2);
}

export interface Counts {
  operations: number;
  commits: number;
  refused: number;
  aborts: number;
}

export class History {
  readonly counts: Counts = { operations: 0, commits: 0, refused: 0, aborts: 0 };
  readonly #world: World;
  #state = new State();
  /** Operations that hold, and how many of them there were when each open transaction began. */
  readonly #held: TraceOperation[] = [];
  readonly #open: number[] = [];
  /** Everything that was tried. */
  readonly #tried: TraceOperation[] = [];
  #ids = 100;

  constructor(build: Build) {
    this.#world = new World(build);
    const region = { op: 'region', readonly: false, nonvolatile: false, enabled: true } as const;
    this.#do({ op: 'begin' });
    this.#do({ ...region, id: 0, name: 'r0', kind: 'container', size: 32 * PAGE });
    this.#do({ ...region, id: 1, name: 'r1', kind: 'container', size: 24 * PAGE });
    for (const [id, { isPrivate, isWritable, pages, pageSize = 1 }] of OBJECTS.entries()) {
      const kind = isPrivate ? 'private' : 'shared';
      const facts = { name: `o${id}`, size: pages * PAGE, pageSize: pageSize * PAGE };
      this.#do({ op: 'object', id, kind, ...facts, writable: isWritable });
    }
    for (const [id, { root, offset }] of SPACES.entries()) {
      this.#do({ op: 'space', id, name: `s${id}`, root, offset: offset * PAGE });
    }
    for (const [id, { slots, largestSlot }] of PARTITIONS.entries()) {
      this.#do({ op: 'partition', id, slots, largestSlot });
    }
    this.#do({ op: 'va', id: 0, space: 0, size: 30 * PAGE });
    this.#do({ op: 'va', id: 1, space: 1, size: 40 * PAGE });
    for (const place of [0, 3]) this.#do(this.#attachment(place) as TraceOperation);
    for (const operation of prelude()) this.#do(operation);
    this.#commit();
  }

  run(steps: readonly Step[]): void {
    try {
      for (const step of steps) this.#step(step);
      while (this.#open.length > 0) this.#commit();
    } catch (error) {
      const operations = this.#tried.map(formatOperation).join('\n');
      throw new Error(`${(error as Error).message}\nafter\n${operations}`, { cause: error });
    }
  }

  #step(step: Step): void {
    switch (step.action) {
      case 17:
      case 18:
        if (this.#open.length < 3) this.#do({ op: 'begin' });
        return;
      case 19:
        if (this.#open.length > 0) this.#do({ op: 'abort' });
        return;
      case 20:
        if (this.#open.length > 0) this.#commit();
        return;
      default: {
        const operation = this.#choose(step);
        if (operation !== undefined) this.#attempt(operation);
      }
    }
  }

  /** The operation that the numbers mean, of those that may be done now. */
  #choose({ action, a, b, c, d }: Step): TraceOperation | undefined {
    const { regions, sinks } = this.#state;
    const pick = <Item>(items: readonly Item[], by: number): Item => items[by % items.length] as Item;
    const of = (wanted: (region: Region, id: number) => boolean) =>
      [...regions].filter(([id, region]) => wanted(region, id)).map(([id]) => id);
    const flags = { readonly: (d & 3) === 1, nonvolatile: (d & 7) === 2, enabled: (d & 15) !== 3 };
    const placed = of((region) => region.parent !== undefined);
    const memory = of(({ kind, size }) => kind !== 'mmio' && kind !== 'container' && kind !== 'alias' && size > 0);
    switch (action) {
      case 0:
        if (regions.size >= MAX_REGIONS) return undefined;
        return {
          op: 'region',
          id: this.#ids++,
          name: 'r',
          kind: pick(KINDS, a),
          size: (1 + (b % 12)) * PAGE,
          ...flags,
        };
      case 1: {
        if (regions.size >= MAX_REGIONS) return undefined;
        const window = { offset: (b % 8) * PAGE, size: (1 + (c % 12)) * PAGE };
        return {
          op: 'alias',
          id: this.#ids++,
          name: 'a',
          target: pick([...regions.keys()], a),
          ...window,
          ...flags,
        };
      }
      case 2:
      case 3: {
        const loose = of((region, id) => id > 1 && region.parent === undefined);
        const id = pick(loose, a);
        const parents = of(
          (region, other) => region.kind !== 'alias' && id !== undefined && !this.#state.model.reaches(id, other),
        );
        if (loose.length === 0 || parents.length === 0) return undefined;
        return {
          op: 'place',
          id,
          parent: pick(parents, b),
          offset: (c % 24) * PAGE,
          priority: (d % 4) - 2,
        };
      }
      case 4:
        return placed.length === 0 ? undefined : { op: 'remove', id: pick(placed, a) };
      case 5:
        return placed.length === 0 ? undefined : { op: 'move', id: pick(placed, a), offset: (b % 24) * PAGE };
      case 6: {
        const id = pick([...regions.keys()], a);
        // A root keeps within what is looked at.
        return { op: 'resize', id, size: (b % (id < 2 ? 32 : 16)) * PAGE };
      }
      case 7:
        return placed.length === 0 ? undefined : { op: 'priority', id: pick(placed, a), priority: (b % 4) - 2 };
      case 8:
        return { op: 'flags', id: pick([...regions.keys()], a), ...flags };
      case 9: {
        const aliases = of(({ kind }) => kind === 'alias');
        return aliases.length === 0 ? undefined : { op: 'retarget', id: pick(aliases, a), offset: (b % 12) * PAGE };
      }
      case 10: {
        const idle = of((region, id) => {
          const isUsed = [...regions.values()].some((other) => other.parent === id || other.target === id);
          return id > 1 && region.parent === undefined && !isUsed;
        });
        return idle.length === 0 ? undefined : { op: 'destroy', id: pick(idle, a) };
      }
      case 11:
      case 12: {
        if (memory.length === 0) return undefined;
        const region = pick(memory, a);
        const { size } = this.#state.region(region);
        const object = pick([0, 0, 1, 2, 3, 4, 4, 5], b);
        const offset = c % size;
        const length = 1 + (d % Math.min(size - offset, 6));
        const { pages, isWritable, pageSize = 1 } = OBJECTS[object] as MemoryFacts;
        // Bytes at the same place in their page as in the region can be shown at most places.
        const objectOffset = pageSize === 1 ? (b + c * 3) % (pages - length + 1) : offset + pageSize * (b % 4);
        const where = { offset: offset * PAGE, length: length * PAGE, object, objectOffset: objectOffset * PAGE };
        return { op: 'map', region, ...where, writable: isWritable && d % 5 !== 0 };
      }
      case 13: {
        if (memory.length === 0) return undefined;
        const region = pick(memory, a);
        const offset = b % this.#state.region(region).size;
        const length = 1 + (c % (this.#state.region(region).size - offset));
        return { op: 'unmap', region, offset: offset * PAGE, length: length * PAGE };
      }
      case 14: {
        if (d % 7 === 6) {
          const range = { start: (a % 64) * PAGE, length: (1 + (c % 6)) * PAGE };
          return { op: 'keep', partition: b % PARTITIONS.length, ...range, kept: d % 2 === 0 };
        }
        const sink = pick([...sinks.keys()], a);
        const { pages } = sinks.get(sink) as Sink;
        const start = b % pages;
        const length = 1 + (c % Math.min(8, pages - start));
        const range = { sink, start: start * PAGE, length: length * PAGE };
        if (d % 16 === 0) return { op: 'give-back', ...range };
        return { op: pick(['protect', 'protect', 'withhold'], d), ...range, access: pick(ACCESSES, d >> 2) };
      }
      case 15:
        return a % 5 === 4 ? this.#view(b % 2) : this.#attachment(a % PLACES.length);
      case 16: {
        const attached = [...sinks].filter(([, sink]) => sink.kind !== 'va').map(([id]) => id);
        return attached.length === 0 ? undefined : { op: 'detach', id: pick(attached, a) };
      }
      default:
        throw new Error(`there is no action ${action}`);
    }
  }

  /** A view of a VA space, if that has none. */
  #view(va: number): TraceOperation | undefined {
    for (const sink of this.#state.sinks.values()) if (sink.kind === 'view' && sink.va === va) return undefined;
    const { space, pages } = this.#state.sinks.get(va) as VaSink;
    return { op: 'view', id: this.#ids++, space, va, size: pages * PAGE };
  }

  /** An attachment of a partition that is not there yet; one that goes with this transaction is still in its place. */
  #attachment(index: number): TraceOperation | undefined {
    if (this.#held.slice(this.#open[0]).some(({ op }) => op === 'detach') && this.#open.length > 0) return undefined;
    const place = PLACES[index] as (typeof PLACES)[number];
    const { partition, gpaOffset } = place;
    for (const sink of this.#state.sinks.values()) {
      if (sink.kind === 'attachment' && sink.partition === partition && sink.gpaOffset === gpaOffset) return undefined;
    }
    const { space } = this.#state.sinks.get(place.va) as VaSink;
    const range = { gpaOffset: gpaOffset * PAGE, lastGpa: (gpaOffset + place.pages) * PAGE - 1 };
    return { op: 'attach', id: this.#ids++, partition, space, va: place.va, ...range };
  }

  /** Attempts an operation. Inside of a transaction nothing is refused; outside, the operation is one. */
  #attempt(operation: TraceOperation): void {
    const isAlone = this.#open.length === 0;
    if (isAlone) this.#do({ op: 'begin' });
    this.#do(operation);
    if (isAlone) this.#commit();
  }

  #do(operation: TraceOperation): void {
    this.#tried.push(operation);
    this.#world.apply(operation);
    this.counts.operations++;
    if (operation.op === 'begin') {
      this.#open.push(this.#held.length);
    } else if (operation.op === 'abort') {
      this.#forget();
      this.counts.aborts++;
      if (this.#open.length === 0) this.#check();
    } else {
      this.#held.push(operation);
      this.#state.apply(operation);
    }
  }

  #forget(): void {
    this.#held.length = this.#open.pop() as number;
    this.#state = new State();
    for (const operation of this.#held) this.#state.apply(operation);
  }

  #commit(): void {
    this.#tried.push({ op: 'commit' });
    if (this.#open.length > 1) {
      this.#world.apply({ op: 'commit' });
      this.#open.pop();
      return;
    }
    const problems = this.#state.problems();
    try {
      this.#world.apply({ op: 'commit' });
    } catch (error) {
      if (!(error instanceof MembackingError) || !problems.has(error.code)) throw error;
      this.#forget();
      this.counts.refused++;
      this.#check();
      return;
    }
    if (problems.size > 0) throw new Error(`${[...problems]} was to be refused`);
    this.#open.pop();
    this.counts.commits++;
    this.#check();
  }

  /** Holds flat views, VA spaces and slots against the model, page by page. */
  #check(): void {
    const world = this.#world;
    const { model, sinks } = this.#state;
    for (const [id, { root, offset }] of SPACES.entries()) {
      const shown = new Map<number, string>();
      for (const row of world.core.flat(world.idOf('space', id))) {
        for (let page = Number(row.start) / PAGE; page * PAGE <= Number(row.last); page++) {
          const isReadonly = (row.flags & abi.FLAT_READONLY) !== 0 || row.kind === abi.KIND_ROM;
          const offsetInRegion = Number(row.offset) / PAGE + page - Number(row.start) / PAGE;
          shown.set(page, [row.id, offsetInRegion, isReadonly, (row.flags & abi.FLAT_NONVOLATILE) !== 0].join());
        }
      }
      for (let page = 0; page < SPAN; page++) {
        const seen = model.visibleAt(root, page, offset);
        const wanted =
          seen &&
          [world.idOf('region', seen.region), seen.offsetInRegion, model.isReadonly(seen), seen.nonvolatile].join();
        same(`space ${id} page ${page}`, shown.get(page), wanted);
      }
    }
    for (const [id, sink] of sinks) {
      const own = world.idOf('sink', id);
      if (sink.kind === 'attachment') {
        const slots = world.recorder.slots(own).map(({ start, last, access }) => ({ start, last, access }));
        same(`slots of ${id}`, JSON.stringify(slots), JSON.stringify(this.#state.slots(sink)));
        continue;
      }
      const { root, offset } = this.#state.spaceOf(sink);
      const limits = limitsOf(sink);
      if (sink.kind === 'view') {
        const vaLimits = limitsOf(sinks.get(sink.va) as VaSink);
        for (let page = 0; page < SPAN; page++) {
          const part = model.part(root, page, offset, vaLimits);
          const access = narrowed(limits.get(page), part?.access ?? '');
          const wanted = access.includes('r') ? { ...part, access } : undefined;
          const used = world.recorder.part(own, page);
          same(`view ${id} page ${page}`, used && Object.values(used).join(), wanted && Object.values(wanted).join());
        }
        continue;
      }
      for (let page = 0; page < SPAN; page++) {
        const wanted = model.vaPage(root, page, offset, limits);
        const has = world.recorder.vaPage(own, page);
        same(`va ${id} page ${page}`, has && Object.values(has).join(), wanted && Object.values(wanted).join());
        const part = model.part(root, page, offset, limits);
        const used = world.recorder.part(own, page);
        same(`part ${id} page ${page}`, used && Object.values(used).join(), part && Object.values(part).join());
      }
    }
    world.checkSinks();
  }
}

function same(what: string, is: string | undefined, wanted: string | undefined): void {
  if (is !== wanted) throw new Error(`${what} is ${is}, and should be ${wanted}`);
}
