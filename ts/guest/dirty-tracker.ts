// Trackers of dirty pages: of all that this process and its guests write to the memory objects of one map.

import { nativeOf } from '../apply/native-executor.ts';
import { lengthOf } from '../core/address.ts';
import { whenCollected } from '../core/collected.ts';
import { MembackingError } from '../core/errors.ts';
import { Handle } from '../core/handle.ts';
import type { ShownPiece, SystemError } from '../core/native.ts';
import { wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';
import { VaSpace } from '../sinks/va-space.ts';
import { DirtyPages } from './dirty-pages.ts';

/** Reasons why a machine cannot track dirty pages, by the system's error, and what to do. */
const REMEDIES: Readonly<Record<string, string>> = {
  EINVAL: 'this kernel has no asynchronous write-protection: Linux has it since 6.7',
  ENOTTY: 'this kernel has no asynchronous write-protection: Linux has it since 6.7',
  ENOSYS: 'this kernel is built without userfaultfd',
  EPERM: 'this process may not use userfaultfd: let it (seccomp profiles of containers forbid it)',
};

/** Tracker of a guest's dirty pages: those that were written since it was made or asked last, by the guest, by
 *  JavaScript or other code of this process, or by a system call. Pages are those of the memory objects: one that is
 *  hidden, moved with its BAR, protected, or seen at other addresses is as dirty as before. Every tracker has its own
 *  set. Closing the last one ends the tracking, and what that costs; the end of the map does too. */
export class DirtyTracker extends Handle {
  readonly #map: MemoryMap;
  readonly #va: VaSpace;
  readonly #id: number;
  readonly #stopWatching: () => void;

  /** @internal Made by GuestMemoryManager. */
  constructor(map: MemoryMap, va: VaSpace) {
    super();
    this.#map = map;
    this.#va = va;
    const executor = nativeOf(map.context);
    this.#id = tracked(() => executor.track(shown(map)));
    const id = this.#id;
    this.#stopWatching = whenCollected(this, () => executor.untrack(id));
  }

  protected override get what(): string {
    return 'the dirty tracker';
  }

  /** Whether it has ended, by itself or with the map. */
  override get closed(): boolean {
    return super.closed || this.#map.closed;
  }

  /** Pages that have become dirty since the last call, and are not any more. A page that is written meanwhile is among
   *  these or among the next ones. Where the kernel cannot watch a range (it is short of memory), all of it counts as
   *  written each time. Throws CLOSED. */
  collect(): DirtyPages {
    this.checkOpen();
    const { context } = this.#map;
    context.checkOpen();
    const { core, objects } = context;
    const triples = nativeOf(context).collectDirty(this.#id);
    return new DirtyPages({
      triples,
      rows: triples.length === 0 ? [] : core.sinkRows(this.#va.id),
      objectOf: (id) => objects.objectOf(id),
      untracked: [...objects.known].filter((object) => object.mayBeWrittenElsewhere()),
    });
  }

  protected override release(): void {
    this.#stopWatching();
    nativeOf(this.#map.context).untrack(this.#id);
  }
}

/** Pieces that the VA spaces of a map show. */
function shown(map: MemoryMap): ShownPiece[] {
  const { core, runner, sinks } = map.context;
  if (runner.isRunning) throw validate.invalid('tracking cannot begin while a change is carried out');
  return [...sinks].flatMap((sink) => {
    if (!(sink instanceof VaSpace)) return [];
    return core.sinkRows(sink.id).map(({ start, last, id, offset, flags }) => ({
      ...{ sink: sink.id, gpa: start, length: lengthOf(start, last) },
      ...{ object: id, offset, access: flags },
    }));
  });
}

/** Calls the addon to track. Throws NO_DIRTY_TRACKING, SYSTEM. */
function tracked(call: () => number): number {
  try {
    return call();
  } catch (error) {
    const { code = '', syscall, errno } = error as Partial<SystemError>;
    const remedy = REMEDIES[code];
    if (remedy === undefined || syscall === 'plan') throw wrapped('dirty pages cannot be tracked', error);
    const details = { code, syscall, errno };
    throw new MembackingError('NO_DIRTY_TRACKING', `dirty pages cannot be tracked: ${remedy}`, {
      details,
      cause: error,
    });
  }
}
