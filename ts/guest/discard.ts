// Giving memory back to the machine while the guest keeps its addresses: what a balloon does.

import * as abi from '../../assembly/abi.ts';
import type { Onlooker } from '../access/held-lease.ts';
import { LeaseConflict } from '../access/lease-table.ts';
import { addonObjectOf, type MemoryObject } from '../asked/object.ts';
import { type Address, formatHex, higher, lastByte, lengthOf, lower, sum, toAddress } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { systemError } from '../core/system.ts';
import type { MemoryMap } from '../map/map.ts';
import type { WaitOptions } from '../map/when-free.ts';
import { memoryOf, type VaSpace } from '../sinks/va-space.ts';
import type { GpaRange } from './layout.ts';
import type { RamStore } from './ram-store.ts';
import type { VtlState } from './vtl-state.ts';

interface Memory {
  readonly map: MemoryMap;
  readonly va: VaSpace;
  readonly store: RamStore;
}

/** A part of one object that the guest sees. */
interface Piece {
  readonly object: MemoryObject;
  readonly gpa: Address;
  readonly offset: Address;
  readonly length: Address;
}

/** Bytes freed. Throws LEASED and NOT_DISCARDABLE, and SYSTEM where the system refuses: what comes before that is
 *  discarded. */
export function discard(memory: Memory, range: GpaRange, levels: readonly VtlState[]): Address {
  if (memory.map.context.isBusy) throw refused(range, 'busy', 'a transaction is open');
  return giveBack(memory, checkedPieces(memory, range, levels));
}

/** `discard` that waits for leases. Throws what `whenFree` throws. */
export async function discardWhenFree(
  memory: Memory,
  range: GpaRange,
  levels: readonly VtlState[],
  options: WaitOptions | undefined,
): Promise<Address> {
  let end: { readonly freed: Address } | { readonly error: unknown } | undefined;
  await memory.map.whenFree(() => {
    const pieces = checkedPieces(memory, range, levels);
    memory.map.context.onDone(() => {
      // The system may refuse, which is no failure of the transaction.
      try {
        end = { freed: giveBack(memory, pieces) };
      } catch (error) {
        end = { error };
      }
    });
  }, options);
  if ('error' in end!) throw end.error;
  return end!.freed;
}

/** Pieces of RAM in a range that may be discarded. Throws LEASED, NOT_DISCARDABLE. */
function checkedPieces({ map, va, store }: Memory, range: GpaRange, levels: readonly VtlState[]): Piece[] {
  const { core, leases, objects } = map.context;
  const start = range.gpa;
  const last = sum(start, lastByte(range.length));
  const refuse = (reason: string, words: string) => refused(range, reason, words);
  if (store.limits.pinMappings) throw refuse('pinned', 'RAM is pinned');
  if (levels.some((level) => level.isProtected(range))) throw refuse('protected', 'a trust level is kept from it');
  const changes = [va.memory, ...levels.map(({ client }) => client.memory)].map((of) => ({
    ...{ of, start: Number(start), end: Number(last) + 1, left: 0 },
    concerns: (attachment: Onlooker) => attachment.va === va,
  }));
  const leased = changes.flatMap((change) => leases.brokenBy(change));
  if (leased.length > 0) throw new LeaseConflict(leases, leased, changes, 'discardWhenFree');

  let next = start;
  const pieces = core.partsIn(va.id, start, last).map((row) => {
    const object = objects.objectOf(row.id);
    const from = higher(row.start, start);
    const to = lower(row.last, last);
    if (row.start > next || (row.flags & abi.ACCESS_WRITE) === 0)
      throw refuse('hidden', 'not all of it is writable RAM');
    if (!store.blocks.some((block) => block.object === object)) throw refuse('device', 'it is device memory');
    next = sum(to, 1);
    const length = lengthOf(from, to);
    const offset = sum(row.offset, lastByte(lengthOf(row.start, from)));
    const page = BigInt(object.granularity);
    if (BigInt(offset) % page !== 0n || BigInt(length) % page !== 0n) {
      throw refuse('unaligned', `it is not made of whole pages of ${formatHex(page)} bytes`);
    }
    return { object, gpa: from, offset, length };
  });
  if (next <= last) throw refuse('hidden', 'not all of it is writable RAM');
  return pieces;
}

function giveBack({ va }: Memory, pieces: readonly Piece[]): Address {
  let freed = 0n;
  for (const { object, gpa, offset, length } of pieces) {
    const addon = addonObjectOf(object);
    addon.drop(offset, length);
    freed += systemError('guest memory cannot be discarded', () =>
      object.kind === 'private' ? memoryOf(va).reservation.discardPrivate(gpa, length) : addon.discard(offset, length),
    );
    if (object.kind === 'private') addon.noteWritten(offset, length);
  }
  return toAddress(freed);
}

function refused({ gpa, length }: GpaRange, reason: string, words: string): MembackingError {
  const message = `memory ${formatHex(gpa)}-${formatHex(sum(gpa, lastByte(length)))} cannot be given back: ${words}`;
  return new MembackingError('NOT_DISCARDABLE', message, { details: { gpa, reason } });
}
