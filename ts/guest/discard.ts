// Giving memory back to the machine while the guest keeps its addresses: what a balloon does.

import * as abi from '../../assembly/abi.ts';
import type { Change, Onlooker } from '../access/held-lease.ts';
import { LeaseConflict } from '../access/lease-table.ts';
import { addonObjectOf, type MemoryObject } from '../asked/object.ts';
import {
  type Address,
  difference,
  formatHex,
  higher,
  lastByte,
  lengthOf,
  lower,
  sum,
  toAddress,
} from '../core/address.ts';
import type { Row } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import { systemError, wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';
import type { WaitOptions } from '../map/when-free.ts';
import { memoryOf, type VaSpace } from '../sinks/va-space.ts';
import { checkedRange, type GpaRange, lastOf } from './layout.ts';
import type { RamStore } from './ram-store.ts';
import type { VtlState } from './vtl-state.ts';

/** Options of discarding in the background. */
export interface DiscardOptions {
  /** Gives up: before anything is done, or between parts. */
  readonly signal?: AbortSignal;
}

/** Memory of which parts are given back. */
export interface Discardable {
  readonly map: MemoryMap;
  readonly va: VaSpace;
  readonly store: RamStore;
  readonly levels: readonly VtlState[];
}

/** A part of one object that the guest sees. */
interface Piece {
  readonly object: MemoryObject;
  readonly gpa: Address;
  readonly offset: Address;
  readonly length: Address;
}

/** Bytes of a part that is freed at once in the background. */
const PART = 64 * 2 ** 20;
/** Most ranges that the addon is given at once. */
const MOST_RANGES = 256;

/** Checks one range or a list: what they cover, in order, joined. Throws INVALID_ARGUMENT. */
export function checkedRanges(ranges: GpaRange | readonly GpaRange[]): GpaRange[] {
  const list = Array.isArray(ranges) ? ranges : [ranges as GpaRange];
  const sorted = list.map((range: GpaRange) => checkedRange(range, 'a range'));
  sorted.sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
  const joined: GpaRange[] = [];
  let last: Address = -1;
  for (const range of sorted) {
    const isFirst = joined.length === 0;
    if (isFirst || range.gpa > sum(last, 1)) {
      joined.push(range);
      last = lastOf(range);
    } else {
      const { gpa } = joined.pop()!;
      last = higher(last, lastOf(range));
      joined.push({ gpa, length: lengthOf(gpa, last) });
    }
  }
  return joined;
}

/** Checks options of discarding. Throws INVALID_ARGUMENT. */
export function checkedOptions(options: DiscardOptions | undefined): DiscardOptions {
  const given = validate.options(options, ['signal'], 'discardAsync');
  validate.work(given);
  return given;
}

/** Bytes freed. Throws LEASED and NOT_DISCARDABLE, and SYSTEM where the system refuses: what comes before that is
 *  discarded. */
export function discard(memory: Discardable, ranges: readonly GpaRange[]): Address {
  checkIdle(memory, ranges);
  let freed = 0n;
  for (const { object, offsets, gpas } of batchesOf(checkedPieces(memory, ranges))) {
    freed += systemError(REFUSED, () => {
      const addon = addonObjectOf(object);
      if (object.kind !== 'private') return addon.discard(...offsets);
      addon.leave(...offsets);
      return memoryOf(memory.va).reservation.discardPrivate(...gpas);
    });
  }
  return toAddress(freed);
}

/** `discard` that leaves freeing to another thread, part by part, each checked again when its turn comes. Rejects with
 *  ABORTED besides, and CLOSED: what comes before is discarded. */
export async function discardAsync(
  memory: Discardable,
  ranges: readonly GpaRange[],
  { signal }: DiscardOptions,
): Promise<Address> {
  const { context } = memory.map;
  while (context.isInTurns) await context.settled();
  checkIdle(memory, ranges);
  let freed = 0n;
  for (const part of partsOf(checkedPieces(memory, ranges))) {
    while (context.isInTurns) await context.settled();
    if (signal?.aborted) throw aborted(freed, signal.reason);
    context.checkOpen();
    freed += await freeLater(memory, checkedPieces(memory, part));
  }
  return toAddress(freed);
}

/** `discardAsync` that waits for leases, of all of it before it begins. Throws what `whenFree` throws. */
export async function discardWhenFree(
  memory: Discardable,
  ranges: readonly GpaRange[],
  options: WaitOptions = {},
): Promise<Address> {
  const { map } = memory;
  const begin = performance.now();
  let freed = 0n;
  for (const part of await map.whenFree(() => partsOf(checkedPieces(memory, ranges)), options)) {
    let given: Promise<bigint> | undefined;
    await map.whenFree(
      () => {
        const pieces = checkedPieces(memory, part);
        // The system may refuse, which is no failure of the transaction.
        map.context.onDone(() => {
          given = freeLater(memory, pieces);
        });
      },
      timeLeft(options, begin),
    );
    freed += await given!;
  }
  return toAddress(freed);
}

/** Options for what is left of a wait that began at `begin`. */
function timeLeft(options: WaitOptions, begin: number): WaitOptions {
  if (options.deadline === undefined) return options;
  return { ...options, deadline: Math.max(0, Math.round(options.deadline - (performance.now() - begin))) };
}

/** Begins to free pieces in the background. Until that is done, nobody leases any of them. */
async function freeLater(memory: Discardable, pieces: readonly Piece[]): Promise<bigint> {
  const { reservation } = memoryOf(memory.va);
  const unbar = memory.map.context.leases.bar(pieces.map((piece) => changeIn(memory, piece)));
  try {
    const freed = batchesOf(pieces).map(({ object, offsets, gpas }) => {
      const addon = addonObjectOf(object);
      if (object.kind !== 'private') return addon.discardLater(...offsets);
      addon.leave(...offsets);
      return reservation.discardPrivateLater(addon, ...gpas);
    });
    return (await Promise.all(freed)).reduce((total, bytes) => total + bytes, 0n);
  } catch (error) {
    throw wrapped(REFUSED, error);
  } finally {
    unbar();
  }
}

const REFUSED = 'guest memory cannot be discarded';

function checkIdle({ map }: Discardable, ranges: readonly GpaRange[]): void {
  if (map.context.isBusy && ranges.length > 0) throw refused(ranges[0]!, 'busy', 'a transaction is open');
}

/** Pieces of RAM in ranges that may be discarded. Throws LEASED, NOT_DISCARDABLE. */
function checkedPieces(memory: Discardable, ranges: readonly GpaRange[]): Piece[] {
  if (ranges.length === 0) return [];
  const { map, va, store, levels } = memory;
  const [first, last] = [ranges[0]!, ranges[ranges.length - 1]!];
  if (store.limits.pinMappings) throw refused(first, 'pinned', 'RAM is pinned');
  const hull = { gpa: first.gpa, length: lengthOf(first.gpa, lastOf(last)) };
  for (const level of levels) {
    const kept = level.isProtected(hull) && ranges.find((range) => level.isProtected(range));
    if (kept) throw refused(kept, 'protected', 'a trust level is kept from it');
  }
  checkLeases(memory, ranges, hull);
  // Ranges that are near each other are mostly in one row.
  let rows: Row[] = [];
  return ranges.flatMap((range) => {
    const [known] = rows;
    if (known === undefined || known.start > range.gpa || known.last < lastOf(range)) {
      rows = map.context.core.partsIn(va.id, range.gpa, lastOf(range));
    }
    return piecesIn(memory, range, rows);
  });
}

/** Checks that nothing of ranges is leased. Throws LEASED. */
function checkLeases(memory: Discardable, ranges: readonly GpaRange[], hull: GpaRange): void {
  const { leases } = memory.map.context;
  if (leases.brokenBy(changeIn(memory, hull)).length === 0) return;
  const changes = ranges.map((range) => changeIn(memory, range));
  const leased = changes.flatMap((change) => leases.brokenBy(change));
  if (leased.length > 0) throw new LeaseConflict(leases, leased, changes, 'discardWhenFree');
}

/** Change that discarding a range is to those who may hold leases. */
function changeIn({ va }: Discardable, range: GpaRange): Change {
  const concerns = (attachment: Onlooker) => attachment.va === va;
  return { of: va.id, start: Number(range.gpa), end: Number(lastOf(range)) + 1, left: 0, concerns };
}

/** Pieces of a range, by the rows that it is in. Throws NOT_DISCARDABLE. */
function piecesIn({ map, store }: Discardable, range: GpaRange, rows: readonly Row[]): Piece[] {
  const end = lastOf(range);
  let next = range.gpa;
  const pieces = rows.map((row) => {
    const object = map.context.objects.objectOf(row.id);
    const gpa = higher(row.start, range.gpa);
    const last = lower(row.last, end);
    if (row.start > next || (row.flags & abi.ACCESS_WRITE) === 0)
      throw refused(range, 'hidden', 'not all of it is writable RAM');
    if (!store.blocks.some((block) => block.object === object)) throw refused(range, 'device', 'it is device memory');
    next = sum(last, 1);
    const length = lengthOf(gpa, last);
    const offset = sum(row.offset, lastByte(lengthOf(row.start, gpa)));
    if (!isMultiple(offset, object.granularity) || !isMultiple(length, object.granularity)) {
      throw refused(range, 'unaligned', `it is not made of whole pages of ${formatHex(object.granularity)} bytes`);
    }
    return { object, gpa, offset, length };
  });
  if (next <= end) throw refused(range, 'hidden', 'not all of it is writable RAM');
  return pieces;
}

function isMultiple(value: Address, unit: number): boolean {
  return typeof value === 'number' ? value % unit === 0 : value % BigInt(unit) === 0n;
}

/** Ranges of pieces, in lists of at most PART bytes and MOST_RANGES ranges; a larger page is one of its own. */
function partsOf(pieces: readonly Piece[]): GpaRange[][] {
  const parts: GpaRange[][] = [];
  let part: GpaRange[] = [];
  let bytes = 0;
  for (const { object, gpa, length } of pieces) {
    const most = higher(PART, object.granularity);
    for (let done: Address = 0; done < length; done = sum(done, most)) {
      const range = { gpa: sum(gpa, done), length: lower(most, difference(length, done)) };
      if (bytes + Number(range.length) > PART || part.length === MOST_RANGES) {
        parts.push(part);
        part = [];
        bytes = 0;
      }
      part.push(range);
      bytes += Number(range.length);
    }
  }
  return [...parts, part].filter(({ length }) => length > 0);
}

/** Pieces of one object: offset and length, and GPA and length, of each one after the other. */
interface Batch {
  readonly object: MemoryObject;
  readonly offsets: Address[];
  readonly gpas: Address[];
}

function batchesOf(pieces: readonly Piece[]): Batch[] {
  const batches: Batch[] = [];
  let batch: Batch | undefined;
  for (const { object, gpa, offset, length } of pieces) {
    if (batch?.object !== object || batch.gpas.length >= 2 * MOST_RANGES) {
      batch = { object, offsets: [], gpas: [] };
      batches.push(batch);
    }
    batch.offsets.push(offset, length);
    batch.gpas.push(gpa, length);
  }
  return batches;
}

function refused({ gpa, length }: GpaRange, reason: string, words: string): MembackingError {
  const message = `memory ${formatHex(gpa)}-${formatHex(sum(gpa, lastByte(length)))} cannot be given back: ${words}`;
  return new MembackingError('NOT_DISCARDABLE', message, { details: { gpa, reason } });
}

function aborted(freed: bigint, cause: unknown): MembackingError {
  const message = `discarding was given up when ${formatHex(freed)} bytes had been given back`;
  return new MembackingError('ABORTED', message, { details: { freed: toAddress(freed) }, cause });
}
