// Details of the last error, beyond its code: the regions, sink and address that a message needs.

import { ERR_BAD_RANGE, ERR_UNALIGNED } from '../abi';
import { isPageAligned, LAST_BYTE } from './range';

/** id + 1 of the region or object that the last error is about; 0 for none. */
export let failedId: u32 = 0;
/** id + 1 of the second thing that the last error is about, where two conflict; 0 for none. */
export let otherId: u32 = 0;
/** The address that the last error is about. */
export let failedAddress: u64 = 0;

/** Remembers the facts and returns the code. */
export function fail(code: i32, id: u32 = 0, other: u32 = 0, address: u64 = 0): i32 {
  failedId = id;
  otherId = other;
  failedAddress = address;
  return code;
}

/** Code that says why [start, last] is no range of whole pages; 0 if it is one. `other`: as for `fail`. */
export function refusePages(start: u64, last: u64, other: u32): i32 {
  if (!isPageAligned(start)) return fail(ERR_UNALIGNED, 0, other, start);
  if (last != LAST_BYTE && !isPageAligned(last + 1)) return fail(ERR_UNALIGNED, 0, other, last + 1);
  return last < start ? fail(ERR_BAD_RANGE, 0, other, last) : 0;
}
