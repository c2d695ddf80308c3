// Guest memory of any thread: reads and writes that mostly need no call, by windows, and otherwise the addon.

import { inspect } from 'node:util';
import { type Address, high, low } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { keepInThread } from '../core/handle.ts';
import type { Reservation, Width } from '../core/native.ts';
import { printable } from '../core/printable.ts';
import * as validate from '../core/validate.ts';
import { answer, compareExchange, exact, succeeded, type WhyGone, wide } from './guest-access.ts';
import type { GuestMemory, LeaseOptions, LeaseRange, TrappedAccess } from './guest-memory.ts';
import { type GuestWindow, NO_WINDOW, SHUT } from './guest-window.ts';
import { LEASE_MODES, type LeaseFacts, type LeaseMode } from './held-lease.ts';
import type { Lease } from './lease.ts';

/** Bytes that are copied through a window at once: whoever is about to shut it waits for that. */
const MOST_AT_ONCE = 2 ** 20;

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
  /** Windows that were last read, and written, without the addon. */
  #readable = NO_WINDOW;
  #writable = NO_WINDOW;

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
    this.#readable = NO_WINDOW;
    this.#writable = NO_WINDOW;
    if (source !== undefined) this.#facts = source.reservation.facts;
  }

  read(gpa: Address, into: Uint8Array): void {
    const bytes = validate.bytes(into, 'into');
    const length = validate.lengthOfBytes(bytes);
    const at = this.#readableAt(gpa, length);
    if (at >= 0 && length > MOST_AT_ONCE) inParts(gpa, bytes, (start, part) => this.read(start, part));
    else if (at < 0 || !this.#readable.read(at, bytes, length)) this.#readByAddon(exact(gpa, 'read'), bytes);
  }

  write(gpa: Address, from: Uint8Array): void {
    const bytes = validate.bytes(from, 'from');
    const length = validate.lengthOfBytes(bytes);
    const at = this.#writableAt(gpa, length);
    if (at >= 0 && length > MOST_AT_ONCE) inParts(gpa, bytes, (start, part) => this.write(start, part));
    else if (at < 0 || !this.#writable.write(at, bytes)) this.#writeByAddon(exact(gpa, 'write'), bytes);
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
    const at = this.#readableAt(gpa, 1);
    if (at >= 0) {
      const value = this.#readable.getU8(at);
      if (value !== SHUT) return value;
    }
    return this.#load(gpa, 1);
  }
  readU16(gpa: Address): number {
    const at = this.#readableAt(gpa, 2);
    if (at >= 0) {
      const value = this.#readable.getU16(at);
      if (value !== SHUT) return value;
    }
    return this.#load(gpa, 2);
  }
  readU32(gpa: Address): number {
    const at = this.#readableAt(gpa, 4);
    if (at >= 0) {
      const value = this.#readable.getU32(at);
      if (value !== SHUT) return value;
    }
    return this.#load(gpa, 4);
  }
  readU64(gpa: Address): bigint {
    const at = this.#readableAt(gpa, 8);
    if (at >= 0) {
      const value = this.#readable.getU64(at);
      if (value !== undefined) return value;
    }
    this.#load(gpa, 8);
    return wide(this.#facts);
  }
  writeU8(gpa: Address, value: number): void {
    const checked = validate.integer(value, 'value', 0, 0xff);
    const at = this.#writableAt(gpa, 1);
    if (at < 0 || !this.#writable.setU8(at, checked)) this.#store(gpa, 1, checked, 0);
  }
  writeU16(gpa: Address, value: number): void {
    const checked = validate.integer(value, 'value', 0, 0xffff);
    const at = this.#writableAt(gpa, 2);
    if (at < 0 || !this.#writable.setU16(at, checked)) this.#store(gpa, 2, checked, 0);
  }
  writeU32(gpa: Address, value: number): void {
    const checked = validate.integer(value, 'value', 0, 0xffffffff);
    const at = this.#writableAt(gpa, 4);
    if (at < 0 || !this.#writable.setU32(at, checked)) this.#store(gpa, 4, checked, 0);
  }
  writeU64(gpa: Address, value: number | bigint): void {
    const checked = validate.address(value, 'value');
    const at = this.#writableAt(gpa, 8);
    if (at < 0 || !this.#writable.setU64(at, BigInt(checked))) this.#store(gpa, 8, low(checked), high(checked));
  }

  compareExchange(gpa: Address, width: Width, expected: number | bigint, value: number | bigint): bigint {
    const { reservation, whyGone } = this.#open();
    return compareExchange(reservation, gpa, width, expected, value, whyGone);
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
    return this.#succeeded(this.#missed().reservation.load(at, width), 'read');
  }

  #store(gpa: Address, width: Width, lowHalf: number, highHalf: number): void {
    const at = exact(gpa, 'write');
    this.#succeeded(this.#missed().reservation.store(at, width, lowHalf, highHalf), 'write');
  }

  #readByAddon(gpa: number, into: Uint8Array): void {
    this.#succeeded(this.#missed().reservation.read(gpa, into), 'read');
  }

  #writeByAddon(gpa: number, from: Uint8Array): void {
    this.#succeeded(this.#missed().reservation.write(gpa, from), 'write');
  }

  #succeeded(result: number, what: string): number {
    return succeeded(result, what, this.#facts, this.#source?.whyGone);
  }

  /** The memory for an access that no window would take. Those that are shut are looked for anew. */
  #missed(): MemorySource {
    if (!this.#readable.isOpen) this.#readable = NO_WINDOW;
    if (!this.#writable.isOpen) this.#writable = NO_WINDOW;
    return this.#open();
  }

  /** Offset of bytes in the window that is read from, which from now on is the one that shows them; -1 where none
   *  does. */
  #readableAt(gpa: Address, length: number): number {
    const at = this.#readable.offsetOf(gpa, length);
    if (at >= 0 || !this.#isAddress(gpa)) return at;
    this.#readable = this.#source!.windows.find(gpa, false) ?? this.#readable;
    return this.#readable.offsetOf(gpa, length);
  }

  /** Offset of bytes in the window that is written to, likewise. */
  #writableAt(gpa: Address, length: number): number {
    const at = this.#writable.offsetOf(gpa, length);
    if (at >= 0 || !this.#isAddress(gpa)) return at;
    this.#writable = this.#source!.windows.find(gpa, true) ?? this.#writable;
    return this.#writable.offsetOf(gpa, length);
  }

  /** Whether a window may show an address. */
  #isAddress(gpa: Address): gpa is number {
    return this.#source !== undefined && Number.isSafeInteger(gpa) && (gpa as number) >= 0;
  }
}

/** Copies part by part. Precondition: a window shows all of it. */
function inParts(gpa: Address, bytes: Uint8Array, copy: (gpa: number, part: Uint8Array) => void): void {
  const length = validate.lengthOfBytes(bytes);
  for (let done = 0; done < length; done += MOST_AT_ONCE) {
    const part = new Uint8Array(bytes.buffer, bytes.byteOffset + done, Math.min(MOST_AT_ONCE, length - done));
    copy(Number(gpa) + done, part);
  }
}
