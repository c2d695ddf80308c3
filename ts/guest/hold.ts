// Holding a guest: all vCPUs of all its partitions at once.

import * as validate from '../core/validate.ts';
import type { MemoryMap } from '../map/map.ts';
import { Attachment } from '../sinks/attachment.ts';
import type { KvmPartition } from '../sinks/kvm.ts';
import type { Partition } from '../sinks/partition.ts';

/** Partitions that a map's memory is attached to. Throws INVALID_ARGUMENT where one cannot be held. */
export function holdable(map: MemoryMap): Set<KvmPartition | Partition> {
  const attachments = [...map.context.sinks].filter((sink) => sink instanceof Attachment && !sink.closed);
  const partitions = new Set(attachments.map((attachment) => (attachment as Attachment).partition));
  const other = [...partitions].find(({ pause }) => pause === undefined);
  if (other === undefined) return partitions;
  throw validate.invalid(`partition "${other.name}" has no pause: its guest cannot be held`);
}

/** Holds a map's partitions. Returns what lets them go on. Throws what `pause` throws: none is held then. */
export function hold(map: MemoryMap): () => void {
  const held: (KvmPartition | Partition)[] = [];
  const letGo = () => {
    for (const partition of held.reverse()) partition.resume!();
  };
  try {
    for (const partition of holdable(map)) {
      partition.pause!();
      held.push(partition);
    }
    return letGo;
  } catch (error) {
    letGo();
    throw error;
  }
}
