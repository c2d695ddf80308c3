// A trace through the core alone: no system, no privileges; the same operations give the same plans everywhere.

import * as abi from '../../assembly/abi.ts';
import { PlanRunner } from '../apply/runner.ts';
import {
  type Address,
  difference,
  formatHex,
  higher,
  LAST_ADDRESS,
  lastByte,
  lengthOf,
  lower,
  sum,
} from '../core/address.ts';
import { Core, type CoreState, type PlanFacts, type Row } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import {
  type Access,
  accessName,
  DISTURBANCES,
  type Disturbance,
  type EventFacts,
  eventFacts,
  operationName,
  type Policy,
  type RegionKind,
  regionKindName,
} from '../core/kinds.ts';
import { Names } from '../core/names.ts';
import type { ShownRange, ShownView } from '../text/difference.ts';
import { type Explanation, explain, explainedRegion } from '../text/explain.ts';
import { renderFlatViews, renderPlan } from '../text/render.ts';
import { layersOf, type TraceLayer } from './layers.ts';
import type { TraceOperation } from './operations.ts';
import { Replayer, type TraceIds } from './replay.ts';

/** Options of a replay. */
export interface TraceReplayOptions {
  /** Policy that the trace's header says. Default `layered`. */
  readonly policy?: Policy;
  /** Listener that is told of every plan that has commands, as it is made. The plan is good until `onPlan` returns. */
  readonly onPlan?: (plan: TracePlan) => void;
}

/** Most ranges of flat views that are handed out unasked. */
export const MAX_VIEW_RANGES = 0x1_0000;

/** A range of an address space of a replay, which shows one region. */
export type TraceFlatRange = ShownRange;

/** Flat view of one address space of a replay. */
export type TraceFlatView = ShownView;

/** Memory that an address space shows: part of an object. */
export interface TraceMapping {
  /** First GPA. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
  /** Name of the object. */
  readonly object: string;
  /** Offset in the object of the byte at `gpa`. */
  readonly objectOffset: Address;
  /** Whether the guest may write. */
  readonly writable: boolean;
}

/** A memory slot that an address space is shown with. */
export interface TraceSlot {
  /** Name of the attachment. */
  readonly sink: string;
  /** Number of the slot. */
  readonly slot: number;
  /** GPA in the address space. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** Access of the guest. */
  readonly access: Access;
}

/** An event at a place where it is seen. */
export interface TraceEvent extends EventFacts {
  /** First GPA. */
  readonly gpa: Address;
  /** Name of the region that has it. */
  readonly region: string;
  /** Offset in the region. */
  readonly offsetInRegion: Address;
}

/** A command, with names instead of numbers. */
export interface TraceCommand {
  /** Operation: `va-map`, `slot-add` and so on. */
  readonly op: string;
  /** Name of the sink that it is for. */
  readonly sink: string;
  /** First GPA, in the numbering of the sink. */
  readonly gpa: Address;
  /** Bytes, whole pages. */
  readonly length: Address;
  /** Access that there is afterwards. */
  readonly access: Access;
  /** Slot commands: the number. */
  readonly slot: number | undefined;
  /** VA commands: the object, and the byte in it. */
  readonly object: string | undefined;
  /** VA commands: offset in the object of the byte at `gpa`. */
  readonly objectOffset: Address | undefined;
  /** Event commands: what a write must be. */
  readonly event: EventFacts | undefined;
}

/** Place of a space's tree. */
interface Root {
  readonly region: number;
  readonly offset: Address;
}

/** A moment of a replay, to come back to. */
export class ReplayState {
  /** @internal */
  readonly core: CoreState;
  /** @internal */
  readonly ids: TraceIds;
  /** @internal */
  readonly names: Names;
  /** @internal */
  readonly spaces: ReadonlyMap<number, number>;
  /** @internal */
  readonly roots: ReadonlyMap<number, Root>;

  /** @internal */
  constructor(parts: Pick<ReplayState, 'core' | 'ids' | 'names' | 'spaces' | 'roots'>) {
    this.core = parts.core;
    this.ids = parts.ids;
    this.names = parts.names;
    this.spaces = parts.spaces;
    this.roots = parts.roots;
  }

  /** Bytes of memory that it takes, about. */
  get bytes(): number {
    return this.core.memory.byteLength;
  }
}

/** A replay of a trace through the core alone. Other than a live map, it has no memory and no sinks that anybody
 *  sees. */
export class TraceReplay {
  readonly #names = new Names();
  readonly #core: Core;
  readonly #replayer: Replayer;
  /** The address space of each attachment. */
  #spaces = new Map<number, number>();
  /** The root of each address space. */
  #roots = new Map<number, Root>();

  /** Makes a replay of which nothing has happened yet. Throws CORE_MISSING in a page before `loadCore`. */
  constructor({ policy = 'layered', onPlan }: TraceReplayOptions = {}) {
    this.#core = new Core({ policy, explain: this.#names.explain });
    const runner = new PlanRunner(this.#core);
    if (onPlan !== undefined) {
      runner.observe((core, facts) => {
        if (facts.commands > 0) onPlan(new TracePlan(core, facts, this.#names));
      });
    }
    this.#replayer = new Replayer(this.#core, runner, this.#names, {
      attach: (sink, { space }) => this.#spaces.set(sink, this.#replayer.id('space', space)),
      space: (space, { root, offset }) => this.#roots.set(space, { region: this.#replayer.id('region', root), offset }),
    });
  }

  /** Carries out one operation. Throws BAD_ID, TRACE_OPERATION and what the core refuses: it has then not happened. */
  apply(operation: TraceOperation): void {
    this.#replayer.apply(operation);
  }

  /** Takes back what the trace began and did not end. Returns how many transactions that were. */
  finish(): number {
    const open = this.#core.open;
    this.#replayer.finish();
    return open;
  }

  /** Flat views of every open address space, in the order in which those were made. Not inside a transaction. Throws
   *  VIEW_TOO_LARGE as `checkViews` does. */
  flatViews(limit?: number): TraceFlatView[] {
    this.checkViews(limit);
    return Array.from(this.#replayer.live('space'), (space) => ({
      name: this.#names.spaces.get(space)!,
      ranges: this.#flat(space),
    }));
  }

  /** Text of the flat views. */
  renderFlatViews(limit?: number): string[] {
    this.checkViews(limit);
    return renderFlatViews(this.#core, this.#replayer.live('space'), this.#names);
  }

  /** Checks that flat views can be handed out. Throws VIEW_TOO_LARGE where the open address spaces together show more
   *  than `limit` ranges: a few lines of aliases of aliases show any number. `Infinity` refuses none. */
  checkViews(limit = MAX_VIEW_RANGES): void {
    let left = limit;
    for (const space of this.#replayer.live('space')) left = this.#checkRanges(space, limit, left);
  }

  /** Explains, for every open address space, why the byte at `gpa` is what it is. */
  explain(gpa: Address): Explanation[] {
    return Array.from(this.#replayer.live('space'), (space) => {
      return explain(this.#core, space, gpa, this.#names, this.#attached(space), (row, seen) =>
        explainedRegion(row, seen, this.#names),
      );
    });
  }

  // ---- One address space, by its id in the trace. Throws BAD_ID. Not inside a transaction. ---------

  /** The open address spaces, in the order in which they were made. */
  spaces(): { readonly id: number; readonly name: string }[] {
    return Array.from(this.#replayer.entries('space'), ([id, space]) => ({ id, name: this.#names.spaces.get(space)! }));
  }

  /** Flat view of a space, by its id in the trace; not inside a transaction. Throws BAD_ID, and VIEW_TOO_LARGE where
   *  that is more than `limit` ranges. */
  flatView(space: number, limit = MAX_VIEW_RANGES): TraceFlatRange[] {
    const id = this.#replayer.id('space', space);
    this.#checkRanges(id, limit, limit);
    return this.#flat(id);
  }

  /** Flat view of a space, range by range, however many there are. The replay must stay as it is meanwhile. Throws
   *  BAD_ID. */
  *flatRanges(space: number): Generator<TraceFlatRange> {
    for (const rows of this.#flatRows(this.#replayer.id('space', space))) {
      for (const row of rows) yield this.#range(row);
    }
  }

  /** Every region where it stands in a space, seen or hidden, strongest first. Throws BAD_ID. */
  layers(space: number): TraceLayer[] {
    const { region, offset } = this.#roots.get(this.#replayer.id('space', space))!;
    return layersOf(this.#core, region, offset, this.#names);
  }

  /** The memory that is mapped in what a space shows, in order of GPA. Throws BAD_ID. */
  mappings(space: number): TraceMapping[] {
    return this.#core.flat(this.#replayer.id('space', space)).flatMap((range) => {
      const first = range.offset;
      const last = sum(first, lastByte(lengthOf(range.start, range.last)));
      return this.#core.mappingsIn(range.id, first, last).map((row) => {
        const from = higher(row.start, first);
        const skipped = difference(from, row.start);
        return {
          gpa: sum(range.start, difference(from, first)),
          length: lengthOf(from, lower(row.last, last)),
          object: this.#names.objects.get(row.id)!,
          objectOffset: sum(row.offset, skipped),
          writable: (row.flags & abi.MAPPING_WRITABLE) !== 0 && (range.flags & abi.FLAT_READONLY) === 0,
        };
      });
    });
  }

  /** The memory slots of all attachments of a space. Throws BAD_ID. */
  slots(space: number): TraceSlot[] {
    return this.#attached(this.#replayer.id('space', space)).flatMap((sink) =>
      this.#core.sinkRows(sink).map(({ kind, start, last, flags }) => ({
        sink: this.#names.sinks.get(sink)!,
        slot: kind,
        gpa: start,
        length: lengthOf(start, last),
        access: accessName(flags),
      })),
    );
  }

  /** The events that a space shows, in order of GPA. Throws BAD_ID. */
  events(space: number): TraceEvent[] {
    return this.#core.events(this.#replayer.id('space', space)).map(({ flags, start, last, offset, other, match }) => ({
      gpa: start,
      ...eventFacts(flags, lengthOf(start, last), match),
      region: this.#names.regions.get(other)!,
      offsetInRegion: offset,
    }));
  }

  // ---- Moments -----------------------------------------------------------------------------------

  /** The state, for `restore`. Throws NESTING inside a transaction. */
  save(): ReplayState {
    this.#checkIdle();
    const names = new Names();
    names.copy(this.#names);
    return new ReplayState({
      core: this.#core.save(),
      ids: this.#replayer.save(),
      names,
      spaces: new Map(this.#spaces),
      roots: new Map(this.#roots),
    });
  }

  /** Makes everything as it was when the state was saved, here or in another replay of the same policy. Throws NESTING
   *  inside a transaction. */
  restore(state: ReplayState): void {
    this.#checkIdle();
    this.#core.restore(state.core);
    this.#replayer.restore(state.ids);
    this.#names.copy(state.names);
    this.#spaces = new Map(state.spaces);
    this.#roots = new Map(state.roots);
  }

  #checkIdle(): void {
    if (this.#core.open > 0) {
      throw new MembackingError('NESTING', 'a replay is saved and restored between transactions: end this one first');
    }
  }

  #attached(space: number): number[] {
    return [...this.#replayer.live('sink')].filter((sink) => this.#spaces.get(sink) === space);
  }

  /** Counts the ranges of a space against the `left` that may still be shown, and returns what is left then. Throws
   *  VIEW_TOO_LARGE. */
  #checkRanges(space: number, limit: number, left: number): number {
    let more = left;
    for (const { length } of this.#flatRows(space)) {
      more -= length;
      if (more >= 0) continue;
      throw new MembackingError('VIEW_TOO_LARGE', `shows more than ${limit} ranges`, { details: { limit } });
    }
    return more;
  }

  /** Rows of what a space shows, some at a time. */
  *#flatRows(space: number): Generator<Row[]> {
    let rows = this.#core.flatRowsFrom(space, 0);
    for (let end = rows.at(-1); end !== undefined; end = rows.at(-1)) {
      yield rows;
      if (end.last === LAST_ADDRESS) return;
      rows = this.#core.flatRowsFrom(space, sum(end.last, 1));
    }
  }

  #flat(space: number): TraceFlatRange[] {
    return this.#core.flat(space).map((row) => this.#range(row));
  }

  #range(row: Row): TraceFlatRange {
    return {
      gpa: row.start,
      length: lengthOf(row.start, row.last),
      name: this.#names.regions.get(row.id)!,
      kind: regionKindName(row.kind) as RegionKind,
      offsetInRegion: row.offset,
      readonly: (row.flags & abi.FLAT_READONLY) !== 0,
      nonvolatile: (row.flags & abi.FLAT_NONVOLATILE) !== 0,
    };
  }

  /** Bytes of memory that the core has taken, and how many of them hold something. */
  get coreMemory(): { readonly bytes: number; readonly inUse: number } {
    return { bytes: this.#core.memory.buffer.byteLength, inUse: this.#core.heapInUse() };
  }
}

/** A plan while it is the core's current one. */
export class TracePlan {
  readonly #core: Core;
  readonly #facts: PlanFacts;
  readonly #names: Names;

  /** @internal */
  constructor(core: Core, facts: PlanFacts, names: Names) {
    this.#core = core;
    this.#facts = facts;
    this.#names = names;
  }

  /** Disturbance class of the plan. */
  get disturbance(): Disturbance {
    return DISTURBANCES[this.#facts.disturbance]!;
  }

  /** The commands exactly as executors get them: a view of the core's memory. */
  get bytes(): Uint8Array {
    return this.#core.planBytes(this.#facts.commands);
  }

  /** The commands, in the order in which they are carried out. */
  commands(): TraceCommand[] {
    return Array.from({ length: this.#facts.commands }, (_, index) => {
      const { op, sink, gpa, length, access, slot, object, va, offset, event, match } = this.#core.command(index);
      return {
        op: operationName(op),
        sink: this.#names.sinks.get(sink) ?? formatHex(sink),
        gpa,
        length,
        access: accessName(access),
        slot: va === undefined ? undefined : slot,
        object: object === undefined ? undefined : this.#names.objects.get(object),
        objectOffset: object === undefined ? undefined : offset,
        event: event === undefined ? undefined : eventFacts(slot, length, match),
      };
    });
  }

  /** Text of the plan. */
  render(): string[] {
    return renderPlan(this.#core, this.#facts, this.#names);
  }
}
