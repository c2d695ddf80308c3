// RAM in the map: one region for each piece that can be switched, and the control that switches them.

import { type Address, formatHex, lastByte, sum } from '../address.ts';
import { MembackingError } from '../errors.ts';
import type { MemoryMap } from '../map.ts';
import type { MemoryObject } from '../object.ts';
import type { Region } from '../region.ts';
import * as validate from '../validate.ts';
import type { GpaRange, RamPiece } from './layout.ts';

/** RAM is seen before every device. */
export const RAM_PRIORITY = 255;

/** How a piece of RAM is seen: not at all, so that what lies below shows through; or without writes; or as RAM. */
export const RAM_VISIBILITIES = ['unmapped', 'read-only', 'read-write'] as const;
export type RamVisibility = (typeof RAM_VISIBILITIES)[number];

export interface RamRegion extends GpaRange {
  readonly region: Region;
  visibility: RamVisibility;
}

/** Places the pieces of one backing. Inside a transaction. */
export function placeRam(map: MemoryMap, parent: Region, name: string, object: MemoryObject, pieces: readonly RamPiece[]): RamRegion[] {
  return pieces.map(({ gpa, length, backingOffset }) => {
    const pieceName = pieces.length === 1 ? name : `${name}@${gpa.toString(16)}`;
    const region = map.createRegion({ name: pieceName, kind: 'ram', size: length });
    region.map({ object, objectOffset: backingOffset, length });
    region.place(parent, { offset: gpa, priority: RAM_PRIORITY });
    return { gpa, length, region, visibility: 'read-write' };
  });
}

export interface VisibilityChange extends GpaRange {
  readonly visibility: RamVisibility;
}

/** Switches whole pieces of RAM, as chipsets do: with legacy x86 support, those that PAM registers control. */
export class RamVisibilityControl {
  readonly #map: MemoryMap;
  readonly #ram: RamRegion[];

  /** @internal Made by GuestMemoryManager. */
  constructor(map: MemoryMap, ram: RamRegion[]) {
    this.#map = map;
    this.#ram = ram;
  }

  /** The ranges that can be switched, in order of GPA, and how they are seen now. */
  ranges(): { gpa: Address; length: Address; visibility: RamVisibility }[] {
    const all = this.#ram.map(({ gpa, length, visibility }) => ({ gpa, length, visibility }));
    return all.sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
  }

  /** How the RAM at an address is seen; undefined where there is no RAM. */
  at(gpa: Address): RamVisibility | undefined {
    const address = validate.address(gpa, 'gpa');
    return this.#ram.find((ram) => ram.gpa <= address && sum(ram.gpa, lastByte(ram.length)) >= address)?.visibility;
  }

  /** Switches one range: exactly one of `ranges()`, or several that follow each other. Throws NOT_CONTROLLABLE. */
  set(range: GpaRange, visibility: RamVisibility): void {
    this.setAll([{ ...range, visibility }]);
  }

  /** Switches several ranges in one step that no guest sees half of. Throws NOT_CONTROLLABLE and changes nothing. */
  setAll(changes: readonly VisibilityChange[]): void {
    const wanted = changes.flatMap((change) => {
      const { gpa, length, visibility } = validate.options(change, ['gpa', 'length', 'visibility'], 'a visibility change');
      const to = validate.oneOf(RAM_VISIBILITIES, visibility, 'visibility');
      const range = { gpa: validate.address(gpa, 'gpa'), length: validate.length(length, 'length') };
      return this.#piecesOf(range).map((ram) => ({ ram, to }));
    });
    const changed = wanted.filter(({ ram, to }) => ram.visibility !== to);
    if (changed.length === 0) return;
    this.#map.transaction(() => {
      for (const { ram, to } of changed) ram.region.setFlags({ enabled: to !== 'unmapped', readonly: to === 'read-only' });
    });
    for (const { ram, to } of changed) ram.visibility = to;
  }

  #piecesOf({ gpa, length }: GpaRange): RamRegion[] {
    const end = sum(gpa, length);
    const inside = this.#ram.filter((ram) => ram.gpa >= gpa && sum(ram.gpa, ram.length) <= end);
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
