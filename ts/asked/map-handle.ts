// Handles of what is inside a memory map: they end with it, and are good for no other map.

import { Handle } from '../core/handle.ts';
import * as validate from '../core/validate.ts';
import type { MapContext } from './context.ts';

export abstract class MapHandle extends Handle {
  /** @internal */
  readonly context: MapContext;
  /** The core's number of it. @internal */
  readonly id: number;

  /** @internal Made by MemoryMap, in a transaction: it goes with that. */
  constructor(context: MapContext, id: number) {
    super();
    validate.madeBy('a method of MemoryMap', context);
    this.context = context;
    this.id = id;
    context.onUndo(() => this.setClosed(true));
  }

  override get closed(): boolean {
    return super.closed || this.context.closed;
  }

  /** Closes it inside a transaction, unless that comes to nothing. Whatever is thrown when the transaction has
   *  happened, nobody reaches what gets its number next. */
  protected end(): void {
    this.context.onUndo(() => this.setClosed(false));
    this.setClosed(true);
  }

  protected override checkOpen(): void {
    this.context.checkOpen();
    super.checkOpen();
  }

  /** @internal Its number, for an operation on the map of `context`. Throws INVALID_ARGUMENT for one of another map,
   *  and CLOSED. */
  idIn(context: MapContext): number {
    if (this.context !== context) throw validate.invalid(`${this.what} belongs to another memory map`);
    this.checkOpen();
    return this.id;
  }
}
