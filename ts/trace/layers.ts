// Layers: where each region stands in an address space, seen or hidden. The flat view is what is left of them when
// every byte is given to the first layer that has it.

import * as abi from '../../assembly/abi.ts';
import { type Address, toAddress } from '../core/address.ts';
import type { Core, Row } from '../core/core.ts';
import { type RegionKind, regionKindName } from '../core/kinds.ts';
import type { Names } from '../core/names.ts';

/** A region at one place of an address space; one that is seen through several aliases is there several times. */
export interface TraceLayer {
  /** Name of the region. */
  readonly name: string;
  /** Kind of the region. */
  readonly kind: RegionKind;
  /** GPA where it would be seen, if nothing hid it. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
  /** Offset in the region of the byte at `gpa`. */
  readonly offsetInRegion: Address;
  /** Priority in its container. */
  readonly priority: number;
  /** The region's own flag, or that of a container or alias on the way to it. */
  readonly readonly: boolean;
  /** The alias that shows it here; of several, the nearest to the region. */
  readonly through: string | undefined;
}

/** State of a walk: bounds that clip, and what is inherited. */
interface Way {
  readonly start: bigint;
  readonly last: bigint;
  readonly readonly: boolean;
  readonly through: string | undefined;
}

const LAST = (1n << 64n) - 1n;

/** The layers under a region that stands at `offset`, strongest first. Containers show nothing of their own. */
export function layersOf(core: Core, root: number, offset: Address, names: Names): TraceLayer[] {
  const layers: TraceLayer[] = [];
  const visit = (row: Row, base: bigint, way: Way): void => {
    if (row.flags & (abi.REGION_DISABLED | abi.REGION_EMPTY)) return;
    const [start, last] = clipped(base, base + BigInt(row.last) - BigInt(row.start), way);
    if (start > last) return;
    const readonly = way.readonly || (row.flags & abi.REGION_READONLY) !== 0;
    if (row.kind & abi.KIND_HAS_TARGET) {
      const target = core.region(row.other - 1);
      visit(target, base - BigInt(row.offset), { start, last, readonly, through: names.regions.get(row.id) });
      return;
    }
    const inside = { start, last, readonly, through: way.through };
    for (const child of core.children(row.id)) visit(child, base + BigInt(child.start), inside);
    if (!(row.kind & abi.KIND_SHOWS)) return;
    layers.push({
      name: names.regions.get(row.id)!,
      kind: regionKindName(row.kind) as RegionKind,
      gpa: toAddress(start),
      length: toAddress(last - start + 1n),
      offsetInRegion: toAddress(start - base),
      priority: row.priority,
      readonly,
      through: way.through,
    });
  };
  visit(core.region(root), BigInt(offset), { start: 0n, last: LAST, readonly: false, through: undefined });
  return layers;
}

function clipped(start: bigint, last: bigint, way: Way): [start: bigint, last: bigint] {
  return [start > way.start ? start : way.start, last < way.last ? last : way.last];
}
