// Sorting in place. Heap sort: no memory, and never slow.

import { copyWords } from './bytes';

/** Items of at most this many bytes can be sorted. */
const MAX_ITEM: i32 = 32;
const held: usize = memory.data(MAX_ITEM, 8);

/**
 * Puts `count` items of `size` bytes (4, or a multiple of 8 up to 32) at `base` in order; `precedes` says of two
 * addresses which item is first.
 */
export function sort(base: usize, count: u32, size: u32, precedes: (left: usize, right: usize) => bool): void {
  assert(size <= <u32>MAX_ITEM);
  for (let i = count >> 1; i > 0; --i) sink(base, i - 1, count, size, precedes);
  for (let i = count; i > 1; --i) {
    const end = base + (i - 1) * size;
    copyItem(held, base, size);
    copyItem(base, end, size);
    copyItem(end, held, size);
    sink(base, 0, i - 1, size, precedes);
  }
}

/** Moves item `i` down the heap until none below it comes later. */
function sink(base: usize, i: u32, count: u32, size: u32, precedes: (left: usize, right: usize) => bool): void {
  copyItem(held, base + i * size, size);
  while (true) {
    let below: u32 = 2 * i + 1;
    if (below >= count) break;
    let child = base + below * size;
    if (below + 1 < count && precedes(child, child + size)) {
      ++below;
      child += size;
    }
    if (!precedes(held, child)) break;
    copyItem(base + i * size, child, size);
    i = below;
  }
  copyItem(base + i * size, held, size);
}

function copyItem(to: usize, from: usize, size: u32): void {
  if (size == 4) store<u32>(to, load<u32>(from));
  else copyWords(to, from, size);
}
