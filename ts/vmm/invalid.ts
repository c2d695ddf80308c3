// The one error for machines that cannot be built as asked.

import { MembackingError } from '../index.ts';

/** Error for a machine that cannot be built as asked. */
export function invalid(message: string): MembackingError {
  return new MembackingError('INVALID_ARGUMENT', message);
}
