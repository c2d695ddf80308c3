// Guest memory as devices use it, in whatever thread they run: an interface with one class for each place.

import type { Address } from '../core/address.ts';
import type { Width } from '../core/native.ts';
import type { LeaseMode } from './held-lease.ts';
import type { Lease } from './lease.ts';

/** A guest's access that has trapped, such as an `mmio` exit of a vCPU. */
export interface TrappedAccess {
  /** GPA of the first byte. */
  readonly gpa: Address;
  /** Whether the guest writes; otherwise it reads. */
  readonly isWrite: boolean;
  /** Bytes of the access: those that the guest writes, or those that it is to read. */
  readonly data: Uint8Array;
}

/** A stretch of guest memory that is to be leased. */
export interface LeaseRange {
  /** First GPA. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
}

/** Options of `GuestMemory.lock`. */
export interface LeaseOptions {
  /** Name of the user, for those who must wait. */
  readonly holder: string;
}

/** Guest memory by guest-physical address. An access meets whatever is mapped at that moment. Where nothing is mapped,
 *  or nothing writable for a write, it throws GUEST_ACCESS with the GPA: never a signal, not even while another thread
 *  changes the map. Every method throws INVALID_ARGUMENT for what is no GPA, byte array or value of its width, and
 *  CLOSED once the memory is closed.
 *
 *  Implemented by `LocalGuestMemory` (`VaSpace.memory`, `GuestMemoryClient.memory`) in the thread that owns the map,
 *  and by `WorkerGuestMemory` in any other thread of the process. */
export interface GuestMemory {
  /** Fills `into`. Throws GUEST_ACCESS; the bytes before its `details.gpa` are read. In the thread that owns the map, a
   *  read of 4 MiB and more makes nothing of RAM resident that nobody has touched. */
  read(gpa: Address, into: Uint8Array): void;
  /** Writes all of `from`. Throws GUEST_ACCESS; the bytes before its `details.gpa` are written. */
  write(gpa: Address, from: Uint8Array): void;

  /** Carries out a guest's access that has trapped, if it is one to memory: RAM that shares its page with registers
   *  traps, too. Reads fill `data`. False if some byte of it is no memory, or not to be written: then it is a device's.
   *  Throws INVALID_ARGUMENT, CLOSED. */
  answer(access: TrappedAccess): boolean;

  /** Holds on to a stretch of memory that is mapped now with that access: it stays so until the lease is released, or
   *  the thread ends that took it. Throws GUEST_ACCESS where it is not, LEASED where it is about to change. */
  lock(range: LeaseRange, mode: LeaseMode, options: LeaseOptions): Lease;

  /** Reads one byte. Throws GUEST_ACCESS. */
  readU8(gpa: Address): number;
  /** Reads 2 bytes, little-endian, at any alignment. Throws GUEST_ACCESS. */
  readU16(gpa: Address): number;
  /** Reads 4 bytes, little-endian, at any alignment. Throws GUEST_ACCESS. */
  readU32(gpa: Address): number;
  /** Reads 8 bytes, little-endian, at any alignment. Throws GUEST_ACCESS. */
  readU64(gpa: Address): bigint;
  /** Writes one byte; `value` is from 0 to 0xff. Throws GUEST_ACCESS. */
  writeU8(gpa: Address, value: number): void;
  /** Writes 2 bytes, little-endian, at any alignment; `value` is from 0 to 0xffff. Throws GUEST_ACCESS. */
  writeU16(gpa: Address, value: number): void;
  /** Writes 4 bytes, little-endian, at any alignment; `value` is from 0 to 0xffffffff. Throws GUEST_ACCESS. */
  writeU32(gpa: Address, value: number): void;
  /** Writes 8 bytes, little-endian, at any alignment; `value` is from 0 to 2^64 - 1. Throws GUEST_ACCESS. */
  writeU64(gpa: Address, value: number | bigint): void;

  /** Stores `value` if `expected` is there, in one step that no vCPU and no thread sees half of. Returns the value that
   *  was there: `expected` if the new one was stored. `width`: bytes; the address must be a multiple. Throws
   *  GUEST_ACCESS. */
  compareExchange(gpa: Address, width: Width, expected: number | bigint, value: number | bigint): bigint;
}
