// The files that device regions show: one object for each file and access, however often it is mapped, and a descriptor
// for as long as some page of it is, or a `DeviceFile` holds it. A file that is open for writing is read through the
// same object, so that a page that becomes read-only stays the page that it is.

import { fstatSync } from 'node:fs';
import { type MemoryObject, SharedMemory } from '../asked/object.ts';
import { isPageAligned } from '../core/address.ts';
import { Handle } from '../core/handle.ts';
import { native } from '../core/native.ts';
import { systemError } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';

/** Bytes. */
export const MAX_FILE = 2 ** 52;

/** Keys of a file among those that are open: as it is when it may be written, and when not. */
interface Keys {
  readonly writable: string;
  readonly readable: string;
}

/** File that a descriptor was open on when it was last looked at. */
interface Seen {
  readonly file: SharedMemory;
  /** Descriptor of the file's own. */
  readonly fd: number;
  readonly keys: Keys;
}

/** Entry of a file that is open. */
interface Opened {
  readonly key: string;
  /** Descriptor by which it was last found; it may be another file's meanwhile. */
  fd: number;
}

export class FileTable {
  readonly #map: MemoryMap;
  readonly #files = new Map<string, SharedMemory>();
  readonly #opened = new Map<MemoryObject, Opened>();
  /** Files by descriptors, one of each: to look at a descriptor again is one short call. */
  readonly #seen = new Map<number, Seen>();
  #drivers = 0;
  /** Files that are open as handles, by the object of each. */
  readonly #handles = new Map<MemoryObject, Set<DeviceFile>>();

  constructor(map: MemoryMap) {
    this.#map = map;
    map.context.objects.onUnmapped = (object) => this.#closeUnused(object);
  }

  /** The object of a descriptor's file; a mapping of it may reach to byte `end`, even where the file ends before.
   *  Inside the transaction that maps it. Throws SYSTEM. */
  open(fd: number, end: number, writable: boolean): SharedMemory {
    validate.fd(fd, 'fd');
    const seen = this.#seen.get(fd);
    const isAsBefore =
      seen !== undefined &&
      !seen.file.closed &&
      (seen.file.writable || !writable) &&
      native().MemoryObject.isSameOpenFile(fd, seen.fd);
    return (isAsBefore ? this.#find(seen.keys, end, writable) : undefined) ?? this.#look(fd, end, writable);
  }

  /** The object of a file, if it is open and reaches so far. */
  #find(keys: Keys, end: number, writable: boolean): SharedMemory | undefined {
    const file = this.#files.get(keys.writable);
    if (file !== undefined && file.size >= end) return file;
    const other = writable ? undefined : this.#files.get(keys.readable);
    return other !== undefined && other.size >= end ? other : undefined;
  }

  /** Finds out of what a descriptor is, and opens that unless it is open. */
  #look(fd: number, end: number, writable: boolean): SharedMemory {
    const facts = systemError(`descriptor ${fd} cannot be mapped`, () => {
      native().MemoryObject.checkAccess(fd, writable);
      return fstatSync(fd, { bigint: true });
    });
    const { dev, ino, size } = facts;
    // Descriptors of drivers show different memory under one inode.
    const own = facts.isFile() || facts.isBlockDevice() ? '' : `:${this.#drivers++}`;
    const keys = { writable: `${dev}:${ino}:w${own}`, readable: `${dev}:${ino}:r${own}` };
    let file = this.#find(keys, end, writable);
    if (file === undefined) {
      file = openFile(fd, `file ${ino}`, size, end, writable);
      this.#enter(file, writable ? keys.writable : keys.readable, fd);
    }
    this.#note(fd, { file, fd: file.ownFd!, keys });
    return file;
  }

  #enter(file: SharedMemory, key: string, fd: number): void {
    this.#map.context.onUndo(() => this.#close(file));
    this.#files.set(key, file);
    this.#opened.set(file, { key, fd });
  }

  #note(fd: number, seen: Seen): void {
    const opened = this.#opened.get(seen.file)!;
    this.#seen.delete(opened.fd);
    opened.fd = fd;
    this.#seen.set(fd, seen);
  }

  has(object: MemoryObject): boolean {
    return this.#opened.has(object);
  }

  /** Opens a descriptor's file for as long as the handle is open. Throws SYSTEM. */
  openHandle(fd: number, writable: boolean): DeviceFile {
    return this.#map.transaction(() => {
      const memory = this.open(fd, 1, writable);
      const file = new DeviceFile(this, memory);
      this.#map.context.onUndo(() => {
        this.#drop(file, memory);
        file.setClosed(true);
      });
      this.#hold(file, memory);
      return file;
    });
  }

  /** The object of a handle's file; a mapping of it may reach to byte `end`. Inside the transaction that maps it.
   *  Throws CLOSED, and INVALID_ARGUMENT for a file of another manager. */
  objectOf(file: DeviceFile, end: number): SharedMemory {
    const { memory, writable } = file;
    if (this.#handles.get(memory)?.has(file) !== true) {
      throw validate.invalid('the file must be one that this deviceMapper has opened');
    }
    return memory.size >= end ? memory : this.open(memory.fd, end, writable);
  }

  /** Ends a handle; its object goes when it is mapped nowhere. */
  closeHandle(file: DeviceFile): void {
    const { memory } = file;
    this.#map.transaction(() => {
      this.#map.context.onUndo(() => {
        this.#hold(file, memory);
        file.setClosed(false);
      });
      this.#drop(file, memory);
      this.#map.context.onDone(() => this.#closeUnused(memory));
    });
  }

  #hold(file: DeviceFile, memory: SharedMemory): void {
    const handles = this.#handles.get(memory) ?? new Set();
    this.#handles.set(memory, handles.add(file));
  }

  #drop(file: DeviceFile, memory: SharedMemory): void {
    const handles = this.#handles.get(memory);
    handles?.delete(file);
    if (handles?.size === 0) this.#handles.delete(memory);
  }

  /** Closes an object that is mapped nowhere and that no handle holds. */
  #closeUnused(object: MemoryObject): void {
    const isUsed = this.#handles.has(object) || this.#map.context.objects.isMapped(object);
    if (!isUsed) this.#close(object);
  }

  /** Closes all objects. Precondition: the map is closed. */
  close(): void {
    for (const object of this.#opened.keys()) this.#close(object);
  }

  /** Closes an object, if it is open. */
  #close(object: MemoryObject): void {
    const opened = this.#opened.get(object);
    if (opened === undefined) return;
    object.close();
    this.#opened.delete(object);
    this.#seen.delete(opened.fd);
    if (this.#files.get(opened.key) === object) this.#files.delete(opened.key);
  }
}

/** A file that device regions show, opened once: who maps parts of it again and again asks the system for the mappings
 *  alone. Closing it leaves what is mapped. */
export class DeviceFile extends Handle {
  readonly #files: FileTable;
  readonly #memory: SharedMemory;

  /** @internal Made by DeviceMemoryMapper. */
  constructor(files: FileTable, memory: SharedMemory) {
    super();
    validate.madeBy('DeviceMemoryMapper.openFile', memory);
    this.#files = files;
    this.#memory = memory;
  }

  protected override get what(): string {
    return `the device ${this.#memory.name}`;
  }

  /** Whether it, or the manager, is closed. */
  override get closed(): boolean {
    return super.closed || this.#memory.closed;
  }

  /** Whether what is mapped of it may be writable. */
  get writable(): boolean {
    return this.#memory.writable;
  }

  /** The object that shows it. Throws CLOSED. @internal */
  get memory(): SharedMemory {
    this.checkOpen();
    return this.#memory;
  }

  protected override release(): void {
    this.#files.closeHandle(this);
  }
}

/** The file as it is, if that cannot change; else as large as files can be. */
function openFile(fd: number, name: string, size: bigint, end: number, writable: boolean): SharedMemory {
  if (isPageAligned(size) && size >= BigInt(end)) {
    const file = SharedMemory.fromFd(fd, { name, size, writable });
    if (file.isLasting) return file;
    file.close();
  }
  return SharedMemory.fromFd(fd, { name, size: MAX_FILE, writable, mayGrow: true });
}
