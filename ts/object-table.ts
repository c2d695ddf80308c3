// Which memory objects a map knows, by what number: entered when first mapped, gone when closed and mapped nowhere.

import * as abi from '../assembly/abi.ts';
import { type Address, toAddress } from './address.ts';
import type { Context } from './context.ts';
import { objectKindNumber } from './kinds.ts';
import { MemoryObject } from './object.ts';
import * as validate from './validate.ts';

export class ObjectTable {
  readonly #context: Context;
  readonly #ids = new Map<MemoryObject, number>();
  readonly #objects = new Map<number, MemoryObject>();
  /** Closed by their owner, but still mapped. */
  readonly #leaving = new Set<MemoryObject>();
  readonly #onClose = (object: MemoryObject) => this.#leave(object);

  constructor(context: Context) {
    this.#context = context;
  }

  /** The object's number; it gets one in the transaction that is open. Throws CLOSED. */
  idOf(object: MemoryObject): number {
    const known = this.#ids.get(object);
    if (known !== undefined && !object.closed) return known;
    const backing = validate.instance(MemoryObject, object, 'object').use();
    const { core, names, native, recorder } = this.#context;
    const { name, kind, size, writable } = object;
    const id = core.createObject(objectKindNumber(kind), writable ? abi.OBJECT_WRITABLE : 0, size);
    native.setObject(id, backing);
    this.#enter(object, id);
    recorder?.record({ op: 'object', id, name, kind, size, writable });
    names.objects.set(id, name);
    this.#context.onUndo(() => {
      this.#forget(object, id);
      native.clearObject(id);
    });
    return id;
  }

  knows(object: MemoryObject): boolean {
    return this.#ids.has(object);
  }

  objectOf(id: number): MemoryObject {
    return this.#objects.get(id)!;
  }

  /** Bytes from `offset` to the end of the object's last page. Throws INVALID_ARGUMENT. */
  wholePagesFrom(object: MemoryObject, offset: Address): Address {
    const size = BigInt(validate.instance(MemoryObject, object, 'object').size);
    const page = BigInt(abi.PAGE_SIZE);
    const end = ((size + page - 1n) / page) * page;
    if (BigInt(offset) >= end) throw validate.invalid(`objectOffset is past the end of the object "${object.name}"`);
    return toAddress(end - BigInt(offset));
  }

  /** Lets go of what was closed and is not mapped any more. */
  sweep(): void {
    for (const object of [...this.#leaving]) this.#leave(object);
  }

  close(): void {
    for (const object of this.#ids.keys()) object.offClose(this.#onClose);
  }

  #enter(object: MemoryObject, id: number): void {
    this.#ids.set(object, id);
    this.#objects.set(id, object);
    object.onClose(this.#onClose);
  }

  #forget(object: MemoryObject, id: number): void {
    object.offClose(this.#onClose);
    this.#leaving.delete(object);
    this.#ids.delete(object);
    this.#objects.delete(id);
  }

  #leave(object: MemoryObject): void {
    const id = this.#ids.get(object)!;
    const { core, native, recorder } = this.#context;
    this.#leaving.delete(object);
    if (core.open > 0 || core.objectIsMapped(id)) {
      this.#leaving.add(object);
      return;
    }
    this.#context.perform(() => {
      core.destroyObject(id);
      recorder?.record({ op: 'object-close', id });
    });
    native.clearObject(id);
    this.#forget(object, id);
  }
}
