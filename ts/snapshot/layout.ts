// Layout of a snapshot: everything but the bytes of its memory, as JSON that people read.

import { type Address, formatHex } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';
import { POLICIES, type Policy } from '../core/kinds.ts';
import { PRIORITIES } from '../core/validate.ts';
import { type PlainState, parseState, stateJson } from './caller-state.ts';
import { Field, refused } from './field.ts';
import { PAGE, type PageRange, pageListText, parsePageList } from './page-list.ts';

const FORMAT = 'membacking-snapshot';
const VERSION = 1;
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A range of guest-physical addresses, in bytes. */
export interface SnapshotRange {
  /** First address. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
}

/** RAM of one backing, in a snapshot. */
export interface SnapshotRam {
  /** Name of the block, by which a diff finds it in its base. */
  readonly name: string;
  /** Kind of its memory. */
  readonly kind: 'shared' | 'private';
  /** Bytes of a page of its memory: more than 4096 for hugetlb pages. */
  readonly pageSize: number;
  /** Ranges that its bytes fill, in order. */
  readonly ranges: readonly SnapshotRange[];
  /** Offset in the memory file of its first byte. */
  readonly fileOffset: number;
  /** Bytes. */
  readonly size: number;
  /** Whether pages that are not in `pages` are as in the base; else they are zeroes. */
  readonly onBase: boolean;
  /** Pages that the memory file has, in order. */
  readonly pages: readonly PageRange[];
  /** CRC-32 of these pages; 0 in a stream, where each record has its own. */
  readonly crc32: number;
}

/** A device region, in a snapshot. */
export interface SnapshotDevice {
  /** Name of the region. */
  readonly name: string;
  /** Bytes. */
  readonly length: number;
  /** Priority that it is placed with. */
  readonly priority: number;
  /** Policy for what nothing is mapped in. */
  readonly holes: 'exit' | 'zero';
  /** GPA that it is placed at; undefined: nowhere. */
  readonly gpa: Address | undefined;
  /** Whether the guest may write what is mapped writable. */
  readonly writable: boolean;
  /** Files that it shows, in order of offset. `file` is the path that the descriptor had, for people and for whoever
   *  opens it again. */
  readonly mappings: readonly {
    readonly offset: number;
    readonly length: number;
    readonly file: string;
    readonly fileOffset: number;
    readonly writable: boolean;
  }[];
}

/** Layout of a snapshot. Addresses are bytes. */
export interface SnapshotLayout {
  /** Identity: another one for each snapshot. */
  readonly id: string;
  /** Snapshot that this one is a diff of; `folder` from the folder of this one, none where it is a template. */
  readonly base: { readonly id: string; readonly folder: string | undefined } | undefined;
  /** The memory file: its name in the folder, and bytes. */
  readonly memory: { readonly file: string; readonly size: number };
  /** Options of the guest's memory: see `GuestMemoryOptions`. */
  readonly options: {
    readonly maxAddress: Address;
    readonly vtl0AliasMap: Address | undefined;
    readonly x86LegacySupport: boolean;
    readonly pinMappings: boolean;
    readonly policy: Policy;
    readonly slotBudget: number | undefined;
  };
  /** Blocks of RAM. */
  readonly ram: readonly SnapshotRam[];
  /** Pieces of RAM that are not read and written as RAM. */
  readonly visibility: readonly (SnapshotRange & { readonly visibility: 'unmapped' | 'read-only' })[];
  /** Ranges of RAM that stay writable, whatever their pieces are switched to. */
  readonly writableRam: readonly SnapshotRange[];
  /** Protections of trust levels. */
  readonly protections: readonly (SnapshotRange & {
    readonly vtl: 0 | 2;
    readonly access: 'none' | 'r' | 'rw' | 'rx';
    readonly nearest: boolean;
  })[];
  /** Device regions, placed or not. */
  readonly devices: readonly SnapshotDevice[];
  /** State that the caller has added. */
  readonly state: PlainState | undefined;
}

/** Layout of a guest, wherever its memory is kept. */
export type GuestLayout = Omit<SnapshotLayout, 'base' | 'memory'>;

/** Text of a layout: JSON, a field a line. */
export function formatLayout(layout: SnapshotLayout): string {
  const { id, base, memory, ram, state, options, visibility, writableRam, protections, devices } = layout;
  const json = {
    ...{ format: FORMAT, version: VERSION, id, base },
    ...(hexadecimal({ memory, options, ram: ram.map(ramJson) }) as object),
    ...(hexadecimal({ visibility, writableRam, protections, devices }) as object),
    ...(state !== undefined && { state: stateJson(state) }),
  };
  return `${JSON.stringify(json, undefined, 2)}\n`;
}

function ramJson({ name, kind, pageSize, ranges, fileOffset, size, onBase, pages, crc32 }: SnapshotRam): unknown {
  const memory = { name, kind, pageSize, ranges, fileOffset, size, onBase };
  return { ...memory, pages: pageListText(pages), crc32: formatHex(crc32) };
}

const ADDRESSES = new Set(['gpa', 'length', 'offset', 'fileOffset', 'size', 'pageSize', 'maxAddress', 'vtl0AliasMap']);

/** Value with hexadecimal text for addresses and lengths. */
function hexadecimal(value: unknown, name = ''): unknown {
  if (typeof value === 'bigint' || (typeof value === 'number' && ADDRESSES.has(name))) return formatHex(value);
  if (Array.isArray(value)) return value.map((item) => hexadecimal(item));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([each, item]) => [each, hexadecimal(item, each)]));
}

/** Layout of a text that anybody may have written. Throws SNAPSHOT_LAYOUT, whose `details.path` says where, and
 *  SNAPSHOT_VERSION. */
export function parseLayout(text: string): SnapshotLayout {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw refused('layout', 'must be JSON', cause);
  }
  checkVersion(json);
  const layout = new Field(json, '').object([
    ...(['format', 'version', 'id', 'base', 'memory', 'options', 'ram'] as const),
    ...(['visibility', 'writableRam', 'protections', 'devices', 'state'] as const),
  ]);
  const memory = memoryOf(layout.memory);
  const base = layout.base.optional(baseOf);
  return {
    id: layout.id.matching(ID, 'a UUID in lower case'),
    ...{ base, memory, options: optionsOf(layout.options) },
    ram: ramOf(layout.ram, memory.size, base !== undefined),
    visibility: layout.visibility.list(visibilityOf),
    writableRam: layout.writableRam.list((field) => rangeOf(field.object(['gpa', 'length']))),
    protections: layout.protections.list(protectionOf),
    devices: layout.devices.list(deviceOf),
    state: layout.state.optional(parseState),
  };
}

function checkVersion(json: unknown): void {
  const { format, version } = Object(json) as Record<string, unknown>;
  if (format !== FORMAT) throw refused('format', `must be "${FORMAT}": this is no snapshot`);
  if (version === VERSION) return;
  const message = `the snapshot is of version ${JSON.stringify(version)}, and this package reads ${VERSION}`;
  throw new MembackingError('SNAPSHOT_VERSION', message, { details: { version } });
}

function baseOf(field: Field): NonNullable<SnapshotLayout['base']> {
  const { id, folder } = field.object(['id', 'folder']);
  return {
    id: id.matching(ID, 'a UUID in lower case'),
    folder: folder.optional((path) => path.matching(/^[^\0]{1,4096}$/, 'a path')),
  };
}

function memoryOf(field: Field): SnapshotLayout['memory'] {
  const { file, size } = field.object(['file', 'size']);
  const name = file.matching(/^memory-[0-9a-f-]{1,64}$/, 'a name such as "memory-0a"');
  return { file: name, size: size.bytes(0) };
}

function optionsOf(field: Field): SnapshotLayout['options'] {
  const given = field.object([
    ...(['maxAddress', 'vtl0AliasMap', 'x86LegacySupport', 'pinMappings', 'policy', 'slotBudget'] as const),
  ]);
  const maxAddress = given.maxAddress.address();
  return {
    maxAddress,
    vtl0AliasMap: given.vtl0AliasMap.optional((value) => value.address()),
    x86LegacySupport: given.x86LegacySupport.flag(),
    pinMappings: given.pinMappings.flag(),
    policy: given.policy.oneOf(POLICIES),
    slotBudget: given.slotBudget.optional((value) => value.integer(1, 65536)),
  };
}

function rangeOf({ gpa, length }: Record<'gpa' | 'length', Field>): SnapshotRange {
  return { gpa: gpa.address(), length: length.bytes(PAGE) };
}

/** Blocks of RAM, one behind the other in the memory file. */
function ramOf(field: Field, memorySize: number, hasBase: boolean): SnapshotRam[] {
  let end = 0;
  const names = new Set<string>();
  return field.list((item) => {
    const block = blockOf(item, hasBase);
    if (names.has(block.name)) throw refused(`${item.path}.name`, 'must be a name that no other RAM has');
    names.add(block.name);
    if (block.fileOffset < end) throw refused(`${item.path}.fileOffset`, 'must be behind the RAM before');
    end = block.fileOffset + block.size;
    if (end > memorySize) throw refused(`${item.path}.size`, 'must end with the memory file');
    return block;
  });
}

function blockOf(field: Field, hasBase: boolean): SnapshotRam {
  const given = field.object([
    ...(['name', 'kind', 'pageSize', 'ranges', 'fileOffset', 'size', 'onBase', 'pages', 'crc32'] as const),
  ]);
  const ranges = given.ranges.list((item) => rangeOf(item.object(['gpa', 'length'])));
  const size = given.size.bytes(PAGE);
  if (ranges.reduce((bytes, { length }) => bytes + Number(length), 0) !== size) {
    throw refused(given.ranges.path, 'must be as long as the size, all together');
  }
  const onBase = given.onBase.flag();
  if (onBase && !hasBase) throw refused(given.onBase.path, 'must be false where there is no base');
  return {
    name: given.name.text(),
    kind: given.kind.oneOf(['shared', 'private']),
    pageSize: given.pageSize.bytes(PAGE),
    ...{ ranges, fileOffset: given.fileOffset.bytes(0), size, onBase },
    pages: parsePageList(given.pages, size),
    crc32: Number(given.crc32.matching(/^0x[0-9a-f]{1,8}$/, 'a CRC-32 such as "0x0"')),
  };
}

function visibilityOf(field: Field): SnapshotLayout['visibility'][number] {
  const given = field.object(['gpa', 'length', 'visibility']);
  return { ...rangeOf(given), visibility: given.visibility.oneOf(['unmapped', 'read-only']) };
}

function protectionOf(field: Field): SnapshotLayout['protections'][number] {
  const given = field.object(['vtl', 'gpa', 'length', 'access', 'nearest']);
  return {
    vtl: given.vtl.oneOf([0, 2]),
    ...rangeOf(given),
    access: given.access.oneOf(['none', 'r', 'rw', 'rx']),
    nearest: given.nearest.flag(),
  };
}

function deviceOf(field: Field): SnapshotDevice {
  const given = field.object(['name', 'length', 'priority', 'holes', 'gpa', 'writable', 'mappings']);
  return {
    name: given.name.text(),
    length: given.length.bytes(PAGE),
    priority: given.priority.integer(...PRIORITIES),
    holes: given.holes.oneOf(['exit', 'zero']),
    gpa: given.gpa.optional((value) => value.address()),
    writable: given.writable.flag(),
    mappings: given.mappings.list((item) => {
      const mapping = item.object(['offset', 'length', 'file', 'fileOffset', 'writable']);
      return {
        offset: mapping.offset.bytes(0),
        length: mapping.length.bytes(PAGE),
        file: mapping.file.text(),
        fileOffset: mapping.fileOffset.bytes(0),
        writable: mapping.writable.flag(),
      };
    }),
  };
}
