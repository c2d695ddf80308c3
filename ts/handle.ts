// What every handle has: close(), which may be called twice, and an error of its own for use after that.

import { MembackingError } from './errors.ts';

export abstract class Handle implements Disposable {
  #closed = false;
  /** What it is, for messages: `region "ram"`. */
  protected abstract get what(): string;

  get closed(): boolean {
    return this.#closed;
  }

  /** Ends the handle. What cannot be ended yet throws IN_USE, and stays open. */
  close(): void {
    if (this.closed) return;
    this.release();
    this.#closed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  protected abstract release(): void;

  protected checkOpen(): void {
    if (this.#closed) throw new MembackingError('CLOSED', `${this.what} is closed`);
  }

  /** For handles whose making or closing is undone with a transaction. @internal */
  setClosed(closed: boolean): void {
    this.#closed = closed;
  }
}
