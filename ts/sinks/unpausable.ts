// Stand-ins for the `pause` and `resume` that a partition does not have.

import type { Pausable } from '../apply/holding.ts';

/** A partition whose vCPUs run on whatever happens to their memory, which is said once. */
export class Unpausable implements Pausable {
  readonly #name: string;
  #hasSaid = false;

  constructor(name: string) {
    this.#name = name;
  }

  pause(): void {
    if (this.#hasSaid) return;
    this.#hasSaid = true;
    const message = `partition "${this.#name}" has no pause: its guest may miss bytes during a change that takes them away for a moment`;
    process.emitWarning(message, { type: 'MembackingWarning', code: 'NO_PAUSE' });
  }

  resume(): void {}
}
