// The recorded machine on real memory: what its trace makes is made in a live map, and changes as it changed.

import {
  type AddressSpace,
  type Attachment,
  type KvmPartition,
  type MemoryMap,
  type Partition,
  type Region,
  SharedMemory,
  type TraceOperation,
  type VaSpace,
} from '../../index.ts';

export class Machine {
  readonly #map: MemoryMap;
  readonly #partition: KvmPartition | Partition;
  readonly #regions = new Map<number, Region>();
  readonly #objects = new Map<number, SharedMemory>();
  readonly #spaces = new Map<number, AddressSpace>();
  #va: VaSpace | undefined;
  #attachment: Attachment | undefined;

  /** Operations that traces of QEMU's maps have, and what each does here. */
  readonly #performers: { [Op in TraceOperation['op']]?: (operation: Extract<TraceOperation, { op: Op }>) => void } = {
    region: ({ op, id, ...options }) => this.#regions.set(id, this.#map.createRegion(options)),
    alias: ({ op, id, target, ...options }) =>
      this.#regions.set(id, this.#map.createAlias({ ...options, target: this.#region(target) })),
    place: ({ id, parent, offset, priority }) => this.#region(id).place(this.#region(parent), { offset, priority }),
    flags: ({ op, id, ...flags }) => this.#region(id).setFlags(flags),
    remove: ({ id }) => this.#region(id).remove(),
    destroy: ({ id }) => this.#region(id).close(),
    object: ({ id, size, name }) => this.#objects.set(id, SharedMemory.create(size, { name })),
    'object-close': ({ id }) => this.#objects.get(id)!.close(),
    map: ({ op, region, object, ...options }) =>
      this.#region(region).map({ ...options, object: this.#objects.get(object)! }),
    unmap: ({ region, offset, length }) => this.#region(region).unmap(offset, length),
    space: ({ id, name, root, offset }) =>
      this.#spaces.set(id, this.#map.createAddressSpace({ name, root: this.#region(root), offset })),
    va: ({ space, size }) => {
      this.#va = this.#map.attachVaSpace(this.#spaces.get(space)!, { size });
    },
    partition: () => {},
    attach: ({ space, gpaOffset, lastGpa }) => {
      const options = { space: this.#spaces.get(space)!, va: this.va, gpaOffset, lastGpa };
      this.#attachment = this.#map.attachPartition(this.#partition, options);
    },
  };

  constructor(map: MemoryMap, partition: KvmPartition | Partition) {
    this.#map = map;
    this.#partition = partition;
  }

  /** The first region that the trace makes. */
  get root(): Region {
    return this.#regions.get(0)!;
  }
  get space(): AddressSpace {
    return this.#spaces.get(0)!;
  }
  get va(): VaSpace {
    return this.#va!;
  }
  get attachment(): Attachment {
    return this.#attachment!;
  }

  /** Everything between begin and commit happens at once. */
  play(operations: Iterator<TraceOperation>): void {
    for (let next = operations.next(); !next.done && next.value.op !== 'commit'; next = operations.next()) {
      if (next.value.op === 'begin') this.#map.transaction(() => this.play(operations));
      else this.#perform(next.value);
    }
  }

  #perform(operation: TraceOperation): void {
    const perform = this.#performers[operation.op] as ((operation: TraceOperation) => void) | undefined;
    if (perform === undefined) throw new Error(`the recorded machine does no "${operation.op}"`);
    perform(operation);
  }

  #region(id: number): Region {
    return this.#regions.get(id)!;
  }

  /** The memory; the map must be closed. */
  close(): void {
    for (const object of this.#objects.values()) object.close();
  }
}
