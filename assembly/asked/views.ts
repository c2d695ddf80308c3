// Views of spans: what the three values of a span mean in each kind of tree. `a` counts up with the address, so that a
// span may be cut; its name here ends in `At`.

import { FLAT_READONLY, KIND_IS_READONLY, MAPPING_WRITABLE } from '../abi';
import { NOTHING } from '../tree/before';
import { Span } from '../tree/node';
import { regionOf } from './records';

/** A flat range: the part of a region that an address space shows at [start, last] (GPAs). */
@unmanaged
export class FlatRange extends Span {
  get region(): u32 {
    return this.b;
  }
  /** FLAT_*. */
  get flags(): u32 {
    return this.c;
  }
  offsetInRegionAt(gpa: u64): u64 {
    return this.aAt(gpa);
  }
  /** Offset in the region - GPA, which may wrap. */
  get delta(): u64 {
    return this.a - this.start;
  }
}

/** A mapping: the part of an object that a region holds at [start, last] (offsets in the region). */
@unmanaged
export class Mapping extends Span {
  get object(): u32 {
    return this.b;
  }
  get isWritable(): bool {
    return (this.c & MAPPING_WRITABLE) != 0;
  }
  objectOffsetAt(offsetInRegion: u64): u64 {
    return this.aAt(offsetInRegion);
  }
}

/** A stretch of a private object, at [start, last] (offsets in it), that a VA sink shows or holds. */
@unmanaged
export class ShownStretch extends Span {
  get sink(): u32 {
    return this.b;
  }
  gpaAt(objectOffset: u64): u64 {
    return this.aAt(objectOffset);
  }
}

/** A protection: of the access to [start, last] (GPAs) it leaves `access`. */
@unmanaged
export class Protection extends Span {
  /** ACCESS_*, perhaps with ACCESS_NEAREST. */
  get access(): u32 {
    return this.c;
  }
}

/** A stretch of a VA space, at [start, last] (GPAs), that may be used through a view. */
@unmanaged
export class Opening extends Span {
  /** ACCESS_READ, or that and ACCESS_WRITE. */
  get access(): u32 {
    return this.c;
  }
}

/** A lost range of a sink (see sinks/lost.ts), at [start, last] (GPAs). */
@unmanaged
export class LostRange extends Span {
  /** Whether private pages are held there. */
  get holdsPages(): bool {
    return this.b != NOTHING;
  }
  /** Object whose pages are held. Precondition: `holdsPages`. */
  get object(): u32 {
    return this.b;
  }
  /** Offset in that object of the page at `gpa`. Precondition: `holdsPages`. */
  objectOffsetAt(gpa: u64): u64 {
    return this.aAt(gpa);
  }
}

/** An echo in a VA space (see sinks/echoes.ts), at [start, last] (GPAs): the part of a private object that is seen. */
@unmanaged
export class Echo extends Span {
  get object(): u32 {
    return this.b;
  }
  objectOffsetAt(gpa: u64): u64 {
    return this.aAt(gpa);
  }
}

/** Whether the guest may write to what a flat range shows, as far as its region says. */
export function isWritable(range: FlatRange): bool {
  return !(range.flags & FLAT_READONLY) && !(regionOf(range.region).kind & KIND_IS_READONLY);
}
