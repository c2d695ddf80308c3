// Applies the operations of a trace to a core. Ids of the trace become ids of the core. Where the plans go is the
// runner's business: nowhere, for a replay.

import * as abi from '../../assembly/abi.ts';
import type { PlanRunner } from '../apply/runner.ts';
import type { Core } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import { accessNumber, objectKindNumber, regionFlags, regionFlagsMask, regionKindNumber } from '../core/kinds.ts';
import type { Names } from '../core/names.ts';
import type { TraceOperation } from './format.ts';

/** Told of what a trace makes outside the core, before the transaction that it is made in ends. */
export interface ReplayHooks {
  object?(id: number, operation: TraceOperation & { op: 'object' }): void;
  va?(sink: number, operation: TraceOperation & { op: 'va' }): void;
  attach?(sink: number, operation: TraceOperation & { op: 'attach' }): void;
}

type Table = 'region' | 'space' | 'object' | 'partition' | 'sink';

export class Replayer {
  readonly #core: Core;
  readonly #runner: PlanRunner;
  readonly #names: Names;
  readonly #hooks: ReplayHooks;
  /** Id in the trace -> id in the core. */
  readonly #ids: Record<Table, Map<number, number>> = {
    region: new Map(),
    space: new Map(),
    object: new Map(),
    partition: new Map(),
    sink: new Map(),
  };
  /** Takes back what open transactions did to the ids, in the order in which it was done. */
  readonly #undo: (() => void)[] = [];
  /** Where in `#undo` each open transaction begins. */
  readonly #marks: number[] = [];

  constructor(core: Core, runner: PlanRunner, names: Names, hooks: ReplayHooks = {}) {
    this.#core = core;
    this.#runner = runner;
    this.#names = names;
    this.#hooks = hooks;
  }

  /** The core's id of what the trace calls `id`. Throws BAD_ID. */
  id(table: Table, id: number): number {
    const found = this.#ids[table].get(id);
    if (found === undefined) {
      throw new MembackingError('BAD_ID', `the trace has no ${table} ${id}, or has closed it`, {
        details: { [table]: id },
      });
    }
    return found;
  }

  /** The core's ids of everything of a kind that the trace has made and not ended, in the order in which it was made. */
  live(table: Table): Iterable<number> {
    return this.#ids[table].values();
  }

  /** Carries out one operation. Throws what the core throws; the operation then has not happened. */
  apply(operation: TraceOperation): void {
    switch (operation.op) {
      case 'begin':
        this.#begin();
        return;
      case 'commit':
        this.#commit();
        return;
      case 'abort':
        this.#core.abort();
        this.#takeBack();
        return;
    }
    if (this.#core.open > 0) {
      this.#mutate(operation);
      return;
    }
    this.#begin();
    try {
      this.#mutate(operation);
    } catch (error) {
      this.#core.abort();
      this.#takeBack();
      throw error;
    }
    this.#commit();
  }

  /** Aborts what the trace left open. */
  finish(): void {
    while (this.#core.open > 0) this.apply({ op: 'abort' });
  }

  #begin(): void {
    this.#core.begin();
    this.#marks.push(this.#undo.length);
  }

  #commit(): void {
    try {
      this.#runner.commit();
    } catch (error) {
      if (this.#marks.length > 0) this.#takeBack();
      throw error;
    }
    this.#marks.pop();
    if (this.#marks.length === 0 && this.#undo.length > 0) this.#undo.length = 0;
  }

  #takeBack(): void {
    const mark = this.#marks.pop()!;
    while (this.#undo.length > mark) this.#undo.pop()!();
  }

  #made(table: Table, id: number, made: number, name: string): void {
    const ids = this.#ids[table];
    const names = this.#names[`${table}s`];
    const before = names.get(made);
    ids.set(id, made);
    names.set(made, name);
    this.#undo.push(() => {
      ids.delete(id);
      if (before === undefined) names.delete(made);
      else names.set(made, before);
    });
  }

  #ended(table: Table, id: number): void {
    const ids = this.#ids[table];
    const made = ids.get(id)!;
    ids.delete(id);
    this.#undo.push(() => ids.set(id, made));
  }

  #fresh(table: Table, id: number): void {
    if (this.#ids[table].has(id)) {
      throw new MembackingError('TRACE_OPERATION', `the trace has a ${table} ${id} already`, {
        details: { [table]: id },
      });
    }
  }

  #mutate(operation: Exclude<TraceOperation, { op: 'begin' | 'commit' | 'abort' }>): void {
    const core = this.#core;
    switch (operation.op) {
      case 'map': {
        const { region, offset, length, object, objectOffset, writable } = operation;
        const flags = writable ? abi.MAPPING_WRITABLE : 0;
        core.map(this.id('region', region), offset, length, this.id('object', object), objectOffset, flags);
        break;
      }
      case 'unmap':
        core.unmap(this.id('region', operation.region), operation.offset, operation.length);
        break;
      case 'flags':
        core.setFlags(this.id('region', operation.id), regionFlags(operation), regionFlagsMask(operation));
        break;
      case 'move':
        core.move(this.id('region', operation.id), operation.offset);
        break;
      case 'place': {
        const { id, parent, offset, priority } = operation;
        core.place(this.id('region', id), this.id('region', parent), offset, priority);
        break;
      }
      case 'remove':
        core.remove(this.id('region', operation.id));
        break;
      case 'resize':
        core.resize(this.id('region', operation.id), operation.size);
        break;
      case 'priority':
        core.setPriority(this.id('region', operation.id), operation.priority);
        break;
      case 'retarget':
        core.retarget(this.id('region', operation.id), operation.offset);
        break;
      case 'region': {
        this.#fresh('region', operation.id);
        const kind = regionKindNumber(operation.kind);
        this.#made(
          'region',
          operation.id,
          core.createRegion(kind, operation.size, regionFlags(operation)),
          operation.name,
        );
        break;
      }
      case 'alias': {
        this.#fresh('region', operation.id);
        const { id, name, target, offset, size } = operation;
        this.#made(
          'region',
          id,
          core.createAlias(this.id('region', target), offset, size, regionFlags(operation)),
          name,
        );
        break;
      }
      case 'destroy':
        core.destroyRegion(this.id('region', operation.id));
        this.#ended('region', operation.id);
        break;
      case 'space': {
        this.#fresh('space', operation.id);
        const { id, name, root, offset } = operation;
        this.#made('space', id, core.createSpace(this.id('region', root), offset), name);
        break;
      }
      case 'space-close':
        core.destroySpace(this.id('space', operation.id));
        this.#ended('space', operation.id);
        break;
      case 'object': {
        this.#fresh('object', operation.id);
        const { id, name, kind, writable, size } = operation;
        const made = core.createObject(objectKindNumber(kind), writable ? abi.OBJECT_WRITABLE : 0, size);
        this.#made('object', id, made, name);
        this.#hooks.object?.(made, operation);
        break;
      }
      case 'object-close':
        core.destroyObject(this.id('object', operation.id));
        this.#ended('object', operation.id);
        break;
      case 'va': {
        this.#fresh('sink', operation.id);
        const made = core.attachVa(this.id('space', operation.space), operation.size);
        this.#made('sink', operation.id, made, `va ${operation.id}`);
        this.#hooks.va?.(made, operation);
        break;
      }
      case 'partition':
        this.#fresh('partition', operation.id);
        this.#made('partition', operation.id, core.createPartition(operation.slots), `partition ${operation.id}`);
        break;
      case 'partition-close':
        core.destroyPartition(this.id('partition', operation.id));
        this.#ended('partition', operation.id);
        break;
      case 'attach': {
        this.#fresh('sink', operation.id);
        const { id, partition, space, va, gpaOffset, lastGpa } = operation;
        const ids = [this.id('partition', partition), this.id('space', space), this.id('sink', va)] as const;
        const made = core.attachPartition(...ids, gpaOffset, lastGpa);
        this.#made('sink', id, made, `partition ${partition}`);
        this.#hooks.attach?.(made, operation);
        break;
      }
      case 'detach':
        core.detach(this.id('sink', operation.id));
        this.#ended('sink', operation.id);
        break;
      case 'protect': {
        const { sink, start, length, access } = operation;
        core.protect(this.id('sink', sink), start, length, accessNumber(access));
        break;
      }
    }
  }
}
