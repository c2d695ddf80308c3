// Fields of JSON that anybody may have written: each check gives the value in its one form, or refuses it by its path.

import { type Address, isPageAligned, toAddress, WHOLE_SPACE } from '../core/address.ts';
import { MembackingError } from '../core/errors.ts';

/** Error of a layout that is not as it must be. */
export function refused(path: string, problem: string, cause?: unknown): MembackingError {
  return new MembackingError('SNAPSHOT_LAYOUT', `the snapshot's ${path} ${problem}`, { details: { path }, cause });
}

/** A value in JSON, and where it stands: `ram[0].ranges[1].gpa`. */
export class Field {
  readonly value: unknown;
  readonly path: string;

  constructor(value: unknown, path: string) {
    this.value = value;
    this.path = path;
  }

  get isMissing(): boolean {
    return this.value === undefined;
  }

  /** Fields of an object, each of `names`, there or not. Refuses others. */
  object<Name extends string>(names: readonly Name[]): Record<Name, Field> {
    const { value } = this;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw this.#must('be an object');
    const unknown = Object.keys(value).find((key) => !(names as readonly string[]).includes(key));
    if (unknown !== undefined) throw this.#must(`have no field ${JSON.stringify(unknown)}`);
    const own = (name: Name) => (Object.hasOwn(value, name) ? (value as Record<Name, unknown>)[name] : undefined);
    return Object.fromEntries(names.map((name) => [name, new Field(own(name), this.#inside(`.${name}`))])) as Record<
      Name,
      Field
    >;
  }

  list<Value>(item: (field: Field) => Value): Value[] {
    if (!Array.isArray(this.value)) throw this.#must('be a list');
    return this.value.map((value, index) => item(new Field(value, this.#inside(`[${index}]`))));
  }

  /** Value of `read`, or undefined where the field is missing. */
  optional<Value>(read: (field: Field) => Value): Value | undefined {
    return this.isMissing ? undefined : read(this);
  }

  text(most = 4096): string {
    const { value } = this;
    if (typeof value === 'string' && value !== '' && value.length <= most) return value;
    throw this.#must(`be a text of 1 to ${most} characters`);
  }

  flag(): boolean {
    if (typeof this.value === 'boolean') return this.value;
    throw this.#must('be true or false');
  }

  integer(least: number, most: number): number {
    const { value } = this;
    if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return value;
    throw this.#must(`be a whole number from ${least} to ${most}`);
  }

  oneOf<Value extends string | number>(values: readonly Value[]): Value {
    if ((values as readonly unknown[]).includes(this.value)) return this.value as Value;
    throw this.#must(`be one of ${values.join(', ')}`);
  }

  /** Text that `pattern` matches as a whole. */
  matching(pattern: RegExp, what: string): string {
    if (typeof this.value === 'string' && pattern.test(this.value)) return this.value;
    throw this.#must(`be ${what}`);
  }

  /** An address in hexadecimal, from 0 to 2^64 - 1. */
  address(): Address {
    const value = BigInt(this.matching(/^0x[0-9a-f]{1,16}$/, 'an address such as "0x1000"'));
    return toAddress(value < WHOLE_SPACE ? value : 0n);
  }

  /** Bytes in hexadecimal: whole pages, below 2^53, from `least` on. */
  bytes(least: number): number {
    const value = Number(this.address());
    if (value >= least && value <= Number.MAX_SAFE_INTEGER && isPageAligned(value)) return value;
    throw this.#must(`be whole pages of 0x1000 bytes, from 0x${least.toString(16)} on, below 2^53`);
  }

  #inside(more: string): string {
    return this.path === '' ? more.replace(/^\./, '') : `${this.path}${more}`;
  }

  #must(what: string): MembackingError {
    const shown = JSON.stringify(this.value)?.slice(0, 40) ?? 'nothing';
    return refused(this.path || 'layout', `must ${what}, not ${shown}`);
  }
}
