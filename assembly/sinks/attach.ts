// Sinks, as they come and go. Attaching one late gives it all that is visible then; detaching takes exactly
// that away again.

import {
  ACCESS_ALL,
  ACCESS_NEAREST,
  ERR_BAD_FLAGS,
  ERR_BAD_ID,
  ERR_BAD_KIND,
  ERR_BAD_RANGE,
  ERR_IN_USE,
  ERR_UNALIGNED,
  SINK_KINDS,
} from '../abi';
import {
  partitionOf,
  sinkOf,
  sinks,
  spaceOf,
  spaces,
  writablePartition,
  writableSink,
  writableSpace,
} from '../asked/records';
import { Protection } from '../asked/views';
import { fail, refusePages } from '../base/failure';
import { isPageAligned, LAST_BYTE } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { noteEdit } from '../tree/before';
import * as spans from '../tree/spans';
import * as tree from '../tree/tree';
import { CURSOR_SIZE, Cursor } from '../tree/tree';
import { addTouched, touchedSinks } from '../undo/touched';
import { kindAt } from './kinds';
import { reachOf } from './stretches';

const withheld = changetype<Cursor<Protection>>(memory.data(CURSOR_SIZE, 8));
/** Protections that an operation takes out, clipped to its range. */
const before = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Attaches a sink of a kind to a space: GPA g is g + `offset` in its own numbering, in which `last` is the last
 *  that it can be given. `owner`: the partition that it belongs to; `via`: the VA sink whose HVAs it uses; each id +
 *  1, 0 where the kind has none. Returns the sink's id, or a code. */
export function attachSink(kind: u32, space: u32, owner: u32, via: u32, offset: u64, last: u64): i32 {
  if (kind == 0 || kind > <u32>SINK_KINDS) return fail(ERR_BAD_KIND);
  if (!spaces.isAlive(space)) return fail(ERR_BAD_ID);
  if (!isPageAligned(offset)) return fail(ERR_UNALIGNED, 0, 0, offset);
  if (last < offset) return fail(ERR_BAD_RANGE, 0, 0, last);
  const error = kindAt(kind).admit(space, owner, via, offset, last);
  if (error != 0) return error;
  const id = sinks.allocate();
  if (id < 0) return fail(id);
  const sink = sinkOf(id);
  sink.kind = <u8>kind;
  sink.heeds = <u8>kindAt(kind).heeds;
  sink.space = space + 1;
  sink.partition = owner;
  sink.va = via;
  sink.offset = offset;
  sink.last = last - offset;
  sink.attaching = true;
  sink.nextOfSpace = spaceOf(space).sinks;
  writableSpace(space).sinks = id + 1;
  if (owner != 0) writablePartition(owner - 1).uses += 1;
  if (via != 0) writableSink(via - 1).users += 1;
  addTouched(touchedSinks, id, 0, LAST_BYTE);
  return id;
}

/** Detaches a sink that is alive. What it has goes with this transaction; the id is free when that has ended. */
export function detachSink(id: u32): i32 {
  const sink = sinkOf(id);
  if (sink.detaching) return fail(ERR_BAD_ID, 0, id + 1);
  if (sink.users != 0) return fail(ERR_IN_USE, 0, id + 1);
  writableSink(id).detaching = true;
  if (sink.va != 0) {
    assert(sinkOf(sink.va - 1).users != 0);
    writableSink(sink.va - 1).users -= 1;
  }
  addTouched(touchedSinks, id, 0, LAST_BYTE);
  return 0;
}

/** Takes a sink that has nothing any more out of its space. */
export function removeSink(id: u32): void {
  const sink = sinkOf(id);
  const space = sink.space - 1;
  if (spaceOf(space).sinks == id + 1) {
    writableSpace(space).sinks = sink.nextOfSpace;
  } else {
    let before = spaceOf(space).sinks - 1;
    while (sinkOf(before).nextOfSpace != id + 1) before = sinkOf(before).nextOfSpace - 1;
    writableSink(before).nextOfSpace = sink.nextOfSpace;
  }
  if (sink.partition != 0) {
    assert(partitionOf(sink.partition - 1).uses != 0);
    writablePartition(sink.partition - 1).uses -= 1;
  }
  assert(sink.state == 0 && sink.lost == 0 && sink.users == 0 && sink.echoes == 0 && sink.homes == 0);
  assert(sink.stretches == 0);
  tree.clear(sink.protectionsTree);
  tree.clear(sink.withheldTree);
  sinks.release(id);
}

/** Protects [start, last], which are whole pages: leaves of the access only ACCESS_*, with
 *  ACCESS_NEAREST where the nearest will do; ACCESS_ALL takes the protection away. Returns 0 or a code. */
export function protect(id: u32, start: u64, last: u64, access: u32): i32 {
  if (last > reachOf(sinkOf(id))) return fail(ERR_BAD_RANGE, 0, id + 1, last);
  const error = checkProtection(id, start, last, access & ~ACCESS_NEAREST);
  if (error == 0) enterProtection(id, sinkOf(id).protectionsTree, start, last, access);
  return error;
}

/** Withholds in [start, last], until `giveBack`, all access but ACCESS_*, and what was withheld there already.
 *  Protections hold besides; what the sink cannot be given may be in it. Returns 0 or a code. */
export function withhold(id: u32, start: u64, last: u64, access: u32): i32 {
  const error = checkProtection(id, start, last, access);
  if (error != 0) return error;
  const withheldTree = sinkOf(id).withheldTree;
  let at = start;
  let partLast: u64 = 0;
  do {
    partLast = last;
    let left = access;
    withheld.seek(withheldTree, at);
    const span = withheld.span;
    if (span != null && span.start <= at) {
      partLast = min(last, span.last);
      left &= span.access;
    } else if (span != null) {
      partLast = min(last, span.start - 1);
    }
    enterProtection(id, withheldTree, at, partLast, left);
    at = partLast + 1;
  } while (partLast != last);
  return 0;
}

/** Ends all that is withheld in [start, last]. Returns 0 or a code. */
export function giveBack(id: u32, start: u64, last: u64): i32 {
  const error = checkProtection(id, start, last, ACCESS_ALL);
  if (error == 0) enterProtection(id, sinkOf(id).withheldTree, start, last, ACCESS_ALL);
  return error;
}

function checkProtection(id: u32, start: u64, last: u64, access: u32): i32 {
  if (access & ~ACCESS_ALL) return fail(ERR_BAD_FLAGS, 0, id + 1);
  return refusePages(start, last, id + 1);
}

/** Makes [start, last] one span of a tree of a sink's protections, or none if `access` is ACCESS_ALL. */
function enterProtection(id: u32, tree: usize, start: u64, last: u64, access: u32): void {
  before.clear();
  if ((access & ACCESS_ALL) == ACCESS_ALL) spans.take(tree, start, last, before);
  else spans.overwrite(tree, start, last, start, 0, access, before);
  noteEdit(tree, start, last, 0, 0, access, before);
  addTouched(touchedSinks, id, start, last);
}
