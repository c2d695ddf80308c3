// Holding partitions: what one says of it, and the only loop that does it and takes it back.

import * as validate from '../core/validate.ts';

/** Result of a partition's method: nothing, and no promise either, because plans go on when it returns. */
// biome-ignore lint/suspicious/noConfusingVoidType: functions that return nothing are meant
export type AtOnce = void | { readonly then?: never };

/** Refuses a promise that a method of a partition returned. Throws INVALID_ARGUMENT. */
export function atOnce(method: string, result: unknown): void {
  if (result === undefined) return;
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
  readonly #held: Pausable[] = [];

  /** Holds a partition, if there is one and it is not held yet, or says why not. */
  hold(pausable: Pausable | undefined): { cause: unknown } | undefined {
    if (pausable === undefined || this.#held.includes(pausable)) return undefined;
    try {
      const answer: unknown = pausable.pause();
      this.#held.push(pausable);
      atOnce('pause', answer);
      return undefined;
    } catch (cause) {
      return { cause };
    }
  }

  /** Resumes all. Returns what the first `resume` that throws has thrown. */
  end(): { cause: unknown } | undefined {
    let failure: { cause: unknown } | undefined;
    for (let held = this.#held.pop(); held !== undefined; held = this.#held.pop()) {
      try {
        atOnce('resume', held.resume());
      } catch (cause) {
        failure ??= { cause };
      }
    }
    return failure;
  }
}
