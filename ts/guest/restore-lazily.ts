// Guests whose pages come when somebody touches them first: from the files of a snapshot and its bases, or from a
// source of the caller's.

import type { Readable } from 'node:stream';
import type { PrivateMemory } from '../asked/object.ts';
import { givenBy, Pager, type PageSource } from '../asked/pager.ts';
import * as validate from '../core/validate.ts';
import { BlockImage, closeChain, inFolder, type Link, openBase, withChain } from '../snapshot/chain.ts';
import { readLayout } from '../snapshot/folder.ts';
import type { SnapshotLayout } from '../snapshot/layout.ts';
import { RECORD } from '../snapshot/records.ts';
import { RecordReader } from '../snapshot/stream.ts';
import { readWorkingSet } from '../snapshot/working-set.ts';
import type { SnapshotWork } from '../snapshot/write.ts';
import { LazyBacking } from './lazy-backing.ts';
import { LazyPages } from './lazy-pages.ts';
import type { GuestMemoryManager, RestoredGuest } from './manager.ts';
import { type OtherLayout, relaid } from './relaid.ts';
import { arranged, type Begin, build } from './remade.ts';
import { FIRST, layoutOf } from './restore-stream.ts';
import { StreamedPages } from './streamed-pages.ts';
import type { GuestOptions } from './template.ts';

const DEFAULT_TIMEOUT = 30_000;

/** Options of a lazy restore. */
export interface LazyOptions {
  /** Source of the pages, which lie elsewhere: of the snapshot's folder, the layout alone is read. Called in this
   *  thread, once for each page that somebody waits for, and for those that are loaded. */
  readonly pageSource?: PageSource;
  /** Milliseconds in which the source, or the stream, has to give a page that somebody waits for; it is lost then.
   *  Default 30 000. */
  readonly pageTimeout?: number;
}

/** Way to bring a snapshot in. */
interface Way {
  readonly isLazy: boolean;
  readonly isStream: boolean;
}

/** Checks options of a lazy restore. Throws INVALID_ARGUMENT. */
export function checkLazily({ pageSource, pageTimeout }: LazyOptions, { isLazy, isStream }: Way): void {
  if (pageSource !== undefined && typeof pageSource !== 'function')
    throw validate.invalid('pageSource must be a function');
  if (pageSource !== undefined && !isLazy) throw validate.invalid('pageSource is for a lazy restore: say mode: "lazy"');
  if (pageSource !== undefined && isStream)
    throw validate.invalid('pageSource is for a folder: a stream has its pages');
  if (pageTimeout !== undefined && pageSource === undefined && !(isLazy && isStream)) {
    throw validate.invalid('pageTimeout is for a page source, or a stream that is restored lazily');
  }
  validate.integer(pageTimeout ?? DEFAULT_TIMEOUT, 'pageTimeout', 1, 3_600_000);
}

/** Makes a guest of the snapshot in a folder. Rejects as `GuestMemoryBuilder.fromSnapshot` does. */
export async function restoreLazily(
  folder: string,
  {
    pageSource,
    pageTimeout = DEFAULT_TIMEOUT,
    layout: other = {},
    ...options
  }: GuestOptions & LazyOptions & { readonly layout?: OtherLayout },
  begin: Begin,
): Promise<RestoredGuest> {
  if (pageSource !== undefined) {
    const layout = relaid(await readLayout(folder), other, true);
    const guest = { ...options, folder, begin };
    return lazyGuest(layout, Pager.open(givenBy(pageSource, pageTimeout)), guest, (pager) =>
      layout.ram.map((block) => LazyBacking.ofSource(pager, block)),
    );
  }
  return withChain(inFolder(folder), (chain) => {
    const layout = relaid(chain[0]!.layout, other, true);
    const images = layout.ram.map(({ name }) => new BlockImage(chain, name));
    const guest = { ...options, folder, begin };
    return lazyGuest(layout, Pager.open(), guest, (pager) => images.map((image) => LazyBacking.ofFiles(pager, image)));
  });
}

/** Makes a guest of the snapshot in a stream, which goes on to be read. Rejects as `GuestMemoryBuilder.fromSnapshot`
 *  does. */
export async function restoreStreamLazily(
  stream: Readable,
  { signal, progress, pageTimeout = DEFAULT_TIMEOUT, layout: other = {}, ...options }: StreamOptions,
  begin: Begin,
): Promise<RestoredGuest> {
  const ending = new AbortController();
  const signals = [ending.signal, ...(signal === undefined ? [] : [signal])];
  const reader = new RecordReader(stream, AbortSignal.any(signals));
  let base: readonly Link[] = [];
  try {
    const first = await reader.next(FIRST);
    const announced = layoutOf(first);
    const isLive = first.kind === RECORD.begin;
    base = await openBase(announced);
    const streamed = new StreamedPages({ reader, announced, isLive, base, timeout: pageTimeout, progress, ending });
    const guest = { ...options, streamed: { pages: streamed, other }, begin };
    return await lazyGuest(relaid(announced, other, true), Pager.open(streamed), guest, (pager) =>
      announced.ram.map((block, i) => LazyBacking.ofSourceAndBase(pager, block, streamed.images[i])),
    );
  } catch (error) {
    reader.end();
    await closeChain(base);
    throw error;
  }
}

/** Options of a lazy restore from a stream. */
interface StreamOptions extends GuestOptions, SnapshotWork, LazyOptions {
  readonly layout?: OtherLayout;
}

interface Making extends GuestOptions {
  /** Folder of the snapshot; none where it comes by a stream. */
  readonly folder?: string;
  /** Pages that come by a stream, and the layout that the guest is to have in place of its own. */
  readonly streamed?: { readonly pages: StreamedPages; readonly other: OtherLayout };
  readonly begin: Begin;
}

/** Makes the guest on backings of a pager, which goes with it. */
async function lazyGuest(
  layout: SnapshotLayout,
  pager: Pager,
  { folder, streamed, begin, ...options }: Making,
  backingsOf: (pager: Pager) => LazyBacking[],
): Promise<RestoredGuest> {
  // It is read while the guest is built.
  const reading = folder === undefined ? Promise.resolve([]) : readWorkingSet(folder, layout);
  let manager: GuestMemoryManager | undefined;
  try {
    const backings = backingsOf(pager);
    manager = build(layout, backings, options, begin);
    manager.map.context.hold(pager);
    const memories = layout.ram.map(({ name }) => manager!.ramObject(name) as PrivateMemory);
    const settled = await streamed?.pages.begin(memories, pager);
    for (const [i, memory] of memories.entries()) {
      manager.bases.setLazy(memory, layout.id, settled?.pages[i] ?? backings[i]!.pages);
    }
    const guest = arranged(manager, settled === undefined ? layout : relaid(settled.layout, streamed!.other, true));
    const lazy = new LazyPages({ folder, layout, pager, workingSet: await reading, memories, va: manager.va });
    return { ...guest, lazy };
  } catch (error) {
    await reading.catch(() => {});
    manager?.close();
    pager.close();
    throw error;
  }
}
