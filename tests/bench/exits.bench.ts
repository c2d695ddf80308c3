// Exits of a native guest (long mode, CPL3) that JavaScript handles, against a C++ loop on the same vCPU.

import { readdirSync, readlinkSync } from 'node:fs';
import { KVM_EXIT, KvmPartition, MemoryMap, SharedMemory, Vcpu } from '../../ts/index.ts';
import { vmOf } from '../../ts/sinks/kvm.ts';
import { enterUserMode, GUEST_SIZE, guestImage, type Program, start } from '../support/cpl3-guest.ts';
import { baseline } from './support/baseline.ts';
import { runGroup } from './support/group.ts';
import { compare, speedAtLeast } from './support/measure.ts';

const EXITS = 1000;
/** Bytes that KVM shares with whoever runs a vCPU, on every x86-64 kernel so far. */
const KVM_RUN_SIZE = 12_288;

function vcpuDescriptor(): number {
  const found = readdirSync('/proc/self/fd').find((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('anon_inode:kvm-vcpu');
    } catch {
      return false;
    }
  });
  return Number(found);
}

/** A device: what the guest writes is what it reads next. */
function handle(vcpu: Vcpu): void {
  const { exit } = vcpu;
  let latch = 0;
  for (let i = 0; i < EXITS; i++) {
    const reason = vcpu.run();
    if (reason !== KVM_EXIT.IO && reason !== KVM_EXIT.MMIO) throw new Error(`exit ${reason}`);
    if (exit.isWrite) latch = exit.dataView.getUint32(0, true);
    else exit.dataView.setUint32(0, latch, true);
  }
}

await runGroup(async (group) => {
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'container', size: 2 ** 32 });
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size: GUEST_SIZE });
  ram.map({ object: SharedMemory.create(GUEST_SIZE), length: GUEST_SIZE });
  ram.place(root);
  const space = map.createAddressSpace({ name: 'guest', root });
  const va = map.attachVaSpace(space, { size: 2 ** 32 });
  const partition = KvmPartition.open();
  map.attachPartition(partition, { space, va });
  va.memory.write(0, guestImage());
  const addonVcpu = vmOf(partition).createVcpu(0);
  enterUserMode(addonVcpu);
  const vcpu = Vcpu.of(0, addonVcpu);
  const descriptor = vcpuDescriptor();
  const programs: [string, Program, number][] = [
    ['port exits', 'echo', 0],
    ['MMIO and port exits in turns', 'write', 0x8000_0000],
  ];
  for (const [name, program, rbx] of programs) {
    group.doing(name);
    start(addonVcpu, program, { rbx });
    await group.add(
      compare({
        ...{ what: `${name}, handled in JavaScript`, operations: EXITS, goals: [speedAtLeast(0.8)] },
        ours: { run: () => handle(vcpu) },
        baseline: { what: 'a C++ loop', run: () => baseline.exits(descriptor, KVM_RUN_SIZE, EXITS) },
      }),
    );
  }
});
