// The lab's machine: an emulated processor with stock kvm-amd and nested paging, and this machine's files, read-only.

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { QEMU } from './set-up.mjs';

const SCRATCH = 'build/lab/scratch';
const JOB = 'build/lab/job.sh';

/** Processors, by what the tests make of them. */
export const PROCESSORS = { 'with protection keys': 'max', 'without protection keys': 'max,-pku' };

/** Several emulation threads run patched code wrongly: V8 crashes. */
const MACHINE = '-accel tcg,thread=single -M q35 -smp 2 -m 6G -display none -nodefaults -no-reboot -serial stdio';
const FILES = 'local,path=/,mount_tag=host,security_model=none,multidevs=remap,readonly=on';

/**
 * Runs a shell script in the machine and gives each line that it writes.
 * @param {{ kernel: string, initrd: string }} parts see `setUp`
 * @param {string} processor one of PROCESSORS
 * @param {string} script
 */
export async function* linesOf(parts, processor, script) {
  mkdirSync(SCRATCH, { recursive: true });
  writeFileSync(JOB, script);
  const append = `console=ttyS0 loglevel=3 panic=-1 mitigations=off job=${resolve(JOB)} scratch=${resolve(SCRATCH)}`;
  const start = ['-cpu', processor, '-kernel', parts.kernel, '-initrd', parts.initrd, '-append', append];
  const qemu = spawn(QEMU.program, [...MACHINE.split(' '), ...start, '-virtfs', FILES], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const end = () => qemu.kill('SIGKILL');
  process.once('exit', end);
  try {
    for await (const line of createInterface({ input: qemu.stdout })) yield line;
  } finally {
    end();
    process.off('exit', end);
  }
}
