// State that the caller adds to a snapshot, in JSON: plain data, with bigints and bytes in a form of their own.

import * as validate from '../core/validate.ts';
import { type Field, refused } from './field.ts';

/** Plain data: what JSON has, bigints and Uint8Arrays; such as `KvmPartition.save` and `Vcpu.save` give. */
export type PlainState =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly PlainState[]
  | { readonly [name: string]: PlainState | undefined };

const MOST_DEPTH = 100;
const BIGINT = '$bigint';
const BYTES = '$bytes';

/** Value for JSON.stringify. Throws INVALID_ARGUMENT for what is no plain data. */
export function stateJson(value: unknown, path = 'state', depth = 0): unknown {
  if (depth > MOST_DEPTH) throw validate.invalid(`${path} must not be nested more than ${MOST_DEPTH} times`);
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (typeof value === 'bigint') return { [BIGINT]: String(value) };
  if (value instanceof Uint8Array) return { [BYTES]: Buffer.from(value).toString('base64') };
  if (Array.isArray(value)) return value.map((item, index) => stateJson(item, `${path}[${index}]`, depth + 1));
  if (typeof value !== 'object' || !isPlain(value)) throw validate.invalid(`${path} must be plain data`);
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  const odd = entries.find(([name]) => name.startsWith('$'));
  if (odd !== undefined) throw validate.invalid(`${path} must have no field that begins with $, as ${odd[0]} does`);
  return Object.fromEntries(entries.map(([name, item]) => [name, stateJson(item, `${path}.${name}`, depth + 1)]));
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** State of a field that JSON.parse has made. */
export function parseState({ value, path }: Field): PlainState {
  return parsed(value, path, 0);
}

function parsed(value: unknown, path: string, depth: number): PlainState {
  if (depth > MOST_DEPTH) throw refused(path, `is nested more than ${MOST_DEPTH} times`);
  if (Array.isArray(value)) return value.map((item, index) => parsed(item, `${path}[${index}]`, depth + 1));
  if (typeof value !== 'object' || value === null) return value as PlainState;
  const entries = Object.entries(value);
  const [name, text] = entries[0] ?? [];
  if (name === BIGINT && entries.length === 1 && /^-?\d{1,1000}$/.test(String(text))) return BigInt(text as string);
  if (name === BYTES && entries.length === 1 && typeof text === 'string') {
    return Uint8Array.from(Buffer.from(text, 'base64'));
  }
  const odd = entries.find(([each]) => each.startsWith('$'));
  if (odd !== undefined) throw refused(path, `has a field ${JSON.stringify(odd[0])} that means nothing`);
  return Object.fromEntries(entries.map(([each, item]) => [each, parsed(item, `${path}.${each}`, depth + 1)]));
}
