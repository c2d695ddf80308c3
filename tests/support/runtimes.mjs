// Runtimes that the package is tried on: versions of Node.js, Deno and Bun from the npm registry, kept in
// ~/.cache/membacking-runtimes.

import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const FOLDER = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'membacking-runtimes');

const node = (version, arch) => ({ package: `node-linux-${arch}@${version}`, program: `node-linux-${arch}/bin/node` });

const arm64 = {
  addon: 'linux-arm64-glibc',
  before: ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu'],
  needs: '/usr/aarch64-linux-gnu/lib/libstdc++.so.6',
  debian: 'qemu-user libstdc++6-arm64-cross',
};

const MUSL_LIBRARIES = join(FOLDER, 'Bun with musl', 'lib');

const musl = {
  addon: 'linux-x64-musl',
  before: ['env', `LD_LIBRARY_PATH=${MUSL_LIBRARIES}`],
  needs: '/lib/ld-musl-x86_64.so.1',
  debian: 'musl-dev',
};

/**
 * Runtimes by name: the package, the program in it, and what stands before a script; of one for another machine, its
 * addon, what runs the program, and a file that is needed with the packages of Debian that bring it.
 */
const ALL = {
  'Node.js 20': node(20, 'x64'),
  'Node.js 22': node(22, 'x64'),
  'Node.js 24': node(24, 'x64'),
  'Node.js 26': node(26, 'x64'),
  Deno: { package: '@deno/linux-x64-glibc@2', program: '@deno/linux-x64-glibc/deno', args: ['run', '--allow-all'] },
  Bun: { package: '@oven/bun-linux-x64@1', program: '@oven/bun-linux-x64/bin/bun' },
  'Bun with musl': { package: '@oven/bun-linux-x64-musl@1', program: '@oven/bun-linux-x64-musl/bin/bun', ...musl },
  'Node.js 22 on 64-bit ARM': { ...node(22, 'arm64'), ...arm64 },
};

/** Runtimes with the command line that runs a script, or why there is none. */
export const RUNTIMES = Object.entries(ALL).map(([name, { program, args = [], addon, before = [], needs, debian }]) => {
  const path = join(FOLDER, name, 'node_modules', program);
  if (!existsSync(path)) return { name, missing: '"node ts/dev/task.mjs runtimes-set-up" installs it' };
  if (addon !== undefined) {
    if (!existsSync(`build/prebuilds/${addon}.node`)) return { name, missing: '"npm run prebuildify" makes its addon' };
    if (spawnSync(before[0], ['--version']).error || !existsSync(needs)) {
      return { name, missing: `Debian: apt-get install ${debian}` };
    }
  }
  return { name, isEmulated: before === arm64.before, command: [...before, path, ...args] };
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
    // By force: some are for another processor or C library.
    execute('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--force', wanted], folder);
    chmodSync(path, 0o755);
  }
  if (existsSync(musl.needs) && !existsSync(MUSL_LIBRARIES)) makeMuslLibraries();
}

/** Makes the C++ library that programs for musl have: Debian's, with what it expects of glibc. */
function makeMuslLibraries() {
  mkdirSync(MUSL_LIBRARIES, { recursive: true });
  const fileOf = (name) => execute('gcc', [`-print-file-name=${name}`]).trim();
  for (const name of ['libstdc++.so.6', 'libgcc_s.so.1']) copyFileSync(fileOf(name), join(MUSL_LIBRARIES, name));
  const loader = 'ld-linux-x86-64.so.2';
  const headers = ['/usr/include/x86_64-linux-musl', join(dirname(fileOf('libgcc.a')), 'include')];
  execute('gcc', [
    ...['-nostdinc', ...headers.flatMap((folder) => ['-isystem', folder]), '-O1', '-fPIC', '-fno-stack-protector'],
    ...['-shared', '-nostdlib', `-Wl,-soname,${loader}`, '-o', join(MUSL_LIBRARIES, loader)],
    'tests/support/musl-symbols.c',
  ]);
}

/** Gives what a program prints; throws with what it says. */
function execute(program, args, cwd = '.') {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}:\n${stderr}`);
  return stdout;
}
