// Backings of lazy restores: memory whose pages a pager brings.

import { PrivateMemory } from '../asked/object.ts';
import { type FilePart, FROM_SOURCE, type Pager } from '../asked/pager.ts';
import type { Address } from '../core/address.ts';
import type { BlockImage } from '../snapshot/chain.ts';
import type { SnapshotRam } from '../snapshot/layout.ts';
import { joined, type PageRange, without } from '../snapshot/page-list.ts';

function fromSource(pages: readonly PageRange[]): FilePart[] {
  return pages.map((range) => ({ ...range, file: FROM_SOURCE, fileOffset: 0 }));
}

/** Backing of RAM whose pages a pager brings. Its files are open until the RAM is built. */
export class LazyBacking {
  readonly kind = 'lazy';
  /** Pages that are elsewhere; others are zeroes. */
  readonly pages: readonly PageRange[];
  readonly #pager: Pager;
  readonly #files: readonly number[];
  readonly #parts: readonly FilePart[];

  private constructor(pager: Pager, pages: readonly PageRange[], files: readonly number[], parts: readonly FilePart[]) {
    this.#pager = pager;
    this.pages = pages;
    this.#files = files;
    this.#parts = parts;
  }

  /** Pages that the files of a snapshot have. */
  static ofFiles(pager: Pager, image: BlockImage): LazyBacking {
    return new LazyBacking(pager, image.pages, image.files, image.parts);
  }

  /** Pages that the pager's source has: those of the snapshot; of a diff all, as its base is not looked at. */
  static ofSource(pager: Pager, { size, pages, onBase }: SnapshotRam): LazyBacking {
    const given = onBase ? [{ offset: 0, length: size }] : pages;
    return new LazyBacking(pager, given, [], fromSource(given));
  }

  /** Pages that the pager's source may have, and those that the base has, of which files do. */
  static ofSourceAndBase(pager: Pager, { pages }: SnapshotRam, base: BlockImage | undefined): LazyBacking {
    const ofFiles = (base?.parts ?? []).flatMap((part) =>
      without([part as PageRange], pages).map(({ offset, length }) => ({
        ...{ offset, length, file: part.file },
        fileOffset: part.fileOffset + offset - Number(part.offset),
      })),
    );
    const all = joined(base?.pages ?? [], pages);
    const parts = [...ofFiles, ...fromSource(pages)].sort((a, b) => Number(a.offset) - Number(b.offset));
    return new LazyBacking(pager, all, base?.files ?? [], parts);
  }

  /** Makes the memory. Throws SYSTEM. */
  open(name: string, bytes: Address): PrivateMemory {
    return PrivateMemory.paged(this.#pager, bytes, { name, files: this.#files, parts: this.#parts });
  }
}
