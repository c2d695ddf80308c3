// Sorting in place. Heap sort: no memory, and never slow.

/** Items of at most this many bytes can be sorted. */
const MAX_ITEM: i32 = 32;
const held: usize = memory.data(MAX_ITEM, 8);

/** Puts `count` items of `size` bytes (at most 32) at `base` in order; `precedes` says of two addresses which item is first. */
export function sort(base: usize, count: u32, size: u32, precedes: (left: usize, right: usize) => bool): void {
  assert(size <= <u32>MAX_ITEM);
  for (let i = count >> 1; i > 0; --i) sink(base, i - 1, count, size, precedes);
  for (let i = count; i > 1; --i) {
    const end = base + (i - 1) * size;
    memory.copy(held, base, size);
    memory.copy(base, end, size);
    memory.copy(end, held, size);
    sink(base, 0, i - 1, size, precedes);
  }
}

/** Moves item `i` down the heap until none below it comes later. */
function sink(base: usize, i: u32, count: u32, size: u32, precedes: (left: usize, right: usize) => bool): void {
  memory.copy(held, base + i * size, size);
  while (true) {
    let below: u32 = 2 * i + 1;
    if (below >= count) break;
    let child = base + below * size;
    if (below + 1 < count && precedes(child, child + size)) {
      ++below;
      child += size;
    }
    if (!precedes(held, child)) break;
    memory.copy(base + i * size, child, size);
    i = below;
  }
  memory.copy(base + i * size, held, size);
}
