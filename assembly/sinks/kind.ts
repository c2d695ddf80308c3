// A kind of sink: what the passes ask of it. See kinds.ts for all that there are.

import { When } from '../tree/before';
import { Command, emitInverse } from './command';

/** A row of the table of kinds. Sinks and ranges are named as everywhere: by id, and by first and last byte. */
@unmanaged
export class Kind {
  /** Kinds of difference (bits of touch.ts) beside VIEW for which a range must be compared. */
  heeds: u32;
  /** Promise of the spans of its state trees: see tree-verify.ts. */
  promise: u32;

  /** Says whether a sink may be attached so, see `attachSink`: 0, or a code. */
  admit: (space: u32, owner: u32, via: u32, offset: u64, last: u64) => i32;
  /** Forgets what was planned before. */
  begin: () => void;
  /** Compares, in touched ranges of a sink, a run of `touchedSinks` from `from` to before `end`, what it has with
   *  what it should have. Returns 0 or a code. */
  compare: (sink: u32, from: u32, end: u32) => i32;
  /** Emits the commands for what was found, when all sinks of the kind have been compared. Returns 0 or a code. */
  plan: () => i32;
  /** Emits, into `inversePlan`, what takes a command back. Precondition: the state is rolled back. */
  takeBack: (command: Command) => void;
  /** Emits what takes back a command of which a part was done: pages have moved, this many bytes from its start on. */
  takeHalfBack: (command: Command, moved: u64) => void;
  /** Whether private pages may be held in what is lost of a sink. */
  holdsPages: bool;
  /** Enters [start, last] of a sink as lost; see `lose` in index.ts for the object. Returns 0 or a code. */
  lose: (sink: u32, start: u64, last: u64, object: u32, offset: u64) => i32;
  /** Fills rows with what a sink has in [from, last]. Returns how many, or a code. */
  read: (sink: u32, from: u64, last: u64, when: When) => i32;
  /** Fills rows with the parts that may be used through a sink in [from, last], the last one cut with the page of
   *  `last`. Returns how many, or a code. */
  readParts: (sink: u32, from: u64, last: u64, when: When) => i32;
  /** Asserts, between transactions, that what is kept of a sink is what it should have. */
  verify: (sink: u32) => void;
}

export const KIND_BYTES: u32 = offsetof<Kind>();

// ---- What several kinds have ---------------------------------------------------------------

/** `Kind.begin` of a kind that keeps nothing between two plans. */
export function beginEmpty(): void {}

/** `Kind.plan` of a kind that emits all commands where it finds the differences. */
export function planNoMore(): i32 {
  return 0;
}

/** `Kind.takeBack` of a kind whose commands are all OP_IS_REVERSIBLE. */
export function takeBackInverse(command: Command): void {
  emitInverse(command, command.length);
}

/** `Kind.takeHalfBack` of a kind whose commands are done as a whole or not at all. */
export function takeBackNothing(_command: Command, _moved: u64): void {}
