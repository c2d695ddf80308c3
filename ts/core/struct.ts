// Structs of a C header as plain objects: a codec for each shape, which reads, checks and writes it. Objects that were
// read are frozen: a change of one would reach nobody.

import * as validate from './validate.ts';

/** Shape of something in memory, little-endian. */
export interface Codec<Value> {
  /** Bytes. */
  readonly size: number;
  read(view: DataView, at: number): Value;
  /** Writes a value that was checked. */
  write(view: DataView, at: number, value: Value): void;
  /** The value in its one form. Throws INVALID_ARGUMENT with `name`, the way to it. */
  check(value: unknown, name: string): Value;
}

export type ValueOf<Shape> = Shape extends Codec<infer Value> ? Value : never;

function whole(size: 1 | 2 | 4, read: 'getUint8' | 'getUint16' | 'getUint32'): Codec<number> {
  const write = read.replace('get', 'set') as 'setUint8' | 'setUint16' | 'setUint32';
  return {
    size,
    read: (view, at) => view[read](at, true),
    write: (view, at, value) => view[write](at, value, true),
    check: (value, name) => validate.integer(value, name, 0, 2 ** (8 * size) - 1),
  };
}

export const u8 = whole(1, 'getUint8');
export const u16 = whole(2, 'getUint16');
export const u32 = whole(4, 'getUint32');
export const u64: Codec<bigint> = {
  size: 8,
  read: (view, at) => view.getBigUint64(at, true),
  write: (view, at, value) => view.setBigUint64(at, value, true),
  check: validate.u64,
};

/** Bytes as they are, of one length. */
export function bytes(size: number): Codec<Uint8Array> {
  return {
    size,
    read: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, size).slice(),
    write: (view, at, value) => new Uint8Array(view.buffer, view.byteOffset + at, size).set(value),
    check(value, name) {
      const given = validate.bytes(value, name);
      if (validate.lengthOfBytes(given) === size) return given;
      throw validate.invalid(`${name} must be ${size} bytes, not ${validate.lengthOfBytes(given)}`);
    },
  };
}

/** Bytes that mean nothing: they stay as they are. */
export function gap(size: number): Codec<never> {
  return { size, read: () => undefined as never, write() {}, check: () => undefined as never };
}

/** A list of one length. */
export function list<Item>(length: number, item: Codec<Item>): Codec<readonly Item[]> {
  return {
    size: length * item.size,
    read: (view, at) => Object.freeze(Array.from({ length }, (_, index) => item.read(view, at + index * item.size))),
    write: (view, at, value) => {
      for (const [index, one] of value.entries()) item.write(view, at + index * item.size, one);
    },
    check(value, name) {
      if (Array.isArray(value) && value.length === length) {
        return Array.from(value, (one, index) => item.check(one, `${name}[${index}]`));
      }
      throw validate.invalid(`${name} must be an array of ${length}`);
    },
  };
}

/** Fields of a struct; those whose name begins with _ are gaps. */
type Fields = Readonly<Record<string, Codec<unknown>>>;
type Struct<Shape extends Fields> = {
  readonly [Name in keyof Shape as Name extends `_${string}` ? never : Name]: ValueOf<Shape[Name]>;
};

/** A struct, with its fields in the header's order. */
export interface StructCodec<Value> extends Codec<Value> {
  /** Some of its fields: those that are given, whole. */
  checkSome(value: unknown, name: string): Partial<Value>;
  writeSome(view: DataView, at: number, value: Partial<Value>): void;
}

export function struct<Shape extends Fields>(shape: Shape): StructCodec<Struct<Shape>> {
  const places: { readonly name: string; readonly field: Codec<unknown>; readonly offset: number }[] = [];
  let size = 0;
  for (const [name, field] of Object.entries(shape)) {
    if (!name.startsWith('_')) places.push({ name, field, offset: size });
    size += field.size;
  }
  const names = places.map(({ name }) => name);
  const checkFields = (value: unknown, path: string, mayMiss: boolean) => {
    const given = validate.options((value ?? null) as Record<string, unknown>, names, path);
    const fields = places.flatMap(({ name, field }) => {
      if (given[name] !== undefined) return [[name, field.check(given[name], `${path}.${name}`)]];
      if (mayMiss) return [];
      throw validate.invalid(`${path} must be given whole: ${name} is missing`);
    });
    return Object.fromEntries(fields) as Struct<Shape>;
  };
  const writeSome = (view: DataView, at: number, value: Readonly<Record<string, unknown>>) => {
    for (const { name, field, offset } of places) {
      if (value[name] !== undefined) field.write(view, at + offset, value[name]);
    }
  };
  return {
    size,
    read: (view, at) =>
      Object.freeze(
        Object.fromEntries(places.map(({ name, field, offset }) => [name, field.read(view, at + offset)])),
      ) as Struct<Shape>,
    write: writeSome,
    writeSome,
    check: (value, name) => checkFields(value, name, false),
    checkSome: (value, name) => checkFields(value, name, true) as never,
  };
}
