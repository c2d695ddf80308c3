// The package in an empty folder: every way to import it, bundles of it, and the addon where it is not as it should be.

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { type BuildOptions, build } from 'esbuild';
import { asScript, install, readmeExample } from './support/installed.ts';

const { folder, root, remove } = install();
test.after.always(remove);

/** Runs a program of the user's, and gives what it prints, errors too. */
function run(name: string, code: string, env: Readonly<Record<string, string>> = {}): string {
  writeFileSync(join(folder, name), code);
  const options = { cwd: folder, encoding: 'utf8', env: { ...process.env, ...env } } as const;
  const { stdout, stderr } = spawnSync(process.execPath, ['--no-warnings', name], options);
  return stdout + stderr;
}

const EXAMPLE = readmeExample();
const PRINTED = '0\n4660\n';

test("the README's example runs as a module", (t) => {
  t.is(run('example.mjs', EXAMPLE), PRINTED);
});

test("the README's example runs as a script of CommonJS", (t) => {
  t.is(run('example.cjs', asScript(EXAMPLE)), PRINTED);
});

test('a script and a module have one package between them', (t) => {
  const program = `
    import { createRequire } from 'node:module';
    import * as own from 'membacking';
    console.log(createRequire(import.meta.url)('membacking').MembackingError === own.MembackingError);`;
  t.is(run('both.mjs', program), 'true\n');
});

test("the README's example runs in a worker", (t) => {
  writeFileSync(join(folder, 'inner.mjs'), EXAMPLE);
  t.is(run('worker.mjs', `new (await import('node:worker_threads')).Worker('./inner.mjs');`), PRINTED);
});

test('the core and the monitor are imported as modules and as scripts', (t) => {
  const program = `
    import { TraceReplay } from 'membacking/core';
    import { Monitor } from 'membacking/vmm';
    console.log(typeof TraceReplay, typeof Monitor);`;
  t.is(run('doors.mjs', program), 'function function\n');
  t.is(run('doors.cjs', asScript(program.replace(/^ +/gm, ''))), 'function function\n');
});

// ---- Bundles -----------------------------------------------------------------------------------

async function bundle(options: BuildOptions): Promise<string[]> {
  const all = { bundle: true, platform: 'node', absWorkingDir: folder, logLevel: 'silent', ...options } as const;
  const { warnings } = await build(all);
  return warnings.map(({ text }) => text);
}

for (const format of ['esm', 'cjs'] as const) {
  test(`a bundle (${format}) says what it needs beside it, and runs with that`, async (t) => {
    const name = `bundled-${format}/app.${format === 'esm' ? 'mjs' : 'cjs'}`;
    writeFileSync(join(folder, `to-${format}.mjs`), EXAMPLE);
    const warnings = await bundle({ entryPoints: [`to-${format}.mjs`], outfile: name, format });
    t.true(warnings.every((text) => text.includes('import.meta')));
    const printed = () => {
      const { stdout, stderr } = spawnSync(process.execPath, ['--no-warnings', name], {
        cwd: folder,
        encoding: 'utf8',
      });
      return stdout + stderr;
    };
    const beside = join(folder, `bundled-${format}`);
    t.true(printed().includes(`there is no core.wasm in ${beside}/: a bundle needs the package's build/core.wasm`));
    cpSync(join(root, 'build/core.wasm'), join(beside, 'core.wasm'));
    t.regex(printed(), /NATIVE_MISSING.*A bundle needs the folder build\/prebuilds of the package beside it/s);
    cpSync(join(root, 'build/prebuilds'), join(beside, 'prebuilds'), { recursive: true });
    t.is(printed(), PRINTED);
  });
}

test('a script that is bundled runs, too', async (t) => {
  writeFileSync(join(folder, 'script.cjs'), asScript(EXAMPLE));
  await bundle({ entryPoints: ['script.cjs'], outfile: 'bundled-script/app.cjs', format: 'cjs' });
  for (const name of ['core.wasm', 'prebuilds']) {
    cpSync(join(root, 'build', name), join(folder, 'bundled-script', name), { recursive: true });
  }
  t.is(execFileSync(process.execPath, ['bundled-script/app.cjs'], { cwd: folder, encoding: 'utf8' }), PRINTED);
});

// ---- The addon ---------------------------------------------------------------------------------

/** A compiler that takes what it is told to make from PREBUILT, and keeps what it was told in ASKED. */
const COMPILER = `#!/bin/sh
echo "$@" > "$ASKED"
for last; do :; done
cp "$PREBUILT" "$last"
`;

const CLI = ['node_modules/membacking/build/cli.js', 'compile'];

test.serial('a machine that the package has no addon for compiles it from the sources in there', (t) => {
  const prebuilds = join(root, 'build/prebuilds');
  const kept = join(folder, 'kept');
  renameSync(prebuilds, kept);
  t.regex(
    run('without.mjs', EXAMPLE),
    /NATIVE_MISSING.*there is none for linux-\w+-\w+ in .*"npx membacking compile"/s,
  );

  const failing = spawnSync(process.execPath, CLI, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...process.env, CXX: 'false' },
  });
  t.regex(failing.stderr, /the addon cannot be compiled in \S+: false ended with 1/);
  t.is(failing.status, 1);

  const compiler = join(folder, 'compiler');
  writeFileSync(compiler, COMPILER);
  chmodSync(compiler, 0o755);
  const host = readdirSync(kept).find((name) => name.includes(process.arch) && name.endsWith('glibc.node'))!;
  const asked = join(folder, 'asked');
  const env = { ...process.env, CXX: compiler, PREBUILT: join(kept, host), ASKED: asked };
  t.regex(
    execFileSync(process.execPath, CLI, { cwd: folder, encoding: 'utf8', env }),
    /membacking\.node: made by .*, and loads/,
  );
  t.is(run('compiled.mjs', EXAMPLE), PRINTED);
  for (const source of ['shim/recipe.json', 'build/units/shim-napi.cc', 'build/include/napi.h', 'build/abi.h']) {
    t.true(existsSync(join(root, source)), source);
  }

  writeFileSync(join(root, 'build/membacking.node'), 'no addon');
  const damaged = run('damaged.mjs', EXAMPLE);
  t.regex(
    damaged,
    /membacking\.node cannot be loaded: \S.*(invalid ELF header|file too short).*npx membacking compile/s,
  );
  renameSync(kept, prebuilds);
  t.is(run('mended.mjs', EXAMPLE), PRINTED, 'the one that the package brings is taken');
  rmSync(join(root, 'build/membacking.node'));
});

// ---- What others say of it ---------------------------------------------------------------------

const CRITICS: readonly [name: string, args: readonly string[]][] = [
  ['publint@0.3.25', ['publint', '--strict', root]],
  // Not node10: a Node.js that does not know "exports" is none that this package runs on. The header is no module.
  [
    '@arethetypeswrong/cli@0.18.5',
    ['attw', '--pack', root, '--profile', 'node16', '--exclude-entrypoints', 'membacking.h'],
  ],
];

for (const [name, command] of CRITICS) {
  test(`${name} has nothing to say`, (t) => {
    const home = join(folder, name.replaceAll('/', '-'));
    mkdirSync(home);
    const args = ['exec', '--yes', '--ignore-scripts', `--package=${name}`, '--', ...command];
    const { status, stdout, stderr } = spawnSync('npm', args, { cwd: home, encoding: 'utf8' });
    if (/EAI_AGAIN|ENOTFOUND|ECONN|ENETUNREACH|ETIMEDOUT/.test(stderr)) {
      t.log(`left out: ${name} cannot be installed without network`);
      t.pass();
      return;
    }
    t.is(status, 0, stdout + stderr);
  });
}
