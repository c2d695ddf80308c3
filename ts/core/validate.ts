// Checks of what callers hand in: once, at the door; everything inside trusts its input. Each check returns the
// value in its one form, or throws INVALID_ARGUMENT with a message that says what it must be.

import { type Address, toAddress, WHOLE_SPACE } from './address.ts';
import { MembackingError } from './errors.ts';

/** The lowest and the highest priority of a region: 32 bits with a sign. */
export const PRIORITIES = [-0x80000000, 0x7fffffff] as const;

export function invalid(message: string): MembackingError {
  return new MembackingError('INVALID_ARGUMENT', message);
}

/** A value for a message, short and in one line. */
function shown(value: unknown): string {
  if (typeof value === 'number' && Number.isSafeInteger(value))
    return value < 0 ? `${value}` : `0x${value.toString(16)}`;
  if (typeof value === 'bigint') return value < 0n ? `${value}n` : `0x${value.toString(16)}`;
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 37)}…` : value);
  if (typeof value === 'object' && value !== null) return `an object (${value.constructor?.name ?? 'null prototype'})`;
  return typeof value === 'function' ? 'a function' : String(value);
}

function mustBe(name: string, what: string, value: unknown): MembackingError {
  return invalid(`${name} must be ${what}, not ${shown(value)}`);
}

/** Checks an address: 0 to 2^64 - 1. Throws INVALID_ARGUMENT. */
export function address(value: unknown, name: string): Address {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  if (typeof value === 'bigint' && value >= 0n && value < WHOLE_SPACE) return toAddress(value);
  throw mustBe(name, 'a safe integer or a bigint from 0 to 2^64 - 1', value);
}

/** Checks a size in bytes: 0 to 2^64. Throws INVALID_ARGUMENT. */
export function size(value: unknown, name: string): Address {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  if (typeof value === 'bigint' && value >= 0n && value <= WHOLE_SPACE) return toAddress(value);
  throw mustBe(name, 'a safe integer or a bigint from 0 to 2^64', value);
}

/** Checks a length in bytes: 1 to 2^64. Throws INVALID_ARGUMENT. */
export function length(value: unknown, name: string): Address {
  const checked = size(value, name);
  if (checked === 0) throw mustBe(name, 'at least 1', value);
  return checked;
}

/** A bigint from 0 to 2^64 - 1. */
export function u64(value: unknown, name: string): bigint {
  if (typeof value === 'bigint' && value >= 0n && value < WHOLE_SPACE) return value;
  throw mustBe(name, 'a bigint from 0 to 2^64 - 1', value);
}

/** A whole number in [least, most]. */
export function integer(value: unknown, name: string, least: number, most: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
  throw mustBe(name, `a whole number from ${least} to ${most}`, value);
}

/** A priority of a region. */
export function priority(value: unknown): number {
  return integer(value, 'priority', ...PRIORITIES);
}

/** Functions of which there are all or none; `whose` begins the sentence that says so. */
export function allOrNone(functions: Readonly<Record<string, unknown>>, whose: string): void {
  const types = new Set(Object.values(functions).map((each) => typeof each));
  const [type] = types;
  if (types.size === 1 && (type === 'function' || type === 'undefined')) return;
  throw invalid(`${whose} ${Object.keys(functions).join(' and ')}, or neither`);
}

/** Options of work that somebody may give up, or be told of. */
export function work({ signal, progress }: { readonly signal?: unknown; readonly progress?: unknown }): void {
  if (signal !== undefined) instance(AbortSignal, signal, 'signal');
  if (progress !== undefined && typeof progress !== 'function') throw invalid('progress must be a function');
}

/** A file descriptor: whether it is open, the system knows. */
export function fd(value: unknown, name: string): number {
  return integer(value, name, 0, 0x7fffffff);
}

/** A user, by number: whether there is one, the system knows. */
export function uid(value: unknown, name: string): number {
  return integer(value, name, 0, 2 ** 32 - 2);
}

export function flag(value: unknown, name: string): boolean {
  if (typeof value === 'boolean') return value;
  throw mustBe(name, 'true or false', value);
}

export function text(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw mustBe(name, 'a string that is not empty', value);
}

/** A path of a Unix socket, as long as the system takes it. */
export function socketPath(value: unknown, name: string): string {
  const path = text(value, name);
  if (new TextEncoder().encode(path).length < 108 && !path.includes('\0')) return path;
  throw mustBe(name, 'a path of at most 107 bytes', value);
}

export function oneOf<Value extends string>(values: readonly Value[], value: unknown, name: string): Value {
  if ((values as readonly unknown[]).includes(value)) return value as Value;
  throw mustBe(name, `one of ${values.join(', ')}`, value);
}

/** A class; its constructor may be its own business. */
interface ClassOf<Instance> {
  readonly name: string;
  readonly prototype: Instance;
  [Symbol.hasInstance](value: unknown): boolean;
}

export function instance<Instance>(type: ClassOf<Instance>, value: unknown, name: string): Instance {
  if (value instanceof type) return value as Instance;
  // Bundlers put an underscore before some.
  const what = type.name.replace(/^_/, '');
  throw mustBe(name, `${/^[AEIO]/.test(what) ? 'an' : 'a'} ${what}`, value);
}

const { fill } = Uint8Array.prototype;
const trueLength = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), 'length')!.get!;

/** Length of an array in bytes, whatever a class of the caller's says. */
export function lengthOfBytes(array: Uint8Array): number {
  return trueLength.call(array);
}

/** A Uint8Array that has its memory. */
export function bytes(value: unknown, name: string): Uint8Array {
  if (!(ArrayBuffer.isView(value) && value instanceof Uint8Array)) throw mustBe(name, 'a Uint8Array', value);
  if (lengthOfBytes(value) === 0 && isGone(value)) {
    throw invalid(
      `${name} must be a Uint8Array that has its memory: this one's was transferred, or has become shorter`,
    );
  }
  return value;
}

/** Whether there is nothing of the memory that an array, of length 0 now, was made on. */
function isGone(empty: Uint8Array): boolean {
  try {
    fill.call(empty, 0);
    return false;
  } catch {
    return true;
  }
}

/** Asks whether a value is an array of objects that a check approves of. */
export function isListOf(value: unknown, approves: (item: Record<string, unknown>) => boolean): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'object' && item !== null && approves(item));
}

/** Refuses `new` for classes whose constructors are not for callers: where there is nothing of what the maker hands
 *  over. Throws INVALID_ARGUMENT. */
export function madeBy(maker: string, given: unknown): void {
  if (given === undefined) throw invalid(`this is made by ${maker}, not with new`);
}

/** An object of options of which none is unknown; undefined is no options. */
export function options<Options extends object>(
  value: Options | undefined,
  known: readonly (keyof Options & string)[],
  name: string,
): Options {
  if (value === undefined) return {} as Options;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`${name} takes an object with ${known.join(', ')}, not ${shown(value)}`);
  }
  // Most callers name them in the order of the list.
  let next = 0;
  for (const key in value) {
    if (known[next] !== key) next = (known as readonly string[]).indexOf(key);
    if (next++ === -1) throw invalid(`${name} has no option ${shown(key)}; there are ${known.join(', ')}`);
  }
  return value;
}

/** Refuses a promise that a caller's function returned: what it does later comes too late. */
export function noPromise(result: unknown, message: string): void {
  if (!(result instanceof Promise)) return;
  // Nobody else will hear of it when it fails.
  result.catch(() => {});
  throw invalid(message);
}
