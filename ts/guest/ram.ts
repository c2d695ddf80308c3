// Control that switches pieces of RAM: hidden, readable, or readable and writable.

import { type Address, difference, formatHex, sum } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { keepInThread } from '../core/handle.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';
import { checkedRange, type GpaRange, lastOf } from './layout.ts';
import type { RamRegion } from './ram-pieces.ts';
import type { WritableRam } from './writable-ram.ts';

/** Visibility of a piece of RAM: none, so that what lies below shows through; without writes; or as RAM. */
const RAM_VISIBILITIES = ['unmapped', 'read-only', 'read-write'] as const;
/** Visibility of a piece of RAM to the guest: hidden, readable, or readable and writable. */
export type RamVisibility = (typeof RAM_VISIBILITIES)[number];

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

const CHANGE_FIELDS = ['gpa', 'length', 'visibility'] as const;

/** A piece of RAM, and its visibility from now on. */
interface SwitchedPiece {
  readonly ram: RamRegion;
  readonly to: RamVisibility;
}

/** The RAM that there is, in order of GPA, and what of it stays writable. */
interface SwitchedRam {
  readonly pieces: readonly RamRegion[];
  readonly writable: readonly WritableRam[];
  keepWritable(range: GpaRange): WritableRam;
}

/** Switches whole pieces of RAM, as chipsets do: with legacy x86 support, those that PAM registers control. */
export class RamVisibilityControl {
  readonly #map: MemoryMap;
  readonly #ram: SwitchedRam;

  /** @internal Made by GuestMemoryManager. */
  constructor(map: MemoryMap, ram: SwitchedRam) {
    keepInThread(this);
    this.#map = map;
    this.#ram = ram;
  }

  /** The ranges that can be switched, in order of GPA, and what they are switched to now. */
  ranges(): { gpa: Address; length: Address; visibility: RamVisibility }[] {
    return this.#ram.pieces.map((ram) => ({ gpa: ram.gpa, length: ram.length, visibility: visibilityOf(ram) }));
  }

  /** Visibility of the RAM at an address; undefined where there is no RAM. */
  at(gpa: Address): RamVisibility | undefined {
    const address = validate.address(gpa, 'gpa');
    const isThere = (range: GpaRange) => range.gpa <= address && lastOf(range) >= address;
    if (this.#ram.writable.some(isThere)) return 'read-write';
    const found = this.#ram.pieces.find(isThere);
    return found === undefined ? undefined : visibilityOf(found);
  }

  /** Switches one range: exactly one of `ranges()`, or several that follow each other. Throws NOT_CONTROLLABLE. */
  set(range: GpaRange, visibility: RamVisibility): void {
    this.#switch(this.#checked(range, visibility));
  }

  /** Switches several ranges in one step that no guest sees half of. Throws NOT_CONTROLLABLE and changes nothing. */
  setAll(changes: readonly VisibilityChange[]): void {
    if (!Array.isArray(changes)) throw validate.invalid('the changes must be a list');
    this.#switch(changes.flatMap((change: VisibilityChange) => this.#checked(change, change?.visibility)));
  }

  /** Checks a range and its visibility, and gives the pieces that are switched. */
  #checked(range: GpaRange, visibility: RamVisibility): SwitchedPiece[] {
    const change = validate.options(range as VisibilityChange, CHANGE_FIELDS, 'a visibility change');
    const to = validate.oneOf(RAM_VISIBILITIES, visibility, 'visibility');
    const pieces = this.#piecesOf({
      gpa: validate.address(change.gpa, 'gpa'),
      length: validate.length(change.length, 'length'),
    });
    return pieces.map((ram) => ({ ram, to }));
  }

  #switch(pieces: readonly SwitchedPiece[]): void {
    this.#map.transaction(() => {
      for (const { ram, to } of pieces) {
        if (visibilityOf(ram) === to) continue;
        ram.region.setFlags({ enabled: to !== 'unmapped', readonly: to === 'read-only' });
      }
    });
  }

  /** Plans a switch, and makes none: firmware's first one is not to wait until everything for it is compiled.
   *  @internal */
  rehearse(): void {
    const { context } = this.#map;
    const [first] = this.ranges();
    if (first === undefined || context.isBusy) return;
    const { visibility, ...range } = first;
    try {
      context.preview(
        () => this.set(range, visibility === 'read-only' ? 'read-write' : 'read-only'),
        () => {},
      );
    } catch (error) {
      // A switch for which there are too few slots, say, is refused when it is wanted.
      const isRefusal = error instanceof MembackingError && error.code !== 'INVALID_ARGUMENT';
      if (!isRefusal || context.isBroken) throw error;
    }
  }

  /** Writes RAM, whatever it is switched to: for chipsets that have writes land in RAM that reads do not see. Throws
   *  NOT_CONTROLLABLE where not all of it is RAM of one piece; READONLY_OBJECT, GUEST_ACCESS, SYSTEM. */
  write(gpa: Address, from: Uint8Array): void {
    const start = validate.address(gpa, 'gpa');
    const end = sum(start, validate.bytes(from, 'from').length);
    const piece = this.#ram.pieces.find((ram) => ram.gpa <= start && sum(ram.gpa, ram.length) >= end);
    if (piece === undefined) {
      const message = `${formatHex(from.length)} bytes at ${formatHex(start)} are not RAM of one piece`;
      throw new MembackingError('NOT_CONTROLLABLE', message, { details: { gpa: start, length: from.length } });
    }
    piece.object.write(sum(piece.backingOffset, difference(start, piece.gpa)), from);
  }

  /** Keeps whole pages of RAM readable and writable, whatever the pieces that they are in are switched to, until what
   *  is returned is closed: the window in the ROM area that KVM's vapic writes to. Throws NOT_CONTROLLABLE where not
   *  all of the range is RAM; UNALIGNED, LEASED, NO_SLOTS. */
  keepWritable(range: GpaRange): WritableRam {
    return this.#ram.keepWritable(checkedRange(range, 'keepWritable'));
  }

  #piecesOf({ gpa, length }: GpaRange): readonly RamRegion[] {
    const only = this.#ram.pieces.find((ram) => ram.gpa === gpa && ram.length === length);
    if (only !== undefined) return [only];
    const end = sum(gpa, length);
    const inside = this.#ram.pieces.filter((ram) => ram.gpa >= gpa && sum(ram.gpa, ram.length) <= end);
    const covered = inside.reduce((bytes, ram) => sum(bytes, ram.length), 0 as Address);
    if (covered === length) return inside;
    const ranges = this.ranges().map((ram) => `${formatHex(ram.gpa)}-${formatHex(lastOf(ram))}`);
    throw new MembackingError(
      'NOT_CONTROLLABLE',
      `RAM at ${formatHex(gpa)} of ${formatHex(length)} bytes cannot be switched by itself; the ranges that can are ${ranges.join(', ')}`,
      { details: { gpa, length } },
    );
  }
}
