// Pages of a lazy restore that are still where the snapshot has them, and how all of them are brought.

import type { PrivateMemory } from '../asked/object.ts';
import * as validate from '../core/validate.ts';
import { aborted, stepsOf } from '../snapshot/memory-writer.ts';
import { bytesOf, type PageRange } from '../snapshot/page-list.ts';
import { checkWork, type SnapshotWork, stepCounter } from '../snapshot/write.ts';

/** Pages of a guest that was restored lazily. One comes when somebody touches it, and all of them when they are
 *  loaded. */
export class LazyPages {
  readonly #memories: readonly PrivateMemory[];

  /** @internal Made by GuestMemoryBuilder.fromSnapshot. */
  constructor(memories: readonly PrivateMemory[]) {
    this.#memories = memories;
  }

  /** Bytes that the snapshot alone has. What was discarded is not among them, nor what has gone. */
  get absentBytes(): number {
    return this.#absent().reduce((bytes, { pages }) => bytes + bytesOf(pages), 0);
  }

  /** Brings all of them, in the background; who touches one meanwhile comes first. The snapshot's files are of no use
   *  any more then. Rejects with SYSTEM where one cannot be read, CLOSED where RAM goes meanwhile, ABORTED: what has
   *  come stays. */
  async load(options?: SnapshotWork): Promise<void> {
    const work = validate.options(options, ['signal', 'progress'], 'load');
    checkWork(work);
    const absent = this.#absent();
    const onStep = stepCounter(
      absent.map(({ pages }) => pages),
      work.progress,
    );
    for (const { memory, pages } of absent) {
      for (const { offset, length } of stepsOf(pages)) {
        if (work.signal?.aborted) throw aborted(work.signal.reason);
        await memory.fetch(offset, length);
        onStep(length);
      }
    }
  }

  #absent(): { memory: PrivateMemory; pages: readonly PageRange[] }[] {
    const open = this.#memories.filter((memory) => !memory.closed);
    return open.map((memory) => ({ memory, pages: memory.absentRanges() as readonly PageRange[] }));
  }
}
