// Pass 1, events: stretches of a region at which a guest's writes do not exit. They signal an eventfd, or are kept for
// later. Where a region is seen, its events are seen.

import {
  ERR_BAD_FLAGS,
  ERR_BAD_KIND,
  ERR_BAD_RANGE,
  ERR_EVENT_TAKEN,
  EVENT_ANY_LENGTH,
  EVENT_COALESCED,
  EVENT_MATCH,
  KIND_SHOWS,
  REGION_EMPTY,
} from '../abi';
import { fail } from '../base/failure';
import { exists, LAST_BYTE, lastOf, lengthOf } from '../base/range';
import { VECTOR_SIZE, Vector } from '../base/vector';
import * as tree from '../tree/tree';
import { eventOf, events, RegionEvent, regionOf, writableRegion } from './records';
import { EVENTS, markRegion } from './touch';

/** Events (u32 ids) of the stretch that a new one is to have. */
const others = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Makes an event of [offset, offset + length) of a region that is alive. `flags`: EVENT_*; `match`: the value that
 *  counts, with EVENT_MATCH. Returns its id or a code. */
export function createEvent(region: u32, offset: u64, length: u64, flags: u32, match: u64): i32 {
  const refused = checkEvent(region, offset, length, flags, match);
  if (refused != 0) return refused;
  const last = lastOf(offset, length);
  others.clear();
  tree.collect(regionOf(region).eventsTree, offset, last, others);
  for (let at: u32 = 0; at < others.length; at += 4) {
    const other = eventOf(load<u32>(others.at(at)));
    if (collides(other, offset, last, flags, match)) return fail(ERR_EVENT_TAKEN, region + 1, 0, offset);
  }
  const id = events.allocate();
  if (id < 0) return fail(id);
  const event = eventOf(id);
  event.region = region;
  event.flags = flags;
  event.offset = offset;
  event.last = last;
  event.match = match;
  const owner = writableRegion(region);
  owner.uses += 1;
  tree.insert(owner.eventsTree, offset, last, 0, id, 0);
  const error = markRegion(region, offset, last, EVENTS);
  return error != 0 ? error : id;
}

function checkEvent(region: u32, offset: u64, length: u64, flags: u32, match: u64): i32 {
  const record = regionOf(region);
  if (!(record.kind & KIND_SHOWS)) return fail(ERR_BAD_KIND, region + 1);
  const isCoalesced = (flags & EVENT_COALESCED) != 0;
  const more = flags & (EVENT_MATCH | EVENT_ANY_LENGTH);
  if (flags & ~(EVENT_MATCH | EVENT_ANY_LENGTH | EVENT_COALESCED)) return fail(ERR_BAD_FLAGS, region + 1);
  if (isCoalesced ? more != 0 : more == (EVENT_MATCH | EVENT_ANY_LENGTH)) return fail(ERR_BAD_FLAGS, region + 1);
  if (record.flags & REGION_EMPTY || !exists(offset, length) || lastOf(offset, length) > record.last) {
    return fail(ERR_BAD_RANGE, region + 1, 0, offset);
  }
  if (isCoalesced) return 0;
  if (flags & EVENT_ANY_LENGTH ? length != 1 : length > 8 || popcnt(length) != 1)
    return fail(ERR_BAD_FLAGS, region + 1, 0, offset);
  const most = length == 8 ? LAST_BYTE : ((<u64>1) << (length << 3)) - 1;
  return (flags & EVENT_MATCH ? match > most : match != 0) ? fail(ERR_BAD_FLAGS, region + 1, 0, offset) : 0;
}

/** Whether one write could be for an event and for a new one of [offset, last]. Those that are kept for later share no
 *  byte with any other. */
function collides(other: RegionEvent, offset: u64, last: u64, flags: u32, match: u64): bool {
  if ((other.flags | flags) & EVENT_COALESCED) return true;
  if (other.offset != offset) return false;
  if ((other.flags | flags) & EVENT_ANY_LENGTH) return true;
  if (other.last != last) return false;
  return (other.flags & flags & EVENT_MATCH) == 0 || other.match == match;
}

/** Destroys an event that is alive. Returns 0 or a code. */
export function destroyEvent(id: u32): i32 {
  const event = eventOf(id);
  const error = markRegion(event.region, event.offset, event.last, EVENTS);
  if (error != 0) return error;
  const owner = writableRegion(event.region);
  assert(owner.uses != 0);
  owner.uses -= 1;
  tree.remove(owner.eventsTree, event.offset, id);
  events.release(id);
  return 0;
}

/** Bytes of the writes that an event is for. */
export function eventLength(event: RegionEvent): u64 {
  return lengthOf(event.offset, event.last);
}
