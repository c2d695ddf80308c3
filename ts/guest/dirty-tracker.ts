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

/** Ways to find out what was written. `scan`: the kernel notes the first write to each page, and is asked; Linux has
 *  that since 6.7. `faults`: whoever writes to a page first waits until a thread of this process has noted it; there
 *  since Linux 5.19, as exact, and slower. */
const DIRTY_METHODS = ['scan', 'faults'] as const;
/** A way to find out what was written. */
export type DirtyMethod = (typeof DIRTY_METHODS)[number];

/** Options of `GuestMemoryManager.trackDirty`. */
export interface DirtyOptions {
  /** Way to find out. Default: that of the trackers that there are, those of snapshots too, else `scan` where the
   *  kernel can, else `faults`. */
  readonly method?: DirtyMethod;
}

const ENOSYS = 'this kernel is built without userfaultfd';
/** Reasons why a machine cannot track dirty pages, by the system's error, and what to do. */
const REMEDIES: Readonly<Record<DirtyMethod, Readonly<Record<string, string>>>> = {
  scan: {
    EINVAL: 'this kernel has no asynchronous write-protection: Linux has it since 6.7',
    ENOTTY: 'this kernel has no asynchronous write-protection: Linux has it since 6.7',
    ENOSYS,
    EPERM: 'this process may not use userfaultfd: let it (seccomp profiles of containers forbid it)',
  },
  faults: {
    EINVAL: 'this kernel cannot write-protect shared memory for this process: Linux can since 5.19',
    ENOSYS,
    EPERM:
      'this process may not use userfaultfd for what the kernel writes: let it (CAP_SYS_PTRACE, /dev/userfaultfd or vm.unprivileged_userfaultfd)',
  },
};

/** Tracker of a guest's dirty pages: those that were written since it was made or asked last, by the guest, by
 *  JavaScript or other code of this process, or by a system call. Pages are those of the memory objects: one that is
 *  hidden, moved with its BAR, protected, or seen at other addresses is as dirty as before. Every tracker has its own
 *  set. Closing the last one ends the tracking, and what that costs; the end of the map does too. */
export class DirtyTracker extends Handle {
  /** Way in which it finds out what was written. */
  readonly method: DirtyMethod;
  readonly #map: MemoryMap;
  readonly #va: VaSpace;
  readonly #id: number;
  readonly #stopWatching: () => void;

  /** Begins by the first of some methods that will do. @internal Made by GuestMemoryManager, and for its snapshots. */
  constructor(map: MemoryMap, va: VaSpace, methods: readonly DirtyMethod[] = DIRTY_METHODS) {
    super();
    this.#map = map;
    this.#va = va;
    const { addon } = nativeOf(map.context);
    const { id, by } = begun(methods, (byFaults) => addon.track(shown(map), byFaults));
    this.#id = id;
    this.method = by;
    this.#stopWatching = whenCollected(this, () => addon.untrack(id));
  }

  protected override get what(): string {
    return 'the dirty tracker';
  }

  /** Whether it has ended, by itself or with the map. */
  override get closed(): boolean {
    return super.closed || this.#map.closed;
  }

  /** Pages that have become dirty since the last call, and are not any more. A page that is written meanwhile is among
   *  these or among the next ones. Where the kernel cannot watch a range (`DirtyPages.unwatched`), all of it counts as
   *  written each time. Throws CLOSED. */
  collect(): DirtyPages {
    return this.#take(true);
  }

  /** Pages as `collect` gives them, of those that were found already: when another tracker began. Throws CLOSED.
   *  @internal */
  found(): DirtyPages {
    return this.#take(false);
  }

  #take(isLooking: boolean): DirtyPages {
    this.checkOpen();
    const { context } = this.#map;
    context.checkOpen();
    const { core, objects } = context;
    const { addon } = nativeOf(context);
    const triples = addon.collectDirty(this.#id, isLooking);
    return new DirtyPages({
      triples,
      rows: triples.length === 0 ? [] : core.sinkRows(this.#va.id),
      objectOf: (id) => objects.objectOf(id),
      untracked: [...objects.known].filter((object) => object.mayBeWrittenElsewhere()),
      unwatched: addon.unwatched().map((id) => objects.objectOf(id)),
    });
  }

  protected override release(): void {
    this.#stopWatching();
    nativeOf(this.#map.context).addon.untrack(this.#id);
  }
}

/** Methods that options ask for. Throws INVALID_ARGUMENT. */
export function askedMethods(options: DirtyOptions | undefined): readonly DirtyMethod[] {
  const { method } = validate.options(options, ['method'], 'trackDirty');
  return method === undefined ? DIRTY_METHODS : [validate.oneOf(DIRTY_METHODS, method, 'method')];
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

/** A tracker that was begun. */
interface Begun {
  readonly id: number;
  readonly by: DirtyMethod;
}

/** Begins to track by the first of some methods that will do. Throws NO_DIRTY_TRACKING, SYSTEM, INVALID_ARGUMENT. */
function begun([by, ...others]: readonly DirtyMethod[], track: (byFaults: boolean) => number): Begun {
  try {
    return { id: track(by === 'faults'), by: by! };
  } catch (error) {
    const { code = '', syscall } = error as Partial<SystemError>;
    if (others.length > 0 && syscall !== 'plan' && NEXT[by!].includes(code)) return begun(others, track);
    throw untracked(by!, error);
  }
}

/** Codes of errors after which another method may do. */
const NEXT: Readonly<Record<DirtyMethod, readonly string[]>> = {
  scan: ['EINVAL', 'ENOTTY', 'EBUSY'],
  faults: ['EINVAL', 'EPERM', 'EBUSY'],
};

function untracked(by: DirtyMethod, error: unknown): MembackingError {
  const { code = '', syscall, errno } = error as Partial<SystemError>;
  if (code === 'EBUSY') return validate.invalid(`the memory has trackers that do not go by "${by}": end them first`);
  const remedy = REMEDIES[by][code];
  if (remedy === undefined || syscall === 'plan') return wrapped('dirty pages cannot be tracked', error);
  return new MembackingError('NO_DIRTY_TRACKING', `dirty pages cannot be tracked: ${remedy}`, {
    details: { code, syscall, errno },
    cause: error,
  });
}
