// Address spaces: what one observer sees.

import * as abi from '../assembly/abi.ts';
import { type Address, lengthOf } from './address.ts';
import type { Context } from './context.ts';
import type { Row } from './core.ts';
import { Handle } from './handle.ts';
import { regionKindName } from './kinds.ts';
import type { Region } from './region.ts';
import * as validate from './validate.ts';

/** A stretch of guest-physical addresses and what is seen there. */
export interface FlatRange {
  readonly gpa: Address;
  readonly length: Address;
  /** Name of the region. */
  readonly name: string;
  readonly region: Region;
  readonly offsetInRegion: Address;
  /** Inherited from everything that it is seen through, or the region's own. */
  readonly readonly: boolean;
  readonly nonvolatile: boolean;
}

/** A region that is or would be seen at an address. */
export interface SeenRegion extends FlatRange {
  /** The alias that it is seen through, the innermost one. */
  readonly via: Region | undefined;
}

export class AddressSpace extends Handle {
  readonly name: string;
  /** @internal */
  readonly id: number;
  readonly #context: Context;
  readonly #regions: ReadonlyMap<number, Region>;

  /** @internal Made by MemoryMap. */
  constructor(context: Context, regions: ReadonlyMap<number, Region>, id: number, name: string) {
    super();
    this.#context = context;
    this.#regions = regions;
    this.id = id;
    this.name = name;
  }

  protected override get what(): string {
    return `address space "${this.name}"`;
  }

  /** @internal Throws CLOSED, and INVALID_ARGUMENT for a space of another map. */
  idIn(context: Context): number {
    this.checkOpen();
    context.checkOpen();
    if (this.#context !== context) throw validate.invalid(`${this.what} belongs to another memory map`);
    return this.id;
  }

  /** What is visible, in order of address. Inside a transaction: before it. */
  flatView(): FlatRange[] {
    const id = this.idIn(this.#context);
    return this.#context.core.flat(id).map((row) => this.#range(row));
  }

  /** The flat range at an address; undefined where nothing is. */
  find(gpa: Address): FlatRange | undefined {
    const id = this.idIn(this.#context);
    const at = validate.address(gpa, 'gpa');
    const row = this.#context.core.flatFrom(id, at);
    return row === undefined || row.start > at ? undefined : this.#range(row);
  }

  /** Everything that could be seen at an address, in order of precedence: the first is seen, the others are hidden. */
  explain(gpa: Address): SeenRegion[] {
    const id = this.idIn(this.#context);
    const rows = this.#context.core.explain(id, validate.address(gpa, 'gpa'));
    return rows.map((row) => ({
      ...this.#range(row),
      via: row.other === 0 ? undefined : this.#regions.get(row.other - 1),
    }));
  }

  #range(row: Row): FlatRange {
    const region = this.#regions.get(row.id)!;
    return {
      gpa: row.start,
      length: lengthOf(row.start, row.last),
      name: region.name,
      region,
      offsetInRegion: row.offset,
      readonly: (row.flags & abi.FLAT_READONLY) !== 0 || regionKindName(row.kind) === 'rom',
      nonvolatile: (row.flags & abi.FLAT_NONVOLATILE) !== 0,
    };
  }

  /** Throws IN_USE while something is attached. */
  protected override release(): void {
    const context = this.#context;
    if (context.closed) return;
    context.perform(() => {
      context.core.destroySpace(this.id);
      context.recorder?.record({ op: 'space-close', id: this.id });
      context.onUndo(() => this.setClosed(false));
    });
  }
}
