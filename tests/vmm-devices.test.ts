// The monitor's devices by themselves: no KVM, no firmware.

import test, { type ExecutionContext } from 'ava';
import { formatHex, GuestMemoryBuilder } from '../ts/index.ts';
import {
  assemble,
  type DiskImage,
  HostBridge,
  PciBus,
  PciFunction,
  PortBus,
  portBar,
  SECTOR,
  SEGMENTS,
  SerialPort,
  VirtioBlock,
} from '../ts/vmm/index.ts';

const identity = { vendor: 0x1234, device: 0x5678, classCode: 0x050000 };

function pci(ports: PortBus) {
  const select = (address: number) => ports.write(0xcf8, 4, (0x8000_0000 | (address & 0xfffc)) >>> 0);
  return {
    read(address: number, size: number) {
      select(address);
      return ports.read(0xcfc + (address & 3), size);
    },
    write(address: number, size: number, value: number) {
      select(address);
      ports.write(0xcfc + (address & 3), size, value);
    },
  };
}

test('ports answer whole accesses, wider ones byte by byte, and nobody is all ones', (t) => {
  const ports = new PortBus();
  const seen: string[] = [];
  ports.claim(0x10, 2, {
    widest: 1,
    read: (offset) => 0xa0 + offset,
    write: (offset, size, value) => seen.push(`${offset} ${size} ${value.toString(16)}`),
  });
  t.is(ports.read(0x10, 2), 0xa1a0);
  t.is(ports.read(0x11, 4), 0xffff_ffa1);
  t.is(ports.read(0xffff, 4), 0xffff_ffff);
  ports.write(0x0f, 4, 0xdead_beef);
  t.deepEqual(seen, ['0 1 be', '1 1 ad']);
  const text = new Uint8Array(4);
  ports.access(0x10, 2, false, text);
  t.deepEqual([...text], [0xa0, 0xa1, 0xa0, 0xa1]);
});

test('the guest finds the size of a BAR, and it is decoded only while that is enabled', (t) => {
  const moves: (number | undefined)[] = [];
  class Device extends PciFunction {
    constructor() {
      super(identity);
      this.addBar(1, {
        kind: 'memory',
        size: 0x10000,
        show: (at) => moves.push(at),
        hide: () => moves.push(undefined),
      });
    }
  }
  const ports = new PortBus();
  const bus = new PciBus(ports);
  const device = bus.add(new Device());
  const config = pci(ports);
  t.is(config.read(0, 4), 0x5678_1234);
  config.write(0x14, 4, 0xffff_ffff);
  t.is(config.read(0x14, 4), 0xffff_0008);
  config.write(0x14, 4, 0x8765_4321);
  t.deepEqual(moves, []);
  config.write(4, 2, 2);
  config.write(0x16, 2, 0x9000);
  config.write(0, 4, 0);
  t.is(config.read(0, 2), 0x1234, 'what it is cannot be written');
  t.deepEqual(device.bars, [0x9000_0000]);
  bus.reset();
  t.deepEqual(moves, [0x8765_0000, 0x9000_0000, undefined]);
  t.is(config.read(1 << 11, 4), 0xffff_ffff, 'there is no second device');
  t.is(config.read(1 << 8, 4), 0xffff_ffff, 'and no second function');
});

test('a port BAR answers where it was put last', (t) => {
  class Device extends PciFunction {
    constructor(ports: PortBus) {
      super(identity);
      this.addBar(0, portBar(ports, 0x20, { widest: 4, read: () => 0x77, write() {} }));
    }
  }
  const ports = new PortBus();
  const bus = new PciBus(ports);
  bus.add(new Device(ports));
  const config = pci(ports);
  config.write(4, 2, 1);
  config.write(0x10, 4, 0xc000);
  t.is(config.read(0x10, 4), 0xc001);
  t.is(ports.read(0xc01f, 1), 0x77);
  config.write(0x10, 4, 0xd000);
  t.is(ports.read(0xc000, 1), 0xff);
  t.is(ports.read(0xd000, 1), 0x77);
});

test('PAM and SMRAM registers switch RAM, all segments of one write in one step', (t) => {
  let steps = 0;
  const memory = new GuestMemoryBuilder({ x86LegacySupport: true, record: { write: () => steps++ } })
    .addRam({ ranges: [{ gpa: 0, length: 0x40_0000 }] })
    .build();
  t.teardown(() => memory.close());
  const window = memory.map.createRegion({ name: 'vga', kind: 'mmio', size: 0x20000 });
  window.place(memory.root, { offset: 0xa0000, priority: 256 });
  const bridge = new HostBridge(memory.ramVisibility, window);
  const seen = (gpa: number) => memory.ramVisibility.at(gpa);
  for (const { gpa } of SEGMENTS) t.is(seen(gpa), 'unmapped');

  const stepsBefore = steps;
  bridge.write(0x58, 4, 0x3323_1000); // 59: 10, 5a: 23, 5b: 33
  t.is(bridge.register(0x58, 4), 0x3323_1000);
  t.deepEqual([0xf0000, 0xc0000, 0xc4000, 0xc8000, 0xcc000, 0xd0000].map(seen), [
    ...['read-only', 'read-write', 'unmapped', 'read-write', 'read-write', 'unmapped'],
  ]);
  t.is(steps, stepsBefore + 1);
  t.deepEqual(
    [0xbffff, 0xc3fff, 0xc4000, 0xc7fff, 0xc8000].map((gpa) => bridge.isWriteOnly(gpa)),
    [false, false, true, true, false],
  );

  const nameAt = (gpa: number) => memory.space.find(gpa)!.name;
  t.is(nameAt(0xa0000), 'vga');
  bridge.write(0x72, 1, 0x4a); // open
  t.not(nameAt(0xa0000), 'vga');
  bridge.write(0x72, 1, 0x5a); // locked: closed for good
  t.is(nameAt(0xa0000), 'vga');
  bridge.write(0x72, 1, 0x4a);
  t.is(bridge.register(0x72), 0x1a);
  bridge.reset();
  t.is(bridge.register(0x72), 0x02);
  for (const { gpa } of SEGMENTS) t.is(seen(gpa), 'unmapped');
});

test('the serial port is found as firmware finds one, and sends', (t) => {
  const ports = new PortBus();
  const sent: number[] = [];
  const interrupts: boolean[] = [];
  new SerialPort(ports, 0x3f8, { send: (byte) => sent.push(byte), interrupt: (isRaised) => interrupts.push(isRaised) });
  ports.write(0x3f9, 1, 2);
  t.is(ports.read(0x3f9, 1), 2);
  t.is(ports.read(0x3fa, 1) & 0x3f, 2, 'there is room');
  t.is(ports.read(0x3fa, 1), 1, 'and that was all');
  ports.write(0x3fb, 1, 0x83);
  ports.write(0x3f8, 1, 12);
  t.deepEqual(sent, [], 'the divisor is not sent');
  ports.write(0x3fb, 1, 0x03);
  ports.write(0x3f8, 1, 0x41);
  t.deepEqual(sent, [0x41]);
  t.deepEqual(interrupts, [true, false, true]);
});

/** A disk at port c000 with its queue at 10000 in a MiB of RAM. */
function diskGuest(
  t: ExecutionContext,
  disk: DiskImage,
  failed: (error: unknown) => void = (error) => t.fail(`${error}`),
) {
  const memory = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x10_0000 }] }).build();
  t.teardown(() => memory.close());
  const { guestMemory } = memory;
  const ports = new PortBus();
  const device = new VirtioBlock(ports, guestMemory, disk, { interrupt() {}, failed });
  device.write(0x10, 4, 0xc000);
  device.write(0x04, 2, 1);
  ports.write(0xc008, 4, 0x10);
  let requests = 0;
  return {
    guestMemory,
    /** A header, a sector and a status, by descriptors 0, 1 and 2. Returns whether the queue has its answer. */
    request(type: number, gpas: readonly [header: number | bigint, data: number | bigint, status: number | bigint]) {
      const isRead = type !== 1;
      for (const [i, [length, flags]] of [
        [16, 1],
        [SECTOR, isRead ? 3 : 1],
        [1, 2],
      ].entries()) {
        const at = 0x10000 + i * 16;
        guestMemory.writeU64(at, gpas[i]!);
        guestMemory.writeU32(at + 8, length!);
        guestMemory.writeU16(at + 12, flags!);
        guestMemory.writeU16(at + 14, i + 1);
      }
      guestMemory.writeU32(0x2000, type);
      guestMemory.writeU64(0x2008, 7);
      guestMemory.writeU8(0x4000, 0xff);
      guestMemory.writeU16(0x10802, ++requests);
      ports.write(0xc010, 2, 0);
      return guestMemory.readU16(0x11002) === requests;
    },
  };
}

const [HEADER, DATA, STATUS] = [0x2000, 0x3000, 0x4000];

test('a disk that fails is a failed request of the guest, and is told of once', (t) => {
  const full = new Error('ENOSPC: no space left on device, write');
  const failures: unknown[] = [];
  const disk = {
    size: 0x10_0000,
    read: (_: number, into: Uint8Array) => into.fill(0x5a),
    write() {
      throw full;
    },
  };
  const { guestMemory, request } = diskGuest(t, disk, (error) => failures.push(error));
  const statusOf = (type: number) => {
    t.true(request(type, [HEADER, DATA, STATUS]), 'it was answered');
    return guestMemory.readU8(STATUS);
  };
  t.deepEqual([statusOf(1), statusOf(0), statusOf(1)], [1, 0, 1]);
  t.is(guestMemory.readU8(DATA), 0x5a);
  t.deepEqual(failures, [full]);
});

for (const gpa of [0x10_0000, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 8n, 2n ** 64n - 1n]) {
  test(`a descriptor that names ${formatHex(gpa)}, where nothing is, fails the guest's request or ends its queue`, (t) => {
    const disk = { size: 0x10_0000, read: (_: number, into: Uint8Array) => into.fill(0x5a) };
    for (const type of [0, 1, 4, 8]) {
      const { guestMemory, request } = diskGuest(t, disk);
      t.true(request(type, [gpa, DATA, STATUS]));
      t.is(guestMemory.readU8(STATUS), 1);
      t.true(request(type, [HEADER, gpa, STATUS]));
      t.is(guestMemory.readU8(STATUS), type === 4 ? 0 : 1);
      t.false(request(type, [HEADER, DATA, gpa]));
    }
  });
}

test('labels in machine code are distances or addresses', (t) => {
  const code = assemble(0x7c00, [
    { label: 'start' },
    { near: 'end', code: [0xeb] },
    { address: 'end', code: [0xbe], width: 2 },
    { label: 'end' },
    { far: 'start', code: [0xe9], width: 2 },
    { text: 'A' },
  ]);
  t.deepEqual([...code], [0xeb, 3, 0xbe, 0x05, 0x7c, 0xe9, 0xf8, 0xff, 0x41]);
  t.throws(() => assemble(0, [{ near: 'nowhere', code: [0xeb] }]), { message: /"nowhere"/ });
});
