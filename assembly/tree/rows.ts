// Rows: records that say what there is (see abi.ts). A read fills as many as fit into one buffer, for the host to copy.

import { ROW_CAPACITY, ROW_SIZE } from '../abi';
import { Span } from './node';
import { CURSOR_SIZE, Cursor } from './tree';

/** A row: the record of abi.ts. */
@unmanaged
class Row {
  id: u32;
  flags: u32;
  start: u64;
  last: u64;
  offset: u64;
  kind: u32;
  other: u32;
  priority: i32;
  aux: u32;
  extent: u64;
}

/** Address of the buffer. */
export const rows: usize = memory.data(ROW_SIZE * ROW_CAPACITY, 8);
/** Rows that the running read has filled. */
export let rowCount: u32 = 0;

const cursor = changetype<Cursor<Span>>(memory.data(CURSOR_SIZE, 8));

/** Empties the buffer. */
export function clearRows(): void {
  rowCount = 0;
}

/** Whether there is room for another row. */
export function hasRoom(): bool {
  return rowCount < <u32>ROW_CAPACITY;
}

/** Row number `index` of those that were filled. */
export function rowAt(index: u32): Row {
  assert(index < rowCount);
  return changetype<Row>(rows + index * ROW_SIZE);
}

/** A new row with all fields 0. Precondition: there is room. */
export function newRow(): Row {
  assert(hasRoom());
  const at = rows + rowCount * ROW_SIZE;
  memory.fill(at, 0, ROW_SIZE);
  rowCount += 1;
  return changetype<Row>(at);
}

/** Adds a row for a span: id = b, flags = c, offset = a. Precondition: there is room. */
function addSpan(span: Span): void {
  const row = newRow();
  row.id = span.b;
  row.flags = span.c;
  row.start = span.start;
  row.last = span.last;
  row.offset = span.a;
}

/** Fills the buffer with rows for a tree's spans that reach into [from, last]; returns how many. */
export function readSpans(tree: usize, from: u64, last: u64): u32 {
  clearRows();
  cursor.seek(tree, from);
  for (let span = cursor.span; span != null && span.start <= last && hasRoom(); span = cursor.span) {
    addSpan(span);
    cursor.next();
  }
  return rowCount;
}
