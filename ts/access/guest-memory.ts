// Guest memory as devices use it, in whatever thread they run: an interface with one class for each place.

import type { Address } from '../core/address.ts';
import type { Width } from '../core/native.ts';

/** Guest memory by guest-physical address. An access meets whatever is mapped at that moment. Where nothing is mapped,
 *  or nothing writable for a write, it throws GUEST_ACCESS with the GPA: never a signal, not even while another thread
 *  changes the map. Every method throws INVALID_ARGUMENT for what is no GPA, byte array or value of its width, and
 *  CLOSED once the memory is closed.
 *
 *  Implemented by `LocalGuestMemory` (`VaSpace.memory`, `GuestMemoryClient.memory`) in the thread that owns the map,
 *  and by `WorkerGuestMemory` in any other thread of the process. */
export interface GuestMemory {
  /** Fills `into`. Throws GUEST_ACCESS; the bytes before its `details.gpa` are read. */
  read(gpa: Address, into: Uint8Array): void;
  /** Writes all of `from`. Throws GUEST_ACCESS; the bytes before its `details.gpa` are written. */
  write(gpa: Address, from: Uint8Array): void;

  // Little-endian, at any alignment. Values are from 0 to all bits set. Throw GUEST_ACCESS.

  readU8(gpa: Address): number;
  readU16(gpa: Address): number;
  readU32(gpa: Address): number;
  readU64(gpa: Address): bigint;
  writeU8(gpa: Address, value: number): void;
  writeU16(gpa: Address, value: number): void;
  writeU32(gpa: Address, value: number): void;
  writeU64(gpa: Address, value: number | bigint): void;

  /** Stores `value` if `expected` is there, in one step that no vCPU and no thread sees half of. Returns the value that
   *  was there: `expected` if the new one was stored. `width`: bytes; the address must be a multiple. Throws
   *  GUEST_ACCESS. */
  compareExchange(gpa: Address, width: Width, expected: number | bigint, value: number | bigint): bigint;
}
