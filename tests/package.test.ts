// The package as it is shipped: everything that an option can ask for, and not much else.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';

interface Packed {
  /** Bytes. */
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

test('the package brings both builds of the core along, the addon and its sources, and stays small', (t) => {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const [packed] = JSON.parse(execFileSync('npm', args, { encoding: 'utf8' })) as [Packed];
  const paths = packed.files.map(({ path }) => path);
  for (const path of ['build/index.js', 'build/core.wasm', 'build/core.debug.wasm', 'shim/addon.cc', 'build/abi.h']) {
    t.true(paths.includes(path), path);
  }
  t.true(paths.some((path) => path.startsWith('build/prebuilds/')));
  t.false(paths.includes('build/membacking.node'), 'that is of the machine which it was built on');
  t.log(`${packed.size} bytes`);
  t.true(packed.size < 2 * 2 ** 20);
});

test('where a build of the core is missing, the error says what to do', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  for (const name of readdirSync('build')) {
    if (/\.js$|^core\.wasm$/.test(name)) cpSync(join('build', name), join(folder, name));
  }
  const program = `
    const { MemoryMap } = await import('${join(folder, 'index.js')}');
    new MemoryMap().close();
    try { new MemoryMap({ debug: true }) } catch ({ name, code, message }) { console.log(name, code, message) }`;
  const answer = execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  t.regex(
    answer,
    /^MembackingError CORE_MISSING there is no core\.debug\.wasm in \S+: a bundle needs .*"npm test" builds it/,
  );
  rmSync(folder, { recursive: true });
});

const PREBUILDS = readdirSync('build/prebuilds');

/** The newest version that a binary asks a library for. */
function newest(binary: string, library: string): number {
  const versions = binary.matchAll(new RegExp(`\\0${library}_(\\d+)\\.(\\d+)(?:\\.(\\d+))?(?=\\0)`, 'g'));
  const numbers = [...versions].map(([, ...parts]) => parts.reduce((all, part) => all * 1000 + Number(part ?? 0), 0));
  return Math.max(0, ...numbers);
}

for (const name of PREBUILDS.filter((each) => each.includes('glibc'))) {
  test(`${name} asks for no newer system than most that Node.js runs on`, (t) => {
    const binary = readFileSync(join('build/prebuilds', name), 'latin1');
    const remedy = 'Ask for an older symbol, or give it a stand-in, in shim/host/old_system.h.';
    t.true(newest(binary, 'GLIBC') <= 2_028_000, remedy);
    t.true(newest(binary, 'GLIBCXX') <= 3_004_021, remedy);
  });
}

/** Numbers of processors in ELF files. */
const PROCESSORS: Readonly<Record<string, number>> = { x64: 62, arm64: 183 };

for (const name of PREBUILDS) {
  test(`${name} is for the machine in its name, and stripped`, (t) => {
    const [, processor, libc] = /^linux-(\w+)-(\w+)\.node$/.exec(name)!;
    const binary = readFileSync(join('build/prebuilds', name));
    t.is(binary.readUInt16LE(18), PROCESSORS[processor!]!);
    t.is(binary.includes('libc.so.6'), libc === 'glibc');
    t.false(binary.includes('.symtab'));
  });
}
