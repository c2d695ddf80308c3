// The operations of a trace, one row each: its fields in the order in which they are written, and what replaying it
// does. Reader, writer, scanner, recorder and replay know operations by this table alone.

import * as abi from '../../assembly/abi.ts';
import { LAST_ADDRESS, lastByte, WHOLE_SPACE } from '../core/address.ts';
import { type Core, STRETCHES } from '../core/core.ts';
import {
  ACCESSES,
  accessNumber,
  EVENT_KINDS,
  eventNumbers,
  OBJECT_KINDS,
  objectKindNumber,
  protectionNumber,
  REGION_KINDS,
  regionFlags,
  regionFlagsMask,
  regionKindNumber,
} from '../core/kinds.ts';
import {
  ADDRESS,
  COUNT,
  type Field,
  FLAG,
  ID,
  oneOf,
  optional,
  PAGE,
  PRIORITY,
  required,
  SIZE,
  SLOTS,
  TEXT,
  withDefault,
} from './fields.ts';

/** Kinds of things that have ids of their own in a trace. */
export const TABLES = ['region', 'space', 'object', 'partition', 'sink', 'event'] as const;
export type Table = (typeof TABLES)[number];

/** Target of a replay: a core, and the trace's ids for what is in it. */
export interface ReplayTarget {
  readonly core: Core;
  /** The core's id of what the trace calls `id`. Throws BAD_ID. */
  id(table: Table, id: number): number;
  /** Enters what `make` makes under the operation's id. Throws TRACE_OPERATION if the trace has that id already. */
  make(table: Table, operation: { readonly op: string; readonly id: number }, name: string, make: () => number): void;
  /** Ends what the trace calls `id`, by `end`. Throws BAD_ID. */
  end(table: Table, id: number, end: (id: number) => void): void;
  begin(): void;
  commit(): void;
  abort(): void;
}

// biome-ignore lint/suspicious/noExplicitAny: each row has fields of its own
type Fields = Readonly<Record<string, Field<any, 'required' | 'default' | 'optional'>>>;
type Value<F> = F extends Field<infer V, infer _> ? V : never;
type Optional<F extends Fields> = { [N in keyof F]: F[N] extends Field<infer _, 'optional'> ? N : never }[keyof F];
type ValuesOf<F extends Fields> = { readonly [N in Exclude<keyof F, Optional<F>>]: Value<F[N]> } & {
  readonly [N in Optional<F>]?: Value<F[N]>;
};

/** A field of a row, and what stands in front of its value in a line. */
interface Written {
  readonly name: string;
  readonly field: Fields[string];
  readonly prefix: string;
}

/** One row of the table. */
export interface OperationRow<F extends Fields = Fields> {
  readonly fields: F;
  readonly written: readonly Written[];
  /** Replays the operation. Throws what the core throws; the operation then has not happened. */
  replay(operation: ValuesOf<F> & { readonly op: string }, target: ReplayTarget): void;
  /** Whether it begins or ends a transaction, where others are part of one. */
  readonly isBoundary: boolean;
}

function operation<F extends Fields>(fields: F, replay: OperationRow<F>['replay']): OperationRow<F> {
  return { fields, written: writtenOf(fields), replay, isBoundary: false };
}

function boundary(replay: (target: ReplayTarget) => void): OperationRow<Record<never, never>> {
  return { fields: {}, written: [], replay: (_, target) => replay(target), isBoundary: true };
}

function writtenOf(fields: Fields): Written[] {
  return Object.entries(fields).map(([name, field]) => ({ name, field, prefix: `,"${name}":${field.type.prefix}` }));
}

const ONLY_ID = { id: required(ID) };
const FLAGS = {
  readonly: withDefault(FLAG, false),
  nonvolatile: withDefault(FLAG, false),
  enabled: withDefault(FLAG, true),
};
const RANGE = { offset: required(ADDRESS), length: required(SIZE) };

export const OPERATIONS = {
  region: operation(
    { id: required(ID), name: required(TEXT), kind: required(oneOf(REGION_KINDS)), size: required(SIZE), ...FLAGS },
    (o, { core, make }) =>
      make('region', o, o.name, () => core.createRegion(regionKindNumber(o.kind), o.size, regionFlags(o))),
  ),
  /** A view of `size` bytes of `target`, from `offset` in it. */
  alias: operation(
    {
      ...{ id: required(ID), name: required(TEXT), target: required(ID), offset: required(ADDRESS) },
      ...{ size: required(SIZE), ...FLAGS },
    },
    (o, { core, id, make }) =>
      make('region', o, o.name, () => core.createAlias(id('region', o.target), o.offset, o.size, regionFlags(o))),
  ),
  place: operation(
    { id: required(ID), parent: required(ID), offset: required(ADDRESS), priority: withDefault(PRIORITY, 0) },
    (o, { core, id }) => core.place(id('region', o.id), id('region', o.parent), o.offset, o.priority),
  ),
  remove: operation(ONLY_ID, (o, { core, id }) => core.remove(id('region', o.id))),
  move: operation({ id: required(ID), offset: required(ADDRESS) }, (o, { core, id }) =>
    core.move(id('region', o.id), o.offset),
  ),
  resize: operation({ id: required(ID), size: required(SIZE) }, (o, { core, id }) =>
    core.resize(id('region', o.id), o.size),
  ),
  priority: operation({ id: required(ID), priority: required(PRIORITY) }, (o, { core, id }) =>
    core.setPriority(id('region', o.id), o.priority),
  ),
  /** Flags that are left out stay as they are. */
  flags: operation(
    { id: required(ID), readonly: optional(FLAG), nonvolatile: optional(FLAG), enabled: optional(FLAG) },
    (o, { core, id }) => core.setFlags(id('region', o.id), regionFlags(o), regionFlagsMask(o)),
  ),
  retarget: operation({ id: required(ID), offset: required(ADDRESS) }, (o, { core, id }) =>
    core.retarget(id('region', o.id), o.offset),
  ),
  destroy: operation(ONLY_ID, (o, { core, end }) => end('region', o.id, (id) => core.destroyRegion(id))),
  /** An address space whose root stands at `offset` in it. */
  space: operation(
    { id: required(ID), name: required(TEXT), root: required(ID), offset: withDefault(ADDRESS, 0) },
    (o, { core, id, make }) => make('space', o, o.name, () => core.createSpace(id('region', o.root), o.offset)),
  ),
  'space-close': operation(ONLY_ID, (o, { core, end }) => end('space', o.id, (id) => core.destroySpace(id))),
  object: operation(
    {
      ...{ id: required(ID), name: required(TEXT), kind: required(oneOf(OBJECT_KINDS)), size: required(SIZE) },
      ...{ writable: required(FLAG), pageSize: withDefault(PAGE, abi.PAGE_SIZE) },
    },
    (o, { core, make }) =>
      make('object', o, o.name, () =>
        core.createObject(objectKindNumber(o.kind), o.writable ? abi.OBJECT_WRITABLE : 0, o.size, o.pageSize),
      ),
  ),
  'object-close': operation(ONLY_ID, (o, { core, end }) => end('object', o.id, (id) => core.destroyObject(id))),
  map: operation(
    {
      ...{ region: required(ID), ...RANGE, object: required(ID) },
      ...{ objectOffset: required(ADDRESS), writable: required(FLAG) },
    },
    (o, { core, id }) => {
      const flags = o.writable ? abi.MAPPING_WRITABLE : 0;
      core.map(id('region', o.region), o.offset, o.length, id('object', o.object), o.objectOffset, flags);
    },
  ),
  unmap: operation({ region: required(ID), ...RANGE }, (o, { core, id }) =>
    core.unmap(id('region', o.region), o.offset, o.length),
  ),
  /** An event of a region: bytes at which a guest's writes do not exit. `length` 0: a write of any length, to an
   *  eventfd; `match`: the value that counts. */
  event: operation(
    {
      ...{ id: required(ID), region: required(ID), ...RANGE, match: optional(ADDRESS) },
      ...{ kind: withDefault(oneOf(EVENT_KINDS), 'eventfd') },
    },
    (o, { core, id, make }) =>
      make('event', o, `event ${o.id}`, () => {
        const { length, flags, match } = eventNumbers(o);
        return core.createEvent(id('region', o.region), o.offset, length, flags, match);
      }),
  ),
  'event-close': operation(ONLY_ID, (o, { core, end }) => end('event', o.id, (id) => core.destroyEvent(id))),
  /** A VA space whose first stretch has `size` bytes, and that may have so many `stretches` behind it, of so many bytes
   *  together, in units of `stretchUnit`. Without `stretches`, there are none. */
  va: operation(
    {
      ...{ id: required(ID), space: required(ID), size: required(SIZE), stretches: optional(COUNT) },
      ...{ stretchBytes: optional(ADDRESS), stretchUnit: optional(PAGE) },
    },
    (o, { core, id, make }) =>
      make('sink', o, `va ${o.id}`, () => {
        const sink = core.attach(abi.SINK_VA, id('space', o.space), { last: lastByte(o.size) });
        const { stretches: count = 0, stretchBytes: bytes = STRETCHES.bytes, stretchUnit: unit = STRETCHES.unit } = o;
        if (count !== 0) core.allowStretches(sink, { count, bytes, unit });
        return sink;
      }),
  ),
  /** A partition that has so many slots, of so many bytes at most. */
  partition: operation(
    { id: required(ID), slots: required(SLOTS), largestSlot: withDefault(SIZE, WHOLE_SPACE) },
    (o, { core, make }) =>
      make('partition', o, `partition ${o.id}`, () => core.createPartition(o.slots, o.largestSlot)),
  ),
  /** Says whether the hypervisor keeps pages of the partition's own addresses for itself. */
  keep: operation(
    {
      ...{ partition: required(ID), start: required(ADDRESS), length: required(SIZE) },
      ...{ kept: withDefault(FLAG, true) },
    },
    (o, { core, id }) => core.keepPages(id('partition', o.partition), o.start, o.length, o.kept),
  ),
  'partition-close': operation(ONLY_ID, (o, { core, end }) =>
    end('partition', o.id, (id) => core.destroyPartition(id)),
  ),
  /** An attachment whose slots use the host addresses of `va`; `gpaOffset` is added to every GPA of the space, of which
   *  none above `lastGpa` is given. */
  attach: operation(
    {
      ...{ id: required(ID), partition: required(ID), space: required(ID), va: required(ID) },
      ...{ gpaOffset: withDefault(ADDRESS, 0), lastGpa: withDefault(ADDRESS, LAST_ADDRESS) },
    },
    (o, { core, id, make }) =>
      make('sink', o, `partition ${o.partition}`, () => {
        const [partition, space, va] = [id('partition', o.partition), id('space', o.space), id('sink', o.va)];
        return core.attach(abi.SINK_PARTITION, space, { partition, va, offset: o.gpaOffset, last: o.lastGpa });
      }),
  ),
  /** Events of an attachment: its partition gets those of the regions that are seen. */
  events: operation(
    {
      ...{ id: required(ID), attachment: required(ID), space: required(ID) },
      ...{ gpaOffset: withDefault(ADDRESS, 0), lastGpa: withDefault(ADDRESS, LAST_ADDRESS) },
    },
    (o, { core, id, make }) =>
      make('sink', o, `events ${o.id}`, () => {
        const place = { va: id('sink', o.attachment), offset: o.gpaOffset, last: o.lastGpa };
        return core.attach(abi.SINK_EVENTS, id('space', o.space), place);
      }),
  ),
  /** A view of `va`, whose accesses have protections of their own. */
  view: operation(
    { id: required(ID), space: required(ID), va: required(ID), size: required(SIZE) },
    (o, { core, id, make }) =>
      make('sink', o, `view ${o.id}`, () =>
        core.attach(abi.SINK_VIEW, id('space', o.space), { va: id('sink', o.va), last: lastByte(o.size) }),
      ),
  ),
  detach: operation(ONLY_ID, (o, { core, end }) => end('sink', o.id, (id) => core.detach(id))),
  /** Leaves a sink at most `access` in a range; `nearest`: where that cannot be had exactly, what comes nearest. */
  protect: operation(
    {
      ...{ sink: required(ID), start: required(ADDRESS), length: required(SIZE), access: required(oneOf(ACCESSES)) },
      ...{ nearest: optional(FLAG) },
    },
    (o, { core, id }) => core.protect(id('sink', o.sink), o.start, o.length, protectionNumber(o)),
  ),
  /** Leaves a sink at most `access` in a range, whatever is protected, while somebody waits to change what is there. */
  withhold: operation(
    { sink: required(ID), start: required(ADDRESS), length: required(SIZE), access: required(oneOf(ACCESSES)) },
    (o, { core, id }) => core.withhold(id('sink', o.sink), o.start, o.length, accessNumber(o.access)),
  ),
  'give-back': operation({ sink: required(ID), start: required(ADDRESS), length: required(SIZE) }, (o, { core, id }) =>
    core.giveBack(id('sink', o.sink), o.start, o.length),
  ),
  /** Says that a range shows nothing, because what was there could not be put back; of `object`, the pages from
   *  `objectOffset` on are held there, without access. Its transaction says nothing else. */
  lose: operation(
    {
      ...{ sink: required(ID), start: required(ADDRESS), length: required(SIZE) },
      ...{ object: optional(ID), objectOffset: withDefault(ADDRESS, 0) },
    },
    (o, { core, id }) => {
      const object = o.object === undefined ? undefined : id('object', o.object);
      core.lose(id('sink', o.sink), o.start, o.length, object, o.objectOffset);
    },
  ),
  /** Says that the partition of an attachment was shut down. */
  'shut-down': operation({ sink: required(ID) }, (o, { core, id }) => core.shutDown(id('sink', o.sink))),
  /** Tries again what is lost in a range. */
  repair: operation({ sink: required(ID), start: required(ADDRESS), length: required(SIZE) }, (o, { core, id }) =>
    core.repair(id('sink', o.sink), o.start, o.length),
  ),
  begin: boundary((target) => target.begin()),
  commit: boundary((target) => target.commit()),
  abort: boundary((target) => target.abort()),
};

type Rows = typeof OPERATIONS;

/** One operation in memory: every field is present, with its default where the line left it out. */
export type TraceOperation = {
  [Op in keyof Rows]: { readonly op: Op } & ValuesOf<Rows[Op]['fields']>;
}[keyof Rows];

/** One of the operations, by its name. */
export type OperationOf<Op extends TraceOperation['op']> = Extract<TraceOperation, { readonly op: Op }>;

/** The row of an operation's name; undefined if there is no such operation. */
export function rowOf(op: unknown): OperationRow | undefined {
  return typeof op === 'string' && Object.hasOwn(OPERATIONS, op)
    ? (OPERATIONS[op as keyof Rows] as OperationRow)
    : undefined;
}
