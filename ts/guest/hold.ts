// Holding a guest: all vCPUs of all its partitions at once.

import { Holding, type Pausable } from '../apply/holding.ts';
import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';
import { Attachment } from '../sinks/attachment.ts';

/** Partitions that a map's memory is attached to. Throws INVALID_ARGUMENT where one cannot be held. */
export function holdable(map: MemoryMap): Set<Pausable> {
  const attachments = [...map.context.sinks].filter((sink) => sink instanceof Attachment && !sink.closed);
  const partitions = new Set(attachments.map((attachment) => (attachment as Attachment).partition));
  const other = [...partitions].find(({ pause }) => pause === undefined);
  if (other === undefined) return partitions as Set<Pausable>;
  throw validate.invalid(`partition "${other.name}" has no pause: its guest cannot be held`);
}

/** Holds a map's partitions. Returns what lets them go on, which throws what the first `resume` that throws has thrown.
 *  Throws what `pause` throws: none is held then. */
export function hold(map: MemoryMap): () => void {
  const holding = new Holding();
  const letGo = () => {
    const failure = holding.end();
    if (failure !== undefined) throw failure.cause;
  };
  for (const partition of holdable(map)) {
    const failure = holding.hold(partition);
    if (failure === undefined) continue;
    holding.end();
    throw failure.cause;
  }
  return letGo;
}
