// The events that are seen: those of the regions in a flat view, each where all of its bytes are seen in a row.

import { eventOf, regionOf, spaceOf } from '../asked/records';
import { FlatRange } from '../asked/views';
import { VECTOR_SIZE, Vector } from '../base/vector';
import { Span } from '../tree/node';
import * as tree from '../tree/tree';
import { CURSOR_SIZE, Cursor } from '../tree/tree';

/** An event at [start, last] (GPAs), once for each place at which it is seen. */
@unmanaged
export class SeenEvent extends Span {
  get offsetInRegion(): u64 {
    return this.a;
  }
  get event(): u32 {
    return this.b;
  }
  /** EVENT_*. */
  get flags(): u32 {
    return this.c;
  }
}

export const SEEN_EVENT_BYTES: u32 = offsetof<SeenEvent>();

const flat = changetype<Cursor<FlatRange>>(memory.data(CURSOR_SIZE, 8));
/** Events (u32 ids) of a part of a region. */
const found = changetype<Vector>(memory.data(VECTOR_SIZE, 8));

/** Appends the events that a space shows at bytes of [start, last], in order of GPA and id. Does nothing more once
 *  memory has run out. */
export function seenEvents(space: u32, start: u64, last: u64, out: Vector): void {
  flat.seek(spaceOf(space).flatTree, start);
  for (let range = flat.span; range != null && range.start <= last; range = flat.span) {
    if (
      regionOf(range.region).events != 0 &&
      !appendOfRange(range, max(start, range.start), min(last, range.last), out)
    )
      return;
    flat.next();
  }
}

/** Appends the events of a flat range with bytes at [start, last]; false once memory has run out. */
function appendOfRange(range: FlatRange, start: u64, last: u64, out: Vector): bool {
  const delta = range.delta;
  found.clear();
  tree.collect(regionOf(range.region).eventsTree, start + delta, last + delta, found);
  for (let at: u32 = 0; at < found.length; at += 4) {
    const id = load<u32>(found.at(at));
    const event = eventOf(id);
    if (event.offset < range.start + delta || event.last > range.last + delta) continue;
    if (!out.ensure(SEEN_EVENT_BYTES)) return false;
    const seen = changetype<SeenEvent>(out.extend(SEEN_EVENT_BYTES));
    seen.start = event.offset - delta;
    seen.last = event.last - delta;
    seen.a = event.offset;
    seen.b = id;
    seen.c = event.flags;
  }
  return true;
}
