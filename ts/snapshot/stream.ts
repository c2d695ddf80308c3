// Streams of records: written with as much patience as the other side needs, read to the byte, and never further.

import type { Readable, Writable } from 'node:stream';
import { MembackingError } from '../core/errors.ts';
import { aborted } from './memory-writer.ts';
import { checkRecord, HEAD, headOf, RECORD, type RecordKind, readHead, strange } from './records.ts';

/** Error of a stream that has failed. */
function failed(cause: unknown): MembackingError {
  const message = `the stream of memory has failed: ${cause instanceof Error ? cause.message : String(cause)}`;
  return new MembackingError('STREAM_FAILED', message, { cause });
}

/** Result of `promise`, unless it is given up before. Rejects with ABORTED then. */
export function orAborted<Value>(promise: Promise<Value>, signal: AbortSignal | undefined): Promise<Value> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(aborted(signal.reason));
    const settled = () => signal.removeEventListener('abort', giveUp);
    signal.addEventListener('abort', giveUp, { once: true });
    if (signal.aborted) giveUp();
    promise.then(resolve, reject).finally(settled);
  });
}

/** Writer of records into a stream, which stays open. */
export class RecordWriter {
  readonly #stream: Writable;
  readonly #signal: AbortSignal | undefined;
  /** Nobody else may listen: without a listener, an error ends the process. It comes to `write` too. */
  readonly #listener = () => {};
  /** Ends the writes that are under way: a stream that is destroyed need not say what became of them. */
  readonly #closed = () => {
    for (const reject of this.#waiting) reject(failed(this.#stream.errored ?? new Error('it was closed')));
  };
  readonly #waiting = new Set<(error: MembackingError) => void>();
  /** Pages that are on their way, while the next are read. */
  #onTheirWay: Promise<void> = Promise.resolve();

  constructor(stream: Writable, signal: AbortSignal | undefined) {
    this.#stream = stream;
    this.#signal = signal;
    stream.on('error', this.#listener);
    stream.on('close', this.#closed);
  }

  /** Writes pages, when those before are written; what they are made of is free again when the promise is fulfilled.
   *  Rejects with STREAM_FAILED and ABORTED, of those before too. */
  async writePages(offset: number, pages: Uint8Array): Promise<void> {
    const before = this.#onTheirWay;
    this.#onTheirWay = this.#write(RECORD.pages, offset, pages);
    this.#onTheirWay.catch(() => {}); // the next one tells of it
    await before;
  }

  /** Waits until the pages are written. Rejects with STREAM_FAILED and ABORTED. */
  flush(): Promise<void> {
    return this.#onTheirWay;
  }

  /** Writes a text: all is written when the promise is fulfilled. Rejects with STREAM_FAILED and ABORTED. */
  async writeText(kind: RecordKind, text: string): Promise<void> {
    await this.flush();
    await this.#write(kind, 0, Buffer.from(text));
  }

  #write(kind: RecordKind, offset: number, payload: Uint8Array): Promise<void> {
    // A stream may keep what it was given: it gets memory of its own.
    const record = Buffer.concat([headOf(kind, offset, payload), payload]);
    const written = new Promise<void>((resolve, reject) => {
      this.#waiting.add(reject);
      this.#stream.write(record, (error) => {
        this.#waiting.delete(reject);
        return error ? reject(failed(error)) : resolve();
      });
    });
    return orAborted(written, this.#signal);
  }

  /** Lets go of the stream, which has not failed. */
  end(): void {
    this.#stream.off('error', this.#listener);
    this.#stream.off('close', this.#closed);
  }
}

/** A record of a stream. */
export interface Received {
  readonly kind: RecordKind;
  readonly offset: number;
  readonly payload: Buffer;
}

/** Events after which there may be more to read, or never again. */
const NEWS = ['readable', 'end', 'close', 'error'] as const;

/** Reader of records from a stream, which stays open. What follows the last record that was asked for stays in it. */
export class RecordReader {
  readonly #stream: Readable;
  readonly #signal: AbortSignal | undefined;
  /** Listener of the stream for as long as this reads: one that comes anew is told of what it knows already. */
  readonly #listener = () => {
    this.#hasNews = true;
    this.#wake();
  };
  #hasNews = false;
  #wake = () => {};

  constructor(stream: Readable, signal: AbortSignal | undefined) {
    this.#stream = stream;
    this.#signal = signal;
    for (const event of NEWS) stream.on(event, this.#listener);
  }

  /** The next record, of one of `kinds`. Rejects with SNAPSHOT_DAMAGED, STREAM_FAILED and ABORTED. */
  async next(kinds: readonly RecordKind[]): Promise<Received> {
    const head = await this.#take(HEAD);
    const facts = readHead(head, kinds);
    const payload = await this.#take(facts.length);
    checkRecord(head, facts, payload);
    return { kind: facts.kind, offset: facts.offset, payload };
  }

  /** Lets go of the stream. */
  end(): void {
    for (const event of NEWS) this.#stream.off(event, this.#listener);
  }

  async #take(length: number): Promise<Buffer> {
    const stream = this.#stream;
    for (;;) {
      this.#hasNews = false;
      const bytes: unknown = stream.read(length);
      if (bytes !== null) {
        if (!Buffer.isBuffer(bytes)) throw strange('it gives texts or objects, and no bytes');
        if (bytes.length !== length) throw strange('it ends too early');
        return bytes;
      }
      if (stream.errored) throw failed(stream.errored);
      if (stream.readableEnded || stream.destroyed) throw strange('it ends too early');
      await orAborted(this.#news(), this.#signal);
    }
  }

  #news(): Promise<void> {
    if (this.#hasNews) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
