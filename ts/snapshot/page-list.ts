// Lists of pages as text: "0+16 64+1" are 16 pages from page 0 on, and page 64.

import { type DataRange, united } from '../asked/data-range.ts';
import { type Field, refused } from './field.ts';

/** Bytes of a page of a snapshot. */
export const PAGE = 4096;

/** Bytes of a step. */
export const STEP = 2 ** 20;

/** Stretch of a block of RAM, in whole pages, in bytes. */
export interface PageRange extends DataRange {
  readonly offset: number;
  readonly length: number;
}

/** Text of ranges. */
export function pageListText(ranges: readonly PageRange[]): string {
  return ranges.map(({ offset, length }) => `${offset / PAGE}+${length / PAGE}`).join(' ');
}

/** Ranges of a text, all within `size` bytes. */
export function parsePageList(field: Field, size: number): PageRange[] {
  const text = field.matching(/^(\d{1,12}\+\d{1,12}( \d{1,12}\+\d{1,12})*)?$/, 'pages such as "0+16 64+1"');
  if (text === '') return [];
  let end = -1;
  return text.split(' ').map((item) => {
    const [first, count] = item.split('+').map(Number) as [number, number];
    if (first <= end || count === 0) throw refused(field.path, `must have its pages in order, joined where they touch`);
    end = first + count;
    if (end * PAGE > size) throw refused(field.path, `must end with the RAM, not at page ${end}`);
    return { offset: first * PAGE, length: count * PAGE };
  });
}

/** Appends a range that begins at or behind the end of the last one. */
export function appendRange(ranges: PageRange[], { offset, length }: PageRange): void {
  const last = ranges.at(-1);
  if (last === undefined || last.offset + last.length < offset) ranges.push({ offset, length });
  else ranges[ranges.length - 1] = { offset: last.offset, length: last.length + length };
}

/** Parts of ranges that lie in [start, end). */
export function* within(ranges: readonly PageRange[], start: number, end: number): Generator<PageRange> {
  let low = 0;
  for (let high = ranges.length; low < high; ) {
    const middle = (low + high) >>> 1;
    if (ranges[middle]!.offset + ranges[middle]!.length <= start) low = middle + 1;
    else high = middle;
  }
  for (let i = low; start < end && i < ranges.length && ranges[i]!.offset < end; i++) {
    const offset = Math.max(ranges[i]!.offset, start);
    yield { offset, length: Math.min(ranges[i]!.offset + ranges[i]!.length, end) - offset };
  }
}

/** Parts of ranges that lie in no range of another list. */
export function without(ranges: readonly PageRange[], taken: readonly PageRange[]): PageRange[] {
  const left: PageRange[] = [];
  for (const { offset, length } of ranges) {
    let from = offset;
    for (const part of within(taken, offset, offset + length)) {
      if (part.offset > from) left.push({ offset: from, length: part.offset - from });
      from = part.offset + part.length;
    }
    if (from < offset + length) left.push({ offset: from, length: offset + length - from });
  }
  return left;
}

export function bytesOf(ranges: readonly PageRange[]): number {
  return ranges.reduce((bytes, { length }) => bytes + length, 0);
}

/** Offset and length of each range, one after the other. */
export function pairsOf(ranges: readonly PageRange[]): Float64Array {
  const pairs = new Float64Array(2 * ranges.length);
  for (const [i, { offset, length }] of ranges.entries()) {
    pairs[2 * i] = offset;
    pairs[2 * i + 1] = length;
  }
  return pairs;
}

/** Union of two lists. */
export function joined(a: readonly PageRange[], b: readonly PageRange[]): readonly PageRange[] {
  return united(a, b) as readonly PageRange[];
}

/** Parts of ranges, none larger than a step. */
export function* stepsOf(ranges: readonly PageRange[], step = STEP): Generator<PageRange, undefined> {
  for (const { offset, length } of ranges) {
    for (let done = 0; done < length; done += step) {
      yield { offset: offset + done, length: Math.min(step, length - done) };
    }
  }
}

/** A range of a batch, and how many bytes of it come before. */
export interface BatchPart extends PageRange {
  readonly at: number;
}

/** Parts of ranges, as many together as make up a step. */
export function* batchesOf(ranges: readonly PageRange[], step = STEP): Generator<readonly BatchPart[], undefined> {
  let batch: BatchPart[] = [];
  let size = 0;
  for (const range of stepsOf(ranges, step)) {
    if (size + range.length > step) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push({ ...range, at: size });
    size += range.length;
  }
  if (size > 0) yield batch;
}
