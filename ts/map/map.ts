// The memory map of one virtual machine: where everything is made, changed together and closed.

import { setImmediate as othersTurn } from 'node:timers/promises';
import * as abi from '../../assembly/abi.ts';
import type { LeaseFacts } from '../access/held-lease.ts';
import { renderLease } from '../access/lease-table.ts';
import { freeingLater } from '../apply/freeing.ts';
import { nativeOf } from '../apply/native-executor.ts';
import type { MapHandle } from '../asked/map-handle.ts';
import { Region } from '../asked/region.ts';
import { AddressSpace } from '../asked/space.ts';
import { type Address, formatHex, higher, LAST_ADDRESS, lastByte } from '../core/address.ts';
import { STRETCHES, type StretchLimits } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import { Handle } from '../core/handle.ts';
import {
  type Disturbance,
  POLICIES,
  type Policy,
  REGION_KINDS,
  type RegionFlags,
  type RegionKind,
  regionFlags,
  regionKindNumber,
} from '../core/kinds.ts';
import { native, type Reservation } from '../core/native.ts';
import { obtainedFromSystem } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import { Attachment, checkedPartition } from '../sinks/attachment.ts';
import type { KvmPartition } from '../sinks/kvm.ts';
import { Mapper } from '../sinks/mapper.ts';
import type { Partition } from '../sinks/partition.ts';
import { enterVa, memoryOf, reachOf, VaSpace } from '../sinks/va-space.ts';
import { GuestView } from '../sinks/view.ts';
import { count, renderFlatViews, renderTrees } from '../text/render.ts';
import { type TraceCommand, TracePlan } from '../trace/core-replay.ts';
import type { TraceOutput } from '../trace/recorder.ts';
import { Context } from './context.ts';
import { type WaitOptions, whenFree } from './when-free.ts';

/** Options of a memory map. */
export interface MemoryMapOptions {
  /** Policy for overlaps of regions. Default `layered`: any is allowed. */
  readonly policy?: Policy;
  /** Takes a trace of everything that happens to the map, as text: a stream, or anything with `write`. If `write`
   *  throws, the recording ends there, and a warning of the process (`code` RECORDING_ENDED) says why: the change that
   *  it was told of has happened, and the map goes on. What it throws at the first line comes out of the
   *  constructor. */
  readonly record?: TraceOutput;
  /** Bytes that the core may use for its records; what only takes away may use more. Default: nearly 4 GiB. */
  readonly maxMemory?: number;
  /** Checks every invariant around every step: slow, for tests and bug reports. Default false. Throws CORE_MISSING in a
   *  clone that has not run its tests. */
  readonly debug?: boolean;
}

/** Options of `MemoryMap.createRegion`. */
export interface RegionOptions extends RegionFlags {
  /** Name for people; need not be unique. */
  readonly name: string;
  /** Kind of the region, for good. */
  readonly kind: RegionKind;
  /** Bytes, up to 2^64. */
  readonly size: Address;
}

/** Options of `MemoryMap.createAlias`. */
export interface AliasOptions extends RegionFlags {
  /** Name for people; need not be unique. */
  readonly name: string;
  /** Region that it shows a part of, with what is in that. */
  readonly target: Region;
  /** Offset of the alias's first byte in the target. Default 0. */
  readonly offset?: Address;
  /** Bytes; past the end of the target nothing is seen. */
  readonly size: Address;
}

/** Options of `MemoryMap.createAddressSpace`. */
export interface AddressSpaceOptions {
  /** Name for people; need not be unique. */
  readonly name: string;
  /** Region that it shows, with all that is in it. */
  readonly root: Region;
  /** GPA of the root's first byte. Default 0. */
  readonly offset?: Address;
}

/** Options of `MemoryMap.attachVaSpace`. */
export interface VaSpaceOptions {
  /** Name for people: in messages, in /proc. Default: `va of` its address space. */
  readonly name?: string;
  /** Bytes of the first stretch, from GPA 0 on, whole pages: address space, not memory. Default 1 TiB. */
  readonly size?: Address;
  /** Number of stretches that may be reserved behind the first one while memory is seen there; 0: none. Default 256,
   *  and 0 where a size is given. */
  readonly maxStretches?: number;
  /** Bytes that those stretches have together at most: address space, not memory. Default 16 TiB. */
  readonly maxStretchBytes?: Address;
}

/** Options of `MemoryMap.attachPartition`. */
export interface AttachOptions {
  /** Address space that the partition sees. */
  readonly space: AddressSpace;
  /** The VA space of that address space whose host addresses the slots use. */
  readonly va: VaSpace;
  /** Offset that is added to every GPA to give the partition's own. Default 0. */
  readonly gpaOffset?: Address;
  /** The highest GPA of the partition that this attachment may use. Default: any. */
  readonly lastGpa?: Address;
  /** Slots that the partition is given at most, said when it is first attached. Default: what it has. */
  readonly slotLimit?: number;
}

/** A change that was not made. */
export interface PlannedChange {
  /** Commands in the order in which they would be carried out. */
  readonly commands: readonly TraceCommand[];
  /** Disturbance class of the plan. */
  readonly disturbance: Disturbance;
  /** The plan as text, as the command prints plans. */
  readonly lines: readonly string[];
}

/** A range of a VA space, or of an attachment's slots. */
export interface LostRange {
  /** Name of the sink. */
  readonly sink: string;
  /** First GPA: of an attachment, in the partition's own numbering. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
}

/** Options of a transaction in the background. */
export interface TransactionOptions {
  /** Signal that gives the change up: between slices. */
  readonly signal?: AbortSignal;
}

/** The body of a transaction, whose changes are made when it returns: an async function is none. */
export type SyncBody<Result> = (() => Result) &
  ([Result] extends [never] ? unknown : Result extends PromiseLike<unknown> ? 'it must not be async' : unknown);

const DEFAULT_VA_SIZE = 2 ** 40;
/** End of the GPAs that a VA space can have stretches at. */
const MOST_REACH = 2 ** abi.GPA_BITS;
const MAP_OPTIONS = ['policy', 'record', 'maxMemory', 'debug'] as const;
const REGION_OPTIONS = ['name', 'kind', 'size', 'readonly', 'nonvolatile', 'enabled'] as const;
const ALIAS_OPTIONS = ['name', 'target', 'offset', 'size', 'readonly', 'nonvolatile', 'enabled'] as const;
const SPACE_OPTIONS = ['name', 'root', 'offset'] as const;
const VA_OPTIONS = ['name', 'size', 'maxStretches', 'maxStretchBytes'] as const;
const ATTACH_OPTIONS = ['space', 'va', 'gpaOffset', 'lastGpa', 'slotLimit'] as const;

/** Regions, address spaces and what they are attached to. Every change is a transaction: it happens wholly, or throws
 *  and has not happened.
 *
 *  Closing it takes everything away from partitions and VA spaces, and ends all handles. Memory objects and partitions
 *  stay their owner's. Leases that are still held end, and a warning of the process (`code` LEASES_ENDED) says who held
 *  what. Throws IN_USE inside a transaction, PLAN_PENDING while one is carried out in the background, PLAN_FAILED where
 *  a partition keeps its slots: nothing has happened then, and leases go on. */
export class MemoryMap extends Handle {
  readonly #context: Context;

  /** Makes a map without regions. Throws INVALID_ARGUMENT, CORE_MISSING, NATIVE_MISSING, VERSION_MISMATCH, and what
   *  `record` throws. */
  constructor(options?: MemoryMapOptions) {
    super();
    const {
      policy = 'layered',
      record,
      maxMemory,
      debug = false,
    } = validate.options(options, MAP_OPTIONS, 'MemoryMap');
    const checkedPolicy = validate.oneOf(POLICIES, policy, 'policy');
    if (record !== undefined && typeof record?.write !== 'function') {
      throw validate.invalid('record must have a method write(text)');
    }
    const coreOptions = {
      policy: checkedPolicy,
      debug: validate.flag(debug, 'debug'),
      ...(maxMemory === undefined ? {} : { maxMemory: validate.integer(maxMemory, 'maxMemory', 2 ** 20, 2 ** 32) }),
    };
    this.#context = new Context(coreOptions);
    if (record !== undefined) this.#context.record(record);
  }

  protected override get what(): string {
    return 'the memory map';
  }

  /** @internal For what is built on top of a map. */
  get context(): Context {
    return this.#context;
  }

  /** Everything that `body` changes happens at once, or not at all if it throws. They nest: an inner one that throws
   *  takes back only its own. `body` must not be async. Returns what it returns. */
  transaction<Result>(body: SyncBody<Result>): Result {
    this.checkOpen();
    if (typeof body !== 'function') throw validate.invalid('a transaction needs a function');
    return this.#context.transaction(body);
  }

  /** Makes a transaction as `transaction` does, in the background: `body` is called and its plan made at once, or when
   *  those before it have ended. The plan is carried out in slices of about a millisecond, between which the thread has
   *  turns for what else there is to do. Until it has ended, other changes throw PLAN_PENDING, accesses go on, also to
   *  what changes, and leases are taken before and behind all that changes; vCPUs that must be held are held. Resolves
   *  with what `body` returns. Rejects with what `transaction` throws, and with ABORTED: nothing has happened then.
   *  What was done is taken back in one go. */
  async transactionAsync<Result>(body: SyncBody<Result>, options?: TransactionOptions): Promise<Result> {
    this.checkOpen();
    if (typeof body !== 'function') throw validate.invalid('a transaction needs a function');
    const { signal } = validate.options(options, ['signal'], 'transactionAsync');
    validate.work({ signal });
    const check = () => {
      if (signal?.aborted) throw givenUp(signal.reason);
    };
    const checked = () => {
      check();
      return body();
    };
    return this.#context.transactionInTurns(checked, () => othersTurn().then(check));
  }

  /** The plan that `body` would make as a transaction, and makes none: what it does to the map is taken back. Leases
   *  are not asked. Throws what the map refuses, and INVALID_ARGUMENT inside a transaction. */
  plan<Result>(body: SyncBody<Result>): PlannedChange {
    this.checkOpen();
    if (typeof body !== 'function') throw validate.invalid('a plan needs a function');
    let planned: PlannedChange | undefined;
    this.#context.preview(body, (core, facts) => {
      const plan = new TracePlan(core, facts, this.#context.names);
      planned = { commands: plan.commands(), disturbance: plan.disturbance, lines: plan.render() };
    });
    return planned!;
  }

  /** Ranges that should show something and do not, because a change failed and what was there could not be put back. */
  lost(): LostRange[] {
    this.checkOpen();
    return [...this.#context.sinks].flatMap((sink) => sink.lost().map((range) => ({ sink: sink.name, ...range })));
  }

  /** Tries again what is lost, as each later change does that touches it. Returns what still is. */
  repair(): LostRange[] {
    this.checkOpen();
    for (const sink of [...this.#context.sinks]) sink.repair();
    return this.lost();
  }

  /** A transaction that waits where memory is leased that it would change: until then the guest has no more access to
   *  that memory than after the change, and nobody gets a new lease that the change would break. `body` is called again
   *  after each wait: what it did before was taken back. Throws what a transaction throws; LEASED at the deadline and
   *  ABORTED with who held on, and has then changed nothing. Where the guest could not be given its access back,
   *  `cause` says why, and that is done with the next transaction. */
  whenFree<Result>(body: SyncBody<Result>, options?: WaitOptions): Promise<Result> {
    return whenFree(this.#context, body, options);
  }

  /** The leases that are held now. */
  leases(): LeaseFacts[] {
    return this.#context.leases.all();
  }

  /** Makes a region that is nowhere yet. Throws INVALID_ARGUMENT, CAPACITY, NO_MEMORY. */
  createRegion(options: RegionOptions): Region {
    this.checkOpen();
    const given = validate.options(options, REGION_OPTIONS, 'createRegion');
    const name = validate.text(given.name, 'name');
    const kind = validate.oneOf(REGION_KINDS, given.kind, 'kind');
    const size = validate.size(given.size, 'size');
    const flags = flagsOf(given);
    if (regionKindNumber(kind) & abi.KIND_IS_READONLY) flags.readonly = true;
    const { core, recorder } = this.#context;
    return this.#context.perform(() => {
      const id = core.createRegion(regionKindNumber(kind), size, regionFlags(flags));
      recorder?.record({ op: 'region', id, name, kind, size, ...flags });
      return new Region(this.#context, id, name, kind);
    });
  }

  /** Makes a region that shows a part of another one, wherever it is placed itself. Throws INVALID_ARGUMENT, CAPACITY,
   *  NO_MEMORY. */
  createAlias(options: AliasOptions): Region {
    this.checkOpen();
    const given = validate.options(options, ALIAS_OPTIONS, 'createAlias');
    const name = validate.text(given.name, 'name');
    const target = validate.instance(Region, given.target, 'target').idIn(this.#context);
    const offset = validate.address(given.offset ?? 0, 'offset');
    const size = validate.size(given.size, 'size');
    const flags = flagsOf(given);
    const { core, recorder } = this.#context;
    return this.#context.perform(() => {
      const id = core.createAlias(target, offset, size, regionFlags(flags));
      recorder?.record({ op: 'alias', id, name, target, offset, size, ...flags });
      return new Region(this.#context, id, name, 'alias');
    });
  }

  /** Makes an address space that shows a region and all that is in it. Throws INVALID_ARGUMENT, CAPACITY, NO_MEMORY. */
  createAddressSpace(options: AddressSpaceOptions): AddressSpace {
    this.checkOpen();
    const given = validate.options(options, SPACE_OPTIONS, 'createAddressSpace');
    const name = validate.text(given.name, 'name');
    const root = validate.instance(Region, given.root, 'root').idIn(this.#context);
    const offset = validate.address(given.offset ?? 0, 'offset');
    const { core, recorder } = this.#context;
    return this.#context.perform(() => {
      const id = core.createSpace(root, offset);
      recorder?.record({ op: 'space', id, name, root, offset });
      return new AddressSpace(this.#context, id, name, given.root, offset);
    });
  }

  /** Mirrors an address space in this process's memory. Throws SYSTEM where so much cannot be reserved, PAST_LIMIT
   *  and NO_STRETCHES where memory is visible that does not fit, PRIVATE_TWICE where another VA space has private
   *  memory of it. */
  attachVaSpace(space: AddressSpace, options?: VaSpaceOptions): VaSpace {
    this.checkOpen();
    const spaceId = validate.instance(AddressSpace, space, 'space').idIn(this.#context);
    const given = validate.options(options, VA_OPTIONS, 'attachVaSpace');
    const name = validate.text(given.name ?? `va of ${space.name}`, 'name');
    const size = validate.length(given.size ?? DEFAULT_VA_SIZE, 'size');
    const limits = stretchLimits(given);
    return this.#context.transaction(() => {
      let reservation: Reservation | undefined;
      this.#context.onUndo(() => reservation?.close());
      reservation = reserved(size, name, limits.count === 0 ? size : higher(size, MOST_REACH));
      const id = enterVa(this.#context, spaceId, size, limits);
      return new VaSpace(this.#context, id, name, space, reservation, limits);
    });
  }

  /** Makes a view of a VA space, which has protections of its own. @internal */
  attachView(va: VaSpace, name: string): GuestView {
    this.checkOpen();
    const vaId = va.idIn(this.#context);
    const { space } = va;
    const size = reachOf(va);
    const { core, recorder } = this.#context;
    return this.#context.transaction(() => {
      const reservation = native().Reservation.createView(memoryOf(va).reservation);
      this.#context.onUndo(() => reservation.close());
      const id = core.attach(abi.SINK_VIEW, space.id, { va: vaId, last: lastByte(size) });
      recorder?.record({ op: 'view', id, space: space.id, va: vaId, size });
      return new GuestView(this.#context, id, name, va, reservation);
    });
  }

  /** Gives a partition memory slots for what an address space shows, from now on until the attachment or the partition
   *  is closed. Throws NO_SLOTS, PAST_LIMIT, ATTACHMENT_OVERLAP, PLAN_FAILED. */
  attachPartition(partition: KvmPartition | Partition, options: AttachOptions): Attachment {
    this.checkOpen();
    const checked = checkedPartition(partition, this.#context);
    const given = validate.options(options, ATTACH_OPTIONS, 'attachPartition');
    const space = validate.instance(AddressSpace, given.space, 'space').idIn(this.#context);
    const va = validate.instance(VaSpace, given.va, 'va');
    const vaId = va.idIn(this.#context);
    const gpaOffset = validate.address(given.gpaOffset ?? 0, 'gpaOffset');
    const lastGpa = validate.address(given.lastGpa ?? LAST_ADDRESS, 'lastGpa');
    const slots = validate.integer(given.slotLimit ?? abi.MAX_SLOTS, 'slotLimit', 1, abi.MAX_SLOTS);
    const { core, partitions, recorder } = this.#context;
    return this.#context.transaction(() => {
      const partitionId = partitions.enter(checked, Math.min(slots, checked.slotLimit));
      const id = core.attach(abi.SINK_PARTITION, space, {
        partition: partitionId,
        va: vaId,
        offset: gpaOffset,
        last: lastGpa,
      });
      recorder?.record({ op: 'attach', id, partition: partitionId, space, va: vaId, gpaOffset, lastGpa });
      const attachment = new Attachment(this.#context, id, checked, { space: given.space, va, gpaOffset, lastGpa });
      if (this.#context.regionEvents.size > 0) attachment.prepareEvents();
      for (const part of this.#context.withheld) if (part.concerns(attachment)) attachment.withhold(part);
      return attachment;
    });
  }

  /** Text of what its address spaces show, what is attached to them, and all regions. @internal */
  override text(most?: number): string[] {
    const { core, names, sinks } = this.#context;
    const spaces = [...this.#context.spaces.values()].filter(isOpen);
    const regions = [...this.#context.regions.values()].filter(isOpen);
    return [
      this.what,
      ...renderFlatViews(core, spaces.map(idOf), names, most),
      ...[...sinks].filter(isOpen).flatMap((sink) => sink.text(most)),
      count(regions.length, 'region'),
      ...renderTrees(core, rootsAmong(regions), names, most, regions.length),
    ];
  }

  /** Closes it as `close` does, at once; what it had mapped is freed in the background. Settles when that is done, with
   *  what `close` throws. */
  async closeAsync(): Promise<void> {
    while (this.#context.isInTurns) await this.#context.settled();
    const hasMapped = !this.closed && this.#context.sinks.size > 0;
    if (hasMapped) await freeingLater([], nativeOf(this.#context), () => this.close());
    else this.close();
  }

  /** Closes it. Once no partition has slots any more, it is closed, whatever else fails. */
  protected override release(): void {
    const context = this.#context;
    const inside = () => new MembackingError('IN_USE', 'a memory map cannot be closed inside a transaction');
    if (!context.isBroken) context.checkIdle(inside);
    const failure = detachAll(context, Attachment);
    // No partition refuses any more: now what is leased may go.
    warnOfEnded(context.leases.endAll());
    detachAll(context, Mapper);
    detachAll(context, GuestView);
    detachAll(context, VaSpace);
    context.close();
    this.setClosed(true);
    if (failure !== undefined) throw failure;
  }
}

function givenUp(cause: unknown): MembackingError {
  return new MembackingError('ABORTED', 'the change was given up; nothing was changed', { cause });
}

const isOpen = ({ closed }: MapHandle) => !closed;
const idOf = ({ id }: MapHandle) => id;

/** Numbers of the regions that nothing contains, found one by one. */
function* rootsAmong(regions: readonly Region[]): Iterable<number> {
  for (const region of regions) if (region.offset === undefined) yield region.id;
}

type SinkClass = typeof Attachment | typeof Mapper | typeof GuestView | typeof VaSpace;

/** Closes all sinks of a kind together. Returns what went wrong after that: a partition that could not be resumed. */
function detachAll(context: Context, kind: SinkClass): unknown {
  const sinks = [...context.sinks].filter((sink) => sink instanceof kind);
  if (sinks.length === 0) return undefined;
  if (!context.isBroken) {
    const { hasHappened, error } = context.attempt(() => {
      for (const sink of sinks) sink.close();
    });
    if (hasHappened) return error;
    if (kind === Attachment && !context.isBroken) throw error;
  }
  // A map that accepts no change any more: what is mapped stays mapped as long as a partition uses it. Nor can anything
  // keep a VA space that no partition uses: its addresses go with all that is mapped there.
  for (const sink of sinks) sink.discard();
  return undefined;
}

function warnOfEnded(leases: readonly LeaseFacts[]): void {
  if (leases.length === 0) return;
  const message = `a memory map was closed while memory was leased: ${leases.map(renderLease).join(', ')}`;
  process.emitWarning(message, { type: 'MembackingWarning', code: 'LEASES_ENDED' });
}

function flagsOf({ readonly, nonvolatile, enabled }: RegionFlags): {
  -readonly [Flag in keyof RegionFlags]-?: boolean;
} {
  return {
    readonly: validate.flag(readonly ?? false, 'readonly'),
    nonvolatile: validate.flag(nonvolatile ?? false, 'nonvolatile'),
    enabled: validate.flag(enabled ?? true, 'enabled'),
  };
}

/** Checks how many stretches a VA space may have. Throws INVALID_ARGUMENT. */
function stretchLimits({ size, maxStretches, maxStretchBytes }: VaSpaceOptions): StretchLimits {
  const usual = size === undefined ? STRETCHES.count : 0;
  return {
    count: validate.integer(maxStretches ?? usual, 'maxStretches', 0, 65536),
    bytes: validate.address(maxStretchBytes ?? STRETCHES.bytes, 'maxStretchBytes'),
    unit: STRETCHES.unit,
  };
}

/** Addresses of this process; stretches may come up to before `reach`. Throws SYSTEM, which says what to lower. */
function reserved(size: Address, name: string, reach: Address): Reservation {
  try {
    const what = `a VA space of ${formatHex(size)} bytes cannot be reserved`;
    return obtainedFromSystem(what, () => native().Reservation.create(size, name, reach));
  } catch (error) {
    if (!(error instanceof MembackingError) || error.code !== 'SYSTEM') throw error;
    const { code, message, details, cause } = error;
    throw new MembackingError(code, `${message}: lower its size`, { details, cause });
  }
}
