// Leases that are held, and the changes that would break them.

import type { Stretch } from '../core/range-tree.ts';

export const LEASE_MODES = ['read', 'write'] as const;
/** Access that a lease holds: `write` includes reading. */
export type LeaseMode = (typeof LEASE_MODES)[number];

/** Facts of a lease, for those who must wait for it. */
export interface LeaseFacts {
  /** Name that the holder gave itself; of one in another process, with the name of its client and process. */
  readonly holder: string;
  /** Access that is held. */
  readonly mode: LeaseMode;
  /** First GPA of the range. */
  readonly gpa: number;
  /** Bytes. */
  readonly length: number;
}

/** A lease that is held. */
export interface HeldLease extends LeaseFacts, Stretch {
  /** The VA space. */
  readonly sink: number;
  /** The guest memory that it was taken from. */
  readonly owner: object;
  /** Whether it is held: from its being entered to its end. */
  isHeld: boolean;
  /** Whether native code, or another thread or process, holds it, which tells nobody of its end. */
  readonly isElsewhere?: boolean;
  /** Ends it, whatever its holder is doing; unless that is elsewhere and has addresses of the memory. */
  takeBack(): void;
  /** Does without its holder, where that is a process that may be cut off. */
  readonly cutOff?: (() => void) | undefined;
}

/** An attachment, as far as a change of its VA space concerns it. */
export interface Onlooker {
  readonly va: { readonly id: number };
}

/** Access that a range is to lose. */
export interface Change {
  readonly start: number;
  /** The first byte behind it. */
  readonly end: number;
  /** The memory that changes: the VA space of this number, or this guest memory, which may share its VA space with
   *  others. */
  readonly of: number | object;
  /** ACCESS_* that is left. */
  readonly left: number;
  /** Whether the guest loses it through an attachment. */
  concerns(attachment: Onlooker): boolean;
}
