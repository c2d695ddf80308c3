// What trees were when the transaction began. The trees that VA pieces follow from (mappings, flat views, protections) have a
// second one behind them, in the next word: what was in places that have changed, and NOTHING where nothing was. Both together
// tell what was; when the transaction has ended, the second one is empty again.

import { copyWords } from '../base/bytes';
import { LAST_BYTE } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { ensureStep, notes, saveImage } from '../undo/journal';
import { Span } from './node';
import * as spans from './spans';
import { CURSOR_SIZE, Cursor, drop } from './tree';

/** The `b` of a stretch where nothing was. */
export const NOTHING: u32 = u32.MAX_VALUE;
const SPAN_BYTES: u32 = offsetof<Span>();

/** What one change did to [start, last] of the tree at `slot`; behind it are copies of what it took out, as Spans. */
@unmanaged
export class Edit {
  start: u64;
  last: u64;
  /** What is there now: the rest of a span, b = NOTHING for nothing. */
  a: u64;
  b: u32;
  c: u32;
  slot: u32;
  /** Bytes of what it took out. */
  taken: u32;

  get firstTaken(): usize {
    return changetype<usize>(this) + EDIT_BYTES;
  }
  get end(): usize {
    return this.firstTaken + this.taken;
  }
}

const EDIT_BYTES: u32 = offsetof<Edit>();

/** How much of `notes` has been entered into the second trees: that is done when somebody has to know. In the journal as one word. */
const entered: usize = memory.data(8, 8);
/** Slots (u32) of the second trees that are not empty. */
const filled = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const then = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));
const now = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));

/** Where the tree of what the one at `slot` was is. */
function slotOfBefore(slot: usize): usize {
  return slot + 4;
}

/** Notes that [start, last] of the tree is one span now, or with b = NOTHING none, and what was taken out for it. Returns the
 *  edit's number, never 0, for `editOf`. */
export function noteEdit(slot: usize, start: u64, last: u64, a: u64, b: u32, c: u32, taken: Vector): u32 {
  if (!notes.ensure(EDIT_BYTES + taken.length)) return 0;
  const edit = changetype<Edit>(notes.extend(EDIT_BYTES + taken.length));
  edit.start = start;
  edit.last = last;
  edit.a = a;
  edit.b = b;
  edit.c = c;
  edit.slot = <u32>slot;
  edit.taken = taken.length;
  copyWords(edit.firstTaken, taken.at(0), taken.length);
  return notes.length - EDIT_BYTES - taken.length + 1;
}

export function editOf(number: u32): Edit {
  return changetype<Edit>(notes.at(number - 1));
}

/** Enters all that was noted: what the first edit of an address took out is what was there. */
export function enterNotes(): void {
  let at = load<u32>(entered);
  if (at == notes.length) return;
  while (at < notes.length) {
    if (!enterNote(at + 1)) return;
    at = <u32>(editOf(at + 1).end - notes.at(0));
  }
  saveImage(entered, 8);
  store<u32>(entered, at);
}

/** Enters one edit, once or again; false when memory has run out. Precondition: those before it of the same addresses have been. */
export function enterNote(number: u32): bool {
  const edit = editOf(number);
  const before = slotOfBefore(edit.slot);
  if (!filled.ensure(4)) return false;
  if (load<u32>(before) == 0) filled.push32(<u32>before);
  for (let part = edit.firstTaken; part < edit.end; part += SPAN_BYTES) {
    const span = changetype<Span>(part);
    if (!ensureStep()) return false;
    spans.fill(before, span.start, span.last, span.a, span.b, span.c);
  }
  if (!ensureStep()) return false;
  // Where an edit found nothing and left nothing, nothing has changed.
  if (edit.b != NOTHING) spans.fill(before, edit.start, edit.last, edit.start, NOTHING, 0);
  return ensureStep();
}

/** The transaction has ended, and no savepoint is open. */
export function forgetBefore(): void {
  for (let at: u32 = 0; at < filled.length; at += 4) drop(load<u32>(filled.at(at)));
  filled.clear();
  notes.clear();
  store<u32>(entered, 0);
}

/** Whether nothing was entered of what the tree was. */
export function isAsBefore(slot: usize): bool {
  return load<u32>(slotOfBefore(slot)) == 0;
}

/** A place in a tree as it is, or in the tree that it was: as far as notes were entered. */
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
