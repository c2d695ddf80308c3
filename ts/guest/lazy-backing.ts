// Backings of lazy restores: memory whose pages a pager brings.

import { PrivateMemory } from '../asked/object.ts';
import type { FilePart, Pager } from '../asked/pager.ts';
import type { Address } from '../core/address.ts';
import type { BlockImage } from '../snapshot/chain.ts';

/** Backing of RAM whose pages a pager brings from a snapshot. Its files are open until the RAM is built. */
export class LazyBacking {
  readonly kind = 'lazy';
  readonly #pager: Pager;
  readonly #files: readonly number[];
  readonly #parts: readonly FilePart[];

  constructor(pager: Pager, image: BlockImage) {
    this.#pager = pager;
    this.#files = image.files;
    this.#parts = image.parts;
  }

  /** Makes the memory. Throws SYSTEM. */
  open(name: string, bytes: Address): PrivateMemory {
    return PrivateMemory.paged(this.#pager, bytes, { name, files: this.#files, parts: this.#parts });
  }
}
