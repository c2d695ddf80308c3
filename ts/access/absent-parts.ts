// Parts of guest memory that nobody has touched, or that the system has put away: a look at them where they are mapped
// would make memory of them, while their files give their bytes without.

import * as abi from '../../assembly/abi.ts';
import type { MemoryObject } from '../asked/object.ts';
import { pageEnd, pageStart } from '../core/address.ts';
import type { Row } from '../core/core.ts';
import type { LeasedSpace } from './local-lease.ts';

/** A part of a range that is not in memory. */
export interface AbsentPart {
  /** GPA of its first byte. */
  readonly gpa: number;
  /** Bytes. */
  readonly length: number;
  /** Object that has it, which is open. */
  readonly object: MemoryObject;
  /** Offset in the object. */
  readonly offset: number;
}

/** The parts of a range that are not in memory, in order: of those that may be read, and of which nobody but the map
 *  can take anything away. */
export function absentParts({ context, id, reservation }: LeasedSpace, gpa: number, length: number): AbsentPart[] {
  // While a plan is carried out, the pieces are not what the core says.
  if (context.isBusy || context.core.isBroken) return [];
  const parts: AbsentPart[] = [];
  const first = pageStart(gpa);
  const ranges = reservation.absentIn(first, pageEnd(gpa + length) - first);
  for (let i = 0; i < ranges.length; i += 2) {
    const start = Math.max(ranges[i]!, gpa);
    const end = Math.min(ranges[i]! + ranges[i + 1]!, gpa + length);
    for (const row of context.core.partsIn(id, start, end - 1)) {
      const object = context.objects.objectOf(row.id);
      if (isReadable(row, object)) parts.push(partOf(row, object, start, end));
    }
  }
  return parts;
}

/** Whether an object's file can be read in place of a piece. */
function isReadable({ flags }: Row, object: MemoryObject): boolean {
  const isFile = object.kind === 'shared' && object.isLasting && object.granularity === abi.PAGE_SIZE;
  return isFile && !object.closed && (flags & abi.ACCESS_READ) !== 0;
}

/** The part of a piece in a range. */
function partOf(row: Row, object: MemoryObject, start: number, end: number): AbsentPart {
  const gpa = Math.max(start, Number(row.start));
  const length = Math.min(end, Number(row.last) + 1) - gpa;
  return { gpa, length, object, offset: Number(row.offset) + (gpa - Number(row.start)) };
}
