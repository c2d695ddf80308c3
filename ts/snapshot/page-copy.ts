// Copies of pages from a file, or from private memory, to a file: in the background, past JavaScript's memory.

import type { FileHandle } from 'node:fs/promises';
import type { DataRange } from '../asked/data-range.ts';
import { addonObjectOf, type MemoryObject } from '../asked/object.ts';
import { type FilePart, partsForAddon } from '../asked/pager.ts';
import { sum } from '../core/address.ts';
import { type MemoryObject as AddonObject, native, type PagesCopied } from '../core/native.ts';
import { joinedCrc32 } from './crc32.ts';
import { appendRange, bytesOf, type PageRange, pairsOf } from './page-list.ts';

/** Offset in a file from which pages are counted. */
export interface FilePlace {
  readonly file: FileHandle;
  readonly offset: number;
}

/** Place from which pages are copied. */
export interface PageOrigin {
  /** File that has them; undefined: private memory has. */
  readonly file: FileHandle | undefined;
  readonly offset: number;
  /** Memory of the pages; or the one whose file it is, which is read faster as long as it is open. */
  readonly memory?: MemoryObject | undefined;
  /** Pages that private memory has for itself: all others may be read from the file that it is a copy of. */
  readonly own?: readonly PageRange[] | undefined;
}

/** Pages that were copied, and their CRC-32. */
export interface CopiedPages {
  readonly pages: readonly PageRange[];
  readonly crc32: number;
}

/** Pages that files have, at the same offsets; all others are zeroes. */
export interface FileImage {
  /** Descriptors. */
  readonly files: readonly number[];
  /** Parts of the files, in order. */
  readonly parts: readonly FilePart[];
}

/** Pages that are left out: those that are as in an image; `zeroes`: as in one of nothing. */
export type LeftOut<Image = FileImage> = 'zeroes' | Image | 'nothing';

/** Options of copying pages. */
interface CopyOptions {
  /** Pages that are left out: the target has holes there. Default: nothing. */
  readonly leftOut?: LeftOut;
  /** Listener that is told, after each step, of how many bytes it has looked at. What it throws ends the copying. */
  readonly onStep: (bytes: number) => void;
}

/** Bytes of a step: few enough to be told of and given up often, and so many that asking for them costs nothing. */
const STEP = 2 ** 22;
/** Steps that are under way at once: one reads while the other one writes. */
const AT_ONCE = 2;
/** Bytes of ranges that are so small that two steps would wait for each other all the time. */
const SMALL = 2 ** 16;
/** Bytes of a step of these: nothing is done until the next one is asked for. */
const LONG_STEP = 4 * STEP;

/** Copies ranges of pages; without a target, they are summed alone. Rejects with errors of the system: of pread with
 *  ENXIO, where the source ends before, with EIO, where memory is not there; CLOSED where it goes. Nothing is under way
 *  then. */
export async function copyPages(
  from: PageOrigin,
  to: FilePlace | undefined,
  ranges: readonly PageRange[],
  { leftOut = 'nothing', onStep }: CopyOptions,
): Promise<CopiedPages> {
  const pages: PageRange[] = [];
  const leavesOut = leftOut !== 'nothing';
  const besides = besidesOf(leftOut, from.own);
  let crc32 = 0;
  const steps: { readonly pairs: Float64Array; readonly copying: Promise<PagesCopied> }[] = [];
  const takeOldest = async () => {
    const { pairs, copying } = steps[0]!;
    const copied = await copying;
    // Memory that has gone meanwhile may have shown something else.
    sourceOf(from);
    steps.shift();
    crc32 = joinedCrc32(crc32, copied.crc32, lengthOf(copied.pages));
    if (leavesOut) appendPairs(pages, copied.pages);
    onStep(lengthOf(pairs));
  };
  const [atOnce, step] = bytesOf(ranges) < SMALL * ranges.length ? [1, LONG_STEP] : [AT_ONCE, STEP];
  try {
    for (const pairs of stepPairs(ranges, step)) {
      if (steps.length === atOnce) await takeOldest();
      const target = [to?.file.fd, to?.offset] as const;
      const copying = native().copyPages(sourceOf(from), from.offset, ...target, pairs, leavesOut, ...besides(pairs));
      // Nobody may come to wait for it, where the one before it fails.
      copying.catch(() => {});
      steps.push({ pairs, copying });
    }
    while (steps.length > 0) await takeOldest();
  } finally {
    await Promise.allSettled(steps.map(({ copying }) => copying));
  }
  return { pages: leavesOut ? pages : ranges, crc32 };
}

/** Pages as the addon takes them. Throws CLOSED. */
function sourceOf({ file, memory }: PageOrigin): number | AddonObject {
  return file !== undefined && (memory === undefined || memory.closed) ? file.fd : addonObjectOf(memory!);
}

/** Function that gives what else the addon takes for steps, which come upwards: what is left out, and pages that memory
 *  has for itself. */
function besidesOf(
  leftOut: LeftOut,
  own: readonly PageRange[] | undefined,
): (pairs: Float64Array) => [readonly number[] | undefined, BigUint64Array | undefined, Float64Array | undefined] {
  const image = typeof leftOut === 'object' ? leftOut : undefined;
  const partsIn = image && upwards(image.parts);
  const ownIn = own && upwards(own);
  return (pairs) => [image?.files, partsIn && partsForAddon(partsIn(pairs)), ownIn && pairsOf(ownIn(pairs))];
}

/** Function that gives the ranges of a list that reach into steps, which come upwards. */
function upwards<Range extends DataRange>(ranges: readonly Range[]): (pairs: Float64Array) => readonly Range[] {
  let first = 0;
  return (pairs) => {
    const [start, end] = [pairs[0]!, pairs.at(-2)! + pairs.at(-1)!];
    while (first < ranges.length && sum(ranges[first]!.offset, ranges[first]!.length) <= start) first++;
    let last = first;
    while (last < ranges.length && ranges[last]!.offset < end) last++;
    return ranges.slice(first, last);
  };
}

/** CRC-32 of ranges of pages; undefined where the file ends before. Rejects with errors of the system, and what
 *  `onStep` throws. */
export async function checksumOf(
  from: FilePlace,
  ranges: readonly PageRange[],
  onStep: (bytes: number) => void,
): Promise<number | undefined> {
  try {
    return (await copyPages(from, undefined, ranges, { onStep })).crc32;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENXIO') return undefined;
    throw error;
  }
}

/** Ranges as the addon takes them, offset and length of each, one after the other: as many together as make up a
 *  step. */
function* stepPairs(ranges: readonly PageRange[], step: number): Generator<Float64Array, undefined> {
  // The end of a step cuts one range at most.
  const pairs = new Float64Array(2 * (ranges.length + Math.ceil(bytesOf(ranges) / step)));
  let [first, end, room] = [0, 0, step];
  for (const range of ranges) {
    for (let done = 0; done < range.length; ) {
      const length = Math.min(range.length - done, room);
      pairs[end++] = range.offset + done;
      pairs[end++] = length;
      done += length;
      room -= length;
      if (room > 0) continue;
      yield pairs.subarray(first, end);
      [first, room] = [end, step];
    }
  }
  if (end > first) yield pairs.subarray(first, end);
}

/** Bytes of pairs. */
function lengthOf(pairs: Float64Array): number {
  let bytes = 0;
  for (let i = 1; i < pairs.length; i += 2) bytes += pairs[i]!;
  return bytes;
}

function appendPairs(ranges: PageRange[], pairs: Float64Array): void {
  for (let i = 0; i < pairs.length; i += 2) appendRange(ranges, { offset: pairs[i]!, length: pairs[i + 1]! });
}
