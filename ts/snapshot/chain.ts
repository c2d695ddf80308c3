// A snapshot with those that it is a diff of, down to a whole one: the bytes of its RAM, read from the files that have
// them.

import type { FileHandle } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { united } from '../asked/data-range.ts';
import { MembackingError } from '../core/errors.ts';
import { damaged, openFolder } from './folder.ts';
import type { SnapshotLayout, SnapshotRam } from './layout.ts';
import { type Readable, readAll } from './memory-writer.ts';
import { type PageRange, within } from './page-list.ts';

/** One snapshot of a chain. */
export interface Link {
  readonly folder: string;
  readonly layout: SnapshotLayout;
  readonly memory: FileHandle;
}

/** Snapshots that a chain has at most. */
const MOST_LINKS = 1000;

/** Opens a snapshot with its bases: the snapshot itself is first. Rejects with what `openFolder` rejects with, and
 *  SNAPSHOT_BASE where a base is another one than it was. */
export async function openChain(folder: string): Promise<Link[]> {
  const links: Link[] = [];
  try {
    for (let next: string | undefined = folder; next !== undefined; ) {
      const link: Link = { folder: next, ...(await openFolder(next)) };
      links.push(link);
      const wanted = links.at(-2)?.layout.base?.id;
      if (wanted !== undefined && wanted !== link.layout.id) throw otherBase(next, wanted, link.layout.id);
      if (links.length > MOST_LINKS) throw otherBase(next, 'fewer snapshots', `${links.length} in a row`);
      next = baseOf(link);
    }
    return links;
  } catch (error) {
    await closeChain(links);
    throw error;
  }
}

function baseOf({ folder, layout: { base } }: Link): string | undefined {
  if (base === undefined) return undefined;
  return isAbsolute(base.folder) ? base.folder : join(folder, base.folder);
}

export async function closeChain(links: readonly Link[]): Promise<void> {
  await Promise.allSettled(links.map(({ memory }) => memory.close()));
}

function otherBase(folder: string, wanted: string, found: string): MembackingError {
  const message = `the snapshot in "${folder}" is not the one that the diff was made from: it is ${found}, and should be ${wanted}`;
  return new MembackingError('SNAPSHOT_BASE', message, { details: { folder } });
}

/** One snapshot's part in a block of RAM. */
interface Layer {
  readonly memory: FileHandle;
  readonly block: SnapshotRam;
}

/** A block of RAM as a snapshot has it. */
export class BlockImage implements Readable {
  readonly block: SnapshotRam;
  /** Parts that a diff has, itself first; the last one says all of the block. */
  readonly #layers: readonly Layer[];

  constructor(links: readonly Link[], name: string) {
    const layers: Layer[] = [];
    for (const { layout, memory, folder } of links) {
      const block = layout.ram.find((each) => each.name === name);
      if (block === undefined || (layers.length > 0 && block.size !== layers[0]!.block.size)) {
        const message = `the snapshot in "${folder}" has no RAM "${name}" of the size that the diff has`;
        throw new MembackingError('SNAPSHOT_BASE', message, { details: { folder, name } });
      }
      layers.push({ memory, block });
      if (!block.onBase) break;
    }
    this.block = layers[0]!.block;
    this.#layers = layers;
  }

  /** Pages that some file has, in order. */
  get pages(): readonly PageRange[] {
    return this.#layers.reduce<readonly PageRange[]>((all, { block }) => joined(all, block.pages), []);
  }

  /** Layer that all others lie on. */
  get lowest(): Layer {
    return this.#layers.at(-1)!;
  }

  /** Pages that lie over the lowest layer. */
  get pagesAbove(): readonly PageRange[] {
    const above = this.#layers.slice(0, -1);
    return above.reduce<readonly PageRange[]>((all, { block }) => joined(all, block.pages), []);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    into.fill(0);
    for (const { memory, block } of [...this.#layers].reverse()) {
      for (const part of within(block.pages, offset, offset + into.length)) {
        const bytes = into.subarray(part.offset - offset, part.offset - offset + part.length);
        if (await readAll(memory, bytes, block.fileOffset + part.offset)) continue;
        throw damaged(`the file of RAM "${block.name}" ends before 0x${(part.offset + part.length).toString(16)}`);
      }
    }
  }
}

function joined(a: readonly PageRange[], b: readonly PageRange[]): readonly PageRange[] {
  return united(a, b) as readonly PageRange[];
}
