// Windows that one memory has met, as its accesses find them: by a few instructions, without a check of what they show.

import type { Address } from '../core/address.ts';
import { CHUNK, type GuestWindow, NO_WINDOW } from './guest-window.ts';

/** Parts of the GPAs that windows are kept by: a power of two. */
const PARTS = 128;

/** The window that was last met in each part of the GPAs, of which each is as long as the longest window. */
export class KnownWindows {
  /** The only one that was met, which needs no part to be found; undefined as soon as there are two. */
  #only: GuestWindow | undefined = NO_WINDOW;
  readonly #byPart: GuestWindow[] = new Array(PARTS).fill(NO_WINDOW);

  /** The window that may show the byte at `gpa`, if any does. */
  near(gpa: Address): GuestWindow {
    if (this.#only !== undefined) return this.#only;
    return typeof gpa === 'number' ? this.#byPart[partOf(gpa)]! : NO_WINDOW;
  }

  /** Notes that `window` shows the byte at `gpa`. */
  meet(window: GuestWindow, gpa: number): void {
    if (this.#only !== undefined && this.#only !== window) this.#only = this.#only.isOpen ? undefined : window;
    this.#byPart[partOf(gpa)] = window;
  }
}

function partOf(gpa: number): number {
  return (gpa / CHUNK) & (PARTS - 1);
}
