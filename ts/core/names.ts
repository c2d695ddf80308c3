// The names of what the core knows only by number: for messages and the text form.

import { MAX_DEPTH, MAX_NESTING, PAGE_SIZE } from '../../assembly/abi.ts';
import { type Address, formatHex } from './address.ts';
import type { Attempt, CoreFailure } from './core.ts';
import type { CoreErrorCode } from './errors.ts';
import { regionKindName } from './kinds.ts';

/** Tables of names, one for each sort of thing. */
export const NAME_TABLES = ['regions', 'objects', 'spaces', 'partitions', 'sinks', 'events'] as const;

export class Names {
  readonly regions = new Map<number, string>();
  readonly objects = new Map<number, string>();
  /** Bytes of objects, as far as somebody has said them. */
  readonly objectSizes = new Map<number, Address>();
  readonly spaces = new Map<number, string>();
  readonly partitions = new Map<number, string>();
  readonly sinks = new Map<number, string>();
  readonly events = new Map<number, string>();

  /** Makes these the names that others are. */
  copy(others: Names): void {
    for (const table of NAME_TABLES) replace(this[table], others[table]);
    replace(this.objectSizes, others.objectSizes);
  }

  region(id: number | undefined): string {
    return quoted(this.regions, id, 'region');
  }
  object(id: number | undefined): string {
    return quoted(this.objects, id, 'object');
  }
  sink(id: number | undefined): string {
    return quoted(this.sinks, id, 'sink');
  }

  /** A failure of the core in words. */
  readonly explain = (failure: CoreFailure): { message: string; details: Record<string, unknown> } => {
    const { id, other, address } = failure;
    const details: Record<string, unknown> = { address };
    if (id !== undefined) details.region = this.regions.get(id);
    return { message: MESSAGES[failure.code](this, { ...failure, at: formatHex(address) }, id, other), details };
  };
}

function replace<Value>(table: Map<number, Value>, by: ReadonlyMap<number, Value>): void {
  table.clear();
  for (const [id, value] of by) table.set(id, value);
}

function quoted(names: Map<number, string>, id: number | undefined, kind: string): string {
  const name = id === undefined ? undefined : names.get(id);
  return name === undefined ? `${kind} ${id ?? ''}`.trim() : `"${name}"`;
}

/** Message about a change that is made while another one is carried out. */
export const PLAN_PENDING = 'a change of the memory map is being carried out: make this one when that one has returned';

/** Rules of which kinds of regions something can be done to. */
const KIND_RULES: Readonly<Record<Attempt['what'], string>> = {
  map: 'memory is mapped into regions of kind "ram", "rom" and "device" alone',
  unmap: 'memory is mapped in regions of kind "ram", "rom" and "device" alone',
  place: 'nothing is placed in it: place it in what it shows',
  retarget: 'only an "alias" shows another region',
  event: 'events are of what shows itself, no "container" and no "alias"',
};

type Message = (names: Names, failure: CoreFailure & { at: string }, id?: number, other?: number) => string;

const MESSAGES: Readonly<Record<CoreErrorCode, Message>> = {
  NO_MEMORY: () => 'the core may not use more memory: raise maxMemory, or close what is not needed',
  BAD_ID: (_, __, id) => `there is no ${id === undefined ? 'such thing' : `number ${id}`}, or it is closed`,
  BAD_KIND: (names, { attempt }, id, other) => {
    if (attempt !== undefined) {
      return `${names.region(id)} is of kind "${regionKindName(attempt.kind)}": ${KIND_RULES[attempt.what]}`;
    }
    return id === undefined && other !== undefined
      ? `${names.sink(other)} is not a VA space of this address space: attach one to it`
      : 'there is no such kind';
  },
  BAD_FLAGS: (_, { attempt }) =>
    attempt?.what === 'event'
      ? 'an eventfd is signalled by writes of 1, 2, 4 or 8 bytes, or of any number (0) without a value that counts; that value has no more bytes'
      : 'there are no such flags',
  BAD_RANGE: (names, { at, attempt }, id, other) => {
    if (id !== undefined) {
      const range = attempt?.length === undefined ? 'the range' : `the range of ${formatHex(attempt.length)} bytes`;
      const size = other === undefined ? attempt?.size : names.objectSizes.get(other);
      const whole = other === undefined ? names.region(id) : names.object(other);
      return `${range} at ${at} is not wholly inside ${whole}${size === undefined ? '' : `, which has ${formatHex(size)}`}`;
    }
    return other === undefined
      ? `a range to ${at} is empty`
      : `the range to ${at} is not wholly inside ${names.sink(other)}`;
  },
  UNALIGNED: (names, { at }, id, other) =>
    id === undefined || other === undefined
      ? `${at} is not a multiple of the page size, ${formatHex(PAGE_SIZE)}: only whole pages can be mapped`
      : `${names.region(id)} shows ${names.object(other)} at ${at}, where its huge pages do not begin and end with the guest's`,
  CAPACITY: () => 'there can be no more of these at once: close some that are not needed',
  PLACED: (names, _, id) => `${names.region(id)} is placed in a container: remove it first`,
  NOT_PLACED: (names, _, id) => `${names.region(id)} is not placed anywhere`,
  IN_USE: (names, _, id) =>
    `${id === undefined ? 'this' : names.region(id)} is still in use: close what refers to it or stands in it first`,
  CYCLE: (names, _, id) => `${names.region(id)} would be seen through itself`,
  TOO_DEEP: (names, _, id) =>
    `${names.region(id)} would be seen through more than ${MAX_DEPTH} other regions: use fewer containers and aliases`,
  TOO_COMPLEX: (names, _, id) =>
    `the map is seen in too many places to be resolved (at ${names.region(id)}): use fewer aliases of aliases`,
  OVERLAP: (names, { at }, id, other) =>
    `${names.region(id)} and ${names.region(other)} overlap at ${at}, which the policy "nested" does not allow`,
  SPLIT_PAGE: (names, { at }, id, other) =>
    `${names.region(id)} would show other memory at ${at}, in the midst of a huge page of ${names.region(other)}: only what holds no memory, or the same, can lie over a part of it`,
  NO_SLOTS: (names, { at }, id, other) =>
    `${names.sink(other)} has no memory slot left for ${names.region(id)} at ${at}: show less, or in fewer pieces`,
  NO_STRETCHES: (names, { at }, id, other) =>
    `${names.sink(other)} may reserve no addresses for ${names.region(id)} at ${at}: it would have more stretches than maxStretches, or of more bytes than maxStretchBytes, or a huge page in two`,
  PAST_LIMIT: (names, { at }, id, other) => `${names.region(id)} at ${at} is past the end of ${names.sink(other)}`,
  PRIVATE_TWICE: (names, { at }, id, other) =>
    `${names.object(other)} is private memory, and ${names.region(id)} would show the same part of it twice (at ${at}): only whole pages can be, in one VA space`,
  READONLY_OBJECT: (names, _, id, other) =>
    `${names.object(other)} cannot be written, so it cannot be mapped writable into ${names.region(id)}`,
  NO_TRANSACTION: () => 'there is no transaction to do this in',
  NESTING: () => `transactions are nested too deeply: ${MAX_NESTING} at most`,
  PLAN_PENDING: () => PLAN_PENDING,
  POISONED: () => 'an earlier change failed and could not be taken back: no further change is accepted, close the map',
  EVENT_TAKEN: (names, { at }, id) =>
    `${names.region(id)} has an event at ${at} already that a write there could be for: close that one first`,
  ATTACHMENT_OVERLAP: (names, _, __, other) =>
    `the attachment overlaps ${names.sink(other)} in the same partition: give it another gpaOffset, or a lastGpa`,
};
