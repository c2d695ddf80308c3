// Guests whose memory is in pieces.

import { MemoryMap, SharedMemory, type VaSpace } from '../../../ts/index.ts';

/** A guest of `count` backings of equal size, `bytes` in all, and holes of `gap` bytes between them. */
export function backings(count: number, bytes: number, gap = 0): VaSpace {
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'container', size: 2 ** 40 });
  const length = bytes / count;
  for (let index = 0; index < count; index++) {
    const region = map.createRegion({ name: `ram ${index}`, kind: 'ram', size: length });
    region.map({ object: SharedMemory.create(length), length });
    region.place(root, { offset: index * (length + gap) });
  }
  return map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }), { size: 2 ** 38 });
}
