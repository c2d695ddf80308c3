// What users have in their files: a trace or a QEMU map, plain or compressed. Which one it is, the first line says.

import { MembackingError } from '../core/errors.ts';
import type { TraceOperation } from './operations.ts';
import { importQemuMaps } from './qemu-map.ts';
import { openTrace, type TraceStream } from './read.ts';
import { decodeText, readChunks } from './source.ts';

/** Bytes of the first line that are looked at: a trace's header is shorter. */
const HEADER_BYTES = 4096;
const NEWLINE = 0x0a;

export interface OperationStream extends TraceStream {
  /** What was found. */
  readonly kind: 'trace' | 'qemu-map';
}

/** The operations of a file, or of standard input for `-`: those of the trace, or those that make the QEMU map. Throws
 *  the INPUT_, TRACE_ and QEMU_MAP codes, here and while iterating. */
export async function openOperations(source: string): Promise<OperationStream> {
  const chunks = readChunks(source);
  const { head, rest } = await splitHead(chunks);
  if (head.length === 0)
    throw new MembackingError('TRACE_HEADER', `${source}: there is nothing in it`, { details: { source } });
  if (looksLikeTrace(head)) return { kind: 'trace', ...(await openTrace(rest)) };
  if (!/^\s*\{/.test(head.toString())) {
    const problem = 'this is neither a trace nor a map of QEMU: both begin with {';
    throw new MembackingError('TRACE_HEADER', `${source}: ${problem}`, { details: { source } });
  }
  const operations = importQemuMaps([{ name: source, text: await decodeText(rest, source) }]);
  return { kind: 'qemu-map', header: { version: 1, policy: 'layered' }, batches: only(operations) };
}

/** The first line or HEADER_BYTES, and all chunks. */
async function splitHead(
  chunks: AsyncGenerator<Uint8Array>,
): Promise<{ head: Buffer; rest: AsyncIterable<Uint8Array> }> {
  let head: Buffer = Buffer.alloc(0);
  while (head.length < HEADER_BYTES && !head.includes(NEWLINE)) {
    const next = await chunks.next();
    if (next.done) break;
    head = Buffer.concat([head, next.value]);
  }
  return { head, rest: prefixed(head, chunks) };
}

async function* prefixed(head: Uint8Array, rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield head;
  yield* rest;
}

async function* only(operations: TraceOperation[]): AsyncGenerator<readonly TraceOperation[]> {
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
