// What a trace is. One header line, then one operation a line, as JSON objects. A byte order mark before the first and
// empty lines after the last are no part of it.
//
//   {"membacking":"trace","version":1,"policy":"layered"}
//   {"op":"region","id":1,"name":"pc.ram","kind":"ram","size":"0x8000000"}
//
// Addresses, sizes, offsets and lengths are hexadecimal strings. Ids are chosen by the writer: regions, spaces,
// objects, partitions and sinks (VA spaces and attachments together) have one numbering each. An operation outside
// begin/commit is a transaction of its own. Regions placed at equal priority: the one placed first wins.
//
// In memory every field is present, with its default where the line left it out.

import * as abi from '../../assembly/abi.ts';
import { type Address, LAST_ADDRESS, toAddress, WHOLE_SPACE } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import {
  ACCESSES,
  type Access,
  OBJECT_KINDS,
  type ObjectKind,
  POLICIES,
  type Policy,
  REGION_KINDS,
  type RegionFlags,
  type RegionKind,
} from '../core/kinds.ts';

export const TRACE_VERSION = 1;
/** Ids in a trace: 0 to this. */
export const MAX_TRACE_ID = 0x7fffffff;

export interface TraceHeader {
  readonly version: typeof TRACE_VERSION;
  /** Default `layered`. */
  readonly policy: Policy;
}

interface Identified<Op extends string> {
  readonly op: Op;
  readonly id: number;
}

export interface RegionOperation extends Identified<'region'>, Required<RegionFlags> {
  readonly name: string;
  readonly kind: RegionKind;
  readonly size: Address;
}

/** A window of `size` bytes onto `target`, from `offset` in it. */
export interface AliasOperation extends Identified<'alias'>, Required<RegionFlags> {
  readonly name: string;
  readonly target: number;
  readonly offset: Address;
  readonly size: Address;
}

export interface PlaceOperation extends Identified<'place'> {
  readonly parent: number;
  readonly offset: Address;
  /** Signed, 32 bits. Default 0. */
  readonly priority: number;
}

export interface MoveOperation extends Identified<'move'> {
  readonly offset: Address;
}

export interface ResizeOperation extends Identified<'resize'> {
  readonly size: Address;
}

export interface PriorityOperation extends Identified<'priority'> {
  readonly priority: number;
}

/** What is left out stays as it is. */
export interface FlagsOperation extends Identified<'flags'>, RegionFlags {}

export interface RetargetOperation extends Identified<'retarget'> {
  readonly offset: Address;
}

export interface SpaceOperation extends Identified<'space'> {
  readonly name: string;
  readonly root: number;
  /** Where the root stands in the space. Default 0. */
  readonly offset: Address;
}

export interface ObjectOperation extends Identified<'object'> {
  readonly name: string;
  readonly kind: ObjectKind;
  readonly size: Address;
  readonly writable: boolean;
}

export interface MapOperation {
  readonly op: 'map';
  readonly region: number;
  readonly offset: Address;
  readonly length: Address;
  readonly object: number;
  readonly objectOffset: Address;
  readonly writable: boolean;
}

export interface UnmapOperation {
  readonly op: 'unmap';
  readonly region: number;
  readonly offset: Address;
  readonly length: Address;
}

export interface VaOperation extends Identified<'va'> {
  readonly space: number;
  readonly size: Address;
}

export interface PartitionOperation extends Identified<'partition'> {
  readonly slots: number;
}

export interface AttachOperation extends Identified<'attach'> {
  readonly partition: number;
  readonly space: number;
  /** The VA space whose host addresses the slots use. */
  readonly va: number;
  /** Added to every GPA of the space. Default 0. */
  readonly gpaOffset: Address;
  /** Last GPA of the space that this attachment may be given. Default: the last there is. */
  readonly lastGpa: Address;
}

export interface ProtectOperation {
  readonly op: 'protect';
  readonly sink: number;
  readonly start: Address;
  readonly length: Address;
  readonly access: Access;
}

/** Operations that say only whom they are done to. */
export interface IdOperation {
  readonly op: 'remove' | 'destroy' | 'space-close' | 'object-close' | 'partition-close' | 'detach';
  readonly id: number;
}

export interface TransactionOperation {
  readonly op: 'begin' | 'commit' | 'abort';
}

export type TraceOperation =
  | RegionOperation
  | AliasOperation
  | PlaceOperation
  | MoveOperation
  | ResizeOperation
  | PriorityOperation
  | FlagsOperation
  | RetargetOperation
  | SpaceOperation
  | ObjectOperation
  | MapOperation
  | UnmapOperation
  | VaOperation
  | PartitionOperation
  | AttachOperation
  | ProtectOperation
  | IdOperation
  | TransactionOperation;

const FLAGS = ['readonly', 'nonvolatile', 'enabled'];

/** The fields that each operation may have, in the order in which they are written. */
const FIELDS = new Map<unknown, ReadonlySet<string>>(
  Object.entries({
    region: ['id', 'name', 'kind', 'size', ...FLAGS],
    alias: ['id', 'name', 'target', 'offset', 'size', ...FLAGS],
    place: ['id', 'parent', 'offset', 'priority'],
    remove: ['id'],
    move: ['id', 'offset'],
    resize: ['id', 'size'],
    priority: ['id', 'priority'],
    flags: ['id', ...FLAGS],
    retarget: ['id', 'offset'],
    destroy: ['id'],
    space: ['id', 'name', 'root', 'offset'],
    'space-close': ['id'],
    object: ['id', 'name', 'kind', 'size', 'writable'],
    'object-close': ['id'],
    map: ['region', 'offset', 'length', 'object', 'objectOffset', 'writable'],
    unmap: ['region', 'offset', 'length'],
    va: ['id', 'space', 'size'],
    partition: ['id', 'slots'],
    'partition-close': ['id'],
    attach: ['id', 'partition', 'space', 'va', 'gpaOffset', 'lastGpa'],
    detach: ['id'],
    protect: ['sink', 'start', 'length', 'access'],
    begin: [],
    commit: [],
    abort: [],
  } satisfies Record<TraceOperation['op'], string[]>).map(([op, fields]) => [op, new Set(['op', ...fields])]),
);

/** The header on line 1. Throws TRACE_HEADER or TRACE_VERSION. */
export function parseHeader(value: unknown): TraceHeader {
  if (!isObject(value) || value.membacking !== 'trace') {
    throw headerError('TRACE_HEADER', 'this is no trace: line 1 must be {"membacking":"trace","version":1,…}');
  }
  if (value.version !== TRACE_VERSION) {
    const found = shown(value.version);
    throw headerError('TRACE_VERSION', `the trace says version ${found}; this package reads version ${TRACE_VERSION}`);
  }
  for (const field in value) {
    if (field !== 'membacking' && field !== 'version' && field !== 'policy') {
      throw headerError('TRACE_HEADER', `line 1: the header has no field ${shown(field)}`);
    }
  }
  const policy = value.policy ?? 'layered';
  if (!includes(POLICIES, policy)) {
    throw headerError('TRACE_HEADER', `line 1: "policy" must be one of ${POLICIES.join(', ')}, not ${shown(policy)}`);
  }
  return { version: TRACE_VERSION, policy };
}

/** One operation from the JSON value of its line. Throws TRACE_OPERATION with the line number. */
export function parseOperation(value: unknown, line: number): TraceOperation {
  try {
    return operation(value);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    throw new MembackingError('TRACE_OPERATION', `line ${line}: ${error.message}`, { details: { line } });
  }
}

/** The value of a hexadecimal string such as "0x1000", of any length; undefined if it is not one. */
export function parseHex(text: unknown): Address | undefined {
  if (typeof text !== 'string' || text.length < 3) return undefined;
  if (text.charCodeAt(0) !== 0x30 || text.charCodeAt(1) !== 0x78) return undefined;
  if (text.length > 15) {
    return /^0x[0-9a-fA-F]+$/.test(text) ? toAddress(BigInt(text)) : undefined;
  }
  let value = 0; // at most 13 digits, 52 bits: exact
  for (let i = 2; i < text.length; i++) {
    const character = text.charCodeAt(i);
    let digit = character - 0x30;
    if (digit < 0 || digit > 9) {
      digit = (character | 0x20) - 0x61 + 10;
      if (digit < 10 || digit > 15) return undefined;
    }
    value = value * 16 + digit;
  }
  return value;
}

/** What is wrong with one operation, in words; its line is added by who knows it. */
class Problem extends Error {}

// biome-ignore lint/suspicious/noExplicitAny: every field is checked where it is read
type Unchecked = any;

function operation(value: unknown): TraceOperation {
  if (!isObject(value)) throw new Problem(`an operation must be a JSON object, not ${shown(value)}`);
  const o: Unchecked = value;
  const fields = FIELDS.get(o.op);
  if (fields === undefined) {
    if (o.op === undefined) throw new Problem('the field "op" is missing');
    throw new Problem(`there is no operation ${shown(o.op)}; there are ${[...FIELDS.keys()].join(', ')}`);
  }
  for (const field in o) {
    if (!fields.has(field)) {
      const known = [...fields].slice(1).join(', ') || 'none';
      throw new Problem(`"${o.op}" has no field ${shown(field)}; its fields are: ${known}`);
    }
  }
  switch (o.op as TraceOperation['op']) {
    case 'map':
      return {
        op: 'map',
        region: id(o.region, 'region'),
        offset: address(o.offset, 'offset'),
        length: size(o.length, 'length'),
        object: id(o.object, 'object'),
        objectOffset: address(o.objectOffset, 'objectOffset'),
        writable: flag(o.writable, 'writable'),
      };
    case 'unmap':
      return {
        op: 'unmap',
        region: id(o.region, 'region'),
        offset: address(o.offset, 'offset'),
        length: size(o.length, 'length'),
      };
    case 'region':
      return {
        op: 'region',
        id: id(o.id, 'id'),
        name: text(o.name, 'name'),
        kind: oneOf(REGION_KINDS, o.kind, 'kind'),
        size: size(o.size, 'size'),
        readonly: o.readonly === undefined ? false : flag(o.readonly, 'readonly'),
        nonvolatile: o.nonvolatile === undefined ? false : flag(o.nonvolatile, 'nonvolatile'),
        enabled: o.enabled === undefined ? true : flag(o.enabled, 'enabled'),
      };
    case 'alias':
      return {
        op: 'alias',
        id: id(o.id, 'id'),
        name: text(o.name, 'name'),
        target: id(o.target, 'target'),
        offset: address(o.offset, 'offset'),
        size: size(o.size, 'size'),
        readonly: o.readonly === undefined ? false : flag(o.readonly, 'readonly'),
        nonvolatile: o.nonvolatile === undefined ? false : flag(o.nonvolatile, 'nonvolatile'),
        enabled: o.enabled === undefined ? true : flag(o.enabled, 'enabled'),
      };
    case 'place':
      return {
        op: 'place',
        id: id(o.id, 'id'),
        parent: id(o.parent, 'parent'),
        offset: address(o.offset, 'offset'),
        priority: o.priority === undefined ? 0 : priority(o.priority),
      };
    case 'move':
    case 'retarget':
      return { op: o.op, id: id(o.id, 'id'), offset: address(o.offset, 'offset') };
    case 'resize':
      return { op: 'resize', id: id(o.id, 'id'), size: size(o.size, 'size') };
    case 'priority':
      return { op: 'priority', id: id(o.id, 'id'), priority: priority(o.priority) };
    case 'flags':
      return {
        op: 'flags',
        id: id(o.id, 'id'),
        ...(o.readonly === undefined ? {} : { readonly: flag(o.readonly, 'readonly') }),
        ...(o.nonvolatile === undefined ? {} : { nonvolatile: flag(o.nonvolatile, 'nonvolatile') }),
        ...(o.enabled === undefined ? {} : { enabled: flag(o.enabled, 'enabled') }),
      };
    case 'remove':
    case 'destroy':
    case 'space-close':
    case 'object-close':
    case 'partition-close':
    case 'detach':
      return { op: o.op, id: id(o.id, 'id') };
    case 'space':
      return {
        op: 'space',
        id: id(o.id, 'id'),
        name: text(o.name, 'name'),
        root: id(o.root, 'root'),
        offset: o.offset === undefined ? 0 : address(o.offset, 'offset'),
      };
    case 'object':
      return {
        op: 'object',
        id: id(o.id, 'id'),
        name: text(o.name, 'name'),
        kind: oneOf(OBJECT_KINDS, o.kind, 'kind'),
        size: size(o.size, 'size'),
        writable: flag(o.writable, 'writable'),
      };
    case 'va':
      return { op: 'va', id: id(o.id, 'id'), space: id(o.space, 'space'), size: size(o.size, 'size') };
    case 'partition':
      return { op: 'partition', id: id(o.id, 'id'), slots: slots(o.slots) };
    case 'attach':
      return {
        op: 'attach',
        id: id(o.id, 'id'),
        partition: id(o.partition, 'partition'),
        space: id(o.space, 'space'),
        va: id(o.va, 'va'),
        gpaOffset: o.gpaOffset === undefined ? 0 : address(o.gpaOffset, 'gpaOffset'),
        lastGpa: o.lastGpa === undefined ? LAST_ADDRESS : address(o.lastGpa, 'lastGpa'),
      };
    case 'protect':
      return {
        op: 'protect',
        sink: id(o.sink, 'sink'),
        start: address(o.start, 'start'),
        length: size(o.length, 'length'),
        access: oneOf(ACCESSES, o.access, 'access'),
      };
    case 'begin':
    case 'commit':
    case 'abort':
      return { op: o.op };
  }
}

// ---- One field: its value, or what it must be ------------------------------------------------

function id(value: unknown, field: string): number {
  if (isIntegerBetween(value, 0, MAX_TRACE_ID)) return value;
  throw mustBe(field, `an integer from 0 to ${MAX_TRACE_ID}`, value);
}

function priority(value: unknown): number {
  if (isIntegerBetween(value, -0x80000000, 0x7fffffff)) return value;
  throw mustBe('priority', 'an integer of 32 bits with sign', value);
}

function slots(value: unknown): number {
  if (isIntegerBetween(value, 1, abi.MAX_SLOTS)) return value;
  throw mustBe('slots', `an integer from 1 to ${abi.MAX_SLOTS}`, value);
}

function address(value: unknown, field: string): Address {
  const parsed = parseHex(value);
  if (parsed !== undefined && parsed < WHOLE_SPACE) return parsed;
  throw mustBe(field, 'a hexadecimal string such as "0x1000", below 2^64', value);
}

function size(value: unknown, field: string): Address {
  const parsed = parseHex(value);
  if (parsed !== undefined && parsed <= WHOLE_SPACE) return parsed;
  throw mustBe(field, 'a hexadecimal string such as "0x1000", at most 2^64', value);
}

function flag(value: unknown, field: string): boolean {
  if (typeof value === 'boolean') return value;
  throw mustBe(field, 'true or false', value);
}

function text(value: unknown, field: string): string {
  if (typeof value === 'string') return value;
  throw mustBe(field, 'a string', value);
}

function oneOf<Value extends string>(values: readonly Value[], value: unknown, field: string): Value {
  if (includes(values, value)) return value;
  throw mustBe(field, `one of ${values.join(', ')}`, value);
}

function mustBe(field: string, what: string, value: unknown): Problem {
  return new Problem(
    value === undefined ? `the field "${field}" is missing` : `"${field}" must be ${what}, not ${shown(value)}`,
  );
}

function headerError(code: 'TRACE_HEADER' | 'TRACE_VERSION', message: string): MembackingError {
  return new MembackingError(code, message, { details: { line: 1 } });
}

function isIntegerBetween(value: unknown, least: number, most: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function includes<Value>(values: readonly Value[], value: unknown): value is Value {
  return (values as readonly unknown[]).includes(value);
}

/** A JSON value for a message, at most about 40 characters of it. */
export function shown(value: unknown): string {
  if (value === undefined) return 'undefined';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  const json = JSON.stringify(value);
  return json.length > 40 ? `${json.slice(0, 37)}…` : json;
}
