// The invariants, checked over the whole state: around every export in the debug build. Between transactions what
// follows from what was asked for is worked out anew and compared: flat views, VA pieces, memory slots.

import { KIND_HAS_TARGET, KIND_SHOWS, PAGE_SHIFT, REGION_EMPTY } from './abi';
import {
  eventOf,
  events,
  objectOf,
  objects,
  partitionOf,
  partitions,
  regionOf,
  regions,
  sinkOf,
  sinks,
  spaceOf,
  spaces,
} from './asked/records';
import { resetVisits } from './asked/touch';
import { FlatRange, Mapping } from './asked/views';
import { clearExhausted, exhausted } from './base/heap';
import { lengthOf, pageLast, plusClipped } from './base/range';
import { isIdle } from './plan';
import { render } from './seen/flatten';
import { kindOfSink } from './sinks/kinds';
import { slotIsTaken } from './sinks/partition';
import { isAsBefore } from './tree/before';
import { Span } from './tree/node';
import { CURSOR_SIZE, Cursor } from './tree/tree';
import { ANY, DISJOINT, JOINED, verifyTree } from './tree/tree-verify';
import { savepoint, undo } from './undo/journal';

const cursor = changetype<Cursor<Span>>(memory.data(CURSOR_SIZE, 8));
const mappings = changetype<Cursor<Mapping>>(memory.data(CURSOR_SIZE, 8));
const shown = changetype<Cursor<FlatRange>>(memory.data(CURSOR_SIZE, 8));
const other = changetype<Cursor<FlatRange>>(memory.data(CURSOR_SIZE, 8));
/** Tree that a flat view is worked out in. */
const fresh: usize = memory.data(8, 8);

export function verifyState(): void {
  for (let id: u32 = 0; id < regions.count; ++id) if (regions.isAlive(id)) verifyRegion(id);
  for (let id: u32 = 0; id < objects.count; ++id) if (objects.isAlive(id)) verifyObject(id);
  for (let id: u32 = 0; id < spaces.count; ++id) if (spaces.isAlive(id)) verifySpace(id);
  for (let id: u32 = 0; id < sinks.count; ++id) if (sinks.isAlive(id)) verifySink(id);
  for (let id: u32 = 0; id < partitions.count; ++id) if (partitions.isAlive(id)) verifyPartition(id);
}

// ---- What is asked for -------------------------------------------------------------------------

function verifyRegion(id: u32): void {
  const region = regionOf(id);
  assert(((region.kind & KIND_HAS_TARGET) != 0) == (region.target != 0));
  let uses: u32 = 0;
  for (let space = region.spaces; space != 0; space = spaceOf(space - 1).nextOfRoot) {
    assert(spaces.isAlive(space - 1) && spaceOf(space - 1).root == id + 1);
    ++uses;
  }
  // Those of size 0 are in no tree, but are counted.
  for (let i: u32 = 0; i < regions.count; ++i) {
    if (!regions.isAlive(i)) continue;
    if (regionOf(i).parent == id + 1) ++uses;
    if (regionOf(i).target == id + 1) ++uses;
  }
  uses += verifyEvents(id);
  assert(uses == region.uses);
  verifyTree(region.childrenTree, ANY);
  cursor.toFirst(region.childrenTree);
  for (let span = cursor.span; span != null; span = cursor.span) {
    const child = regionOf(span.b);
    assert(regions.isAlive(span.b) && child.parent == id + 1 && !(child.flags & REGION_EMPTY));
    assert(span.start == child.offset && span.last == plusClipped(child.offset, child.last));
    cursor.next();
  }
  verifyTree(region.referrersTree, ANY);
  cursor.toFirst(region.referrersTree);
  for (let span = cursor.span; span != null; span = cursor.span) {
    const alias = regionOf(span.b);
    assert(regions.isAlive(span.b) && alias.target == id + 1 && !(alias.flags & REGION_EMPTY));
    assert(span.start == alias.targetOffset && span.last == plusClipped(alias.targetOffset, alias.last));
    cursor.next();
  }
  verifyMappings(id);
}

function verifyMappings(id: u32): void {
  const region = regionOf(id);
  assert(!isIdle() || isAsBefore(region.mappingsTree));
  verifyTree(region.mappingsTree, JOINED);
  mappings.seek(region.mappingsTree, 0);
  for (let mapping = mappings.span; mapping != null; mapping = mappings.span) {
    assert(objects.isAlive(mapping.object) && mapping.last <= pageLast(region.last) && !(region.flags & REGION_EMPTY));
    assert(mapping.objectOffsetAt(mapping.last) <= pageLast(objectOf(mapping.object).size - 1));
    mappings.next();
  }
}

/** Asserts that the events of a region are its own; returns how many there are. */
function verifyEvents(id: u32): u32 {
  const region = regionOf(id);
  const count = verifyTree(region.eventsTree, ANY);
  cursor.toFirst(region.eventsTree);
  for (let span = cursor.span; span != null; span = cursor.span) {
    const event = eventOf(span.b);
    assert(events.isAlive(span.b) && event.region == id && span.start == event.offset && span.last == event.last);
    cursor.next();
  }
  return count;
}

function verifyObject(id: u32): void {
  let pages: u64 = 0;
  for (let i: u32 = 0; i < regions.count; ++i) {
    if (!regions.isAlive(i)) continue;
    mappings.seek(regionOf(i).mappingsTree, 0);
    for (let mapping = mappings.span; mapping != null; mapping = mappings.span) {
      if (mapping.object == id) pages += lengthOf(mapping.start, mapping.last) >> PAGE_SHIFT;
      mappings.next();
    }
  }
  const object = objectOf(id);
  assert(object.mappedPages == pages);
  verifyTree(object.shownTree, JOINED);
  assert(object.isMoved || object.shown == 0);
  let echoed: u64 = 0;
  for (let sink: u32 = 0; sink < sinks.count; ++sink) {
    if (!sinks.isAlive(sink)) continue;
    cursor.seek(sinkOf(sink).echoesTree, 0);
    for (; cursor.span != null; cursor.next()) {
      const echo = changetype<Span>(cursor.span);
      if (echo.b == id) echoed += lengthOf(echo.start, echo.last) >> PAGE_SHIFT;
    }
  }
  assert(object.echoedPages == echoed);
}

// ---- What follows from it ----------------------------------------------------------------------

function verifySpace(id: u32): void {
  const space = spaceOf(id);
  assert(regions.isAlive(space.root - 1));
  verifyTree(space.flatTree, JOINED);
  for (let sink = space.sinks; sink != 0; sink = sinkOf(sink - 1).nextOfSpace) {
    assert(sinks.isAlive(sink - 1) && sinkOf(sink - 1).space == id + 1);
  }
  if (!isIdle() || exhausted) return;
  assert(isAsBefore(space.flatTree));
  shown.seek(space.flatTree, 0);
  for (let range = shown.span; range != null; range = shown.span) {
    const region = regionOf(range.region);
    assert(regions.isAlive(range.region) && (region.kind & KIND_SHOWS) != 0);
    assert(range.offsetInRegionAt(range.last) <= region.last);
    shown.next();
  }
  if (!savepoint()) {
    clearExhausted();
    return;
  }
  resetVisits();
  const root = space.root - 1;
  const last = plusClipped(space.offset, regionOf(root).last);
  assert(render(fresh, root, 0, last - space.offset, space.offset, 0, 0) == 0);
  if (!exhausted) verifyFlat(id);
  undo();
  clearExhausted();
}

function verifyFlat(id: u32): void {
  shown.seek(spaceOf(id).flatTree, 0);
  other.seek(fresh, 0);
  while (shown.span != null && other.span != null) {
    verifySame(changetype<FlatRange>(shown.span), changetype<FlatRange>(other.span));
    shown.next();
    other.next();
  }
  assert(shown.span == null && other.span == null);
}

function verifySame(one: FlatRange, other: FlatRange): void {
  assert(one.start == other.start && one.last == other.last);
  assert(one.region == other.region && one.delta == other.delta && one.flags == other.flags);
}

function verifySink(id: u32): void {
  const sink = sinkOf(id);
  assert(spaces.isAlive(sink.space - 1));
  verifyTree(sink.protectionsTree, JOINED);
  verifyTree(sink.withheldTree, JOINED);
  verifyTree(sink.stateTree, kindOfSink(id).promise);
  verifyTree(sink.lostTree, JOINED);
  verifyTree(sink.echoesTree, JOINED);
  verifyTree(sink.homesTree, JOINED);
  verifyTree(sink.stretchesTree, DISJOINT);
  verifyUsers(id);
  if (!isIdle()) return;
  assert(!sink.detaching && !sink.attaching);
  assert(isAsBefore(sink.protectionsTree) && isAsBefore(sink.withheldTree));
  kindOfSink(id).verify(id);
}

function verifyUsers(id: u32): void {
  let users: u32 = 0;
  for (let i: u32 = 0; i < sinks.count; ++i) {
    if (sinks.isAlive(i) && sinkOf(i).va == id + 1 && !sinkOf(i).detaching) ++users;
  }
  assert(users == sinkOf(id).users);
}

function verifyPartition(id: u32): void {
  const partition = partitionOf(id);
  verifyTree(partition.keptTree, JOINED);
  let taken: u32 = 0;
  let lowestFree = partition.slotLimit;
  for (let slot: u32 = 0; slot < partition.slotLimit; ++slot) {
    if (slotIsTaken(id, slot)) ++taken;
    else lowestFree = min(lowestFree, slot);
  }
  assert(taken == partition.slotsUsed && partition.lowestFree <= lowestFree);
  let attached: u32 = 0;
  let slots: u32 = 0;
  for (let sink: u32 = 0; sink < sinks.count; ++sink) {
    if (!sinks.isAlive(sink) || sinkOf(sink).partition != id + 1) continue;
    ++attached;
    cursor.seek(sinkOf(sink).stateTree, 0);
    for (; cursor.span != null; cursor.next()) ++slots;
  }
  // As many slots as numbers, and each number taken: so no two slots have the same.
  assert(attached == partition.uses && slots == taken);
}
