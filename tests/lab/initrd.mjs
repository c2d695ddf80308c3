// Initrds of the lab's machine and of the guests in it: cpio archives of the first program and the kernel modules
// that it loads.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';

const DIRECTORY = 0o040755;
const PROGRAM = 0o100755;
const CONSOLE = { mode: 0o020600, major: 5, minor: 1 };

/**
 * The archive, not compressed.
 * @param {string} init the first program's path
 * @param {string} folder where the kernel's modules lie
 * @param {string[]} modules that are needed, and with them those that they need
 * @param {Record<string, string>} programs paths of further programs, by their names in /bin
 */
export function initrd(init, folder, modules, programs = {}) {
  const program = (path) => ({ mode: PROGRAM, content: readFileSync(path) });
  const files = inOrder(folder, modules).map(({ name, content }) => [`modules/${name}.ko`, { mode: PROGRAM, content }]);
  const list = Buffer.from(files.map(([path]) => `/${path}\n`).join(''));
  return cpio([
    ...['bin', 'dev', 'proc', 'modules'].map((path) => [path, { mode: DIRECTORY }]),
    ['dev/console', CONSOLE],
    ...files,
    ['modules/list', { mode: PROGRAM, content: list }],
    ['init', program(init)],
    ...Object.entries(programs).map(([name, path]) => [`bin/${name}`, program(path)]),
  ]);
}

/** The modules, each behind those that it needs. One that is part of the kernel itself has no file, and needs none. */
function inOrder(folder, wanted) {
  const paths = readdirSync(folder, { recursive: true }).filter((path) => /\.ko(\.xz)?$/.test(path));
  const pathOf = new Map(paths.map((path) => [nameOf(basename(path).replace(/\.ko.*/, '')), `${folder}/${path}`]));
  const modules = new Map();
  const add = (name) => {
    const path = pathOf.get(name);
    if (path === undefined || modules.has(name)) return;
    const content = path.endsWith('.xz') ? execFileSync('xz', ['-dc', path], UNLIMITED) : readFileSync(path);
    for (const needed of neededBy(content)) add(needed);
    modules.set(name, { name, content });
  };
  for (const name of wanted) add(nameOf(name));
  return [...modules.values()];
}

const UNLIMITED = { maxBuffer: Number.POSITIVE_INFINITY };

/** Name of a module as the kernel spells it. */
function nameOf(name) {
  return name.replaceAll('-', '_');
}

/** Names of the modules that a module says it needs, in its section .modinfo. */
function neededBy(content) {
  const [, names] = /\0depends=([^\0]*)\0/.exec(content.toString('latin1')) ?? [];
  return (names ?? '').split(',').filter((name) => name !== '');
}

/** Archive in the kernel's format `newc`: a header of hexadecimal fields, name and content, each up to a multiple of 4
 *  bytes. */
function cpio(entries) {
  const parts = [...entries, ['TRAILER!!!', { mode: 0 }]].flatMap(([path, file], index) => {
    const { mode, content = Buffer.alloc(0), major = 0, minor = 0 } = file;
    const name = Buffer.from(`${path}\0`);
    const fields = [index + 1, mode, 0, 0, 1, 0, content.length, 0, 0, major, minor, name.length, 0];
    const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
    return [padded(Buffer.concat([header, name])), padded(content)];
  });
  return Buffer.concat(parts);
}

function padded(bytes) {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
