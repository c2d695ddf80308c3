// Step 3: exits. Where no memory is, and at every I/O port, the monitor is the machine.

import { GuestMemoryBuilder, KvmPartition } from 'membacking';
import { startAt } from './real-mode.js';

const manager = new GuestMemoryBuilder().addRam({ name: 'ram', ranges: [{ gpa: 0, length: 0xa0000 }] }).build();
const program = [
  [0xb0, 0x68], //             mov al, 'h'
  [0xe6, 0xe9], //             out e9, al
  [0xe4, 0x60], //             in al, 60
  [0xe6, 0xe9], //             out e9, al
  [0xb8, 0x00, 0xb8], //       mov ax, b800
  [0x8e, 0xc0], //             mov es, ax
  [0x26, 0xa2, 0x00, 0x00], // mov [es:0], al
  [0x26, 0xa0, 0x01, 0x00], // mov al, [es:1]
  [0xe6, 0xe9], //             out e9, al
  [0xf4], //                   hlt
];
manager.guestMemory.write(0x1000, Uint8Array.from(program.flat()));

const partition = KvmPartition.open();
manager.attachPartition(partition);
const vcpu = partition.createVcpu(0);
startAt(vcpu, 0x1000);

/** Answers exits until the guest halts. `data` is what the guest writes, or where its answer goes. */
function run() {
  let printed = '';
  for (;;) {
    const exit = vcpu.runToExit();
    switch (exit.kind) {
      case 'io':
        if (exit.isWrite && exit.port === 0xe9) printed += String.fromCharCode(exit.data[0]);
        else if (exit.port === 0x60) exit.data[0] = 'i'.charCodeAt(0);
        break;
      case 'mmio': // nothing is mapped at a0000 and above
        console.log(`${exit.isWrite ? 'write' : 'read'} at ${exit.gpa.toString(16)}`);
        if (!exit.isWrite) exit.data[0] = '!'.charCodeAt(0);
        break;
      case 'hlt':
        return printed;
      default:
        throw new Error(`the guest cannot go on: ${exit.kind}`);
    }
  }
}

console.log(run());
vcpu.close();
partition.close();
manager.close();
