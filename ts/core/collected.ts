// Resources that go with the garbage collector: those of handles that were dropped without close(), and addresses that
// somebody may still write to. Before a call fails for want of one, the collector is run once.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

type Action = () => void;

interface Watched {
  readonly target: WeakRef<object>;
  readonly giveBack: Action;
}

const watched = new Set<Watched>();
const registry = new FinalizationRegistry<Watched>(settle);

/** Calls `giveBack`, which must not reach `target` itself, when that was collected; never, once the result was
 *  called. */
export function whenCollected(target: object, giveBack: Action): Action {
  const entry = { target: new WeakRef(target), giveBack };
  watched.add(entry);
  registry.register(target, entry, entry);
  return () => {
    watched.delete(entry);
    registry.unregister(entry);
  };
}

function settle(entry: Watched): void {
  if (watched.delete(entry)) entry.giveBack();
}

/** Calls the system for something that is new. Where descriptors or addresses have run out, what was dropped is
 *  given back first, and it is called again. */
export function obtained<Result>(call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    if (!isShortage(error)) throw error;
    collectNow();
    return call();
  }
}

const SHORTAGES: readonly unknown[] = ['EMFILE', 'ENFILE', 'ENOMEM'];

/** V8 says a RangeError where it finds no addresses for a WebAssembly memory; the core says it as its cause. */
function isShortage(error: unknown): boolean {
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  return SHORTAGES.includes(code) || cause instanceof RangeError;
}

let collector: Action | undefined;

function collectNow(): void {
  if (collector === undefined) {
    setFlagsFromString('--expose-gc');
    collector = runInNewContext('gc') as Action;
  }
  collector();
  // The registry calls back only when the caller has returned.
  for (const entry of [...watched]) if (entry.target.deref() === undefined) settle(entry);
}
