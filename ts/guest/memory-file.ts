// Shared memory as a file of Node.js, which reads and writes it in the background and without a fault for each page.

import { type FileHandle, open } from 'node:fs/promises';
import type { MemoryObject } from '../asked/object.ts';

/** Path by which this process reaches the file of shared memory, as long as the memory is open. Throws CLOSED. */
export function pathOf(memory: MemoryObject): string {
  return `/proc/self/fd/${memory.ownFd!}`;
}

/** File of shared memory, with a position of its own, and open whatever becomes of the memory. Throws CLOSED; rejects
 *  with what open(2) says. */
export function openMemory(memory: MemoryObject, flags: 'r' | 'r+'): Promise<FileHandle> {
  return open(pathOf(memory), flags);
}
