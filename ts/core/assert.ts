// Assertions, which hold in the build that users run, too: what cannot happen is a bug of this package.

/** Throws an Error that says `what` must be so, unless `isSo`. */
export function assert(isSo: boolean, what: string): asserts isSo {
  if (!isSo) throw new Error(`assertion failed: ${what}`);
}
