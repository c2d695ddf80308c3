// Guest memory in another thread than the one that changes the map: every access goes through the addon, which meets
// what the map is at that moment.

import { type Address, high, low } from '../core/address.ts';
import { Handle } from '../core/handle.ts';
import { native, type Reservation, type Width } from '../core/native.ts';
import { systemError } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import { answer, compareExchange, exact, succeeded, wide } from './guest-access.ts';
import type { GuestMemory, TrappedAccess } from './guest-memory.ts';

const WHAT = 'the guest memory of another thread';

/** Guest memory of a VA space of another thread. Each access is of what is mapped when it is made, and throws
 *  GUEST_ACCESS where nothing is: everywhere, when the VA space has been closed. Until this is closed too, its
 *  addresses stay reserved. A thread that holds on to memory, or needs it as an array, asks the VA space's own thread
 *  for a lease. */
export class WorkerGuestMemory extends Handle implements GuestMemory {
  readonly #reservation: Reservation;

  private constructor(reservation: Reservation) {
    super();
    validate.madeBy('WorkerGuestMemory.fromToken', reservation);
    this.#reservation = reservation;
  }

  /** The memory of the VA space, or of the trust level's client, with that `token`. Throws CLOSED where it is not there
   *  any more. */
  static fromToken(token: bigint): WorkerGuestMemory {
    const checked = validate.u64(token, 'token');
    return systemError(WHAT, () => new WorkerGuestMemory(native().Reservation.fromToken(checked)));
  }

  protected override get what(): string {
    return WHAT;
  }

  read(gpa: Address, into: Uint8Array): void {
    const bytes = validate.bytes(into, 'into');
    this.#succeeded(this.#open().read(exact(gpa, 'read'), bytes), 'read');
  }

  write(gpa: Address, from: Uint8Array): void {
    const bytes = validate.bytes(from, 'from');
    this.#succeeded(this.#open().write(exact(gpa, 'write'), bytes), 'write');
  }

  answer(access: TrappedAccess): boolean {
    return answer(this, access);
  }

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
    return wide(this.#reservation.facts);
  }
  writeU8(gpa: Address, value: number): void {
    this.#store(gpa, 1, validate.integer(value, 'value', 0, 0xff));
  }
  writeU16(gpa: Address, value: number): void {
    this.#store(gpa, 2, validate.integer(value, 'value', 0, 0xffff));
  }
  writeU32(gpa: Address, value: number): void {
    this.#store(gpa, 4, validate.integer(value, 'value', 0, 0xffffffff));
  }
  writeU64(gpa: Address, value: number | bigint): void {
    this.#store(gpa, 8, validate.address(value, 'value'));
  }

  compareExchange(gpa: Address, width: Width, expected: number | bigint, value: number | bigint): bigint {
    return compareExchange(this.#open(), gpa, width, expected, value);
  }

  protected override release(): void {
    this.#reservation.close();
  }

  #open(): Reservation {
    this.checkOpen();
    return this.#reservation;
  }

  #load(gpa: Address, width: Width): number {
    return this.#succeeded(this.#open().load(exact(gpa, 'read'), width), 'read');
  }

  #store(gpa: Address, width: Width, value: Address): void {
    this.#succeeded(this.#open().store(exact(gpa, 'write'), width, low(value), high(value)), 'write');
  }

  #succeeded(result: number, what: string): number {
    return succeeded(result, what, this.#reservation.facts);
  }
}
