// A kernel starts without firmware, by the 64-bit boot protocol of Linux; this one is a few bytes of ours.

import { readSync } from 'node:fs';
import test from 'ava';
import { KvmPartition, SharedMemory } from '../ts/index.ts';
import { Monitor, type MonitorOptions } from '../ts/vmm/index.ts';
import { footprint } from './support/footprint.ts';
import { kvmTest } from './support/guest.ts';
import { bzImage, KERNEL_LEAVES } from './support/pc-guests.ts';

kvmTest('a bzImage gets its command line, initrd and memory map, and moves a BAR', async (t) => {
  const sent: number[] = [];
  const commandLine = 'console=ttyS0 quiet';
  const monitor = new Monitor({
    memory: 0xd000_0000, // more than lies below PCI's addresses
    start: { linux: { kernel: bzImage(), initrd: Buffer.from('INITRD'), commandLine } },
    onSerial: (byte) => sent.push(byte),
  });
  const timer = setTimeout(() => monitor.stop(), 30_000);
  try {
    t.deepEqual(await monitor.run(), { kind: 'exit', status: 0 });
    const bytes = Buffer.from(sent);
    const table = bytes.subarray(commandLine.length + 1);
    t.is(bytes.toString('latin1', 0, commandLine.length + 1), `${commandLine}\0`);
    const entries = Array.from({ length: table[0]! }, (_, i) => ({
      gpa: Number(table.readBigUInt64LE(1 + i * 20)),
      length: Number(table.readBigUInt64LE(9 + i * 20)),
      type: table.readUInt32LE(17 + i * 20),
    }));
    t.deepEqual(entries, [
      { gpa: 0, length: 0xa0000, type: 1 },
      { gpa: 0x10_0000, length: 0xbff0_0000, type: 1 },
      { gpa: 0x1_0000_0000, length: 0x1000_0000, type: 1 },
    ]);
    const rest = table.subarray(1 + entries.length * 20);
    t.is(rest.toString('latin1', 0, 4), 'INIT');
    t.is(rest.readUInt32LE(4), KERNEL_LEAVES.word, 'the BAR shows the same memory where it was moved to');

    t.deepEqual(monitor.sharedMemoryDevice.bars, [KERNEL_LEAVES.bar]);
    t.is(monitor.memory.guestMemory.readU8(0xb8000), KERNEL_LEAVES.letter);
    const word = Buffer.alloc(4);
    readSync(monitor.sharedMemory.fd, word, 0, 4, 0);
    t.is(word.readUInt32LE(), KERNEL_LEAVES.word);
  } finally {
    clearTimeout(timer);
    monitor.close();
  }
});

kvmTest('what is no kernel, or does not fit, is refused in words', (t) => {
  const start =
    (kernel: Uint8Array, more: object = {}) =>
    () => {
      new Monitor({ memory: 0x400_0000, start: { linux: { kernel, ...more } } }).close();
    };
  t.throws(start(new Uint8Array(0x2000)), { code: 'INVALID_ARGUMENT', message: /no Linux kernel/ });
  t.throws(start(bzImage({ hasEntry64: false })), { message: /no 64-bit entry/ });
  t.throws(start(bzImage().subarray(0, -16)), { message: /cut off: it should have 5120 bytes, and has 5104/ });
  t.throws(start(bzImage({ setupSectors: 255 })), { message: /cut off: it should have 135168 bytes, and has 5120/ });
  for (const preferredAddress of [0n, 0xff000n, 0x1_0000_0000n, 0xffff_ffff_ffff_f000n]) {
    const message =
      /^this kernel wants to lie at 0x[\da-f]+ to .* here a kernel must lie between 0x100000 and 0xc0000000$/;
    t.throws(start(bzImage({ preferredAddress })), { message });
  }
  t.throws(start(bzImage({ preferredAddress: 0x400_0000n })), { message: /RAM up to 0x4010000 .* more memory/ });
  t.throws(start(bzImage(), { initrd: new Uint8Array(0x400_0000) }), { message: /more memory/ });
  const initrd = new Uint8Array(1);
  t.throws(start(bzImage({ initrdLimit: 0 }), { initrd }), {
    message: /no place for an initrd of 1 bytes: .* and 0x1,/,
  });
  start(bzImage({ initrdLimit: 0 }))();
  t.throws(start(bzImage(), { commandLine: 'x'.repeat(256) }), { message: /command line has 256 bytes/ });
});

test('what a monitor cannot be made of is refused in words', (t) => {
  const linux = { kernel: bzImage() };
  const firmware = new Uint8Array(0x1_0000);
  const wrong: [object | undefined, RegExp][] = [
    [undefined, /^start must be/],
    [{}, /^start must be/],
    [{ start: {} }, /^start must be/],
    [{ start: null }, /^start must be/],
    [{ start: { linux: null } }, /^start must be/],
    [{ start: { linux: {} } }, /^start must be/],
    [{ start: { linux: { kernel: 'vmlinuz' } } }, /^start must be/],
    [{ start: { firmware: 'x'.repeat(0x1_0000) } }, /^start must be/],
    [{ start: { firmware: new Uint8Array(100) } }, /whole 4 KiB/],
    [{ start: { firmware, firmwareVariables: {} } }, /^firmwareVariables must be/],
    [{ start: { firmware: new Uint8Array(0x100_1000) } }, /up to 16 MiB/],
    [{ start: { linux }, memory: 0x10_0001 }, /whole MiB/],
    [{ start: { linux }, memory: 0x400_0000n }, /whole MiB/],
    [{ start: { firmware }, memory: Number.NaN }, /whole MiB/],
    [{ start: { firmware }, cpus: 0 }, /^cpus must be from 1 to 64$/],
    [{ start: { firmware }, cpus: 1.5 }, /^cpus must be from 1 to 64$/],
    [{ start: { firmware }, cpus: '2' }, /^cpus must be from 1 to 64$/],
  ];
  for (const [options, message] of wrong) {
    t.throws(() => new Monitor(options as MonitorOptions), { code: 'INVALID_ARGUMENT', message });
  }
});

kvmTest('a monitor that cannot be made leaves nothing, wherever its making fails', (t) => {
  const make = () => new Monitor({ memory: 0x40_0000, start: { firmware: new Uint8Array(0x1_0000) } }).close();
  make();
  const before = footprint();
  const { create } = SharedMemory;
  t.teardown(() => Object.assign(SharedMemory, { create }));
  let left = 0;
  SharedMemory.create = (...args) => {
    if (left-- === 0) throw new Error('there are no more descriptors');
    return create.call(SharedMemory, ...args);
  };
  for (const [made, what] of ['RAM', 'flash', 'video memory', 'shared memory'].entries()) {
    left = made;
    t.throws(make, { message: 'there are no more descriptors' });
    t.deepEqual(footprint(), before, what);
  }
  make();
  const { createVcpu } = KvmPartition.prototype;
  t.teardown(() => Object.assign(KvmPartition.prototype, { createVcpu }));
  KvmPartition.prototype.createVcpu = () => {
    throw new Error('there is no vCPU');
  };
  t.throws(make, { message: 'there is no vCPU' });
  t.deepEqual(footprint(), before);
});

kvmTest('a guest that resets itself again and again can be stopped', async (t) => {
  const firmware = new Uint8Array(0x10000);
  firmware.set([0xb0, 0xfe, 0xe6, 0x64], 0xfff0); // mov al, fe; out 64, al
  const monitor = new Monitor({ memory: 0x40_0000, start: { firmware } });
  const timer = setInterval(() => monitor.counts.resets > 1 && monitor.stop(), 10);
  try {
    t.deepEqual(await monitor.run(), { kind: 'stopped' });
  } finally {
    clearInterval(timer);
    monitor.close();
  }
});
