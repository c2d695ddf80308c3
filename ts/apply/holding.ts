// Holding partitions: what one says of it, and the only loop that does it and takes it back.

import * as validate from '../core/validate.ts';

/** Result of a partition's method: nothing, and no promise either, because plans go on when it returns. */
// biome-ignore lint/suspicious/noConfusingVoidType: functions that return nothing are meant
export type AtOnce = void | { readonly then?: never };

/** Refuses a promise that a method of a partition returned. Throws INVALID_ARGUMENT. */
export function atOnce(method: string, result: unknown): void {
  validate.noPromise(result, `${method} of a partition returned a promise: it must be done when it returns`);
}

/** Holding of a guest's vCPUs around plans that would let them miss bytes that stay valid: both methods, or neither. */
export interface MayPause {
  /** Holds every vCPU outside of the guest, and returns when all are. Calls nest. */
  pause?(): AtOnce;
  /** Takes one `pause` back: with the last, vCPUs go on. */
  resume?(): AtOnce;
}

/** Holds vCPUs. */
export type Pausable = Required<MayPause>;

/** Partitions that are held, and resumed in the end: the last one first. */
export class Holding {
  /** Made with the first: most plans hold none. */
  #held: Set<Pausable> | undefined;

  /** Holds them all, those that are not held yet, or says why not. */
  hold(pausables: Iterable<Pausable | undefined>): { cause: unknown } | undefined {
    try {
      for (const pausable of pausables) {
        if (pausable === undefined || this.#held?.has(pausable)) continue;
        this.#held ??= new Set();
        const answer: unknown = pausable.pause();
        this.#held.add(pausable);
        if (answer !== undefined) atOnce('pause', answer);
      }
      return undefined;
    } catch (cause) {
      return { cause };
    }
  }

  /** Holds those that can be held. */
  holdMore(pausables: Iterable<Pausable | undefined>): void {
    for (const pausable of pausables) this.hold([pausable]);
  }

  /** Resumes all. Returns what the first `resume` that throws has thrown. */
  end(): { cause: unknown } | undefined {
    if (this.#held === undefined) return undefined;
    let failure: { cause: unknown } | undefined;
    for (const pausable of [...this.#held].reverse()) {
      try {
        atOnce('resume', pausable.resume());
      } catch (cause) {
        failure ??= { cause };
      }
    }
    this.#held = undefined;
    return failure;
  }
}
