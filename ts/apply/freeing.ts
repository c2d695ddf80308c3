// Giving memory back in the background: another thread frees what nobody reaches any more, which takes longer than to
// take it away.

import { type MemoryObject, native } from '../core/native.ts';
import type { NativeExecutor } from './native-executor.ts';

/** Carries out `body` at once, and frees in the background what it gives back: of `objects`, and what plans of
 *  `executor` take out of VA spaces. Settles when that is done. Rejects with what `body` throws. */
export async function freeingLater(
  objects: readonly MemoryObject[],
  executor: NativeExecutor | undefined,
  body: () => void,
): Promise<void> {
  const leavings = native().Leavings.create();
  for (const object of objects) leavings.keep(object);
  executor?.addon.setLeavings(leavings);
  try {
    body();
  } catch (error) {
    leavings.close();
    throw error;
  } finally {
    executor?.addon.clearLeavings();
  }
  await leavings.free();
}
