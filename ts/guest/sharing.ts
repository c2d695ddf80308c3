// Sharing of guest memory as one trust level sees it: tickets for other threads and processes.

import { OP_VA_UNPARK } from '../../assembly/abi.ts';
import type { GuestMemoryTicket } from '../access/opened-client.ts';
import { type Address, formatHex, isPageAligned, sum } from '../core/address.ts';
import { obtained } from '../core/collected.ts';
import type { Command, Core } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import type { Access } from '../core/kinds.ts';
import { native } from '../core/native.ts';
import * as validate from '../core/validate.ts';
import type { Context } from '../map/context.ts';
import type { MemoryMap } from '../map/map.ts';
import { follow, type Scope } from '../sinks/scope.ts';
import type { Sink } from '../sinks/sink.ts';
import { reachOf, type VaSpace } from '../sinks/va-space.ts';
import { type GuestView, memoryOfView } from '../sinks/view.ts';
import { checkedRange, type GpaRange } from './layout.ts';
import { type Admission, Listening } from './listening.ts';
import { Share, type SharedSpace, type ShareFacts } from './share.ts';

/** Ways to deal with a client that does not confirm a change by its deadline. */
const SILENCES = ['refuse', 'cut-off'] as const;

/** Options of `GuestMemoryClient.share`. */
export interface ShareOptions {
  /** Name for people: in messages. Default "client". */
  readonly name?: string;
  /** Whether memory is mapped in the client's process when it is used for the first time; else all is, at once. Default
   *  false. */
  readonly lazy?: boolean;
  /** Whether the client may only read: it gets descriptors and mappings that cannot be written. Default false. */
  readonly readOnly?: boolean;
  /** Ranges that the client may see, whole pages. Default: all. */
  readonly ranges?: readonly GpaRange[];
  /** Milliseconds in which the client's process is to confirm a change. Default 1000. */
  readonly deadline?: number;
  /** Consequence where it does not: the change is refused, or the client cut off, which kills a process that is this
   *  one's child. Default `refuse`. */
  readonly whenSilent?: 'refuse' | 'cut-off';
  /** Path of a Unix socket, to which processes come, each a client of its own, as long as the share is not taken back.
   *  A socket at which nobody listens any more is replaced. Default: one process inherits a descriptor. */
  readonly path?: string;
  /** Users, by their numbers, whose processes may come to the path, as the kernel says. The socket can be reached by
   *  this process's user alone, unless others are named. Default: this process's. */
  readonly uids?: readonly number[];
  /** Processes, by their numbers, that may come to the path. Default: all of these users. */
  readonly pids?: readonly number[];
  /** Number of clients that the path may have at a time; of one process, 16. Default 64. */
  readonly maxClients?: number;
}

/** A trust level whose memory is shared. */
interface SharedLevel {
  readonly map: MemoryMap;
  readonly va: VaSpace;
  /** Guest memory of the level in this process. */
  readonly memory: object;
  /** Token of all that the level sees. */
  token(): bigint;
  /** Protects a sink as the level is, now. Inside a transaction. */
  enter(sink: Sink): void;
  /** Heeds locks that are taken through a view, from now on. */
  watch(view: GuestView): void;
}

const SHARE_OPTIONS = ['name', 'lazy', 'readOnly', 'ranges', 'deadline', 'whenSilent'] as const;
const PATH_OPTIONS = ['path', 'uids', 'pids', 'maxClients'] as const;

/** The longest deadline: a minute. */
const MAX_DEADLINE = 60_000;
/** The largest number of a process. */
const MAX_PID = 2 ** 22;
const MAX_CLIENTS = 1024;

let lastId = 0;

/** Shares of one trust level. */
export class Sharing implements SharedSpace {
  readonly shares = new Map<number, Share>();
  /** Shares at paths, by the numbers of their tickets. */
  readonly #listening = new Map<number, Listening>();
  readonly #level: SharedLevel;
  /** Sinks that have been given a part of the level's memory: they are protected as it is. */
  readonly #sinks = new Set<Sink>();
  readonly #views = new Map<number, GuestView>();
  /** Numbers of memories by their scopes. */
  readonly #memories = new Map<string, bigint>();

  constructor(level: SharedLevel) {
    this.#level = level;
    this.context.runner.observe((core, { commands }) => {
      if (commands > 0 && this.shares.size > 0) this.#refuseComing(core);
    });
  }

  get context(): Context {
    return this.#level.map.context;
  }
  get va(): VaSpace {
    return this.#level.va;
  }
  get memory(): object {
    return this.#level.memory;
  }

  /** Makes a share, and its ticket. */
  share(options: ShareOptions | undefined): GuestMemoryTicket {
    this.#checkIdle();
    const facts = this.#checked(options);
    const admission = checkedAdmission(options);
    this.refusePrivate(facts.scope);
    const place = admission === undefined ? this.#inherited(facts) : this.#listen(facts, admission);
    try {
      return { id: facts.id, token: formatHex(this.#tokenFor(facts)), ...place };
    } catch (error) {
      this.#end(facts.id);
      throw error;
    }
  }

  /** Begins a share for the process that inherits its descriptor. */
  #inherited(facts: ShareFacts): Pick<GuestMemoryTicket, 'fd' | 'path'> {
    const [channel, clientEnd] = obtained(() => native().Channel.pair());
    this.#begin(facts, { channel, clientEnd });
    return { fd: clientEnd.fd, path: undefined };
  }

  /** Begins a share for those who come to a path. */
  #listen(facts: ShareFacts, admission: Admission): Pick<GuestMemoryTicket, 'fd' | 'path'> {
    const listening = new Listening(this.context, admission, ({ channel, pid }, isAdmitted) =>
      this.#begin({ ...facts, id: ++lastId }, { channel, caller: { pid, isAdmitted } }),
    );
    this.#listening.set(facts.id, listening);
    return { fd: undefined, path: listening.path };
  }

  #begin(facts: ShareFacts, ends: ConstructorParameters<typeof Share>[2]): Share {
    const share = new Share(this, facts, ends);
    this.shares.set(facts.id, share);
    return share;
  }

  /** Ends a share. */
  unshare(ticket: GuestMemoryTicket): void {
    this.#checkIdle();
    const id = ticket?.id;
    if (this.#isLeased(id)) {
      throw new MembackingError('IN_USE', 'a ticket is not taken back while memory is leased through it');
    }
    const clients = this.#sharesOf(id);
    this.context.transaction(() => {
      for (const share of clients) share.takeBack();
    });
    this.#end(id);
  }

  /** Shares of a ticket: of one at a path, all that have come. */
  #sharesOf(id: number): readonly Share[] {
    const single = this.shares.get(id);
    return single === undefined ? (this.#listening.get(id)?.shares ?? []) : [single];
  }

  #end(id: number): void {
    const clients = this.#sharesOf(id);
    this.#listening.get(id)?.close();
    this.#listening.delete(id);
    for (const share of clients) share.end();
    this.#closeView(id);
  }

  enter(sink: Sink): void {
    this.context.onUndo(() => this.#sinks.delete(sink));
    this.#sinks.add(sink);
    this.#level.enter(sink);
  }

  leave(share: Share): void {
    const { id } = share.facts;
    this.shares.delete(id);
    for (const listening of this.#listening.values()) listening.leave(share);
    this.#closeView(id);
  }

  /** Closes the view of a ticket; unless threads of this process have leased memory through it: it stays until the map
   *  is closed. */
  #closeView(id: number): void {
    if (this.#isLeased(id)) return;
    this.#views.get(id)?.close();
    this.#views.delete(id);
  }

  /** Leaves what is shared of the access to a range only `access`. Inside a transaction. */
  protect(start: Address, length: Address, access: Access): void {
    for (const sink of this.#sinks) {
      if (sink.closed) this.#sinks.delete(sink);
      else sink.setAccess(start, length, access);
    }
  }

  /** Ends all shares. Precondition: no transaction is open. */
  end(): void {
    for (const id of [...this.#listening.keys(), ...this.shares.keys()]) this.#end(id);
  }

  /** Whether threads of this process have leased memory through the view of a share. */
  #isLeased(id: number): boolean {
    const view = this.#views.get(id);
    if (view === undefined || view.closed) return false;
    return memoryOfView(view).reservation.lockedIn(0, reachOf(this.va), 0).length > 0;
  }

  #checkIdle(): void {
    this.context.checkOpen();
    const words = 'memory is not shared inside a transaction, nor taken back';
    this.context.checkIdle(() => new MembackingError('IN_USE', words));
  }

  #checked(options: ShareOptions | undefined): ShareFacts {
    const given = validate.options(options, [...SHARE_OPTIONS, ...PATH_OPTIONS], 'share');
    const { name = 'client', lazy = false, readOnly = false, deadline = 1000, whenSilent = 'refuse' } = given;
    const scope = { isReadOnly: validate.flag(readOnly, 'readOnly'), ranges: checkedRanges(given.ranges) };
    return {
      id: ++lastId,
      name: validate.text(name, 'name'),
      isLazy: validate.flag(lazy, 'lazy'),
      scope,
      deadline: validate.integer(deadline, 'deadline', 1, MAX_DEADLINE),
      isCutOff: validate.oneOf(SILENCES, whenSilent, 'whenSilent') === 'cut-off',
      memory: this.#memoryOf(scope),
    };
  }

  /** Number of the memory that a scope leaves of the level's. */
  #memoryOf(scope: Scope): bigint {
    const key = JSON.stringify(scope, (_, value) => (typeof value === 'bigint' ? formatHex(value) : value));
    const known = this.#memories.get(key) ?? crypto.getRandomValues(new BigUint64Array(1))[0]!;
    this.#memories.set(key, known);
    return known;
  }

  /** Refuses a plan that shows private memory where a client sees it too, or a lazy one would. Throws PRIVATE_TWICE. */
  #refuseComing(core: Core): void {
    const clients = [...this.shares.values()].filter(({ hasLazyClient }) => hasLazyClient);
    if (clients.length === 0 || ![...this.context.objects.known].some(({ kind }) => kind === 'private')) return;
    for (const { facts } of clients) {
      for (const { gpa, length } of facts.scope.ranges ?? [{ gpa: 0, length: reachOf(this.va) }]) {
        const range = { start: Number(gpa), end: Number(sum(gpa, length)) };
        const next = (from: number) => core.commandTouching(from, this.va.id, range);
        for (let i = next(0); i >= 0; i = next(i + 1)) this.#refuseCommand(core.command(i), facts);
      }
    }
  }

  #refuseCommand({ op, gpa, object }: Command, { name }: ShareFacts): void {
    if (op !== OP_VA_UNPARK) return;
    const { name: memory } = this.context.objects.objectOf(object!);
    const message = `"${memory}" is private memory, which has one mapper, the manager's: client "${name}" would see it at ${formatHex(gpa)} too; end that client first, or leave the memory out of its ranges`;
    throw new MembackingError('PRIVATE_TWICE', message, { details: { gpa } });
  }

  refusePrivate(scope: Scope): void {
    const { core, objects } = this.context;
    const names = core.sinkRows(this.va.id).flatMap(({ id, start, last }) => {
      const object = objects.objectOf(id);
      return object.kind === 'private' && isWithin(scope, start, last) ? [object.name] : [];
    });
    if (names.length === 0) return;
    const message = `private memory has one mapper, the manager's: "${[...new Set(names)].join('", "')}" cannot be shared; leave it out of ranges, or give it another backing`;
    throw new MembackingError('NOT_SHARED', message, { details: { names } });
  }

  /** Token for this process: that of the whole level, or of a view of its own. */
  #tokenFor({ id, name, scope }: ShareFacts): bigint {
    if (!scope.isReadOnly && scope.ranges === undefined) return this.#level.token();
    const view = this.context.transaction(() => {
      const made = this.#level.map.attachView(this.va, name);
      made.withholdRange(0, reachOf(this.va), 'none');
      this.enter(made);
      follow(made, scope, 0, reachOf(this.va));
      return made;
    });
    this.#views.set(id, view);
    this.#level.watch(view);
    return view.token;
  }
}

/** Callers that a share at a path is for; undefined where it has none. Throws INVALID_ARGUMENT. */
function checkedAdmission(options: ShareOptions = {}): Admission | undefined {
  const { path, uids = [process.geteuid!()], pids, maxClients = 64 } = options;
  if (path === undefined) {
    const [given] = PATH_OPTIONS.filter((name) => options[name] !== undefined);
    if (given !== undefined) throw validate.invalid(`${given} is for those who come to a path: give one`);
    return undefined;
  }
  return {
    path: validate.socketPath(path, 'path'),
    uids: checkedEach(uids, 'uids', validate.uid),
    pids: pids && checkedEach(pids, 'pids', (pid, name) => validate.integer(pid, name, 0, MAX_PID)),
    most: validate.integer(maxClients, 'maxClients', 1, MAX_CLIENTS),
  };
}

function checkedEach(
  numbers: readonly number[],
  name: string,
  check: (each: unknown, name: string) => number,
): readonly number[] {
  if (!Array.isArray(numbers)) throw validate.invalid(`${name} must be a list`);
  return numbers.map((each) => check(each, `one of ${name}`));
}

/** Ranges in order of GPA. Throws INVALID_ARGUMENT. */
function checkedRanges(ranges: readonly GpaRange[] | undefined): readonly GpaRange[] | undefined {
  if (ranges === undefined) return undefined;
  if (!Array.isArray(ranges)) throw validate.invalid('ranges must be a list');
  const checked = ranges.map((range: GpaRange) => checkedRange(range, 'a range'));
  for (const { gpa, length } of checked) {
    if (isPageAligned(gpa) && isPageAligned(length)) continue;
    throw validate.invalid(`ranges must be whole pages, not ${formatHex(length)} bytes at ${formatHex(gpa)}`);
  }
  return checked.sort((one, other) => (one.gpa < other.gpa ? -1 : 1));
}

function isWithin({ ranges }: Scope, start: Address, last: Address): boolean {
  return ranges === undefined || ranges.some(({ gpa, length }) => gpa <= last && sum(gpa, length) > start);
}
