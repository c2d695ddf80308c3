// Moving bytes. The host's own `memory.copy` is a call out of the module: for a few words, moving them here is faster.

/** Bytes up to which words are moved one by one. */
const FEW: u32 = 160;

/** Copies `size` bytes, a multiple of 8, between stretches that do not overlap. */
export function copyWords(to: usize, from: usize, size: u32): void {
  if (size > FEW) {
    memory.copy(to, from, size);
    return;
  }
  for (let at: u32 = 0; at < size; at += 8) store<u64>(to + at, load<u64>(from + at));
}

/** Moves `size` bytes, a multiple of 8, up or down by a distance that is a multiple of 8. */
export function moveWords(to: usize, from: usize, size: u32): void {
  if (size > FEW) {
    memory.copy(to, from, size);
  } else if (to < from) {
    for (let at: u32 = 0; at < size; at += 8) store<u64>(to + at, load<u64>(from + at));
  } else {
    for (let at = size; at > 0; at -= 8) store<u64>(to + at - 8, load<u64>(from + at - 8));
  }
}

/** Zeroes `size` bytes, a multiple of 8. */
export function zeroWords(at: usize, size: u32): void {
  for (let offset: u32 = 0; offset < size; offset += 8) store<u64>(at + offset, 0);
}
