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

  /** The operations that traces of QEMU's maps have. */
  #perform(operation: TraceOperation): void {
    const map = this.#map;
    switch (operation.op) {
      case 'region': {
        const { op, id, ...options } = operation;
        this.#regions.set(id, map.createRegion(options));
        break;
      }
      case 'alias': {
        const { op, id, target, ...options } = operation;
        this.#regions.set(id, map.createAlias({ ...options, target: this.#region(target) }));
        break;
      }
      case 'place': {
        const { id, parent, offset, priority } = operation;
        this.#region(id).place(this.#region(parent), { offset, priority });
        break;
      }
      case 'flags': {
        const { op, id, ...flags } = operation;
        this.#region(id).setFlags(flags);
        break;
      }
      case 'remove':
        this.#region(operation.id).remove();
        break;
      case 'destroy':
        this.#region(operation.id).close();
        break;
      case 'object':
        this.#objects.set(operation.id, SharedMemory.create(operation.size, { name: operation.name }));
        break;
      case 'object-close':
        this.#objects.get(operation.id)!.close();
        break;
      case 'map': {
        const { op, region, object, ...options } = operation;
        this.#region(region).map({ ...options, object: this.#objects.get(object)! });
        break;
      }
      case 'unmap':
        this.#region(operation.region).unmap(operation.offset, operation.length);
        break;
      case 'space': {
        const { id, name, root, offset } = operation;
        this.#spaces.set(id, map.createAddressSpace({ name, root: this.#region(root), offset }));
        break;
      }
      case 'va':
        this.#va = map.attachVaSpace(this.#spaces.get(operation.space)!, { size: operation.size });
        break;
      case 'partition':
        break;
      case 'attach': {
        const { space, gpaOffset, lastGpa } = operation;
        const options = { space: this.#spaces.get(space)!, va: this.va, gpaOffset, lastGpa };
        this.#attachment = map.attachPartition(this.#partition, options);
        break;
      }
      default:
        throw new Error(`the recorded machine does no "${operation.op}"`);
    }
  }

  #region(id: number): Region {
    return this.#regions.get(id)!;
  }

  /** The memory; the map must be closed. */
  close(): void {
    for (const object of this.#objects.values()) object.close();
  }
}
