// Echoes: stretches of a VA space where private pages are seen that it maps elsewhere, at their home. Private pages
// exist only as their mapping, so that of several places at which they are seen one is home, and at the others nothing
// is mapped: partitions see echoes by slots with the HVAs of the home, the monitor reaches the pages at home alone.
//
//   a VA space's tree of echoes   GPA -> b = object, a = offset in it of the page at that GPA
//   an object's tree `shown`      offset -> home, in the same VA space
//
// Echoes are whole pages of their object. Homes are found in homes.ts.

import { PAGE_SHIFT } from '../abi';
import { Sink, sinkOf, writableObject } from '../asked/records';
import { Echo } from '../asked/views';
import { LAST_BYTE, lengthOf } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import * as spans from '../tree/spans';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { ensureStep } from '../undo/journal';
import { touchUsers } from './users';

export const ECHO_BYTES: u32 = offsetof<Echo>();

const echoes = changetype<Cursor<Echo>>(memory.data(CURSOR_SIZE, 8));
/** Echoes that are taken out. */
const taken = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Last address up to which the last answer of `isEcho` holds. */
export let echoLast: u64 = 0;

/** Whether what is seen at `gpa` of a VA space is mapped elsewhere. */
export function isEcho(va: Sink, gpa: u64): bool {
  echoLast = LAST_BYTE;
  if (va.echoes == 0) return false;
  echoes.seek(va.echoesTree, gpa);
  const echo = echoes.span;
  if (echo == null) return false;
  const isInside = echo.start <= gpa;
  echoLast = isInside ? echo.last : echo.start - 1;
  return isInside;
}

/** The echo at `gpa`, of which `isEcho` was true just now. */
export function lastEcho(): Echo {
  const echo = echoes.span;
  assert(echo != null);
  return changetype<Echo>(echo);
}

/** Enters [start, last] of a VA sink as an echo of an object's pages from `offset` on. */
export function enterEcho(va: u32, start: u64, last: u64, object: u32, offset: u64): void {
  if (!ensureStep()) return;
  spans.put(sinkOf(va).echoesTree, start, last, offset, object, 0);
  writableObject(object).echoedPages += lengthOf(start, last) >> PAGE_SHIFT;
  touchUsers(va, start, last);
}

/** Takes [start, last] out of the echoes of a VA sink. */
export function eraseEcho(va: u32, start: u64, last: u64): void {
  taken.clear();
  spans.take(sinkOf(va).echoesTree, start, last, taken);
  for (let at: u32 = 0; at < taken.length; at += ECHO_BYTES) {
    if (!ensureStep()) return;
    const echo = changetype<Echo>(taken.at(at));
    const pages = lengthOf(echo.start, echo.last) >> PAGE_SHIFT;
    assert(writableObject(echo.object).echoedPages >= pages);
    writableObject(echo.object).echoedPages -= pages;
    touchUsers(va, echo.start, echo.last);
  }
}

/** Appends to `out` the echoes of [offset, last] of an object, as Echoes, in order of GPA. */
export function findEchoes(va: Sink, object: u32, offset: u64, last: u64, out: Vector): void {
  echoes.seek(va.echoesTree, 0);
  for (let echo = echoes.span; echo != null; echo = echoes.span) {
    if (echo.object == object) appendPart(echo, offset, last, out);
    echoes.next();
  }
}

/** Appends the part of an echo that shows bytes of [offset, last]. Does nothing once memory has run out. */
function appendPart(echo: Echo, offset: u64, last: u64, out: Vector): void {
  const end = echo.objectOffsetAt(echo.last);
  if (echo.a > last || end < offset || !out.ensure(ECHO_BYTES)) return;
  const part = changetype<Echo>(out.extend(ECHO_BYTES));
  part.a = max(offset, echo.a);
  part.start = echo.start + (part.a - echo.a);
  part.last = echo.last - (end - min(end, last));
  part.b = echo.object;
  part.c = 0;
}
