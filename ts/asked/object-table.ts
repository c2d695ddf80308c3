// Memory objects that a map knows, by the core's number: entered when first mapped, gone when closed and mapped
// nowhere.

import * as abi from '../../assembly/abi.ts';
import { nativeOf } from '../apply/native-executor.ts';
import { assert } from '../core/assert.ts';
import { objectKindNumber } from '../core/kinds.ts';
import type { MapContext } from './context.ts';
import { addonObjectOf, type MemoryObject, type ObjectUser } from './object.ts';

export class ObjectTable implements ObjectUser {
  readonly #context: MapContext;
  readonly #ids = new Map<MemoryObject, number>();
  readonly #objects = new Map<number, MemoryObject>();
  /** Closed by their owner, but still mapped. */
  readonly #leaving = new Set<MemoryObject>();
  /** Objects of these that were closed inside the transaction that is open. */
  #closed: MemoryObject[] = [];
  /** Listener that is told of each object that nothing shows any more, between transactions. */
  onUnmapped: (object: MemoryObject) => void = () => {};
  readonly #self = new WeakRef<ObjectUser>(this);

  constructor(context: MapContext) {
    this.#context = context;
  }

  /** Gives an object that has no number one, in the transaction that is open. Throws CLOSED. */
  add(object: MemoryObject): number {
    const addonObject = addonObjectOf(object);
    const { core, recorder } = this.#context;
    const { name, kind, size, writable, granularity: pageSize } = object;
    const id = core.createObject(objectKindNumber(kind), writable ? abi.OBJECT_WRITABLE : 0, size, pageSize);
    this.#context.onUndo(() => this.#forget(object, id));
    nativeOf(this.#context).addon.setObject(id, addonObject);
    this.#enter(object, id);
    recorder?.record({ op: 'object', id, name, kind, size, writable, pageSize });
    return id;
  }

  /** The number of an object that has one and is open. */
  knownId(object: MemoryObject): number | undefined {
    return object.closed ? undefined : this.#ids.get(object);
  }

  /** Whether some region shows a part of it. */
  isMapped(object: MemoryObject): boolean {
    const id = this.#ids.get(object);
    return id !== undefined && this.#context.core.objectIsMapped(id);
  }

  /** Objects that have a number. */
  get known(): Iterable<MemoryObject> {
    return this.#ids.keys();
  }

  objectOf(id: number): MemoryObject {
    const object = this.#objects.get(id);
    assert(object !== undefined, 'what the core shows is entered');
    return object;
  }

  /** Lets go of what was closed and is not mapped any more, when a transaction has ended well. `unmapped`: numbers of
   *  objects that have lost their last mapping. Precondition: no transaction is open. */
  sweep(unmapped: readonly number[]): void {
    if (unmapped.length === 0 && this.#closed.length === 0) return;
    const closed = this.#closed;
    this.#closed = [];
    const ended = unmapped.flatMap((id) => this.#objects.get(id) ?? []).filter((object) => !this.isMapped(object));
    this.#letGo([...ended, ...closed]);
    for (const object of ended) this.onUnmapped(object);
  }

  /** Lets go of those of some objects that were closed and are not mapped. */
  #letGo(objects: readonly MemoryObject[]): void {
    const { core, recorder } = this.#context;
    const gone = new Set(objects.filter((object) => this.#leaving.has(object) && !this.isMapped(object)));
    if (gone.size === 0) return;
    this.#context.transaction(() => {
      for (const object of gone) {
        const id = this.#ids.get(object)!;
        core.destroyObject(id);
        recorder?.record({ op: 'object-close', id });
        this.#context.onDone(() => this.#forget(object, id));
      }
    });
  }

  /** Notes that the object's owner has closed it: it goes when nothing shows it any more. */
  objectClosed(object: MemoryObject): void {
    this.#leaving.add(object);
    if (this.#context.isBusy) this.#closed.push(object);
    else if (!this.#context.isBroken) this.#letGo([object]);
  }

  close(): void {
    for (const object of this.#ids.keys()) object.removeUser(this.#self);
  }

  #enter(object: MemoryObject, id: number): void {
    this.#ids.set(object, id);
    this.#objects.set(id, object);
    this.#context.names.objects.set(id, object.name);
    this.#context.names.objectSizes.set(id, object.size);
    object.addUser(this.#self);
  }

  #forget(object: MemoryObject, id: number): void {
    object.removeUser(this.#self);
    this.#leaving.delete(object);
    this.#ids.delete(object);
    this.#objects.delete(id);
    this.#context.names.objects.delete(id);
    this.#context.names.objectSizes.delete(id);
    nativeOf(this.#context).addon.clearObject(id);
  }
}
