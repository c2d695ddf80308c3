// The pages of new RAM, before anybody sees it: from which node, how large, resident at once or not, pinned or not.

import { readFileSync } from 'node:fs';
import { addonObjectOf, type MemoryObject } from '../asked/object.ts';
import { MembackingError } from '../core/errors.ts';
import { wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import { memoryOf, type VaSpace } from '../sinks/va-space.ts';
import { MemoryBuildError, refusing } from './errors.ts';
import type { GpaRange } from './layout.ts';
import type { RamSpec } from './ram-options.ts';

/** Options of prefetching. */
export interface PrefetchOptions {
  /** Gives up: before anything is done, or between chunks. */
  readonly signal?: AbortSignal;
  /** Listener that is told after each chunk: bytes that are resident now, and that are to be. */
  readonly progress?: (done: number, total: number) => void;
}

const OVERCOMMIT = '/proc/sys/vm/overcommit_memory';
/** Value of OVERCOMMIT: no more private memory than there is. */
const NEVER = '2';

const CHUNK = 64 * 2 ** 20;
/** Calls that run at once: as many as Node.js has threads for, unless it is told otherwise. */
const AT_ONCE = 4;

/** Tells the system how RAM is to be backed. Returns whether it gives transparent huge pages. Throws MemoryBuildError:
 *  NUMA_NODE_ABSENT, HUGE_PAGES_OFF, OPTION_MISFIT. */
export function advise(object: MemoryObject, spec: RamSpec): boolean {
  const { numaNode, transparentHugePages, noReserve, prefetch } = spec;
  const { name } = object;
  if (noReserve && object.kind === 'private' && readFileSync(OVERCOMMIT, 'utf8').trim() === NEVER) {
    const message = `RAM "${name}" is private memory, all of which this machine reserves (vm.overcommit_memory is 2): make it shared`;
    throw new MemoryBuildError('OPTION_MISFIT', message, { name });
  }
  if (numaNode !== undefined) {
    refusing(
      { EINVAL: 'NUMA_NODE_ABSENT', EOPNOTSUPP: 'OPTION_MISFIT' },
      `RAM "${name}" of NUMA node ${numaNode}`,
      () => addonObjectOf(object).setNumaNode(numaNode),
    );
  }
  if (transparentHugePages === false) return false;
  const atTouch = refusing({ EINVAL: 'OPTION_MISFIT' }, `transparent huge pages for RAM "${name}"`, () =>
    addonObjectOf(object).adviseHugePages(),
  );
  if (atTouch || prefetch) return true;
  if (transparentHugePages === 'if-possible') return false;
  if (object.kind === 'shared' && !object.isLasting) {
    const message = `RAM "${name}" is in a file, which may be given huge pages by a prefetch only: prefetch it, or ask for none`;
    throw new MemoryBuildError('OPTION_MISFIT', message, { name });
  }
  const setting = object.kind === 'private' ? 'enabled' : 'shmem_enabled';
  const message = `transparent huge pages for RAM "${name}" are switched off: as root, echo advise > /sys/kernel/mm/transparent_hugepage/${setting}; or prefetch it, or ask for "if-possible"`;
  throw new MemoryBuildError('HUGE_PAGES_OFF', message, { name });
}

/** Keeps all of an object in memory. Throws MemoryBuildError: PIN_REFUSED. */
export function pin(object: MemoryObject): void {
  const what = `RAM "${object.name}" cannot be pinned (RLIMIT_MEMLOCK must allow that much)`;
  refusing({ ENOMEM: 'PIN_REFUSED', EPERM: 'PIN_REFUSED', EAGAIN: 'PIN_REFUSED' }, what, () =>
    addonObjectOf(object).pin(),
  );
}

/** Checks options of prefetching. Throws INVALID_ARGUMENT, and ABORTED where it was given up already. */
export function checkedPrefetch(options: PrefetchOptions | undefined, name: string): PrefetchOptions {
  const given = validate.options(options, ['signal', 'progress'], name);
  validate.work(given);
  if (given.signal?.aborted) throw aborted(given.signal.reason);
  return given;
}

/** Makes objects resident, several chunks at a time. Rejects with ABORTED and MemoryBuildError (ALLOCATION_FAILED); no
 *  chunk is under way any more then. */
export async function prefetch(objects: readonly MemoryObject[], { signal, progress }: PrefetchOptions): Promise<void> {
  const chunks = objects.flatMap(chunksOf);
  const total = chunks.reduce((bytes, { length }) => bytes + length, 0);
  let done = 0;
  let failure: { error: unknown } | undefined;
  const worker = async () => {
    for (let chunk = chunks.shift(); chunk !== undefined && failure === undefined; chunk = chunks.shift()) {
      try {
        if (signal?.aborted) throw aborted(signal.reason);
        await addonObjectOf(chunk.object).populate(chunk.offset, chunk.length);
        done += chunk.length;
        progress?.(done, total);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (failure === undefined) return;
  const { error } = failure;
  if (error instanceof MembackingError || (error as { syscall?: string }).syscall === undefined) throw error;
  throw new MemoryBuildError('ALLOCATION_FAILED', wrapped('RAM cannot be made resident', error).message, {}, error);
}

/** Makes the page tables of shared RAM that is resident, so that nobody pays for them at the first touch. (Private RAM
 *  brings its own along.) Where that cannot be, they come with the first touch. */
export async function fill(va: VaSpace, ranges: readonly GpaRange[]): Promise<void> {
  const { reservation } = memoryOf(va);
  for (const { gpa, length } of ranges) {
    for (let done = 0; done < Number(length); done += CHUNK) {
      try {
        await reservation.fill(Number(gpa) + done, Math.min(CHUNK, Number(length) - done));
      } catch {
        // Something hides it meanwhile, or the VA space was closed.
      }
    }
  }
}

function chunksOf(object: MemoryObject): { object: MemoryObject; offset: number; length: number }[] {
  const step = Math.max(CHUNK, object.granularity);
  const size = Number(object.size);
  return Array.from({ length: Math.ceil(size / step) }, (_, i) => ({
    object,
    offset: i * step,
    length: Math.min(step, size - i * step),
  }));
}

function aborted(cause: unknown): MembackingError {
  return new MembackingError('ABORTED', 'RAM was given up before it was built; nothing is left of it', { cause });
}
