// What a monitor says of its RAM, checked.

import * as validate from '../validate.ts';
import { BACKING_KINDS, type RamBacking } from './backing.ts';
import type { GpaRange } from './layout.ts';

export interface RamOptions {
  /** For people, and what a handed-over backing finds its memory by. Default: "ram", "ram1", … */
  readonly name?: string;
  /** In the order in which the backing's bytes fill them. Whole pages. */
  readonly ranges: readonly GpaRange[];
  /** Default: new shared memory. */
  readonly backing?: RamBacking;
}

export interface RamSpec {
  readonly name: string;
  readonly ranges: readonly GpaRange[];
  readonly backing: RamBacking;
}

/** Throws INVALID_ARGUMENT. What does not fit is found when it is built. */
export function checkedRam(options: RamOptions, defaultName: string): RamSpec {
  const given = validate.options(options, ['name', 'ranges', 'backing'], 'addRam');
  if (!Array.isArray(given.ranges) || given.ranges.length === 0) {
    throw validate.invalid('ranges must be a list of at least one range');
  }
  const ranges = given.ranges.map((range: GpaRange) => {
    const { gpa, length } = validate.options(range, ['gpa', 'length'], 'a range');
    return { gpa: validate.address(gpa, 'gpa'), length: validate.size(length, 'length') };
  });
  const name = validate.text(given.name ?? defaultName, 'name');
  const { backing = { kind: 'shared' } } = given;
  validate.oneOf(BACKING_KINDS, (backing as Partial<RamBacking> | null)?.kind, 'backing.kind');
  return { name, ranges, backing };
}
