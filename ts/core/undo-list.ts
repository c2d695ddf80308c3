// Steps that open transactions took outside the core, and how each is undone.

import { assert } from './assert.ts';

type Undo = () => void;

export class UndoList {
  /** Steps back, in the order in which those forward were taken. */
  readonly #undo: Undo[] = [];
  /** Positions in `#undo` where each open transaction begins. */
  readonly #marks: number[] = [];

  /** Number of transactions that are open. */
  get depth(): number {
    return this.#marks.length;
  }

  /** Opens a transaction. */
  begin(): void {
    this.#marks.push(this.#undo.length);
  }

  /** Adds a step back, taken if the innermost transaction comes to nothing. Precondition: one is open. */
  add(undo: Undo): void {
    assert(this.depth > 0, 'only what a transaction does can be undone');
    this.#undo.push(undo);
  }

  /** Ends the innermost transaction and undoes what it did, the last first. Precondition: one is open. */
  rollBack(): void {
    const mark = this.#marks.pop();
    assert(mark !== undefined, 'a transaction that is rolled back is open');
    while (this.#undo.length > mark) this.#undo.pop()!();
  }

  /** Ends the innermost transaction: what it did is undone with the one around it, or never. Precondition: one is
   *  open. */
  keep(): void {
    const mark = this.#marks.pop();
    assert(mark !== undefined, 'a transaction that is kept is open');
    if (this.#marks.length === 0 && this.#undo.length > 0) this.#undo.length = 0;
  }
}
