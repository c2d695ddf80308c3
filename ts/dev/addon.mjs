// The steps that build the addon: for this machine, and for each that the package brings a binary for. How it is
// compiled is in shim/recipe.json, which the package's own `membacking compile` reads too.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { abiHeader } from './abi-header.mjs';
import { execute, filesUnder, perform, StepError, TOOLS, together } from './steps.mjs';

const ABI = 'assembly/abi.ts';
const HEADER = 'build/abi.h';
const RECIPE = JSON.parse(readFileSync('shim/recipe.json', 'utf8'));
const STRICT = ['-Wall', '-Wextra', '-Werror'];

/** Builds what is compiled beside the shim's own files; all of it is part of the package. */
async function sources() {
  await together(header(), napiHeaders(), ...UNITS.map(unit));
}

function header() {
  return perform({
    name: HEADER,
    from: [ABI, 'ts/dev/abi-header.mjs'],
    to: [HEADER],
    run: () => writeFileSync(HEADER, abiHeader(readFileSync(ABI, 'utf8'))),
  });
}

/** Headers of Node-API, and the wrappers of node-addon-api, each with its licence. */
function napiHeaders() {
  const [c, wrapper] = ['node_modules/node-api-headers', 'node_modules/node-addon-api'];
  const copies = {
    ...Object.fromEntries(filesUnder(`${c}/include`, '.h').map((path) => [basename(path), path])),
    ...Object.fromEntries(
      ['napi.h', 'napi-inl.h', 'napi-inl.deprecated.h'].map((name) => [name, `${wrapper}/${name}`]),
    ),
    'LICENSE.node-api-headers': `${c}/LICENSE`,
    'LICENSE.node-addon-api': `${wrapper}/LICENSE.md`,
  };
  return perform({
    name: 'build/include',
    from: Object.values(copies),
    to: Object.keys(copies).map((name) => `build/include/${name}`),
    run: () => {
      for (const [name, path] of Object.entries(copies)) copyFileSync(path, `build/include/${name}`);
    },
  });
}

// ---- Units -------------------------------------------------------------------------------------

/**
 * The shim's sources, compiled together: reading headers is most of the work that a file makes. Node-API's are the
 * largest, so that the files which need them are a unit of their own. The files of a unit share one scope, and what is
 * static in a file needs a name that no other has.
 */
const PLAIN = { name: 'shim-plain', needs: /^shim\/(?!napi\/)/, has: /^shim\/(?!addon\.cc|napi\/)/ };
const UNITS = [{ name: 'shim-napi', needs: /^shim\//, has: /^shim\/(addon\.cc|napi\/)/ }, PLAIN];

function membersOf({ has }) {
  return filesUnder('shim', '.cc').filter((path) => has.test(path));
}

function unit(each) {
  const [path, members] = [`build/units/${each.name}.cc`, membersOf(each)];
  const text = members.map((member) => `#include "${member.slice('shim/'.length)}"\n`).join('');
  return perform({ name: path, from: [], to: [path], key: text, run: () => writeFileSync(path, text) });
}

// ---- For this machine --------------------------------------------------------------------------

const COMPILER = process.env.CXX ?? 'c++';
/** Flags of the environment, with which all is compiled and linked: sanitizers. */
const FLAGS = (process.env.CXXFLAGS ?? '').split(' ').filter((flag) => flag !== '');

/** Builds what of the addon needs nothing that is installed: while that is installed. */
export async function plainUnit() {
  await together(header(), unit(PLAIN));
  await compileUnit(PLAIN, versionOf(COMPILER));
}

export async function addon() {
  const compiler = versionOf(COMPILER);
  await sources();
  const objects = UNITS.map(({ name }) => `build/obj/${name}.o`);
  await together(...UNITS.map((each) => compileUnit(each, compiler)));
  await perform({
    name: RECIPE.output,
    from: objects,
    to: [RECIPE.output],
    key: [compiler, RECIPE.link, FLAGS],
    run: () => execute(COMPILER, ...FLAGS, ...RECIPE.link, ...objects, '-o', RECIPE.output),
  });
}

function compileUnit(each, compiler) {
  const headers = filesUnder('shim', '.h').filter((path) => each.needs.test(path));
  const [path, object] = [`build/units/${each.name}.cc`, `build/obj/${each.name}.o`];
  return perform({
    name: object,
    from: [TOOLS, HEADER, ...headers, path, ...membersOf(each)],
    to: [object],
    key: [compiler, RECIPE.compile, STRICT, FLAGS],
    run: () => execute(COMPILER, ...FLAGS, ...RECIPE.compile, ...STRICT, '-c', path, '-o', object),
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
    key: [versionOf(COMPILER), RECIPE],
    run: () => execute(COMPILER, ...RECIPE.compile, ...STRICT, ...RECIPE.link, source, '-ldl', '-o', output),
  });
}

function versionOf(compiler) {
  const { stdout, error } = spawnSync(compiler, ['--version'], { encoding: 'utf8' });
  if (!error) return stdout;
  throw new StepError(
    `A C++17 compiler is needed, and "${compiler}" does not start (${error.code}).\n` +
      `Install one (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; Alpine: apk add g++),\n` +
      'or say in the environment variable CXX where it is.',
  );
}

/** The addon of this machine, where the package has it. */
export function hostPrebuild() {
  const output = `build/prebuilds/${hostName()}.node`;
  return perform({
    name: output,
    from: [RECIPE.output],
    to: [output],
    run: () => {
      // With those of the sources before, for other machines.
      for (const path of filesUnder('build/prebuilds', '.node')) rmSync(path);
      copyFileSync(RECIPE.output, output);
    },
  });
}

function hostName() {
  const libc = /\/(ld-musl-[^/]*|libc\.so)$/m.test(readFileSync('/proc/self/maps', 'latin1')) ? 'musl' : 'glibc';
  return `${process.platform}-${process.arch}-${libc}`;
}

// ---- For the package ---------------------------------------------------------------------------

/** Machines that the package brings an addon for. The compilers are Debian's. */
const MACHINES = [
  { name: 'linux-x64-glibc', compiler: 'x86_64-linux-gnu-g++', debian: 'g++-x86-64-linux-gnu' },
  { name: 'linux-x64-musl', compiler: 'x86_64-linux-gnu-g++', debian: 'musl-dev', adapt: forMusl },
  { name: 'linux-arm64-glibc', compiler: 'aarch64-linux-gnu-g++', debian: 'g++-aarch64-linux-gnu' },
];

/** Builds all of them; this machine's own is the addon as it is. */
export async function prebuilds() {
  const others = MACHINES.filter(({ name }) => name !== hostName());
  const missing = others.filter(({ compiler, adapt }) => {
    return spawnSync(compiler, ['--version']).error || (adapt && !existsSync(MUSL_HEADERS));
  });
  if (missing.length > 0) {
    const [names, packages] = [missing.map(({ name }) => name), missing.map(({ debian }) => debian)];
    throw new StepError(`The addon cannot be built for ${names.join(', ')}: apt-get install ${packages.join(' ')}`);
  }
  await addon();
  await hostPrebuild();
  await together(...others.map(prebuild));
}

function prebuild({ name, compiler, adapt = (flags) => flags }) {
  const output = `build/prebuilds/${name}.node`;
  return perform({
    name: output,
    from: [TOOLS, HEADER, 'ts/dev/addon.mjs', ...filesUnder('shim', '.h', '.cc'), ...RECIPE.units],
    to: [output],
    key: [versionOf(compiler), RECIPE],
    run: () =>
      execute(compiler, ...adapt([...RECIPE.compile, ...STRICT, ...RECIPE.link, ...RECIPE.units]), '-o', output),
  });
}

const MUSL_HEADERS = '/usr/include/x86_64-linux-musl';

/**
 * Adapts flags to musl: its headers in place of glibc's, the kernel's beside them, and libstdc++ as Debian has it,
 * which is linked at run time. The C library is linked to nothing: the process has it.
 */
function forMusl(flags) {
  const library = dirname(spawnSync('x86_64-linux-gnu-g++', ['-print-libgcc-file-name'], { encoding: 'utf8' }).stdout);
  const version = basename(library);
  const kernel = 'build/obj/kernel-headers';
  rmSync(kernel, { recursive: true, force: true });
  mkdirSync(kernel, { recursive: true });
  for (const name of ['linux', 'asm-generic', 'x86_64-linux-gnu/asm']) {
    symlinkSync(`/usr/include/${name}`, `${kernel}/${basename(name)}`);
  }
  const headers = [
    ...[`/usr/include/c++/${version}`, `/usr/include/x86_64-linux-gnu/c++/${version}`],
    ...[`${library}/include`, MUSL_HEADERS, kernel],
  ];
  return [
    ...['-nostdinc', '-nostdinc++', ...headers.flatMap((folder) => ['-isystem', folder])],
    ...['-U_FORTIFY_SOURCE', '-include', 'shim/host/musl_cross.h', '-nostdlib', `${library}/crtbeginS.o`, ...flags],
    ...[`-L${library}`, '-lstdc++', '-lgcc_s', '-lgcc', `${library}/crtendS.o`],
  ];
}
