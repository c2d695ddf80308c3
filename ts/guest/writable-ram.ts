// RAM that stays writable whatever its pieces are switched to: a region of its own, over theirs, on the same memory.

import type { Region } from '../asked/region.ts';
import { type Address, difference, formatHex, higher, lengthOf, lower, sum } from '../core/address.ts';
import { Handle } from '../core/handle.ts';
import type { MemoryMap } from '../map/map.ts';
import { type GpaRange, lastOf } from './layout.ts';
import { RAM_PRIORITY, type RamRegion } from './ram-pieces.ts';

/** A range of RAM that the guest reads and writes, whatever the pieces around it are switched to. Closing it leaves
 *  the range to them again, and throws LEASED where that takes it from a lease. It ends with the RAM. */
export class WritableRam extends Handle {
  /** First address. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
  readonly #map: MemoryMap;
  readonly #region: Region;

  /** @internal Made by RamVisibilityControl, in a transaction. `pieces`: all that it shows parts of, in order. */
  constructor(map: MemoryMap, root: Region, { gpa, length }: GpaRange, pieces: readonly RamRegion[]) {
    super();
    this.gpa = gpa;
    this.length = length;
    this.#map = map;
    this.#region = map.createRegion({ name: `writable@${gpa.toString(16)}`, kind: 'ram', size: length });
    for (const piece of pieces) {
      const start = higher(piece.gpa, gpa);
      const bytes = lengthOf(start, lower(lastOf(piece), lastOf(this)));
      const objectOffset = sum(piece.backingOffset, difference(start, piece.gpa));
      this.#region.map({ offset: difference(start, gpa), object: piece.object, objectOffset, length: bytes });
    }
    this.#region.place(root, { offset: gpa, priority: RAM_PRIORITY + 1 });
  }

  protected override get what(): string {
    return `writable RAM ${formatHex(this.gpa)}-${formatHex(lastOf(this))}`;
  }

  /** Whether it has ended, by itself or with its RAM. */
  override get closed(): boolean {
    return this.#region.closed;
  }

  protected override release(): void {
    this.#map.transaction(() => {
      this.#region.remove();
      this.#region.close();
    });
  }
}
