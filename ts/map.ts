// The memory map of one virtual machine: where everything is made, changed together and closed.

import { type Address, LAST_ADDRESS } from './address.ts';
import { Context } from './context.ts';
import { MembackingError } from './errors.ts';
import { Handle } from './handle.ts';
import { POLICIES, type Policy, REGION_KINDS, type RegionFlags, type RegionKind, regionFlags, regionKindNumber } from './kinds.ts';
import { KvmPartition } from './kvm.ts';
import { native } from './native.ts';
import { ObjectTable } from './object-table.ts';
import { Attachment, type Partition, PartitionExecutor, type PartitionFacts } from './partition.ts';
import { checkedFlags, Region } from './region.ts';
import { AddressSpace } from './space.ts';
import { systemError } from './system.ts';
import { type TraceOutput, TraceRecorder } from './trace/recorder.ts';
import * as validate from './validate.ts';
import { VaSpace } from './va-space.ts';

export interface MemoryMapOptions {
  /** Which overlaps of regions are allowed. Default `layered`: any. */
  readonly policy?: Policy;
  /** Takes a trace of everything that happens to the map, as text: a stream, or anything with `write`. */
  readonly record?: TraceOutput;
  /** Bytes that the core may use for its records. Default: 4 GiB. */
  readonly maxMemory?: number;
  /** Checks every invariant around every step: slow, for tests. Default false. */
  readonly debug?: boolean;
}

export interface RegionOptions extends RegionFlags {
  readonly name: string;
  readonly kind: RegionKind;
  /** Bytes, up to 2^64. */
  readonly size: Address;
}

export interface AliasOptions extends RegionFlags {
  readonly name: string;
  readonly target: Region;
  /** Of the window in the target. Default 0. */
  readonly offset?: Address;
  /** Bytes; past the end of the target nothing is seen. */
  readonly size: Address;
}

export interface AddressSpaceOptions {
  readonly name: string;
  readonly root: Region;
  /** GPA of the root's first byte. Default 0. */
  readonly offset?: Address;
}

export interface VaSpaceOptions {
  readonly name?: string;
  /** Bytes to reserve, whole pages: address space, not memory. Default 1 TiB. */
  readonly size?: Address;
}

export interface AttachOptions {
  readonly space: AddressSpace;
  /** The VA space of that address space whose host addresses the slots use. */
  readonly va: VaSpace;
  /** Added to every GPA. Default 0. */
  readonly gpaOffset?: Address;
  /** The highest GPA of the partition that this attachment may use. Default: any. */
  readonly lastGpa?: Address;
}

const DEFAULT_VA_SIZE = 2 ** 40;
const REGION_OPTIONS = ['name', 'kind', 'size', 'readonly', 'nonvolatile', 'enabled'] as const;
const ALIAS_OPTIONS = ['name', 'target', 'offset', 'size', 'readonly', 'nonvolatile', 'enabled'] as const;

/** Regions, address spaces and what they are attached to. Every change is a transaction: it happens wholly, or throws
 *  and has not happened. */
export class MemoryMap extends Handle {
  readonly #context: Context;
  readonly #objects: ObjectTable;
  readonly #regions = new Map<number, Region>();
  readonly #spaces = new Map<number, AddressSpace>();
  readonly #vaSpaces = new Map<number, VaSpace>();
  readonly #attachments = new Map<number, Attachment>();
  /** The core's number of each partition that is attached, and how often it is. */
  readonly #partitions = new Map<PartitionFacts, { id: number; attachments: number }>();

  constructor(options?: MemoryMapOptions) {
    super();
    const known = ['policy', 'record', 'maxMemory', 'debug'] as const;
    const { policy = 'layered', record, maxMemory, debug = false } = validate.options(options, known, 'MemoryMap');
    const checkedPolicy = validate.oneOf(POLICIES, policy, 'policy');
    if (record !== undefined && typeof record?.write !== 'function') throw validate.invalid('record must have a method write(text)');
    this.#context = new Context(
      {
        policy: checkedPolicy,
        debug: validate.flag(debug, 'debug'),
        ...(maxMemory === undefined ? {} : { maxMemory: validate.integer(maxMemory, 'maxMemory', 2 ** 20, 2 ** 32) }),
      },
      record === undefined ? undefined : new TraceRecorder(record, checkedPolicy),
    );
    this.#objects = new ObjectTable(this.#context);
    this.#context.onIdle = () => this.#objects.sweep();
  }

  protected override get what(): string {
    return 'the memory map';
  }

  /** Everything that `body` changes happens at once, or not at all if it throws. They nest: an inner one that throws
   *  takes back only its own. `body` must not be async. Returns what it returns. */
  transaction<Result>(body: () => Result): Result {
    this.checkOpen();
    if (typeof body !== 'function') throw validate.invalid('a transaction needs a function');
    return this.#context.transaction(body);
  }

  createRegion(options: RegionOptions): Region {
    this.checkOpen();
    const given = validate.options(options, REGION_OPTIONS, 'createRegion');
    const name = validate.text(given.name, 'name');
    const kind = validate.oneOf(REGION_KINDS, given.kind, 'kind');
    const size = validate.size(given.size, 'size');
    const flags = kind === 'rom' ? { ...flagsOf(given), readonly: true } : flagsOf(given);
    return this.#make(name, kind, () => {
      const id = this.#context.core.createRegion(regionKindNumber(kind), size, regionFlags(flags));
      this.#context.recorder?.record({ op: 'region', id, name, kind, size, ...allFlags(flags) });
      return id;
    });
  }

  createAlias(options: AliasOptions): Region {
    this.checkOpen();
    const given = validate.options(options, ALIAS_OPTIONS, 'createAlias');
    const name = validate.text(given.name, 'name');
    const target = validate.instance(Region, given.target, 'target').idIn(this.#context);
    const offset = validate.address(given.offset ?? 0, 'offset');
    const size = validate.size(given.size, 'size');
    const flags = flagsOf(given);
    return this.#make(name, 'alias', () => {
      const id = this.#context.core.createAlias(target, offset, size, regionFlags(flags));
      this.#context.recorder?.record({ op: 'alias', id, name, target, offset, size, ...allFlags(flags) });
      return id;
    });
  }

  #make(name: string, kind: RegionKind | 'alias', create: () => number): Region {
    return this.#context.perform(() => {
      const id = create();
      const region = new Region(this.#context, this.#objects, id, name, kind);
      const before = this.#regions.get(id);
      this.#regions.set(id, region);
      this.#context.names.regions.set(id, name);
      this.#context.onUndo(() => {
        region.setClosed(true);
        if (before === undefined) this.#regions.delete(id);
        else this.#regions.set(id, before);
        this.#context.names.regions.set(id, before?.name ?? '');
      });
      return region;
    });
  }

  createAddressSpace(options: AddressSpaceOptions): AddressSpace {
    this.checkOpen();
    const given = validate.options(options, ['name', 'root', 'offset'], 'createAddressSpace');
    const name = validate.text(given.name, 'name');
    const root = validate.instance(Region, given.root, 'root').idIn(this.#context);
    const offset = validate.address(given.offset ?? 0, 'offset');
    return this.#context.perform(() => {
      const { core, names, recorder } = this.#context;
      const id = core.createSpace(root, offset);
      const space = new AddressSpace(this.#context, this.#regions, id, name);
      recorder?.record({ op: 'space', id, name, root, offset });
      names.spaces.set(id, name);
      this.#spaces.set(id, space);
      this.#context.onUndo(() => space.setClosed(true));
      return space;
    });
  }

  /** Mirrors an address space in this process's memory. Throws SYSTEM where so much cannot be reserved, PAST_LIMIT
   *  where memory is visible that does not fit. */
  attachVaSpace(space: AddressSpace, options?: VaSpaceOptions): VaSpace {
    this.checkOpen();
    const spaceId = validate.instance(AddressSpace, space, 'space').idIn(this.#context);
    const given = validate.options(options, ['name', 'size'], 'attachVaSpace');
    const name = validate.text(given.name ?? `va of ${space.name}`, 'name');
    const size = validate.length(given.size ?? DEFAULT_VA_SIZE, 'size');
    const reservation = systemError(`a VA space of ${size} bytes cannot be reserved`, () => native().Reservation.create(size));
    try {
      return this.#context.transaction(() => {
        const { core, names, native: executor, runner, recorder } = this.#context;
        const id = core.attachVa(spaceId, size);
        executor.setVaSpace(id, reservation);
        runner.connect(id, executor);
        recorder?.record({ op: 'va', id, space: spaceId, size });
        names.sinks.set(id, name);
        const va = new VaSpace(this.#context, this.#objects, id, name, reservation);
        this.#vaSpaces.set(id, va);
        this.#context.onUndo(() => {
          this.#vaSpaces.delete(id);
          va.setClosed(true);
          va.discard();
        });
        return va;
      });
    } catch (error) {
      reservation.close();
      throw error;
    }
  }

  /** Gives a partition memory slots for what an address space shows, from now on until the attachment is closed. Throws
   *  NO_SLOTS, PAST_LIMIT, ATTACHMENT_OVERLAP, PLAN_FAILED. */
  attachPartition(partition: KvmPartition | Partition, options: AttachOptions): Attachment {
    this.checkOpen();
    const given = validate.options(options, ['space', 'va', 'gpaOffset', 'lastGpa'], 'attachPartition');
    const space = validate.instance(AddressSpace, given.space, 'space').idIn(this.#context);
    const va = validate.instance(VaSpace, given.va, 'va');
    const vaId = va.idIn(this.#context);
    const gpaOffset = validate.address(given.gpaOffset ?? 0, 'gpaOffset');
    const lastGpa = validate.address(given.lastGpa ?? LAST_ADDRESS, 'lastGpa');
    checkPartition(partition);
    return this.#context.transaction(() => {
      const { core, runner, recorder } = this.#context;
      const partitionId = this.#enterPartition(partition);
      const id = core.attachPartition(partitionId, space, vaId, gpaOffset, lastGpa);
      recorder?.record({ op: 'attach', id, partition: partitionId, space, va: vaId, gpaOffset, lastGpa });
      this.#context.names.sinks.set(id, partition.name);
      const pausable = partition.pause && partition.resume ? { pause: () => partition.pause!(), resume: () => partition.resume!() } : undefined;
      if (partition instanceof KvmPartition) {
        this.#context.native.setPartition(id, partition.vm);
        runner.connect(id, this.#context.native, pausable);
      } else {
        runner.connect(id, new PartitionExecutor(partition, va.base), pausable);
      }
      const attachment = new Attachment(this.#context, id, partition, va, gpaOffset, (undone) => {
        if (partition instanceof KvmPartition) this.#context.native.clearSink(id);
        this.#attachments.delete(id);
        if (!undone) this.#leavePartition(partition);
      });
      this.#attachments.set(id, attachment);
      this.#context.onUndo(() => {
        attachment.setClosed(true);
        attachment.discard(true);
      });
      return attachment;
    });
  }

  /** The core's number of a partition, which gets one with its first attachment. */
  #enterPartition(partition: PartitionFacts): number {
    const { core, recorder } = this.#context;
    let known = this.#partitions.get(partition);
    if (known === undefined) {
      known = { id: core.createPartition(partition.slotLimit), attachments: 0 };
      recorder?.record({ op: 'partition', id: known.id, slots: partition.slotLimit });
      this.#partitions.set(partition, known);
    }
    const entry = known;
    entry.attachments++;
    this.#context.onUndo(() => {
      if (--entry.attachments === 0) this.#partitions.delete(partition);
    });
    return entry.id;
  }

  #leavePartition(partition: PartitionFacts): void {
    const known = this.#partitions.get(partition)!;
    if (--known.attachments > 0) return;
    this.#partitions.delete(partition);
    this.#context.perform(() => {
      this.#context.core.destroyPartition(known.id);
      this.#context.recorder?.record({ op: 'partition-close', id: known.id });
    });
  }

  /** Takes everything away from partitions and VA spaces, and ends all handles. Memory objects and partitions stay
   *  their owner's. */
  protected override release(): void {
    if (this.#context.core.open > 0) throw validate.invalid('a memory map cannot be closed inside a transaction');
    try {
      this.#context.transaction(() => {
        for (const attachment of [...this.#attachments.values()]) attachment.close();
        for (const va of [...this.#vaSpaces.values()]) va.close();
      });
    } catch (error) {
      // A map that accepts no change any more keeps what is mapped mapped, until the handles below are gone.
      if (!(error instanceof MembackingError && (error.code === 'POISONED' || error.code === 'CORE_TRAPPED'))) throw error;
    } finally {
      this.#objects.close();
      this.#context.close();
      for (const va of this.#vaSpaces.values()) va.close();
    }
  }
}

function flagsOf({ readonly, nonvolatile, enabled }: RegionFlags): RegionFlags {
  const given = Object.entries({ readonly, nonvolatile, enabled }).filter(([, value]) => value !== undefined);
  return checkedFlags(Object.fromEntries(given), 'flags');
}

function allFlags({ readonly = false, nonvolatile = false, enabled = true }: RegionFlags): Required<RegionFlags> {
  return { readonly, nonvolatile, enabled };
}

function checkPartition(partition: unknown): asserts partition is KvmPartition | Partition {
  if (partition instanceof KvmPartition) {
    if (partition.closed) throw validate.invalid(`partition "${partition.name}" is closed`);
    return;
  }
  const { name, slotLimit, addSlot, deleteSlot } = (partition ?? {}) as Partial<Partition>;
  if (typeof addSlot !== 'function' || typeof deleteSlot !== 'function') {
    throw validate.invalid('a partition must be a KvmPartition or have the methods addSlot and deleteSlot');
  }
  validate.text(name, 'the name of the partition');
  validate.integer(slotLimit, 'slotLimit', 1, 65536);
}
