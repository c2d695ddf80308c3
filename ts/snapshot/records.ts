// Records: the form in which guest memory goes through streams.
//
//   0      4        8                 12           16             24
//   +------+--------+-----------------+------------+--------------+---------
//   | kind | length | CRC-32 of all   | zero       | offset       | payload, of `length` bytes
//   |      |        | but these four  |            |              |
//   +------+--------+-----------------+------------+--------------+---------
//
// Numbers are little-endian, and without a sign. `offset` is a place in the memory file that the layout describes.

import * as zlib from 'node:zlib';
import { MembackingError } from '../core/errors.ts';
import { PAGE } from './page-list.ts';

/** Kinds of records. */
export const RECORD = {
  /** Text of a layout, the first record: what RAM there is, and which of its pages may come. */
  begin: 1,
  /** Whole pages from `offset` on. Of several records of one page, the last one counts; of a page of which there is
   *  none, that it is zeroes, or as in the base. */
  pages: 2,
  /** Text of a layout, the last record: all but the RAM as it was at the moment that the pages are of. Of a guest that
   *  migrates, it names no pages. */
  end: 3,
  /** Identity of a guest that migrates, said by the side that receives it: all of it is there, and waits. */
  ready: 4,
  /** Identity of that guest, said by the side that has sent it: it is the other side's now. */
  go: 5,
  /** Text of a layout, the first record in place of `begin` where the guest stood still: the last one's says the same,
   *  but for the pages, and each of these comes once, in order. */
  still: 6,
  /** Text of a layout, that of the last record but for the pages: those that are still to come, each once, in order.
   *  All others are as they are to be. Only behind `begin`, and not where a guest migrates. */
  last: 7,
} as const;
/** A kind of records. */
export type RecordKind = (typeof RECORD)[keyof typeof RECORD];

/** Bytes of a record's head. */
export const HEAD = 24;
/** Bytes of pages that one record has at most. */
const MOST_PAGES = 2 ** 20;
/** Bytes of a layout that one record has at most. */
const MOST_TEXT = 256 * 2 ** 20;
/** Bytes of an identity that one record has at most. */
const MOST_IDENTITY = 36;

/** Head of a record. */
interface RecordHead {
  readonly kind: RecordKind;
  /** Bytes of the payload. */
  readonly length: number;
  /** Checksum of the record. */
  readonly crc32: number;
  /** Place in the memory file. */
  readonly offset: number;
}

/** Head of a record with a payload. */
export function headOf(kind: RecordKind, offset: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(HEAD);
  head.writeUInt32LE(kind, 0);
  head.writeUInt32LE(payload.length, 4);
  head.writeBigUInt64LE(BigInt(offset), 16);
  head.writeUInt32LE(checksum(head, payload), 8);
  return head;
}

/** Reads the head of a record of one of `kinds`. Throws SNAPSHOT_DAMAGED. */
export function readHead(head: Buffer, kinds: readonly RecordKind[]): RecordHead {
  const kind = kinds.find((each) => each === head.readUInt32LE(0));
  const length = head.readUInt32LE(4);
  const offset = head.readBigUInt64LE(16);
  const isPages = kind === RECORD.pages;
  const isIdentity = kind === RECORD.ready || kind === RECORD.go;
  const most = isPages ? MOST_PAGES : isIdentity ? MOST_IDENTITY : MOST_TEXT;
  if (kind === undefined || head.readUInt32LE(12) !== 0 || length > most || offset > Number.MAX_SAFE_INTEGER) {
    throw strange('what comes is no record of memory');
  }
  if (length === 0 || (isPages ? length % PAGE !== 0 || offset % BigInt(PAGE) !== 0n : offset !== 0n)) {
    throw strange('a record is empty, or of parts of pages');
  }
  return { kind, length, crc32: head.readUInt32LE(8), offset: Number(offset) };
}

/** Checks a record's payload. Throws SNAPSHOT_DAMAGED. */
export function checkRecord(head: Buffer, { crc32 }: RecordHead, payload: Uint8Array): void {
  if (checksum(head, payload) !== crc32) throw strange('a record is not as it was written');
}

function checksum(head: Uint8Array, payload: Uint8Array): number {
  return zlib.crc32(payload, zlib.crc32(head.subarray(12), zlib.crc32(head.subarray(0, 8))));
}

/** Error of a stream that is not as it must be. */
export function strange(problem: string): MembackingError {
  return new MembackingError('SNAPSHOT_DAMAGED', `the snapshot in the stream is damaged: ${problem}`);
}
