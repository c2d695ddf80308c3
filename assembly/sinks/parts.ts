// Parts: what is to be seen in a VA space now, and what was before. A part is a stretch of which the flat view shows
// one object, at offsets that a page can show: it follows from that, from the mappings of the regions seen in it, and
// from the sink's protections, now or before. So nobody keeps it. What a VA space maps for it are pieces: see
// pieces.ts.
//
// A part may begin or end inside of a page: the rest of that page traps (or shows the same memory further on). A page
// that would have to show different memory in different places shows none.

import { ACCESS_ALL, ACCESS_READ, ACCESS_WRITE } from '../abi';
import { isMemory, regionOf, Sink, spaceOf } from '../asked/records';
import { FlatRange, isWritable, LostRange, Mapping, Protection } from '../asked/views';
import { isPageAligned, LAST_BYTE, pageLast, pageStart } from '../base/range';
import { Vector } from '../base/vector';
import { Edit, NOTHING, TIME_CURSOR_SIZE, TimeCursor, When } from '../tree/before';
import { Stretch } from '../tree/node';
import { CURSOR_SIZE, Cursor } from '../tree/tree';

/** A part or a piece: the stretch of an object that is shown at [start, last] (GPAs), and whose memory it is. */
@unmanaged
export class Piece extends Stretch {
  objectOffset: u64;
  object: u32;
  /** ACCESS_*; none where private pages are only held. */
  access: u32;
  region: u32;
  unused: u32;
  offsetInRegion: u64;

  objectOffsetAt(gpa: u64): u64 {
    return this.objectOffset + (gpa - this.start);
  }
}

export const PIECE_BYTES: u32 = offsetof<Piece>();

/** Whether the same is shown at `gpa` in the same way. */
export function showSame(one: Piece | null, other: Piece | null, gpa: u64): bool {
  if (one == null || other == null) return false;
  return (
    one.object == other.object && one.objectOffsetAt(gpa) == other.objectOffsetAt(gpa) && one.access == other.access
  );
}

const flat = changetype<TimeCursor<FlatRange>>(memory.data(TIME_CURSOR_SIZE, 8));
const mappings = changetype<TimeCursor<Mapping>>(memory.data(TIME_CURSOR_SIZE, 8));
const protections = changetype<TimeCursor<Protection>>(memory.data(TIME_CURSOR_SIZE, 8));
const lost = changetype<Cursor<LostRange>>(memory.data(CURSOR_SIZE, 8));
const written = changetype<Cursor<Mapping>>(memory.data(CURSOR_SIZE, 8));

/** Whether some part has ever begun or ended inside of a page. */
export let hasCutPages: bool = false;

/** Last byte of the page in which different memory was found; 0 before there is one. */
let mixedLast: u64 = 0;

/** Appends the parts that the sink should show in [start, last], which are whole pages, to `out`, until it has `most`
 *  bytes: then up to the end of the page that it is in. */
export function wantedParts(sink: Sink, start: u64, last: u64, out: Vector, most: u32 = u32.MAX_VALUE): void {
  if (!sink.detaching) appendParts(sink, start, last, When.Now, out, most);
}

/** Appends the parts that the sink has shown in [start, last], which are whole pages, to `out`, as `wantedParts`
 *  does; for private pages that lost ranges hold, parts without access. `when`: Now between transactions, when all
 *  that is asked for has been carried out. */
export function heldParts(sink: Sink, start: u64, last: u64, when: When, out: Vector, most: u32 = u32.MAX_VALUE): void {
  if (when == When.Before && sink.attaching) return;
  let at = start;
  lost.seek(sink.lostTree, start);
  for (let range = lost.span; range != null && range.start <= last; range = lost.span) {
    if (range.start > at) appendParts(sink, at, range.start - 1, when, out, most);
    if (out.length >= most) return;
    if (range.holdsPages) appendHeldPages(range, max(at, range.start), min(last, range.last), out);
    if (range.last >= last) return;
    at = range.last + 1;
    lost.next();
  }
  appendParts(sink, at, last, when, out, most);
}

/** Appends, as a part without access, the private pages that a lost range holds in [start, last]. Does nothing once
 *  memory has run out. */
function appendHeldPages(range: LostRange, start: u64, last: u64, out: Vector): void {
  if (!out.ensure(PIECE_BYTES)) return;
  const piece = changetype<Piece>(out.extend(PIECE_BYTES));
  memory.fill(changetype<usize>(piece), 0, PIECE_BYTES);
  piece.start = start;
  piece.last = last;
  piece.objectOffset = range.objectOffsetAt(start);
  piece.object = range.object;
}

function appendParts(sink: Sink, start: u64, last: u64, when: When, out: Vector, most: u32): void {
  last = min(last, sink.shownLast);
  if (start > last) return;
  flat.find(spaceOf(sink.space - 1).flatTree, start, last, when);
  mixedLast = 0;
  for (let range = flat.span; range != null && range.start <= last; range = flat.span) {
    if (isFull(out, most, range.start)) return;
    appendOfRange(sink, range, start, last, when, out, most);
    if (range.last >= last) return;
    flat.advance();
  }
}

/** Whether a list has `most` bytes, and none of it is in the page of `gpa`. */
function isFull(out: Vector, most: u32, gpa: u64): bool {
  return out.length >= most && lastPart(out).last < pageStart(gpa);
}

/** The last part of a list that is not empty. */
function lastPart(list: Vector): Piece {
  return changetype<Piece>(list.end - PIECE_BYTES);
}

/** Whether a flat range is memory that lies in pages as it does in its object's, so that they can show it. */
export function fitsPages(range: FlatRange): bool {
  return isMemory(range.region) && isPageAligned(range.delta);
}

/** Appends the parts of one flat range in [start, last]. */
function appendOfRange(sink: Sink, range: FlatRange, start: u64, last: u64, when: When, out: Vector, most: u32): void {
  if (!fitsPages(range)) return;
  const from = max(start, range.start);
  const to = min(last, range.last);
  const delta = range.delta;
  mappings.find(regionOf(range.region).mappingsTree, from + delta, to + delta, when);
  for (let mapping = mappings.span; mapping != null && mapping.start <= to + delta; mapping = mappings.span) {
    const access = accessOf(range, mapping);
    let gpa = max(from + delta, mapping.start) - delta;
    const mappedLast = min(to + delta, mapping.last) - delta;
    while (true) {
      const left = protectedAccess(sink, gpa, mappedLast, access, when);
      const partLast = min(mappedLast, protectionLast);
      if (left & ACCESS_READ) {
        if (isFull(out, most, gpa)) return;
        appendPart(range, mapping, gpa, partLast, left, out);
      }
      if (partLast == mappedLast) break;
      gpa = partLast + 1;
    }
    if (mappedLast == to) return;
    mappings.advance();
  }
}

/** The access to a mapping where the flat range shows it, as far as no protection takes some away. */
function accessOf(range: FlatRange, mapping: Mapping): u32 {
  return mapping.isWritable && isWritable(range) ? ACCESS_READ | ACCESS_WRITE : ACCESS_READ;
}

/** Appends what the flat range shows of a mapping in [start, last], if its pages show nothing else. Does nothing once
 *  memory has run out. */
function appendPart(range: FlatRange, mapping: Mapping, start: u64, last: u64, access: u32, out: Vector): void {
  if (!isPageAligned(start | (last + 1))) {
    start = startUnmixed(range, mapping, start, out);
    if (start > last) return;
  }
  if (!out.ensure(PIECE_BYTES)) return;
  const piece = changetype<Piece>(out.extend(PIECE_BYTES));
  piece.start = start;
  piece.last = last;
  piece.objectOffset = mapping.objectOffsetAt(start + range.delta);
  piece.object = mapping.object;
  piece.access = access;
  piece.region = range.region;
  piece.offsetInRegion = start + range.delta;
}

/** First byte, from `start` on, of which the page shows no other memory than the mapping; takes the last part of `out`
 *  out of the page in which it is the other. */
function startUnmixed(range: FlatRange, mapping: Mapping, start: u64, out: Vector): u64 {
  hasCutPages = true;
  const page = pageStart(start);
  if (mixedLast == pageLast(start)) return mixedLast + 1;
  if (out.length == 0) return start;
  const before = lastPart(out);
  if (before.last < page) return start;
  const offset = mapping.objectOffsetAt(start + range.delta);
  if (before.object == mapping.object && before.objectOffsetAt(start) == offset) return start;
  mixedLast = pageLast(start);
  while (out.length != 0 && lastPart(out).last >= page) {
    if (lastPart(out).start < page) lastPart(out).last = page - 1;
    else out.shrink(PIECE_BYTES);
  }
  return mixedLast + 1;
}

// ---- Where one edit is all that was done -----------------------------------------------------------

/** Appends the parts that the sink showed before and shows now in [start, last] to the lists, if that follows from
 *  the edit without a look at what trees were; else returns false and has appended nothing. */
export function editedParts(sink: Sink, start: u64, last: u64, edit: Edit, before: Vector, now: Vector): bool {
  const view = spaceOf(sink.space - 1).flatTree;
  if (<usize>edit.tree != view) return mappedParts(sink, start, last, edit, before, now);
  mixedLast = 0;
  for (let at = edit.firstBefore; at < edit.end; at += offsetof<FlatRange>()) {
    appendOfRange(sink, changetype<FlatRange>(at), start, last, When.Now, before, u32.MAX_VALUE);
  }
  appendParts(sink, start, last, When.Now, now, u32.MAX_VALUE);
  return true;
}

/** `editedParts` where mappings of a region were edited. */
function mappedParts(sink: Sink, start: u64, last: u64, edit: Edit, before: Vector, now: Vector): bool {
  if (sink.protections != 0 || sink.withheld != 0) return false;
  flat.seek(spaceOf(sink.space - 1).flatTree, start);
  const range = flat.span;
  if (range == null || range.start > start || range.last < last || !fitsPages(range)) return false;
  const delta = range.delta;
  const from = start + delta;
  const to = last + delta;
  if (regionOf(range.region).mappingsTree != edit.tree || from < edit.start || to > edit.last) return false;
  if (edit.b != NOTHING) {
    const mapping = changetype<Mapping>(edit);
    appendPart(range, mapping, start, last, accessOf(range, mapping), now);
  }
  for (let at = edit.firstBefore; at < edit.end; at += offsetof<Mapping>()) {
    const mapping = changetype<Mapping>(at);
    if (mapping.last < from || mapping.start > to) continue;
    const first = max(from, mapping.start) - delta;
    const end = min(to, mapping.last) - delta;
    appendPart(range, mapping, first, end, accessOf(range, mapping), before);
  }
  return true;
}

/** Start of the page from which on the flat range and the mapping reach that the page of `at` begins with; that page if
 *  it begins with none. */
export function stretchStart(sink: Sink, at: u64, when: When): u64 {
  const page = pageStart(at);
  flat.find(spaceOf(sink.space - 1).flatTree, page, page, when);
  const range = flat.span;
  if (range == null || !fitsPages(range) || range.start > page) return page;
  const delta = range.delta;
  mappings.find(regionOf(range.region).mappingsTree, page + delta, page + delta, when);
  const mapping = mappings.span;
  if (mapping == null || mapping.start > page + delta) return page;
  return pageStart(max(range.start + delta, mapping.start) - delta);
}

/** Last address up to which the last answer of `protectedAccess` holds. */
export let protectionLast: u64 = 0;

/** Access that the sink's protections, and what is withheld, leave of that to a page at `gpa`; nobody asks for pages
 *  behind `last`. */
export function protectedAccess(sink: Sink, gpa: u64, last: u64, access: u32, when: When): u32 {
  protectionLast = LAST_BYTE;
  return access & accessLeft(sink.protectionsTree, gpa, last, when) & accessLeft(sink.withheldTree, gpa, last, when);
}

/** Access that a tree of protections leaves at `gpa`; lowers `protectionLast` to where that ends. */
function accessLeft(tree: usize, gpa: u64, last: u64, when: When): u32 {
  protections.find(tree, gpa, last, when);
  const protection = protections.span;
  if (protection == null) return ACCESS_ALL;
  if (protection.start > gpa) {
    protectionLast = min(protectionLast, protection.start - 1);
    return ACCESS_ALL;
  }
  protectionLast = min(protectionLast, protection.last);
  return protection.access;
}

/** Last address up to which the last answer of `isMappedReadonly` holds. */
export let writabilityLast: u64 = 0;

/** Whether the flat range shows at `gpa` what its mapping does not let anybody write; nobody asks for bytes behind
 *  `last`. */
export function isMappedReadonly(range: FlatRange, gpa: u64, last: u64): bool {
  writabilityLast = last;
  const region = regionOf(range.region);
  if (region.readonlyPages == 0) return false;
  const delta = range.delta;
  const at = gpa + delta;
  written.seek(region.mappingsTree, at);
  let mapping = written.span;
  const isReadonly = mapping != null && mapping.start <= at && !mapping.isWritable;
  const end = last + delta;
  if (isReadonly) {
    let reached = at - 1;
    while (mapping != null && !mapping.isWritable && (reached == at - 1 || mapping.start - 1 == reached)) {
      reached = mapping.last;
      written.next();
      mapping = written.span;
    }
    writabilityLast = min(reached, end) - delta;
  } else {
    while (mapping != null && mapping.start <= end && mapping.isWritable) {
      written.next();
      mapping = written.span;
    }
    if (mapping != null && mapping.start <= end) writabilityLast = mapping.start - 1 - delta;
  }
  return isReadonly;
}
