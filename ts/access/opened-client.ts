// Guest memory that another thread or process has shared.

import { type ErrorCode, MembackingError } from '../core/errors.ts';
import { Handle } from '../core/handle.ts';
import { native, type SystemError } from '../core/native.ts';
import type { Follower } from '../core/native-clients.ts';
import { wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import { WorkerGuestMemory } from './worker-guest-memory.ts';

/** Options of `GuestMemoryClient.open`. */
export interface OpenOptions {
  /** Milliseconds that the manager may take for an answer. Default 10 000. */
  readonly timeout?: number;
  /** User, by number, that the manager at a path may run as, besides root and this process's own. */
  readonly uid?: number;
}

/** A ticket to guest memory, for `GuestMemoryClient.open`: plain data. */
export interface GuestMemoryTicket {
  /** Number of the ticket. */
  readonly id: number;
  /** Token of the memory in the manager's own process: hexadecimal text. Nobody guesses it. */
  readonly token: string;
  /** Descriptor for one other process, which inherits it; open until somebody has come with it. Undefined where the
   *  share has a path. */
  readonly fd: number | undefined;
  /** Path of the socket to which other processes come; undefined where the share has none. */
  readonly path: string | undefined;
}

/** Codes for what the system says, or the manager by its numbers. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  ECONNRESET: 'CLOSED',
  EPIPE: 'CLOSED',
  EPROTONOSUPPORT: 'VERSION_MISMATCH',
  EBUSY: 'NOT_SHARED',
  ECONNREFUSED: 'CLOSED',
};

/** The longest timeout: a quarter of an hour. */
const MAX_TIMEOUT = 900_000;

/** Mapper threads by the memory that they show: whoever has that alone keeps them. */
const followers = new WeakMap<WorkerGuestMemory, Follower>();

/** Guest memory that was opened by a ticket: it follows what the guest sees as the manager's own does. A process has
 *  one VA space a memory, however many of these. */
export class OpenedClient extends Handle {
  /** Guest memory, to read and write. After the end of its manager, or of its share, nothing is there. */
  readonly memory: WorkerGuestMemory;
  /** Token for `WorkerGuestMemory.fromToken` in another thread of this process. */
  readonly token: bigint;
  /** The mapper thread of this process; undefined in the manager's own. */
  readonly #follower: Follower | undefined;

  private constructor(token: bigint, follower: Follower | undefined) {
    super();
    validate.madeBy('GuestMemoryClient.open', token);
    this.token = token;
    this.memory = WorkerGuestMemory.fromToken(token);
    this.#follower = follower;
    if (follower !== undefined) followers.set(this.memory, follower);
  }

  /** Does `GuestMemoryClient.open`. @internal */
  static async open(
    ticket: GuestMemoryTicket | number | string,
    options: OpenOptions | undefined,
  ): Promise<OpenedClient> {
    const { timeout = 10_000, uid = 0 } = validate.options(options, ['timeout', 'uid'], 'open');
    const limit = validate.integer(timeout, 'timeout', 1, MAX_TIMEOUT);
    const user = validate.uid(uid, 'uid');
    if (typeof ticket !== 'number' && typeof ticket !== 'string') return new OpenedClient(tokenOf(ticket), undefined);
    const end = typeof ticket === 'string' ? validate.socketPath(ticket, 'ticket') : validate.fd(ticket, 'ticket');
    const follower = await opened(end, limit, user);
    return new OpenedClient(follower.token, follower);
  }

  protected override get what(): string {
    return 'the opened guest memory';
  }

  /** Whether its manager has ended, or taken the ticket back. */
  get ended(): boolean {
    this.checkOpen();
    return this.#follower?.hasEnded ?? false;
  }

  protected override release(): void {
    this.memory.close();
    this.#follower?.close();
  }
}

async function opened(end: number | string, timeout: number, uid: number): Promise<Follower> {
  const what = 'guest memory of another process cannot be opened';
  try {
    return await native().Follower.open(end, timeout, uid);
  } catch (error) {
    const code = CODES[(error as Partial<SystemError>).code ?? ''];
    if (code === undefined) throw wrapped(what, error);
    throw new MembackingError(code, `${what}: ${(error as Error).message}`, { cause: error });
  }
}

/** Token of a ticket. Throws INVALID_ARGUMENT. */
function tokenOf(ticket: GuestMemoryTicket): bigint {
  const { token } = validate.options(ticket, ['id', 'token', 'fd', 'path'], 'open');
  if (!/^0x[0-9a-f]{1,16}$/.test(token)) throw validate.invalid('ticket must be one that share() has given');
  return BigInt(token);
}
