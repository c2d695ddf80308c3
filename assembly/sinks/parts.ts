// What is to be seen in a VA space, and what was when the transaction began. A part is a stretch of whole pages of which the
// flat view shows one object: it follows from that, from the mappings of the regions seen in it, and from the sink's
// protections, as they are or as they were. So nobody keeps it. What a VA space maps for it are pieces: see pieces.ts.

import { ACCESS_READ, ACCESS_WRITE, MAPPING_WRITABLE } from '../abi';
import { isMemory, isWritable, regionOf, Sink, spaceOf } from '../asked/records';
import { hasWholePage, isPageAligned, LAST_BYTE, pageStart, wholeLast, wholeStart } from '../base/range';
import { Vector } from '../base/vector';
import { Edit, NOTHING, TIME_CURSOR_SIZE, TimeCursor } from '../tree/before';
import { Span } from '../tree/node';
import { CURSOR_SIZE, Cursor } from '../tree/tree';

/** A part or a piece: a span of GPAs with a = offset in object, b = object, c = access, and whose memory it is. */
@unmanaged
export class Piece extends Span {
  region: u32;
  unused: u32;
  offsetInRegion: u64;
}

export const PIECE_BYTES: u32 = offsetof<Piece>();

/** Whether the same is shown at `gpa` in the same way. */
export function showSame(one: Span | null, other: Span | null, gpa: u64): bool {
  return one != null && other != null && one.b == other.b && one.aAt(gpa) == other.aAt(gpa) && one.c == other.c;
}

const flat = changetype<TimeCursor>(memory.data(TIME_CURSOR_SIZE, 8));
const mappings = changetype<TimeCursor>(memory.data(TIME_CURSOR_SIZE, 8));
const limits = changetype<TimeCursor>(memory.data(TIME_CURSOR_SIZE, 8));
const lost = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));
const written = changetype<Cursor>(memory.data(CURSOR_SIZE, 8));

/** Appends the parts that the sink should show in [start, last], which are whole pages, to `out`, until it has `most` bytes. */
export function wantedParts(sink: Sink, start: u64, last: u64, out: Vector, most: u32 = u32.MAX_VALUE): void {
  if (!sink.detaching) appendParts(sink, start, last, false, out, most);
}

/** The same for those that it showed when the transaction began. */
export function formerParts(sink: Sink, start: u64, last: u64, out: Vector, most: u32 = u32.MAX_VALUE): void {
  if (!sink.attaching) appendHeld(sink, start, last, true, out, most);
}

/** The same for those that it shows, where nothing is asked for that has not been carried out. */
export function heldParts(sink: Sink, start: u64, last: u64, out: Vector, most: u32 = u32.MAX_VALUE): void {
  appendHeld(sink, start, last, false, out, most);
}

/** Parts outside of lost ranges, and in those the private pages that are held there, as parts without access. */
function appendHeld(sink: Sink, start: u64, last: u64, former: bool, out: Vector, most: u32): void {
  let at = start;
  lost.seek(sink.lostSlot, start);
  for (let span = lost.span; span != null && span.start <= last; span = lost.span) {
    if (span.start > at) appendParts(sink, at, span.start - 1, former, out, most);
    if (out.length >= most) return;
    if (span.b != NOTHING) appendHeldPages(span, max(at, span.start), min(last, span.last), out);
    if (span.last >= last) return;
    at = span.last + 1;
    lost.next();
  }
  appendParts(sink, at, last, former, out, most);
}

/** Does nothing once memory has run out. */
function appendHeldPages(span: Span, start: u64, last: u64, out: Vector): void {
  if (!out.ensure(PIECE_BYTES)) return;
  const piece = changetype<Piece>(out.extend(PIECE_BYTES));
  memory.fill(changetype<usize>(piece), 0, PIECE_BYTES);
  piece.start = start;
  piece.last = last;
  piece.a = span.aAt(start);
  piece.b = span.b;
}

function appendParts(sink: Sink, start: u64, last: u64, former: bool, out: Vector, most: u32): void {
  flat.find(spaceOf(sink.space - 1).flatSlot, start, last, former);
  for (let range = flat.span; range != null && range.start <= last && out.length < most; range = flat.span) {
    appendOfRange(sink, range, start, last, former, out, most);
    if (range.last >= last) return;
    flat.advance();
  }
}

/** Whether a flat range is memory of which whole pages can be shown. */
export function showsPages(range: Span): bool {
  return isMemory(range.b) && isPageAligned(range.a - range.start) && hasWholePage(range.start, range.last);
}

/** The parts of one flat range in [start, last]. */
function appendOfRange(sink: Sink, range: Span, start: u64, last: u64, former: bool, out: Vector, most: u32): void {
  if (!showsPages(range)) return;
  const from = max(start, wholeStart(range.start));
  const to = min(last, wholeLast(range.last));
  if (from > to) return;
  // Offset in region - GPA, which may wrap.
  const delta = range.a - range.start;
  mappings.find(regionOf(range.b).mappingsSlot, from + delta, to + delta, former);
  for (let mapping = mappings.span; mapping != null && mapping.start <= to + delta; mapping = mappings.span) {
    const access = accessOf(range, mapping.c);
    let gpa = max(from + delta, mapping.start) - delta;
    const mappedLast = min(to + delta, mapping.last) - delta;
    while (true) {
      const left = protectedAccess(sink, gpa, mappedLast, access, former);
      const partLast = min(mappedLast, protectionLast);
      if (left & ACCESS_READ) {
        if (out.length >= most) return;
        appendPart(range, gpa, partLast, mapping.aAt(gpa + delta), mapping.b, left, out);
      }
      if (partLast == mappedLast) break;
      gpa = partLast + 1;
    }
    if (mappedLast == to) return;
    mappings.advance();
  }
}

/** The access to a mapping with these MAPPING_* where the flat range shows it, as far as no protection takes some away. */
function accessOf(range: Span, mappingFlags: u32): u32 {
  return mappingFlags & MAPPING_WRITABLE && isWritable(range.b, range.c) ? ACCESS_READ | ACCESS_WRITE : ACCESS_READ;
}

/** Does nothing once memory has run out. */
function appendPart(range: Span, start: u64, last: u64, a: u64, b: u32, access: u32, out: Vector): void {
  if (!out.ensure(PIECE_BYTES)) return;
  const piece = changetype<Piece>(out.extend(PIECE_BYTES));
  piece.start = start;
  piece.last = last;
  piece.a = a;
  piece.b = b;
  piece.c = access;
  piece.region = range.b;
  piece.offsetInRegion = start + (range.a - range.start);
}

// ---- Where one edit is all that was done -----------------------------------------------------------

/**
 * Appends the parts that the sink showed and shows in [start, last] to the lists, if that follows from the edit without a look at
 * what trees were; else returns false and has appended nothing.
 */
export function editedParts(sink: Sink, start: u64, last: u64, edit: Edit, had: Vector, has: Vector): bool {
  const slot = spaceOf(sink.space - 1).flatSlot;
  if (<usize>edit.tree != slot) return mappedParts(sink, slot, start, last, edit, had, has);
  for (let at = edit.firstTaken; at < edit.end; at += offsetof<Span>()) {
    appendOfRange(sink, changetype<Span>(at), start, last, false, had, u32.MAX_VALUE);
  }
  appendParts(sink, start, last, false, has, u32.MAX_VALUE);
  return true;
}

/** The same where what is mapped into a region was edited. */
function mappedParts(sink: Sink, slot: usize, start: u64, last: u64, edit: Edit, had: Vector, has: Vector): bool {
  if (sink.protections != 0) return false;
  flat.seek(slot, start);
  const range = flat.span;
  if (range == null || range.start > start || range.last < last || !showsPages(range)) return false;
  const delta = range.a - range.start;
  const from = start + delta;
  const to = last + delta;
  if (regionOf(range.b).mappingsSlot != edit.tree || from < edit.start || to > edit.last) return false;
  if (edit.b != NOTHING)
    appendPart(range, start, last, edit.a + (from - edit.start), edit.b, accessOf(range, edit.c), has);
  for (let at = edit.firstTaken; at < edit.end; at += offsetof<Span>()) {
    const span = changetype<Span>(at);
    if (span.last < from || span.start > to) continue;
    const first = max(from, span.start);
    const end = min(to, span.last);
    appendPart(range, first - delta, end - delta, span.aAt(first), span.b, accessOf(range, span.c), had);
  }
  return true;
}

/** Where the flat range or the mapping begins, whichever is later, that the page at `at` shows; that page if it shows none. */
export function stretchStart(sink: Sink, at: u64, former: bool): u64 {
  const page = pageStart(at);
  flat.find(spaceOf(sink.space - 1).flatSlot, page, page, former);
  const range = flat.span;
  if (range == null || !showsPages(range) || wholeStart(range.start) > page) return page;
  const delta = range.a - range.start;
  mappings.find(regionOf(range.b).mappingsSlot, page + delta, page + delta, former);
  const mapping = mappings.span;
  if (mapping == null || mapping.start > page + delta) return page;
  return max(wholeStart(range.start) + delta, mapping.start) - delta;
}

/** How far what `protectedAccess` said holds. */
export let protectionLast: u64 = 0;

/** What the sink's protections leave, or left, of the access of a page seen at `gpa`; nobody asks for pages behind `last`. */
export function protectedAccess(sink: Sink, gpa: u64, last: u64, access: u32, former: bool = false): u32 {
  protectionLast = LAST_BYTE;
  limits.find(sink.protectionsSlot, gpa, last, former);
  const span = limits.span;
  if (span == null) return access;
  if (span.start > gpa) {
    protectionLast = span.start - 1;
    return access;
  }
  protectionLast = span.last;
  return access & span.c;
}

/** How far what `isMappedReadonly` said holds. */
export let writabilityLast: u64 = 0;

/** Whether the flat range shows at `gpa` what its mapping does not let anybody write; nobody asks for bytes behind `last`. */
export function isMappedReadonly(range: Span, gpa: u64, last: u64): bool {
  writabilityLast = last;
  const region = regionOf(range.b);
  if (region.readonlyPages == 0) return false;
  const delta = range.a - range.start;
  const at = gpa + delta;
  written.seek(region.mappingsSlot, at);
  let mapping = written.span;
  const isReadonly = mapping != null && mapping.start <= at && !(mapping.c & MAPPING_WRITABLE);
  const end = last + delta;
  if (isReadonly) {
    let reached = at - 1;
    while (mapping != null && !(mapping.c & MAPPING_WRITABLE) && (reached == at - 1 || mapping.start - 1 == reached)) {
      reached = mapping.last;
      written.next();
      mapping = written.span;
    }
    writabilityLast = min(reached, end) - delta;
  } else {
    while (mapping != null && mapping.start <= end && mapping.c & MAPPING_WRITABLE) {
      written.next();
      mapping = written.span;
    }
    if (mapping != null && mapping.start <= end) writabilityLast = mapping.start - 1 - delta;
  }
  return isReadonly;
}
