// A guest memory manager with a real guest in it, for tests that ask what the guest sees.

import { readFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import type { Vcpu } from '../../ts/core/native.ts';
import type { AttachedPartition } from '../../ts/guest/attached-partition.ts';
import { GuestMemoryBuilder, type GuestMemoryOptions } from '../../ts/guest/builder.ts';
import type { GuestMemoryManager } from '../../ts/guest/manager.ts';
import type { RamOptions } from '../../ts/guest/ram-options.ts';
import type { Vtl } from '../../ts/guest/vtl.ts';
import { KvmPartition, vmOf } from '../../ts/sinks/kvm.ts';
import { enterUserMode, guestImage, type Inputs, kvmTest, type Program, runOnce } from './guest.ts';

export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

/** A virtual machine on a manager. What it does is said as tests/support/guest.ts says exits. */
export class Guest {
  readonly partition = KvmPartition.open();
  readonly attached: AttachedPartition;
  readonly vcpu: Vcpu;

  constructor(manager: GuestMemoryManager, options: { vtl?: Vtl } = {}) {
    this.attached = manager.attachPartition(this.partition, options);
    this.vcpu = vmOf(this.partition).createVcpu(0);
    enterUserMode(this.vcpu);
  }

  run(program: Program, inputs: Inputs): string {
    return runOnce(this.vcpu, program, inputs);
  }
  read(gpa: number): string {
    return this.run('read', { rbx: gpa });
  }
  write(gpa: number, value: number): string {
    return this.run('write', { rbx: gpa, rax: value });
  }

  close(): void {
    this.vcpu.close();
    this.partition.close();
  }
}

/** Text of a guest that has read, and one that has written, `value`. */
export const got = (value: number) => `out 10 = ${value.toString(16)}`;
export const wrote = (value: number) => `out 11 = ${value.toString(16)}`;

interface VmSpec extends GuestMemoryOptions {
  /** RAM of the guest. Default: 4 MiB of shared memory at 0. */
  ram?: RamOptions[];
}

/** A built manager with the test guest's program in its RAM. */
export function buildVm({
  ram = [{ ranges: [{ gpa: 0, length: 4 * MIB }] }],
  ...options
}: VmSpec = {}): GuestMemoryManager {
  const builder = new GuestMemoryBuilder({ maxAddress: 16 * GIB - 1, debug: true, ...options });
  for (const block of ram) builder.addRam(block);
  const manager = builder.build();
  manager.guestMemory.write(0, guestImage());
  return manager;
}

/** A test with a manager and a real guest at VTL0. */
export function vmTest(
  title: string,
  spec: VmSpec,
  body: (t: ExecutionContext, manager: GuestMemoryManager, guest: Guest) => void | Promise<void>,
): void {
  kvmTest(title, async (t) => {
    const manager = buildVm(spec);
    const guest = new Guest(manager);
    try {
      await body(t, manager, guest);
    } finally {
      manager.close();
      guest.close();
    }
  });
}

/** Bits of this machine's physical addresses: KVM has no slots beyond what they reach. */
export function addressWidth(): number {
  return Number(/address sizes\s*: (\d+) bits physical/.exec(readFileSync('/proc/cpuinfo', 'utf8'))![1]);
}
