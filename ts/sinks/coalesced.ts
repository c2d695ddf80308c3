// Writes of a guest that the hypervisor has kept, as it hands them over.

import { type Address, toAddress } from '../core/address.ts';

/** A write that was kept. */
export interface CoalescedWrite {
  /** GPA of the partition's own. */
  readonly gpa: Address;
  /** Bytes that the guest wrote: 1, 2, 4 or 8. */
  readonly data: Uint8Array;
}

/** Bytes of a record: u64 GPA, u32 bytes, u32 0, then 8 of which those are used. */
const RECORD = 24;
const DATA = 16;

/** Writes from their records, in order. */
export function decodeWrites(records: Uint8Array): CoalescedWrite[] {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
  return Array.from({ length: records.byteLength / RECORD }, (_, index) => {
    const at = index * RECORD;
    const data = records.slice(at + DATA, at + DATA + view.getUint32(at + 8, true));
    return { gpa: toAddress(view.getBigUint64(at, true)), data };
  });
}
