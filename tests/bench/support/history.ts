// A long history of a memory map, the same each time.

import type { TraceOperation } from '../../../ts/index.ts';
import { Random } from '../../support/random.ts';

const SLOT = 0x20_0000;
const SLOTS = 16_384;
const BARS = 256;

/** A machine: a DAX window that is filled and emptied (most of it), BARs that move and hide, some in transactions. */
export function* operations(count: number): Generator<TraceOperation> {
  const random = new Random(21);
  const region = { readonly: false, nonvolatile: false, enabled: true };
  const setUp: TraceOperation[] = [
    { op: 'region', id: 0, name: 'root', kind: 'container', size: 2 ** 46, ...region },
    { op: 'region', id: 1, name: 'dax', kind: 'device', size: SLOTS * SLOT, ...region },
    { op: 'place', id: 1, parent: 0, offset: 2 ** 40, priority: 0 },
    ...Array.from({ length: BARS }, (_, bar): TraceOperation[] => [
      { op: 'region', id: 2 + bar, name: `bar ${bar}`, kind: 'mmio', size: 0x4000, ...region },
      { op: 'place', id: 2 + bar, parent: 0, offset: 2 ** 32 + bar * 0x10000, priority: 0 },
    ]).flat(),
    { op: 'object', id: 0, name: 'file', kind: 'shared', size: 2 ** 46, writable: true, pageSize: 4096 },
    { op: 'space', id: 0, name: 'memory', root: 0, offset: 0 },
    { op: 'va', id: 0, space: 0, size: 2 ** 46 },
  ];
  yield* setUp;
  for (let done = setUp.length; done < count; done++) {
    const kind = random.below(100);
    const offset = random.below(SLOTS) * SLOT;
    const id = 2 + random.below(BARS);
    if (kind < 45) {
      const objectOffset = random.below(2 ** 20) * SLOT;
      yield { op: 'map', region: 1, offset, length: SLOT, object: 0, objectOffset, writable: true };
    } else if (kind < 84) yield { op: 'unmap', region: 1, offset, length: SLOT };
    else if (kind < 90) yield { op: 'flags', id, enabled: random.below(2) === 0 };
    else if (kind < 94) yield { op: 'move', id, offset: 2 ** 32 + random.below(4096) * 0x10000 };
    else if (done + 5 < count) {
      yield { op: 'begin' };
      for (let i = 0; i < 3; i++) yield { op: 'unmap', region: 1, offset: random.below(SLOTS) * SLOT, length: SLOT };
      yield { op: 'commit' };
      done += 4;
    } else yield { op: 'unmap', region: 1, offset, length: SLOT };
  }
}
