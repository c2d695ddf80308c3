// Pagers: what brings the pages of private memory when somebody touches them first. One serves all memory of one map.

import { channel } from 'node:diagnostics_channel';
import { formatHex } from '../core/address.ts';
import { obtained } from '../core/collected.ts';
import type { MembackingError } from '../core/errors.ts';
import { type Pager as AddonPager, native } from '../core/native.ts';
import { systemError, withRemedy, wrapped } from '../core/system.ts';
import type { DataRange } from './data-range.ts';

/** A stretch of memory whose bytes a file has. */
export interface FilePart extends DataRange {
  /** Index of the file among those of the memory. */
  readonly file: number;
  /** Offset in the file of the first byte. */
  readonly fileOffset: number;
}

/** A message of the channel `membacking:page-lost`: a page could not be read from where a lazy restore has it. */
export interface PageLostMessage {
  /** Name of the memory. */
  readonly memory: string;
  /** Offset in the memory of the page's first byte. */
  readonly offset: number;
  /** Error with the code SYSTEM. */
  readonly error: MembackingError;
}

const LOST_CHANNEL = channel('membacking:page-lost');

/** Reasons why a machine cannot page, by the system's error, and what to do. */
const REMEDIES: Readonly<Record<string, string>> = {
  EINVAL: 'this kernel cannot: Linux has what it takes since 6.6',
  ENOSYS: 'this kernel is built without userfaultfd',
  EPERM:
    'this process may not use userfaultfd: let it (CAP_SYS_PTRACE, /dev/userfaultfd or vm.unprivileged_userfaultfd)',
};

/** A pager. It goes on as long as there is memory whose pages it brings. */
export class Pager {
  /** The addon's handle; to be closed when the memory is. */
  readonly addon: AddonPager;
  /** Names of memory by the pager's numbers. */
  readonly #names = new Map<number, string>();

  private constructor(addon: AddonPager) {
    this.addon = addon;
    const names = this.#names;
    addon.listen(() => {
      for (const { block, offset, error } of addon.takeLosses()) {
        const memory = names.get(block)!;
        const lost = wrapped(`page ${formatHex(offset)} of RAM "${memory}" cannot be read`, error);
        LOST_CHANNEL.publish({ memory, offset, error: lost } satisfies PageLostMessage);
      }
    });
  }

  /** Makes one. Throws SYSTEM. */
  static open(): Pager {
    return systemError('memory cannot be restored lazily', () =>
      withRemedy(REMEDIES, () => new Pager(obtained(() => native().Pager.create()))),
    );
  }

  /** Names memory of this pager. */
  name(block: number, name: string): void {
    this.#names.set(block, name);
  }
}

/** Parts as the addon takes them. */
export function partsForAddon(parts: readonly FilePart[]): BigUint64Array {
  return BigUint64Array.from(
    parts.flatMap(({ offset, length, file, fileOffset }) => [offset, length, file, fileOffset].map(BigInt)),
  );
}
