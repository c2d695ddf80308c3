// A peer that speaks the protocol of clients, or says what no client would, message by message.

import { closeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { artefact } from '../../ts/core/artefact.ts';
import { encodeMessage, type Message } from '../../ts/core/message.ts';

interface Raw {
  connect(path: string): number;
  send(fd: number, bytes: Uint8Array, descriptors: readonly number[]): boolean;
  receive(fd: number): { bytes: Uint8Array; descriptors: number[] } | null | undefined;
}

const raw: Raw = createRequire(import.meta.url)(artefact('obj/raw-peer.node').pathname);

/** One end of a channel. */
export class RawChannel {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
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
