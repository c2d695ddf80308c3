// Text of `membacking top`: a sample of what a manager says of itself, and what has happened since the one before.

import type { Disturbance, GuestMemoryFacts } from '../index.ts';

export interface Sample {
  readonly facts: GuestMemoryFacts & { readonly pid: number };
  /** Milliseconds. */
  readonly time: number;
}

const CLASSES = ['none', 'changed', 'unchanged-bytes'] as const satisfies Disturbance[];

/** Lines of what there is now, with the plans a second since `before`, or without that with those so far. */
export function topLines(now: Sample, before: Sample | undefined): string[] {
  const { pid, regions, ram, devices, partitions, leases, lost, plans } = now.facts;
  const slots = partitions.reduce((sum, each) => sum + each.slots, 0);
  const missing = lost.length === 0 ? '' : `, ${lost.length} ranges lost`;
  return [
    `process ${pid}: ${regions} regions, ${devices.length} devices, ${slots} slots, ${leases.length} leases${missing}`,
    `plans ${before === undefined ? 'so far' : 'a second'}: ${plansText(now, before)}; ${plans.failed} failed`,
    ...section(
      ['PARTITION', 'VTL', 'SLOTS', ''],
      partitions.map((each) => [each.name, each.vtl, each.slots, each.isShutDown ? 'shut down' : '']),
    ),
    ...section(
      ['RAM', 'BACKING', 'SIZE', 'RESIDENT', 'PIECES'],
      ram.map((each) => [each.name, each.backing, sized(each.size), sized(each.allocatedBytes), each.pieces.length]),
    ),
    ...section(
      ['RESIDENT BY BACKING', ''],
      Object.entries(residentByBacking(now.facts)).map(([backing, bytes]) => [backing, sized(bytes)]),
    ),
    ...section(['LEASE HOLDER', 'LEASES'], Object.entries(leasesByHolder(now.facts))),
  ];
}

function plansText({ facts: { plans }, time }: Sample, before: Sample | undefined): string {
  if (before === undefined) return CLASSES.map((each) => `${each} ${plans.classes[each]}`).join(', ');
  const seconds = (time - before.time) / 1000;
  const rate = (each: Disturbance) => (plans.classes[each] - before.facts.plans.classes[each]) / seconds;
  return CLASSES.map((each) => `${each} ${rate(each).toFixed(1)}`).join(', ');
}

/** Private memory does not say how much of it is resident. */
function residentByBacking({ ram }: GuestMemoryFacts): Record<string, number | undefined> {
  const sums: Record<string, number | undefined> = {};
  for (const { backing, allocatedBytes } of ram) {
    if (allocatedBytes === undefined) sums[backing] ??= undefined;
    else sums[backing] = (sums[backing] ?? 0) + Number(allocatedBytes);
  }
  return sums;
}

function leasesByHolder({ leases }: GuestMemoryFacts): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { holder } of leases) counts[holder] = (counts[holder] ?? 0) + 1;
  return counts;
}

type Cell = string | number;

/** Lines of a table under its heading; none where there are no rows. */
function section(heading: readonly string[], rows: readonly (readonly Cell[])[]): string[] {
  if (rows.length === 0) return [];
  const all = [heading, ...rows];
  const widths = heading.map((_, column) => Math.max(...all.map((row) => printed(row[column]!).length)));
  const line = (row: readonly Cell[]) => row.map((cell, column) => printed(cell).padEnd(widths[column]!)).join('  ');
  return ['', ...all.map((row) => line(row).trimEnd())];
}

/** Names from a guest's monitor give no orders to the terminal. */
function printed(cell: Cell): string {
  return String(cell).replace(/[\p{Cc}\p{Bidi_Control}]/gu, '?');
}

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];

function sized(bytes: number | string | bigint | undefined): string {
  if (bytes === undefined) return '-';
  const value = Number(bytes);
  const unit = Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(1, value)) / 10));
  return `${Number((value / 1024 ** unit).toFixed(1))} ${UNITS[unit]}`;
}
