// Writing blocks of RAM into a memory file: in the background where they can be read there; else read, looked at and
// written in steps that overlap. Pages of zeroes are left out.

import { readSync, writeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import * as zlib from 'node:zlib';
import { MembackingError } from '../core/errors.ts';
import {
  type CopiedPages,
  copyPages,
  type FileImage,
  type FilePlace,
  type LeftOut,
  type PageOrigin,
} from './page-copy.ts';
import { appendRange, type BatchPart, batchesOf, PAGE, type PageRange, STEP, bytesOf as totalOf } from './page-list.ts';

/** Bytes that can be read at any offset. */
export interface Readable {
  /** Reads whole pages into all of `into`. */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** Reads as `read` does, at once: for a few pages, where that is possible. */
  readNow?(offset: number, into: Uint8Array): void;
}

/** A block of RAM to be written. */
export interface Source extends Readable {
  /** Parts that may have to be written, in order: pages elsewhere are zeroes, or as in the base. */
  readonly candidates: readonly PageRange[];
  /** Pages that are left out. */
  readonly leftOut: LeftOut<Readable & FileImage>;
  /** Origin of the bytes, for who copies them in the background; undefined where nobody can. */
  readonly origin: PageOrigin | undefined;
}

/** Options of writing memory. */
interface WriteOptions {
  /** Gives up between two steps. */
  readonly signal: AbortSignal | undefined;
  /** Listener that is told, after each step, of how many bytes it has looked at. */
  readonly onStep: (bytes: number) => void;
  /** Whether the CRC-32 is wanted; else it is 0. */
  readonly isSummed: boolean;
}

const ZEROES = Buffer.alloc(PAGE);

/** Error of writing that was given up. */
export function aborted(cause: unknown): MembackingError {
  return new MembackingError('ABORTED', 'the snapshot was given up; nothing is left of it', { cause });
}

/** Place for the pages of a block. */
export interface Target {
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Writes as `write` does, at once: for a few pages, where that is possible. */
  writeNow?(bytes: Uint8Array, offset: number): void;
  /** Place of it in a file, where it is one. */
  readonly place?: FilePlace;
}

/** The place of a block in a memory file, from `fileOffset` on. */
export function inFile(file: FileHandle, fileOffset: number): Target {
  return {
    place: { file, offset: fileOffset },
    write: (bytes, offset) => writeAll(file, bytes, fileOffset + offset),
    writeNow: (bytes, offset) => {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(file.fd, bytes, done, bytes.length - done, fileOffset + offset + done);
      }
    },
  };
}

/** Writes the pages of a block that are not left out. Rejects with ABORTED, and what reading and writing reject
 *  with. */
export async function writeBlock(source: Source, target: Target, options: WriteOptions): Promise<CopiedPages> {
  const { candidates, leftOut, origin } = source;
  if (origin === undefined || target.place === undefined) {
    return writeInSteps(source, target, options);
  }
  const onStep = (bytes: number) => {
    checkGoingOn(options.signal);
    options.onStep(bytes);
  };
  try {
    return await copyPages(origin, target.place, candidates, { leftOut, onStep });
  } catch (error) {
    if ((error as { syscall?: unknown }).syscall !== 'pread') throw error;
    // Says what is missing.
    return writeInSteps(source, target, options);
  }
}

/** Ends work that was given up. Throws ABORTED. */
export function checkGoingOn(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal.reason);
}

async function writeInSteps(
  source: Source,
  target: Target,
  { signal, onStep, isSummed }: WriteOptions,
): Promise<CopiedPages> {
  const pages: PageRange[] = [];
  let crc32 = 0;
  let writing: Promise<unknown> = Promise.resolve();
  let reading: Promise<Step> | undefined;
  const steps = batchesOf(source.candidates);
  const buffers = Array.from({ length: AT_ONCE }, () => makeBuffers(source));
  const begin = () => {
    const { value } = steps.next();
    // The oldest: the others are being looked at, and written.
    const oldest = buffers.shift()!;
    buffers.push(oldest);
    reading = value === undefined ? undefined : readStep(source, value, oldest);
    // Nobody may come to wait for it, where a write fails meanwhile.
    reading?.catch(() => {});
  };
  try {
    for (begin(); reading !== undefined; ) {
      checkGoingOn(signal);
      const step: Step = await reading;
      begin();
      const runs = runsOf(step, source.leftOut);
      if (isSummed) for (const run of runs) crc32 = zlib.crc32(bytesOf(step, run), crc32);
      await writing;
      writing = writeRuns(target, step, runs);
      writing.catch(() => {});
      for (const run of runs) appendRange(pages, run);
      onStep(step.bytes.length);
    }
  } finally {
    // The file is closed by others: nothing may be under way then.
    await Promise.allSettled([reading, writing]);
  }
  await writing;
  return { pages, crc32 };
}

/** Memory for a step, used again and again: fresh memory costs more than all else. */
interface Buffers {
  readonly bytes: Buffer;
  /** Memory for the pages to compare with; undefined where there are none. */
  readonly before: Buffer | undefined;
}

/** Steps that are under way at once: one is read, one looked at, one written. */
const AT_ONCE = 3;

function makeBuffers({ candidates, leftOut }: Source): Buffers {
  const size = Math.min(totalOf(candidates), STEP);
  const make = () => Buffer.allocUnsafeSlow(size);
  return { bytes: make(), before: typeof leftOut === 'object' ? make() : undefined };
}

/** Ranges that were read together. */
interface Step extends Buffers {
  readonly parts: readonly BatchPart[];
}

/** Bytes that are copied at once rather than in the background: handing them over would take longer. */
const FEW = 2 ** 16;

async function readStep(source: Source, parts: readonly BatchPart[], buffers: Buffers): Promise<Step> {
  const { at, length } = parts.at(-1)!;
  const bytes = buffers.bytes.subarray(0, at + length);
  const before = buffers.before?.subarray(0, bytes.length);
  for (const part of parts) {
    await readPart(source, part, bytes);
    if (before !== undefined) await readPart(source.leftOut as Readable, part, before);
  }
  return { parts, bytes, before };
}

function readPart(from: Readable, { at, offset, length }: BatchPart, bytes: Buffer): Promise<void> | undefined {
  const into = bytes.subarray(at, at + length);
  if (length > FEW || from.readNow === undefined) return from.read(offset, into);
  from.readNow(offset, into);
  return undefined;
}

/** Parts of a step that are not left out. */
function runsOf({ parts, bytes, before }: Step, leftOut: Source['leftOut']): BatchPart[] {
  if (leftOut === 'nothing') return [...parts];
  const runs: BatchPart[] = [];
  for (const { offset, length, at } of parts) {
    for (let done = 0; done < length; done += PAGE) {
      const from = at + done;
      const isAlike =
        before === undefined
          ? bytes[from] === 0 && bytes.compare(ZEROES, 0, PAGE, from, from + PAGE) === 0
          : bytes.compare(before, from, from + PAGE, from, from + PAGE) === 0;
      if (!isAlike) appendPage(runs, { offset: offset + done, length: PAGE, at: from });
    }
  }
  return runs;
}

/** Appends a page behind the last run: to it, where it follows it. */
function appendPage(runs: BatchPart[], page: BatchPart): void {
  const last = runs.at(-1);
  if (last === undefined || last.offset + last.length !== page.offset) runs.push(page);
  else runs[runs.length - 1] = { ...last, length: last.length + page.length };
}

function bytesOf({ bytes }: Step, { at, length }: BatchPart): Buffer {
  return bytes.subarray(at, at + length);
}

async function writeRuns(target: Target, step: Step, runs: readonly BatchPart[]): Promise<void> {
  for (const run of runs) {
    const bytes = bytesOf(step, run);
    if (run.length > FEW || target.writeNow === undefined) await target.write(bytes, run.offset);
    else target.writeNow(bytes, run.offset);
  }
  // What was copied at once has kept everything else waiting.
  await setImmediate();
}

/** Writes all of some bytes into a file. */
export async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** Reads a part of a file that is there, into all of `into`; false where the file ends before. */
export async function readAll(file: FileHandle, into: Uint8Array, position: number): Promise<boolean> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

/** Reads as `readAll` does, at once. */
export function readAllNow(file: FileHandle, into: Uint8Array, position: number): boolean {
  for (let done = 0; done < into.length; ) {
    const count = readSync(file.fd, into, done, into.length - done, position + done);
    if (count === 0) return false;
    done += count;
  }
  return true;
}
