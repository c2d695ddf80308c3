// Base of every handle: close(), which may be called twice, an error of its own for use after that, and a text form.

import { type InspectOptions, inspect } from 'node:util';
import * as workerThreads from 'node:worker_threads';
import { MembackingError } from './errors.ts';
import { printable } from './printable.ts';

/** Mark of an object that structured cloning (`postMessage`, `structuredClone`) refuses, where it would make an empty
 *  one of it. Node.js has a way to say so from version 22.10 on; before, a function that it shows in its message
 *  does. */
export const keepInThread: (object: object) => void =
  (workerThreads as { markAsUncloneable?: (object: object) => void }).markAsUncloneable ??
  ((object: { uncloneable?: () => void }) => {
    object.uncloneable = handlesStayInTheirThread;
  });

function handlesStayInTheirThread(): void {}

/** Something that its owner closes: by `close`, or by leaving the scope of `using`. */
export abstract class Handle implements Disposable {
  #closed = false;
  /** Description for messages: `region "ram"`. */
  protected abstract get what(): string;

  constructor() {
    keepInThread(this);
  }

  /** Whether it is closed: every method but `close` then throws CLOSED. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Ends the handle. What cannot be ended yet throws IN_USE, and stays open. */
  close(): void {
    if (this.closed) return;
    this.release();
    this.#closed = true;
  }

  /** Ends the handle, at the end of the scope of `using`: `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Text for console.log and util.inspect: the text form; within something else, only what it is. Long lists are cut,
   *  which says how much is left out: `maxArrayLength`, 100 for console.log, is the most of one. */
  [inspect.custom](depth: number | null, options: InspectOptions): string {
    if (this.closed) return `${printable(this.what)} (closed)`;
    const most = options.maxArrayLength ?? Number.POSITIVE_INFINITY;
    return depth === options.depth ? this.text(most).map(printable).join('\n') : printable(this.what);
  }

  /** A line an item, of each list at most `most`. Precondition: it is open. @internal */
  text(_most?: number): string[] {
    return [this.what];
  }

  protected abstract release(): void;

  protected checkOpen(): void {
    if (this.#closed) throw new MembackingError('CLOSED', `${this.what} is closed`);
  }

  /** Says whether it is closed, for handles whose making or closing is undone with a transaction. @internal */
  setClosed(closed: boolean): void {
    this.#closed = closed;
  }
}
