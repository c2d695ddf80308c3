// Sorting ids in place by the things that they name. Heap sort: no extra memory, and no slow case.

/** Puts `count` ids (u32) at `base` in order; `precedes` says of two of them whether the left one is first. */
export function sortIds(base: usize, count: u32, precedes: (left: u32, right: u32) => bool): void {
  for (let i = count >> 1; i > 0; --i) sink(base, i - 1, count, precedes);
  for (let i = count; i > 1; --i) {
    const last = idAt(base, i - 1);
    setId(base, i - 1, idAt(base, 0));
    setId(base, 0, last);
    sink(base, 0, i - 1, precedes);
  }
}

/** Moves id `i` down the heap until none below it comes later. */
function sink(base: usize, i: u32, count: u32, precedes: (left: u32, right: u32) => bool): void {
  const held = idAt(base, i);
  while (true) {
    let below: u32 = 2 * i + 1;
    if (below >= count) break;
    if (below + 1 < count && precedes(idAt(base, below), idAt(base, below + 1))) ++below;
    const child = idAt(base, below);
    if (!precedes(held, child)) break;
    setId(base, i, child);
    i = below;
  }
  setId(base, i, held);
}

function idAt(base: usize, i: u32): u32 {
  return load<u32>(base + (i << 2));
}

function setId(base: usize, i: u32, id: u32): void {
  store<u32>(base + (i << 2), id);
}
