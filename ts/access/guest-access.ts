// Access to guest memory by the addon: what it is given, and what its results say.

import { type Address, formatHex, high, low } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import {
  ACCESS_FAULTS,
  type AccessFault,
  FACT_GPA,
  FACT_HIGH,
  FACT_LOW,
  type Reservation,
  type Width,
} from '../core/native.ts';
import * as validate from '../core/validate.ts';
import type { GuestMemory, TrappedAccess } from './guest-memory.ts';

const FAULT_WORDS: Readonly<Record<AccessFault, string>> = {
  outside: 'is outside of the VA space',
  hole: 'has no memory',
  'read-only': 'is read-only',
  gone: 'has no memory behind it now',
  misaligned: 'is not a multiple of its width',
  changing: 'is about to change',
};

/** Reasons of a bus error, for threads that cannot find out which it was. */
const ANY_REASON =
  'its file has become shorter, or its file system is full or has failed, or no huge page is free, or memory has failed';

const WIDTHS: readonly unknown[] = [1, 2, 4, 8] satisfies Width[];

/** The addon takes addresses as numbers. One above Number.MAX_SAFE_INTEGER is outside of every VA space. */
export function exact(gpa: Address, what: string): number {
  const at = validate.address(gpa, 'gpa');
  if (typeof at === 'number') return at;
  throw refused(what, at, 'outside');
}

/** Reason why nothing is behind what is mapped at a GPA, in words; undefined where it is not known. */
export type WhyGone = (gpa: number) => string | undefined;

/** Fault that a negative result of a call of the addon stands for. */
export function accessFault(result: number): AccessFault {
  return ACCESS_FAULTS[-result] as AccessFault;
}

/** Passes on the result of a call of the addon, which left `facts`. Throws GUEST_ACCESS. */
export function succeeded(result: number, what: string, facts: Float64Array, whyGone?: WhyGone): number {
  if (result >= 0) return result;
  const [gpa, fault] = [facts[FACT_GPA]!, accessFault(result)];
  throw refused(what, gpa, fault, fault === 'gone' ? (whyGone?.(gpa) ?? ANY_REASON) : undefined);
}

/** The 64 bits that the last call has left. */
export function wide(facts: Float64Array): bigint {
  return BigInt(facts[FACT_LOW]!) | (BigInt(facts[FACT_HIGH]!) << 32n);
}

/** `GuestMemory.compareExchange`, by a call of the addon. */
export function compareExchange(
  reservation: Reservation,
  gpa: Address,
  width: Width,
  expected: number | bigint,
  value: number | bigint,
  whyGone?: WhyGone,
): bigint {
  const at = exact(gpa, 'compare-exchange');
  if (!WIDTHS.includes(width)) throw validate.invalid('width must be 1, 2, 4 or 8');
  const [awaited, next] = [fitting(expected, width, 'expected'), fitting(value, width, 'value')];
  const result = reservation.compareExchange(at, width, low(awaited), high(awaited), low(next), high(next));
  succeeded(result, 'compare-exchange', reservation.facts, whyGone);
  return wide(reservation.facts);
}

/** `GuestMemory.answer`, by the methods of that memory. */
export function answer(memory: GuestMemory, access: TrappedAccess): boolean {
  const { gpa, isWrite, data } = access ?? {};
  const bytes = validate.bytes(data, 'data');
  try {
    // A write that goes over into registers is theirs as a whole.
    memory.read(gpa, validate.flag(isWrite, 'isWrite') ? new Uint8Array(validate.lengthOfBytes(bytes)) : bytes);
    if (isWrite) memory.write(gpa, bytes);
    return true;
  } catch (error) {
    if (error instanceof MembackingError && error.code === 'GUEST_ACCESS') return false;
    throw error;
  }
}

function fitting(value: number | bigint, width: Width, name: string): Address {
  const checked = validate.address(value, name);
  if (BigInt(checked) >> BigInt(8 * width) === 0n) return checked;
  throw validate.invalid(`${name} must fit in ${width} bytes, not ${formatHex(checked)}`);
}

function refused(what: string, gpa: Address, fault: AccessFault, why?: string): MembackingError {
  const message = `${what} of guest memory: ${formatHex(gpa)} ${FAULT_WORDS[fault]}${why === undefined ? '' : `: ${why}`}`;
  return new MembackingError('GUEST_ACCESS', message, { details: { gpa, fault } });
}
