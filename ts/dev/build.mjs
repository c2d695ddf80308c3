// The steps of the build, but for the addon's: inputs, outputs and how one becomes the other. Every output lies in
// build/.
//
// Code finds what it loads by TO_BUILD, the way from its bundle's folder to build/, which is defined here:
// new URL(`${TO_BUILD}core.wasm`, import.meta.url).

import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { execute, filesUnder, perform, StepError, TOOLS } from './steps.mjs';

const ABI = 'assembly/abi.ts';
/** Program that writes the reference; there when its tools are. */
export const REFERENCE_MAKER = 'build/reference-tools/make.mjs';

// ---- The core ----------------------------------------------------------------------------------

export function core() {
  return compile('release', 'build/core.wasm');
}

/** The core that checks itself: for tests and the package's users, and seconds more than `npm start` needs. */
export function debugCore() {
  return compile('debug', 'build/core.debug.wasm');
}

/** @param {string} target of asconfig.json @param {string} output that it names */
function compile(target, output) {
  const compiler = 'ts/dev/compile-core.mjs';
  return perform({
    name: output,
    from: [TOOLS, compiler, 'asconfig.json', ...filesUnder('assembly', '.ts')],
    to: [output],
    run: () => execute(process.execPath, compiler, target, output),
  });
}

// ---- The bundles -------------------------------------------------------------------------------

export const ENTRIES = {
  index: 'ts/index.ts',
  core: 'ts/core-index.ts',
  vmm: 'ts/vmm/index.ts',
  cli: 'ts/cli/main.ts',
};

/** The package's own modules: the API and the command, with what they share in chunks beside them. */
export function library() {
  const names = Object.keys(ENTRIES).filter((name) => existsSync(ENTRIES[name]));
  return bundle({
    name: 'build/*.js',
    from: packageSources(),
    to: names.map((name) => `build/${name}.js`),
    clear: () => {
      for (const file of readdirSync('build')) if (/\.js(\.map)?$/.test(file)) rmSync(`build/${file}`);
    },
    options: {
      entryPoints: Object.fromEntries(names.map((name) => [name, ENTRIES[name]])),
      outdir: 'build',
      splitting: true,
      define: { TO_BUILD: '"./"' },
    },
  });
}

/** Bundles of programs, one for each source, with what they share in chunks beside them: tests, benchmarks.
 *  @param {string} folder right below build/ */
export function programs(folder, sources) {
  return bundle({
    name: `${folder}/*.js`,
    from: [...packageSources(), ...filesUnder('tests', '.ts')],
    to: sources.map((path) => `${folder}/${basename(path, '.ts')}.js`),
    clear: () => rmSync(folder, { recursive: true, force: true }),
    options: {
      entryPoints: sources,
      outdir: folder,
      entryNames: '[name]',
      splitting: true,
      packages: 'external',
      define: { TO_BUILD: '"../"' },
    },
  });
}

function bundle({ name, from, to, clear, options }) {
  // Maps without the sources, which would be a fifth of the package: they give files and lines.
  const maps = { sourcemap: 'linked', sourcesContent: false };
  const all = { bundle: true, format: 'esm', platform: 'node', target: 'node20', ...maps, ...options };
  const run = async () => {
    clear();
    await esbuild(all);
    for (const path of to) if (readFileSync(path, 'utf8').startsWith('#!')) chmodSync(path, 0o755);
  };
  return perform({ name, from: [TOOLS, ...from], to, key: all, run });
}

async function esbuild(options) {
  const { build, formatMessages } = await import('esbuild');
  try {
    return await build({ ...options, logLevel: 'silent' });
  } catch ({ errors }) {
    throw new StepError((await formatMessages(errors, { kind: 'error' })).join(''));
  }
}

function packageSources() {
  return [ABI, ...filesUnder('ts', '.ts')];
}

// ---- The viewer --------------------------------------------------------------------------------

export const VIEWER = 'ts/viewer/main.ts';

/** The page, whole but for its title and trace. Needs the core. */
export function viewer() {
  const [template, style, code] = ['ts/viewer/page.html', 'ts/viewer/style.css', 'build/core.wasm'];
  const output = 'build/viewer.html';
  const options = {
    ...{ entryPoints: [VIEWER], bundle: true, minify: true, write: false },
    ...{ format: 'iife', platform: 'browser', target: 'es2022', define: { TO_BUILD: '"./"' } },
  };
  return perform({
    name: output,
    from: [TOOLS, template, style, code, ...packageSources()],
    to: [output],
    key: options,
    run: async () => {
      const { outputFiles } = await esbuild(options);
      const parts = {
        style: readFileSync(style, 'utf8'),
        core: readFileSync(code, 'base64'),
        script: outputFiles[0].text,
      };
      const fill = (whole, name) => parts[name] ?? whole;
      writeFileSync(output, readFileSync(template, 'utf8').replace(/\{\{(\w+)\}\}/g, fill));
    },
  });
}

// ---- What is shipped as it is ------------------------------------------------------------------

/** Traces that the package brings along. */
export function samples() {
  const sources = filesUnder('ts/trace/samples', '.jsonl');
  const target = (path) => `build/samples/${basename(path)}`;
  return perform({
    name: 'build/samples',
    from: sources,
    to: sources.map(target),
    run: () => {
      for (const path of sources) copyFileSync(path, target(path));
    },
  });
}

// ---- Types and style ---------------------------------------------------------------------------

/** Entries that are imported. */
const DOORS = Object.keys(ENTRIES).filter((name) => name !== 'cli');

/** The declarations that the package's users see. */
export function declarations() {
  return perform({
    name: 'build/types',
    from: [TOOLS, 'ts/tsconfig.json', ...packageSources()],
    to: ['build/types/ts/index.d.ts'],
    key: DOORS,
    run: async () => {
      rmSync('build/types', { recursive: true, force: true });
      const emit = words('--noEmit false --declaration --emitDeclarationOnly --stripInternal --outDir build/types');
      await tsc('ts/tsconfig.json', ...emit);
      const led = new Set();
      for (const name of DOORS) follow(`build/types/${ENTRIES[name].replace(/ts$/, 'd.ts')}`, led);
      for (const path of filesUnder('build/types', '.ts')) if (!led.has(path)) rmSync(path);
    },
  });
}

/** Adds a declaration to a set, and all that it leads to. @param {string} path @param {Set<string>} led */
function follow(path, led) {
  if (led.has(path)) return;
  led.add(path);
  for (const [, next] of readFileSync(path, 'utf8').matchAll(/['"](\.[^'"]*)\.ts['"]/g)) {
    follow(join(dirname(path), `${next}.d.ts`), led);
  }
}

/** Tools that the reference is made with, which are installed apart: see ts/dev/reference/make.mjs. */
export function referenceTools() {
  const names = ['package.json', 'package-lock.json', 'make.mjs', 'pages.mjs', 'source.mjs'];
  const folder = 'build/reference-tools';
  const project = {
    extends: '../../ts/tsconfig.json',
    include: [],
    files: ['index', 'core-index', 'vmm/index'].map((name) => `../types/ts/${name}.d.ts`),
  };
  return perform({
    name: folder,
    from: names.map((name) => `ts/dev/reference/${name}`),
    to: [`${folder}/node_modules/typedoc/package.json`, REFERENCE_MAKER],
    run: async () => {
      mkdirSync(folder, { recursive: true });
      for (const name of names) copyFileSync(`ts/dev/reference/${name}`, `${folder}/${name}`);
      writeFileSync(`${folder}/tsconfig.json`, JSON.stringify(project));
      await execute('npm', 'ci', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund');
    },
  });
}

/** Doors for `require`: the same modules by another name, and their declarations as those of CommonJS. */
export function commonJs() {
  const [types, copies] = ['build/types', 'build/types-commonjs'];
  const declared = filesUnder(types, '.d.ts');
  return perform({
    name: copies,
    from: declared,
    to: [...DOORS.map((name) => `build/${name}.cjs`), `${copies}/package.json`],
    run: () => {
      for (const name of DOORS) {
        writeFileSync(`build/${name}.cjs`, `'use strict';\nmodule.exports = require('./${name}.js');\n`);
      }
      rmSync(copies, { recursive: true, force: true });
      cpSync(types, copies, { recursive: true });
      writeFileSync(`${copies}/package.json`, '{ "type": "commonjs" }\n');
    },
  });
}

/** Makes the pages anew. Needs the declarations and the tools. */
export function reference() {
  return execute(process.execPath, REFERENCE_MAKER, 'ts/guide/reference');
}

export function checkTypes() {
  return perform({
    name: 'types',
    from: [TOOLS, 'ts/tsconfig.json', 'tests/tsconfig.json', ...packageSources(), ...filesUnder('tests', '.ts')],
    to: [],
    run: () => tsc('tests/tsconfig.json'),
  });
}

export function checkStyle() {
  return perform({
    name: 'style',
    from: [
      ...[TOOLS, '.biome.jsonc', 'package.json', 'asconfig.json'],
      ...filesUnder('assembly', '.ts', '.json'),
      ...filesUnder('ts', '.ts', '.mjs', '.json'),
      ...filesUnder('tests', '.ts', '.mjs', '.json'),
    ],
    to: [],
    run: () => biome('--error-on-warnings'),
  });
}

/** Formats, sorts imports and mends what can be mended; what is left is an error. */
export function fixStyle() {
  return biome('--write', '--error-on-warnings');
}

function tsc(project, ...args) {
  return execute(process.execPath, 'node_modules/typescript/bin/tsc', '-p', project, ...args);
}

function biome(...args) {
  return execute(process.execPath, 'node_modules/@biomejs/biome/bin/biome', 'check', '--max-diagnostics=50', ...args);
}

function words(...lines) {
  return lines.join(' ').split(' ');
}
