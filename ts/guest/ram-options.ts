// Options of RAM, checked.

import * as validate from '../core/validate.ts';
import { type AnyBacking, BACKING_KINDS, type RamBacking } from './backing.ts';
import type { GpaRange } from './layout.ts';
import { LazyBacking } from './lazy-backing.ts';

/** Options of RAM of one backing. */
export interface RamOptions {
  /** Name for people, by which a handed-over backing finds its memory, too. Default: the first of "ram", "ram1", … that
   *  no other RAM has. */
  readonly name?: string;
  /** Ranges in the order in which the backing's bytes fill them. Whole pages. */
  readonly ranges: readonly GpaRange[];
  /** Backing of the RAM. Default: new shared memory. `shared` and `private` are short for `{ kind }`. */
  readonly backing?: RamBacking | 'shared' | 'private';
  /** Asks the system to back it with huge pages as it sees fit; `if-possible` takes RAM without them, too, where they
   *  are switched off, and `inspect()` says what it got. Default false. */
  readonly transparentHugePages?: boolean | 'if-possible';
  /** The NUMA node of the host that its pages come from. Default: any. */
  readonly numaNode?: number;
  /** Reserves nothing, so that memory may be missing when it is touched: as with all but huge pages. Default false. */
  readonly noReserve?: boolean;
  /** Makes all of it resident at once, in the background: needs `buildAsync` or `addRamAsync`. Default false. */
  readonly prefetch?: boolean;
}

export interface RamSpec {
  /** Name; undefined: to be found when it is built. */
  readonly name: string | undefined;
  readonly ranges: readonly GpaRange[];
  readonly backing: AnyBacking;
  readonly transparentHugePages: boolean | 'if-possible';
  readonly numaNode: number | undefined;
  readonly noReserve: boolean;
  readonly prefetch: boolean;
}

const OPTIONS = [
  ...(['name', 'ranges', 'backing'] as const),
  ...(['transparentHugePages', 'numaNode', 'noReserve', 'prefetch'] as const),
] as const;
const SHORT_KINDS = ['shared', 'private'] as const;
const MAX_NODE = 1023;

function hugePages(wanted: RamOptions['transparentHugePages'] = false): RamSpec['transparentHugePages'] {
  return wanted === 'if-possible' ? wanted : validate.flag(wanted, 'transparentHugePages');
}

/** Checks options of RAM. Throws INVALID_ARGUMENT. What does not fit is found when it is built. */
export function checkedRam(options: RamOptions): RamSpec {
  const given = validate.options(options, OPTIONS, 'addRam');
  if (!Array.isArray(given.ranges) || given.ranges.length === 0) {
    throw validate.invalid('ranges must be a list of at least one range');
  }
  const ranges = given.ranges.map((range: GpaRange) => {
    const { gpa, length } = validate.options(range, ['gpa', 'length'], 'a range');
    return { gpa: validate.address(gpa, 'gpa'), length: validate.size(length, 'length') };
  });
  const { backing = 'shared' } = given;
  const full: AnyBacking =
    typeof backing === 'string' ? { kind: validate.oneOf(SHORT_KINDS, backing, 'backing') } : backing;
  if (!(full instanceof LazyBacking)) {
    validate.oneOf(BACKING_KINDS, (full as Partial<RamBacking> | null)?.kind, 'backing.kind');
  }
  return {
    name: given.name === undefined ? undefined : validate.text(given.name, 'name'),
    ranges,
    backing: full,
    transparentHugePages: hugePages(given.transparentHugePages),
    numaNode: given.numaNode === undefined ? undefined : validate.integer(given.numaNode, 'numaNode', 0, MAX_NODE),
    noReserve: validate.flag(given.noReserve ?? false, 'noReserve'),
    prefetch: validate.flag(given.prefetch ?? false, 'prefetch'),
  };
}
