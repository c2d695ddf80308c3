// Random histories: numbers become operations that are legal where they come to stand, and every end of a transaction
// is held against the model. Addresses are in pages.

import * as abi from '../../assembly/abi.ts';
import { MembackingError } from '../../ts/core/errors.ts';
import type { TraceOperation } from '../../ts/trace/operations.ts';
import { formatOperation } from '../../ts/trace/write.ts';
import {
  limitsOf,
  type MemoryFacts,
  narrowed,
  OBJECTS,
  PARTITIONS,
  type Region,
  type Sink,
  SPACES,
  SPAN,
  State,
  type VaSink,
} from './history-state.ts';
import { type Homes, homesOf } from './homes.ts';
import type { ModelKind } from './model.ts';
import { type Build, World } from './world.ts';

const PAGE = abi.PAGE_SIZE;
const MAX_REGIONS = 14;
const KINDS = ['ram', 'rom', 'device', 'mmio', 'container', 'ram', 'container'] as const;
const ACCESSES = ['rwx', 'rx', 'r', 'none', 'rw', 'rwx'] as const;

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
  /** Commits of which a command failed: with all taken back, and with something lost. */
  failed: number;
  lost: number;
}

/** Way in which the next plan fails that is long enough. */
interface Failures {
  /** Pages that have moved of a command that fails half done; undefined: nothing is done. */
  readonly half: number | undefined;
  /** Commands that succeed before the first failure, and before the second one. */
  readonly schedule: readonly number[];
}

export class History {
  readonly counts: Counts = { operations: 0, commits: 0, refused: 0, aborts: 0, failed: 0, lost: 0 };
  readonly #world: World;
  #failures: Failures | undefined;
  /** Whether a partition was shut down: the history ends there. */
  #isOver = false;
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
    this.#do({ op: 'va', id: 0, space: 0, size: 18 * PAGE, stretches: 3, stretchUnit: 4 * PAGE });
    this.#do({ op: 'va', id: 1, space: 1, size: 40 * PAGE });
    for (const place of [0, 3]) this.#do(this.#attachment(place) as TraceOperation);
    for (const operation of prelude()) this.#do(operation);
    this.#commit();
  }

  run(steps: readonly Step[]): void {
    try {
      for (const step of steps) if (!this.#isOver) this.#step(step);
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
      case 21:
        this.#failures = { half: [undefined, 0, 1, 2][step.c % 4], schedule: [step.a % 5, step.b % 5] };
        return;
      case 22:
        if (this.#open.length === 0) this.#repair();
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
          const hasEvent = [...this.#state.events.values()].some((event) => event.region === id);
          const isUsed = hasEvent || [...regions.values()].some((other) => other.parent === id || other.target === id);
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
        const hasEvents = (id: number) =>
          [...sinks.values()].some((sink) => sink.kind === 'events' && sink.attachment === id);
        const attached = [...sinks].filter(([id, sink]) => sink.kind !== 'va' && !hasEvents(id)).map(([id]) => id);
        return attached.length === 0 ? undefined : { op: 'detach', id: pick(attached, a) };
      }
      case 23:
        return this.#events(a);
      case 24:
        return this.#event(a, b, c, d);
      case 25: {
        const events = [...this.#state.events.keys()];
        return events.length === 0 ? undefined : { op: 'event-close', id: pick(events, a) };
      }
      default:
        throw new Error(`there is no action ${action}`);
    }
  }

  /** A view of a VA space, if that has none. */
  #view(va: number): TraceOperation | undefined {
    for (const sink of this.#state.sinks.values()) if (sink.kind === 'view' && sink.va === va) return undefined;
    const { space, pages, hasStretches } = this.#state.sinks.get(va) as VaSink;
    return { op: 'view', id: this.#ids++, space, va, size: (hasStretches ? SPAN : pages) * PAGE };
  }

  /** Events of an attachment that has none. */
  #events(by: number): TraceOperation | undefined {
    const { sinks } = this.#state;
    const others = [...sinks.values()].flatMap((sink) => (sink.kind === 'events' ? [sink.attachment] : []));
    const attached = [...sinks].flatMap(([id, sink]) =>
      sink.kind === 'attachment' && !others.includes(id) ? [[id, sink] as const] : [],
    );
    const chosen = attached[by % Math.max(attached.length, 1)];
    if (chosen === undefined) return undefined;
    const [attachment, { va, gpaOffset, pages }] = chosen;
    const { space } = sinks.get(va) as VaSink;
    const range = { gpaOffset: gpaOffset * PAGE, lastGpa: (gpaOffset + pages) * PAGE - 1 };
    return { op: 'events', id: this.#ids++, attachment, space, ...range };
  }

  /** An event of a region, which shares no byte with another; some begin in one page and end in the next. */
  #event(a: number, b: number, c: number, d: number): TraceOperation | undefined {
    const regions = [...this.#state.regions].filter(
      ([, { kind, size }]) => kind !== 'container' && kind !== 'alias' && size > 0,
    );
    const chosen = regions[a % Math.max(regions.length, 1)];
    if (chosen === undefined) return undefined;
    const [region, { size }] = chosen;
    const page = (b % size) * PAGE;
    const inPage = page + 0x40 + 0x40 * (c % 8);
    const [offset, facts] = [
      [inPage, { length: 4, match: 7 + d }],
      [inPage, { length: 0 }],
      [inPage, { length: 0x20, kind: 'coalesced' }],
      [page + PAGE - 4, { length: 8 }],
    ][page + PAGE < size * PAGE ? d % 4 : d % 3] as [number, { length: number; kind?: 'coalesced'; match?: number }];
    const isTaken = [...this.#state.events.values()].some(
      (event) => event.region === region && event.offset === offset,
    );
    return isTaken ? undefined : { op: 'event', id: this.#ids++, region, offset, kind: 'eventfd', ...facts };
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
    const mayMisfit = this.#mayMisfit();
    for (const code of mayMisfit) problems.delete(code);
    const lost = new Map([...this.#state.sinks.keys()].map((id) => [id, this.#lost(id)]));
    const code = this.#end();
    if (code === undefined) {
      const isLost = [...lost.values()].some((pages) => pages.size > 0);
      if (problems.size > 0 && !isLost) throw new Error(`${[...problems]} was to be refused`);
      // What is lost is in nobody's way, until it is to come back.
      this.#isOver ||= problems.size > 0;
      this.#open.pop();
      this.counts.commits++;
    } else {
      this.#forget();
      if (code === 'PLAN_FAILED') this.counts.failed++;
      else if (code === 'RANGE_LOST') this.counts.lost++;
      else if (problems.has(code) || mayMisfit.includes(code)) this.counts.refused++;
      else throw new Error(`${code}, and not ${[...problems]}`);
    }
    if (code !== 'RANGE_LOST') this.#checkNoMoreLost(lost);
    this.#check();
  }

  /** Ends the outermost transaction, as it fails. Returns why it came to nothing. */
  #end(): string | undefined {
    const { failing, recorder } = this.#world;
    const { half, schedule } = this.#failures ?? { half: undefined, schedule: [] };
    failing.half = half;
    failing.plan(...schedule);
    try {
      this.#world.apply({ op: 'commit' });
      return undefined;
    } catch (error) {
      if (!(error instanceof MembackingError)) throw error;
      recorder.checkContents();
      if (error.code === 'PLAN_FAILED' || error.code === 'RANGE_LOST') this.#failures = undefined;
      this.#isOver = this.#world.isDown();
      return error.code;
    } finally {
      failing.plan();
    }
  }

  #checkNoMoreLost(before: ReadonlyMap<number, ReadonlySet<number>>): void {
    for (const id of this.#state.sinks.keys()) {
      const known = before.get(id);
      if (known === undefined) continue;
      for (const page of this.#lost(id))
        if (!known.has(page)) throw new Error(`page ${page} of ${id} was lost, unsaid`);
    }
  }

  /** `event gpa` with the core's number for an event. */
  #ownEvent(line: string): string {
    const [event, gpa] = line.split(' ');
    return `${this.#world.idOf('event', Number(event))} ${gpa}`;
  }

  /** Codes of refusals that the model does not know of for certain. */
  #mayMisfit(): string[] {
    const { hasEchoes, isFar } = this.#state;
    return [...(hasEchoes || isFar ? ['NO_SLOTS'] : []), ...(isFar ? ['NO_STRETCHES'] : [])];
  }

  /** Makes whatever is lost again; the history is over where there is no room for it any more. */
  #repair(): void {
    try {
      this.#world.repair();
    } catch (error) {
      if (!(error instanceof MembackingError) || !this.#mayMisfit().includes(error.code)) throw error;
      this.#isOver = true;
      return;
    }
    for (const id of this.#state.sinks.keys()) same(`lost of ${id}`, [...this.#lost(id)].join(), '');
    this.#check();
  }

  /** Pages of a sink of which it was said that nothing is there. */
  #lost(sink: number): ReadonlySet<number> {
    const rows = this.#world.core.lost(this.#world.idOf('sink', sink));
    const pages = rows.flatMap(({ start, last }) => {
      const first = Number(start) / PAGE;
      return Array.from({ length: (Number(last) + 1) / PAGE - first }, (_, index) => first + index);
    });
    return new Set(pages);
  }

  /** Homes that the recorder has of what a VA space shows. */
  #homes(id: number): Homes {
    const places = this.#state.places(this.#state.sinks.get(id) as VaSink, this.#lost(id));
    return homesOf(places, (page) => this.#world.recorder.vaPage(this.#world.idOf('sink', id), page) !== undefined);
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
        const lost = new Set([...this.#lost(id), ...this.#lost(sink.va)]);
        const stretches = world.recorder.stretches(world.idOf('sink', sink.va));
        const stretchOf = (page: number) => stretches.findLastIndex(({ start }) => page >= start);
        const wanted = world.core.isDown(own) ? [] : this.#state.slots(sink, lost, this.#homes(sink.va), stretchOf);
        same(`slots of ${id}`, JSON.stringify(joinedAs(wanted, slots)), JSON.stringify(wanted));
        continue;
      }
      if (sink.kind === 'events') {
        const events = world.recorder.events(own).map(({ event, gpa }) => `${event} ${gpa}`);
        const wanted = this.#state.eventsOf(sink, this.#lost(id)).map((line) => this.#ownEvent(line));
        same(`events of ${id}`, sorted(events), sorted(wanted));
        continue;
      }
      const { root, offset } = this.#state.spaceOf(sink);
      const limits = limitsOf(sink);
      if (sink.kind === 'view') {
        const vaLimits = limitsOf(sinks.get(sink.va) as VaSink);
        const lost = new Set([...this.#lost(id), ...this.#lost(sink.va), ...this.#homes(sink.va).keys()]);
        for (let page = 0; page < SPAN; page++) {
          const part = lost.has(page) ? undefined : model.part(root, page, offset, vaLimits);
          const access = narrowed(limits.get(page), part?.access ?? '');
          const wanted = access.includes('r') ? { ...part, access } : undefined;
          const used = world.recorder.part(own, page);
          same(`view ${id} page ${page}`, used && Object.values(used).join(), wanted && Object.values(wanted).join());
        }
        continue;
      }
      const absent = new Set([...this.#lost(id), ...this.#homes(id).keys()]);
      for (let page = 0; page < SPAN; page++) {
        const wanted = absent.has(page) ? undefined : model.vaPage(root, page, offset, limits);
        const has = world.recorder.vaPage(own, page);
        same(`va ${id} page ${page}`, has && Object.values(has).join(), wanted && Object.values(wanted).join());
        const part = absent.has(page) ? undefined : model.part(root, page, offset, limits);
        const used = world.recorder.part(own, page);
        same(`part ${id} page ${page}`, used && Object.values(used).join(), part && Object.values(part).join());
      }
    }
    world.checkSinks();
  }
}

/** Slots, those that are parts of one of the `wanted` joined. */
function joinedAs<Slot extends { start: number; last: number; access: string }>(
  wanted: readonly Slot[],
  slots: readonly Slot[],
): Slot[] {
  const joined: Slot[] = [];
  for (const slot of slots) {
    const run = joined.at(-1);
    const goesOn = run !== undefined && run.last + 1 === slot.start && run.access === slot.access;
    const isPart = wanted.some(({ start, last }) => run !== undefined && start <= run.start && last >= slot.last);
    if (goesOn && isPart) joined[joined.length - 1] = { ...run, last: slot.last };
    else joined.push(slot);
  }
  return joined;
}

function sorted(lines: readonly string[]): string {
  return [...lines].sort().join();
}

function same(what: string, is: string | undefined, wanted: string | undefined): void {
  if (is !== wanted) throw new Error(`${what} is ${is}, and should be ${wanted}`);
}
