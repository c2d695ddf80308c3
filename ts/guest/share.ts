// One client of guest memory: its socket, and what has come through that, whose requests are answered here.

import { constants } from 'node:os';
import * as abi from '../../assembly/abi.ts';
import type { Closable } from '../asked/context.ts';
import { type Address, lower } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { decodeMessage, encodeMessage, type Message } from '../core/message.ts';
import { native } from '../core/native.ts';
import { type Mapper as AddonMapper, type Channel, type ChannelMessage, MAPPER_ENDS } from '../core/native-clients.ts';
import type { Context } from '../map/context.ts';
import { whenFree } from '../map/when-free.ts';
import { Mapper } from '../sinks/mapper.ts';
import { follow, type Scope } from '../sinks/scope.ts';
import { reachOf, type VaSpace } from '../sinks/va-space.ts';
import { serve } from './serve.ts';

const { EACCES, EBUSY, EPROTONOSUPPORT, EIO } = constants.errno;
/** Bytes that a lazy client is given at once, if it asks for less. */
const UNIT = 2 ** 21;

/** States of a share, and the only message that goes on from each: `end` of a client ends it, as everything else
 *  does. */
const EXPECTED = {
  new: abi.MESSAGE_HELLO,
  greeted: abi.MESSAGE_READY,
  open: abi.MESSAGE_ASK,
  over: undefined,
} as const;
type State = keyof typeof EXPECTED;

/** Ends of a share's socket. */
interface Ends {
  readonly channel: Channel;
  /** The client's end, to be given up when the client has come; undefined where it made that itself. */
  readonly clientEnd?: Channel;
  /** Process that made it, and whether it may have the memory: then nobody else comes through it. */
  readonly caller?: { readonly pid: number; readonly isAdmitted: boolean };
}

/** Options of a share, checked. */
export interface ShareFacts {
  /** Number of the share. */
  readonly id: number;
  readonly name: string;
  readonly isLazy: boolean;
  readonly scope: Scope;
  readonly deadline: number;
  readonly isCutOff: boolean;
  /** Number of the memory, the same for all shares of the same. */
  readonly memory: bigint;
}

/** The memory that is shared. */
export interface SharedSpace {
  readonly context: Context;
  readonly va: VaSpace;
  /** Guest memory of the trust level in this process. */
  readonly memory: object;
  /** Shares by their numbers. */
  readonly shares: ReadonlyMap<number, Share>;
  /** Refuses private memory in what a client would see. Throws NOT_SHARED. */
  refusePrivate(scope: Scope): void;
  /** Begins to protect a mapper as all of its trust level are. Inside a transaction. */
  enter(mapper: Mapper): void;
  /** The share is over. */
  leave(share: Share): void;
}

export class Share {
  readonly facts: ShareFacts;
  readonly #space: SharedSpace;
  readonly #ends: Ends;
  #state: State = 'new';
  #pid = 0;
  #addon: AddonMapper | undefined;
  /** The client's VA space, once it is ready. */
  #mapper: Mapper | undefined;
  #isOver = false;
  #isWarnedOf = false;

  constructor(space: SharedSpace, facts: ShareFacts, ends: Ends) {
    this.facts = facts;
    this.#space = space;
    this.#ends = ends;
    const { context } = space;
    context.hold(ends.channel);
    if (ends.clientEnd !== undefined) context.hold(ends.clientEnd);
    void answerRequests(new WeakRef(this), ends.channel);
  }

  /** Whether a client has come who is shown what it asks for. */
  get hasLazyClient(): boolean {
    return this.#state === 'open' && this.facts.isLazy;
  }

  /** Whether nobody has said a word yet. */
  get isSilent(): boolean {
    return this.#pid === 0;
  }

  /** Takes all memory from the client, which is to be ended then. Inside a transaction. */
  takeBack(): void {
    this.#mapper?.close();
  }

  /** Ends it: the client, if there is one, has nothing mapped any more, or is cut off. */
  end(): void {
    const { context } = this.#space;
    if (context.isInTurns) {
      void context.settled().then(() => this.end());
      return;
    }
    // Whichever end is heard of first: that of its requests, or of its mapper.
    this.#warnOfCut();
    if (this.#isOver) return;
    this.#isOver = true;
    this.#space.leave(this);
    this.#letGo(this.#ends.channel, this.#ends.clientEnd);
    if (this.#mapper === undefined) this.#letGo(this.#addon);
    else void this.#detach(this.#mapper, this.#addon!);
  }

  #letGo(...held: readonly (Closable | undefined)[]): void {
    for (const each of held) {
      if (each === undefined) continue;
      each.close();
      this.#space.context.letGo(each);
    }
  }

  /** Takes all memory from the client: at once, or when it has let go of what it had leased. */
  async #detach(mapper: Mapper, addon: AddonMapper): Promise<void> {
    const { context } = this.#space;
    try {
      if (!mapper.closed) await whenFree(context, () => mapper.close(), { deadline: 0, revoke: true });
    } catch {
      if (mapper.closed) return;
      // Whoever does not let go is let go.
      while (context.isInTurns) await context.settled();
      addon.cutOff();
      this.#warnOfCut();
      if (context.isBroken) mapper.discard();
      else mapper.close();
    }
  }

  // ---- Requests --------------------------------------------------------------------------------

  /** Answers a request; null is the end of them. Returns whether another one may come: a client that breaks the rules
   *  is done with. */
  async take(received: ChannelMessage | null): Promise<boolean> {
    const { context } = this.#space;
    while (context.isInTurns) await context.settled();
    if (this.#isOver) return false;
    this.#state = received === null ? 'over' : this.#answer(this.#state, received);
    return this.#state !== 'over';
  }

  #answer(state: State, { bytes, pid }: ChannelMessage): State {
    const message = decodeMessage(bytes);
    if (message === undefined || message.kind !== EXPECTED[state]) return 'over';
    if (state === 'new') return this.#greet(message, pid);
    if (message.version !== abi.ABI_VERSION || pid !== this.#pid) return 'over';
    return state === 'greeted' ? this.#open(message) : this.#bring(message);
  }

  /** Gives the client what its mapper thread needs. */
  #greet({ version, sequence }: Message, pid: number): State {
    this.#ends.clientEnd?.close();
    const error = this.#refusalOf(version, pid);
    if (error !== 0) {
      this.#send({ kind: abi.MESSAGE_WELCOME, sequence, error });
      return 'over';
    }
    const { id, name, scope, deadline, isCutOff, memory } = this.facts;
    const addon = native().Mapper.create(`${name} (process ${pid})`, scope.isReadOnly, deadline, isCutOff);
    this.#pid = pid;
    this.#addon = addon;
    this.#space.context.hold(addon);
    const { va } = this.#space;
    const [start, length] = [va.size, reachOf(va)];
    const welcome = { kind: abi.MESSAGE_WELCOME, sequence, start, length, memory, mapper: id };
    if (!this.#send(welcome, addon.clientEnd, addon.lockTable)) return 'over';
    addon.begin(pid);
    void awaitEnd(new WeakRef(this), addon);
    return 'greeted';
  }

  /** Errno for a client that gets nothing; 0 for one that may have the memory. */
  #refusalOf(version: number, pid: number): number {
    if (version !== abi.ABI_VERSION || pid === 0) return EPROTONOSUPPORT;
    const { caller = { pid, isAdmitted: true } } = this.#ends;
    return caller.isAdmitted && caller.pid === pid ? 0 : EACCES;
  }

  /** Shows the client's mapper thread the memory, or lets another of the process do for this client too. */
  #open({ sequence, mapper }: Message): State {
    const { id, isLazy, scope } = this.facts;
    const length = isLazy ? 0 : reachOf(this.#space.va);
    const error = errorOf(() => {
      this.#space.refusePrivate(scope);
      if (mapper === id) this.#attach(length);
      else this.#join(Number(mapper), length);
    });
    const isSent = this.#send({ kind: abi.MESSAGE_OPENED, sequence, start: 0, length, error });
    return isSent && error === 0 ? 'open' : 'over';
  }

  #attach(length: Address): void {
    const { context, va, memory } = this.#space;
    const { name, scope, isCutOff } = this.facts;
    const client = { name: `${name} (process ${this.#pid})`, addon: this.#addon!, isCutOff, memory };
    context.transaction(() => {
      context.onUndo(() => {
        this.#mapper = undefined;
      });
      this.#mapper = Mapper.attach(va, client);
      this.#space.enter(this.#mapper);
      if (length > 0) follow(this.#mapper, scope, 0, length);
    });
  }

  /** Has another mapper of the process do for this client too. Throws CLOSED where there is none. */
  #join(id: number, length: Address): void {
    const mapper = this.#space.shares.get(id)?.mapperFor(this.facts.memory, this.#pid);
    if (mapper === undefined) throw new MembackingError('CLOSED', 'the process has no such mapper');
    if (length > 0) this.#space.context.transaction(() => follow(mapper, this.facts.scope, 0, length));
  }

  /** Mapper that shows the memory in a process; undefined where it is another memory, or process. */
  mapperFor(memory: bigint, pid: number): Mapper | undefined {
    return memory === this.facts.memory && pid === this.#pid ? this.#mapper : undefined;
  }

  /** Has the client's mapper follow what it asks for, or ends it. */
  #bring({ sequence, start: wanted, length: bytes }: Message): State {
    const mapper = this.#mapper;
    const reach = Number(reachOf(this.#space.va));
    const start = Math.floor(Number(wanted) / UNIT) * UNIT;
    if (mapper === undefined || bytes === 0 || start >= reach) return 'over';
    const end = Number(lower(Math.ceil((Number(wanted) + Number(bytes)) / UNIT) * UNIT, reach));
    const length = end - start;
    const error = errorOf(() => this.#space.context.transaction(() => follow(mapper, this.facts.scope, start, length)));
    return this.#send({ kind: abi.MESSAGE_ANSWER, sequence, start, length, error }) ? 'open' : 'over';
  }

  #send(message: Partial<Message> & Pick<Message, 'kind'>, ...descriptors: [number, number] | []): boolean {
    return this.#ends.channel.send(encodeMessage(message), ...descriptors);
  }

  /** Warns of a client whose mapper was cut off, once. */
  #warnOfCut(): void {
    const end = MAPPER_ENDS[this.#addon?.end ?? 0];
    if (this.#isWarnedOf || (end !== 'killed' && end !== 'cut-off')) return;
    this.#isWarnedOf = true;
    const left = end === 'killed' ? 'it was killed' : 'it may still see what it had mapped: end it';
    const who = `client "${this.facts.name}" (process ${this.#pid})`;
    const message = `${who} was cut off, as it has not confirmed a change or has broken the rules; ${left}`;
    process.emitWarning(message, { type: 'MembackingWarning', code: 'CLIENT_CUT_OFF' });
  }
}

async function answerRequests(share: WeakRef<Share>, channel: Channel): Promise<void> {
  try {
    await serve(
      share,
      () => channel.receive(),
      (found, received) => found.take(received),
    );
  } catch {
    // It was ended while it waited, or the system has failed it.
  }
  share.deref()?.end();
}

async function awaitEnd(share: WeakRef<Share>, addon: AddonMapper): Promise<void> {
  try {
    await addon.ended();
    share.deref()?.end();
  } catch {
    // The mapper was closed.
  }
}

/** Codes for private memory. */
const PRIVATE: readonly unknown[] = ['PRIVATE_TWICE', 'NOT_SHARED'];

/** Errno for a client whose memory cannot be shown; 0 where it can. */
function errorOf(show: () => void): number {
  try {
    show();
    return 0;
  } catch (error) {
    return error instanceof MembackingError && PRIVATE.includes(error.code) ? EBUSY : EIO;
  }
}
