// Plans of membacking's core for the changes of a monitor: the same memory at the same guest-physical addresses, in
// an address space of its own, with a VA space and a partition.

import { type TraceCommand, type TraceOperation, TraceReplay } from '../../index.ts';
import { PAGE, type Slot } from './calls.ts';
import { type SlotTable, type Stretch, StretchTable } from './slot-table.ts';

/** Slots that KVM has on x86, and the largest it takes. */
const PARTITION = { slots: 32764, largestSlot: (2 ** 31 - 1) * Number(PAGE) };
const ROOT = 0;
const MEMORY = 0;

/** Plan for a change. */
export interface Planned {
  readonly commands: readonly TraceCommand[];
  /** Whether vCPUs are held around it. */
  readonly holds: boolean;
}

/** Memory that goes on from page to page, in the guest as in the monitor, however many slots show it. */
interface Piece extends Stretch {
  readonly readonly: boolean;
  /** Region that shows it. */
  readonly region: number;
}

export class Planner {
  readonly #replay: TraceReplay;
  readonly #pieces = new StretchTable<Piece>();
  #nextRegion = ROOT + 1;
  #planned: Planned | undefined;

  constructor() {
    this.#replay = new TraceReplay({
      onPlan: (plan) => {
        this.#planned = { commands: plan.commands(), holds: plan.disturbance === 'unchanged-bytes' };
      },
    });
    this.#apply(
      { op: 'region', id: ROOT, name: 'guest', kind: 'container', size: 2 ** 52, ...FLAGS },
      { op: 'space', id: 0, name: 'guest', root: ROOT, offset: 0 },
      { op: 'object', id: MEMORY, name: 'monitor', kind: 'shared', size: 2n ** 57n, writable: true, pageSize: 4096 },
      { op: 'va', id: 0, space: 0, size: 2 ** 52 },
      { op: 'partition', id: 0, ...PARTITION },
      { op: 'attach', id: 1, partition: 0, space: 0, va: 0, gpaOffset: 0, lastGpa: 2n ** 64n - 1n },
    );
  }

  /** Plan for a change in some ranges, after which the slots are those of `table`. */
  change(ranges: readonly Stretch[], table: SlotTable): Planned {
    this.#planned = undefined;
    // Neighbours may be joined with what is there now.
    const before = new Set(ranges.flatMap(({ gpa, pages }) => this.#pieces.within(gpa - 1, pages + 2)));
    const slots = new Set([...before, ...ranges].flatMap(({ gpa, pages }) => table.within(gpa, pages)));
    const now = joined([...slots].sort((a, b) => a.gpa - b.gpa));
    this.#apply({ op: 'begin' });
    for (const piece of before) if (!now.some((each) => isSame(each, piece))) this.#remove(piece);
    for (const each of now) if (![...before].some((piece) => isSame(each, piece))) this.#add(each);
    this.#apply({ op: 'commit' });
    return this.#planned ?? { commands: [], holds: false };
  }

  #remove(piece: Piece): void {
    this.#pieces.delete(piece);
    const id = piece.region;
    this.#apply(
      { op: 'remove', id },
      { op: 'unmap', region: id, offset: 0, length: bytes(piece.pages) },
      { op: 'destroy', id },
    );
  }

  #add(piece: Omit<Piece, 'region'>): void {
    const id = this.#nextRegion++;
    this.#pieces.add({ ...piece, region: id });
    const range = { offset: 0, length: bytes(piece.pages), object: MEMORY, objectOffset: bytes(piece.hva) };
    this.#apply(
      { op: 'region', id, name: 'memory', kind: 'ram', size: range.length, ...FLAGS, readonly: piece.readonly },
      { op: 'map', region: id, ...range, writable: true },
      { op: 'place', id, parent: ROOT, offset: bytes(piece.gpa), priority: 0 },
    );
  }

  #apply(...operations: readonly TraceOperation[]): void {
    for (const operation of operations) this.#replay.apply(operation);
  }
}

/** Slots in order of GPA as pieces: those that go on where the one before ends are one. */
function joined(slots: readonly Slot[]): Omit<Piece, 'region'>[] {
  const pieces: { gpa: number; pages: number; hva: number; readonly: boolean }[] = [];
  for (const { gpa, pages, hva, readonly } of slots) {
    const last = pieces.at(-1);
    const goesOn = last?.readonly === readonly && last.gpa + last.pages === gpa && last.hva + last.pages === hva;
    if (goesOn) last.pages += pages;
    else pieces.push({ gpa, pages, hva, readonly });
  }
  return pieces;
}

function isSame(a: Omit<Piece, 'region'>, b: Piece): boolean {
  return a.gpa === b.gpa && a.pages === b.pages && a.hva === b.hva && a.readonly === b.readonly;
}

const FLAGS = { readonly: false, nonvolatile: false, enabled: true };

function bytes(pages: number): bigint {
  return BigInt(pages) * PAGE;
}
