// Writers of RAM that nobody sees yet: with as few faults as the memory's kind allows.

import type { FileHandle } from 'node:fs/promises';
import type { MemoryObject } from '../asked/object.ts';
import { writeAll } from '../snapshot/memory-writer.ts';
import { PAGE } from '../snapshot/page-list.ts';
import { openMemory } from './memory-file.ts';

/** Writer of one block of RAM. */
export class RamWriter {
  readonly #memory: MemoryObject;
  readonly #file: FileHandle | undefined;

  private constructor(memory: MemoryObject, file: FileHandle | undefined) {
    this.#memory = memory;
    this.#file = file;
  }

  static async open(memory: MemoryObject): Promise<RamWriter> {
    return new RamWriter(memory, await openFile(memory));
  }

  /** Writes bytes inside of the RAM. Rejects with SYSTEM. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (this.#file === undefined) this.#memory.write(offset, bytes);
    else await writeAll(this.#file, bytes, offset);
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }
}

/** File of new shared RAM: written, it gets its pages without a fault for each. None of huge pages, which are not
 *  written so. */
async function openFile(memory: MemoryObject): Promise<FileHandle | undefined> {
  if (memory.kind !== 'shared' || memory.granularity > PAGE) return undefined;
  return openMemory(memory, 'r+').catch(() => undefined);
}
