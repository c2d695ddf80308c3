// The firmware's flash: at the top of 4 GiB, where the processor begins, and its last 128 KiB once more below 1 MiB,
// under the RAM that PAM registers switch on and off.

import { writeSync } from 'node:fs';
import { type MemoryMap, type Region, SharedMemory } from '../index.ts';
import { FOUR_GIB, PRIORITY } from './layout.ts';

const GRANULARITY = 0x10000;
const LARGEST = 0x40000;
const LEGACY_END = 0x100000;
const LEGACY_WINDOW = 0x20000;

/** Whether an image can be this machine's firmware: whole 64 KiB, up to 256 KiB. */
export function isFirmware(image: Uint8Array): boolean {
  return image.length > 0 && image.length <= LARGEST && image.length % GRANULARITY === 0;
}

export function placeFirmware(map: MemoryMap, root: Region, image: Uint8Array): void {
  const size = image.length;
  const content = SharedMemory.create(size, { name: 'firmware' });
  try {
    writeSync(content.fd, image, 0, size, 0);
    map.transaction(() => {
      const flash = map.createRegion({ name: 'flash', kind: 'rom', size });
      flash.map({ object: content, writable: false });
      flash.place(root, { offset: FOUR_GIB - size, priority: PRIORITY.firmware });
      const window = Math.min(size, LEGACY_WINDOW);
      map
        .createAlias({ name: 'flash below 1 MiB', target: flash, offset: size - window, size: window })
        .place(root, { offset: LEGACY_END - window, priority: PRIORITY.firmware });
    });
  } finally {
    content.close(); // the map keeps what it shows
  }
}
