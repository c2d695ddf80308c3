// Backings of RAM: the memory that it is made of.

import { closeSync, openSync } from 'node:fs';
import { type MemoryObject, PrivateMemory, SharedMemory } from '../asked/object.ts';
import { type Address, formatHex } from '../core/address.ts';
import { wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import { withFileAt } from './adopted-memory.ts';
import { MemoryBuildError, refusing } from './errors.ts';
import { checkHugePages, checkPool } from './huge-pages.ts';
import type { RamPiece } from './layout.ts';
import type { LazyBacking } from './lazy-backing.ts';
import { SharedMemoryBacking } from './shared-backing.ts';

/** Backing of RAM: what its bytes are. Sizes are bytes; huge pages are of a size that the machine has a pool of. */
export type RamBacking =
  /** New memory that other VMs and processes can be given. `hugePageSize`: bytes of a hugetlb page, such as 2 MiB. */
  | { readonly kind: 'shared'; readonly hugePageSize?: number }
  /** New memory of this process alone. */
  | { readonly kind: 'private' }
  /** A file: memory that outlives the guest. `copyOnWrite`: the guest's writes stay out of it. */
  | { readonly kind: 'file'; readonly path: string; readonly copyOnWrite?: boolean }
  /** An open file: it is duplicated, and stays the caller's to close. `copyOnWrite`: as above; then `fileOffset`, whole
   *  pages, may say where in the file the RAM begins. */
  | { readonly kind: 'fd'; readonly fd: number; readonly copyOnWrite?: boolean; readonly fileOffset?: Address }
  /** Memory that this process has mapped itself, shared and for writing, from the start of a file on: `length` bytes
   *  from the host address `hva` on. The RAM is that file's, so that both see the same bytes; the mapping stays the
   *  caller's. Private memory is refused. */
  | { readonly kind: 'adopted'; readonly hva: Address; readonly length: Address }
  /** Memory that another manager had or has. `copyOnWrite`: that one sees nothing of what this guest writes. */
  | { readonly kind: 'handed-over'; readonly backing: SharedMemoryBacking; readonly copyOnWrite?: boolean };

/** A backing that a caller may name, or one of the package's own. */
export type AnyBacking = RamBacking | LazyBacking;

export const BACKING_KINDS = ['shared', 'private', 'file', 'fd', 'adopted', 'handed-over'] as const;

interface Wanted {
  readonly name: string;
  readonly bytes: Address;
  /** Pieces that the bytes fill, in order. */
  readonly pieces: readonly RamPiece[];
  /** Whether huge pages stay in their pool until they are touched. */
  readonly noReserve: boolean;
}

/** The memory of a backing; it is the caller's to close. Throws SYSTEM and MemoryBuildError. */
export function openBacking(backing: AnyBacking, wanted: Wanted): MemoryObject {
  const { name, bytes, pieces, noReserve } = wanted;
  switch (backing.kind) {
    case 'shared': {
      const { hugePageSize } = validate.options(backing, ['kind', 'hugePageSize'], 'backing');
      if (hugePageSize === undefined) return SharedMemory.create(bytes, { name });
      checkHugePages(hugePageSize, pieces);
      if (!noReserve) checkPool(hugePageSize, bytes);
      return SharedMemory.create(bytes, { name, hugePageSize, noReserve });
    }
    case 'private':
      validate.options(backing, ['kind'], 'backing');
      return PrivateMemory.create(bytes, { name });
    case 'file': {
      const { path, copyOnWrite = false } = validate.options(backing, ['kind', 'path', 'copyOnWrite'], 'backing');
      const fd = open(validate.text(path, 'path'), validate.flag(copyOnWrite, 'copyOnWrite') ? 'r' : 'r+');
      try {
        return fromFd(fd, wanted, copyOnWrite);
      } finally {
        closeSync(fd);
      }
    }
    case 'fd': {
      const known = ['kind', 'fd', 'copyOnWrite', 'fileOffset'] as const;
      const { fd, copyOnWrite = false, fileOffset = 0 } = validate.options(backing, known, 'backing');
      return fromFd(fd, wanted, validate.flag(copyOnWrite, 'copyOnWrite'), fileOffset);
    }
    case 'lazy':
      return backing.open(name, bytes);
    case 'adopted':
      return adopted(backing, wanted);
    case 'handed-over': {
      const given = validate.options(backing, ['kind', 'backing', 'copyOnWrite'], 'backing');
      const memory = validate.instance(SharedMemoryBacking, given.backing, 'backing').memory(name);
      if (memory.size !== bytes) throw otherSize('handed over', name, memory.size, bytes);
      return fromFd(memory.fd, wanted, validate.flag(given.copyOnWrite ?? false, 'copyOnWrite'));
    }
  }
}

function adopted(backing: RamBacking & { readonly kind: 'adopted' }, wanted: Wanted): MemoryObject {
  const { name, bytes } = wanted;
  const { hva, length } = validate.options(backing, ['kind', 'hva', 'length'], 'backing');
  const [start, size] = [validate.address(hva, 'hva'), validate.length(length, 'length')];
  if (size !== bytes) throw otherSize('adopted', name, size, bytes);
  return withFileAt(name, start, size, (fd) => fromFd(fd, wanted, false));
}

function otherSize(deed: string, name: string, size: Address, wanted: Address): MemoryBuildError {
  const message = `the memory "${name}" that is ${deed} has ${formatHex(size)} bytes, its RAM ${formatHex(wanted)}`;
  return new MemoryBuildError('BACKING_SIZE', message, { name, size, wanted });
}

function fromFd(fd: number, wanted: Wanted, copyOnWrite: boolean, fileOffset: Address = 0): MemoryObject {
  const { name, bytes, noReserve } = wanted;
  if (!copyOnWrite && fileOffset !== 0) {
    const message = `RAM "${name}" begins with its file, unless it is copied on write: leave fileOffset out`;
    throw new MemoryBuildError('OPTION_MISFIT', message, { name });
  }
  return refusing({ EINVAL: 'HUGE_PAGE_SIZE', EOPNOTSUPP: 'OPTION_MISFIT' }, `RAM "${name}"`, () =>
    copyOnWrite
      ? PrivateMemory.fromFile(fd, { name, size: bytes, fileOffset })
      : SharedMemory.fromFd(fd, { name, size: bytes, writable: true, noReserve }),
  );
}

function open(path: string, flags: string): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    throw wrapped(`"${path}" cannot be opened`, error);
  }
}
