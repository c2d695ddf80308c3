// Device memory: BARs and DAX windows. A region that the device maps files into, and a control that the bus uses to
// place it; both work in any order, and neither loses what the other did.

import type { Mapping, Region } from '../asked/region.ts';
import { type Address, isPageAligned } from '../core/address.ts';
import { Handle, keepInThread } from '../core/handle.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';
import { DeviceFile, FileTable, MAX_FILE } from './files.ts';
import { Zeroes } from './holes.ts';

/** Policy for the parts of a placed region in which nothing is mapped: an exit, or zeroes that the guest cannot write.
 *  Zeroes cost memory once the guest has read them: 2 MiB at most, or a 1024th of a region above 2 GiB. */
export const HOLE_POLICIES = ['exit', 'zero'] as const;
/** A policy for the parts of a device region in which nothing is mapped. */
export type HolePolicy = (typeof HOLE_POLICIES)[number];

/** Options of `DeviceMemoryMapper.newRegion`. */
export interface DeviceRegionOptions {
  /** Policy for what nothing is mapped in. Default `exit`. */
  readonly holes?: HolePolicy;
  /** Signed; RAM is at 255, and hides devices of a lower priority. Default 0. */
  readonly priority?: number;
}

/** Options of `DeviceMemoryMapper.openFile`. */
export interface DeviceFileOptions {
  /** Whether parts of it may be mapped writable: the descriptor must then be open for writing. Default false. */
  readonly writable?: boolean;
}

/** Options of `DeviceRegionControl.mapToGuest`. */
export interface GuestMappingOptions {
  /** Whether the guest may write what is mapped writable. Default true. */
  readonly writable?: boolean;
}

/** One stretch of a device region that shows a file. */
export interface DeviceMapping {
  /** Offset in the region, in bytes. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Offset in the file of the mapping's first byte. */
  readonly fileOffset: number;
  /** Whether the guest may write. */
  readonly writable: boolean;
  /** `driver` for memory that a driver gives; files have none. */
  readonly kind?: 'driver';
}

/** Makes device regions of one guest. */
export class DeviceMemoryMapper {
  readonly #map: MemoryMap;
  readonly #root: Region;
  readonly #files: FileTable;
  readonly #regions = new Set<MappedRegion>();

  /** @internal Made by GuestMemoryManager. */
  constructor(map: MemoryMap, root: Region) {
    keepInThread(this);
    this.#map = map;
    this.#root = root;
    this.#files = new FileTable(map);
  }

  /** A region of `length` bytes (whole pages, at most 2^52) that is nowhere yet: who places it, and who fills it. */
  newRegion(
    length: Address,
    name: string,
    options?: DeviceRegionOptions,
  ): { control: DeviceRegionControl; region: MappedRegion } {
    const { holes = 'exit', priority = 0 } = validate.options(options, ['holes', 'priority'], 'newRegion');
    const policy = validate.oneOf(HOLE_POLICIES, holes, 'holes');
    const bytes = pages(length, 'length', MAX_FILE);
    const level = validate.priority(priority);
    const checkedName = validate.text(name, 'name');
    const zeroes = policy === 'zero' ? new Zeroes(bytes, checkedName) : undefined;
    try {
      return this.#map.transaction(() => {
        // Undone last: the map has then let go of them.
        this.#map.context.onUndo(() => zeroes?.close());
        const region = this.#map.createRegion({ name: checkedName, kind: 'device', size: bytes });
        zeroes?.fill(this.#map, region, 0, bytes);
        const forget = () => this.#regions.delete(mapped);
        const mapped = new MappedRegion({
          map: this.#map,
          region,
          files: this.#files,
          zeroes,
          priority: level,
          forget,
        });
        this.#map.context.onUndo(() => mapped.discard());
        this.#regions.add(mapped);
        return { control: new DeviceRegionControl(this.#map, this.#root, region, level), region: mapped };
      });
    } catch (error) {
      zeroes?.close();
      throw error;
    }
  }

  /** Opens a descriptor's file for device regions to show, which is cheaper than the descriptor for who maps often; it
   *  is duplicated, and may be closed at once. Default: read-only. Throws SYSTEM for a descriptor that will not do. */
  openFile(fd: number, options?: DeviceFileOptions): DeviceFile {
    const { writable = false } = validate.options(options, ['writable'], 'openFile');
    return this.#files.openHandle(fd, validate.flag(writable, 'writable'));
  }

  /** The regions that are open. Inside a transaction: without those that it has closed. */
  get regions(): readonly MappedRegion[] {
    return [...this.#regions].filter(({ closed }) => !closed);
  }

  /** @internal Precondition: the map is closed. */
  close(): void {
    for (const region of this.#regions) region.end();
    this.#files.close();
  }
}

/** Control that places a device region where the guest sees it, as a bus does with a BAR. */
export class DeviceRegionControl {
  readonly #map: MemoryMap;
  readonly #root: Region;
  readonly #region: Region;
  readonly #priority: number;

  /** @internal */
  constructor(map: MemoryMap, root: Region, region: Region, priority: number) {
    keepInThread(this);
    this.#map = map;
    this.#root = root;
    this.#region = region;
    this.#priority = priority;
  }

  /** GPA at which it is placed; undefined while it is not. */
  get gpa(): Address | undefined {
    return this.#region.offset;
  }

  /** Shows the region at `gpa`, a multiple of the page size, from wherever it was. It is the guest that says where,
   *  so a place past the highest address is none that is refused: what lies there is not seen. Throws SPLIT_PAGE
   *  where it would show other memory in the midst of a huge page, UNALIGNED where its own huge pages do not fit; it
   *  is then where it was. */
  mapToGuest(gpa: Address, options?: GuestMappingOptions, ...more: never[]): void {
    if (more.length > 0) throw validate.invalid('mapToGuest takes a gpa and options, and nothing more');
    const to = validate.address(gpa, 'gpa');
    if (!isPageAligned(to)) throw validate.invalid('gpa must be a multiple of 0x1000 bytes');
    const { writable = true } = validate.options(options, ['writable'], 'mapToGuest');
    const readonly = !validate.flag(writable, 'writable');
    const now = this.gpa;
    const isFlagged = this.#region.flags.readonly;
    if (now === to && isFlagged === readonly) return;
    this.#map.transaction(() => {
      if (isFlagged !== readonly) this.#region.setFlags({ readonly });
      if (now === undefined) this.#region.place(this.#root, { offset: to, priority: this.#priority });
      else if (now !== to) this.#region.move(to);
    });
  }

  /** Hides it; what is mapped into it stays mapped. */
  unmapFromGuest(): void {
    if (this.gpa !== undefined) this.#region.remove();
  }
}

/** Parts of a device region, as its maker hands them over. */
interface MappedRegionParts {
  readonly map: MemoryMap;
  readonly region: Region;
  readonly files: FileTable;
  readonly zeroes: Zeroes | undefined;
  readonly priority: number;
  /** Takes it from the regions that are open. */
  readonly forget: () => void;
}

/** A device's own side of its region: it maps files, or parts of them, as mmap does. */
export class MappedRegion extends Handle {
  /** The region in the memory map. */
  readonly region: Region;
  readonly #map: MemoryMap;
  readonly #files: FileTable;
  readonly #zeroes: Zeroes | undefined;
  /** Priority that it is placed with. @internal */
  readonly priority: number;
  readonly #forget: () => void;

  /** @internal */
  constructor({ map, region, files, zeroes, priority, forget }: MappedRegionParts) {
    super();
    this.#map = map;
    this.region = region;
    this.#files = files;
    this.#zeroes = zeroes;
    this.priority = priority;
    this.#forget = forget;
  }

  protected override get what(): string {
    return `device region "${this.region.name}"`;
  }

  /** Bytes. */
  get length(): number {
    return Number(this.region.size);
  }

  /** Makes it `length` bytes long (whole pages, at most 2^52), wherever it is placed: what is mapped past the new end
   *  goes, and what is added is holes, of the policy that the region was made with. Throws SYSTEM. */
  resize(length: Address): void {
    this.checkOpen();
    const bytes = pages(length, 'length', MAX_FILE);
    this.#zeroes?.fit(bytes);
    this.#map.transaction(() => {
      const { length: now } = this;
      this.region.resize(bytes);
      if (bytes > now) this.#zeroes?.fill(this.#map, this.region, now, bytes - now);
    });
  }

  /** Shows `length` bytes of a file at `offset`, over whatever was there. A descriptor is duplicated, at most once for
   *  each file and access: it may be closed at once. All whole pages. Throws SYSTEM for a descriptor that will not do,
   *  READONLY_OBJECT for a `DeviceFile` that is not writable and is to be, BAD_RANGE past the end of the region. What
   *  is behind the end of the file is not there until it grows. */
  map(offset: Address, file: number | DeviceFile, fileOffset: Address, length: Address, writable = false): void {
    this.checkOpen();
    const most = this.length;
    const bytes = pages(length, 'length', most);
    const at = pages(offset, 'offset', most, 0);
    const from = pages(fileOffset, 'fileOffset', MAX_FILE - bytes, 0);
    const mayWrite = validate.flag(writable, 'writable');
    this.#map.transaction(() => {
      const end = from + bytes;
      const object =
        file instanceof DeviceFile ? this.#files.objectOf(file, end) : this.#files.open(file, end, mayWrite);
      this.region.map({ offset: at, object, objectOffset: from, length: bytes, writable: mayWrite });
    });
  }

  /** Takes away what is shown in a range: there the hole policy holds again. */
  unmap(offset: Address, length: Address): void {
    this.checkOpen();
    const bytes = pages(length, 'length', this.length);
    const at = pages(offset, 'offset', this.length, 0);
    this.#map.transaction(() => {
      if (this.#zeroes === undefined) this.region.unmap(at, bytes);
      else this.#zeroes.fill(this.#map, this.region, at, bytes);
    });
  }

  /** The mappings, in order of offset. */
  mappings(): DeviceMapping[] {
    this.checkOpen();
    return this.shownFiles().map(({ offset, length, object, objectOffset, writable }) => ({
      offset: Number(offset),
      length: Number(length),
      fileOffset: Number(objectOffset),
      writable,
      ...(object.kind === 'driver' && { kind: object.kind }),
    }));
  }

  /** Policy for what nothing is mapped in. @internal */
  holes(): HolePolicy {
    return this.#zeroes === undefined ? 'exit' : 'zero';
  }

  /** Mappings of files, in order of offset. @internal */
  shownFiles(): Mapping[] {
    return this.region.mappings().filter(({ object }) => this.#files.has(object));
  }

  /** Ends the region, and takes it from the guest. */
  protected override release(): void {
    if (this.#map.closed) return;
    this.#map.transaction(() => {
      if (this.region.offset !== undefined) this.region.remove();
      this.region.close();
      this.#map.context.onUndo(() => this.setClosed(false));
      this.#map.context.onDone(() => this.end());
    });
  }

  /** @internal The map has let go of what it showed. */
  end(): void {
    this.discard();
    this.#zeroes?.close();
  }

  /** @internal The region is gone from the map. */
  discard(): void {
    this.setClosed(true);
    this.#forget();
  }
}

/** Whole pages from `least` to `most` bytes. */
function pages(value: Address, name: string, most: number, least = 1): number {
  const bytes = validate.integer(Number(validate.size(value, name)), name, least, most);
  if (!isPageAligned(bytes)) throw validate.invalid(`${name} must be whole pages of 0x1000 bytes`);
  return bytes;
}
