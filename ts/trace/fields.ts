// The fields of a trace's operations: what each kind of value must be, how it is read from JSON and written.

import * as abi from '../../assembly/abi.ts';
import { type Address, toAddress, WHOLE_SPACE } from '../core/address.ts';
import { PRIORITIES } from '../core/validate.ts';

/** Ids in a trace: 0 to this. */
export const MAX_TRACE_ID = 0x7fffffff;

/** One kind of value. */
interface FieldType<Value> {
  /** Completes the sentence "the field must be …". */
  readonly must: string;
  /** The value that a JSON value stands for; undefined if it stands for none. */
  read(json: unknown): Value | undefined;
  /** Beginning of its JSON text. */
  readonly prefix: string;
  /** Rest of its JSON text. */
  write(value: Value): string;
}

/** One field of an operation. */
export interface Field<Value, Presence extends 'required' | 'default' | 'optional'> {
  readonly type: FieldType<Value>;
  readonly presence: Presence;
  /** The value of a field that the line leaves out. */
  readonly initial: Value | undefined;
}

/** A field that every line has. */
export function required<Value>(type: FieldType<Value>): Field<Value, 'required'> {
  return { type, presence: 'required', initial: undefined };
}

/** A field that lines leave out where it has its usual value; in memory it is always there. */
export function withDefault<Value>(type: FieldType<Value>, initial: Value): Field<Value, 'default'> {
  return { type, presence: 'default', initial };
}

/** A field that may be absent in memory too. */
export function optional<Value>(type: FieldType<Value>): Field<Value, 'optional'> {
  return { type, presence: 'optional', initial: undefined };
}

export const ID = integer(0, MAX_TRACE_ID, `an integer from 0 to ${MAX_TRACE_ID}`);
export const PRIORITY = integer(...PRIORITIES, 'an integer of 32 bits with sign');
export const COUNT = integer(0, 65536, 'an integer from 0 to 65536');
export const SLOTS = integer(1, abi.MAX_SLOTS, `an integer from 1 to ${abi.MAX_SLOTS}`);

export const ADDRESS = hexadecimal((value) => value < WHOLE_SPACE, 'below 2^64');
export const SIZE = hexadecimal((value) => value <= WHOLE_SPACE, 'at most 2^64');

/** Bytes of a page. */
export const PAGE: FieldType<number> = {
  must: 'a hexadecimal string, a power of two from "0x1000" to "0x10000000000"',
  read: (json) => {
    const bytes = Number(parseHex(json));
    const shift = Math.log2(bytes);
    return Number.isInteger(shift) && shift >= abi.PAGE_SHIFT && shift <= abi.MAX_PAGE_SHIFT ? bytes : undefined;
  },
  prefix: '"0x',
  write: (value) => `${value.toString(16)}"`,
};

export const FLAG: FieldType<boolean> = {
  must: 'true or false',
  read: (json) => (typeof json === 'boolean' ? json : undefined),
  prefix: '',
  write: String,
};

export const TEXT: FieldType<string> = {
  must: 'a string',
  read: (json) => (typeof json === 'string' ? json : undefined),
  prefix: '',
  write: (value) => JSON.stringify(value),
};

export function oneOf<Value extends string>(values: readonly Value[]): FieldType<Value> {
  return {
    must: `one of ${values.join(', ')}`,
    read: (json) => values.find((value) => value === json),
    prefix: '"',
    write: (value) => `${value}"`,
  };
}

function integer(least: number, most: number, must: string): FieldType<number> {
  return {
    must,
    read: (json) => (isInteger(json) && json >= least && json <= most ? json : undefined),
    prefix: '',
    write: String,
  };
}

function isInteger(json: unknown): json is number {
  return Number.isInteger(json);
}

function hexadecimal(isWithin: (value: Address) => boolean, limit: string): FieldType<Address> {
  return {
    must: `a hexadecimal string such as "0x1000", ${limit}`,
    read: (json) => {
      const value = parseHex(json);
      return value !== undefined && isWithin(value) ? value : undefined;
    },
    prefix: '"0x',
    write: (value) => `${digitsOf(value)}"`,
  };
}

/** Hexadecimal digits of numbers below 0x1000, and the same with leading zeroes: made when first asked for. */
let upToThree: readonly string[] = [];
let three: readonly string[] = [];

/** Hexadecimal digits of an address: of a large number, `toString(16)` takes seven times as long. */
function digitsOf(value: Address): string {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) return value.toString(16);
  if (three.length === 0) {
    upToThree = Array.from({ length: 0x1000 }, (_, each) => each.toString(16));
    three = upToThree.map((digits) => digits.padStart(3, '0'));
  }
  let [rest, text] = [value, ''];
  while (rest >= 0x1000) {
    const next = Math.floor(rest / 0x1000);
    text = three[rest - next * 0x1000]! + text;
    rest = next;
  }
  return upToThree[rest]! + text;
}

/** The value of a hexadecimal string such as "0x1000", of any length; undefined if it is not one. */
export function parseHex(text: unknown): Address | undefined {
  if (typeof text !== 'string' || text.length < 3) return undefined;
  if (text.charCodeAt(0) !== 0x30 || text.charCodeAt(1) !== 0x78) return undefined;
  if (text.length > 15) {
    return /^0x[0-9a-fA-F]+$/.test(text) ? toAddress(BigInt(text)) : undefined;
  }
  let value = 0; // at most 13 digits, 52 bits: exact
  for (let i = 2; i < text.length; i++) {
    const character = text.charCodeAt(i);
    let digit = character - 0x30;
    if (digit < 0 || digit > 9) {
      digit = (character | 0x20) - 0x61 + 10;
      if (digit < 10 || digit > 15) return undefined;
    }
    value = value * 16 + digit;
  }
  return value;
}
