// The package as it is shipped: everything that an option can ask for, and not much else.

import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';

interface Packed {
  /** Bytes. */
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

test('the package brings both builds of the core along, and stays small', (t) => {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const [packed] = JSON.parse(execFileSync('npm', args, { encoding: 'utf8' })) as [Packed];
  const paths = packed.files.map(({ path }) => path);
  for (const path of ['build/index.js', 'build/core.wasm', 'build/core.debug.wasm', 'build/membacking.node']) {
    t.true(paths.includes(path), path);
  }
  t.log(`${packed.size} bytes`);
  t.true(packed.size < 1.5 * 2 ** 20);
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
  t.regex(answer, /^MembackingError CORE_MISSING core\.debug\.wasm is not there: in a clone, "npm test" builds it;/);
  rmSync(folder, { recursive: true });
});

test('the addon asks for no newer system than most that Node.js runs on', (t) => {
  const binary = readFileSync('build/membacking.node', 'latin1');
  const newest = (library: string) => {
    const versions = binary.matchAll(new RegExp(`\\0${library}_(\\d+)\\.(\\d+)(?:\\.(\\d+))?(?=\\0)`, 'g'));
    return Math.max(
      0,
      ...[...versions].map(([, ...parts]) => parts.reduce((all, part) => all * 1000 + Number(part ?? 0), 0)),
    );
  };
  const remedy = 'Ask for an older symbol, or give it a stand-in, in shim/host/old_system.h.';
  t.true(newest('GLIBC') <= 2_028_000, remedy);
  t.true(newest('GLIBCXX') <= 3_004_021, remedy);
});

test('an addon that does not load says why, and what to do', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'package-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const file of readdirSync('build').filter((name) => /\.(js|wasm)$/.test(name))) {
    cpSync(join('build', file), join(folder, file));
  }
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'membacking.node'), 'no addon');
  const script = `import('${join(folder, 'index.js')}').then(({ PrivateMemory }) => PrivateMemory.create(4096))`;
  const { stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
  t.regex(stderr, /membacking\.node cannot be loaded: \S.*(invalid ELF header|file too short).*build it from a clone/s);
});
