// Errors of the operating system and of the addon, as errors of this package.

import { fstatSync, readlinkSync } from 'node:fs';
import type { Address } from './address.ts';
import { obtained } from './collected.ts';
import { type ErrorCode, MembackingError } from './errors.ts';
import type { SystemError } from './native.ts';

/** Codes of errors that are not the system's but the addon's own. */
const ADDON_ERRORS: Readonly<Record<string, ErrorCode>> = {
  ERR_CLOSED: 'CLOSED',
  ERR_INVALID_ARG_TYPE: 'INVALID_ARGUMENT',
  ERR_OUT_OF_RANGE: 'INVALID_ARGUMENT',
  ERR_NOT_PAUSED: 'NOT_PAUSED',
  ERR_VCPU_RUNNING: 'VCPU_RUNNING',
  ERR_WAITING: 'IN_USE',
};

/** Calls the addon; what it throws becomes `cause` of an error that says `what`, which may be worked out only then. */
export function systemError<Result>(what: string | (() => string), call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    throw wrapped(typeof what === 'string' ? what : what(), error);
  }
}

/** Calls the addon; to an error whose code is among `remedies`, what to do is added. */
export function withRemedy<Result>(remedies: Readonly<Record<string, string>>, call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    const remedy = remedies[(error as Partial<SystemError>).code ?? ''];
    if (remedy !== undefined) (error as Error).message += `: ${remedy}`;
    throw error;
  }
}

/** `systemError` for a call that makes something new: see `obtained`. */
export function obtainedFromSystem<Result>(what: string | (() => string), call: () => Result): Result {
  return systemError(what, () => obtained(call));
}

export function wrapped(what: string, error: unknown): MembackingError {
  if (error instanceof MembackingError) return error;
  const { code, errno, syscall, message } = error as Partial<SystemError> & Error;
  if (code === 'NATIVE_MISSING') return new MembackingError('NATIVE_MISSING', message!, { cause: error });
  const known = ADDON_ERRORS[code ?? ''];
  if (known !== undefined) return new MembackingError(known, `${what}: ${message}`, { cause: error });
  const details = syscall === undefined ? {} : { errno, syscall, code };
  return new MembackingError('SYSTEM', `${what}: ${message}`, { details, cause: error });
}

/** Bytes in the file. Throws SYSTEM. */
export function fileSize(fd: number): Address {
  return systemError(`descriptor ${fd} cannot be read`, () => fstatSync(fd).size);
}

/** A descriptor for messages: its number, its file's path and size, as far as they can be known. */
export function describedFile(fd: number): string {
  try {
    return `descriptor ${fd} (${readlinkSync(`/proc/self/fd/${fd}`)}, ${fstatSync(fd).size} bytes)`;
  } catch {
    return `descriptor ${fd}`;
  }
}
