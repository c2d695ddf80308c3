// The errors of building guest memory and of attaching to it: codes of their own under the package's one class.

import { type BuildErrorCode, MembackingError } from '../core/errors.ts';
import { systemError } from '../core/system.ts';

/** Guest memory cannot be built as asked; nothing is left behind. */
export class MemoryBuildError extends MembackingError {
  /** Code of the error: stable, to be compared with. */
  declare readonly code: BuildErrorCode;

  /** Makes an error, with what the message mentions in `details`. */
  constructor(code: BuildErrorCode, message: string, details: Record<string, unknown> = {}, cause?: unknown) {
    super(code, message, { details, cause });
  }
}

/** A partition could not be attached; it has been given nothing. `cause` says why. */
export class PartitionAttachError extends MembackingError {
  /** Makes an error whose `code` is ATTACH_FAILED. */
  constructor(message: string, cause: unknown) {
    super('ATTACH_FAILED', message, { cause });
  }
}

/** Calls the system; what it refuses with one of these codes is a build error of its own. */
export function refusing<Result>(
  codes: Readonly<Record<string, MemoryBuildError['code']>>,
  what: string,
  call: () => Result,
): Result {
  try {
    return systemError(what, call);
  } catch (error) {
    const { code, message, details, cause } = error as MembackingError;
    const ours = code === 'SYSTEM' ? codes[String(details.code)] : undefined;
    if (ours === undefined) throw error;
    throw new MemoryBuildError(ours, message, { ...details }, cause);
  }
}
