// Losses: what of a plan could not be put back. Commands that take a plan back may fail as well: where one does, nobody
// reaches the range any more, and the core is told by operations of a transaction of its own that nothing is there.

import * as abi from '../../assembly/abi.ts';
import { type Address, pageEnd, pageStart, sum, toAddress } from '../core/address.ts';
import type { Command, Core } from '../core/core.ts';
import { isAboutAddresses, isOfVaSpace } from '../core/kinds.ts';

const { PAGE_SIZE } = abi;

/** Says that a range of a sink shows nothing. Of `object`, if it is private, the pages from `objectOffset` on are held
 *  there without access. */
export interface LoseOperation {
  /** Name of the operation. */
  readonly op: 'lose';
  /** Id of the sink in the trace. */
  readonly sink: number;
  /** First GPA in the address space. */
  readonly start: Address;
  /** Bytes. */
  readonly length: Address;
  /** Id of the private object whose pages are held there; left out where there are none. */
  readonly object?: number;
  /** Offset in the object of the first page that is held. */
  readonly objectOffset: Address;
}

/** Says that the partition of an attachment was shut down. */
export interface ShutDownOperation {
  /** Name of the operation. */
  readonly op: 'shut-down';
  /** Id of the attachment in the trace. */
  readonly sink: number;
}

/** An operation of a trace that says what could not be put back. */
export type LossOperation = LoseOperation | ShutDownOperation;

/** A command that was not carried out. */
interface Undone {
  readonly command: Command;
  /** Bytes that have moved, of a command that moves pages. */
  readonly moved: Address;
}

export class Losses {
  readonly #undone: Undone[] = [];
  readonly #down = new Set<number>();

  get isEmpty(): boolean {
    return this.#undone.length === 0 && this.#down.size === 0;
  }

  add(command: Command, moved: Address): void {
    // A slot that was to go is gone, or its partition is shut down.
    if (command.op !== abi.OP_SLOT_DELETE) this.#undone.push({ command, moved });
  }

  /** The partition of an attachment was shut down. */
  addDown(sink: number): void {
    this.#down.add(sink);
  }

  isDown(sink: number): boolean {
    return this.#down.has(sink);
  }

  /** Whether a command must not be tried: it would put something over private pages that are held, move pages that are
   *  not where it takes them for, show pages whose limits are not set, or give a stretch back in which something was
   *  left; or its event is in a page that has none any more. */
  hinder(command: Command): boolean {
    if (command.op === abi.OP_VA_LIMIT) return false;
    return this.#undone.some(({ command: undone }) => {
      if (undone.event !== undefined) return command.event !== undefined && sharesWholePages(undone, command);
      return (
        isOfVaSpace(undone.op) &&
        isOfVaSpace(command.op) &&
        (sharesRange(undone, command) || sharesPages(undone, command))
      );
    });
  }

  /** Operations that tell the core of the losses; none for sinks that came with what was taken back, of which it knows
   *  nothing any more. Stretches that could not be given back come first, as others lie in them; pages that are held
   *  are said last: by then nobody else is said to have them. */
  operations(core: Core): LossOperation[] {
    const undone = this.#undone.filter(({ command: { sink } }) => !this.#down.has(sink) && core.hasSink(sink));
    const down = [...this.#down].filter((sink) => core.hasSink(sink));
    return [
      ...down.map((sink): LossOperation => ({ op: 'shut-down', sink })),
      ...undone.filter(isStretch).map((each) => nothingThere(core, each)),
      ...undone.filter((each) => !isStretch(each)).map((each) => nothingThere(core, each)),
      ...undone.flatMap((each) => heldPages(core, each)),
      ...heldUnderLimits(core, undone),
    ];
  }
}

/** Tells the core, inside a transaction that says nothing else. */
export function enterLoss(core: Core, operation: LossOperation): void {
  if (operation.op === 'shut-down') core.shutDown(operation.sink);
  else core.lose(operation.sink, operation.start, operation.length, operation.object, operation.objectOffset);
}

/** Whether a stretch that came with what was taken back could not be given back. */
function isStretch({ command }: Undone): boolean {
  return isAboutAddresses(command.op);
}

function sharesRange(one: Command, other: Command): boolean {
  return one.sink === other.sink && overlap(one.gpa, other.gpa, one.length, other.length);
}

/** Whether two events of a sink have a page in common. */
function sharesWholePages(one: Command, other: Command): boolean {
  const [pages, otherPages] = [wholePages(one.offset, one.length), wholePages(other.offset, other.length)];
  return one.sink === other.sink && overlap(pages.start, otherPages.start, pages.length, otherPages.length);
}

function sharesPages(one: Command, other: Command): boolean {
  const doMove = movesPages(one) && movesPages(other) && one.object === other.object;
  return doMove && overlap(one.offset, other.offset, one.length, other.length);
}

function movesPages({ op }: Command): boolean {
  return op === abi.OP_VA_PARK || op === abi.OP_VA_UNPARK;
}

function overlap(one: Address, other: Address, length: Address, otherLength: Address): boolean {
  return one < sum(other, otherLength) && other < sum(one, length);
}

function nothingThere(core: Core, { command }: Undone): LoseOperation {
  const { sink, va, slot, gpa, length, event, offset } = command;
  // Commands for events have their addresses in the address space as offsets. Those for slots have addresses of the
  // partition's own: its attachment should have the slot now.
  const own = event === undefined ? gpa : offset;
  const start = va === undefined ? own : core.sinkRows(sink).find(({ kind }) => kind === slot)!.start;
  return { op: 'lose', sink, ...wholePages(start, length), objectOffset: 0 };
}

/** Pages that hold a range: a limit may end inside of one. */
function wholePages(start: Address, length: Address): { start: Address; length: Address } {
  const [first, end] = [pageStart(BigInt(start)), pageEnd(BigInt(sum(start, length)))];
  return { start: toAddress(first), length: toAddress(end - first) };
}

/** Private pages that stay, without access, where a limit could not be set, one by one. Others that were to be moved
 *  are where their own commands have left them. */
function heldUnderLimits(core: Core, undone: readonly Undone[]): LoseOperation[] {
  const isLimit = ({ command }: Undone) => command.op === abi.OP_VA_LIMIT;
  const others = undone.filter((each) => isOfVaSpace(each.command.op) && !isLimit(each)).map(({ command }) => command);
  const held = new Map<string, LoseOperation>();
  for (const { command } of undone.filter(isLimit)) {
    for (const operation of pagesOf(privateRanges(core, command.sink, wholePages(command.gpa, command.length)))) {
      const isMoved = others.some((other) =>
        sharesRange(other, { ...command, gpa: operation.start, length: PAGE_SIZE }),
      );
      if (!isMoved) held.set(`${operation.sink} ${operation.start}`, operation);
    }
  }
  return [...held.values()];
}

/** Operations that say of private memory that a VA space shows or holds in a range of whole pages that it is held
 *  there. */
function* privateRanges(
  core: Core,
  sink: number,
  range: { start: Address; length: Address },
): Generator<LoseOperation> {
  const [first, last] = [Number(range.start), Number(range.start) + Number(range.length) - 1];
  const heldAlready = core.lost(sink).flatMap((row) => (row.id === 0 ? [] : [{ ...row, id: row.id - 1 }]));
  for (const rows of [core.partsIn(sink, first, last), heldAlready]) {
    // Parts may share a page.
    let reached = first;
    for (const { id, start, last: end, offset } of rows) {
      if (!(core.objectKind(id) & abi.OBJECT_IS_MOVED)) continue;
      const from = Math.max(reached, pageStart(Number(start)));
      const until = Math.min(last + 1, pageEnd(Number(end) + 1));
      if (from >= until) continue;
      const objectOffset = sum(offset, BigInt(from) - BigInt(start));
      yield { op: 'lose', sink, start: from, length: until - from, object: id, objectOffset };
      reached = until;
    }
  }
}

/** Operations for single pages. */
function* pagesOf(operations: Iterable<LoseOperation>): Generator<LoseOperation> {
  for (const operation of operations) {
    for (let at = 0; at < Number(operation.length); at += PAGE_SIZE) {
      const [start, objectOffset] = [sum(operation.start, at), sum(operation.objectOffset, at)];
      yield { ...operation, start, length: PAGE_SIZE, objectOffset };
    }
  }
}

function heldPages(core: Core, { command, moved }: Undone): LoseOperation[] {
  const { op, sink, gpa, length, offset } = command;
  const object = command.object!;
  const behind = sum(length, -BigInt(moved));
  switch (op) {
    case abi.OP_VA_PROTECT:
      return [...privateRanges(core, sink, { start: gpa, length })];
    case abi.OP_VA_UNPARK:
      return moved === 0 ? [] : [{ op: 'lose', sink, start: gpa, length: moved, object, objectOffset: offset }];
    case abi.OP_VA_PARK: {
      const [start, objectOffset] = [sum(gpa, moved), sum(offset, moved)];
      return behind === 0 ? [] : [{ op: 'lose', sink, start, length: behind, object, objectOffset }];
    }
    default:
      return [];
  }
}
