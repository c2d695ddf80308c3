// What trees were when the transaction began. The trees that VA pieces follow from (mappings, flat views, protections) have a
// second one behind them, in the next word: whoever changes the first notes there what was in its place, as long as that
// is not noted already, and where nothing was, NOTHING. Both together tell what was; when the transaction has ended, the
// second one is empty again.

import { Span } from './node';
import { LAST_BYTE } from './range';
import * as spans from './spans';
import { CURSOR_SIZE, Cursor, drop } from './tree';
import { VECTOR_SIZE, Vector } from './vector';

/** The `b` of a stretch where nothing was. */
const NOTHING: u32 = u32.MAX_VALUE;
const SPAN_BYTES: u32 = offsetof<Span>();

/** Slots (u32) of the second trees that something was entered into. */
const noted = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const then = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));
const now = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));

/** Where the tree of what the one at `slot` was is. */
function slotOfBefore(slot: usize): usize {
  return slot + 4;
}

/** Notes what was taken out of the tree: Spans. */
export function noteTaken(slot: usize, taken: Vector): void {
  for (let at: u32 = 0; at < taken.length; at += SPAN_BYTES) {
    const span = changetype<Span>(taken.at(at));
    note(slot, span.start, span.last, span.a, span.b, span.c);
  }
}

/** Notes that there was nothing in [start, last] but what is noted. */
export function noteEmpty(slot: usize, start: u64, last: u64): void {
  note(slot, start, last, start, NOTHING, 0);
}

function note(slot: usize, start: u64, last: u64, a: u64, b: u32, c: u32): void {
  const before = slotOfBefore(slot);
  if (load<u32>(before) == 0) {
    if (!noted.ensure(4)) return;
    noted.push32(<u32>before);
  }
  spans.fill(before, start, last, a, b, c);
}

/** The transaction has ended, and no savepoint is open. */
export function forgetBefore(): void {
  for (let at: u32 = 0; at < noted.length; at += 4) drop(load<u32>(noted.at(at)));
  noted.clear();
}

/** Whether nothing is noted of the tree. */
export function isAsBefore(slot: usize): bool {
  return load<u32>(slotOfBefore(slot)) == 0;
}

/** A place in a tree as it is, or in the tree that it was. */
@unmanaged
export class TimeCursor extends Cursor {
  private slotThen: usize;
  private mostThen: u64;

  /** To the first span that reaches [at, last]; of what was, its part that is one stretch. */
  find(slot: usize, at: u64, last: u64, former: bool): void {
    this.mostThen = last;
    if (!former || isAsBefore(slot)) {
      this.slotThen = 0;
      this.seek(slot, at);
    } else {
      this.slotThen = slot;
      this.findThen(at);
    }
  }

  /** To the next one. */
  advance(): void {
    if (this.slotThen == 0) this.next();
    else if (this.last < this.mostThen) this.findThen(this.last + 1);
    else this.span = null;
  }

  private findThen(at: u64): void {
    this.span = null;
    then.seek(slotOfBefore(this.slotThen), at);
    while (true) {
      const old = then.span;
      if (old != null && old.start <= at) {
        if (old.b != NOTHING) {
          this.standAt(old, old.start, old.last);
          return;
        }
        if (old.last >= this.mostThen) return;
        at = old.last + 1;
        then.next();
      } else {
        // Up to the next that is noted, the tree is what it was.
        const last = old != null ? old.start - 1 : LAST_BYTE;
        now.seek(this.slotThen, at);
        const span = now.span;
        if (span != null && span.start <= last) {
          this.standAt(span, max(at, span.start), min(last, span.last));
          return;
        }
        if (old == null || old.start > this.mostThen) return;
        at = old.start;
      }
    }
  }

  private standAt(span: Span, start: u64, last: u64): void {
    this.start = start;
    this.last = last;
    this.a = span.aAt(start);
    this.b = span.b;
    this.c = span.c;
    this.span = this;
  }
}

/** Bytes of a TimeCursor: each lives in static memory, as `changetype<TimeCursor>(memory.data(TIME_CURSOR_SIZE, 8))`. */
export const TIME_CURSOR_SIZE: i32 = 64;
