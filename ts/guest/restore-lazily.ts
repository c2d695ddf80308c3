// Guests whose pages come when somebody touches them first: from the files of a snapshot and its bases, or from a
// source of the caller's.

import type { PrivateMemory } from '../asked/object.ts';
import { Pager, type PageSource } from '../asked/pager.ts';
import * as validate from '../core/validate.ts';
import { BlockImage, closeChain, inFolder, openChain } from '../snapshot/chain.ts';
import { readLayout } from '../snapshot/folder.ts';
import type { SnapshotLayout } from '../snapshot/layout.ts';
import { readWorkingSet } from '../snapshot/working-set.ts';
import { LazyBacking } from './lazy-backing.ts';
import { LazyPages } from './lazy-pages.ts';
import type { GuestMemoryManager, RestoredGuest } from './manager.ts';
import { type OtherLayout, relaid } from './relaid.ts';
import { arranged, type Begin, build } from './remade.ts';
import type { GuestOptions } from './template.ts';

const DEFAULT_TIMEOUT = 30_000;

/** Options of a lazy restore. */
export interface LazyOptions {
  /** Source of the pages, which lie elsewhere: of the snapshot's folder, the layout alone is read. Called in this
   *  thread, once for each page that somebody waits for. */
  readonly pageSource?: PageSource;
  /** Milliseconds in which the source has to give a page; it is lost then. Default 30 000. */
  readonly pageTimeout?: number;
}

/** Milliseconds that a page source has. Throws INVALID_ARGUMENT. */
export function checkedLazily({ pageSource, pageTimeout }: LazyOptions, isLazy: boolean): number {
  if (pageSource !== undefined && typeof pageSource !== 'function')
    throw validate.invalid('pageSource must be a function');
  if (pageSource !== undefined && !isLazy) throw validate.invalid('pageSource is for a lazy restore: say mode: "lazy"');
  if (pageTimeout !== undefined && pageSource === undefined) {
    throw validate.invalid('pageTimeout is for a page source: give one, too');
  }
  return validate.integer(pageTimeout ?? DEFAULT_TIMEOUT, 'pageTimeout', 1, 3_600_000);
}

/** Makes a guest of the snapshot in a folder. Rejects as `GuestMemoryBuilder.fromSnapshot` does. */
export async function restoreLazily(
  folder: string,
  { pageSource, layout: other = {}, ...options }: GuestOptions & LazyOptions & { readonly layout?: OtherLayout },
  begin: Begin,
): Promise<RestoredGuest> {
  if (pageSource !== undefined) {
    const layout = relaid(await readLayout(folder), other, true);
    const timeout = checkedLazily({ ...options, pageSource }, true);
    return lazyGuest(layout, Pager.open({ pageSource, timeout }), { ...options, folder, begin }, (pager) =>
      layout.ram.map((block) => LazyBacking.ofSource(pager, block)),
    );
  }
  const chain = await openChain(inFolder(folder));
  try {
    const layout = relaid(chain[0]!.layout, other, true);
    const images = layout.ram.map(({ name }) => new BlockImage(chain, name));
    const guest = { ...options, folder, begin };
    return await lazyGuest(layout, Pager.open(), guest, (pager) =>
      images.map((image) => LazyBacking.ofFiles(pager, image)),
    );
  } finally {
    await closeChain(chain);
  }
}

interface Making extends GuestOptions {
  readonly folder: string;
  readonly begin: Begin;
}

/** Makes the guest on backings of a pager, which goes with it. */
async function lazyGuest(
  layout: SnapshotLayout,
  pager: Pager,
  { folder, begin, ...options }: Making,
  backingsOf: (pager: Pager) => LazyBacking[],
): Promise<RestoredGuest> {
  // It is read while the guest is built.
  const reading = readWorkingSet(folder, layout);
  let manager: GuestMemoryManager | undefined;
  try {
    const backings = backingsOf(pager);
    manager = build(layout, backings, options, begin);
    manager.map.context.hold(pager);
    const memories = layout.ram.map(({ name }) => manager!.ramObject(name) as PrivateMemory);
    for (const [i, memory] of memories.entries()) manager.bases.setLazy(memory, layout.id, backings[i]!.pages);
    const guest = arranged(manager, layout);
    const lazy = new LazyPages({ folder, layout, pager, workingSet: await reading, memories, va: manager.va });
    return { ...guest, lazy };
  } catch (error) {
    await reading.catch(() => {});
    manager?.close();
    pager.close();
    throw error;
  }
}
