// Bases of diffs: snapshots that a guest's memory differs from in known pages alone. A diff of one needs no comparison.

import type { MemoryObject, PrivateMemory } from '../asked/object.ts';
import { MembackingError } from '../core/errors.ts';
import type { MemoryMap } from '../map/map.ts';
import type { VaSpace } from '../sinks/va-space.ts';
import { joined, type PageRange, without } from '../snapshot/page-list.ts';
import { type DirtyMethod, DirtyTracker } from './dirty-tracker.ts';
import type { Openable } from './template.ts';

/** Codes of errors of a map whose dirty pages cannot be had: snapshots of it can. */
const UNTRACKED: readonly string[] = ['NO_DIRTY_TRACKING', 'SYSTEM', 'POISONED'];

/** Pages that were written since a snapshot was begun. */
export class WrittenSince {
  readonly #tracker: DirtyTracker;
  /** Written pages of each object that was tracked from the beginning. */
  readonly #written: Map<MemoryObject, readonly PageRange[]>;

  private constructor(tracker: DirtyTracker, written: Map<MemoryObject, readonly PageRange[]>) {
    this.#tracker = tracker;
    this.#written = written;
  }

  /** Begins with what `objects` hold now. Undefined where the system cannot track. */
  static begin(map: MemoryMap, va: VaSpace, objects: Iterable<MemoryObject>): WrittenSince | undefined {
    try {
      return WrittenSince.start(map, va, objects);
    } catch (error) {
      if (error instanceof MembackingError && UNTRACKED.includes(error.code)) return undefined;
      throw error;
    }
  }

  /** Begins as `begin` does, by the first of some methods that will do. Throws NO_DIRTY_TRACKING, SYSTEM, POISONED. */
  static start(
    map: MemoryMap,
    va: VaSpace,
    objects: Iterable<MemoryObject>,
    methods?: readonly DirtyMethod[],
  ): WrittenSince {
    return new WrittenSince(new DirtyTracker(map, va, methods), new Map([...objects].map((object) => [object, []])));
  }

  /** Begins as `begin` does, with what `objects` have for themselves: that counts as written. Precondition: nobody
   *  writes meanwhile. */
  static beginOwn(map: MemoryMap, va: VaSpace, objects: readonly MemoryObject[]): WrittenSince | undefined {
    const own = new Map(objects.map((object) => [object, object.ownRanges() as readonly PageRange[]]));
    const since = WrittenSince.begin(map, va, objects);
    return since && new WrittenSince(since.#tracker, own);
  }

  /** Adds what was written before `later` began, which nobody has to look for; undefined: until now. Throws CLOSED. */
  collect(later?: WrittenSince): void {
    const { byMemory, untracked, unwatched } = later === undefined ? this.#tracker.collect() : this.#tracker.found();
    for (const object of [...untracked, ...unwatched]) this.#written.delete(object);
    for (const [object, before] of this.#written) this.#written.set(object, joined(before, byMemory.get(object) ?? []));
  }

  /** Pages of an object that were written as far as `collect` has said, in order; undefined where nobody knows. */
  pagesOf(object: MemoryObject): readonly PageRange[] | undefined {
    return this.#written.get(object);
  }

  /** Takes the pages of each object that were written since the beginning, or since this was called last. Throws
   *  CLOSED. */
  take(): ReadonlyMap<MemoryObject, readonly PageRange[]> {
    this.collect();
    const taken = new Map(this.#written);
    for (const object of taken.keys()) this.#written.set(object, []);
    return taken;
  }

  close(): void {
    this.#tracker.close();
  }
}

/** Bases of one guest. */
export class Bases {
  /** Since the last snapshot, and since the one that it was a diff of, by identity. */
  #since: ReadonlyMap<string, WrittenSince> = new Map();
  /** Identities of the snapshots that RAM is a copy-on-write image of. */
  readonly #images = new WeakMap<MemoryObject, string>();
  /** Pages that images of snapshots have had for themselves when they were tracked first, and those that were written
   *  since. */
  #own: WrittenSince | undefined;
  readonly #lazy = new WeakMap<MemoryObject, { readonly id: string; readonly pages: readonly PageRange[] }>();
  /** Template that the guest was made of. */
  template: Openable | undefined;

  /** Notes that private RAM shows a snapshot wherever it was not written. */
  setImage(object: MemoryObject, id: string): void {
    this.#images.set(object, id);
  }

  /** Identity of the snapshot that RAM shows wherever it was not written. */
  imageOf(object: MemoryObject): string | undefined {
    return this.#images.get(object);
  }

  /** Finds which pages images have for themselves before anybody tracks them, as long as that is cheap: what is tracked
   *  must be touched, page by page, to tell it from the snapshot's. Precondition: nobody writes meanwhile. */
  findOwn(map: MemoryMap, va: VaSpace, objects: readonly MemoryObject[]): void {
    const images = objects.filter((object) => this.#images.has(object));
    if (images.length > 0 && this.#since.size === 0) this.#own ??= WrittenSince.beginOwn(map, va, images);
  }

  /** Pages that private RAM has for itself, or had, up to when `now` began. Throws CLOSED, SYSTEM. */
  ownPages(object: MemoryObject, now: WrittenSince | undefined): readonly PageRange[] {
    this.#own?.collect(now);
    return this.#own?.pagesOf(object) ?? (object.ownRanges() as readonly PageRange[]);
  }

  /** Notes that the pages of private RAM come from a snapshot, which has `pages`. */
  setLazy(object: MemoryObject, id: string, pages: readonly PageRange[]): void {
    this.#lazy.set(object, { id, pages });
  }

  /** Pages of RAM that may differ from the snapshot that it comes from, if that is `id`. */
  changedSince(object: PrivateMemory, id: string): readonly PageRange[] | undefined {
    const lazy = this.#lazy.get(object);
    if (lazy?.id !== id) return undefined;
    // What is not absent any more has come, or was discarded.
    const come = without(lazy.pages, object.absentRanges() as readonly PageRange[]);
    return joined(object.ownRanges() as readonly PageRange[], come);
  }

  since(id: string): WrittenSince | undefined {
    return this.#since.get(id);
  }

  /** Keeps what is written since a new snapshot, and since its base; the others are forgotten. */
  remember(id: string, since: WrittenSince | undefined, base: string | undefined): void {
    const kept = new Map<string, WrittenSince>();
    if (since !== undefined) kept.set(id, since);
    const ofBase = base === undefined ? undefined : this.#since.get(base);
    if (ofBase !== undefined) kept.set(base!, ofBase);
    for (const [each, old] of this.#since) if (!kept.has(each)) old.close();
    this.#since = kept;
  }

  close(): void {
    for (const since of [...this.#since.values(), this.#own]) since?.close();
    this.#since = new Map();
    this.#own = undefined;
  }
}
