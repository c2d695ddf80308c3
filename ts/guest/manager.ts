// The guest memory of one virtual machine: RAM, devices, the partitions that see them.

import type { Duplex, Writable } from 'node:stream';
import type { LocalGuestMemory } from '../access/local-guest-memory.ts';
import { freeingLater } from '../apply/freeing.ts';
import { nativeOf } from '../apply/native-executor.ts';
import { addonObjectOf, type MemoryObject, SharedMemory } from '../asked/object.ts';
import type { Region } from '../asked/region.ts';
import type { AddressSpace } from '../asked/space.ts';
import type { Address } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { Handle } from '../core/handle.ts';
import * as validate from '../core/validate.ts';
import type { LostRange, MemoryMap, SyncBody } from '../map/map.ts';
import type { WaitOptions } from '../map/when-free.ts';
import type { KvmPartition } from '../sinks/kvm.ts';
import type { Partition } from '../sinks/partition.ts';
import type { VaSpace } from '../sinks/va-space.ts';
import type { PlainState } from '../snapshot/caller-state.ts';
import type { SnapshotDevice, SnapshotLayout } from '../snapshot/layout.ts';
import { type AttachedPartition, attach } from './attached-partition.ts';
import { Bases } from './bases.ts';
import { DeviceMemoryMapper, type DeviceRegionControl, type MappedRegion } from './device.ts';
import { askedMethods, type DirtyOptions, DirtyTracker } from './dirty-tracker.ts';
import {
  checkedOptions,
  checkedRanges,
  type Discardable,
  type DiscardOptions,
  discard,
  discardAsync,
  discardWhenFree,
} from './discard.ts';
import { type GuestMemoryFacts, inspect } from './inspect.ts';
import { type InspectServer, type InspectServerOptions, inspectServer } from './inspect-server.ts';
import { checkedRange, type GpaRange } from './layout.ts';
import type { LazyPages } from './lazy-pages.ts';
import { type Migration, type MigrationOptions, migrateOut } from './migrate.ts';
import { checkedPrefetch, type PrefetchOptions } from './pages.ts';
import type { GuestMemoryParts } from './parts.ts';
import { RamVisibilityControl } from './ram.ts';
import { checkedRam, type RamOptions } from './ram-options.ts';
import type { RamBlock, RamStore } from './ram-store.ts';
import { SharedMemoryBacking } from './shared-backing.ts';
import { type FreezeOptions, freeze, type SnapshotOptions, type SnapshotSubject, snapshot } from './snapshot.ts';
import type { ForkMaker, Template } from './template.ts';
import {
  type GuestMemoryClient,
  VTL_ACCESSES,
  VTLS,
  type Vtl,
  type VtlAccess,
  type VtlProtectionOptions,
} from './vtl.ts';
import { VtlState } from './vtl-state.ts';
import type { WritableRam } from './writable-ram.ts';

/** A device region that a snapshot had: where it was, and empty. */
export interface RestoredDevice {
  /** Control that places it. */
  readonly control: DeviceRegionControl;
  /** The device's own side. */
  readonly region: MappedRegion;
  /** Files that it showed, for its device to open and map again. */
  readonly mappings: SnapshotDevice['mappings'];
}

/** A guest from a snapshot or a template. */
export interface RestoredGuest {
  /** Manager of the memory, to be closed by the caller. */
  readonly manager: GuestMemoryManager;
  /** Device regions, in the order in which they were made. */
  readonly devices: readonly RestoredDevice[];
  /** Ranges of RAM that stay writable: see `RamVisibilityControl.keepWritable`. */
  readonly writableRam: readonly WritableRam[];
  /** Pages that are still to come; undefined where the restore was not lazy. */
  readonly lazy?: LazyPages;
  /** State that the snapshot's caller had added. */
  readonly state: PlainState | undefined;
}

/** The memory of one virtual machine. Closing it takes all memory from partitions and gives it back to the system. */
export class GuestMemoryManager extends Handle {
  /** The map that all is made of, for what this class has no method for. */
  readonly map: MemoryMap;
  /** The container of everything that the guest sees. */
  readonly root: Region;
  /** Address space that VTL0 and the monitor see. */
  readonly space: AddressSpace;
  /** VA space of `space`: this process's view of it. */
  readonly va: VaSpace;
  /** Control of which RAM the guest sees, and how. */
  readonly ramVisibility: RamVisibilityControl;
  /** Maker of device regions: BARs and DAX windows. */
  readonly deviceMapper: DeviceMemoryMapper;
  /** Bases of its diffs. @internal */
  readonly bases = new Bases();
  readonly #parts: GuestMemoryParts;
  readonly #forkMaker: ForkMaker<RestoredGuest>;
  readonly #levels: ReadonlyMap<Vtl, VtlState>;
  readonly #servers = new Set<InspectServer>();

  /** @internal Made by GuestMemoryBuilder. */
  constructor(parts: GuestMemoryParts, forkMaker: ForkMaker<RestoredGuest>) {
    super();
    this.#parts = parts;
    this.#forkMaker = forkMaker;
    this.map = parts.map;
    this.root = parts.root;
    this.space = parts.space;
    this.va = parts.va;
    this.ramVisibility = new RamVisibilityControl(parts.map, parts.store);
    this.deviceMapper = new DeviceMemoryMapper(parts.map, parts.root);
    const { map, store, va, maxAddress } = parts;
    this.#levels = new Map(VTLS.map((vtl) => [vtl, new VtlState(vtl, map, va, maxAddress)]));
    // Protections of the hole that was here are not those of this RAM.
    store.onPlaced = (block) => {
      for (const level of this.#levels.values()) level.forget(block);
    };
  }

  protected override get what(): string {
    return 'the guest memory manager';
  }

  /** Guest memory as the monitor reads and writes it, and as VTL0 sees it. */
  get guestMemory(): LocalGuestMemory {
    return this.client().memory;
  }

  /** Guest memory as one trust level sees it: for devices, which need not be told of changes. Default: VTL0. */
  client(vtl: Vtl = 0): GuestMemoryClient {
    this.checkOpen();
    return this.#level(vtl).client;
  }

  /** Leaves a trust level of its access to a range only `access` (`rwx` takes that back): in all its partitions, also
   *  those that are attached later, and in its `client`. Whole pages of what is there, at GPAs without the alias map,
   *  through which VTL2 is bound by it too. Throws EXECUTE_CONTROL where a hypervisor cannot do that; LEASED,
   *  NO_SLOTS. */
  setVtlProtection(vtl: Vtl, range: GpaRange, access: VtlAccess, options?: VtlProtectionOptions): void {
    this.checkOpen();
    const checked = checkedRange(range, 'the range');
    const left = validate.oneOf(VTL_ACCESSES, access, 'access');
    this.#level(vtl).protect(checked, left, validate.options(options, ['nearest'], 'setVtlProtection'));
  }

  /** The protections of a trust level, in order of GPA. */
  vtlProtections(vtl: Vtl): { gpa: Address; length: Address; access: VtlAccess }[] {
    this.checkOpen();
    return this.#level(vtl).protections.map(({ gpa, length, access }) => ({ gpa, length, access }));
  }

  #level(vtl: Vtl): VtlState {
    const level = this.#levels.get(vtl);
    if (level === undefined) throw validate.invalid(`vtl must be one of ${VTLS.join(', ')}`);
    return level;
  }

  /** A transaction that waits until the memory that it changes is not leased any more. See `MemoryMap.whenFree`. */
  whenFree<Result>(body: SyncBody<Result>, options?: WaitOptions): Promise<Result> {
    this.checkOpen();
    return this.map.whenFree(body, options);
  }

  /** Shows the guest's memory to a partition, as VTL0 or VTL2 sees it. Throws PartitionAttachError: it has then been
   *  given nothing. */
  attachPartition(partition: KvmPartition | Partition, options?: { readonly vtl?: Vtl }): AttachedPartition {
    this.checkOpen();
    const { vtl = 0 } = validate.options(options, ['vtl'], 'attachPartition');
    const attached = attach(this.#parts, partition, this.#level(vtl));
    this.ramVisibility.rehearse();
    return attached;
  }

  /** RAM that comes while the guest runs, below `maxAddress`. Throws MemoryBuildError, and what the map and its
   *  partitions refuse as every change does, and has then left nothing. */
  addRam(options: Omit<RamOptions, 'prefetch'>): AddedRam {
    this.checkOpen();
    const { store } = this.#parts;
    const [block] = store.add([checkedRam(options)]);
    return this.#added(block!);
  }

  /** Adds RAM as `addRam` does, and prefetches it: it is resident when the promise settles. */
  async addRamAsync(options: RamOptions, prefetch?: PrefetchOptions): Promise<AddedRam> {
    this.checkOpen();
    const { store } = this.#parts;
    const [block] = await store.addAsync([checkedRam(options)], checkedPrefetch(prefetch, 'addRamAsync'));
    return this.#added(block!);
  }

  #added(block: RamBlock): AddedRam {
    return new AddedRam(this.map, this.#parts.store, block, () => this.#remove(block));
  }

  /** Takes RAM from the guest, with its protections, and gives it back; also RAM that the guest was built with: ask the
   *  guest before. Throws LEASED. */
  removeRam(name: string): void {
    this.#remove(this.#blockNamed(name));
  }

  /** Removes RAM as `removeRam` does, at once; its pages are freed in the background. Settles when that is done.
   *  Rejects with what `removeRam` throws, and with IN_USE inside a transaction: nothing has happened then. */
  async removeRamAsync(name: string): Promise<void> {
    const block = this.#blockNamed(name);
    await removeLater(this.map, block, () => this.#remove(block));
  }

  #blockNamed(name: string): RamBlock {
    this.checkOpen();
    const { store } = this.#parts;
    const wanted = validate.text(name, 'name');
    const block = store.blocks.find((each) => each.name === wanted);
    if (block === undefined) {
      const known = store.blocks.map((each) => `"${each.name}"`).join(', ') || 'none';
      throw validate.invalid(`there is no RAM named "${wanted}"; there is ${known}`);
    }
    return block;
  }

  #remove(block: RamBlock): void {
    this.map.transaction(() => {
      this.#parts.store.remove(block);
      for (const level of this.#levels.values()) level.forget(block);
    });
  }

  /** Gives the machine back what a range of RAM holds, or a list of ranges, as a balloon does: it reads as zeroes
   *  afterwards, or as its file where that is copied on write. Whole pages of the backing. Returns the bytes freed.
   *  Throws LEASED, and NOT_DISCARDABLE where it is not all visible, writable RAM without protections, or is pinned;
   *  SYSTEM, where only what comes before has been given back. */
  discard(ranges: GpaRange | readonly GpaRange[]): Address {
    this.checkOpen();
    return discard(this.#discardable, checkedRanges(ranges));
  }

  /** Discards as `discard` does, in the background, part by part. Meanwhile the map may change, what is written there
   *  is lost or not, and nobody gets a new lease of the part. Rejects with LEASED, NOT_DISCARDABLE and SYSTEM as
   *  `discard` throws them, and with ABORTED and CLOSED. Where it has begun, what comes before has been given back: so
   *  if RAM is hidden, protected or leased meanwhile. */
  async discardAsync(ranges: GpaRange | readonly GpaRange[], options?: DiscardOptions): Promise<Address> {
    this.checkOpen();
    return discardAsync(this.#discardable, checkedRanges(ranges), checkedOptions(options));
  }

  /** Discards as `discardAsync` does, when none of the ranges is leased any more. Waits as `whenFree` does. Rejects
   *  with LEASED, NOT_DISCARDABLE, SYSTEM, ABORTED and CLOSED as `discardAsync` does. */
  async discardWhenFree(ranges: GpaRange | readonly GpaRange[], options?: WaitOptions): Promise<Address> {
    this.checkOpen();
    return discardWhenFree(this.#discardable, checkedRanges(ranges), options);
  }

  get #discardable(): Discardable {
    return { ...this.#parts, levels: [...this.#levels.values()] };
  }

  /** Tracker of the pages that are written from now on. Throws NO_DIRTY_TRACKING where the kernel cannot say, and
   *  INVALID_ARGUMENT where there are trackers of another method. */
  trackDirty(options?: DirtyOptions): DirtyTracker {
    this.checkOpen();
    return new DirtyTracker(this.map, this.va, askedMethods(options));
  }

  /** Writes a snapshot into a folder, or into a stream, which stays open: RAM, also what is hidden, what the guest sees
   *  of it and how, device regions, and the caller's `state`. The folder's snapshot before is replaced when this one is
   *  whole. Files are written in the background, and vCPUs, devices and leases are the caller's to hold until then:
   *  pause the partitions. Regions that were made by hand through `map` are not in it. What is written from then on is
   *  tracked (see `trackDirty`), so that a diff has just that: see `SnapshotOptions.base`. With `live`, the guest goes
   *  on; what is written is its memory at the moment at which it was held. Pages that a source or a stream has yet to
   *  give are waited for. Rejects with ABORTED, SYSTEM, STREAM_FAILED, and with what these fail with; CLOSED where RAM
   *  goes meanwhile; NO_DIRTY_TRACKING, DOWNTIME_EXCEEDED and RAM_CHANGED where it is live; SNAPSHOT_LAYOUT,
   *  SNAPSHOT_VERSION, SNAPSHOT_DAMAGED and SNAPSHOT_BASE where `base` is no snapshot that can be read. Nothing is left
   *  of it then, but what a stream has. */
  async snapshot(target: string | Writable, options?: SnapshotOptions): Promise<SnapshotLayout> {
    this.checkOpen();
    return snapshot(this.#subject, target, options);
  }

  /** Sends the guest through a stream, which stays open, to `GuestMemoryBuilder.migrateIn` at its other end: all of
   *  its memory while it runs, then, in rounds, what it has written meanwhile, until the rest can be sent within
   *  `maxDowntime`; then that, while the partitions are held. They stay held when the promise is fulfilled: the guest
   *  is the other side's, and what is here is the caller's to close. Devices that write are the caller's to hold, from
   *  the moment at which `state` is called. Throws as `snapshot` does, and SNAPSHOT_DAMAGED for answers that are none:
   *  the guest runs on here then, and the caller ends the stream, so that the other side knows. MIGRATION_UNSURE where
   *  the stream breaks at the very moment at which the other side is told to go on: the guest stays held. */
  async migrateOut(stream: Duplex, options?: MigrationOptions): Promise<Migration> {
    this.checkOpen();
    return migrateOut(this.#subject, stream, options);
  }

  /** Keeps a snapshot in memory, to make guests from; this one goes on on its own memory. The caller holds it until
   *  then, as for `snapshot`. Throws as `snapshot`, which may have a base, does. */
  async freeze(options?: FreezeOptions): Promise<Template<RestoredGuest>> {
    this.checkOpen();
    return freeze(this.#subject, options, this.#forkMaker);
  }

  get #subject(): SnapshotSubject {
    const { bases } = this;
    return { parts: this.#parts, levels: [...this.#levels.values()], devices: this.deviceMapper.regions, bases };
  }

  /** Tries again what is lost: see `MemoryMap.repair`. Returns what still is. */
  repair(): LostRange[] {
    this.checkOpen();
    return this.map.repair();
  }

  /** Facts of all there is now, as plain data. */
  inspect(): GuestMemoryFacts {
    this.checkOpen();
    return inspect(this.#parts, [...this.#levels.values()], this.deviceMapper.regions);
  }

  /** Server of what `inspect` says and of the viewer's page, which follows the map while it changes, for people and
   *  programs on this machine: see `InspectServer`. Rejects with SYSTEM where the port or the socket cannot be had. */
  async inspectServer(options?: InspectServerOptions): Promise<InspectServer> {
    this.checkOpen();
    const server = await inspectServer({ context: this.map.context, facts: () => this.inspect() }, options);
    this.#servers.add(server);
    if (this.closed) server.close();
    return server;
  }

  /** Text of what the guest sees. @internal */
  override text(most?: number): string[] {
    return [this.what, ...this.space.text(most)];
  }

  /** All RAM, to be kept when this manager is closed, and handed to the next one. Throws NOT_SHARED where some is
   *  private, unless `partial` says that what is shared will do. */
  sharedMemory(options?: { readonly partial?: boolean }): SharedMemoryBacking {
    this.checkOpen();
    const { partial = false } = validate.options(options, ['partial'], 'sharedMemory');
    const { blocks } = this.#parts.store;
    const shared = blocks.filter(({ object }) => object instanceof SharedMemory);
    if (!validate.flag(partial, 'partial') && shared.length < blocks.length) {
      const names = blocks.filter((block) => !shared.includes(block)).map(({ name }) => name);
      const message = `RAM ${names.map((name) => `"${name}"`).join(', ')} is private memory, which cannot be handed on; { partial: true } hands on the rest`;
      throw new MembackingError('NOT_SHARED', message, { details: { names } });
    }
    return SharedMemoryBacking.fromParts(
      shared.map(({ name, object }) => ({ name, fd: (object as SharedMemory).fd, size: object.size })),
    );
  }

  /** Memory of a block of RAM. Precondition: there is one of that name. @internal */
  ramObject(name: string): MemoryObject {
    return this.#parts.store.blocks.find((block) => block.name === name)!.object;
  }

  /** Closes it as `close` does, at once: nobody reaches the memory any more. Its pages are freed in the background.
   *  Settles when that is done, with what `close` throws. */
  async closeAsync(): Promise<void> {
    while (this.map.context.isInTurns) await this.map.context.settled();
    if (this.closed) return;
    const objects = this.#parts.store.blocks.map(({ object }) => addonObjectOf(object));
    await freeingLater(objects, nativeOf(this.map.context), () => this.close());
  }

  protected override release(): void {
    try {
      this.#endShares();
      this.map.close();
    } finally {
      if (this.map.closed) this.#end();
    }
  }

  /** Takes all memory from clients, unless the map is not to be closed now, as it says itself. */
  #endShares(): void {
    if (this.map.context.isBusy) return;
    for (const level of this.#levels.values()) level.sharing.end();
  }

  #end(): void {
    for (const server of this.#servers) server.close();
    this.bases.close();
    for (const level of this.#levels.values()) level.end();
    this.deviceMapper.close();
    this.#parts.store.close();
    this.setClosed(true);
  }
}

/** Carries out `remove`, which takes a block of RAM, and frees that in the background. Throws IN_USE. */
async function removeLater(map: MemoryMap, { name, object }: RamBlock, remove: () => void): Promise<void> {
  while (map.context.isInTurns) await map.context.settled();
  if (map.context.isBusy) {
    throw new MembackingError('IN_USE', `RAM "${name}" cannot be removed in the background inside a transaction`);
  }
  await freeingLater([addonObjectOf(object)], nativeOf(map.context), remove);
}

/** RAM that was added while the guest ran. Closing it takes it from the guest, with its protections, and gives it back:
 *  ask the guest before. */
export class AddedRam extends Handle {
  readonly #map: MemoryMap;
  readonly #store: RamStore;
  readonly #block: RamBlock;
  readonly #remove: () => void;

  /** @internal Made by GuestMemoryManager. */
  constructor(map: MemoryMap, store: RamStore, block: RamBlock, remove: () => void) {
    super();
    this.#map = map;
    this.#store = store;
    this.#block = block;
    this.#remove = remove;
  }

  protected override get what(): string {
    return `RAM "${this.name}"`;
  }

  /** Name of the RAM. */
  get name(): string {
    return this.#block.name;
  }

  /** Whether its RAM is gone, whoever took that away, or the manager closed. */
  override get closed(): boolean {
    return super.closed || this.#map.closed || !this.#store.has(this.#block);
  }

  /** Closes it: another name of `close`. */
  remove(): void {
    this.close();
  }

  /** Closes it as `close` does, at once; its pages are freed in the background. Settles when that is done. Rejects with
   *  what `close` throws, and with IN_USE inside a transaction: nothing has happened then. */
  async closeAsync(): Promise<void> {
    if (!this.closed) await removeLater(this.#map, this.#block, () => this.close());
  }

  protected override release(): void {
    this.#map.transaction(() => {
      this.#remove();
      this.#map.context.onUndo(() => this.setClosed(false));
    });
  }
}
