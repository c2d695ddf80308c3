// A peer that speaks the protocol of clients, or says what no client would, message by message.

import { closeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import * as abi from '../../assembly/abi.ts';
import { artefact } from '../../ts/core/artefact.ts';
import { decodeMessage, encodeMessage, type Message } from '../../ts/core/message.ts';

interface Raw {
  connect(path: string): number;
  duplicate(fd: number): number;
  send(fd: number, bytes: Uint8Array, descriptors: readonly number[]): boolean;
  receive(fd: number): { bytes: Uint8Array; descriptors: number[] } | null | undefined;
  write(fd: number, offset: number, bytes: Uint8Array): void;
}

const raw: Raw = createRequire(import.meta.url)(artefact('obj/raw-peer.node').pathname);

/** One end of a channel. */
export class RawChannel {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** The end behind a descriptor of the caller's. */
  static of(fd: number): RawChannel {
    return new RawChannel(raw.duplicate(fd));
  }
  static connect(path: string): RawChannel {
    return new RawChannel(raw.connect(path));
  }

  /** Sends bytes, or a message. False: there is no room. */
  send(what: Uint8Array | (Partial<Message> & Pick<Message, 'kind'>), descriptors: readonly number[] = []): boolean {
    return raw.send(this.#fd, what instanceof Uint8Array ? what : encodeMessage(what), descriptors);
  }

  /** The next message, whose descriptors are the caller's; null at the end of the channel. */
  async receive(): Promise<{ bytes: Uint8Array; descriptors: number[] } | null> {
    for (;;) {
      const received = raw.receive(this.#fd);
      if (received !== undefined) return received;
      await sleep(1);
    }
  }

  /** Whether the other side has ended it, and nothing is left to be received. */
  get hasEnded(): boolean {
    return raw.receive(this.#fd) === null;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** A client without a mapper thread: what it confirms, a test says before or after. */
export class RawPeer {
  /** Channel of requests. */
  readonly requests: RawChannel;
  /** Channel of runs, once it was welcomed. */
  runs!: RawChannel;
  welcome!: Message;
  #table!: number;

  constructor(requests: RawChannel) {
    this.requests = requests;
  }

  /** Says hello, and takes what comes. Returns the answer. */
  async greet(): Promise<Message | null> {
    this.requests.send({ kind: abi.MESSAGE_HELLO, sequence: 1 });
    const received = await this.requests.receive();
    if (received === null) return null;
    this.welcome = decodeMessage(received.bytes)!;
    const [runs, table] = received.descriptors;
    if (runs !== undefined) this.runs = new RawChannel(runs);
    if (table !== undefined) this.#table = table;
    return this.welcome;
  }

  /** Opens all of the memory, which is one piece: confirms the only command before it has come. Precondition: it was
   *  welcomed. */
  async open(): Promise<void> {
    this.confirm(1);
    this.requests.send({ kind: abi.MESSAGE_READY, sequence: 2, mapper: this.welcome.mapper });
    await this.requests.receive();
    for (const fd of (await this.runs.receive())!.descriptors) closeSync(fd);
  }

  /** Confirms a run of one command, or lies about it. */
  confirm(sequence: number, lie: Partial<Message> = {}): boolean {
    return this.runs.send({ kind: abi.MESSAGE_DONE_RUN, sequence, done: 1, ...lie });
  }

  /** Writes into the table of locks. */
  writeTable(offset: number, bytes: Uint8Array): void {
    raw.write(this.#table, offset, bytes);
  }

  close(): void {
    this.requests.close();
    this.runs?.close();
    if (this.#table !== undefined) closeSync(this.#table);
  }
}
