// The *before* trees. Each span tree that pieces are derived from (mappings, flat views, protections) has a shadow,
// whose root stands in the next word. The shadow holds, for every range that this transaction changed, the spans that
// stood there when it began (`NOTHING` for a hole). Live tree + shadow = the state before; the shadow is emptied when
// the transaction ends.

import { copyWords } from '../base/bytes';
import { LAST_BYTE } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { ensureStep, notes, saveImage } from '../undo/journal';
import { Span } from './node';
import * as spans from './spans';
import { CURSOR_SIZE, Cursor, drop } from './tree';

/** A time: now, or when the transaction began. */
export enum When {
  Now,
  Before,
}

/** The `b` of a stretch where no span was. */
export const NOTHING: u32 = u32.MAX_VALUE;
const SPAN_BYTES: u32 = offsetof<Span>();

/** A note of one change of [start, last] in `tree`: the span that is there now (b = NOTHING for none), followed by
 *  copies of the spans that were there before. */
@unmanaged
export class Edit extends Span {
  tree: u32;
  /** Bytes of the copies behind it. */
  bytesBefore: u32;

  /** Address of the first copy. */
  get firstBefore(): usize {
    return changetype<usize>(this) + EDIT_BYTES;
  }
  /** Address past the last copy. */
  get end(): usize {
    return this.firstBefore + this.bytesBefore;
  }
}

const EDIT_BYTES: u32 = offsetof<Edit>();

/** Address of the number of bytes of `notes` that were entered into the shadows: they are when a comparison needs
 *  them. One word, so that it can be journaled. */
const entered: usize = memory.data(8, 8);
/** The shadows (u32 each) that are not empty. */
const filled = changetype<Vector>(memory.data(VECTOR_SIZE, 8));
const shadow = changetype<Cursor<Span>>(memory.data(CURSOR_SIZE, 8));
const live = changetype<Cursor<Span>>(memory.data(CURSOR_SIZE, 8));

/** A tree's before tree: its root stands in the word behind the tree's own. */
function beforeTreeOf(tree: usize): usize {
  return tree + 4;
}

/** Notes that [start, last] of the tree is one span now (b = NOTHING: none), and the spans that were there before,
 *  clipped to it. Returns the edit's number for `editOf`; 0 when memory has run out. */
export function noteEdit(tree: usize, start: u64, last: u64, a: u64, b: u32, c: u32, before: Vector): u32 {
  if (!notes.ensure(EDIT_BYTES + before.length)) return 0;
  const edit = changetype<Edit>(notes.extend(EDIT_BYTES + before.length));
  edit.start = start;
  edit.last = last;
  edit.a = a;
  edit.b = b;
  edit.c = c;
  edit.tree = <u32>tree;
  edit.bytesBefore = before.length;
  copyWords(edit.firstBefore, before.at(0), before.length);
  return notes.length - EDIT_BYTES - before.length + 1;
}

export function editOf(number: u32): Edit {
  return changetype<Edit>(notes.at(number - 1));
}

/** Enters every note into the shadows: the spans that the first edit of an address took out are the ones before. */
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

/** Enters one edit, once or again; false when memory has run out. Precondition: earlier edits of its addresses were
 *  entered. */
export function enterNote(number: u32): bool {
  const edit = editOf(number);
  const before = beforeTreeOf(edit.tree);
  if (!filled.ensure(4)) return false;
  if (load<u32>(before) == 0) filled.push32(<u32>before);
  for (let part = edit.firstBefore; part < edit.end; part += SPAN_BYTES) {
    const span = changetype<Span>(part);
    if (!ensureStep()) return false;
    spans.fill(before, span.start, span.last, span.a, span.b, span.c);
  }
  if (!ensureStep()) return false;
  // An edit that found nothing and left nothing has changed nothing.
  if (edit.b != NOTHING) spans.fill(before, edit.start, edit.last, edit.start, NOTHING, 0);
  return ensureStep();
}

/** Empties every shadow. Precondition: the transaction has ended, and no savepoint is open. */
export function forgetBefore(): void {
  for (let at: u32 = 0; at < filled.length; at += 4) drop(load<u32>(filled.at(at)));
  filled.clear();
  notes.clear();
  store<u32>(entered, 0);
}

/** Whether the tree's shadow is empty: as far as notes were entered, the tree is as before. */
export function isAsBefore(tree: usize): bool {
  return load<u32>(beforeTreeOf(tree)) == 0;
}

/** A place in a tree as it is now, or as it was before (as far as notes were entered). */
@unmanaged
export class TimeCursor<View> extends Cursor<View> {
  /** The tree, where its shadow must be looked at too; else 0. */
  private treeBefore: usize;
  /** Address behind which nobody looks. */
  private mostBefore: u64;

  /** Goes to the first span with a byte in [at, last]. Before, a span may come in parts. */
  find(tree: usize, at: u64, last: u64, when: When): void {
    this.mostBefore = last;
    if (when == When.Now || isAsBefore(tree)) {
      this.treeBefore = 0;
      this.seek(tree, at);
    } else {
      this.treeBefore = tree;
      this.findBefore(at);
    }
  }

  /** Goes to the next span, or part of one. */
  advance(): void {
    if (this.treeBefore == 0) this.next();
    else if (this.last < this.mostBefore) this.findBefore(this.last + 1);
    else this.span = null;
  }

  private findBefore(at: u64): void {
    this.span = null;
    shadow.seek(beforeTreeOf(this.treeBefore), at);
    while (true) {
      const before = shadow.span;
      if (before != null && before.start <= at) {
        if (before.b != NOTHING) {
          this.standAt(before, before.start, before.last);
          return;
        }
        if (before.last >= this.mostBefore) return;
        at = before.last + 1;
        shadow.next();
      } else {
        // Up to the next stretch of the shadow, the tree is as before.
        const last = before != null ? before.start - 1 : LAST_BYTE;
        live.seek(this.treeBefore, at);
        const span = live.span;
        if (span != null && span.start <= last) {
          this.standAt(span, max(at, span.start), min(last, span.last));
          return;
        }
        if (before == null || before.start > this.mostBefore) return;
        at = before.start;
      }
    }
  }

  private standAt(span: Span, start: u64, last: u64): void {
    this.start = start;
    this.last = last;
    this.a = span.aAt(start);
    this.b = span.b;
    this.c = span.c;
    this.span = changetype<View>(this);
  }
}

/** Bytes of a TimeCursor: each lives in static memory, as
 *  `changetype<TimeCursor<Span>>(memory.data(TIME_CURSOR_SIZE, 8))`. */
export const TIME_CURSOR_SIZE: i32 = 64;
