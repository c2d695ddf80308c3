// The files that device regions show: one object for each file and access, however often it is mapped, and a descriptor
// for as long as some page of it is. A file that is open for writing is read through the same object, so that a page that
// becomes read-only stays the page that it is.

import { fstatSync } from 'node:fs';
import * as abi from '../../assembly/abi.ts';
import { type MemoryObject, SharedMemory } from '../asked/object.ts';
import { native } from '../core/native.ts';
import { systemError } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';

/** Bytes. */
export const MAX_FILE = 2 ** 52;

export class FileTable {
  readonly #map: MemoryMap;
  readonly #files = new Map<string, SharedMemory>();
  readonly #keys = new Map<MemoryObject, string>();

  constructor(map: MemoryMap) {
    this.#map = map;
  }

  /** The object of a descriptor's file; a mapping of it may reach to byte `end`, even where the file ends before. Inside
   *  the transaction that maps it. Throws SYSTEM. */
  open(fd: number, end: number, writable: boolean): SharedMemory {
    validate.integer(fd, 'fd', 0, 0x7fffffff);
    const { dev, ino, size } = systemError(`descriptor ${fd} cannot be mapped`, () => {
      native().Backing.checkAccess(fd, writable);
      return fstatSync(fd, { bigint: true });
    });
    const keyOf = (isWritable: boolean) => `${dev}:${ino}:${isWritable}`;
    const key = keyOf(writable);
    for (const known of [this.#files.get(keyOf(true)), this.#files.get(key)]) {
      if (known !== undefined && known.size >= end) return known;
    }
    const file = openFile(fd, `file ${ino}`, size, end, writable);
    this.#files.set(key, file);
    this.#keys.set(file, key);
    this.#map.context.onUndo(() => this.#close(file, key));
    return file;
  }

  has(object: MemoryObject): boolean {
    return this.#keys.has(object);
  }

  /** When the open transaction has ended well, those of them are closed that are mapped nowhere any more. */
  letGo(objects: Iterable<MemoryObject>): void {
    this.#map.context.onDone(() => {
      for (const object of objects) {
        const key = this.#keys.get(object);
        if (key !== undefined && !this.#map.context.objects.isMapped(object)) this.#close(object, key);
      }
    });
  }

  /** Precondition: the map is closed. */
  close(): void {
    for (const [object, key] of this.#keys) this.#close(object, key);
  }

  #close(object: MemoryObject, key: string): void {
    object.close();
    this.#keys.delete(object);
    if (this.#files.get(key) === object) this.#files.delete(key);
  }
}

/** The file as it is, if that cannot change; else as large as files can be. */
function openFile(fd: number, name: string, size: bigint, end: number, writable: boolean): SharedMemory {
  const page = BigInt(abi.PAGE_SIZE);
  if (size % page === 0n && size >= BigInt(end)) {
    const file = SharedMemory.fromFd(fd, { name, size, writable });
    if (file.isLasting) return file;
    file.close();
  }
  return SharedMemory.fromFd(fd, { name, size: MAX_FILE, writable, mayGrow: true });
}
