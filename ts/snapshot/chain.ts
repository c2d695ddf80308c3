// A snapshot with those that it is a diff of, down to a whole one: the bytes of its RAM, read from the files that have
// them.

import type { FileHandle } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import type { FilePart } from '../asked/pager.ts';
import { MembackingError } from '../core/errors.ts';
import { damaged, openFolder } from './folder.ts';
import type { SnapshotLayout, SnapshotRam } from './layout.ts';
import { type Readable, readAll, readAllNow } from './memory-writer.ts';
import { joined, type PageRange, within, without } from './page-list.ts';

/** One snapshot of a chain. */
export interface Link {
  /** Folder that it is in; a template has no more than a name. */
  readonly folder: string;
  readonly layout: SnapshotLayout;
  readonly memory: FileHandle;
}

/** Snapshots that a chain has at most. */
const MOST_LINKS = 1000;

/** Something that opens one snapshot. */
export type OpenLink = () => Promise<Link>;

/** Opener of the snapshot in a folder. */
export function inFolder(folder: string): OpenLink {
  return async () => ({ folder, ...(await openFolder(folder)) });
}

/** Opens a snapshot with its bases: the snapshot itself is first. `template`: opens the template that the last one may
 *  be a diff of. Rejects with what `openFolder` rejects with, and SNAPSHOT_BASE where a base is another one than it
 *  was, or is not to be had. */
export async function openChain(first: OpenLink, template?: OpenLink): Promise<Link[]> {
  const links: Link[] = [];
  try {
    for (let next: OpenLink | undefined = first; next !== undefined; ) {
      const link = await next();
      links.push(link);
      const { folder, layout } = link;
      const wanted = links.at(-2)?.layout.base?.id;
      if (wanted !== undefined && wanted !== layout.id) throw otherBase(folder, wanted, layout.id);
      if (links.length > MOST_LINKS) throw otherBase(folder, 'fewer snapshots', `${links.length} in a row`);
      next = baseOf(link, template);
    }
    return links;
  } catch (error) {
    await closeChain(links);
    throw error;
  }
}

function baseOf({ folder, layout: { base } }: Link, template: OpenLink | undefined): OpenLink | undefined {
  if (base === undefined) return undefined;
  if (base.folder !== undefined) return inFolder(isAbsolute(base.folder) ? base.folder : join(folder, base.folder));
  if (template !== undefined) return template;
  const message = `the snapshot in "${folder}" is a diff of a template, ${base.id}: template.builder({ diff }) resumes it`;
  throw new MembackingError('SNAPSHOT_BASE', message, { details: { folder } });
}

/** Result of `body` for a snapshot with its bases, which are open for as long as it takes. Rejects as `openChain` does,
 *  and as `body` does. */
export async function withChain<Result>(
  first: OpenLink,
  body: (chain: readonly Link[]) => Promise<Result>,
  template?: OpenLink,
): Promise<Result> {
  const chain = await openChain(first, template);
  try {
    return await body(chain);
  } finally {
    await closeChain(chain);
  }
}

export async function closeChain(links: readonly Link[]): Promise<void> {
  await Promise.allSettled(links.map(({ memory }) => memory.close()));
}

function otherBase(folder: string, wanted: string, found: string): MembackingError {
  const message = `the snapshot in "${folder}" is not the one that the diff was made from: it is ${found}, and should be ${wanted}`;
  return new MembackingError('SNAPSHOT_BASE', message, { details: { folder } });
}

/** Opens the snapshots that a diff which comes from elsewhere lies on, none where it is no diff. Rejects as `openChain`
 *  does. */
export async function openBase({ base }: SnapshotLayout): Promise<Link[]> {
  if (base === undefined) return [];
  const { id, folder } = base;
  if (folder === undefined) {
    throw new MembackingError('SNAPSHOT_BASE', `the snapshot is a diff of a template, ${id}, which is not to be had`);
  }
  return openChain(async () => {
    const link = await inFolder(folder)();
    if (link.layout.id === id) return link;
    await closeChain([link]);
    throw otherBase(folder, id, link.layout.id);
  });
}

/** Blocks of RAM of a diff as its base has them; undefined for those of which it has all. Throws SNAPSHOT_BASE. */
export function baseImages({ ram }: SnapshotLayout, base: readonly Link[]): (BlockImage | undefined)[] {
  return ram.map(({ name, size, onBase }) => (onBase ? new BlockImage(base, name, size) : undefined));
}

/** One snapshot's part in a block of RAM. */
interface Layer {
  /** Identity of the snapshot. */
  readonly id: string;
  readonly memory: FileHandle;
  readonly block: SnapshotRam;
}

/** A part of one layer that is read. */
interface LayerRead {
  readonly memory: FileHandle;
  readonly bytes: Uint8Array;
  /** Offset in the file. */
  readonly place: number;
  /** End of the part in the block. */
  readonly end: number;
}

/** A block of RAM as a snapshot has it. */
export class BlockImage implements Readable {
  readonly block: SnapshotRam;
  /** Parts that a diff has, itself first; the last one says all of the block. */
  readonly #layers: readonly Layer[];

  /** `size`: bytes that the block has; default: as many as the first of the snapshots has. Throws SNAPSHOT_BASE. */
  constructor(links: readonly Link[], name: string, size?: number) {
    const layers: Layer[] = [];
    for (const { layout, memory, folder } of links) {
      const block = layout.ram.find((each) => each.name === name);
      if (block === undefined || block.size !== (size ?? layers[0]?.block.size ?? block.size)) {
        const message = `the snapshot in "${folder}" has no RAM "${name}" of the size that the diff has`;
        throw new MembackingError('SNAPSHOT_BASE', message, { details: { folder, name } });
      }
      layers.push({ id: layout.id, memory, block });
      if (!block.onBase) break;
    }
    this.block = layers[0]!.block;
    this.#layers = layers;
  }

  /** Pages that some file has, in order. */
  get pages(): readonly PageRange[] {
    return this.#layers.reduce<readonly PageRange[]>((all, { block }) => joined(all, block.pages), []);
  }

  /** Descriptors of the files that have the pages. */
  get files(): readonly number[] {
    return this.#layers.map(({ memory }) => memory.fd);
  }

  /** Pages, in order, by the file that has them: its index in `files`. */
  get parts(): readonly FilePart[] {
    let covered: readonly PageRange[] = [];
    const parts: FilePart[] = [];
    for (const [file, { block }] of this.#layers.entries()) {
      for (const { offset, length } of without(block.pages, covered)) {
        parts.push({ offset, length, file, fileOffset: block.fileOffset + offset });
      }
      covered = joined(covered, block.pages);
    }
    return parts.sort((a, b) => Number(a.offset) - Number(b.offset));
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
    for (const { memory, bytes, place, end } of this.#reads(offset, into)) {
      if (!(await readAll(memory, bytes, place))) throw this.#shorter(end);
    }
  }

  readNow(offset: number, into: Uint8Array): void {
    for (const { memory, bytes, place, end } of this.#reads(offset, into)) {
      if (!readAllNow(memory, bytes, place)) throw this.#shorter(end);
    }
  }

  /** Reads that give the bytes from `offset` on, in order: what an upper layer has is read over what is below. */
  *#reads(offset: number, into: Uint8Array): Generator<LayerRead> {
    into.fill(0);
    for (const { memory, block } of [...this.#layers].reverse()) {
      for (const part of within(block.pages, offset, offset + into.length)) {
        const bytes = into.subarray(part.offset - offset, part.offset - offset + part.length);
        yield { memory, bytes, place: block.fileOffset + part.offset, end: part.offset + part.length };
      }
    }
  }

  #shorter(end: number): MembackingError {
    return damaged(`the file of RAM "${this.block.name}" ends before 0x${end.toString(16)}`);
  }
}
