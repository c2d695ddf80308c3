// Costs of a beginning, and how much is installed.

import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { artefact } from '../../ts/core/artefact.ts';
import { type Group, runGroup } from './support/group.ts';
import { median } from './support/measure.ts';
import type { Bound } from './support/rows.ts';

const ROUNDS = 31;

function milliseconds(...args: string[]): number {
  const started = performance.now();
  const { status } = spawnSync(process.execPath, args, { stdio: 'ignore' });
  if (status !== 0) throw new Error(`node ${args.join(' ')} ended with ${status}`);
  return performance.now() - started;
}

async function start(group: Group): Promise<void> {
  group.doing('starting processes');
  const index = `await import(${JSON.stringify(artefact('index.js').href)})`;
  const commands = {
    empty: ['--input-type=module', '-e', ''],
    library: ['--input-type=module', '-e', index],
    help: [fileURLToPath(artefact('cli.js')), '--help'],
  };
  const times: Record<keyof typeof commands, number[]> = { empty: [], library: [], help: [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, args] of Object.entries(commands))
      times[name as keyof typeof commands].push(milliseconds(...args));
  }
  const over = (name: 'library' | 'help') => times[name].map((time, round) => time - times.empty[round]!);
  const add = (what: string, values: number[], goals: Bound[]) =>
    group.add({
      ...{ what, unit: 'ms' as const, ours: median(values), goals },
      baseline: { what: 'an empty Node.js process', value: median(times.empty) },
    });
  await add('import of the package, over an empty process', over('library'), [{ of: 'ours', atMost: 25 }]);
  await add('membacking --help', times.help, [{ of: 'ours', atMost: 60 }]);
  await add('membacking --help, over an empty process', over('help'), []);
}

async function sizes(group: Group): Promise<void> {
  group.doing('packing');
  const { stdout } = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { encoding: 'utf8' });
  const [{ size }] = JSON.parse(stdout) as [{ size: number }];
  const wasm = statSync(artefact('core.wasm')).size;
  const limits = { package: 1_500_000, wasm: 65_536 };
  await group.add({
    what: 'package as packed',
    unit: 'bytes',
    ours: size,
    goals: [{ of: 'ours', atMost: limits.package }],
  });
  await group.add({ what: 'release Wasm', unit: 'bytes', ours: wasm, goals: [{ of: 'ours', atMost: limits.wasm }] });
}

await runGroup(async (group) => {
  await start(group);
  await sizes(group);
});
