// Input in users' files: a trace or a memory map, plain or compressed. A trace says in its first line that it is one.

import { MembackingError } from '../core/errors.ts';
import { importMaps } from './import/maps.ts';
import type { TraceOperation } from './operations.ts';
import { openTrace, type TraceStream } from './read.ts';
import { decodeText, type ReadOptions, readChunks, splitHead } from './source.ts';

/** Bytes of the first line that are looked at: a trace's header is shorter. */
const HEADER_BYTES = 4096;
const NEWLINE = 0x0a;

/** Operations of a file, whether it holds a trace or a map. */
export interface OperationStream extends TraceStream {
  /** Kind of input that was found. */
  readonly kind: 'trace' | 'map';
  /** Notes on a map: what its text left open, and what was taken for it. */
  readonly notes: readonly string[];
}

/** The operations of a file, or of standard input for `-`: those of the trace, or those that make the map. Throws the
 *  INPUT_, TRACE_, QEMU_MAP and IMPORT_TEXT codes, here and while iterating. */
export async function openOperations(source: string, options?: ReadOptions): Promise<OperationStream> {
  const chunks = readChunks(source, options);
  const { head, all } = await splitHead(chunks, (bytes) => bytes.length >= HEADER_BYTES || bytes.includes(NEWLINE));
  if (head.length === 0)
    throw new MembackingError('TRACE_HEADER', `${source}: there is nothing in it`, { details: { source } });
  if (looksLikeTrace(head)) return { kind: 'trace', notes: [], ...(await openTrace(all)) };
  const { operations, notes } = importMaps([{ name: source, text: await decodeText(all, source) }]);
  return { kind: 'map', notes, header: { version: 1, policy: 'layered' }, batches: only(operations) };
}

async function* only(operations: readonly TraceOperation[]): AsyncGenerator<readonly TraceOperation[]> {
  yield operations;
}

/** Whether the first line is an object that says so of itself. */
function looksLikeTrace(head: Buffer): boolean {
  const end = head.indexOf(NEWLINE);
  const line = head.toString('utf8', 0, end < 0 ? HEADER_BYTES : end);
  try {
    return Object.hasOwn(JSON.parse(line), 'membacking');
  } catch {
    return /^\s*\{\s*"membacking"/.test(line);
  }
}
