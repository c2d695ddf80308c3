// Reports of a run: the table, build/bench.json, BENCHMARKS.md with its plots.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { plotSvg } from './plot.ts';
import { type Bound, type GroupResult, isMet, type Row, type Unit } from './rows.ts';

/** One run, as build/bench.json has it. */
export interface Run {
  readonly machine: Readonly<Record<string, string>>;
  readonly groups: Readonly<Record<string, GroupResult>>;
}

export function machine(): Record<string, string> {
  const [processor] = cpus();
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' '),
    commit: output('git', 'rev-parse', '--short', 'HEAD'),
    processor: `${cpus().length} × ${processor?.model.trim() ?? 'unknown'}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: release(),
    'Node.js': process.version,
    V8: process.versions.v8,
    compiler: output(process.env.CXX ?? 'c++', '--version').split('\n')[0]!,
    'load before': loadavg()
      .map((load) => load.toFixed(1))
      .join(', '),
  };
}

function output(program: string, ...args: string[]): string {
  try {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'unknown';
  }
}

// ---- The table -----------------------------------------------------------------------------------

const HEAD = ['what', 'ours', 'baseline', 'speed', 'p10–p90', 'goal', 'met'] as const;

function cells(row: Row): string[] {
  const { what, unit, ours, baseline, speed, goals } = row;
  const met = isMet(row);
  return [
    what,
    figure(ours, unit),
    baseline === undefined ? '' : `${figure(baseline.value, unit)} (${baseline.what})`,
    speed === undefined ? '' : times(speed.median),
    speed === undefined || speed.pairs === 1 ? '' : `${times(speed.p10)}–${times(speed.p90)}`,
    goals.map((goal) => bound(goal, unit)).join(', '),
    met === undefined ? '' : met ? 'yes' : 'no',
  ];
}

export function table(rows: readonly Row[]): string {
  const all = [[...HEAD], ...rows.map(cells)];
  const widths = HEAD.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function markdownTable(rows: readonly Row[]): string {
  const lines = [[...HEAD], HEAD.map(() => '---'), ...rows.map(cells)];
  return lines.map((line) => `| ${line.join(' | ')} |`).join('\n');
}

function times(speed: number): string {
  return `${digits(speed)}×`;
}

function bound({ of, atMost, atLeast }: Bound, unit: Unit): string {
  const shown = (value: number) => (of === 'speed' ? times(value) : figure(value, unit));
  return atMost === undefined ? `≥ ${shown(atLeast!)}` : `≤ ${shown(atMost)}`;
}

function figure(value: number, unit: Unit): string {
  switch (unit) {
    case 'ns':
      return value < 1000
        ? `${digits(value)} ns`
        : value < 1e6
          ? `${digits(value / 1000)} µs`
          : `${digits(value / 1e6)} ms`;
    case 'ms':
      return `${digits(value)} ms`;
    case 'count':
      return String(value);
    case 'op/s':
      return `${Math.round(value / 1000)} 000/s`;
    case 'bytes':
      return value < 10_000
        ? `${digits(value)} B`
        : value < 1e6
          ? `${digits(value / 1024)} KiB`
          : `${digits(value / 2 ** 20)} MiB`;
  }
}

/** Three digits that count. */
function digits(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

// ---- What changed --------------------------------------------------------------------------------

/** Ours and the speed of every row that both runs have. */
export function changes(before: Run, after: Run): string {
  const rowsBefore = new Map(rowsOf(before).map((row) => [row.what, row]));
  const lines = rowsOf(after).flatMap((row) => {
    const rowBefore = rowsBefore.get(row.what);
    if (rowBefore === undefined) return [];
    const speed = row.speed && rowBefore.speed ? `${times(rowBefore.speed.median)} -> ${times(row.speed.median)}` : '';
    const change = `${figure(rowBefore.ours, rowBefore.unit)} -> ${figure(row.ours, row.unit)}`;
    return [`${row.what.padEnd(56)} ${change.padEnd(28)} ${speed}`.trimEnd()];
  });
  return [`since ${before.machine.date} (${before.machine.commit}):`, ...lines].join('\n');
}

export function rowsOf(run: Run): Row[] {
  return Object.values(run.groups).flatMap(({ rows }) => rows);
}

export function readRun(path: string): Run {
  return JSON.parse(readFileSync(path, 'utf8')) as Run;
}

// ---- BENCHMARKS.md -------------------------------------------------------------------------------

const FOLDER = 'tests/bench';

const INTRODUCTION = `# Benchmarks

Written by \`npm run bench\`. Every figure is the median of many pairs: ours and the baseline take turns in one process,
and *speed* is the baseline's time divided by ours, pair by pair (1× is as fast as the baseline; more is faster).
The baselines are in \`tests/bench/native/\` and in the benchmarks themselves. A goal is what was aimed at, never a test.
The curves of other systems in the plots were measured earlier: natively compiled, without the work of the operating system.
`;

const IN_LAB = `# In the lab

The same on stock KVM, by \`npm run bench:lab\`: the processor is emulated, and some 20 times slower. What counts here are
exits, and parts of the whole.
`;

/** Writes the report, and the plots. `inLab`: a run in the lab. */
export function writeReport(run: Run, inLab?: Run): void {
  mkdirSync(`${FOLDER}/plots`, { recursive: true });
  const parts = [
    INTRODUCTION.trim(),
    ...sections(run),
    ...(inLab === undefined ? [] : [IN_LAB.trim(), ...sections(inLab)]),
  ];
  writeFileSync(`${FOLDER}/BENCHMARKS.md`, `${parts.join('\n\n')}\n`);
}

function sections(run: Run): string[] {
  const facts = Object.entries(run.machine).map(([name, value]) => `- ${name}: ${value}`);
  const groups = Object.entries(run.groups).map(([name, { rows, plots }]) => {
    const pictures = plots.map((plot) => {
      writeFileSync(`${FOLDER}/plots/${plot.name}.svg`, plotSvg(plot));
      return `![${plot.title}](plots/${plot.name}.svg)`;
    });
    return [`## ${name}`, markdownTable(rows), ...pictures].join('\n\n');
  });
  return [facts.join('\n'), ...groups];
}
