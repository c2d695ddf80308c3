// Reading traces: from their bytes to their operations, holding one chunk and one unfinished line at a time.

import { MembackingError } from '../core/errors.ts';
import * as validate from '../core/validate.ts';
import { parseHeader, parseOperation, type TraceHeader } from './format.ts';
import { jsonFault } from './json-fault.ts';
import type { TraceOperation } from './operations.ts';
import { OperationScanner } from './scan.ts';

/** Bytes in one line, its end not counted. */
export const MAX_LINE_BYTES = 1024 * 1024;

const NEWLINE = 0x0a;
const BYTE_ORDER_MARK = /^\ufeff/;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A trace that is read while it is iterated over. */
export interface TraceStream {
  /** First line of the trace. */
  readonly header: TraceHeader;
  /** All operations, some hundred at a time. Operation n (from 0) of the trace stands on line n + 2. */
  readonly batches: AsyncIterable<readonly TraceOperation[]>;
}

/** A trace from chunks of its plain bytes, such as `readChunks` gives. Throws the TRACE_ codes, here and while
 *  iterating. */
export async function openTrace(chunks: AsyncIterable<Uint8Array>): Promise<TraceStream> {
  if (typeof chunks?.[Symbol.asyncIterator] !== 'function') {
    throw validate.invalid('chunks must be an async iterable of bytes, such as readChunks(path) gives');
  }
  const decoder = new TraceDecoder();
  const batches = decodeAll(decoder, chunks);
  const first = await batches.next(); // not before the header is known
  const header = decoder.header as TraceHeader;
  return { header, batches: first.done ? batches : resumed(first.value, batches) };
}

/** A whole trace that is in memory. Throws the TRACE_ codes. */
export function parseTrace(text: string): { header: TraceHeader; operations: TraceOperation[] } {
  if (typeof text !== 'string') throw validate.invalid('text must be a string: the whole trace');
  const decoder = new TraceDecoder();
  const operations = decoder.decode(new TextEncoder().encode(text)).concat(decoder.finish());
  return { header: decoder.header as TraceHeader, operations };
}

/** The work itself: bytes in, operations out. After an error it is of no further use. */
export class TraceDecoder {
  readonly #scanner = new OperationScanner();
  #header: TraceHeader | undefined;
  #line = 0;
  /** The first of the empty lines that were just read, of which there may be some at the end; 0 for none. */
  #emptyLine = 0;
  /** The line that the last chunk left unfinished. */
  #unfinished: Uint8Array[] = [];
  #unfinishedBytes = 0;

  /** Known as soon as line 1 was read. */
  get header(): TraceHeader | undefined {
    return this.#header;
  }

  /** The operations on the lines that end in this chunk. */
  decode(chunk: Uint8Array): TraceOperation[] {
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    if (end === 0) {
      this.#keep(chunk);
      return [];
    }
    const operations: TraceOperation[] = [];
    let start = 0;
    if (this.#unfinishedBytes > 0) {
      start = chunk.indexOf(NEWLINE) + 1;
      this.#keep(chunk.subarray(0, start));
      this.#lines(this.#takeUnfinished(), operations);
    }
    this.#lines(chunk.subarray(start, end), operations);
    if (end < chunk.length) this.#keep(chunk.subarray(end));
    return operations;
  }

  /** The operation on a last line without an end. Throws TRACE_HEADER if there was no line at all. */
  finish(): TraceOperation[] {
    const operations: TraceOperation[] = [];
    if (this.#unfinishedBytes > 0) {
      this.#keep(Uint8Array.of(NEWLINE));
      this.#lines(this.#takeUnfinished(), operations);
    }
    if (this.#header === undefined) parseHeader(undefined);
    return operations;
  }

  /** Whole lines, the last with its end. */
  #lines(bytes: Uint8Array, operations: TraceOperation[]): void {
    for (let start = 0; start < bytes.length; ) {
      this.#line++;
      const isUsual = this.#header !== undefined && this.#emptyLine === 0;
      const scanned = isUsual ? this.#scanner.scan(bytes, start) : undefined;
      if (scanned !== undefined) {
        operations.push(scanned);
        start = this.#scanner.end;
        continue;
      }
      const end = bytes.indexOf(NEWLINE, start);
      if (end - start > MAX_LINE_BYTES) throw this.#tooLong();
      const line = this.#text(bytes.subarray(start, end));
      start = end + 1;
      if (this.#header === undefined) {
        this.#header = parseHeader(this.#json(line.replace(BYTE_ORDER_MARK, '')));
      } else if (line.trim() === '') {
        this.#emptyLine ||= this.#line;
      } else {
        if (this.#emptyLine !== 0) throw syntaxError(this.#emptyLine, 'is empty');
        operations.push(parseOperation(this.#json(line), this.#line, line));
      }
    }
  }

  #text(line: Uint8Array): string {
    try {
      return UTF8.decode(line);
    } catch {
      throw new MembackingError('TRACE_SYNTAX', `line ${this.#line} is not UTF-8 text`);
    }
  }

  #json(text: string): unknown {
    try {
      return JSON.parse(text);
    } catch (cause) {
      if (this.#line === 1) parseHeader(undefined);
      const { column } = jsonFault(text);
      throw new MembackingError(
        'TRACE_SYNTAX',
        `line ${this.#line}, column ${column}: this is not JSON: it is broken or cut off`,
        {
          details: { line: this.#line, column },
          cause,
        },
      );
    }
  }

  #keep(part: Uint8Array): void {
    this.#unfinished.push(part);
    this.#unfinishedBytes += part.length;
    if (this.#unfinishedBytes > MAX_LINE_BYTES + 1) {
      this.#line++;
      throw this.#tooLong();
    }
  }

  #takeUnfinished(): Uint8Array {
    const line = new Uint8Array(this.#unfinishedBytes);
    let at = 0;
    for (const part of this.#unfinished) {
      line.set(part, at);
      at += part.length;
    }
    this.#unfinished = [];
    this.#unfinishedBytes = 0;
    return line;
  }

  #tooLong(): MembackingError {
    const line = this.#line;
    return new MembackingError('TRACE_LINE_TOO_LONG', `line ${line} is longer than ${MAX_LINE_BYTES} bytes`, {
      details: { line },
    });
  }
}

function syntaxError(line: number, problem: string, cause?: unknown): MembackingError {
  return new MembackingError('TRACE_SYNTAX', `line ${line} ${problem}`, { details: { line }, cause });
}

async function* decodeAll(
  decoder: TraceDecoder,
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<readonly TraceOperation[]> {
  for await (const chunk of chunks) {
    const operations = decoder.decode(chunk);
    if (decoder.header !== undefined) yield operations;
  }
  yield decoder.finish();
}

async function* resumed(
  first: readonly TraceOperation[],
  rest: AsyncGenerator<readonly TraceOperation[]>,
): AsyncGenerator<readonly TraceOperation[]> {
  yield first;
  yield* rest;
}
