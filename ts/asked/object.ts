// Memory objects: memory that regions map.

import { freeingLater } from '../apply/freeing.ts';
import { type Address, difference, formatHex, sum, toAddress } from '../core/address.ts';
import { whenCollected } from '../core/collected.ts';
import { MembackingError } from '../core/errors.ts';
import { Handle } from '../core/handle.ts';
import type { ObjectKind } from '../core/kinds.ts';
import { type MemoryObject as AddonObject, native } from '../core/native.ts';
import { describedFile, fileSize, obtainedFromSystem, systemError, wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import { type DataRange, united } from './data-range.ts';
import { type FilePart, type Pager, partsForAddon } from './pager.ts';

/** A user of an object, told when its handle is closed: mappings that are left keep its contents. */
export interface ObjectUser {
  objectClosed(object: MemoryObject): void;
}

/** The addon's handle of an object. Throws CLOSED. @internal */
export let addonObjectOf: (object: MemoryObject) => AddonObject;

/** Memory that can be mapped into regions: shared (a file) or private (exists only as its mapping). */
export abstract class MemoryObject extends Handle {
  /** Name for people: in messages, in /proc. */
  readonly name: string;
  /** Bytes. */
  readonly size: Address;
  /** Whether it may be mapped writable. */
  readonly writable: boolean;
  /** Kind of the object: see `ObjectKind`. */
  abstract readonly kind: ObjectKind;
  /** Bytes of its pages: where a part of one is seen, all of it is mapped. @internal */
  readonly granularity: number;
  /** Number of the pager's block that has its pages; undefined where no pager brings them. @internal */
  readonly block: number | undefined;
  #isLasting: boolean;
  readonly #addon: AddonObject;
  /** An object does not keep the maps that know it: those that were dropped are told nothing. */
  readonly #users = new Set<WeakRef<ObjectUser>>();
  readonly #stopWatching: () => void;

  static {
    addonObjectOf = (object) => {
      object.checkOpen();
      return object.#addon;
    };
  }

  protected constructor(name: string, addon: AddonObject) {
    super();
    validate.madeBy('SharedMemory.create and its like', addon);
    this.name = name;
    this.#addon = addon;
    this.size = toAddress(addon.size);
    this.writable = addon.writable;
    // Asked now: it may be closed by its owner and stay mapped.
    this.granularity = addon.granularity;
    this.block = addon.block;
    this.#isLasting = this.block === undefined && !addon.isShrinkable;
    this.#stopWatching = whenCollected(this, () => addon.close());
  }

  protected override get what(): string {
    return `memory object "${this.name}"`;
  }

  /** Whether nobody but the map can take its memory away; what is sealed later does not count. @internal */
  get isLasting(): boolean {
    // It is when a pager has brought all of it.
    if (!this.#isLasting && this.block !== undefined && !this.closed) this.#isLasting = !this.#addon.isShrinkable;
    return this.#isLasting;
  }

  /** @internal */
  override text(): string[] {
    return [`${this.what}: ${this.kind}, ${formatHex(this.size)} bytes${this.writable ? '' : ', read-only'}`];
  }

  /** Bytes of memory or disk space in use; undefined for private memory. */
  get allocatedBytes(): Address | undefined {
    this.checkOpen();
    const bytes = this.#addon.allocatedBytes;
    return bytes === undefined ? undefined : toAddress(bytes);
  }

  /** Copies the bytes from `offset` on, wherever they are shown, and whether or not a guest may read them. Throws
   *  CLOSED, INVALID_ARGUMENT outside of the memory, GUEST_ACCESS where a byte is not there (its file has become
   *  shorter, say): those before `details.offset` are copied; SYSTEM. */
  read(offset: Address, into: Uint8Array): void {
    this.#copied('read', offset, into);
  }

  /** Writes bytes from `offset` on, wherever they are shown, and whether or not a guest may write them: into a ROM,
   *  say. Throws as `read`, and READONLY_OBJECT where `writable` is false. */
  write(offset: Address, from: Uint8Array): void {
    if (!this.writable) throw new MembackingError('READONLY_OBJECT', `${this.what} is read-only`);
    this.#copied('write', offset, from);
  }

  #copied(action: 'read' | 'write', offset: Address, bytes: Uint8Array): void {
    const addon = addonObjectOf(this);
    const start = validate.address(offset, 'offset');
    const length = validate.lengthOfBytes(validate.bytes(bytes, action === 'read' ? 'into' : 'from'));
    if (sum(start, length) > this.size) {
      throw validate.invalid(`${length} bytes at ${formatHex(start)} are not inside ${this.text()[0]}`);
    }
    const done = systemError(`${action} of ${this.what}`, () => addon[action](start, bytes));
    if (done === length) return;
    const missing = sum(start, done);
    const page = toAddress(BigInt(missing) - (BigInt(missing) % BigInt(this.granularity)));
    const message = `${action} of ${this.what}: ${formatHex(missing)} is not there: ${addon.whyMissing(page)}`;
    throw new MembackingError('GUEST_ACCESS', message, { details: { offset: missing } });
  }

  /** The parts that may hold something else than zeroes, in order, in whole pages of 4 KiB: what nobody has touched is
   *  in none. Asking, and reading these parts, makes nothing resident that was not there. All of it where its file does
   *  not say (huge pages, devices). Throws CLOSED, SYSTEM. */
  dataRanges(): DataRange[] {
    return united(this.fileRanges(), this.ownRanges());
  }

  /** The parts of `dataRanges` that its file has, or that a pager has yet to bring. Throws CLOSED, SYSTEM. @internal */
  fileRanges(): DataRange[] {
    return systemError(`data of ${this.what}`, () => rangesOf(addonObjectOf(this).fileData()));
  }

  /** The parts of private memory that are its own and not its file's, in order, in whole pages of 4 KiB: what was
   *  written, and perhaps more. Of shared memory, none. Throws CLOSED, SYSTEM. */
  ownRanges(): DataRange[] {
    return systemError(`data of ${this.what}`, () => rangesOf(addonObjectOf(this).ownPages()));
  }

  /** Brings pages that a pager has, at once. Throws CLOSED, SYSTEM. @internal */
  fetchNow(offset: Address, length: Address): void {
    systemError(`pages of ${this.what}`, () => addonObjectOf(this).fetchNow(offset, length));
  }

  /** Descriptor of shared memory, for this package alone: nobody else gets it, so that the memory counts as open
   *  nowhere else. Undefined for private memory. Throws CLOSED. @internal */
  get ownFd(): number | undefined {
    return addonObjectOf(this).fd;
  }

  /** Reason why touching the page at `offset` has failed, in words. @internal */
  whyMissing(offset: Address): string {
    return this.closed ? 'its file is closed' : this.#addon.whyMissing(offset);
  }

  /** Whether others than the code of one map may write to it: another map does know it. @internal */
  mayBeWrittenElsewhere(): boolean {
    return [...this.#users].filter((user) => user.deref() !== undefined).length > 1;
  }

  /** @internal */
  addUser(user: WeakRef<ObjectUser>): void {
    for (const other of this.#users) if (other.deref() === undefined) this.#users.delete(other);
    this.#users.add(user);
  }
  /** @internal */
  removeUser(user: WeakRef<ObjectUser>): void {
    this.#users.delete(user);
  }

  /** Closes it, and frees what nobody else has of it in the background: settles when that is done. What is still
   *  mapped goes with its mapping. */
  async closeAsync(): Promise<void> {
    if (!this.closed) await freeingLater([this.#addon], undefined, () => this.close());
  }

  protected override release(): void {
    for (const user of [...this.#users]) user.deref()?.objectClosed(this);
    this.#stopWatching();
    this.#addon.close();
  }
}

function rangesOf(pairs: BigUint64Array): DataRange[] {
  return Array.from({ length: pairs.length / 2 }, (_, i) => ({
    offset: toAddress(pairs[2 * i]!),
    length: toAddress(pairs[2 * i + 1]!),
  }));
}

/** Options of `SharedMemory.create`. */
export interface SharedMemoryOptions {
  /** Name for people: in messages, in /proc. Default "memory". */
  readonly name?: string;
  /** Bytes of a hugetlb page, such as 2 MiB; without it, ordinary pages. */
  readonly hugePageSize?: number;
  /** Whether huge pages are left in the pool until they are touched: then one may be missing. Default false. */
  readonly noReserve?: boolean;
}

/** Options of `SharedMemory.fromFd`. */
export interface FileMemoryOptions {
  /** Name for people: in messages. Default: the descriptor's number. */
  readonly name?: string;
  /** Bytes that may be mapped from the file's start. Default: the whole file. */
  readonly size?: Address;
  /** Whether it may be mapped writable; default true: the descriptor must then be open for writing. */
  readonly writable?: boolean;
  /** Whether `size` may be more than the file has: what is behind its end is not there until it grows. Default
   *  false. */
  readonly mayGrow?: boolean;
  /** Whether huge pages are left in the pool until they are touched: then one may be missing. Default false. */
  readonly noReserve?: boolean;
}

/** Options of `PrivateMemory.fromFile`. */
export interface FileCopyOptions {
  /** Name for people: in messages. Default: the descriptor's number. */
  readonly name?: string;
  /** Bytes. Default: from `fileOffset` to the end of the file. */
  readonly size?: Address;
  /** Offset in the file of the image's first byte, a multiple of the page size. Default 0. */
  readonly fileOffset?: Address;
}

/** A file, or memory that a driver gives (a VFIO device's BAR, a dma-buf): any number of places, guests and processes
 *  may see it. */
export class SharedMemory extends MemoryObject {
  /** Kind: `shared` for a file, `driver` for memory that a driver gives. */
  override readonly kind: 'shared' | 'driver';
  /** Whether others have a descriptor of it, as far as this object knows. */
  #isOpenElsewhere: boolean;

  private constructor(name: string, addon: AddonObject, isOpenElsewhere: boolean) {
    super(name, addon);
    this.#isOpenElsewhere = isOpenElsewhere;
    this.kind = addon.kind === 'driver' ? 'driver' : 'shared';
  }

  /** New memory of `size` bytes, zeroed; its size never changes. Throws SYSTEM (ENOMEM, EMFILE). */
  static create(size: Address, options?: SharedMemoryOptions): SharedMemory {
    const {
      name = 'memory',
      hugePageSize,
      noReserve = false,
    } = validate.options(options, ['name', 'hugePageSize', 'noReserve'], 'SharedMemory.create');
    const bytes = validate.length(size, 'size');
    const checkedName = validate.text(name, 'name');
    const pageSize = hugePageSize === undefined ? 0 : validate.integer(hugePageSize, 'hugePageSize', 1, 2 ** 40);
    const isReserved = !validate.flag(noReserve, 'noReserve');
    return new SharedMemory(
      checkedName,
      obtainedFromSystem(`memory of ${bytes} bytes cannot be had`, () =>
        native().MemoryObject.memfd(checkedName, bytes, pageSize, isReserved),
      ),
      false,
    );
  }

  /** A file of the caller's, or memory that a driver gives: the descriptor is duplicated, and stays the caller's to
   *  close. Throws SYSTEM: EACCES (not open for what is asked), ENODEV (no such thing can be mapped), ENXIO (the file
   *  is shorter than `size`). */
  static fromFd(fd: number, options?: FileMemoryOptions): SharedMemory {
    const known = ['name', 'size', 'writable', 'mayGrow', 'noReserve'] as const;
    const checkedFd = validate.fd(fd, 'fd');
    const given = validate.options(options, known, 'SharedMemory.fromFd');
    const { name = `fd ${checkedFd}`, size, writable = true, mayGrow = false, noReserve = false } = given;
    const checkedName = validate.text(name, 'name');
    const mayWrite = validate.flag(writable, 'writable');
    return new SharedMemory(
      checkedName,
      obtainedFromSystem(unmappable(checkedFd), () =>
        native().MemoryObject.fromFd(
          checkedFd,
          size === undefined ? fileSize(checkedFd) : validate.length(size, 'size'),
          mayWrite,
          validate.flag(mayGrow, 'mayGrow'),
          !validate.flag(noReserve, 'noReserve'),
        ),
      ),
      true,
    );
  }

  /** Descriptor of the file, to hand to another process; it is this object's to close. */
  get fd(): number {
    this.#isOpenElsewhere = true;
    return addonObjectOf(this).fd!;
  }

  /** @internal */
  override mayBeWrittenElsewhere(): boolean {
    return this.#isOpenElsewhere || super.mayBeWrittenElsewhere();
  }
}

/** Origin of memory that a pager brings. */
interface PagedFrom {
  readonly name: string;
  /** Descriptors. */
  readonly files: readonly number[];
  readonly parts: readonly FilePart[];
}

/** Memory without a file: seen at one place of one VA space at a time, kept while it is hidden. */
export class PrivateMemory extends MemoryObject {
  /** Kind: always `private`. */
  override readonly kind = 'private';
  /** Pager that brings its pages. */
  #pager: Pager | undefined;

  /** New memory of `size` bytes, zeroed. Throws SYSTEM. */
  static create(size: Address, options?: { readonly name?: string }): PrivateMemory {
    const { name = 'private memory' } = validate.options(options, ['name'], 'PrivateMemory.create');
    const bytes = validate.length(size, 'size');
    const checkedName = validate.text(name, 'name');
    return new PrivateMemory(
      checkedName,
      obtainedFromSystem(`memory of ${bytes} bytes cannot be had`, () =>
        native().MemoryObject.privateMemory(bytes, checkedName),
      ),
    );
  }

  /** Memory whose pages a pager brings when somebody touches them: those of `parts` from files, which are duplicated,
   *  others are zeroes. Throws SYSTEM. @internal */
  static paged(pager: Pager, size: Address, { name, files, parts }: PagedFrom): PrivateMemory {
    const addon = obtainedFromSystem(`memory of ${size} bytes cannot be had`, () =>
      native().MemoryObject.lazyMemory(pager.addon, size, name, files, partsForAddon(parts)),
    );
    const memory = new PrivateMemory(name, addon);
    pager.name(memory.block!, name);
    memory.#pager = pager;
    return memory;
  }

  /** Whether a source gives its pages, which reading does not wait for. @internal */
  get hasSource(): boolean {
    return this.#pager?.hasSource === true;
  }

  /** Has the source, if there is one, give absent pages. Rejects with what it throws. @internal */
  async ask(offset: number, length: number): Promise<void> {
    for (let done = 0; this.hasSource && done < length; ) {
      done += await this.#pager!.give(this.block!, offset + done, length - done);
    }
  }

  /** The pages that a pager has not brought, in order. Throws CLOSED, SYSTEM. @internal */
  absentRanges(): DataRange[] {
    return this.block === undefined ? [] : this.fileRanges();
  }

  /** Makes zeroes of what a pager has not brought of a range. Throws CLOSED. @internal */
  drop(offset: Address, length: Address): void {
    addonObjectOf(this).drop(offset, length);
  }

  /** Brings pages that a pager has, in the background. Rejects with CLOSED, SYSTEM. @internal */
  async fetch(offset: Address, length: Address): Promise<void> {
    try {
      await addonObjectOf(this).fetch(offset, length);
    } catch (error) {
      throw wrapped(`pages of ${this.what}`, error);
    }
  }

  /** A copy-on-write image of a file, or of a part of it, in whole pages: writes stay here, the file stays as it is.
   *  Throws SYSTEM. */
  static fromFile(fd: number, options?: FileCopyOptions): PrivateMemory {
    const checkedFd = validate.fd(fd, 'fd');
    const given = validate.options(options, ['name', 'size', 'fileOffset'], 'PrivateMemory.fromFile');
    const { name = `copy of fd ${checkedFd}`, size, fileOffset = 0 } = given;
    const checkedName = validate.text(name, 'name');
    const from = validate.address(fileOffset, 'fileOffset');
    return new PrivateMemory(
      checkedName,
      obtainedFromSystem(unmappable(checkedFd), () =>
        native().MemoryObject.privateFile(
          checkedFd,
          size === undefined ? bytesBehind(from, fileSize(checkedFd)) : validate.length(size, 'size'),
          from,
        ),
      ),
    );
  }
}

function bytesBehind(offset: Address, size: Address): Address {
  if (offset <= size) return difference(size, offset);
  throw validate.invalid(`fileOffset ${formatHex(offset)} is past the end of the file, of ${formatHex(size)} bytes`);
}

function unmappable(fd: number): () => string {
  return () => `${describedFile(fd)} cannot be mapped`;
}
