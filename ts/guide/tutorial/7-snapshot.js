// Step 7: the end, and a beginning. A machine is taken apart in order, its RAM is kept, and another one goes on with it.

import { GuestMemoryBuilder, KvmPartition } from 'membacking';
import { startAt } from './real-mode.js';

const ranges = [{ gpa: 0, length: 0xa0000 }];
const program = [
  [0xff, 0x06, 0x00, 0x20], // inc word [2000]
  [0xe6, 0x80], //             out 80, al
  [0xeb, 0xf8], //             jmp            from the beginning
];

/** Runs a machine until the guest has counted some numbers; `prepare` says where it begins. */
function machine(manager, numbers, prepare) {
  const partition = KvmPartition.open();
  manager.attachPartition(partition);
  const vcpu = partition.createVcpu(0);
  prepare(vcpu, partition);
  for (let i = 0; i < numbers; i++) vcpu.run();
  const state = { vcpu: vcpu.save(), partition: partition.save() }; // between two instructions; plain data
  vcpu.close(); //      who runs,
  partition.close(); // who has slots; the memory is the manager's
  return state;
}

const first = new GuestMemoryBuilder().addRam({ name: 'ram', ranges }).build();
first.guestMemory.write(0x1000, Uint8Array.from(program.flat()));
const state = machine(first, 3, (vcpu) => startAt(vcpu, 0x1000));
console.log(`the first machine counted to ${first.guestMemory.readU16(0x2000)}`);
const backing = first.sharedMemory(); // keeps the bytes, not where they lie
first.close();

const second = new GuestMemoryBuilder()
  .addRam({ name: 'ram', ranges, backing: { kind: 'handed-over', backing } })
  .build();
machine(second, 2, (vcpu, partition) => {
  partition.restore(state.partition);
  vcpu.restore(state.vcpu);
});
console.log(`the second went on to ${second.guestMemory.readU16(0x2000)}`);
second.close();
backing.close();
