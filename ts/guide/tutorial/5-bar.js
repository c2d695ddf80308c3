// Step 5: a BAR. Memory of a device, which the guest places where it likes.

import { GuestMemoryBuilder, KvmPartition, SharedMemory } from 'membacking';
import { startAt } from './real-mode.js';

const PAGE = 0x1000;
const manager = new GuestMemoryBuilder().addRam({ name: 'ram', ranges: [{ gpa: 0, length: 0xa0000 }] }).build();
const memory = SharedMemory.create(PAGE, { name: 'device memory' });
const { control, region } = manager.deviceMapper.newRegion(PAGE, 'bar 0');
region.map(0, memory.fd, 0, PAGE, true); // the device's side: what it shows

const program = [
  [0xb8, 0x00, 0xc0], //       mov ax, c000
  [0xe7, 0x10], //             out 10, ax
  [0x8e, 0xc0], //             mov es, ax
  [0xb0, 0x42], //             mov al, 'B'
  [0x26, 0xa2, 0x00, 0x00], // mov [es:0], al
  [0xb8, 0x00, 0xd0], //       mov ax, d000
  [0xe7, 0x10], //             out 10, ax
  [0x8e, 0xc0], //             mov es, ax
  [0x26, 0xa0, 0x00, 0x00], // mov al, [es:0]
  [0xe6, 0xe9], //             out e9, al
  [0xf4], //                   hlt
];
manager.guestMemory.write(0x1000, Uint8Array.from(program.flat()));

const partition = KvmPartition.open();
manager.attachPartition(partition);
const vcpu = partition.createVcpu(0);
startAt(vcpu, 0x1000);

for (let exit = vcpu.runToExit(); exit.kind === 'io'; exit = vcpu.runToExit()) {
  if (exit.port === 0x10) {
    const gpa = (exit.data[0] | (exit.data[1] << 8)) * 16;
    control.mapToGuest(gpa); // the bus's side: where it is; what it shows goes along
    console.log(`the BAR is at ${gpa.toString(16)}`);
  } else {
    console.log(`the guest reads ${String.fromCharCode(exit.data[0])}`);
  }
}

const seen = new Uint8Array(1);
memory.read(0, seen);
console.log(`the device sees ${String.fromCharCode(seen[0])}`);
console.log(manager);

vcpu.close();
partition.close();
manager.close();
memory.close();
