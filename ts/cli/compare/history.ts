// The history of a virtual machine's memory slots: changes, each a few calls that belong together, beside what
// membacking plans for the same.
//
// No call says where a change begins and ends. Monitors take slots away before they add others, as KVM allows no two
// over one address: a change is what one thread does up to where it takes a slot away after it has added one, maps or
// unmaps memory, or runs a vCPU.

import type { TraceCommand } from '../../index.ts';
import { PAGE, type Slot, type SlotCall } from './calls.ts';
import { type Planned, Planner } from './planner.ts';
import { partOf, SlotTable, type Stretch } from './slot-table.ts';

/** Effect of a call on its slot. */
type Step = 'add' | 'delete' | 'move' | 'replace' | 'log';

/** A call that KVM carried out or refused, in the words of the history. */
export interface ToldCall {
  readonly step: Step;
  /** The slot: one that is deleted as it was. */
  readonly slot: Slot;
  readonly error: string | undefined;
}

/** Cost of a change. */
export interface Cost {
  /** Slots that were added, deleted, moved or replaced. */
  readonly operations: number;
  /** Bytes that were absent although the same memory is there before and after. */
  readonly absent: number;
  /** Slots that were taken away although a part of what they showed stays. */
  readonly torn: number;
}

/** A change, as the monitor made it and as it would have been planned. */
export interface Change {
  readonly space: number;
  readonly line: number;
  readonly thread: number;
  readonly calls: readonly ToldCall[];
  readonly monitor: Cost;
  readonly planner: Cost & Planned;
}

/** A change that is going on. */
interface Open {
  readonly line: number;
  readonly thread: number;
  readonly calls: ToldCall[];
  /** Slots that there were before it, and are not any more. */
  readonly gone: Slot[];
  /** Slots that it has added. */
  readonly come: Set<Slot>;
}

/** Slots of one address space of a virtual machine. */
export class SpaceHistory {
  readonly changes: Change[] = [];
  readonly table = new SlotTable();
  readonly #space: number;
  readonly #planner = new Planner();
  #open: Open | undefined;

  constructor(space: number) {
    this.#space = space;
  }

  /** Takes a call of a thread. Returns what cannot be, in words, where it is that. */
  take({ slot, error }: SlotCall, thread: number, line: number): string | undefined {
    const before = this.table.get(slot.slot);
    const step = stepOf(before, slot);
    if (step === undefined) return undefined;
    if (error === undefined && slot.pages > 0) {
      const other = this.table.within(slot.gpa, slot.pages).find((each) => each.slot !== slot.slot);
      if (other !== undefined) return `the slot lies over slot ${other.slot}, which KVM does not allow`;
    }
    const goesOn = this.#open?.thread === thread && !(step === 'delete' && this.#open.come.size > 0);
    if (!goesOn) this.end();
    this.#open ??= { line, thread, calls: [], gone: [], come: new Set() };
    this.#open.calls.push({ step, slot: step === 'delete' ? (before as Slot) : slot, error });
    if (error === undefined) this.#carryOut(this.#open, step, before, slot);
    return undefined;
  }

  /** Ends the change that goes on: of a thread, or of any. */
  end(thread = this.#open?.thread): void {
    const open = this.#open;
    if (open === undefined || open.thread !== thread) return;
    this.#open = undefined;
    const planned = this.#planner.change([...open.gone, ...open.come], this.table);
    this.changes.push({
      ...{ space: this.#space, line: open.line, thread: open.thread, calls: open.calls },
      monitor: this.#monitorCost(open),
      planner: { ...planned, ...this.#plannerCost(open, planned) },
    });
  }

  #carryOut({ gone, come }: Open, step: Step, before: Slot | undefined, slot: Slot): void {
    let isNew = true;
    if (before !== undefined) {
      this.table.delete(before);
      isNew = come.delete(before);
      if (!isNew && step !== 'log') gone.push(before);
    }
    if (step === 'delete') return;
    this.table.add(slot);
    if (isNew || step !== 'log') come.add(slot);
  }

  #monitorCost({ calls, gone }: Open): Cost {
    const carriedOut = calls.filter(({ step, error }) => error === undefined && step !== 'log');
    return { operations: carriedOut.length, ...this.#absence(gone.map((slot) => [slot])) };
  }

  #plannerCost({ gone, come }: Open, { commands }: Planned): Cost {
    const ofSlots = commands.filter(({ op }) => op.startsWith('slot-'));
    const before = (command: TraceCommand): Stretch[] => {
      const [gpa, pages] = [pagesOf(command.gpa), pagesOf(command.length)];
      const stayed = this.table.within(gpa, pages).filter((slot) => !come.has(slot));
      return [...gone, ...stayed].flatMap((slot) => partOf(slot, gpa, pages) ?? []);
    };
    const taken = ofSlots.filter(({ op }) => op === 'slot-delete').map(before);
    return { operations: ofSlots.length, ...this.#absence(taken) };
  }

  /** Bytes that were absent, and slots that were lost, because slots were taken away; each showed some stretches. */
  #absence(taken: readonly (readonly Stretch[])[]): Pick<Cost, 'absent' | 'torn'> {
    const left = taken.map((stretches) => stretches.reduce((sum, each) => sum + this.table.pagesLeft(each), 0));
    return {
      absent: left.reduce((sum, pages) => sum + pages, 0) * Number(PAGE),
      torn: left.filter((pages) => pages > 0).length,
    };
  }
}

/** Effect of a call on its slot; undefined: none, as there is no slot. */
function stepOf(before: Slot | undefined, slot: Slot): Step | undefined {
  if (slot.pages === 0) return before === undefined ? undefined : 'delete';
  if (before === undefined) return 'add';
  const isSame = before.pages === slot.pages && before.hva === slot.hva && before.readonly === slot.readonly;
  if (!isSame) return 'replace';
  return before.gpa === slot.gpa ? 'log' : 'move';
}

function pagesOf(bytes: number | bigint): number {
  return Number(BigInt(bytes) / PAGE);
}
