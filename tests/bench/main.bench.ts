// npm run bench [-- NAME…] [--compare FILE]: runs the groups of benchmarks, each in a process of its own, and says what
// came out. With --json, as in the lab, whose files cannot be written, the run is one line more, and in no file.

import { fork } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { artefact } from '../../ts/core/artefact.ts';
import type { Message } from './support/group.ts';
import { changes, machine, type Run, readRun, rowsOf, table, writeReport } from './support/report.ts';
import type { GroupResult } from './support/rows.ts';

const GROUPS = [
  'core',
  'footprint',
  'guest',
  'leases',
  'clients',
  'remap',
  'monitor',
  'freeing',
  'build',
  'memory',
  'windows',
  'dirty',
  'snapshot',
  'replay',
  'exits',
  'boot',
  'start',
  'viewer',
];

const OPTIONS = { compare: { type: 'string' }, json: { type: 'boolean' } } as const;
const { values, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
const unknown = positionals.filter((name) => !GROUPS.includes(name));
if (unknown.length > 0) {
  console.error(`there is no benchmark ${unknown.join(', ')}; there are ${GROUPS.join(', ')}`);
  process.exit(2);
}
const wanted = positionals.length === 0 ? GROUPS : GROUPS.filter((name) => positionals.includes(name));

const started = performance.now();
const facts = machine();
const groups: Record<string, GroupResult> = {};
for (const [index, name] of wanted.entries()) {
  const result = await runProcess(name, (doing) => progress(`[${index + 1}/${wanted.length}] ${name}: ${doing}`));
  if (result !== undefined) groups[name] = result;
}
progress('');
const loads = loadavg().map((load) => load.toFixed(1));
const run: Run = { machine: { ...facts, 'load after': loads.join(', ') }, groups };
const before = values.compare === undefined ? undefined : readRun(values.compare);
console.log(table(rowsOf(run)));
console.log(
  `\n${Math.round((performance.now() - started) / 1000)} s; load ${facts['load before']} -> ${loads.join(', ')}`,
);
if (before !== undefined) console.log(`\n${changes(before, run)}`);
if (values.json) {
  console.log(JSON.stringify(run));
} else {
  writeFileSync(fileURLToPath(artefact('bench.json')), `${JSON.stringify(run, null, 1)}\n`);
  const inLab = fileURLToPath(artefact('bench.lab.json'));
  if (wanted.length === GROUPS.length) writeReport(run, existsSync(inLab) ? readRun(inLab) : undefined);
}

/** One line that is overwritten by the next; on a terminal only. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else if (text !== '') process.stderr.write(`${text}\n`);
}

/** Runs a group in a process of its own. Gives its result; undefined, and why on standard error, if it could not be run
 *  here. */
function runProcess(name: string, onProgress: (doing: string) => void): Promise<GroupResult | undefined> {
  return new Promise((resolve) => {
    const execArgv = ['--expose-gc', '--enable-source-maps'];
    const child = fork(fileURLToPath(new URL(`${name}.bench.js`, import.meta.url)), { execArgv });
    let result: GroupResult | undefined;
    child.on('message', (message: Message) => {
      if ('doing' in message) onProgress(message.doing);
      else result = message.result;
    });
    child.on('exit', () => {
      if (result === undefined) console.error(`\n${name}: no result`);
      resolve(result);
    });
  });
}
