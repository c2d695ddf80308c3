// Copies of pages from file to file: in the background, past JavaScript's memory.

import type { FileHandle } from 'node:fs/promises';
import { addonObjectOf, type MemoryObject } from '../asked/object.ts';
import { native, type PagesCopied } from '../core/native.ts';
import { joinedCrc32 } from './crc32.ts';
import { appendRange, batchesOf, bytesOf, type PageRange, pairsOf } from './page-list.ts';

/** Offset in a file from which pages are counted. */
export interface FilePlace {
  readonly file: FileHandle;
  readonly offset: number;
  /** Memory whose file it is, which is read faster as long as it is open. */
  readonly memory?: MemoryObject | undefined;
}

/** Pages that were copied, and their CRC-32. */
export interface CopiedPages {
  readonly pages: PageRange[];
  readonly crc32: number;
}

/** Options of copying pages. */
interface CopyOptions {
  /** Whether pages of zeroes are left out: the target has holes there. Default false. */
  readonly leavesZeroesOut?: boolean;
  /** Listener that is told, after each step, of how many bytes it has looked at. What it throws ends the copying. */
  readonly onStep: (bytes: number) => void;
}

/** Bytes of a step: few enough to be told of and given up often, and so many that asking for them costs nothing. */
const STEP = 2 ** 22;
/** Steps that are under way at once: one reads while the other one writes. */
const AT_ONCE = 2;

/** Copies ranges of pages; without a target, they are summed alone. Rejects with errors of the system: of pread with
 *  ENXIO, where the source ends before. Nothing is under way then. */
export async function copyPages(
  from: FilePlace,
  to: FilePlace | undefined,
  ranges: readonly PageRange[],
  { leavesZeroesOut = false, onStep }: CopyOptions,
): Promise<CopiedPages> {
  const pages: PageRange[] = [];
  let crc32 = 0;
  const steps: { readonly bytes: number; readonly copying: Promise<PagesCopied> }[] = [];
  const takeOldest = async () => {
    const { bytes, copying } = steps[0]!;
    const copied = await copying;
    steps.shift();
    const now = rangesOf(copied.pages);
    crc32 = joinedCrc32(crc32, copied.crc32, bytesOf(now));
    for (const range of now) appendRange(pages, range);
    onStep(bytes);
  };
  try {
    for (const batch of batchesOf(ranges, STEP)) {
      if (steps.length === AT_ONCE) await takeOldest();
      const { file, offset, memory } = from;
      const source = memory === undefined || memory.closed ? file.fd : addonObjectOf(memory);
      const copying = native().copyPages(source, offset, to?.file.fd, to?.offset, pairsOf(batch), leavesZeroesOut);
      // Nobody may come to wait for it, where the one before it fails.
      copying.catch(() => {});
      steps.push({ bytes: bytesOf(batch), copying });
    }
    while (steps.length > 0) await takeOldest();
  } finally {
    await Promise.allSettled(steps.map(({ copying }) => copying));
  }
  return { pages, crc32 };
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

function rangesOf(pairs: Float64Array): PageRange[] {
  return Array.from({ length: pairs.length / 2 }, (_, i) => ({ offset: pairs[2 * i]!, length: pairs[2 * i + 1]! }));
}
