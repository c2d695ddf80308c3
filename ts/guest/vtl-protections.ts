// The protections of a trust level as they were asked for: disjoint stretches, of which neighbours that are alike are
// one.

import { RangeTree, type Stretch } from '../core/range-tree.ts';

/** Access that a trust level is left in a stretch of its view. */
export interface VtlProtection extends Stretch {
  /** ACCESS_* of abi.ts. */
  readonly access: number;
  /** Whether the nearest that a hypervisor can do will do. */
  readonly nearest: boolean;
}

type Range = Pick<Stretch, 'start' | 'end'>;

export class VtlProtections {
  readonly #tree = new RangeTree<VtlProtection>();

  /** Number of protections. */
  get size(): number {
    return this.#tree.size;
  }

  /** All of them, in order of address. */
  all(): VtlProtection[] {
    return this.#tree.all();
  }

  /** Whether something in a range is protected. */
  overlaps({ start, end }: Range): boolean {
    return this.#tree.overlaps(start, end);
  }

  /** Returns what makes them as they are now again. */
  mark(): () => void {
    return this.#tree.mark();
  }

  /** Puts a protection over what is there. */
  set(added: VtlProtection): void {
    const touched = this.#tree.overlapping(added.start - 1, added.end + 1);
    const alike = touched.filter((each) => isSame(each, added));
    const cut = touched.filter((each) => !isSame(each, added) && each.start < added.end && each.end > added.start);
    const start = Math.min(added.start, alike[0]?.start ?? added.start);
    const end = Math.max(added.end, alike.at(-1)?.end ?? added.end);
    this.#replace([...alike, ...cut], [...outside(cut, added), { ...added, start, end }]);
  }

  /** Takes away what is protected in a range. */
  clear(range: Range): void {
    const cut = this.#tree.overlapping(range.start, range.end);
    this.#replace(cut, outside(cut, range));
  }

  #replace(replaced: readonly VtlProtection[], made: readonly VtlProtection[]): void {
    for (const each of replaced) this.#tree.delete(each);
    for (const each of made) this.#tree.add(each);
  }
}

/** Parts of protections that lie outside of a range. */
function outside(cut: readonly VtlProtection[], { start, end }: Range): VtlProtection[] {
  return cut.flatMap((each) => {
    const below = each.start < start ? [{ ...each, end: start }] : [];
    return each.end > end ? [...below, { ...each, start: end }] : below;
  });
}

function isSame(one: VtlProtection, other: VtlProtection): boolean {
  return one.access === other.access && one.nearest === other.nearest;
}
