// vCPUs as a monitor meets them: what is read is a copy, and a partition that is closed ends the runs of its vCPUs.

import test from 'ava';
import { GuestMemoryBuilder, KvmPartition } from '../ts/index.ts';
import { footprint } from './support/footprint.ts';
import { kvmMissing, kvmTest } from './support/guest.ts';

const CODE = 0x1000;

/** A vCPU about to run real-mode code. */
function machineWith(code: readonly number[]) {
  const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 2 ** 20 }] }).build();
  manager.guestMemory.write(CODE, Uint8Array.from(code));
  const partition = KvmPartition.open();
  manager.attachPartition(partition);
  const vcpu = partition.createVcpu(0);
  vcpu.specialRegisters = { cs: { ...vcpu.specialRegisters.cs, base: 0n, selector: 0 } };
  vcpu.registers = { rip: BigInt(CODE), rflags: 2n };
  return { manager, partition, vcpu };
}

const SPIN = [0xeb, 0xfe];

kvmTest('registers that were read cannot be changed, and say so', (t) => {
  const { manager, partition, vcpu } = machineWith(SPIN);
  // biome-ignore lint/suspicious/noExplicitAny: what the types forbid is tried
  const { registers, specialRegisters }: Record<string, any> = vcpu;
  const changes = [
    () => (registers.rip = 1n),
    () => (specialRegisters.cr3 = 1n),
    () => (specialRegisters.cs.base = 1n),
    () => (specialRegisters.gdt.limit = 1),
  ];
  for (const change of changes) t.throws(change, { instanceOf: TypeError }, `${change}`);
  t.deepEqual(vcpu.registers, registers);
  t.deepEqual(vcpu.specialRegisters, specialRegisters);
  vcpu.registers = { ...registers, rax: 7n };
  t.is(vcpu.registers.rax, 7n);
  vcpu.close();
  partition.close();
  manager.close();
});

(kvmMissing ? test.skip : test.serial)(
  'closing a partition ends a run as one that is kicked, at whatever moment',
  async (t) => {
    const before = footprint();
    for (let round = 0; round < 40; round++) {
      const { manager, partition, vcpu } = machineWith(SPIN);
      if (round % 4 === 3) partition.pause();
      const run = vcpu.runAsync();
      // As the thread begins, when it is about to enter the guest, and when it is in it.
      if (round % 4 === 1) await new Promise(setImmediate);
      if (round % 4 === 2) await new Promise((resolve) => setTimeout(resolve, 5));
      if (round % 8 < 4) vcpu.kick();
      partition.close();
      t.deepEqual(await run, { kind: 'kicked' });
      const runOn = () => {
        for (;;) t.is(vcpu.runToExit().kind, 'kicked');
      };
      t.throws(runOn, { code: 'SYSTEM', message: /EBADF/ });
      vcpu.close();
      manager.close();
    }
    // The thread of the last run lets go a moment after the run has ended.
    while (footprint().descriptors.length > before.descriptors.length) await new Promise(setImmediate);
    t.deepEqual(footprint(), before);
  },
);
