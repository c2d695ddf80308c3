// Step 2: a guest. A virtual machine of KVM sees the memory, and a vCPU runs a program in it.

import { GuestMemoryBuilder, KvmPartition } from 'membacking';
import { startAt } from './real-mode.js';

const manager = new GuestMemoryBuilder().addRam({ name: 'ram', ranges: [{ gpa: 0, length: 0xa0000 }] }).build();
const { guestMemory } = manager;

const program = [
  [0xa1, 0x00, 0x20], // mov ax, [2000]
  [0x05, 0x01, 0x00], // add ax, 1
  [0xa3, 0x00, 0x20], // mov [2000], ax
  [0xf4], //             hlt
];
guestMemory.write(0x1000, Uint8Array.from(program.flat()));
guestMemory.writeU16(0x2000, 41);

const partition = KvmPartition.open();
const attached = manager.attachPartition(partition); // from now on it has memory slots for what there is
const vcpu = partition.createVcpu(0);
startAt(vcpu, 0x1000);

console.log(vcpu.runToExit().kind);
console.log(`at 2000: ${guestMemory.readU16(0x2000)}`);
console.log(attached.attachments[0].slots());

vcpu.close();
partition.close();
manager.close();
