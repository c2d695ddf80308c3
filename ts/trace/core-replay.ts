// A trace through the core alone: no system, no privileges; the same operations give the same plans everywhere.

import * as abi from '../../assembly/abi.ts';
import { COMMAND_NAMES, type PlanFacts, PlanRunner } from '../apply/runner.ts';
import { type Address, formatHex, lengthOf } from '../core/address.ts';
import { Core } from '../core/core.ts';
import {
  type Access,
  accessName,
  DISTURBANCES,
  type Disturbance,
  type Policy,
  type RegionKind,
  regionKindName,
} from '../core/kinds.ts';
import { Names } from '../core/names.ts';
import { type Explanation, explain, explainedRegion } from '../text/explain.ts';
import { renderFlatViews, renderPlan } from '../text/render.ts';
import type { TraceOperation } from './operations.ts';
import { Replayer } from './replay.ts';

export interface TraceReplayOptions {
  /** What the trace's header says. Default `layered`. */
  readonly policy?: Policy;
  /** Told of every plan that has commands, as it is made. The plan is good until `onPlan` returns. */
  readonly onPlan?: (plan: TracePlan) => void;
}

/** What an address space shows in one place. */
export interface TraceFlatRange {
  readonly gpa: Address;
  readonly length: Address;
  readonly name: string;
  readonly kind: RegionKind;
  readonly offsetInRegion: Address;
  /** The region's own flag, or inherited from what it is seen through. */
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
}

export interface TraceFlatView {
  /** Name of the address space. */
  readonly name: string;
  readonly ranges: readonly TraceFlatRange[];
}

/** A command, with names instead of numbers. */
export interface TraceCommand {
  readonly op: string;
  /** Name of the sink that it is for. */
  readonly sink: string;
  readonly gpa: Address;
  readonly length: Address;
  readonly access: Access;
  /** Slot commands: the number. */
  readonly slot: number | undefined;
  /** VA commands: the object, and the byte in it. */
  readonly object: string | undefined;
  readonly objectOffset: Address | undefined;
}

export class TraceReplay {
  readonly #names = new Names();
  readonly #core: Core;
  readonly #replayer: Replayer;
  /** The address space of each attachment. */
  readonly #spaces = new Map<number, number>();

  constructor({ policy = 'layered', onPlan }: TraceReplayOptions = {}) {
    this.#core = new Core({ policy, explain: this.#names.explain });
    const runner = new PlanRunner(this.#core);
    if (onPlan !== undefined) {
      runner.observer = (core, facts) => {
        if (facts.commands > 0) onPlan(new TracePlan(core, facts, this.#names));
      };
    }
    this.#replayer = new Replayer(this.#core, runner, this.#names, {
      attach: (sink, operation) => this.#spaces.set(sink, this.#replayer.id('space', operation.space)),
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

  /** What every open address space shows, in the order in which they were made. Not inside a transaction. */
  flatViews(): TraceFlatView[] {
    return Array.from(this.#replayer.live('space'), (space) => ({
      name: this.#names.spaces.get(space)!,
      ranges: this.#core.flat(space).map((row) => ({
        gpa: row.start,
        length: lengthOf(row.start, row.last),
        name: this.#names.regions.get(row.id)!,
        kind: regionKindName(row.kind) as RegionKind,
        offsetInRegion: row.offset,
        readonly: (row.flags & abi.FLAT_READONLY) !== 0,
        nonvolatile: (row.flags & abi.FLAT_NONVOLATILE) !== 0,
      })),
    }));
  }

  /** The same as text. */
  renderFlatViews(): string[] {
    return renderFlatViews(this.#core, this.#replayer.live('space'), this.#names);
  }

  /** Why the byte at `gpa` of every open address space is what it is. */
  explain(gpa: Address): Explanation[] {
    return Array.from(this.#replayer.live('space'), (space) => {
      const attached = [...this.#replayer.live('sink')].filter((sink) => this.#spaces.get(sink) === space);
      return explain(this.#core, space, gpa, this.#names, attached, (row) => explainedRegion(row, this.#names));
    });
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

  get disturbance(): Disturbance {
    return DISTURBANCES[this.#facts.disturbance]!;
  }

  /** The commands exactly as executors get them: a view of the core's memory. */
  get bytes(): Uint8Array {
    return this.#core.planBytes(this.#facts.commands);
  }

  commands(): TraceCommand[] {
    return Array.from({ length: this.#facts.commands }, (_, index) => {
      const { op, sink, gpa, length, access, slot, backing, offset } = this.#core.command(index);
      const isSlot = op === abi.OP_SLOT_ADD || op === abi.OP_SLOT_DELETE;
      return {
        op: COMMAND_NAMES[op] ?? formatHex(op),
        sink: this.#names.sinks.get(sink) ?? formatHex(sink),
        gpa,
        length,
        access: accessName(access),
        slot: isSlot ? slot : undefined,
        object: isSlot ? undefined : this.#names.objects.get(backing),
        objectOffset: isSlot ? undefined : offset,
      };
    });
  }

  /** As text. */
  render(): string[] {
    return renderPlan(this.#core, this.#facts, this.#names);
  }
}
