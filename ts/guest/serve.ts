// Service that keeps nobody: what is served goes with the garbage collector, should nobody end it.

/** Gives `owner` what `next` waits for, one by one, until `take` says that it is over, or nobody has the owner any
 *  more. Neither function may reach the owner by itself. Rejects as `next` does. */
export async function serve<Owner extends object, Item>(
  owner: WeakRef<Owner>,
  next: () => Promise<Item>,
  take: (owner: Owner, item: Item) => boolean | Promise<boolean>,
): Promise<void> {
  // A function that waits keeps what it has found: it finds the owner in another one.
  const takeNow = (item: Item) => {
    const found = owner.deref();
    return found !== undefined && take(found, item);
  };
  while (await takeNow(await next()));
}
