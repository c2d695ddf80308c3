// Guest memory of any thread: reads and writes that mostly need no call, by windows, and otherwise the addon.

import { inspect } from 'node:util';
import { type Address, high, low } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { keepInThread } from '../core/handle.ts';
import type { Reservation, Width } from '../core/native.ts';
import { printable } from '../core/printable.ts';
import * as validate from '../core/validate.ts';
import type { AbsentPart } from './absent-parts.ts';
import { answer, compareExchange, exact, succeeded, type WhyGone, wide } from './guest-access.ts';
import type { GuestMemory, LeaseOptions, LeaseRange, TrappedAccess } from './guest-memory.ts';
import { type GuestWindow, SHUT } from './guest-window.ts';
import { LEASE_MODES, type LeaseFacts, type LeaseMode } from './held-lease.ts';
import { KnownWindows } from './known-windows.ts';
import type { Lease } from './lease.ts';

/** Bytes that are copied through a window at once: whoever is about to shut it waits for that. */
const MOST_AT_ONCE = 2 ** 20;
/** Bytes of a read before which it is found out what is in memory: that takes a fiftieth of it. */
const LARGE = 2 ** 22;

/** Memory of a VA space, or of a view of one, as one thread reaches it. @internal */
export interface MemorySource {
  readonly reservation: Reservation;
  readonly windows: {
    /** A window that shows the byte at `gpa`; undefined where there is none, for now. */
    find(gpa: number, isWrite: boolean): GuestWindow | undefined;
  };
  /** Reason why nothing is behind what is mapped at a GPA, where this thread can know it. */
  readonly whyGone?: WhyGone;
}

/** The memory behind guest memory, as its class has given it. Throws CLOSED. @internal */
export let sourceOf: <Source extends MemorySource>(memory: WindowedMemory) => Source;

/** Guest memory that is read and written in place, by a few instructions, where it certainly stays until the map
 *  changes; and elsewhere by calls that fail with an error whatever becomes of it. */
export abstract class WindowedMemory implements GuestMemory {
  readonly #what: string;
  #source: MemorySource | undefined;
  #facts: Float64Array;
  /** Windows that were read, and written, without the addon. */
  #readable = new KnownWindows();
  #writable = new KnownWindows();

  static {
    sourceOf = <Source extends MemorySource>(memory: WindowedMemory) => memory.#open() as Source;
  }

  /** @internal */
  constructor(what: string, source: MemorySource) {
    keepInThread(this);
    this.#what = what;
    this.#source = source;
    this.#facts = source.reservation.facts;
  }

  /** Turns to another VA space, whose memory it is from now on; undefined: it is closed. @internal */
  use(source: MemorySource | undefined): void {
    this.#source = source;
    this.#readable = new KnownWindows();
    this.#writable = new KnownWindows();
    if (source !== undefined) this.#facts = source.reservation.facts;
  }

  read(gpa: Address, into: Uint8Array): void {
    const bytes = validate.bytes(into, 'into');
    const length = validate.lengthOfBytes(bytes);
    if (length < LARGE) this.#read(gpa, bytes, length);
    else inParts(exact(gpa, 'read'), bytes, LARGE, (start, part) => this.#readSparsely(start, part));
  }

  /** Reads what is in memory, and from its file what is not. */
  #readSparsely(gpa: number, into: Uint8Array): void {
    let done = 0;
    for (const part of this.absentParts(gpa, into.length)) {
      const start = part.gpa - gpa;
      this.#read(gpa + done, into.subarray(done, start), start - done);
      part.object.read(part.offset, into.subarray(start, start + part.length));
      done = start + part.length;
    }
    this.#read(gpa + done, into.subarray(done), into.length - done);
  }

  /** Reads `length` bytes, all of `bytes`, where they are mapped. */
  #read(gpa: Address, bytes: Uint8Array, length: number): void {
    const window = this.#readable.near(gpa);
    const at = window.offsetOf(gpa, length);
    if (at >= 0 && length > MOST_AT_ONCE)
      inParts(gpa, bytes, MOST_AT_ONCE, (start, part) => this.#read(start, part, part.length));
    else if (at >= 0 && window.read(at, bytes, length)) return;
    else if (this.#meets(gpa, length, false)) this.#read(gpa, bytes, length);
    else this.#readByAddon(exact(gpa, 'read'), bytes);
  }

  write(gpa: Address, from: Uint8Array): void {
    const bytes = validate.bytes(from, 'from');
    const length = validate.lengthOfBytes(bytes);
    const window = this.#writable.near(gpa);
    const at = window.offsetOf(gpa, length);
    if (at >= 0 && length > MOST_AT_ONCE) inParts(gpa, bytes, MOST_AT_ONCE, (start, part) => this.write(start, part));
    else if (at >= 0 && window.write(at, bytes)) return;
    else if (this.#meets(gpa, length, true)) this.write(gpa, bytes);
    else this.#writeByAddon(exact(gpa, 'write'), bytes);
  }

  answer(access: TrappedAccess): boolean {
    return answer(this, access);
  }

  lock(range: LeaseRange, mode: LeaseMode, options: LeaseOptions): Lease {
    const { gpa, length } = validate.options(range, ['gpa', 'length'], 'a range to lock');
    const { holder } = validate.options(options, ['holder'], 'lock');
    const facts = {
      gpa: exact(gpa, 'lock'),
      length: validate.integer(Number(validate.length(length, 'length')), 'length', 1, Number.MAX_SAFE_INTEGER),
      mode: validate.oneOf(LEASE_MODES, mode, 'mode'),
      holder: validate.text(holder, 'holder'),
    };
    return this.lease(facts);
  }

  readU8(gpa: Address): number {
    const window = this.#readable.near(gpa);
    const at = window.offsetOf(gpa, 1);
    if (at >= 0) {
      const value = window.getU8(at);
      if (value !== SHUT) return value;
    }
    return this.#meets(gpa, 1, false) ? this.readU8(gpa) : this.#load(gpa, 1);
  }
  readU16(gpa: Address): number {
    const window = this.#readable.near(gpa);
    const at = window.offsetOf(gpa, 2);
    if (at >= 0) {
      const value = window.getU16(at);
      if (value !== SHUT) return value;
    }
    return this.#meets(gpa, 2, false) ? this.readU16(gpa) : this.#load(gpa, 2);
  }
  readU32(gpa: Address): number {
    const window = this.#readable.near(gpa);
    const at = window.offsetOf(gpa, 4);
    if (at >= 0) {
      const value = window.getU32(at);
      if (value !== SHUT) return value;
    }
    return this.#meets(gpa, 4, false) ? this.readU32(gpa) : this.#load(gpa, 4);
  }
  readU64(gpa: Address): bigint {
    const window = this.#readable.near(gpa);
    const at = window.offsetOf(gpa, 8);
    if (at >= 0) {
      const value = window.getU64(at);
      if (value !== undefined) return value;
    }
    if (this.#meets(gpa, 8, false)) return this.readU64(gpa);
    this.#load(gpa, 8);
    return wide(this.#facts);
  }
  writeU8(gpa: Address, value: number): void {
    const checked = validate.integer(value, 'value', 0, 0xff);
    const window = this.#writable.near(gpa);
    const at = window.offsetOf(gpa, 1);
    if (at >= 0 && window.setU8(at, checked)) return;
    if (this.#meets(gpa, 1, true)) this.writeU8(gpa, checked);
    else this.#store(gpa, 1, checked, 0);
  }
  writeU16(gpa: Address, value: number): void {
    const checked = validate.integer(value, 'value', 0, 0xffff);
    const window = this.#writable.near(gpa);
    const at = window.offsetOf(gpa, 2);
    if (at >= 0 && window.setU16(at, checked)) return;
    if (this.#meets(gpa, 2, true)) this.writeU16(gpa, checked);
    else this.#store(gpa, 2, checked, 0);
  }
  writeU32(gpa: Address, value: number): void {
    const checked = validate.integer(value, 'value', 0, 0xffffffff);
    const window = this.#writable.near(gpa);
    const at = window.offsetOf(gpa, 4);
    if (at >= 0 && window.setU32(at, checked)) return;
    if (this.#meets(gpa, 4, true)) this.writeU32(gpa, checked);
    else this.#store(gpa, 4, checked, 0);
  }
  writeU64(gpa: Address, value: number | bigint): void {
    const checked = validate.address(value, 'value');
    const window = this.#writable.near(gpa);
    const at = window.offsetOf(gpa, 8);
    if (at >= 0 && window.setU64(at, BigInt(checked))) return;
    if (this.#meets(gpa, 8, true)) this.writeU64(gpa, checked);
    else this.#store(gpa, 8, low(checked), high(checked));
  }

  compareExchange(gpa: Address, width: Width, expected: number | bigint, value: number | bigint): bigint {
    const { reservation, whyGone } = this.#open();
    return compareExchange(reservation, gpa, width, expected, value, whyGone);
  }

  /** Parts of a range that are not in memory, and which their objects can give, in order; none where this thread does
   *  not know the objects. @internal */
  protected absentParts(_gpa: number, _length: number): AbsentPart[] {
    return [];
  }

  /** Takes a lease. Throws CLOSED, GUEST_ACCESS, LEASED. */
  protected abstract lease(facts: LeaseFacts): Lease;

  /** Text for console.log and util.inspect. */
  [inspect.custom](): string {
    return `${printable(this.#what)}${this.closed ? ' (closed)' : ''}`;
  }

  /** Whether it is closed: every method but `close` then throws CLOSED. */
  get closed(): boolean {
    return this.#source === undefined;
  }

  #open(): MemorySource {
    if (this.#source === undefined) throw new MembackingError('CLOSED', `${this.#what} is closed`);
    return this.#source;
  }

  #load(gpa: Address, width: Width): number {
    const at = exact(gpa, 'read');
    return this.#succeeded(this.#open().reservation.load(at, width), 'read');
  }

  #store(gpa: Address, width: Width, lowHalf: number, highHalf: number): void {
    const at = exact(gpa, 'write');
    this.#succeeded(this.#open().reservation.store(at, width, lowHalf, highHalf), 'write');
  }

  #readByAddon(gpa: number, into: Uint8Array): void {
    this.#succeeded(this.#open().reservation.read(gpa, into), 'read');
  }

  #writeByAddon(gpa: number, from: Uint8Array): void {
    this.#succeeded(this.#open().reservation.write(gpa, from), 'write');
  }

  #succeeded(result: number, what: string): number {
    return succeeded(result, what, this.#facts, this.#source?.whyGone);
  }

  /** Whether a window shows bytes that was not known yet, or not to show them. It is from now on. */
  #meets(gpa: Address, length: number, isWrite: boolean): boolean {
    if (this.#source === undefined || !Number.isSafeInteger(gpa) || (gpa as number) < 0) return false;
    const window = this.#source.windows.find(gpa as number, isWrite);
    if (window === undefined || window.offsetOf(gpa, length) < 0) return false;
    (isWrite ? this.#writable : this.#readable).meet(window, gpa as number);
    return true;
  }
}

/** Copies part by part, of at most `most` bytes. Precondition: all GPAs are safe integers. */
function inParts(gpa: Address, bytes: Uint8Array, most: number, copy: (gpa: number, part: Uint8Array) => void): void {
  const length = validate.lengthOfBytes(bytes);
  for (let done = 0; done < length; done += most) {
    const part = new Uint8Array(bytes.buffer, bytes.byteOffset + done, Math.min(most, length - done));
    copy(Number(gpa) + done, part);
  }
}
