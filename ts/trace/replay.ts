// Applies the operations of a trace to a core. Ids of the trace become ids of the core. Where the plans go is the
// runner's business: nowhere, for a replay.

import type { PlanRunner } from '../apply/runner.ts';
import type { Core } from '../core/core.ts';
import { MembackingError } from '../core/errors.ts';
import type { Names } from '../core/names.ts';
import { UndoList } from '../core/undo-list.ts';
import {
  type OperationOf,
  type OperationRow,
  type ReplayTarget,
  rowOf,
  TABLES,
  type Table,
  type TraceOperation,
} from './operations.ts';

/** Listeners that are told of what a trace makes outside the core, before the transaction that it is made in ends. */
type ReplayHooks = {
  readonly [Op in 'space' | 'object' | 'va' | 'view' | 'attach' | 'event' | 'events']?: (
    made: number,
    operation: OperationOf<Op>,
  ) => void;
};

/** Ids of a trace with the core's for the same, at one moment. */
export type TraceIds = Readonly<Record<Table, ReadonlyMap<number, number>>>;

export class Replayer implements ReplayTarget {
  readonly core: Core;
  readonly #runner: PlanRunner;
  readonly #names: Names;
  readonly #hooks: Readonly<Record<string, ((made: number, operation: never) => void) | undefined>>;
  /** Id in the trace -> id in the core. */
  #ids: Record<Table, Map<number, number>> = byTable(TABLES, () => new Map());
  /** Takes back what open transactions did to the ids. */
  readonly #undo = new UndoList();

  constructor(core: Core, runner: PlanRunner, names: Names, hooks: ReplayHooks = {}) {
    this.core = core;
    this.#runner = runner;
    this.#names = names;
    this.#hooks = hooks;
  }

  readonly id = (table: Table, id: number): number => {
    const found = this.#ids[table].get(id);
    if (found === undefined) {
      throw new MembackingError('BAD_ID', `the trace has no ${table} ${id}, or has closed it`, {
        details: { [table]: id },
      });
    }
    return found;
  };

  readonly make: ReplayTarget['make'] = (table, operation, name, make) => {
    const ids = this.#ids[table];
    const { op, id } = operation;
    if (ids.has(id)) {
      throw new MembackingError('TRACE_OPERATION', `the trace has a ${table} ${id} already`, {
        details: { [table]: id },
      });
    }
    const made = make();
    const names = this.#names[`${table}s`];
    const before = names.get(made);
    ids.set(id, made);
    names.set(made, name);
    this.#undo.add(() => {
      ids.delete(id);
      if (before === undefined) names.delete(made);
      else names.set(made, before);
    });
    this.#hooks[op]?.(made, operation as never);
  };

  readonly end: ReplayTarget['end'] = (table, id, end) => {
    const made = this.id(table, id);
    end(made);
    const ids = this.#ids[table];
    ids.delete(id);
    this.#undo.add(() => ids.set(id, made));
  };

  /** The core's ids of everything of a kind that the trace has made and not ended, in the order in which it was
   *  made. */
  live(table: Table): Iterable<number> {
    return this.#ids[table].values();
  }

  /** The core's ids by the trace's, in the order in which things were made. */
  entries(table: Table): Iterable<[traceId: number, id: number]> {
    return this.#ids[table].entries();
  }

  /** Ids as they are, for `restore`. Precondition of both: no transaction is open. */
  save(): TraceIds {
    return copied(this.#ids);
  }

  restore(ids: TraceIds): void {
    this.#ids = copied(ids);
  }

  /** Carries out one operation. Throws what the core throws; the operation then has not happened. */
  apply(operation: TraceOperation): void {
    const row = rowOf(operation.op);
    if (row === undefined)
      throw new MembackingError('TRACE_OPERATION', `there is no operation ${String(operation.op)}`);
    if (row.isBoundary || this.core.open > 0) row.replay(operation, this);
    else this.#applyAlone(operation, row);
  }

  #applyAlone(operation: TraceOperation, row: OperationRow): void {
    this.begin();
    try {
      row.replay(operation, this);
    } catch (error) {
      this.abort();
      throw error;
    }
    this.commit();
  }

  /** Aborts what the trace left open. */
  finish(): void {
    while (this.core.open > 0) this.apply({ op: 'abort' });
  }

  begin(): void {
    this.core.begin();
    this.#undo.begin();
  }

  commit(): void {
    const { hasHappened, error } = this.#runner.commit();
    // Where none was open, the core says so.
    if (hasHappened) this.#undo.keep();
    else if (this.#undo.depth > 0) this.#undo.rollBack();
    if (error !== undefined) throw error;
  }

  abort(): void {
    this.core.abort();
    this.#undo.rollBack();
  }
}

function copied(ids: TraceIds): Record<Table, Map<number, number>> {
  return byTable(TABLES, (table) => new Map(ids[table]));
}

/** A value for each table. */
export function byTable<Name extends string, Value>(
  tables: readonly Name[],
  value: (table: Name) => Value,
): Record<Name, Value> {
  return Object.fromEntries(tables.map((table) => [table, value(table)])) as Record<Name, Value>;
}
