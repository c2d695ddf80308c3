// Zeroes for the parts of a device region in which nothing is mapped: a small file, shown again and again. Reading
// makes the system provide its pages, so it bounds what a guest can make of that: 2 MiB, or a 1024th of a larger
// region's size above 2 GiB.

import { SharedMemory } from '../asked/object.ts';
import type { Region } from '../asked/region.ts';
import type { MemoryMap } from '../map/map.ts';

const LEAST_TILE = 2 * 1024 * 1024;
const MOST_TILES = 1024;

export class Zeroes {
  readonly #name: string;
  /** Memory of zeroes in order of size; the largest is what is shown from now on. */
  readonly #tiles: SharedMemory[] = [];

  /** Zeroes for a region of `length` bytes. Throws SYSTEM. */
  constructor(length: number, name: string) {
    this.#name = name;
    this.fit(length);
  }

  /** Makes ready for a region that grows to `length` bytes. Throws SYSTEM. */
  fit(length: number): void {
    let size = LEAST_TILE;
    while (size * MOST_TILES < length) size *= 2;
    if (size > this.#size) this.#tiles.push(SharedMemory.create(size, { name: `${this.#name} holes` }));
  }

  /** Shows zeroes in a range. */
  fill(map: MemoryMap, region: Region, offset: number, length: number): void {
    const object = this.#tiles.at(-1)!;
    const size = this.#size;
    map.transaction(() => {
      for (let at = offset; at < offset + length; ) {
        const objectOffset = at % size;
        const bytes = Math.min(size - objectOffset, offset + length - at);
        region.map({ offset: at, object, objectOffset, length: bytes, writable: false });
        at += bytes;
      }
    });
  }

  close(): void {
    for (const tile of this.#tiles) tile.close();
  }

  get #size(): number {
    return Number(this.#tiles.at(-1)?.size ?? 0);
  }
}
