// Address spaces: what one observer sees.

import * as abi from '../assembly/abi.ts';
import { type Address, lengthOf } from './address.ts';
import type { Context } from './context.ts';
import type { Row } from './core.ts';
import { regionKindName } from './kinds.ts';
import { MapHandle } from './map-handle.ts';
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

/** Closing it throws IN_USE while something is attached. */
export class AddressSpace extends MapHandle {
  readonly name: string;

  /** @internal Made by MemoryMap. */
  constructor(context: Context, id: number, name: string) {
    super(context, id);
    this.name = name;
    context.enter(context.names.spaces, id, name);
  }

  protected override get what(): string {
    return `address space "${this.name}"`;
  }

  /** What is visible, in order of address. Inside a transaction: before it. */
  flatView(): FlatRange[] {
    this.checkOpen();
    return this.context.core.flat(this.id).map((row) => this.#range(row));
  }

  /** The flat range at an address; undefined where nothing is. */
  find(gpa: Address): FlatRange | undefined {
    this.checkOpen();
    const at = validate.address(gpa, 'gpa');
    const row = this.context.core.flatFrom(this.id, at);
    return row === undefined || row.start > at ? undefined : this.#range(row);
  }

  /** Everything that could be seen at an address, in order of precedence: the first is seen, the others are hidden. */
  explain(gpa: Address): SeenRegion[] {
    this.checkOpen();
    const rows = this.context.core.explain(this.id, validate.address(gpa, 'gpa'));
    return rows.map((row) => ({
      ...this.#range(row),
      via: row.other === 0 ? undefined : this.context.regions.get(row.other - 1),
    }));
  }

  #range(row: Row): FlatRange {
    const region = this.context.regions.get(row.id)!;
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

  protected override release(): void {
    const { context, id } = this;
    context.perform(() => {
      context.core.destroySpace(id);
      context.recorder?.record({ op: 'space-close', id });
      context.leave(context.names.spaces, id);
      this.end();
    });
  }
}
