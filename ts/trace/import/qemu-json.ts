// A memory map of QEMU as one JSON file: a tree of memory regions at one moment, and the flat map QEMU made of it.
// Here it is read and checked; fields that only repeat what others say are not looked at.

import { MembackingError } from '../../core/errors.ts';
import { parseHex } from '../fields.ts';
import { shown } from '../format.ts';
import { jsonFault } from '../json-fault.ts';
import {
  aliasInCircle,
  IMPORTED_KINDS,
  type ImportedKind,
  type ImportedMap,
  type ImportedRegion,
  type ImportedRow,
  WHOLE,
} from './imported.ts';

/** Reads one file. Throws QEMU_MAP, naming the file and the place in it. */
export function parseQemuMap(text: string, fileName: string): ImportedMap {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const { line, column } = jsonFault(text);
    throw mapError(fileName, `line ${line}, column ${column}: this is not JSON: it is broken or cut off`, cause);
  }
  try {
    return readMap(new Fields(value, 'the map'), fileName);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    throw mapError(fileName, error.message);
  }
}

/** Error of a map, in words; the file's name is added by who knows it. */
class Problem extends Error {}

function mapError(file: string, problem: string, cause?: unknown): MembackingError {
  return new MembackingError('QEMU_MAP', `${file}: ${problem}`, { details: { file }, cause });
}

function readMap(map: Fields, fileName: string): ImportedMap {
  const name = map.has('name') ? map.text('name') : fileName.replace(/^.*\//, '').replace(/\.json(\.gz)?$/, '');
  const addressSpaces = map.list('address_spaces').map((space, i) => {
    if (typeof space === 'string') return space;
    throw new Problem(`"address_spaces" item ${i} must be a string`);
  });
  if (addressSpaces.length === 0) throw new Problem('"address_spaces" must name at least one address space');

  const tree = new Fields(map.value('tree'), '"tree"');
  const list = tree.list('regions').map((item, i) => new Fields(item, `region ${i}`));
  const rootId = tree.id('root', list.length);
  const parents = readParents(list);
  const regions = list.map((fields, i) => readRegion(fields, i, parents));
  checkPlacement(regions);
  const circular = aliasInCircle(regions);
  if (circular !== undefined) throw new Problem(`the alias ${circular.id} is its own target`);
  const root = regions[rootId] as ImportedRegion;
  if (root.parent !== undefined)
    throw new Problem(`region ${rootId} is the root, but also a child of region ${root.parent}`);

  const flat = map.list('flat').map((item, i) => readRow(new Fields(item, `"flat" row ${i}`), regions.length));
  return { name, snapshot: name.split('--', 1)[0] as string, regions, views: [{ addressSpaces, root, flat }] };
}

/** The parent of each region. */
function readParents(list: readonly Fields[]): (number | undefined)[] {
  const parents = new Array<number | undefined>(list.length).fill(undefined);
  list.forEach((fields, parent) => {
    for (const child of fields.ids('children', list.length)) {
      const other = parents[child];
      if (other !== undefined)
        throw new Problem(`region ${child} is listed as a child twice: of regions ${other} and ${parent}`);
      parents[child] = parent;
    }
  });
  return parents;
}

function readRegion(fields: Fields, position: number, parents: readonly (number | undefined)[]): ImportedRegion {
  const count = parents.length;
  const id = fields.id('id', count);
  if (id !== position) throw fields.problem('id', `must be ${position}, its position in the list, not ${id}`);
  const kind = fields.text('kind') as ImportedKind;
  if (!IMPORTED_KINDS.includes(kind))
    throw fields.problem('kind', `must be one of ${IMPORTED_KINDS.join(', ')}, not ${shown(kind)}`);
  const isAlias = kind === 'alias';
  return {
    id,
    name: fields.text('name'),
    kind,
    priority: fields.int32('priority'),
    offset: fields.hex('offset', WHOLE - 1n),
    size: fields.hex('size', WHOLE),
    enabled: fields.flag('enabled', true),
    readonly: fields.flag('readonly', false),
    nonvolatile: fields.flag('nonvolatile', false),
    children: fields.ids('children', count),
    parent: parents[id],
    target: isAlias ? fields.id('target', count) : undefined,
    targetStart: isAlias ? fields.hex('target_start', WHOLE - 1n) : 0n,
  };
}

/** Children stand under something that is no alias, in order of priority, and nothing stands under itself. */
function checkPlacement(regions: readonly ImportedRegion[]): void {
  const reached = new Set<number>();
  const waiting = regions.filter((region) => region.parent === undefined);
  for (let region = waiting.pop(); region !== undefined; region = waiting.pop()) {
    reached.add(region.id);
    if (region.kind === 'alias' && region.children.length > 0)
      throw new Problem(`region ${region.id} is an alias: it cannot have children`);
    let strongest = Number.POSITIVE_INFINITY;
    for (const id of region.children) {
      const child = regions[id] as ImportedRegion;
      if (child.priority > strongest)
        throw new Problem(`the children of region ${region.id} must be listed strongest first: ${id} is too late`);
      strongest = child.priority;
      waiting.push(child);
    }
  }
  const unreached = regions.find((region) => !reached.has(region.id));
  if (unreached !== undefined) throw new Problem(`region ${unreached.id} is its own ancestor`);
}

function readRow(fields: Fields, count: number): ImportedRow {
  const start = fields.hex('start', WHOLE - 1n);
  const end = fields.hex('end', WHOLE - 1n);
  if (end < start) throw fields.problem('end', 'must not be below "start"');
  return {
    start,
    end,
    region: fields.id('region', count),
    offsetInRegion: fields.hex('offset_in_region', WHOLE - 1n),
    readonly: fields.flag('readonly', false),
    nonvolatile: fields.flag('nonvolatile', false),
  };
}

/** One JSON object, its fields checked as they are read. */
class Fields {
  readonly #object: Record<string, unknown>;
  readonly #where: string;

  constructor(value: unknown, where: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new Problem(`${where} must be an object`);
    this.#object = value as Record<string, unknown>;
    this.#where = where;
  }

  problem(field: string, problem: string): Problem {
    return new Problem(`${this.#where}: "${field}" ${this.has(field) ? problem : 'is missing'}`);
  }

  has(field: string): boolean {
    return this.#object[field] !== undefined;
  }

  value(field: string): unknown {
    if (!this.has(field)) throw this.problem(field, '');
    return this.#object[field];
  }

  text(field: string): string {
    const value = this.#object[field];
    if (typeof value !== 'string') throw this.problem(field, 'must be a string');
    return value;
  }

  list(field: string): unknown[] {
    const value = this.#object[field];
    if (!Array.isArray(value)) throw this.problem(field, 'must be a list');
    return value;
  }

  flag(field: string, absent: boolean): boolean {
    const value = this.#object[field] ?? absent;
    if (typeof value !== 'boolean') throw this.problem(field, 'must be true or false');
    return value;
  }

  int32(field: string): number {
    const value = this.#object[field];
    if (!Number.isInteger(value) || value !== (Number(value) | 0))
      throw this.problem(field, 'must be an integer of 32 bits with sign');
    return value as number;
  }

  hex(field: string, most: bigint): bigint {
    const value = parseHex(this.#object[field]);
    if (value === undefined || value > most)
      throw this.problem(field, `must be a hexadecimal string from "0x0" to "0x${most.toString(16)}"`);
    return BigInt(value);
  }

  id(field: string, count: number): number {
    return this.#checkedId(this.#object[field], field, count);
  }

  ids(field: string, count: number): number[] {
    if (!this.has(field)) return [];
    return this.list(field).map((id) => this.#checkedId(id, field, count));
  }

  #checkedId(value: unknown, field: string, count: number): number {
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) < count) return value as number;
    throw this.problem(field, `must be the id of one of the ${count} regions, not ${shown(value)}`);
  }
}
