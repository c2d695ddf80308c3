// The errors of building guest memory and of attaching to it: codes of their own under the package's one class.

import { type BuildErrorCode, MembackingError } from '../errors.ts';

/** Guest memory cannot be built as asked; nothing is left behind. */
export class MemoryBuildError extends MembackingError {
  declare readonly code: BuildErrorCode;

  constructor(code: BuildErrorCode, message: string, details: Record<string, unknown> = {}, cause?: unknown) {
    super(code, message, { details, cause });
  }
}

/** A partition could not be attached; it has been given nothing. `cause` says why. */
export class PartitionAttachError extends MembackingError {
  constructor(message: string, cause: unknown) {
    super('ATTACH_FAILED', message, { cause });
  }
}
