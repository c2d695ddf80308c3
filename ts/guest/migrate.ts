// Live migration, the side that sends: a live copy into a stream, whose last round goes while the guest is held, and a
// handshake after which one side alone has the guest.

import { Duplex } from 'node:stream';
import { MembackingError } from '../core/errors.ts';
import * as validate from '../core/validate.ts';
import { RECORD, strange } from '../snapshot/records.ts';
import { RecordReader, RecordWriter } from '../snapshot/stream.ts';
import { type LayoutBeside, SnapshotStream } from '../snapshot/write.ts';
import { holdable } from './hold.ts';
import { LiveCopy, type LiveGuest, type LiveOptions } from './live.ts';
import {
  checkedDowntime,
  checkNow,
  copiedRam,
  type FreezeOptions,
  liveGuest,
  type SnapshotSubject,
  withBlocks,
} from './snapshot.ts';

/** Options of `GuestMemoryManager.migrateOut`. */
export interface MigrationOptions extends FreezeOptions {
  /** Milliseconds for which the guest may be held while what it wrote last is sent, as far as the speed of the stream
   *  so far tells. Default 300. */
  readonly maxDowntime?: number;
}

/** Facts of a migration. */
export interface Migration {
  /** Identity of the guest's layout. */
  readonly id: string;
  /** Number of rounds in which memory was sent, the first one of all of it. */
  readonly rounds: number;
  /** Bytes of pages that were sent. */
  readonly bytes: number;
  /** Milliseconds from the moment at which the guest was held until the other side had it. */
  readonly downtime: number;
}

/** Sends a guest through a stream. Rejects as `GuestMemoryManager.migrateOut` does. */
export async function migrateOut(
  subject: SnapshotSubject,
  stream: Duplex,
  options: MigrationOptions | undefined,
): Promise<Migration> {
  const known = ['maxDowntime', 'state', 'signal', 'progress'] as const;
  const { maxDowntime, state, ...work } = validate.options(options, known, 'migrateOut');
  validate.instance(Duplex, stream, 'the stream');
  const given = { ...work, maxDowntime: checkedDowntime(maxDowntime) };
  checkNow(subject, work);
  holdable(subject.parts.map);
  const taking = { openBase: undefined, liveFor: given.maxDowntime, signal: work.signal };
  return withBlocks(subject, taking, async (blocks, beside) => {
    const guest = liveGuest(subject, { blocks, ...beside }, { base: undefined, state });
    const rest = { ...beside.rest, base: undefined, state: undefined };
    const reader = new RecordReader(stream, work.signal);
    try {
      const peer = new Peer(reader);
      const writer = new RecordWriter(stream, work.signal);
      const target = await SnapshotStream.begin(writer, blocks, rest, RECORD.begin);
      const migration = await new Sending({ guest, target, writer, peer }, given).run();
      writer.end();
      return migration;
    } finally {
      reader.end();
    }
  });
}

/** The side that receives, as far as it is heard. */
class Peer {
  readonly #answer: Promise<string>;
  #failure: unknown;

  constructor(reader: RecordReader) {
    this.#answer = reader.next([RECORD.ready]).then(({ payload }) => payload.toString());
    this.#answer.then(
      () => {
        this.#failure = strange('the other side answers before it has all');
      },
      (error) => {
        this.#failure = error;
      },
    );
  }

  /** Checks that the other side is not known to have failed. Throws what it has failed with. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Waits until the other side has the guest. Rejects as `RecordReader.next` does. */
  async isReady(id: string): Promise<void> {
    if ((await this.#answer) !== id) throw strange('the other side has another guest');
  }
}

/** Parts of a migration. */
interface SendingParts {
  readonly guest: LiveGuest;
  readonly target: SnapshotStream;
  readonly writer: RecordWriter;
  readonly peer: Peer;
}

/** A migration that is under way. */
class Sending {
  readonly #parts: SendingParts;
  readonly #options: LiveOptions;
  readonly #copy: LiveCopy;
  readonly #began = performance.now();
  #downtime = 0;

  constructor(parts: SendingParts, options: LiveOptions) {
    const { guest, target, peer } = parts;
    this.#parts = parts;
    this.#options = options;
    const at = (fileOffset: number) => {
      const { write } = target.at(fileOffset);
      return {
        write: (bytes: Uint8Array, offset: number) => {
          peer.check();
          return write(bytes, offset);
        },
      };
    };
    this.#copy = new LiveCopy({ at }, guest, options);
  }

  async run(): Promise<Migration> {
    await this.#copy.untilItFits(
      () => this.#limit(),
      () => this.#handOver(),
    );
    const { target } = this.#parts;
    return { id: target.id, rounds: this.#copy.rounds, bytes: target.bytes, downtime: this.#downtime };
  }

  /** Bytes that can be sent while the guest is held. */
  #limit(): number {
    return (this.#options.maxDowntime * this.#parts.target.bytes) / (performance.now() - this.#began);
  }

  /** Holds the guest, sends the rest, and hands the guest over: it stays held then. Returns undefined where there was
   *  too much. Where it fails, the guest goes on, unless the other side may have been told to. */
  async #handOver(): Promise<LayoutBeside | undefined> {
    const { guest, target, writer, peer } = this.#parts;
    peer.check();
    // What is on its way need not arrive while the guest is held.
    await writer.flush();
    const letGo = await guest.hold();
    const began = performance.now();
    let isReady = false;
    try {
      const beside = await guest.facts();
      if (this.#copy.written() > 2 * this.#limit() + 2 ** 20) {
        letGo();
        return undefined;
      }
      await this.#copy.copyLeft();
      // Which pages have come, the other side knows: to name them may take longer than all else.
      const unnamed = guest.blocks.map(() => []);
      await target.end(copiedRam(guest.blocks, unnamed), beside);
      await peer.isReady(target.id);
      this.#downtime = performance.now() - began;
      isReady = true;
      await writer.writeText(RECORD.go, target.id);
      return beside;
    } catch (error) {
      if (isReady) throw unsure(error);
      letGo();
      throw error;
    }
  }
}

/** Error of a migration of which nobody here knows whether the other side goes on with the guest. */
function unsure(cause: unknown): MembackingError {
  const message = `the stream has failed while the other side was told that the guest is its own: see whether it runs there, and let it go on here only if it does not (${(cause as Error).message})`;
  return new MembackingError('MIGRATION_UNSURE', message, { cause });
}
