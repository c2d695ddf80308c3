// The one text form of what there is and of what is planned: aligned, hexadecimal, one line an item. The command, error
// messages, util.inspect and snapshots all show this.
//
// Ranges are `first-last`, both included. `+ n` behind a name is an offset in it.

import * as abi from '../../assembly/abi.ts';
import { type Address, LAST_ADDRESS, lastByte, lengthOf, sum } from '../core/address.ts';
import type { Command, Core, EventRow, PlanFacts, Row } from '../core/core.ts';
import {
  accessName,
  DISTURBANCES,
  type EventFacts,
  eventFacts,
  operationName,
  regionKindName,
  regionKindNumber,
  tells,
} from '../core/kinds.ts';
import type { Names } from '../core/names.ts';
import { printable } from '../core/printable.ts';
import * as validate from '../core/validate.ts';
import type { ShownRange, ViewDifference } from './difference.ts';
import type { Explanation } from './explain.ts';
import type { TrappingPages } from './trapping-pages.ts';

/** Digits of an address at least. */
const MIN_DIGITS = 8;
/** Most items of a list that is not cut. */
const WHOLE = Number.POSITIVE_INFINITY;

/** Text of what an address space shows. */
export function renderFlatView(core: Core, space: number, names: Names, most?: number): string[] {
  return renderFlatViews(core, [space], names, most);
}

/** Text of what several address spaces show, of each list at most `most`; those that show the same are written once,
 *  as far as all of that is written. */
export function renderFlatViews(core: Core, spaces: Iterable<number>, names: Names, most = WHOLE): string[] {
  const views = new Map<string, { readonly lines: string[]; readonly shownBy: string[] }>();
  for (const space of spaces) {
    const { rows, more } = someOf((from) => core.flatRowsFrom(space, from), most);
    const events = core.events(space);
    const lines = [...flatLines(rows, names), ...leftOut(more, 'range'), ...eventLines(events, names, most)];
    const key = more > 0 || events.length > most ? String(space) : lines.join('\n');
    const name = `"${printable(names.spaces.get(space) ?? String(space))}"`;
    const same = views.get(key);
    if (same === undefined) views.set(key, { lines, shownBy: [name] });
    else same.shownBy.push(name);
  }
  return [...views.values()].flatMap(({ lines, shownBy }) => {
    const title = `address space${shownBy.length > 1 ? 's' : ''} ${shownBy.join(', ')}`;
    return lines.length === 0 ? [`${title}: nothing is visible`] : [title, ...lines];
  });
}

/** Text of the differences between two moments: `-` what was shown, `+` what is shown instead. */
export function renderFlatDifference(differences: readonly ViewDifference[]): string[] {
  if (!validate.isListOf(differences, ({ removed, added }) => Array.isArray(removed) && Array.isArray(added))) {
    throw validate.invalid('differences must be what flatDifference() returns');
  }
  const changedIn = new Map<string, string[]>();
  for (const { name, change, removed, added } of differences) {
    const marked = [...removed.map((range) => ({ mark: '-', range })), ...added.map((range) => ({ mark: '+', range }))];
    marked.sort((a, b) => (a.range.gpa === b.range.gpa ? 0 : a.range.gpa < b.range.gpa ? -1 : 1));
    const lines = [change, ...differenceLines(marked)].join('\n');
    const others = changedIn.get(lines);
    if (others === undefined) changedIn.set(lines, [`"${printable(name)}"`]);
    else others.push(`"${printable(name)}"`);
  }
  return [...changedIn].flatMap(([text, spaces]) => {
    const [change, ...lines] = text.split('\n');
    const title = `address space${spaces.length > 1 ? 's' : ''} ${spaces.join(', ')}`;
    return [change === 'changed' ? title : `${title}: ${change}`, ...lines];
  });
}

function differenceLines(marked: readonly { mark: string; range: ShownRange }[]): string[] {
  const last = ({ gpa, length }: ShownRange) => lastOf(gpa, length);
  const text = rangesIn(marked.map(({ range }) => ({ start: range.gpa, last: last(range) })));
  return aligned(
    marked.map(({ mark, range }) => [
      `${mark} ${text(range.gpa, last(range))}`,
      range.kind,
      accessOf(regionKindNumber(range.kind), range.readonly),
      `${plus(printable(range.name), range.offsetInRegion)}${remarks([Number(range.nonvolatile), 'nonvolatile'])}`,
    ]),
  );
}

function flatLines(rows: readonly Row[], names: Names): string[] {
  const range = rangesIn(rows);
  return aligned(
    rows.map((row) => [
      range(row.start, row.last),
      regionKindName(row.kind),
      accessOf(row.kind, (row.flags & abi.FLAT_READONLY) !== 0),
      `${place(names.regions, row.id, row.offset)}${remarks([row.flags & abi.FLAT_NONVOLATILE, 'nonvolatile'])}`,
    ]),
  );
}

/** Events, where they are seen, at most `most`. */
function eventLines(all: readonly EventRow[], names: Names, most: number): string[] {
  const rows = all.slice(0, most);
  const range = rangesIn(rows);
  const lines = aligned(
    rows.map(({ start, last, flags, match, other, offset }) => [
      range(start, last),
      eventText(eventFacts(flags, lengthOf(start, last), match)),
      place(names.regions, other, offset),
    ]),
  );
  return [...lines, ...leftOut(all.length - rows.length, 'event')];
}

/** "eventfd, when 5" */
function eventText({ kind, length, match }: EventFacts): string {
  if (kind === 'eventfd' && length === 0) return `${kind}, any length`;
  return match === undefined ? kind : `${kind}, when ${hex(match)}`;
}

/** `rw`, `r-`, or `--` where there is no memory. */
function accessOf(kind: number, readonly: boolean): string {
  if (!(kind & abi.KIND_HOLDS_MEMORY)) return '--';
  return kind & abi.KIND_IS_READONLY || readonly ? 'r-' : 'rw';
}

/** Regions with everything in them, at addresses counted from the start of each, strongest first; then what their
 *  aliases show. At most `most`; `total`: number of all, where it is known. */
export function renderTrees(core: Core, roots: Iterable<number>, names: Names, most = WHOLE, total?: number): string[] {
  const lines: string[] = [];
  const done = new Set<number>();
  const behind = new Set<number>();
  for (const top of inOrder(roots, behind)) {
    if (done.has(top)) continue;
    done.add(top);
    const items = treeFrom(core, top, most + 1 - lines.length);
    const shown = items.slice(0, most - lines.length);
    lines.push(...treeLines(shown, names));
    if (shown.length < items.length) {
      return total === undefined ? [...lines, '  ... more regions'] : [...lines, ...leftOut(total - most, 'region')];
    }
    for (const { row } of items) if (row.kind & abi.KIND_HAS_TARGET) behind.add(topOf(core, row.other - 1));
  }
  return lines;
}

/** Items of two sets, of which the second may grow meanwhile. */
function* inOrder<Item>(first: Iterable<Item>, second: ReadonlySet<Item>): Iterable<Item> {
  yield* first;
  yield* second;
}

function treeLines(items: readonly TreeItem[], names: Names): string[] {
  const range = rangesIn(items);
  return aligned(
    items.map(({ row, depth, start, last }) => [
      row.flags & abi.REGION_EMPTY ? 'empty' : range(start, last),
      String(row.priority),
      regionKindName(row.kind),
      `${'  '.repeat(depth)}${treeLabel(row, names)}`,
    ]),
    '<><<',
  );
}

interface TreeItem {
  readonly row: Row;
  readonly depth: number;
  readonly start: Address;
  readonly last: Address;
}

/** Depth first, at most `most`. */
function treeFrom(core: Core, top: number, most: number): TreeItem[] {
  const items: TreeItem[] = [];
  const row = core.region(top);
  const waiting: TreeItem[] = [{ row, depth: 0, start: 0, last: lastByte(lengthOf(row.start, row.last)) }];
  for (let item = waiting.pop(); item !== undefined && items.length < most; item = waiting.pop()) {
    items.push(item);
    const { row: parent, depth, start } = item;
    for (const child of parent.kind & abi.KIND_HAS_TARGET ? [] : core.children(parent.id, most).reverse()) {
      waiting.push({ row: child, depth: depth + 1, start: sum(start, child.start), last: sum(start, child.last) });
    }
  }
  return items;
}

/** The outermost container around a region. */
function topOf(core: Core, region: number): number {
  let id = region;
  for (let parent = core.region(id).aux; parent !== 0; parent = core.region(id).aux) id = parent - 1;
  return id;
}

function treeLabel({ id, kind, flags, other, offset }: Row, names: Names): string {
  const target = kind & abi.KIND_HAS_TARGET ? ` -> ${place(names.regions, other - 1, offset)}` : '';
  return `${label(names.regions, id)}${target}${remarks(
    [flags & abi.REGION_DISABLED, 'disabled'],
    [flags & abi.REGION_READONLY, 'read-only'],
    [flags & abi.REGION_NONVOLATILE, 'nonvolatile'],
  )}`;
}

/** The plan that the core holds now. */
export function renderPlan(core: Core, plan: PlanFacts, names: Names): string[] {
  const commands = Array.from({ length: plan.commands }, (_, index) => core.command(index));
  const title = `plan of ${count(plan.commands, 'command')}, disturbance: ${DISTURBANCES[plan.disturbance]}`;
  return [title, ...renderCommands(commands, names)];
}

/** Commands, in order: what is done, to whom, where, how many bytes; access and memory; the region there. */
function renderCommands(commands: readonly Command[], names: Names): string[] {
  const range = rangesIn(commands.map(({ gpa, length }) => ({ start: gpa, last: lastOf(gpa, length) })));
  return aligned(
    commands.map((command) => [
      operationName(command.op),
      label(names.sinks, command.sink),
      range(command.gpa, lastOf(command.gpa, command.length)),
      hex(command.length),
      tells(command.op, 'access') ? accessName(command.access) : '',
      shown(command, names),
      tells(command.op, 'region') ? place(names.regions, command.region, command.offsetInRegion) : '',
    ]),
    '<<<><<<',
  );
}

/** Memory that a command is about, slot or event; nothing where it is about none. */
function shown({ object, va, offset, slot, event, length, match }: Command, names: Names): string {
  if (object !== undefined) return place(names.objects, object, offset);
  if (event !== undefined) return eventText(eventFacts(slot, length, match));
  return va === undefined ? '' : `slot ${slot}`;
}

/** The memory slots that an attachment of a partition has, at GPAs of the address space. */
export function renderSlots(core: Core, sink: number, names: Names, most = WHOLE): string[] {
  const { rows, more } = someOf((from) => core.someSinkRows(sink, from), most);
  const range = rangesIn(rows);
  return [
    `"${label(names.sinks, sink)}" has ${count(rows.length + more, 'slot')}`,
    ...aligned(
      rows.map((row) => [
        `slot ${row.kind}`,
        range(row.start, row.last),
        accessName(row.flags),
        place(names.regions, row.id, row.offset),
      ]),
    ),
    ...leftOut(more, 'slot'),
  ];
}

/** Text of the events that an attachment of a partition has, at GPAs of the address space. */
export function renderSinkEvents(core: Core, sink: number, names: Names, most = WHOLE): string[] {
  const rows = core.sinkEvents(sink);
  return [`"${label(names.sinks, sink)}" has ${count(rows.length, 'event')}`, ...eventLines(rows, names, most)];
}

/** Text of what is mapped in a VA space. */
export function renderPieces(core: Core, va: number, names: Names, most = WHOLE): string[] {
  const { rows, more } = someOf((from) => core.someSinkRows(va, from), most);
  const range = rangesIn(rows);
  return [
    `"${label(names.sinks, va)}" has ${count(rows.length + more, 'piece')}`,
    ...aligned(
      rows.map((row) => [range(row.start, row.last), accessName(row.flags), place(names.objects, row.id, row.offset)]),
    ),
    ...leftOut(more, 'piece'),
  ];
}

/** Cells of the line that says the memory behind a byte. */
function mappingCells(mapping: Explanation['mapping']): string[] {
  if (mapping === undefined) return ['mapping', 'none'];
  const { object, kind, offset, writable } = mapping;
  const source = kind === 'driver' ? 'driver' : 'object';
  return ['mapping', '', source, plus(object, offset), writable ? 'writable' : 'read-only'];
}

/** Reason why a page with memory of a region traps for the guest, in words. */
function whyTrapping({ why, regions }: TrappingPages, region: string): string {
  if (why === 'shifted') return `"${printable(region)}" does not begin with a page of the guest's`;
  const others = regions.filter((name) => name !== region).map((name) => `"${printable(name)}"`);
  return others.length === 0
    ? `"${printable(region)}" does not fill it in one piece`
    : `"${printable(region)}" shares it with ${others.join(', ')}`;
}

/** Text of why a byte is what it is. */
export function renderExplanation(explanation: Explanation): string[] {
  const lists = [explanation?.hidden, explanation?.slots, explanation?.events, explanation?.keptBy];
  if (!lists.every(Array.isArray)) {
    throw validate.invalid('an explanation must be what explain() of an address space returns');
  }
  const { space, gpa, visible, hidden, mapping, slots, events, keptBy, traps, next } = explanation;
  const seen = visible === undefined ? [] : [visible, ...hidden];
  const range = rangesIn([...seen, ...slots, ...events, { start: gpa, last: gpa }]);
  const title = `${range.one(gpa)} in address space "${printable(space)}"`;
  const kept = keptBy.map((sink) => ['slot', 'none', '', '', `"${printable(sink)}" keeps the page for itself`]);
  if (visible === undefined) {
    const above =
      next === undefined ? 'nothing above it' : `above it, "${printable(next.name)}" at ${range.one(next.start)}`;
    return [`${title}: nothing is visible (${above})`, ...aligned(kept)];
  }
  return [
    title,
    ...aligned([
      ...seen.map((region, index) => [
        index === 0 ? 'visible' : 'hidden',
        range(region.start, region.last),
        region.kind,
        plus(region.name, region.offset),
        `priority ${region.priority}${region.through === undefined ? '' : `, through "${printable(region.through)}"`}${remarks(
          [region.readonly, 'read-only'],
          [region.nonvolatile, 'nonvolatile'],
          [!region.seen, 'seen nowhere'],
        )}`,
      ]),
      mappingCells(mapping),
      ...(traps === undefined ? [] : [['page', 'traps', '', '', whyTrapping(traps, visible.name)]]),
      ...slots.map(({ sink, slot, start, last, access, home }) => {
        const where = home === undefined ? '' : `: mapped at ${range.one(home)}, where the monitor has it`;
        return ['slot', range(start, last), access, `slot ${slot}`, `of "${printable(sink)}"${where}`];
      }),
      ...kept,
      ...events.map((event) => ['event', range(event.start, event.last), 'w', eventText(event)]),
    ]),
  ];
}

// ---- The parts of a line -----------------------------------------------------------------------

function label(names: ReadonlyMap<number, string>, id: number): string {
  return printable(names.get(id) ?? `#${id}`);
}

/** "pc.ram", "pc.ram + c0000" */
function place(names: ReadonlyMap<number, string>, id: number, offset: Address): string {
  return plus(label(names, id), offset);
}

function plus(name: string, offset: Address): string {
  return offset === 0 ? printable(name) : `${printable(name)} + ${hex(offset)}`;
}

/** " (disabled, read-only)": what is true; "" if nothing is. */
function remarks(...all: [unknown, string][]): string {
  const remarked = all.filter(([isTrue]) => isTrue).map(([, remark]) => remark);
  return remarked.length === 0 ? '' : ` (${remarked.join(', ')})`;
}

export function count(items: number, what: string): string {
  return `${items} ${what}${items === 1 ? '' : 's'}`;
}

/** The first rows of a list that is read part by part, and the number of those that follow. */
function someOf(read: (from: Address) => Row[], most: number): { rows: Row[]; more: number } {
  const rows: Row[] = [];
  let more = 0;
  for (let part = read(0); part.length > 0; ) {
    const shown = part.slice(0, most - rows.length);
    rows.push(...shown);
    more += part.length - shown.length;
    const { last } = part.at(-1)!;
    part = last === LAST_ADDRESS ? [] : read(sum(last, 1));
  }
  return { rows, more };
}

/** Line that says how much of a list is left out, if some is. */
function leftOut(more: number, what: string): string[] {
  return more === 0 ? [] : [`  ... ${count(more, `more ${what}`)}`];
}

function hex(value: Address): string {
  return value.toString(16);
}

function lastOf(start: Address, length: Address): Address {
  return sum(start, lastByte(length));
}

interface Range {
  readonly start: Address;
  readonly last: Address;
}

/** Writes ranges as wide as the widest of these needs. */
function rangesIn(ranges: readonly Range[]): {
  (start: Address, last: Address): string;
  one(gpa: Address): string;
} {
  const digits = ranges.reduce((most, { last }) => Math.max(most, hex(last).length), MIN_DIGITS);
  const one = (gpa: Address) => hex(gpa).padStart(digits, '0');
  return Object.assign((start: Address, last: Address) => `${one(start)}-${one(last)}`, { one });
}

/** Cells in columns, two spaces apart, indented. `sides`: `>` for columns that end together, in order. */
function aligned(rows: readonly (readonly string[])[], sides = ''): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  }
  return rows.map((row) => {
    const cells = row.map((cell, i) => (sides[i] === '>' ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)));
    return `  ${cells.join('  ')}`.trimEnd();
  });
}
