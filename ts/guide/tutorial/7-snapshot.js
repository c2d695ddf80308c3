// Step 7: a snapshot. A machine is taken apart in order; its memory and its state go into a folder, and others go on from
// there.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GuestMemoryBuilder, KvmPartition } from 'membacking';
import { startAt } from './real-mode.js';

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

const folder = mkdtempSync(join(tmpdir(), 'tutorial-'));
const first = new GuestMemoryBuilder().addRam({ name: 'ram', ranges: [{ gpa: 0, length: 0xa0000 }] }).build();
first.guestMemory.write(0x1000, Uint8Array.from(program.flat()));
const state = machine(first, 3, (vcpu) => startAt(vcpu, 0x1000));
console.log(`the first machine counted to ${first.guestMemory.readU16(0x2000)}`);
await first.snapshot(folder, { state }); // its memory, with what lies where; until this is done nobody writes
first.close();

for (const numbers of [2, 4]) {
  const { manager, state } = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'map' });
  machine(manager, numbers, (vcpu, partition) => {
    partition.restore(state.partition);
    vcpu.restore(state.vcpu);
  });
  console.log(`another one went on to ${manager.guestMemory.readU16(0x2000)}`);
  manager.close();
}
rmSync(folder, { recursive: true });
