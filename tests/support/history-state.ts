// Model of what a random history has made, and what its sinks must be given of it. Addresses are in pages.

import * as abi from '../../assembly/abi.ts';
import { WHOLE_SPACE } from '../../ts/core/address.ts';
import type { TraceOperation } from '../../ts/trace/operations.ts';
import { type Homes, NO_HOMES, placesOf } from './homes.ts';
import { Model, type ModelFlags, type ModelKind } from './model.ts';

const PAGE = abi.PAGE_SIZE;
/** Pages of a space that are looked at: more than any root has. */
export const SPAN = 48;

/** Spaces, by id: root region, and the page at which it stands. */
export const SPACES = [
  { root: 0, offset: 0 },
  { root: 1, offset: 8 },
] as const;

export interface MemoryFacts {
  readonly isPrivate: boolean;
  readonly isWritable: boolean;
  readonly pages: number;
  /** Pages that are mapped at once. Default 1. */
  readonly pageSize?: number;
}

export const OBJECTS: readonly MemoryFacts[] = [
  { isPrivate: false, isWritable: true, pages: 64 },
  { isPrivate: false, isWritable: false, pages: 32 },
  { isPrivate: true, isWritable: true, pages: 16 },
  { isPrivate: true, isWritable: true, pages: 8 },
  { isPrivate: false, isWritable: true, pages: 64, pageSize: 4 },
  { isPrivate: false, isWritable: true, pages: 32, pageSize: 2 },
];

interface AnySink {
  /** Pages of the space that it can be given. */
  readonly pages: number;
  readonly protections: Map<number, string>;
  readonly withheld: Map<number, string>;
}

export interface VaSink extends AnySink {
  readonly kind: 'va';
  /** Whether it may have stretches behind its `pages`. */
  readonly hasStretches: boolean;
  readonly space: 0 | 1;
}

interface Attachment extends AnySink {
  readonly kind: 'attachment';
  readonly partition: number;
  readonly va: number;
  readonly gpaOffset: number;
}

interface View extends AnySink {
  readonly kind: 'view';
  readonly va: number;
}

interface Events extends AnySink {
  readonly kind: 'events';
  readonly attachment: number;
  readonly va: number;
}

export type Sink = VaSink | View | Attachment | Events;

/** Slots of each partition: few enough for some changes to be too much. `cut`: pages of the stretches at whose ends
 *  they are cut. */
export const PARTITIONS = [
  { slots: 10, largestSlot: WHOLE_SPACE, cut: Number.POSITIVE_INFINITY },
  { slots: 6, largestSlot: 12 * PAGE, cut: 8 },
] as const;

export interface Region {
  readonly kind: ModelKind;
  readonly target: number | undefined;
  size: number;
  parent: number | undefined;
}

/** The access that both limits leave. */
export function narrowed(one: string | undefined, access: string): string {
  return [...(one ?? 'rwx')].filter((right) => access.includes(right)).join('');
}

/** Access that a sink's protections and what is withheld from it leave, page by page. */
export function limitsOf({ protections, withheld }: Sink): ReadonlyMap<number, string> {
  const limits = new Map(protections);
  for (const [page, access] of withheld) limits.set(page, narrowed(limits.get(page), access));
  return limits;
}

/** All that the history has made so far; what is aborted is made again from the operations before it. */
export class State {
  readonly model = modelOfObjects();
  readonly regions = new Map<number, Region>();
  readonly sinks = new Map<number, Sink>();
  /** Events by id: region and offset in it, in bytes. */
  readonly events = new Map<number, { readonly region: number; readonly offset: number }>();
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
          hasStretches: operation.stretches !== undefined,
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
      case 'events': {
        const { attachment } = operation;
        const { va, pages } = sinks.get(attachment) as Attachment;
        const limits = { protections: new Map(), withheld: new Map() };
        sinks.set(operation.id, { kind: 'events', attachment, va, pages, ...limits });
        return;
      }
      case 'event': {
        const { id, region } = operation;
        const offset = Number(operation.offset);
        model.event(id, { region, offset, length: Number(operation.length) || 1 });
        this.events.set(id, { region, offset });
        return;
      }
      case 'event-close':
        model.closeEvent(operation.id);
        this.events.delete(operation.id);
        return;
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

  /** Pages at which a VA space shows each private page, but for those that are lost. */
  places(sink: VaSink, lost: ReadonlySet<number>): Map<string, number[]> {
    const { root, offset } = this.spaceOf(sink);
    return placesOf(SPAN, (page) => {
      const piece = lost.has(page) ? undefined : this.model.vaPage(root, page, offset, limitsOf(sink));
      return piece && OBJECTS[piece.object]?.isPrivate ? `${piece.object}+${piece.page}` : undefined;
    });
  }

  /** Whether a private page is seen at several places: how many slots that takes, depends on where its home is. */
  get hasEchoes(): boolean {
    const spaces = [...this.sinks.values()].filter((sink) => sink.kind === 'va');
    return spaces.some((sink) => [...this.places(sink, new Set()).values()].some(({ length }) => length > 1));
  }

  /** Whether memory is seen behind the first stretch of a VA space: how many slots that takes, and whether there are
   *  stretches enough, depends on what was there before. */
  get isFar(): boolean {
    return [...this.sinks.values()].some((sink) => {
      if (sink.kind !== 'va' || !sink.hasStretches) return false;
      const { root, offset } = this.spaceOf(sink);
      const pages = Array.from({ length: SPAN - sink.pages }, (_, index) => sink.pages + index);
      return pages.some((page) => {
        const limits = limitsOf(sink);
        return this.model.visibleAt(root, page, offset) ?? this.model.vaPage(root, page, offset, limits);
      });
    });
  }

  /** Slots that a partition must be given through an attachment: one for each flat range, or part of one protection, or
   *  of one stretch; what is mapped elsewhere has the access that it has at home. */
  slots(
    attachment: Attachment,
    lost: ReadonlySet<number>,
    homes: Homes,
    stretchOf: (page: number) => number = () => 0,
  ): { start: number; last: number; access: string }[] {
    const { root, offset } = this.spaceOf(attachment);
    const { protections, withheld } = attachment;
    const { cut } = PARTITIONS[attachment.partition]!;
    const left = limitsOf(attachment);
    const slots: { start: number; last: number; access: string; key: string }[] = [];
    for (let page = 0; page < SPAN; page++) {
      const limits = limitsOf(this.sinks.get(attachment.va) as VaSink);
      if (lost.has(page) || this.kept.has(keptKey(attachment.partition, page + attachment.gpaOffset))) continue;
      const home = homes.get(page) ?? page;
      const atHome = home === page ? undefined : this.model.vaPage(root, home, offset, limits)?.access;
      const whole = this.model.slotAccess(root, page, offset, left, limits);
      const access = atHome === 'r' ? whole?.replace('w', '') : whole;
      const seen = this.model.visibleAt(root, page, offset);
      if (access === undefined || seen === undefined) continue;
      const { region, offsetInRegion, readonly, nonvolatile } = seen;
      const key = [
        region,
        offsetInRegion - page,
        home - page,
        stretchOf(home),
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

  /** Events that a partition must be given through a sink, as `event gpa`. */
  eventsOf(sink: Sink, lost: ReadonlySet<number>): string[] {
    const { root, offset } = this.spaceOf(sink);
    return this.model
      .events(root, SPAN, offset)
      .filter(({ gpa, last }) => last < sink.pages * PAGE && ![gpa, last].some((at) => lost.has(Math.floor(at / PAGE))))
      .map(({ event, gpa }) => `${event} ${gpa}`);
  }

  /** Reasons why the state cannot be shown by the sinks; none if it can. */
  problems(): Set<string> {
    const problems = new Set<string>();
    /** VA sinks that show pages of private objects. */
    const shown = new Map<string, VaSink>();
    const used = PARTITIONS.map(() => 0);
    for (const sink of this.sinks.values()) {
      const { root, offset } = this.spaceOf(sink);
      if (sink.kind === 'attachment') {
        const slots = this.slots(sink, new Set(), NO_HOMES);
        used[sink.partition] = (used[sink.partition] as number) + slots.length;
        const va = this.sinks.get(sink.va) as VaSink;
        const limit = va.hasStretches ? sink.pages : Math.min(sink.pages, va.pages);
        if (slots.some(({ last }) => last >= limit)) problems.add('PAST_LIMIT');
        continue;
      }
      if (sink.kind === 'view' || sink.kind === 'events') continue;
      for (let page = 0; page < SPAN; page++) {
        const problem = this.model.problemAt(root, page, offset, limitsOf(sink));
        if (problem !== undefined) problems.add(problem);
        const piece = this.model.vaPage(root, page, offset, limitsOf(sink));
        if (piece === undefined) continue;
        if (page >= sink.pages && !sink.hasStretches) problems.add('PAST_LIMIT');
        if (!OBJECTS[piece.object]?.isPrivate) continue;
        const key = `${piece.object}+${piece.page}`;
        if ((shown.get(key) ?? sink) !== sink) problems.add('PRIVATE_TWICE');
        shown.set(key, sink);
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
