// The lab's machine: an emulated processor with stock kvm-amd and nested paging, and this machine's files, read-only.

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { StepError } from '../../ts/dev/steps.mjs';
import { QEMU } from './set-up.mjs';

const SCRATCH = 'build/lab/scratch';
const JOB = 'build/lab/job.sh';

/** Machines that all tests run in, by what the tests make of their processors. */
export const MACHINES = {
  'with protection keys': { processor: 'max', processors: 2 },
  'without protection keys': { processor: 'max,-pku', processors: 2 },
};

/** Machine for guests that are whole systems, around two mistakes of QEMU 7.2: it leaves KVM's view of XSAVE stale, and
 *  an interrupt that KVM injects can reach the guest twice, when the emulator turns to another processor. See BEAT for
 *  a third one. */
export const SYSTEMS_MACHINE = { processor: 'max,-pku,-xsave', processors: 1 };

/** Machine for OVMF: its time goes on with the instructions that it has run, so that an interrupt seldom waits while
 *  another one is served, which ends QEMU 7.2 in an assertion where the guest writes CR8 then. */
export const FIRMWARE_MACHINE = { ...SYSTEMS_MACHINE, options: ['-icount', 'shift=0,sleep=off'] };

/** Several emulation threads run patched code wrongly: V8 crashes. */
const MACHINE = '-accel tcg,thread=single -M q35 -m 6G -display none -nodefaults -no-reboot -serial stdio';
const FILES = 'local,path=/,mount_tag=host,security_model=none,multidevs=remap,readonly=on';

/** Second serial port of the machine: descriptor 3, a socket. */
const PULSE = '-chardev socket,id=pulse,fd=3 -serial chardev:pulse';
/** Milliseconds between two beats: bytes that a program of the lab's own sends back. QEMU 7.2 loses an interrupt that
 *  comes just as KVM enters or leaves a guest: the timer's waits in the APIC then, and the processor stays in the
 *  guest, until there is another interrupt. A beat is one. */
const BEAT = 1000;
/** Milliseconds without a beat after which a machine stands still. */
const STANDSTILL = 180_000;

/**
 * Runs a shell script in the machine and gives each line that it writes. Throws a StepError where the
 * machine stands still.
 * @param {{ kernel: string, initrd: string }} parts see `setUp`
 * @param {{ processor: string, processors: number, options?: string[] }} machine one of those above
 * @param {string} script
 */
export async function* linesOf(parts, { processor, processors, options = [] }, script) {
  mkdirSync(SCRATCH, { recursive: true });
  writeFileSync(JOB, script);
  const append = `console=ttyS0 loglevel=3 panic=-1 mitigations=off job=${resolve(JOB)} scratch=${resolve(SCRATCH)}`;
  const cpu = ['-cpu', processor, '-smp', String(processors), ...options];
  const start = ['-kernel', parts.kernel, '-initrd', parts.initrd, '-append', append];
  const qemu = spawn(QEMU.program, [...MACHINE.split(' '), ...PULSE.split(' '), ...cpu, ...start, '-virtfs', FILES], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  });
  const end = () => qemu.kill('SIGKILL');
  const pulse = new Pulse(qemu.stdio[3], end);
  process.once('exit', end);
  try {
    for await (const line of createInterface({ input: qemu.stdout })) yield line;
  } finally {
    pulse.stop();
    end();
    process.off('exit', end);
  }
  if (pulse.hasStopped) throw new StepError(`the machine of the lab has stood still for ${STANDSTILL / 1000} s`);
}

/** Beats of a machine, as long as there are any. */
class Pulse {
  hasStopped = false;
  #beat;
  #watch;

  /** @param {import('node:stream').Duplex} port @param {() => void} end called where no beat comes back any more */
  constructor(port, end) {
    this.#beat = setInterval(() => port.write('.'), BEAT);
    this.#watch = setTimeout(() => {
      this.hasStopped = true;
      end();
    }, STANDSTILL);
    port.on('data', () => this.#watch.refresh());
    port.on('error', () => {}); // the machine has ended
  }

  stop() {
    clearInterval(this.#beat);
    clearTimeout(this.#watch);
  }
}
