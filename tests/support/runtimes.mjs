// Runtimes that the package is tried on: versions of Node.js, Deno and Bun from the npm registry, kept in
// ~/.cache/membacking-runtimes.

import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const FOLDER = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'membacking-runtimes');

const node = (version, arch) => ({ package: `node-linux-${arch}@${version}`, program: `node-linux-${arch}/bin/node` });

/** Runtimes by name: the package, the program in it, what stands before a script, and what runs the program. */
const ALL = {
  'Node.js 20': node(20, 'x64'),
  'Node.js 22': node(22, 'x64'),
  'Node.js 24': node(24, 'x64'),
  'Node.js 26': node(26, 'x64'),
  Deno: { package: '@deno/linux-x64-glibc@2', program: '@deno/linux-x64-glibc/deno', args: ['run', '--allow-all'] },
  Bun: { package: '@oven/bun-linux-x64@1', program: '@oven/bun-linux-x64/bin/bun' },
  'Node.js 22 on 64-bit ARM': { ...node(22, 'arm64'), emulator: ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu'] },
};

/** Runtimes with the command line that runs a script, or why there is none. */
export const RUNTIMES = Object.entries(ALL).map(([name, { program, args = [], emulator = [] }]) => {
  const path = join(FOLDER, name, 'node_modules', program);
  const isEmulated = emulator.length > 0;
  if (!existsSync(path)) return { name, missing: '"node ts/dev/task.mjs runtimes-set-up" installs it' };
  if (isEmulated && !existsSync('build/prebuilds/linux-arm64-glibc.node')) {
    return { name, missing: '"npm run prebuildify" makes its addon' };
  }
  if (isEmulated && spawnSync(emulator[0], ['--version']).error) {
    return { name, missing: 'Debian: apt-get install qemu-user libstdc++6-arm64-cross' };
  }
  return { name, isEmulated, command: [...emulator, path, ...args] };
});

/** Installs those that are not there yet. Throws with what npm says. */
export function setUpRuntimes() {
  for (const [name, { package: wanted, program }] of Object.entries(ALL)) {
    const folder = join(FOLDER, name);
    const path = join(folder, 'node_modules', program);
    if (existsSync(path)) continue;
    console.log(name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{ "private": true }');
    // By force: one of them is for another processor.
    const args = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--force', wanted];
    const { status, stderr } = spawnSync('npm', args, { cwd: folder, encoding: 'utf8' });
    if (status !== 0) throw new Error(`${wanted} cannot be installed:\n${stderr}`);
    chmodSync(path, 0o755);
  }
}
