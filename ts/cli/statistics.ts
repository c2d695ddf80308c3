// Statistics of a replay: the counts behind `replay --stats`.

import type { TraceOperation, TracePlan } from '../index.ts';

interface SlotCount {
  now: number;
  most: number;
}

interface CoreMemory {
  readonly bytes: number;
  readonly inUse: number;
}

/** Kinds that a line names. */
const LISTED = 7;

export class ReplayStatistics {
  /** Plans that have commands. */
  plans = 0;
  #operations = 0;
  #commands = 0;
  #depth = 0;
  #transactions = 0;
  readonly #operationsBy = new Map<string, number>();
  readonly #commandsBy = new Map<string, number>();
  readonly #disturbances = new Map<string, number>();
  /** Counts of slots by the partition's name. */
  readonly #slots = new Map<string, SlotCount>();

  addOperations(operations: readonly TraceOperation[]): void {
    this.#operations += operations.length;
    for (const { op } of operations) {
      increase(this.#operationsBy, op);
      if (op === 'begin') this.#depth++;
      else if (op === 'commit' || op === 'abort') this.#depth--;
      if (this.#depth === 0 && op !== 'abort') this.#transactions++;
    }
  }

  /** `inDetail`: its commands, too. */
  addPlan(plan: TracePlan, inDetail: boolean): void {
    this.plans++;
    if (!inDetail) return;
    increase(this.#disturbances, plan.disturbance);
    for (const { op, sink } of plan.commands()) {
      this.#commands++;
      increase(this.#commandsBy, op);
      if (op === 'slot-add') this.#count(sink, 1);
      else if (op === 'slot-delete') this.#count(sink, -1);
    }
    for (const count of this.#slots.values()) count.most = Math.max(count.most, count.now);
  }

  #count(partition: string, change: number): void {
    const count = this.#slots.get(partition) ?? { now: 0, most: 0 };
    count.now += change;
    this.#slots.set(partition, count);
  }

  json(coreMemory: CoreMemory): object {
    return {
      operations: { total: this.#operations, ...sorted(this.#operationsBy) },
      transactions: this.#transactions,
      plans: { total: this.plans, ...sorted(this.#disturbances) },
      commands: { total: this.#commands, ...sorted(this.#commandsBy) },
      slots: Object.fromEntries(this.#slots),
      coreMemory,
    };
  }

  lines(coreMemory: CoreMemory): string[] {
    const kib = (bytes: number) => `${Math.ceil(bytes / 1024)} KiB`;
    const rows: [string, string | number, string][] = [
      ['operations', this.#operations, listed(this.#operationsBy)],
      ['transactions', this.#transactions, ''],
      ['plans', this.plans, listed(this.#disturbances)],
      ['commands', this.#commands, listed(this.#commandsBy)],
      ...[...this.#slots].map(([name, { now, most }]): [string, number, string] => [
        'slots',
        now,
        `at most ${most}, of ${name}`,
      ]),
      ['core memory', kib(coreMemory.inUse), `of ${kib(coreMemory.bytes)}`],
    ];
    const width = Math.max(...rows.map(([, value]) => String(value).length));
    return rows.map(([what, value, more]) => `${what.padEnd(12)}  ${String(value).padStart(width)}  ${more}`.trimEnd());
  }
}

function increase(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function sorted(counts: ReadonlyMap<string, number>): Record<string, number> {
  return Object.fromEntries([...counts].sort());
}

/** The most frequent by name, the others together. */
function listed(counts: ReadonlyMap<string, number>): string {
  const descending = [...counts].sort(([, a], [, b]) => b - a);
  const others = descending.slice(LISTED).reduce((sum, [, count]) => sum + count, 0);
  const named = descending.slice(0, LISTED).map(([what, count]) => `${what} ${count}`);
  return [...named, ...(others > 0 ? [`others ${others}`] : [])].join(', ');
}
