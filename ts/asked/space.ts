// Address spaces: what one observer sees.

import * as abi from '../../assembly/abi.ts';
import { type Address, lengthOf } from '../core/address.ts';
import type { Row } from '../core/core.ts';
import { type EventFacts, eventFacts } from '../core/kinds.ts';
import * as validate from '../core/validate.ts';
import { type ExplainedRegion, type Explanation, explain, explainedRegion } from '../text/explain.ts';
import { renderFlatView } from '../text/render.ts';
import { MapHandle } from './map-handle.ts';
import type { Region, RegionContext } from './region.ts';

/** A stretch of guest-physical addresses and what is seen there. */
export interface FlatRange {
  /** First GPA. */
  readonly gpa: Address;
  /** Bytes. */
  readonly length: Address;
  /** Name of the region. */
  readonly name: string;
  /** Region that is seen. */
  readonly region: Region;
  /** Offset in the region of the byte at `gpa`. */
  readonly offsetInRegion: Address;
  /** Inherited from everything that it is seen through, or the region's own. */
  readonly readonly: boolean;
  /** Whether the region, or what it is seen through, is marked nonvolatile. */
  readonly nonvolatile: boolean;
}

/** An event at a place where it is seen. */
export interface SeenEvent extends EventFacts {
  /** First GPA. */
  readonly gpa: Address;
  /** Region that has it. */
  readonly region: Region;
  /** Offset in the region. */
  readonly offsetInRegion: Address;
}

/** A region that is or would be seen at an address. */
export interface SeenRegion extends ExplainedRegion {
  /** Region itself. */
  readonly region: Region;
  /** The alias that it is seen through, the innermost one. */
  readonly via: Region | undefined;
}

/** The map of an address space. */
export interface SpaceContext extends RegionContext {
  readonly spaces: Map<number, AddressSpace>;
  /** Numbers of the open attachments of partitions that see `space`. */
  attachmentsTo(space: AddressSpace): number[];
}

/** An address space: what one observer sees of a region and all that is in it. Closing it throws IN_USE while something
 *  is attached. */
export class AddressSpace extends MapHandle {
  /** @internal */
  declare readonly context: SpaceContext;
  /** Name for people: in messages, flat views and traces. */
  readonly name: string;
  /** Region that it shows, with all that is in it. */
  readonly root: Region;
  /** GPA 0 is so far inside the root. @internal */
  readonly offset: Address;

  /** @internal Made by MemoryMap. */
  constructor(context: SpaceContext, id: number, name: string, root: Region, offset: Address) {
    super(context, id);
    this.name = name;
    this.root = root;
    this.offset = offset;
    context.enter(context.spaces, id, this);
    context.enter(context.names.spaces, id, name);
  }

  protected override get what(): string {
    return `address space "${this.name}"`;
  }

  /** The flat view, in order of address. Inside a transaction: as it was before. */
  flatView(): FlatRange[] {
    this.checkOpen();
    return this.context.core.flat(this.id).map((row) => this.#range(row));
  }

  /** The events of the regions that are seen, in order of GPA, once for each place at which all bytes of one are.
   *  Inside a transaction: as before, but for events that it has made or closed. */
  events(): SeenEvent[] {
    this.checkOpen();
    return this.context.core.events(this.id).map(({ flags, start, last, offset, other, match }) => ({
      gpa: start,
      ...eventFacts(flags, lengthOf(start, last), match),
      region: this.context.regions.get(other)!,
      offsetInRegion: offset,
    }));
  }

  /** The flat range at an address; undefined where nothing is. */
  find(gpa: Address): FlatRange | undefined {
    this.checkOpen();
    const row = this.context.core.flatAt(this.id, validate.address(gpa, 'gpa'));
    return row === undefined ? undefined : this.#range(row);
  }

  /** The regions of its tree that have something to show, and of which nothing is seen: others are over all of it, or
   *  it lies past the end of what it is in. What is disabled is not meant to be seen, nor what is in it. Inside a
   *  transaction nothing is seen that was not seen before it. */
  get hidden(): Region[] {
    this.checkOpen();
    const { core, regions } = this.context;
    const seen = new Set(core.flat(this.id).map(({ id }) => id));
    const hidden: Region[] = [];
    const waiting = [core.region(this.root.id)];
    for (let row = waiting.pop(); row !== undefined; row = waiting.pop()) {
      if (row.flags & abi.REGION_DISABLED) continue;
      if (row.kind & abi.KIND_HAS_TARGET) continue;
      if (row.kind & abi.KIND_SHOWS && !seen.has(row.id)) hidden.push(regions.get(row.id)!);
      waiting.push(...core.children(row.id).reverse());
    }
    return hidden;
  }

  /** Explains why the byte at an address is what it is: which region is seen there, which ones that hides, in order,
   *  the memory that is mapped there and the slots that show it. `renderExplanation` makes text of it. */
  explain(gpa: Address): Explanation<SeenRegion> {
    this.checkOpen();
    const { core, names, regions } = this.context;
    const ids = this.context.attachmentsTo(this);
    return explain(core, this.id, validate.address(gpa, 'gpa'), names, ids, (row, seen) => ({
      ...explainedRegion(row, seen, names),
      region: regions.get(row.id)!,
      via: row.other === 0 ? undefined : regions.get(row.other - 1),
    }));
  }

  /** @internal */
  override text(most?: number): string[] {
    return renderFlatView(this.context.core, this.id, this.context.names, most);
  }

  #range(row: Row): FlatRange {
    const region = this.context.regions.get(row.id)!;
    return {
      gpa: row.start,
      length: lengthOf(row.start, row.last),
      name: region.name,
      region,
      offsetInRegion: row.offset,
      readonly: ((row.flags & abi.FLAT_READONLY) | (row.kind & abi.KIND_IS_READONLY)) !== 0,
      nonvolatile: (row.flags & abi.FLAT_NONVOLATILE) !== 0,
    };
  }

  protected override release(): void {
    const { context, id } = this;
    context.perform(() => {
      context.core.destroySpace(id);
      context.recorder?.record({ op: 'space-close', id });
      context.leave(context.spaces, id);
      context.leave(context.names.spaces, id);
      this.end();
    });
  }
}
