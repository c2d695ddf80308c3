// A PCI device that is nothing but memory: one BAR that shows a file to the guest, wherever the guest wants it.

import { type DeviceMemoryMapper, MembackingError, type SharedMemory } from '../index.ts';
import { PciFunction } from './pci.ts';

/** One of the identifiers that virtio's vendor leaves to experiments. */
const IDENTITY = { vendor: 0x1af4, device: 0x10f0, classCode: 0x050000 };

/** Maker of device regions. */
export type RegionMaker = Pick<DeviceMemoryMapper, 'newRegion'>;

/** A PCI device whose one BAR shows a memory object. */
export class SharedMemoryDevice extends PciFunction {
  /** `memory`: a power of two of bytes, at least a page. */
  constructor(mapper: RegionMaker, memory: SharedMemory) {
    super(IDENTITY);
    const size = Number(memory.size);
    const { control, region } = mapper.newRegion(size, memory.name);
    region.map(0, memory.fd, 0, size, true);
    const hide = () => control.unmapFromGuest();
    const show = (at: number) => {
      try {
        control.mapToGuest(at);
        return true;
      } catch (error) {
        // The guest may want it where the map cannot have it: in the midst of another's huge page.
        if (!(error instanceof MembackingError)) throw error;
        hide();
        return false;
      }
    };
    this.addBar(0, { kind: 'memory', size, show, hide });
  }
}
