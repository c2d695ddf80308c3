// Bytes of a file or of standard input, decompressed when they are gzip, without ever holding the whole of it.

import { createReadStream, statSync } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { MembackingError } from '../core/errors.ts';
import * as validate from '../core/validate.ts';

/** Largest input that `readText` takes, in bytes after decompression. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024;

const READ_BYTES = 256 * 1024;

/** Options of reading a file. */
export interface ReadOptions {
  /** Listener for every part that was read: how many bytes of the file there have been, before decompression, and how
   *  many there are; undefined where that cannot be known, as of a pipe. */
  readonly progress?: (done: number, total: number | undefined) => void;
}

/** Chunks of `source`, a path or `-` for standard input. Throws INPUT_UNREADABLE or INPUT_DAMAGED. */
export async function* readChunks(source: string, options?: ReadOptions): AsyncGenerator<Uint8Array> {
  validate.text(source, 'source');
  const { progress } = validate.options(options, ['progress'], 'readChunks');
  const input: Readable = source === '-' ? process.stdin : createReadStream(source, { highWaterMark: READ_BYTES });
  try {
    yield* decompressed(progress === undefined ? input : counted(input, source, progress));
  } catch (error) {
    throw explained(error, source);
  } finally {
    input.destroy();
  }
}

/** Passes chunks on, each of them reported. */
async function* counted(
  input: AsyncIterable<Buffer>,
  source: string,
  report: NonNullable<ReadOptions['progress']>,
): AsyncGenerator<Buffer> {
  const size = source === '-' ? undefined : statSync(source, { throwIfNoEntry: false })?.size;
  let done = 0;
  for await (const chunk of input) {
    done += chunk.length;
    report(done, size || undefined);
    yield chunk;
  }
}

/** The whole of `source` as text, for inputs that are one value. Throws also INPUT_TOO_LARGE and INPUT_DAMAGED. */
export function readText(source: string, options?: ReadOptions): Promise<string> {
  return decodeText(readChunks(source, options), source);
}

/** `readText` from chunks of `source` that were read already. */
export async function decodeText(input: AsyncIterable<Uint8Array>, source: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of input) {
    bytes += chunk.length;
    if (bytes > MAX_TEXT_BYTES) {
      throw new MembackingError('INPUT_TOO_LARGE', `${source}: more than ${MAX_TEXT_BYTES} bytes`, {
        details: { source },
      });
    }
    chunks.push(chunk);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    throw new MembackingError('INPUT_DAMAGED', `${source}: this is not UTF-8 text`, { details: { source }, cause });
  }
}

async function* decompressed(input: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array> {
  const { head, all } = await splitHead(input, ({ length }) => length >= 2);
  if (head[0] !== 0x1f || head[1] !== 0x8b) {
    yield* all;
    return;
  }
  const gunzip = createGunzip({ chunkSize: READ_BYTES });
  pipeline(Readable.from(all, { objectMode: false }), gunzip, () => {}); // its errors come out of `gunzip`
  yield* gunzip as AsyncIterable<Buffer>;
}

/** The first bytes of an input, until they are enough or there are no more; and all of it, from these on. */
export async function splitHead(
  input: AsyncIterable<Uint8Array>,
  isEnough: (head: Buffer) => boolean,
): Promise<{ head: Buffer; all: AsyncIterable<Uint8Array> }> {
  const chunks = input[Symbol.asyncIterator]();
  let head: Buffer = Buffer.alloc(0);
  while (!isEnough(head)) {
    const next = await chunks.next();
    if (next.done) break;
    head = Buffer.concat([head, next.value]);
  }
  return { head, all: prefixed(head, { [Symbol.asyncIterator]: () => chunks }) };
}

async function* prefixed(head: Uint8Array, rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (head.length > 0) yield head;
  yield* rest;
}

function explained(error: unknown, source: string): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined || error instanceof MembackingError) return error;
  const details = { source };
  if (code === 'Z_BUF_ERROR') {
    return new MembackingError('INPUT_DAMAGED', `${source}: the gzip data is cut off`, { details, cause: error });
  }
  if (code.startsWith('Z_')) {
    return new MembackingError('INPUT_DAMAGED', `${source}: the gzip data is damaged`, {
      details,
      cause: error,
    });
  }
  return new MembackingError('INPUT_UNREADABLE', `${source}: cannot be read: ${message}`, { details, cause: error });
}
