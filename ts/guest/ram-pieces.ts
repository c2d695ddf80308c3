// RAM in the map: one region for each piece that can be switched.

import type { MemoryObject } from '../asked/object.ts';
import type { Region } from '../asked/region.ts';
import type { MemoryMap } from '../map/map.ts';
import type { RamPiece } from './layout.ts';

/** RAM is seen before every device. */
export const RAM_PRIORITY = 255;

export interface RamRegion extends RamPiece {
  readonly object: MemoryObject;
  readonly region: Region;
}

/** Places the pieces of one backing. Inside a transaction. */
export function placeRam(
  map: MemoryMap,
  parent: Region,
  name: string,
  object: MemoryObject,
  pieces: readonly RamPiece[],
): RamRegion[] {
  return pieces.map((piece) => {
    const { gpa, length, backingOffset } = piece;
    const pieceName = pieces.length === 1 ? name : `${name}@${gpa.toString(16)}`;
    const region = map.createRegion({ name: pieceName, kind: 'ram', size: length });
    region.map({ object, objectOffset: backingOffset, length });
    region.place(parent, { offset: gpa, priority: RAM_PRIORITY });
    return { ...piece, object, region };
  });
}
