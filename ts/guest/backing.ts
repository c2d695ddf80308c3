// What RAM is made of.

import { closeSync, openSync } from 'node:fs';
import type { Address } from '../address.ts';
import { type MemoryObject, PrivateMemory, SharedMemory } from '../object.ts';
import { wrapped } from '../system.ts';
import * as validate from '../validate.ts';
import { SharedMemoryBacking } from './shared-backing.ts';

export type RamBacking =
  /** New memory that other VMs and processes can be given. */
  | { readonly kind: 'shared'; readonly hugePageSize?: number }
  /** New memory of this process alone. */
  | { readonly kind: 'private' }
  /** A file: memory that outlives the guest. `copyOnWrite`: the guest's writes stay out of it. */
  | { readonly kind: 'file'; readonly path: string; readonly copyOnWrite?: boolean }
  | { readonly kind: 'fd'; readonly fd: number; readonly copyOnWrite?: boolean }
  /** Memory that another manager had or has. `copyOnWrite`: that one sees nothing of what this guest writes. */
  | { readonly kind: 'handed-over'; readonly backing: SharedMemoryBacking; readonly copyOnWrite?: boolean };

/** The memory object of a backing of `bytes` bytes, and whether it is to be closed with the guest. Throws SYSTEM. */
export function openBacking(backing: RamBacking, name: string, bytes: Address): { object: MemoryObject; isOwned: boolean } {
  switch (backing.kind) {
    case 'shared': {
      const { hugePageSize } = validate.options(backing, ['kind', 'hugePageSize'], 'backing');
      return { object: SharedMemory.create(bytes, hugePageSize === undefined ? { name } : { name, hugePageSize }), isOwned: true };
    }
    case 'private':
      validate.options(backing, ['kind'], 'backing');
      return { object: PrivateMemory.create(bytes, { name }), isOwned: true };
    case 'file': {
      const { path, copyOnWrite = false } = validate.options(backing, ['kind', 'path', 'copyOnWrite'], 'backing');
      const fd = open(validate.text(path, 'path'), validate.flag(copyOnWrite, 'copyOnWrite') ? 'r' : 'r+');
      try {
        return { object: fromFd(fd, name, bytes, copyOnWrite), isOwned: true };
      } finally {
        closeSync(fd);
      }
    }
    case 'fd': {
      const { fd, copyOnWrite = false } = validate.options(backing, ['kind', 'fd', 'copyOnWrite'], 'backing');
      return { object: fromFd(fd, name, bytes, validate.flag(copyOnWrite, 'copyOnWrite')), isOwned: true };
    }
    case 'handed-over': {
      const { backing: from, copyOnWrite = false } = validate.options(backing, ['kind', 'backing', 'copyOnWrite'], 'backing');
      const memory = validate.instance(SharedMemoryBacking, from, 'backing').memory(name);
      return validate.flag(copyOnWrite, 'copyOnWrite')
        ? { object: fromFd(memory.fd, name, bytes, true), isOwned: true }
        : { object: memory, isOwned: false };
    }
    default:
      throw validate.invalid('backing.kind must be one of shared, private, file, fd, handed-over');
  }
}

function fromFd(fd: number, name: string, bytes: Address, copyOnWrite: boolean): MemoryObject {
  return copyOnWrite
    ? PrivateMemory.fromFile(fd, { name, size: bytes })
    : SharedMemory.fromFd(fd, { name, size: bytes, writable: true });
}

function open(path: string, flags: string): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    throw wrapped(`"${path}" cannot be opened`, error);
  }
}
