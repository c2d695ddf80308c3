// The firmware's flash: at the top of 4 GiB, where the processor begins, and its last 128 KiB once more below 1 MiB,
// under the RAM that PAM registers switch on and off. Below it the chip that firmware keeps its variables in.

import { type MemoryMap, type Region, SharedMemory } from '../index.ts';
import { Flash } from './flash.ts';
import { FOUR_GIB, PRIORITY } from './layout.ts';

const PAGE = 0x1000;
/** Bytes of flash at most. */
export const MOST_FLASH = 0x100_0000;
const LEGACY_END = 0x100000;
const LEGACY_WINDOW = 0x20000;

/** Contents of the machine's flash. */
export interface FirmwareImage {
  /** Whole 4 KiB. With the variables, 16 MiB at most. */
  readonly firmware: Uint8Array;
  /** Memory in which firmware keeps its variables, seen below `firmware`: whole 4 KiB. What the guest writes is kept in
   *  it, and in its file if it has one. Default none: firmware forgets them. */
  readonly firmwareVariables?: SharedMemory;
}

/** Says why a machine cannot have this flash; undefined if it can. */
export function whyNoFirmware({ firmware, firmwareVariables }: FirmwareImage): string | undefined {
  if (firmwareVariables !== undefined && !(firmwareVariables instanceof SharedMemory)) {
    return 'firmwareVariables must be SharedMemory';
  }
  const sizes = [firmware.length, ...(firmwareVariables === undefined ? [] : [Number(firmwareVariables.size)])];
  if (sizes.every((size) => size > 0 && size % PAGE === 0) && sizes[0]! + (sizes[1] ?? 0) <= MOST_FLASH)
    return undefined;
  return `firmware and its variables must be whole 4 KiB, up to 16 MiB; these have ${sizes.join(' and ')} bytes`;
}

/** Places the firmware. Returns the chip with its variables, if it has any. */
export function placeFirmware(
  map: MemoryMap,
  root: Region,
  { firmware, firmwareVariables }: FirmwareImage,
): Flash | undefined {
  const size = firmware.length;
  const content = SharedMemory.create(size, { name: 'firmware' });
  try {
    content.write(0, firmware);
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
  if (firmwareVariables === undefined) return undefined;
  return new Flash(map, root, FOUR_GIB - size - Number(firmwareVariables.size), firmwareVariables);
}
