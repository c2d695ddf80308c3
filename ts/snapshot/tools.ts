// Snapshots as files: what is in one, whether it is whole, how two differ, and a diff with its bases as one.

import * as validate from '../core/validate.ts';
import { BlockImage, inFolder, type Link, type OpenLink, withChain } from './chain.ts';
import type { SnapshotLayout } from './layout.ts';
import { checkGoingOn, type Source, writeBlock } from './memory-writer.ts';
import { checksumOf } from './page-copy.ts';
import { joined, type PageRange } from './page-list.ts';
import { checkWork, type SnapshotWork, stepCounter, writeSnapshot } from './write.ts';

/** One snapshot of a chain of diffs. */
export interface SnapshotFacts {
  /** Folder that it is in. */
  readonly folder: string;
  /** Layout of the snapshot. */
  readonly layout: SnapshotLayout;
}

/** A block of RAM in a snapshot whose pages are not those that were written. */
export interface SnapshotDamage {
  /** Folder of the snapshot. */
  readonly folder: string;
  /** Name of the RAM. */
  readonly ram: string;
}

/** Pages of one block of RAM that two snapshots have otherwise. */
export interface SnapshotDifference {
  /** Name of the RAM. */
  readonly ram: string;
  /** Whether the block is in the second one alone, in the first one alone, or in both. */
  readonly change: 'added' | 'removed' | 'changed';
  /** Pages that differ, in order; of a block that is in one alone, those that are not zeroes. */
  readonly pages: readonly PageRange[];
}

/** Facts of a snapshot, and of its bases, down to a whole one: itself first. Rejects with SYSTEM and SNAPSHOT_*. */
export async function inspectSnapshot(folder: string): Promise<SnapshotFacts[]> {
  return withChain(checkedFolder(folder), async (chain) =>
    chain.map(({ folder: each, layout }) => ({ folder: each, layout })),
  );
}

/** Reads a snapshot and its bases, and says which blocks of RAM are damaged. Rejects with SYSTEM, SNAPSHOT_*,
 *  ABORTED. */
export async function verifySnapshot(folder: string, options?: SnapshotWork): Promise<SnapshotDamage[]> {
  const { signal, progress } = checkedWork(options, 'verifySnapshot');
  return withChain(checkedFolder(folder), async (chain) => {
    const blocks = chain.flatMap((link) => link.layout.ram.map((block) => ({ link, block })));
    const onStep = stepCounter(
      blocks.map(({ block }) => block.pages),
      progress,
    );
    const damage: SnapshotDamage[] = [];
    for (const { link, block } of blocks) {
      const from = { file: link.memory, offset: block.fileOffset };
      const crc32 = await checksumOf(from, block.pages, (bytes) => {
        checkGoingOn(signal);
        onStep(bytes);
      });
      if (crc32 !== block.crc32) damage.push({ folder: link.folder, ram: block.name });
    }
    return damage;
  });
}

/** Compares the memory of two snapshots, page by page. Rejects with SYSTEM, SNAPSHOT_*, ABORTED. */
export async function compareSnapshots(
  first: string,
  second: string,
  options?: SnapshotWork,
): Promise<SnapshotDifference[]> {
  const { signal, progress } = checkedWork(options, 'compareSnapshots');
  return withChain(checkedFolder(first), (before) =>
    withChain(checkedFolder(second), async (after) => {
      const pairs = pairsOf(before, after);
      const onStep = stepCounter(
        pairs.map(({ source }) => source.candidates),
        progress,
      );
      const differences: SnapshotDifference[] = [];
      for (const { ram, change, source } of pairs) {
        const { pages } = await writeBlock(source, { write: async () => {} }, { signal, onStep, isSummed: false });
        if (change !== 'changed' || pages.length > 0) differences.push({ ram, change, pages });
      }
      return differences;
    }),
  );
}

/** Writes a snapshot and its bases into a folder as one that needs none: another snapshot, of the same memory. Rejects
 *  as `GuestMemoryManager.snapshot` does. */
export async function mergeSnapshot(folder: string, target: string, options?: SnapshotWork): Promise<SnapshotLayout> {
  const work = checkedWork(options, 'mergeSnapshot');
  const checkedTarget = validate.text(target, 'the target');
  return withChain(checkedFolder(folder), async (chain) => {
    const { id, memory, ram, ...rest } = chain[0]!.layout;
    const blocks = ram.map(({ fileOffset, pages, crc32, ...block }) => {
      const image = new BlockImage(chain, block.name);
      return { ram: { ...block, onBase: false }, source: sourceOf(image, undefined) };
    });
    return writeSnapshot(checkedTarget, blocks, { ...rest, base: undefined }, work);
  });
}

function checkedWork(options: SnapshotWork | undefined, name: string): SnapshotWork {
  const given = validate.options(options, ['signal', 'progress'], name);
  checkWork(given);
  return given;
}

function checkedFolder(folder: string): OpenLink {
  return inFolder(validate.text(folder, 'the folder'));
}

function sourceOf(image: BlockImage, base: BlockImage | undefined): Source {
  const candidates = base === undefined ? image.pages : joined(image.pages, base.pages);
  return { candidates, leftOut: base ?? 'zeroes', origin: undefined, read: (offset, into) => image.read(offset, into) };
}

interface Pair extends Omit<SnapshotDifference, 'pages'> {
  readonly source: Source;
}

/** Blocks of both, those of the first before those that only the second has. One of another size is another one. */
function pairsOf(before: readonly Link[], after: readonly Link[]): Pair[] {
  const imagesOf = (chain: readonly Link[]) =>
    new Map(chain[0]!.layout.ram.map(({ name, size }) => [`${size} ${name}`, new BlockImage(chain, name)]));
  const [imagesBefore, imagesAfter] = [imagesOf(before), imagesOf(after)];
  const pairs: Pair[] = [];
  for (const [key, image] of imagesBefore) {
    const imageAfter = imagesAfter.get(key);
    const { name: ram } = image.block;
    if (imageAfter === undefined) pairs.push({ ram, change: 'removed', source: sourceOf(image, undefined) });
    else pairs.push({ ram, change: 'changed', source: sourceOf(imageAfter, image) });
  }
  for (const [key, image] of imagesAfter) {
    if (imagesBefore.has(key)) continue;
    pairs.push({ ram: image.block.name, change: 'added', source: sourceOf(image, undefined) });
  }
  return pairs;
}
