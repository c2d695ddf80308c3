// Sorting items by numbers in them, stably. Many items: radix sort, byte after byte from the lowest, of those bytes
// only in which the items differ. A few: insertion sort.

import { copyWords } from './bytes';
import { VECTOR_SIZE, Vector } from './vector';

/** Number of items up to which insertion sort is used. */
const FEW: u32 = 24;
/** Second buffer: radix passes go back and forth between it and the items. */
const other = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
/** Counts (u32), one for each value of a byte: of the items that have it, then the place where the next of them
 *  goes. */
const places: usize = memory.data(256 * 4, 16);

/** Puts items of `size` bytes, a multiple of 8, in order of the u32 at `majorAt` and then the u64 at `minorAt`; does
 *  nothing once memory has run out. */
export function sortByKeys(items: Vector, size: u32, minorAt: u32, majorAt: u32): void {
  if (!other.ensure(items.length + size)) return;
  const first = items.at(0);
  if (items.length <= FEW * size) {
    insertEach(first, items.end, size, minorAt, majorAt);
    return;
  }
  let minors: u64 = 0;
  let majors: u32 = 0;
  for (let at = first; at < items.end; at += size) {
    minors |= load<u64>(at + minorAt) ^ load<u64>(first + minorAt);
    majors |= load<u32>(at + majorAt) ^ load<u32>(first + majorAt);
  }
  let from = first;
  let to = other.at(0);
  for (let i: u32 = 0; i < 12; ++i) {
    const differ = i < 8 ? <u32>(minors >> (i << 3)) & 0xff : (majors >> ((i - 8) << 3)) & 0xff;
    if (differ == 0) continue;
    pass(from, to, items.length, size, i < 8 ? minorAt + i : majorAt + i - 8);
    const done = to;
    to = from;
    from = done;
  }
  if (from != first) memory.copy(first, from, items.length);
}

function insertEach(first: usize, end: usize, size: u32, minorAt: u32, majorAt: u32): void {
  const held = other.at(0);
  for (let next = first + size; next < end; next += size) {
    const minor = load<u64>(next + minorAt);
    const major = load<u32>(next + majorAt);
    let place = next;
    while (place > first && isAfter(place - size, minor, major, minorAt, majorAt)) place -= size;
    if (place == next) continue;
    copyWords(held, next, size);
    memory.copy(place + size, place, <u32>(next - place));
    copyWords(place, held, size);
  }
}

function isAfter(item: usize, minor: u64, major: u32, minorAt: u32, majorAt: u32): bool {
  const own = load<u32>(item + majorAt);
  return own != major ? own > major : load<u64>(item + minorAt) > minor;
}

/** Copies the items in order of the byte at `keyAt`. */
function pass(from: usize, to: usize, bytes: u32, size: u32, keyAt: u32): void {
  memory.fill(places, 0, 256 * 4);
  for (let at = from; at < from + bytes; at += size) {
    const place = places + ((<u32>load<u8>(at + keyAt)) << 2);
    store<u32>(place, load<u32>(place) + size);
  }
  let next: u32 = 0;
  for (let place = places; place < places + 256 * 4; place += 4) {
    const count = load<u32>(place);
    store<u32>(place, next);
    next += count;
  }
  for (let at = from; at < from + bytes; at += size) {
    const place = places + ((<u32>load<u8>(at + keyAt)) << 2);
    const offset = load<u32>(place);
    store<u32>(place, offset + size);
    copyWords(to + offset, at, size);
  }
}
