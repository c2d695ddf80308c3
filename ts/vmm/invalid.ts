import { MembackingError } from '../index.ts';

/** What the machine was asked for cannot be. */
export function invalid(message: string): MembackingError {
  return new MembackingError('INVALID_ARGUMENT', message);
}
