// Parts of the lab's machine: a kernel, an initrd, versions of Node, and the guests of some tests. What is made of
// packages lies in build/lab/.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { perform, StepError } from '../../ts/dev/steps.mjs';
import { setUpGuests } from './guests.mjs';
import { initrd } from './initrd.mjs';
import { debianPackage, kernelOf, newestKernel, nodeProgram, run } from './packages.mjs';

const MODULES = ['kvm-amd', 'virtio_pci', '9pnet_virtio', '9p'];
const INIT = 'build/lab/init';
const INITRD = 'build/lab/initrd';

/** Debian's package of QEMU, and the program that the lab runs. */
export const QEMU = { package: 'qemu-system-x86', program: 'qemu-system-x86_64' };

/** The oldest Node that is supported, and the newest there is, as the npm registry calls them. */
export const NODES = ['20', 'latest'];

/**
 * Kernel and initrd of the machine and of the guests in it, and a program of each version of Node. Throws a StepError
 * that says what is missing, and how to get it.
 * @param {string[]} versions some of NODES
 */
export async function setUp(versions) {
  if (spawnSync(QEMU.program, ['--version']).status !== 0) {
    throw new StepError(`the lab needs QEMU (Debian: apt-get install ${QEMU.package})`);
  }
  const folder = debianPackage(newestKernel('linux-image-amd64'));
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
  await setUpGuests();
  return { kernel: kernelOf(folder), initrd: INITRD, nodes };
}
