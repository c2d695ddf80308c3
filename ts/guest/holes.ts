// Zeroes for the parts of a device region in which nothing is mapped: a small file, shown again and again. Reading
// makes the system provide its pages, so it bounds what a guest can make of that: 2 MiB, or a 1024th of a larger
// region's size above 2 GiB.

import { type MemoryObject, SharedMemory } from '../asked/object.ts';
import type { Region } from '../asked/region.ts';
import type { MemoryMap } from '../map/map.ts';

const LEAST_TILE = 2 * 1024 * 1024;
const MOST_TILES = 1024;

export class Zeroes {
  readonly #tile: SharedMemory;

  /** For a region of `length` bytes. Throws SYSTEM. */
  constructor(length: number, name: string) {
    let size = Math.min(LEAST_TILE, length);
    while (size * MOST_TILES < length) size *= 2;
    this.#tile = SharedMemory.create(size, { name: `${name} holes` });
  }

  is(object: MemoryObject): boolean {
    return object === this.#tile;
  }

  /** Shows zeroes in a range. */
  fill(map: MemoryMap, region: Region, offset: number, length: number): void {
    const tile = Number(this.#tile.size);
    map.transaction(() => {
      for (let at = offset; at < offset + length; ) {
        const objectOffset = at % tile;
        const bytes = Math.min(tile - objectOffset, offset + length - at);
        region.map({ offset: at, object: this.#tile, objectOffset, length: bytes, writable: false });
        at += bytes;
      }
    });
  }

  close(): void {
    this.#tile.close();
  }
}
