// Guest memory in the thread that owns the map: reads and writes that mostly need no call, and leases.

import { inspect } from 'node:util';
import { type Address, high, low } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { keepInThread } from '../core/handle.ts';
import type { Width } from '../core/native.ts';
import { printable } from '../core/printable.ts';
import * as validate from '../core/validate.ts';
import { answer, compareExchange, exact, succeeded, wide } from './guest-access.ts';
import type { GuestMemory, TrappedAccess } from './guest-memory.ts';
import { NO_WINDOW } from './guest-window.ts';
import { LEASE_MODES, type LeaseMode } from './held-lease.ts';
import { Lease, type LeasedSpace } from './lease.ts';

/** A stretch of guest memory that is to be leased. */
export interface LeaseRange {
  /** First GPA. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
}

/** Options of `LocalGuestMemory.lock`. */
export interface LeaseOptions {
  /** Name of the user, for those who must wait. */
  readonly holder: string;
}

/** Guest memory of this thread's map. Devices that are to run in any thread take a `GuestMemory` instead. */
export class LocalGuestMemory implements GuestMemory {
  readonly #what: string;
  #space: LeasedSpace | undefined;
  #facts: Float64Array;
  /** Windows that were last read, and written, without the addon. */
  #readable = NO_WINDOW;
  #writable = NO_WINDOW;

  /** @internal Made by VaSpace: `what` it is, for messages. */
  constructor(what: string, space: LeasedSpace) {
    validate.madeBy('MemoryMap.attachVaSpace, as `memory`', space);
    keepInThread(this);
    this.#what = what;
    this.#space = space;
    this.#facts = space.reservation.facts;
  }

  /** Turns to another VA space, whose memory it is from now on. @internal */
  use(space: LeasedSpace): void {
    this.#space = space;
    this.#readable = NO_WINDOW;
    this.#writable = NO_WINDOW;
    this.#facts = space.reservation.facts;
  }

  /** Holds on to a stretch of memory that is mapped now with that access: it stays so until the lease is released.
   *  Throws GUEST_ACCESS where it is not, LEASED where it is about to change. */
  lock(range: LeaseRange, mode: LeaseMode, options: LeaseOptions): Lease {
    const { gpa, length } = validate.options(range, ['gpa', 'length'], 'a range to lock');
    const { holder } = validate.options(options, ['holder'], 'lock');
    const facts = {
      gpa: exact(gpa, 'lock'),
      length: validate.integer(Number(validate.length(length, 'length')), 'length', 1, Number.MAX_SAFE_INTEGER),
      mode: validate.oneOf(LEASE_MODES, mode, 'mode'),
      holder: validate.text(holder, 'holder'),
    };
    return new Lease(this.#openSpace(), this, facts);
  }

  read(gpa: Address, into: Uint8Array): void {
    const bytes = validate.bytes(into, 'into');
    const length = validate.lengthOfBytes(bytes);
    const at = this.#readableAt(gpa, length);
    if (at >= 0) this.#readable.read(at, bytes, length);
    else this.#readByAddon(exact(gpa, 'read'), bytes);
  }

  write(gpa: Address, from: Uint8Array): void {
    const bytes = validate.bytes(from, 'from');
    const at = this.#writableAt(gpa, validate.lengthOfBytes(bytes));
    if (at >= 0) this.#writable.write(at, bytes);
    else this.#writeByAddon(exact(gpa, 'write'), bytes);
  }

  answer(access: TrappedAccess): boolean {
    return answer(this, access);
  }

  readU8(gpa: Address): number {
    const at = this.#readableAt(gpa, 1);
    if (at >= 0) return this.#readable.getU8(at);
    return this.#load(gpa, 1);
  }
  readU16(gpa: Address): number {
    const at = this.#readableAt(gpa, 2);
    if (at >= 0) return this.#readable.getU16(at);
    return this.#load(gpa, 2);
  }
  readU32(gpa: Address): number {
    const at = this.#readableAt(gpa, 4);
    if (at >= 0) return this.#readable.getU32(at);
    return this.#load(gpa, 4);
  }
  readU64(gpa: Address): bigint {
    const at = this.#readableAt(gpa, 8);
    if (at >= 0) return this.#readable.getU64(at);
    this.#load(gpa, 8);
    return wide(this.#facts);
  }
  writeU8(gpa: Address, value: number): void {
    const checked = validate.integer(value, 'value', 0, 0xff);
    const at = this.#writableAt(gpa, 1);
    if (at >= 0) this.#writable.setU8(at, checked);
    else this.#store(gpa, 1, checked, 0);
  }
  writeU16(gpa: Address, value: number): void {
    const checked = validate.integer(value, 'value', 0, 0xffff);
    const at = this.#writableAt(gpa, 2);
    if (at >= 0) this.#writable.setU16(at, checked);
    else this.#store(gpa, 2, checked, 0);
  }
  writeU32(gpa: Address, value: number): void {
    const checked = validate.integer(value, 'value', 0, 0xffffffff);
    const at = this.#writableAt(gpa, 4);
    if (at >= 0) this.#writable.setU32(at, checked);
    else this.#store(gpa, 4, checked, 0);
  }
  writeU64(gpa: Address, value: number | bigint): void {
    const checked = validate.address(value, 'value');
    const at = this.#writableAt(gpa, 8);
    if (at >= 0) this.#writable.setU64(at, BigInt(checked));
    else this.#store(gpa, 8, low(checked), high(checked));
  }

  compareExchange(gpa: Address, width: Width, expected: number | bigint, value: number | bigint): bigint {
    const { reservation, whyGone } = this.#openSpace();
    return compareExchange(reservation, gpa, width, expected, value, whyGone);
  }

  /** The VA space is closed. @internal */
  end(): void {
    this.#space = undefined;
  }

  /** Text for console.log and util.inspect. */
  [inspect.custom](): string {
    return `memory of ${printable(this.#what)}${this.#space === undefined ? ' (closed)' : ''}`;
  }

  #openSpace(): LeasedSpace {
    if (this.#space === undefined) throw new MembackingError('CLOSED', `${this.#what} is closed`);
    return this.#space;
  }

  #load(gpa: Address, width: Width): number {
    const at = exact(gpa, 'read');
    return this.#succeeded(this.#openSpace().reservation.load(at, width), 'read');
  }

  #store(gpa: Address, width: Width, lowHalf: number, highHalf: number): void {
    const at = exact(gpa, 'write');
    this.#succeeded(this.#openSpace().reservation.store(at, width, lowHalf, highHalf), 'write');
  }

  #readByAddon(gpa: number, into: Uint8Array): void {
    this.#succeeded(this.#openSpace().reservation.read(gpa, into), 'read');
  }

  #writeByAddon(gpa: number, from: Uint8Array): void {
    this.#succeeded(this.#openSpace().reservation.write(gpa, from), 'write');
  }

  #succeeded(result: number, what: string): number {
    return succeeded(result, what, this.#facts, this.#space?.whyGone);
  }

  /** Offset of bytes in the window that is read from, which from now on is the one that shows them; -1 where none
   *  does. */
  #readableAt(gpa: Address, length: number): number {
    const at = this.#readable.offsetOf(gpa, length);
    if (at >= 0 || !this.#isAddress(gpa)) return at;
    this.#readable = this.#space!.windows.find(gpa, false) ?? this.#readable;
    return this.#readable.offsetOf(gpa, length);
  }

  /** Offset of bytes in the window that is written to, likewise. */
  #writableAt(gpa: Address, length: number): number {
    const at = this.#writable.offsetOf(gpa, length);
    if (at >= 0 || !this.#isAddress(gpa)) return at;
    this.#writable = this.#space!.windows.find(gpa, true) ?? this.#writable;
    return this.#writable.offsetOf(gpa, length);
  }

  /** Whether a window may show an address. */
  #isAddress(gpa: Address): gpa is number {
    return this.#space !== undefined && Number.isSafeInteger(gpa) && (gpa as number) >= 0;
  }
}
