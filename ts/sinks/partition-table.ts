// Partitions that are attached, by the core's number: entered with the first attachment, gone with the last.

import type { MapContext } from '../asked/context.ts';
import { WHOLE_SPACE } from '../core/address.ts';
import { assert } from '../core/assert.ts';
import type { PartitionFacts } from './partition.ts';
import type { GpaStretch } from './sink.ts';

interface Entry {
  readonly id: number;
  attachments: number;
}

export class PartitionTable {
  readonly #context: MapContext;
  readonly #entries = new Map<PartitionFacts, Entry>();

  constructor(context: MapContext) {
    this.#context = context;
  }

  /** The partition's number, for one more attachment; with the first, the slots that it may be given at most are set.
   *  Inside a transaction. */
  enter(partition: PartitionFacts, slots: number): number {
    const entry = this.#entries.get(partition) ?? this.#create(partition, slots);
    const { attachments } = entry;
    this.#context.onUndo(() => {
      entry.attachments = attachments;
    });
    entry.attachments++;
    return entry.id;
  }

  /** One attachment is gone. */
  leave(partition: PartitionFacts): void {
    const entry = this.#entries.get(partition);
    assert(entry !== undefined, 'a partition that is left was entered');
    if (--entry.attachments > 0) return;
    this.#entries.delete(partition);
    const { core, names, recorder } = this.#context;
    this.#context.perform(() => {
      core.destroyPartition(entry.id);
      recorder?.record({ op: 'partition-close', id: entry.id });
      this.#context.leave(names.partitions, entry.id);
    });
  }

  #create(partition: PartitionFacts, slots: number): Entry {
    const { core, names, recorder } = this.#context;
    const { largestSlot = WHOLE_SPACE } = partition;
    const entry = { id: core.createPartition(slots, largestSlot), attachments: 0 };
    recorder?.record({ op: 'partition', id: entry.id, slots, largestSlot });
    this.#context.enter(names.partitions, entry.id, partition.name);
    this.#context.onUndo(() => this.#entries.delete(partition));
    this.#entries.set(partition, entry);
    for (const pages of partition.keptPages ?? []) this.#keep(entry, pages, true);
    return entry;
  }

  /** Says whether a partition that is attached keeps pages for itself. */
  keep(partition: PartitionFacts, pages: GpaStretch, kept: boolean): void {
    const entry = this.#entries.get(partition)!;
    this.#context.perform(() => this.#keep(entry, pages, kept));
  }

  #keep({ id }: Entry, { gpa, length }: GpaStretch, kept: boolean): void {
    const { core, recorder } = this.#context;
    core.keepPages(id, gpa, length, kept);
    recorder?.record({ op: 'keep', partition: id, start: gpa, length, kept });
  }
}
