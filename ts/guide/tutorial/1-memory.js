// Step 1: memory. The RAM of a guest, and the monitor's own way into it.

import { GuestMemoryBuilder } from 'membacking';

const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 32 - 1 })
  .addRam({ name: 'ram', ranges: [{ gpa: 0, length: 0xa0000 }] })
  .build();
const { guestMemory } = manager;

guestMemory.writeU32(0x2000, 0x600d);
console.log(`at 2000: ${guestMemory.readU32(0x2000).toString(16)}`);

try {
  guestMemory.readU8(0xa0000); // the first byte behind it
} catch (error) {
  console.log(`${error.code} at ${error.details.gpa.toString(16)}`);
}

console.log(manager); // what the guest will see
manager.close();
