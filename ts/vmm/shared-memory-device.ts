// A PCI device that is nothing but memory: one BAR that shows a file to the guest, wherever the guest wants it.

import type { DeviceMemoryMapper, SharedMemory } from '../index.ts';
import { type Bar, PciFunction } from './pci.ts';

/** One of the identifiers that virtio's vendor leaves to experiments. */
const IDENTITY = { vendor: 0x1af4, device: 0x10f0, classCode: 0x050000 };

export class SharedMemoryDevice extends PciFunction {
  /** `memory`: a power of two of bytes, at least a page. */
  constructor(mapper: DeviceMemoryMapper, memory: SharedMemory) {
    super(IDENTITY);
    const size = Number(memory.size);
    const { control, region } = mapper.newRegion(size, memory.name);
    region.map(0, memory.fd, 0, size, true);
    const bar: Bar = {
      kind: 'memory',
      size,
      show: (at) => control.mapToGuest(at),
      hide: () => control.unmapFromGuest(),
    };
    this.addBar(0, bar);
  }
}
