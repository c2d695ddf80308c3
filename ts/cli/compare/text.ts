// Text and JSON of the histories of memory slots.

import { formatHex } from '../../index.ts';
import { planCommandsJson } from '../json.ts';
import { PAGE } from './calls.ts';
import type { Change, Cost, SpaceHistory, ToldCall } from './history.ts';
import type { Machine, MonitorLog, ToldMemory } from './monitor-log.ts';

const SIGNS = { add: '+', delete: '-', move: '>', replace: '=', log: '*' } as const;

/** A machine as the history of each of its address spaces, each with its counts. */
export function machineLines(machine: Machine, log: MonitorLog): string[] {
  return [...machine.spaces].flatMap(([number, space]) => [
    `${titleOf(machine, number)}: ${counted(space.changes.length, 'change')}`,
    ...storyOf(machine, number, space, log),
    '',
    ...totalLines(space, memoryOf(machine, number)),
    '',
  ]);
}

/** The counts alone. */
export function summaryLines(machine: Machine): string[] {
  return [...machine.spaces].flatMap(([number, space]) => [
    `${titleOf(machine, number)}: ${counted(space.changes.length, 'change')}`,
    ...totalLines(space, memoryOf(machine, number)),
    '',
  ]);
}

function titleOf({ descriptor }: Machine, space: number): string {
  return `virtual machine of descriptor ${descriptor}, address space ${space}`;
}

function memoryOf({ memory }: Machine, space: number): readonly ToldMemory[] {
  return memory.filter((each) => each.space === space);
}

/** Changes and calls behind slots, in the order of the log. */
function storyOf(machine: Machine, number: number, { changes }: SpaceHistory, log: MonitorLog): string[] {
  const told = [
    ...changes.map((change, index) => ({ line: change.line, lines: changeLines(change, index + 1, log) })),
    ...memoryOf(machine, number).map((each) => ({ line: each.line, lines: [memoryLine(each)] })),
  ];
  return told.sort((a, b) => a.line - b.line).flatMap(({ lines }) => lines);
}

function changeLines({ line, thread, calls, monitor, planner }: Change, number: number, log: MonitorLog): string[] {
  const holds = planner.holds ? ', vCPUs held' : '';
  return [
    `line ${line}, change ${number}${thread === 0 ? '' : ` of thread ${thread}`}`,
    ...calls.map((call) => `  ${callText(call, log)}`),
    `  monitor ${costText(monitor)}`,
    `  planner ${costText(planner)}${holds}`,
  ];
}

function callText({ step, slot, error }: ToldCall, log: MonitorLog): string {
  const memory = log.memoryAt(slot.hva);
  const shown = memory === undefined ? hexPages(slot.hva) : `${memory.name}+${hexPages(memory.offset)}`;
  const access = `${slot.readonly ? 'r ' : 'rw'}${slot.logsDirty ? ' logged' : ''}`;
  const refused = error === undefined ? '' : `  refused: ${error}`;
  return `${SIGNS[step]} slot ${String(slot.slot).padStart(3)}  ${range(slot)}  ${access}  ${shown}${refused}`;
}

function memoryLine({ line, what, part }: ToldMemory): string {
  return `line ${line}, ${what} behind ${range(part)}`.trimEnd();
}

function costText({ operations, absent, torn }: Cost): string {
  const more = absent === 0 ? '' : `, ${formatHex(absent)} bytes absent that stay, of ${counted(torn, 'slot')}`;
  return `${counted(operations, 'operation')}${more}`;
}

// ---- Counts ------------------------------------------------------------------------------------

interface Totals extends Cost {
  readonly holds: number;
}

function totalsOf(changes: readonly Change[], who: 'monitor' | 'planner'): Totals {
  const total = { operations: 0, absent: 0, torn: 0, holds: 0 };
  for (const change of changes) {
    const { operations, absent, torn } = change[who];
    total.operations += operations;
    total.absent += absent;
    total.torn += torn;
    if (who === 'planner' && change.planner.holds) total.holds++;
  }
  return total;
}

function totalLines({ changes }: SpaceHistory, memory: readonly ToldMemory[]): string[] {
  const [monitor, planner] = [totalsOf(changes, 'monitor'), totalsOf(changes, 'planner')];
  const switched = changes.flatMap(({ calls }) => calls).filter(({ step }) => step === 'log').length;
  const rows: [string, string | number, string | number][] = [
    ['', 'monitor', 'planner'],
    ['slot operations', monitor.operations, planner.operations],
    ['bytes absent that stay', formatHex(monitor.absent), formatHex(planner.absent)],
    ['slots lost of which a part stays', monitor.torn, planner.torn],
    ['changes around which vCPUs are held', 'not told', planner.holds],
    ['dirty logs switched', switched, ''],
    ['memory calls behind slots', memory.length, ''],
  ];
  const widths = [1, 2].map((column) => Math.max(...rows.map((row) => String(row[column]).length)));
  return rows.map(([what, ...values]) => {
    const cells = values.map((value, column) => String(value).padStart(widths[column] as number));
    return `  ${what.padEnd(38)}${cells.join('  ')}`.trimEnd();
  });
}

// ---- JSON --------------------------------------------------------------------------------------

/** A line for each change, and one with the counts of each address space. */
export function machineJson(machine: Machine): object[] {
  return [...machine.spaces].flatMap(([space, { changes }]) => {
    const which = { descriptor: machine.descriptor, space };
    return [
      ...changes.map((change, index) => ({ ...which, change: index + 1, ...changeJson(change) })),
      { ...which, monitor: totalsJson(changes, 'monitor'), planner: totalsJson(changes, 'planner') },
    ];
  });
}

function totalsJson(changes: readonly Change[], who: 'monitor' | 'planner'): object {
  const { holds, ...cost } = totalsOf(changes, who);
  return who === 'planner' ? { ...cost, holds } : cost;
}

function changeJson({ line, thread, calls, monitor, planner }: Change): object {
  const { commands, ...cost } = planner;
  return {
    ...{ line, thread },
    calls: calls.map(({ step, slot, error }) => ({
      ...{ step, slot: slot.slot, start: hex(slot.gpa), end: hex(slot.gpa + slot.pages, -1n), hva: hex(slot.hva) },
      ...{ readonly: slot.readonly, logsDirty: slot.logsDirty, error },
    })),
    monitor,
    planner: { ...cost, commands: planCommandsJson(commands) },
  };
}

function hex(pages: number, more = 0n): string {
  return formatHex(BigInt(pages) * PAGE + more);
}

function hexPages(pages: number): string {
  return (BigInt(pages) * PAGE).toString(16);
}

function range({ gpa, pages }: { readonly gpa: number; readonly pages: number }): string {
  const last = (BigInt(gpa + pages) * PAGE - 1n).toString(16);
  return `${hexPages(gpa).padStart(9)}-${last.padEnd(9)}`;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
