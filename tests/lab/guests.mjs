// Guests of the lab that are whole systems: Debian's kernels for clouds with a program of ours, started as they are and
// from a disk.

import { truncateSync, writeFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { perform } from '../../ts/dev/steps.mjs';
import { initrd } from './initrd.mjs';
import { debianPackage, kernelOf, newestKernel, run } from './packages.mjs';

/** Debian's packages that name the newest kernel of each line. The last one is on the disk as well. */
const KERNELS = ['linux-image-cloud-amd64', 'linux-image-6.12-cloud-amd64'];
const MODULES = ['virtio_pci', 'virtio_blk'];
const INIT = 'tests/lab/guest-init.sh';
const COMMAND_LINE = 'console=ttyS0 panic=-1';

/** List of the guests for the tests, as JSON: each { name, commandLine, kernel, initrd } or { name, disk }. */
export const GUESTS = 'build/lab/guests.json';

/** Makes the guests. Throws a StepError that says what is missing, and how to get it. */
export async function setUpGuests() {
  const folders = KERNELS.map((name) => debianPackage(newestKernel(name)));
  const [busybox, mtools, syslinux] = ['busybox-static', 'mtools', 'syslinux'].map(debianPackage);
  await perform({
    name: GUESTS,
    from: [INIT, 'tests/lab/initrd.mjs', 'tests/lab/guests.mjs'],
    to: [GUESTS],
    key: folders.join(),
    run: () => {
      const guests = folders.map((folder) => {
        const archive = resolve(`build/lab/${basename(folder)}.initrd`);
        writeFileSync(archive, initrd(INIT, `${folder}/lib/modules`, MODULES, { busybox: `${busybox}/bin/busybox` }));
        return { name: basename(folder), commandLine: COMMAND_LINE, kernel: kernelOf(folder), initrd: archive };
      });
      const disk = resolve('build/lab/linux.disk');
      writeDisk(disk, guests.at(-1), [mtools, syslinux]);
      writeFileSync(GUESTS, JSON.stringify([...guests, { name: `${guests.at(-1).name} on a disk`, disk }]));
    },
  });
}

/** Writes a disk from which firmware starts a kernel: a FAT file system with SYSLINUX as its boot loader. */
function writeDisk(disk, { commandLine, kernel, initrd }, packages) {
  const settings = 'build/lab/syslinux.cfg';
  writeFileSync(settings, `DEFAULT linux\nLABEL linux\nKERNEL kernel\nAPPEND initrd=initrd ${commandLine}\n`);
  const path = [...packages.map((folder) => `${folder}/usr/bin`), process.env.PATH].join(':');
  const inImage = (program, ...args) => run('env', `PATH=${path}`, 'MTOOLS_SKIP_CHECK=1', program, '-i', disk, ...args);
  writeFileSync(disk, '');
  truncateSync(disk, 64 * 2 ** 20);
  inImage('mformat', '-h', '16', '-s', '63', '-t', '130', '::');
  inImage('syslinux');
  for (const [file, name] of [
    [kernel, 'kernel'],
    [initrd, 'initrd'],
    [settings, 'syslinux.cfg'],
  ]) {
    inImage('mcopy', file, `::${name}`);
  }
}
