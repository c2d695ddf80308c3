// The steps of the build: inputs, outputs and how one becomes the other. Every output lies in build/.
//
// Code finds what it loads by TO_BUILD, the way from its bundle's folder to build/, which is defined here:
// new URL(`${TO_BUILD}core.wasm`, import.meta.url).

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename } from 'node:path';
import { abiHeader } from './abi-header.mjs';
import { execute, filesUnder, perform, StepError, together } from './steps.mjs';

const ABI = 'assembly/abi.ts';
const HEADER = 'build/abi.h';
/** Program that writes the reference; there when its tools are. */
export const REFERENCE_MAKER = 'build/reference-tools/make.mjs';
/** Every step depends on the versions of the tools. */
const TOOLS = 'package-lock.json';

// ---- The core ----------------------------------------------------------------------------------

export function core() {
  return compile('release', 'build/core.wasm', 'ts/dev/export-state.mjs');
}

/** The core that checks itself: for tests and the package's users, and seconds more than `npm start` needs. */
export function debugCore() {
  return compile('debug', 'build/core.debug.wasm', 'ts/dev/export-state.mjs');
}

/**
 * @param {string} target of asconfig.json
 * @param {string} output that it names
 * @param {string[]} passes programs that are then given it, to change it
 */
function compile(target, output, ...passes) {
  return perform({
    name: output,
    from: [TOOLS, ...passes, 'asconfig.json', ...filesUnder('assembly', '.ts')],
    to: [output],
    run: async () => {
      await execute(process.execPath, 'node_modules/assemblyscript/bin/asc.js', '--target', target);
      for (const pass of passes) await execute(process.execPath, pass, output);
    },
  });
}

// ---- The addon ---------------------------------------------------------------------------------

const COMPILER = process.env.CXX ?? 'c++';
const COMPILE = words(
  '-std=c++17 -O2 -Wall -Wextra -Werror -fPIC -fvisibility=hidden -DNAPI_VERSION=8 -I build -I shim',
  '-isystem node_modules/node-api-headers/include -isystem node_modules/node-addon-api',
);
const LINK = words('-shared -Wl,-z,nodelete');

/**
 * The shim's sources, compiled together: reading headers is most of the work that a file makes. Node-API's are the
 * largest, so that the files which need them are a unit of their own. The files of a unit share one scope, and what is
 * static in a file needs a name that no other has.
 */
const UNITS = [
  { name: 'shim-napi', needs: /^shim\//, has: /^shim\/(addon\.cc|napi\/)/ },
  { name: 'shim-plain', needs: /^shim\/(?!napi\/)/, has: /^shim\/(?!addon\.cc|napi\/)/ },
];

export async function addon() {
  await header();
  const compiler = compilerVersion();
  const objects = UNITS.map(({ name }) => `build/obj/${name}.o`);
  await together(...UNITS.map((unit) => compileUnit(unit, compiler)));
  await perform({
    name: 'build/membacking.node',
    from: objects,
    to: ['build/membacking.node'],
    key: [compiler, LINK],
    run: () => execute(COMPILER, ...LINK, ...objects, '-o', 'build/membacking.node'),
  });
}

function compileUnit({ name, needs, has }, compiler) {
  const sources = filesUnder('shim', '.cc').filter((path) => has.test(path));
  const headers = filesUnder('shim', '.h').filter((path) => needs.test(path));
  const [unit, object] = [`build/obj/${name}.cc`, `build/obj/${name}.o`];
  return perform({
    name: object,
    from: [TOOLS, HEADER, ...headers, ...sources],
    to: [object],
    key: [compiler, COMPILE],
    run: () => {
      writeFileSync(unit, sources.map((path) => `#include "${path.slice('shim/'.length)}"\n`).join(''));
      return execute(COMPILER, ...COMPILE, '-include', 'host/old_system.h', '-c', unit, '-o', object);
    },
  });
}

/** An addon of the tests' or the benchmarks' own, never part of the package: build/obj/NAME.node. @param {string}
 *  source */
export function helperAddon(source) {
  const output = `build/obj/${basename(source, '.cc')}.node`;
  return perform({
    name: output,
    from: [TOOLS, source],
    to: [output],
    key: [compilerVersion(), COMPILE, LINK],
    run: () => execute(COMPILER, ...COMPILE, ...LINK, source, '-ldl', '-o', output),
  });
}

function header() {
  return perform({
    name: HEADER,
    from: [ABI, 'ts/dev/abi-header.mjs'],
    to: [HEADER],
    run: () => writeFileSync(HEADER, abiHeader(readFileSync(ABI, 'utf8'))),
  });
}

function compilerVersion() {
  const { stdout, error } = spawnSync(COMPILER, ['--version'], { encoding: 'utf8' });
  if (!error) return stdout;
  throw new StepError(
    `A C++17 compiler is needed, and "${COMPILER}" does not start (${error.code}).\n` +
      'Install one (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; Alpine: apk add g++),\n' +
      'or say in the environment variable CXX where it is.',
  );
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

/** Bundles that stand alone, one for each source: tests, benchmarks. @param {string} folder right below build/ */
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
      packages: 'external',
      define: { TO_BUILD: '"../"' },
    },
  });
}

function bundle({ name, from, to, clear, options }) {
  const all = { bundle: true, format: 'esm', platform: 'node', target: 'node20', sourcemap: 'linked', ...options };
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

/** The declarations that the package's users see. */
export function declarations() {
  return perform({
    name: 'build/types',
    from: [TOOLS, 'ts/tsconfig.json', ...packageSources()],
    to: ['build/types/ts/index.d.ts'],
    run: () => {
      rmSync('build/types', { recursive: true, force: true });
      const emit = words('--noEmit false --declaration --emitDeclarationOnly --stripInternal --outDir build/types');
      return tsc('ts/tsconfig.json', ...emit);
    },
  });
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
