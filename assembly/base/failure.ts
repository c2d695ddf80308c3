// Details of the last error, beyond its code: the regions, sink and address that a message needs.

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
