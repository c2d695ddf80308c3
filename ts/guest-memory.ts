// Guest memory as the monitor reads and writes it: by guest-physical address, through a VA space. What is not there, or
// not writable, is an error with its address, never a signal: not even while another thread changes the map.

import { type Address, formatHex } from './address.ts';
import { MembackingError } from './errors.ts';
import { ACCESS_FAULTS, FACT_GPA, FACT_HIGH, FACT_LOW, type Reservation, type Width } from './native.ts';
import { wrapped } from './system.ts';
import { invalid } from './validate.ts';

const FAULT_WORDS: Readonly<Record<string, string>> = {
  outside: 'is outside of the VA space',
  hole: 'has no memory',
  'read-only': 'is read-only',
  gone: 'has lost its memory: the file behind it has become shorter',
  misaligned: 'is not a multiple of its width',
};

export class GuestMemory {
  readonly #reservation: Reservation;
  readonly #facts: Float64Array;

  /** @internal Made by VaSpace. */
  constructor(reservation: Reservation) {
    this.#reservation = reservation;
    this.#facts = reservation.facts;
  }

  /** Fills `into`. Throws GUEST_ACCESS; the bytes before its `details.gpa` are read. */
  read(gpa: Address, into: Uint8Array): void {
    this.#check(this.#call(() => this.#reservation.read(checked(gpa), into)), 'read');
  }

  /** Writes all of `from`. Throws GUEST_ACCESS; the bytes before its `details.gpa` are written. */
  write(gpa: Address, from: Uint8Array): void {
    this.#check(this.#call(() => this.#reservation.write(checked(gpa), from)), 'write');
  }

  // Little-endian, at any alignment. Throw GUEST_ACCESS.

  readU8(gpa: Address): number {
    return this.#load(gpa, 1);
  }
  readU16(gpa: Address): number {
    return this.#load(gpa, 2);
  }
  readU32(gpa: Address): number {
    return this.#load(gpa, 4);
  }
  readU64(gpa: Address): bigint {
    this.#load(gpa, 8);
    return BigInt(this.#facts[FACT_LOW]!) | (BigInt(this.#facts[FACT_HIGH]!) << 32n);
  }
  writeU8(gpa: Address, value: number): void {
    this.#store(gpa, 1, value, 0);
  }
  writeU16(gpa: Address, value: number): void {
    this.#store(gpa, 2, value, 0);
  }
  writeU32(gpa: Address, value: number): void {
    this.#store(gpa, 4, value, 0);
  }
  writeU64(gpa: Address, value: bigint): void {
    this.#store(gpa, 8, Number(BigInt.asUintN(32, value)), Number(BigInt.asUintN(32, value >> 32n)));
  }

  /** Stores `value` if `expected` is there, in one step that no vCPU and no thread sees half of. Returns what was there:
   *  `expected` if it was stored. `width`: bytes; the address must be a multiple. Throws GUEST_ACCESS. */
  compareExchange(gpa: Address, width: Width, expected: bigint, value: bigint): bigint {
    const halves = (of: bigint) => [Number(BigInt.asUintN(32, of)), Number(BigInt.asUintN(32, of >> 32n))] as const;
    const result = this.#call(() =>
      this.#reservation.compareExchange(checked(gpa), width, ...halves(expected), ...halves(value)),
    );
    this.#check(result, 'compare-exchange');
    return BigInt(this.#facts[FACT_LOW]!) | (BigInt(this.#facts[FACT_HIGH]!) << 32n);
  }

  #load(gpa: Address, width: Width): number {
    return this.#check(
      this.#call(() => this.#reservation.load(checked(gpa), width)),
      'read',
    );
  }

  #store(gpa: Address, width: Width, low: number, high: number): void {
    if (!Number.isInteger(low)) throw invalid(`the value must be a whole number, not ${low}`);
    this.#check(
      this.#call(() => this.#reservation.store(checked(gpa), width, low, high)),
      'write',
    );
  }

  #call(access: () => number): number {
    try {
      return access();
    } catch (error) {
      throw wrapped('guest memory', error);
    }
  }

  #check(result: number, what: string): number {
    if (result >= 0) return result;
    const fault = ACCESS_FAULTS[-result]!;
    const gpa = this.#facts[FACT_GPA]!;
    const message = `${what} of guest memory: ${formatHex(gpa)} ${FAULT_WORDS[fault]}`;
    throw new MembackingError('GUEST_ACCESS', message, { details: { gpa, fault } });
  }
}

/** The addon takes addresses as numbers: one above Number.MAX_SAFE_INTEGER is outside of every VA space. */
function checked(gpa: Address): number {
  if (typeof gpa === 'number' || typeof gpa === 'bigint') return Number(gpa);
  throw invalid('gpa must be a number or a bigint');
}
