// A transaction that comes to nothing after everything in it was done.

import type { ExecutionContext } from 'ava';
import type { MemoryMap } from '../../ts/index.ts';

export function takenBack(t: ExecutionContext, map: MemoryMap, change: () => void): void {
  const error = new Error('taken back');
  t.throws(
    () =>
      map.transaction(() => {
        change();
        throw error;
      }),
    { is: error },
  );
}
