// A core whose sinks record, spoken to in the words of script.ts and answering in lines of text.

import type { ExecutionContext } from 'ava';
import * as abi from '../../assembly/abi.ts';
import type { Pausable } from '../../ts/apply/holding.ts';
import { type Attached, type Executor, PlanRunner } from '../../ts/apply/runner.ts';
import { type Address, formatHex, LAST_ADDRESS, lengthOf } from '../../ts/core/address.ts';
import { type Command, Core, type CoreOptions, type EventRow, type Row } from '../../ts/core/core.ts';
import { MembackingError } from '../../ts/core/errors.ts';
import {
  accessName,
  DISTURBANCES,
  type Disturbance,
  eventFacts,
  isAboutAddresses,
  operationName,
  sinkKindOf,
} from '../../ts/core/kinds.ts';
import { Names } from '../../ts/core/names.ts';
import type { TraceOperation } from '../../ts/trace/operations.ts';
import { Replayer } from '../../ts/trace/replay.ts';
import { FailAfter } from './fail-after.ts';
import { Recorder } from './recorder.ts';
import { regionLines, Script, type Table } from './script.ts';
import { alignRows } from './table.ts';

export const BUILDS = ['release', 'debug'] as const;
export type Build = (typeof BUILDS)[number];

/** Answer of both builds, which must be the same. */
export function agreed(t: ExecutionContext, answer: (build: Build) => unknown): unknown {
  const [first, ...others] = BUILDS.map(answer);
  for (const other of others) t.deepEqual(other, first);
  return first;
}

export class World {
  readonly core: Core;
  readonly names = new Names();
  readonly runner: PlanRunner;
  readonly recorder = new Recorder();
  readonly failing = new FailAfter(this.recorder);
  /** The bytes of the last plan, and the same as text. */
  plan = new Uint8Array();
  planLines: readonly string[] = [];
  /** Disturbance of the last plan. */
  disturbance: Disturbance = 'none';
  /** Executor of sinks made from now on; `pausable`: whom to hold around plans that need it. */
  executor: Executor = this.failing;
  pausable: Pausable | undefined;
  readonly #script = new Script();
  readonly #replayer: Replayer;

  constructor(build: Build = 'release', options: CoreOptions = {}) {
    this.core = new Core({ ...options, debug: build === 'debug', explain: this.names.explain });
    this.runner = new PlanRunner(this.core);
    this.runner.observe((core, { commands, disturbance }) => {
      this.recorder.beginPlan();
      this.plan = core.planBytes(commands).slice();
      this.planLines = alignRows(Array.from({ length: commands }, (_, i) => this.#commandCells(core.command(i))));
      this.disturbance = DISTURBANCES[disturbance] as Disturbance;
    });
    this.#replayer = new Replayer(this.core, this.runner, this.names, {
      object: (id, { kind, writable, size, pageSize }) =>
        this.recorder.addObject(id, kind === 'private', writable, size, pageSize),
      va: (sink, { id, size }) => {
        this.recorder.addVa(sink, size);
        this.#connect(sink, id);
      },
      view: (sink, { id, va }) => {
        this.recorder.addView(sink, this.#replayer.id('sink', va));
        this.#connect(sink, id);
      },
      events: (sink, { id, attachment }) => {
        this.recorder.addEvents(sink, this.#replayer.id('sink', attachment));
        this.#connect(sink, id);
      },
      attach: (sink, { id, partition, va, gpaOffset }) => {
        const ids = [this.#replayer.id('partition', partition), this.#replayer.id('sink', va)] as const;
        this.recorder.attach(sink, ...ids, gpaOffset);
        this.#connect(sink, id, { partition, va: ids[1], pausable: this.pausable });
      },
    });
  }

  #connect(sink: number, id: number, attached?: Attached): void {
    this.runner.connect(sink, this.executor, attached);
    const name = this.#script.nameOf('sink', id);
    if (name !== undefined) this.names.sinks.set(sink, name);
  }

  // ---- Changes ---------------------------------------------------------------------------------

  /** All lines as one transaction. What it throws has changed nothing. */
  change(script: string): this {
    return this.run(`begin\n${script}\ncommit`);
  }

  /** Carries out a change, and says how it ended: `done`, or the code of its error. */
  attempt(script: string): string {
    try {
      this.change(script);
      return 'done';
    } catch (error) {
      if (error instanceof MembackingError) return error.code;
      throw error;
    }
  }

  /** Line by line: outside of begin and commit each is a transaction of its own. What is open after an error is
   *  aborted. */
  run(script: string): this {
    try {
      for (const line of script.split('\n')) if (line.trim() !== '') this.do(line);
    } catch (error) {
      this.#replayer.finish();
      throw error;
    }
    return this;
  }

  /** One line. */
  do(line: string): void {
    this.apply(this.#script.parse(line));
  }

  /** The regions of a table (see script.ts), in one transaction. */
  place(table: string): this {
    return this.change(regionLines(table));
  }

  /** One operation; where it ends a transaction, what the plan did is held against what it says. */
  apply(operation: TraceOperation): void {
    this.#replayer.apply(operation);
    if (operation.op === 'partition') {
      this.recorder.addPartition(this.#replayer.id('partition', operation.id), operation.slots);
    }
    if (this.core.open > 0 || operation.op === 'abort') return;
    const truth = DISTURBANCES[this.recorder.disturbance()];
    if (truth !== this.disturbance) throw new Error(`the plan says "${this.disturbance}", and it is "${truth}"`);
    this.recorder.checkContents();
  }

  /** Tries again whatever is lost. */
  repair(): this {
    const { recorder } = this;
    for (const sink of [recorder.vas(), recorder.views(), recorder.attachments(), recorder.eventSinks()].flat()) {
      for (const { start, last } of rowsOf(() => this.core.lost(sink))) {
        this.core.begin();
        this.core.repair(sink, start, lengthOf(start, last));
        const { error } = this.runner.commit();
        if (error !== undefined) throw error;
      }
    }
    return this;
  }

  /** Whether some partition was shut down. */
  isDown(): boolean {
    return this.recorder.attachments().some((sink) => this.core.hasSink(sink) && this.core.isDown(sink));
  }

  /** Aborts what is open. */
  finish(): void {
    this.#replayer.finish();
  }

  // ---- What there is ---------------------------------------------------------------------------

  /** The core's id. */
  id(table: Table, name: string): number {
    return this.#replayer.id(table, this.#script.id(table, name));
  }

  /** The core's id of what operations call `id`. */
  idOf(table: Table, id: number): number {
    return this.#replayer.id(table, id);
  }

  /** The flat view: range, region+offset, flags. */
  flat(space = 'memory'): string[] {
    return alignRows(
      this.core
        .flat(this.id('space', space))
        .map((row) => [
          rangeOf(row),
          placeIn(this.names.regions, row),
          `${row.flags & abi.FLAT_READONLY ? 'readonly ' : ''}${row.flags & abi.FLAT_NONVOLATILE ? 'nonvolatile' : ''}`,
        ]),
    );
  }

  /** Mappings of a region: range, object+offset, access. */
  mappings(region: string): string[] {
    return alignRows(
      this.core
        .mappings(this.id('region', region))
        .map((row) => [rangeOf(row), placeIn(this.names.objects, row), row.flags & abi.MAPPING_WRITABLE ? 'rw' : 'r']),
    );
  }

  /** Pieces of a VA space: range, object+offset, access. */
  pieces(va: string): string[] {
    return alignRows(
      this.core
        .sinkRows(this.id('sink', va))
        .map((row) => [rangeOf(row), placeIn(this.names.objects, row), accessName(row.flags)]),
    );
  }

  /** Parts of a VA space that may be used: range, object+offset, access. */
  parts(va: string): string[] {
    return alignRows(
      this.core
        .partsIn(this.id('sink', va), 0, LAST_ADDRESS)
        .map((row) => [rangeOf(row), placeIn(this.names.objects, row), accessName(row.flags)]),
    );
  }

  /** The slots of an attachment: number, range, region+offset, access. */
  slots(sink: string): string[] {
    return alignRows(
      this.core
        .sinkRows(this.id('sink', sink))
        .map((row) => [`${row.kind}`, rangeOf(row), placeIn(this.names.regions, row), accessName(row.flags)]),
    );
  }

  /** Stretches of slots that go on in each other: range, region+offset, access. */
  joinedSlots(sink: string): string[] {
    const runs: Row[] = [];
    for (const row of this.core.sinkRows(this.id('sink', sink))) {
      const run = runs.at(-1);
      const isNext = run !== undefined && BigInt(run.last) + 1n === BigInt(row.start);
      const goesOn = isNext && run.id === row.id && run.flags === row.flags && placeAfter(run) === BigInt(row.offset);
      if (goesOn) runs[runs.length - 1] = { ...run, last: row.last };
      else runs.push(row);
    }
    return alignRows(runs.map((row) => [rangeOf(row), placeIn(this.names.regions, row), accessName(row.flags)]));
  }

  /** The slots of an attachment that show what is mapped elsewhere: "8000+2000 at 41000". */
  homes(sink: string): string[] {
    const hex = (pages: number) => (pages * abi.PAGE_SIZE).toString(16);
    return this.recorder
      .slotsElsewhere(this.id('sink', sink))
      .map(({ start, pages, home }) => `${hex(start)}+${hex(pages)} at ${hex(home)}`);
  }

  /** The events that an address space shows: range, region+offset, kind, what counts. */
  events(space = 'memory'): string[] {
    return alignRows(this.core.events(this.id('space', space)).map((row) => this.#eventCells(row)));
  }

  /** The events of an attachment, by the name of their sink. */
  sinkEvents(sink: string): string[] {
    return alignRows(this.core.sinkEvents(this.id('sink', sink)).map((row) => this.#eventCells(row)));
  }

  #eventCells(row: EventRow): string[] {
    const { kind, length, match } = eventFacts(row.flags, lengthOf(row.start, row.last), row.match);
    const what = `${kind}${kind === 'eventfd' && length === 0 ? ', any length' : ''}`;
    const place = placeIn(this.names.regions, { ...row, id: row.other });
    return [rangeOf(row), place, what, match === undefined ? '' : `= ${match.toString(16)}`];
  }

  /** Everything that the core can tell and the recorder has. */
  describe(): string[] {
    const { core, names } = this;
    const lines: string[] = [];
    const tell = (what: string, read: () => unknown) => {
      try {
        const hexadecimal = (_: string, value: unknown) => (typeof value === 'bigint' ? formatHex(value) : value);
        lines.push(`${what} ${JSON.stringify(read(), hexadecimal)}`);
      } catch (error) {
        lines.push(`${what}: ${(error as Error).message}`);
      }
    };
    // One more of each than there are: nothing is gone, and nothing is left behind.
    for (let id = 0; id <= names.regions.size; id++) {
      tell(`region ${id}`, () => core.region(id));
      tell(`region ${id} children`, () => core.children(id));
      tell(`region ${id} mappings`, () => core.mappings(id));
    }
    for (let id = 0; id <= names.objects.size; id++) tell(`object ${id} mapped`, () => core.objectIsMapped(id));
    for (let id = 0; id <= names.spaces.size; id++) {
      tell(`space ${id}`, () => core.flat(id));
      if (names.events.size > 0) tell(`space ${id} events`, () => core.events(id));
    }
    for (let id = 0; id <= names.sinks.size; id++) {
      tell(`sink ${id} has`, () => core.sinkRows(id));
      tell(`sink ${id} protections`, () => core.protections(id));
      tell(`sink ${id} withheld`, () => core.withheld(id));
    }
    return [...lines, ...this.recorder.lines()];
  }

  /** Checks sinks. Throws where one has something else than the core says. */
  checkSinks(): void {
    const { core, recorder } = this;
    for (const sink of recorder.vas()) {
      compare(sink, recorder.pieces(sink), rowsOf(() => core.sinkRows(sink)).map(pieceOf));
      compare(sink, recorder.parts(sink), rowsOf(() => core.partsIn(sink, 0, LAST_ADDRESS)).map(pieceOf));
    }
    for (const sink of recorder.views())
      compare(sink, recorder.parts(sink), rowsOf(() => core.sinkRows(sink)).map(pieceOf));
    for (const sink of recorder.attachments())
      compare(sink, recorder.slots(sink), rowsOf(() => core.sinkRows(sink)).map(slotOf));
    for (const sink of recorder.eventSinks())
      compare(sink, recorder.events(sink), rowsOf(() => core.sinkEvents(sink)).map(eventOf));
  }

  #commandCells(command: Command): string[] {
    const { op, sink, gpa, length, offset, object, access, slot, region, offsetInRegion, event, match } = command;
    const { names } = this;
    const range = `${gpa.toString(16)}+${length.toString(16)}`;
    const cells = [operationName(op), names.sinks.get(sink) ?? `${sink}`, range];
    if (op === abi.OP_VA_UNMAP || isAboutAddresses(op)) return cells;
    if (op === abi.OP_VA_LIMIT || op === abi.OP_VIEW_LIMIT) return [...cells, '', accessName(access)];
    if (event !== undefined) {
      const facts = eventFacts(slot, length, match);
      const place = `${names.regions.get(region)}+${offsetInRegion.toString(16)}`;
      return [...cells, place, facts.kind, facts.match === undefined ? '' : `= ${facts.match.toString(16)}`];
    }
    if (sinkKindOf(op).number === abi.SINK_PARTITION) {
      return [
        ...cells,
        `${names.regions.get(region)}+${offsetInRegion.toString(16)}`,
        accessName(access),
        `slot ${slot}`,
      ];
    }
    return [...cells, `${names.objects.get(object!)}+${offset.toString(16)}`, accessName(access)];
  }
}

/** A sink that is gone has nothing. */
function rowsOf<Item>(read: () => Item[]): Item[] {
  try {
    return read();
  } catch {
    return [];
  }
}

function compare(sink: number, recorded: readonly unknown[], said: readonly unknown[]): void {
  if (JSON.stringify(recorded) === JSON.stringify(said)) return;
  throw new Error(`sink ${sink} has ${JSON.stringify(recorded)}, and the core says ${JSON.stringify(said)}`);
}

function pieceOf({ start, last, id, offset, flags }: Row): object {
  return { start: Number(start), last: Number(last), object: id, offset: Number(offset), access: accessName(flags) };
}

function slotOf({ start, last, kind, flags }: Row): object {
  return { number: kind, start: page(start), last: page(last), access: accessName(flags) };
}

function eventOf({ id, flags, start, last, match }: EventRow): object {
  return {
    ...{ event: id, gpa: Number(start), length: Number(last) - Number(start) + 1, flags, match: Number(match) },
  };
}

function page(address: Address): number {
  return typeof address === 'number' ? Math.floor(address / abi.PAGE_SIZE) : Number(address >> BigInt(abi.PAGE_SHIFT));
}

function rangeOf({ start, last }: Row): string {
  return `${start.toString(16)}-${last.toString(16)}`;
}

function placeIn(names: ReadonlyMap<number, string>, { id, offset }: Row): string {
  return `${names.get(id)}+${offset.toString(16)}`;
}

/** Offset at which what a row shows ends. */
function placeAfter({ start, last, offset }: Row): bigint {
  return BigInt(offset) + BigInt(last) - BigInt(start) + 1n;
}
