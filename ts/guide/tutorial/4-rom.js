// Step 4: a ROM. Firmware at the top of 4 GiB, where processors start, and again below 1 MiB, over RAM.

import { GuestMemoryBuilder, KvmPartition, renderExplanation, SharedMemory } from 'membacking';

const ROM_SIZE = 0x1_0000;
const manager = new GuestMemoryBuilder().addRam({ name: 'ram', ranges: [{ gpa: 0, length: 0x10_0000 }] }).build();
const { map, root, guestMemory } = manager;
guestMemory.write(0xf0100, Buffer.from('r')); // in RAM, which the ROM will hide

const firmware = SharedMemory.create(ROM_SIZE, { name: 'firmware' });
const program = [
  [0xb0, 0x58], //             mov al, 'X'
  [0x2e, 0xa2, 0x00, 0x01], // mov [cs:100], al
  [0x2e, 0xa0, 0x00, 0x01], // mov al, [cs:100]
  [0xe6, 0xe9], //             out e9, al
  [0xf4], //                   hlt
];
firmware.write(0, Uint8Array.from(program.flat()));
firmware.write(0x100, Buffer.from('R'));
firmware.write(0xfff0, Uint8Array.of(0xea, 0x00, 0x00, 0x00, 0xf0)); // jmp f000:0

const rom = map.createRegion({ name: 'rom', kind: 'rom', size: ROM_SIZE });
const high = map.createAlias({ name: 'rom at 4 GiB', target: rom, size: ROM_SIZE });
map.transaction(() => {
  rom.map({ object: firmware });
  rom.place(root, { offset: 0xf0000, priority: 256 }); // RAM is at 255
  high.place(root, { offset: 0xffff_0000 });
});

const partition = KvmPartition.open();
manager.attachPartition(partition);
const vcpu = partition.createVcpu(0); // as after a reset: at fffffff0

for (let exit = vcpu.runToExit(); exit.kind !== 'hlt'; exit = vcpu.runToExit()) {
  if (exit.kind === 'mmio') console.log(`a write to ROM at ${exit.gpa.toString(16)} comes to the monitor`);
  else if (exit.kind === 'io') console.log(`and the guest reads ${String.fromCharCode(exit.data[0])}`);
  else throw new Error(`the guest cannot go on: ${exit.kind}`);
}

console.log(renderExplanation(manager.space.explain(0xf0100)).join('\n'));
rom.remove(); // a chipset that switches to RAM: what was hidden is there unchanged
console.log(`without the ROM: ${String.fromCharCode(guestMemory.readU8(0xf0100))}`);

vcpu.close();
partition.close();
manager.close();
firmware.close();
