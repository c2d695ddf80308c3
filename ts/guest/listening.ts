// Shares at a path: a socket to which any number of processes come, each a client of its own.

import { setTimeout as sleep } from 'node:timers/promises';
import { native, type SystemError } from '../core/native.ts';
import type { Caller, Listener } from '../core/native-clients.ts';
import { systemError } from '../core/system.ts';
import type { Context } from '../map/context.ts';
import { serve } from './serve.ts';
import type { Share } from './share.ts';

/** Callers that a share at a path is for. */
export interface Admission {
  readonly path: string;
  /** Users that may come. */
  readonly uids: readonly number[];
  /** Processes that may come; undefined: any of the users'. */
  readonly pids: readonly number[] | undefined;
  /** Clients that there may be at a time. */
  readonly most: number;
}

/** Callers that have not said a word yet, all and of one process: with one more, the first of them is sent away. */
const MOST_SILENT = 32;
const MOST_SILENT_OF_ONE = 4;
/** Clients of one process. */
const MOST_OF_ONE = 16;
/** Milliseconds in which a caller is to say something. */
const LONGEST_SILENCE = 5000;
/** Milliseconds until somebody is accepted again where the system has no descriptors for one. */
const SHORTAGE_PAUSE = 100;

/** Somebody who has come. */
interface Client {
  readonly share: Share;
  readonly pid: number;
  /** Timer that ends the share where nothing is said. */
  readonly patience: NodeJS.Timeout;
}

export class Listening {
  readonly #listener: Listener;
  readonly #admission: Admission;
  /** Makes a share of what somebody has come through. */
  readonly #begin: (caller: Caller, isAdmitted: boolean) => Share;
  readonly #clients = new Set<Client>();
  readonly #context: Context;

  constructor(context: Context, admission: Admission, begin: (caller: Caller, isAdmitted: boolean) => Share) {
    const { path, uids } = admission;
    this.#context = context;
    this.#admission = admission;
    this.#begin = begin;
    const isForAll = uids.some((uid) => uid !== process.geteuid!());
    this.#listener = systemError(`guest memory cannot be shared at "${path}"`, () =>
      native().Listener.listen(path, isForAll),
    );
    context.hold(this.#listener);
    void acceptAll(new WeakRef(this), this.#listener);
  }

  get path(): string {
    return this.#admission.path;
  }

  /** Shares of those who have come. */
  get shares(): readonly Share[] {
    return [...this.#clients].map(({ share }) => share);
  }

  /** Lets nobody come any more. */
  close(): void {
    this.#listener.close();
    this.#context.letGo(this.#listener);
  }

  /** A share has ended. */
  leave(share: Share): void {
    for (const client of this.#clients) {
      if (client.share !== share) continue;
      clearTimeout(client.patience);
      this.#clients.delete(client);
    }
  }

  /** Begins a share with somebody who has come. */
  take(caller: Caller): void {
    const { uids, pids, most } = this.#admission;
    const { channel, pid, uid } = caller;
    if (this.#of(pid).length >= MOST_OF_ONE) {
      channel.close();
      return;
    }
    const spoken = this.shares.filter(({ isSilent }) => !isSilent);
    const isAdmitted = uids.includes(uid) && (pids?.includes(pid) ?? true) && spoken.length < most;
    const share = this.#begin(caller, isAdmitted);
    const patience = setTimeout(() => sendAway([share], 0), LONGEST_SILENCE).unref();
    this.#clients.add({ share, pid, patience });
    sendAway(this.#of(pid), MOST_SILENT_OF_ONE);
    sendAway(this.shares, MOST_SILENT);
  }

  /** Shares of one process. */
  #of(pid: number): Share[] {
    return [...this.#clients].filter((client) => client.pid === pid).map(({ share }) => share);
  }
}

async function acceptAll(listening: WeakRef<Listening>, listener: Listener): Promise<void> {
  for (;;) {
    try {
      await serve(
        listening,
        () => listener.accept(),
        (found, caller) => {
          found.take(caller);
          return true;
        },
      );
      return;
    } catch (error) {
      if ((error as Partial<SystemError>).code === 'ERR_CLOSED') return;
      // The system has no descriptor for one more, or for its share.
      await sleep(SHORTAGE_PAUSE, undefined, { ref: false });
    }
  }
}

/** Ends the first of those that are silent, where they are more than `most`. */
function sendAway(shares: readonly Share[], most: number): void {
  const silent = shares.filter(({ isSilent }) => isSilent);
  for (const share of silent.slice(0, Math.max(0, silent.length - most))) share.end();
}
