// Device memory: BARs and DAX windows. A region that the device maps files into, and a control that the bus uses to place
// it; both work in any order, and neither loses what the other did.

import type { Address } from '../address.ts';
import { Handle } from '../handle.ts';
import type { MemoryMap } from '../map.ts';
import { SharedMemory } from '../object.ts';
import type { Region } from '../region.ts';
import * as validate from '../validate.ts';

/** What the guest finds where nothing is mapped in a region that is placed: an exit, or zeroes that it cannot write. */
export const HOLE_POLICIES = ['exit', 'zero'] as const;
export type HolePolicy = (typeof HOLE_POLICIES)[number];

export interface DeviceRegionOptions {
  /** Default `exit`. */
  readonly holes?: HolePolicy;
  /** Signed; RAM is at 255, and hides devices of a lower priority. Default 0. */
  readonly priority?: number;
}

/** Makes device regions of one guest. */
export class DeviceMemoryMapper {
  readonly #map: MemoryMap;
  readonly #root: Region;

  /** @internal Made by GuestMemoryManager. */
  constructor(map: MemoryMap, root: Region) {
    this.#map = map;
    this.#root = root;
  }

  /** A region of `length` bytes (whole pages) that is nowhere yet: who places it, and who fills it. */
  newRegion(length: Address, name: string, options?: DeviceRegionOptions): { control: DeviceRegionControl; region: MappedRegion } {
    const { holes = 'exit', priority = 0 } = validate.options(options, ['holes', 'priority'], 'newRegion');
    const policy = validate.oneOf(HOLE_POLICIES, holes, 'holes');
    const bytes = validate.length(length, 'length');
    const level = validate.integer(priority, 'priority', -0x80000000, 0x7fffffff);
    const zeroes = policy === 'zero' ? SharedMemory.create(bytes, { name: `${name} holes` }) : undefined;
    try {
      const region = this.#map.transaction(() => {
        const made = this.#map.createRegion({ name, kind: 'device', size: bytes });
        if (zeroes !== undefined) made.map({ object: zeroes, writable: false, length: bytes });
        return made;
      });
      return {
        control: new DeviceRegionControl(this.#root, region, level),
        region: new MappedRegion(this.#map, region, zeroes),
      };
    } catch (error) {
      zeroes?.close();
      throw error;
    }
  }
}

/** Where the guest sees a device region: what a bus does with a BAR. */
export class DeviceRegionControl {
  readonly #root: Region;
  readonly #region: Region;
  readonly #priority: number;
  #gpa: Address | undefined;

  /** @internal */
  constructor(root: Region, region: Region, priority: number) {
    this.#root = root;
    this.#region = region;
    this.#priority = priority;
  }

  /** Where it is seen; undefined while it is not. */
  get gpa(): Address | undefined {
    return this.#gpa;
  }

  /** Shows the region at `gpa`, from wherever it was. */
  mapToGuest(gpa: Address): void {
    const to = validate.address(gpa, 'gpa');
    if (this.#gpa === undefined) this.#region.place(this.#root, { offset: to, priority: this.#priority });
    else this.#region.move(to);
    this.#gpa = to;
  }

  /** Hides it; what is mapped into it stays mapped. */
  unmapFromGuest(): void {
    if (this.#gpa === undefined) return;
    this.#region.remove();
    this.#gpa = undefined;
  }
}

/** What a device shows in its region: files, or parts of them, as with mmap. */
export class MappedRegion extends Handle {
  readonly #map: MemoryMap;
  readonly #region: Region;
  readonly #zeroes: SharedMemory | undefined;

  /** @internal */
  constructor(map: MemoryMap, region: Region, zeroes: SharedMemory | undefined) {
    super();
    this.#map = map;
    this.#region = region;
    this.#zeroes = zeroes;
  }

  protected override get what(): string {
    return `device region "${this.#region.name}"`;
  }

  /** The region in the memory map. */
  get region(): Region {
    return this.#region;
  }

  /** Shows `length` bytes of a file at `offset`, over whatever was there. The descriptor is duplicated: it may be closed
   *  at once. All whole pages. Throws SYSTEM for a descriptor that will not do. */
  map(offset: Address, fd: number, fileOffset: Address, length: Address, writable = false): void {
    this.checkOpen();
    const from = validate.address(fileOffset, 'fileOffset');
    const bytes = validate.length(length, 'length');
    const file = SharedMemory.fromFd(fd, { writable: validate.flag(writable, 'writable') });
    // The map keeps the file as long as a page of it is mapped.
    try {
      this.#region.map({ offset, object: file, objectOffset: from, length: bytes, writable });
    } finally {
      file.close();
    }
  }

  /** Takes away what is shown in a range: there the hole policy holds again. */
  unmap(offset: Address, length: Address): void {
    this.checkOpen();
    if (this.#zeroes === undefined) this.#region.unmap(offset, length);
    else this.#region.map({ offset, object: this.#zeroes, objectOffset: offset, length, writable: false });
  }

  /** What is shown, in order of offset. */
  mappings(): { offset: Address; length: Address; fileOffset: Address; writable: boolean }[] {
    this.checkOpen();
    const shown = this.#region.mappings().filter((mapping) => mapping.object !== this.#zeroes);
    return shown.map(({ offset, length, objectOffset, writable }) => ({ offset, length, fileOffset: objectOffset, writable }));
  }

  /** Ends the region; it must not be seen any more. Throws PLACED. */
  protected override release(): void {
    this.#map.transaction(() => this.#region.close());
    this.#zeroes?.close();
  }
}
