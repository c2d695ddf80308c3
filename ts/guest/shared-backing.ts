// RAM that is handed on: to a new manager of the same process, or by descriptors to another one.

import { SharedMemory } from '../asked/object.ts';
import type { Address } from '../core/address.ts';
import { Handle } from '../core/handle.ts';
import * as validate from '../core/validate.ts';
import { MemoryBuildError } from './errors.ts';

/** One memory of a backing: its name in the manager, the descriptor to pass on, its size in bytes. */
export interface SharedMemoryPart {
  /** Name of the RAM that it backs. */
  readonly name: string;
  /** Descriptor: in this process, the backing's to close. */
  readonly fd: number;
  /** Bytes. */
  readonly size: Address;
}

/** The shared RAM of a manager, kept beyond its end: the bytes stay as long as this handle, or a manager, is open. */
export class SharedMemoryBacking extends Handle {
  readonly #memories: ReadonlyMap<string, SharedMemory>;

  private constructor(memories: ReadonlyMap<string, SharedMemory>) {
    super();
    this.#memories = memories;
  }

  /** Makes a backing of descriptors of another process; they are duplicated. Throws SYSTEM. */
  static fromParts(parts: readonly SharedMemoryPart[]): SharedMemoryBacking {
    if (!Array.isArray(parts)) throw validate.invalid('the parts must be a list');
    const memories = new Map<string, SharedMemory>();
    try {
      for (const part of parts) {
        const { name, fd, size } = validate.options(part, ['name', 'fd', 'size'], 'a part');
        if (memories.has(validate.text(name, 'name'))) throw validate.invalid(`two parts are named "${name}"`);
        memories.set(name, SharedMemory.fromFd(fd, { name, size, writable: true }));
      }
      return new SharedMemoryBacking(memories);
    } catch (error) {
      for (const memory of memories.values()) memory.close();
      throw error;
    }
  }

  protected override get what(): string {
    return 'the shared memory backing';
  }

  /** Descriptors and ranges to pass to another process. The descriptors stay this handle's to close. */
  parts(): SharedMemoryPart[] {
    this.checkOpen();
    return [...this.#memories].map(([name, memory]) => ({ name, fd: memory.fd, size: memory.size }));
  }

  /** @internal Throws MISSING_BACKING. */
  memory(name: string): SharedMemory {
    this.checkOpen();
    const memory = this.#memories.get(name);
    if (memory !== undefined) return memory;
    const known = [...this.#memories.keys()].map((each) => `"${each}"`).join(', ') || 'none';
    throw new MemoryBuildError('MISSING_BACKING', `the backing has no memory "${name}"; it has ${known}`);
  }

  protected override release(): void {
    for (const memory of this.#memories.values()) memory.close();
  }
}
