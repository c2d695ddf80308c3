// Assertions, which hold in the build that users run, too: what cannot happen is a bug of this package.

/** Asserts that `what` must be so: throws an Error that says it unless `isSo`. */
export function assert(isSo: boolean, what: string): asserts isSo {
  if (!isSo) throw new Error(`assertion failed: ${what}`);
}
