// Guests made from snapshots: as the one was that the snapshot was taken of, and ordinary ones.

import { Readable } from 'node:stream';
import * as validate from '../core/validate.ts';
import { BlockImage, inFolder, type Link, withChain } from '../snapshot/chain.ts';
import { checkGoingOn } from '../snapshot/memory-writer.ts';
import { STEP, stepsOf } from '../snapshot/page-list.ts';
import { checkWork, type SnapshotWork, stepCounter } from '../snapshot/write.ts';
import type { RamBacking } from './backing.ts';
import type { GuestMemoryManager, RestoredGuest } from './manager.ts';
import { RamWriter } from './ram-writer.ts';
import { checkedOther, type OtherLayout, relaid } from './relaid.ts';
import { arranged, type Begin, build, copyOnWrite, fresh } from './remade.ts';
import { checkLazily, type LazyOptions, restoreLazily, restoreStreamLazily } from './restore-lazily.ts';
import { restoreStream } from './restore-stream.ts';
import type { ForkMaker, GuestOptions } from './template.ts';

/** Ways to bring a snapshot's memory into a guest: `copy` reads all of it into new memory. `map` shows the file, copied
 *  page by page where the guest writes: there at once, and the file has to stay as it is. `lazy` reads each page when
 *  somebody touches it first, from the file that has it; from a stream, each page comes when the stream has reached
 *  it. */
const RESTORE_MODES = ['copy', 'map', 'lazy'] as const;
/** A way to bring a snapshot's memory into a guest. */
export type RestoreMode = (typeof RESTORE_MODES)[number];

/** Options of `GuestMemoryBuilder.fromSnapshot`. */
export interface RestoreOptions extends SnapshotWork, GuestOptions, LazyOptions {
  /** Way to bring the memory in. Default `copy`. */
  readonly mode?: RestoreMode;
  /** Layout, as far as it is to be another one. Default: as it was. */
  readonly layout?: OtherLayout;
}

/** Makes a guest of the snapshot in a folder or a stream. Rejects as `GuestMemoryBuilder.fromSnapshot` does. */
export async function restore(
  source: string | Readable,
  options: RestoreOptions | undefined,
  begin: Begin,
): Promise<RestoredGuest> {
  const { mode, ...given } = checkedOptions(options, source instanceof Readable);
  if (source instanceof Readable) {
    if (mode === 'map') throw validate.invalid('a snapshot in a stream is in no file that could be mapped');
    return mode === 'lazy' ? restoreStreamLazily(source, given, begin) : restoreStream(source, given, begin);
  }
  const folder = validate.text(source, 'the source');
  if (mode === 'lazy') return restoreLazily(folder, given, begin);
  return withChain(inFolder(folder), (chain) => restoreChain(chain, { mode, begin }, given));
}

/** Makers of guests on templates. */
export function forkMaker(begin: Begin): ForkMaker<RestoredGuest> {
  return {
    fork: ({ template, layout, memory }, options) => {
      const backings = layout.ram.map(({ fileOffset }) => copyOnWrite(memory.ownFd!, fileOffset));
      const manager = build(layout, backings, options, begin);
      manager.bases.template = template;
      for (const { name } of layout.ram) manager.bases.setImage(manager.ramObject(name), layout.id);
      return arranged(manager, layout);
    },
    resume: ({ template }, { diff, ...options }, work) => {
      const restored = async (chain: readonly Link[]) => {
        const guest = await restoreChain(chain, { mode: 'map', begin }, { ...options, ...work });
        guest.manager.bases.template = template;
        return guest;
      };
      return withChain(inFolder(diff), restored, () => template.openLink());
    },
  };
}

/** Makes a guest of a snapshot with its bases. */
async function restoreChain(
  chain: readonly Link[],
  { mode, begin }: { readonly mode: RestoreMode; readonly begin: Begin },
  { layout: other = {}, ...options }: GuestOptions & SnapshotWork & Pick<RestoreOptions, 'layout'>,
): Promise<RestoredGuest> {
  const layout = relaid(chain[0]!.layout, other, mode === 'copy');
  const images = layout.ram.map(({ name }) => new BlockImage(chain, name));
  const backings = images.map((image) => (mode === 'map' ? mapped(image) : fresh(image.block)));
  const manager = build(layout, backings, options, begin);
  try {
    await fill(manager, images, { mode, ...options });
    if (mode === 'map') {
      for (const { block, lowest } of images) manager.bases.setImage(manager.ramObject(block.name), lowest.id);
    }
  } catch (error) {
    manager.close();
    throw error;
  }
  return arranged(manager, layout);
}

/** Options of a restore, checked. */
interface Checked extends RestoreOptions {
  readonly mode: RestoreMode;
}

function checkedOptions(options: RestoreOptions | undefined, isStream: boolean): Checked {
  const known = [
    ...(['mode', 'layout', 'signal', 'progress', 'record', 'debug'] as const),
    ...(['pageSource', 'pageTimeout'] as const),
  ] as const;
  const given = validate.options(options, known, 'fromSnapshot');
  const mode = validate.oneOf(RESTORE_MODES, given.mode ?? 'copy', 'mode');
  checkWork(given);
  checkLazily(given, { isLazy: mode === 'lazy', isStream });
  return { ...given, mode, layout: checkedOther(given.layout) };
}

function mapped({ lowest: { memory, block } }: BlockImage): RamBacking {
  return copyOnWrite(memory.fd, block.fileOffset);
}

/** Writes the pages that are not there yet. Rejects with ABORTED, SNAPSHOT_DAMAGED, SYSTEM. */
async function fill(manager: GuestMemoryManager, images: readonly BlockImage[], options: Checked): Promise<void> {
  const { mode, signal, progress } = options;
  const all = images.map((image) => ({ image, pages: mode === 'map' ? image.pagesAbove : image.pages }));
  const onStep = stepCounter(
    all.map(({ pages }) => pages),
    progress,
  );
  const buffer = Buffer.allocUnsafeSlow(STEP);
  for (const { image, pages } of all) {
    const memory = manager.ramObject(image.block.name);
    const writer = await RamWriter.open(memory);
    try {
      for (const { offset, length } of stepsOf(pages)) {
        checkGoingOn(signal);
        const bytes = buffer.subarray(0, length);
        await image.read(offset, bytes);
        await writer.write(offset, bytes);
        onStep(length);
      }
    } finally {
      await writer.close();
    }
  }
}
