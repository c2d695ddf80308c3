// RAM in the map: one region for each piece that can be switched, and the control that switches them.

import type { MemoryObject } from '../asked/object.ts';
import type { Region } from '../asked/region.ts';
import { type Address, formatHex, lastByte, sum } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { keepInThread } from '../core/handle.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';
import type { GpaRange, RamPiece } from './layout.ts';

/** RAM is seen before every device. */
const RAM_PRIORITY = 255;

/** Visibility of a piece of RAM: none, so that what lies below shows through; without writes; or as RAM. */
const RAM_VISIBILITIES = ['unmapped', 'read-only', 'read-write'] as const;
/** Visibility of a piece of RAM to the guest: hidden, readable, or readable and writable. */
export type RamVisibility = (typeof RAM_VISIBILITIES)[number];

export interface RamRegion extends RamPiece {
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
    return { ...piece, region };
  });
}

export function visibilityOf({ region }: RamRegion): RamVisibility {
  const { enabled, readonly } = region.flags;
  if (!enabled) return 'unmapped';
  return readonly ? 'read-only' : 'read-write';
}

/** A range of whole pieces of RAM, and its visibility from now on. */
export interface VisibilityChange extends GpaRange {
  /** Visibility from now on. */
  readonly visibility: RamVisibility;
}

/** Switches whole pieces of RAM, as chipsets do: with legacy x86 support, those that PAM registers control. */
export class RamVisibilityControl {
  readonly #map: MemoryMap;
  readonly #ram: () => readonly RamRegion[];

  /** @internal Made by GuestMemoryManager. `ram`: what there is now, in order of GPA. */
  constructor(map: MemoryMap, ram: () => readonly RamRegion[]) {
    keepInThread(this);
    this.#map = map;
    this.#ram = ram;
  }

  /** The ranges that can be switched, in order of GPA, and how they are seen now. */
  ranges(): { gpa: Address; length: Address; visibility: RamVisibility }[] {
    return this.#ram().map((ram) => ({ gpa: ram.gpa, length: ram.length, visibility: visibilityOf(ram) }));
  }

  /** Visibility of the RAM at an address; undefined where there is no RAM. */
  at(gpa: Address): RamVisibility | undefined {
    const address = validate.address(gpa, 'gpa');
    const found = this.#ram().find((ram) => ram.gpa <= address && sum(ram.gpa, lastByte(ram.length)) >= address);
    return found === undefined ? undefined : visibilityOf(found);
  }

  /** Switches one range: exactly one of `ranges()`, or several that follow each other. Throws NOT_CONTROLLABLE. */
  set(range: GpaRange, visibility: RamVisibility): void {
    this.setAll([{ ...range, visibility }]);
  }

  /** Switches several ranges in one step that no guest sees half of. Throws NOT_CONTROLLABLE and changes nothing. */
  setAll(changes: readonly VisibilityChange[]): void {
    if (!Array.isArray(changes)) throw validate.invalid('the changes must be a list');
    const wanted = changes.flatMap((change: VisibilityChange) => {
      const given = validate.options(change, ['gpa', 'length', 'visibility'], 'a visibility change');
      const to = validate.oneOf(RAM_VISIBILITIES, given.visibility, 'visibility');
      const range = { gpa: validate.address(given.gpa, 'gpa'), length: validate.length(given.length, 'length') };
      return this.#piecesOf(range).map((ram) => ({ ram, to }));
    });
    this.#map.transaction(() => {
      for (const { ram, to } of wanted) {
        if (visibilityOf(ram) === to) continue;
        ram.region.setFlags({ enabled: to !== 'unmapped', readonly: to === 'read-only' });
      }
    });
  }

  #piecesOf({ gpa, length }: GpaRange): readonly RamRegion[] {
    const end = sum(gpa, length);
    const inside = this.#ram().filter((ram) => ram.gpa >= gpa && sum(ram.gpa, ram.length) <= end);
    const covered = inside.reduce((bytes, ram) => sum(bytes, ram.length), 0 as Address);
    if (covered === length) return inside;
    const ranges = this.ranges().map((ram) => `${formatHex(ram.gpa)}-${formatHex(sum(ram.gpa, lastByte(ram.length)))}`);
    throw new MembackingError(
      'NOT_CONTROLLABLE',
      `RAM at ${formatHex(gpa)} of ${formatHex(length)} bytes cannot be switched by itself; the ranges that can are ${ranges.join(', ')}`,
      { details: { gpa, length } },
    );
  }
}
