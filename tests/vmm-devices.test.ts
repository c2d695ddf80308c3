// The monitor's devices by themselves: no KVM, no firmware.

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import {
  formatHex,
  type GuestMemory,
  GuestMemoryBuilder,
  type GuestMemoryManager,
  MembackingError,
  SharedMemory,
  WorkerGuestMemory,
} from '../ts/index.ts';
import { Flash } from '../ts/vmm/flash.ts';
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
  SharedMemoryDevice,
  VirtioBlock,
} from '../ts/vmm/index.ts';
import { IsaBridge, LINK_LINES } from '../ts/vmm/isa-bridge.ts';
import { PowerManagement } from '../ts/vmm/power.ts';

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
        show: (at) => moves.push(at) > 0,
        hide: () => moves.push(undefined),
      });
    }
  }
  const ports = new PortBus();
  const bus = new PciBus(ports, { lines: [10, 10, 11, 11], set() {} });
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

test('a BAR that the guest puts into a huge page of another is decoded nowhere, until it is put elsewhere', (t) => {
  const memory = new GuestMemoryBuilder({ debug: true }).addRam({ ranges: [{ gpa: 0, length: 0x40_0000 }] }).build();
  const objects = ['small', 'large'].map((name) => SharedMemory.create(0x1000, { name }));
  t.teardown(() => {
    memory.close();
    for (const object of objects) object.close();
  });
  const ports = new PortBus();
  const bus = new PciBus(ports, { lines: LINK_LINES, set() {} });
  const [small, large] = objects.map((object) => bus.add(new SharedMemoryDevice(memory.deviceMapper, object)));
  const place = (slot: number, at: number) => {
    pci(ports).write((slot << 11) + 0x10, 4, at);
    pci(ports).write((slot << 11) + 4, 2, 2);
  };
  place(0, 0x8000_0000);
  place(1, 0x9000_0000);
  // The map's own refusal, which takes memory of the machine's pool, is that of tests/guest-huge-pages.test.ts.
  const { core } = memory.map.context;
  const refuse = () => {
    throw new MembackingError('SPLIT_PAGE', 'there is a huge page');
  };
  for (const name of ['place', 'move']) Object.defineProperty(core, name, { configurable: true, value: refuse });
  place(0, 0x9000_0000);
  for (const name of ['place', 'move']) Reflect.deleteProperty(core, name);
  t.deepEqual([small!.bars, large!.bars], [[undefined], [0x9000_0000]]);
  t.throws(() => memory.guestMemory.readU32(0x8000_0000), { code: 'GUEST_ACCESS' });
  place(0, 0xa000_0000);
  t.deepEqual(small!.bars, [0xa000_0000]);
  t.is(memory.guestMemory.readU32(0xa000_0000), 0);
});

test('a port BAR answers where it was put last', (t) => {
  class Device extends PciFunction {
    constructor(ports: PortBus) {
      super(identity);
      this.addBar(0, portBar(ports, 0x20, { widest: 4, read: () => 0x77, write() {} }));
    }
  }
  const ports = new PortBus();
  const bus = new PciBus(ports, { lines: [10, 10, 11, 11], set() {} });
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

test('what the serial port receives waits until it is read, and says when it has been', async (t) => {
  const ports = new PortBus();
  const interrupts: boolean[] = [];
  const port = new SerialPort(ports, 0x3f8, { send() {}, interrupt: (isRaised) => interrupts.push(isRaised) });
  const order: string[] = [];
  await port.receive(new Uint8Array());
  const taken = port.receive(Buffer.from('ab')).then(() => order.push('ab'));
  const last = port.receive(Buffer.from('c')).then(() => order.push('c'));
  t.deepEqual(interrupts, [], 'the guest has not asked for interrupts');
  ports.write(0x3f9, 1, 3);
  t.deepEqual(interrupts, [true]);
  t.is(ports.read(0x3fa, 1), 4, 'what has been received is more urgent than that all is sent');
  t.is(ports.read(0x3fd, 1), 0x61);
  t.deepEqual(
    [0x3f8, 0x3f8].map((at) => ports.read(at, 1)),
    [...Buffer.from('ab')],
  );
  await taken;
  port.reset();
  t.is(ports.read(0x3fd, 1), 0x61, 'a reset loses nothing that was sent to the guest');
  t.deepEqual(interrupts, [true, false]);
  ports.write(0x3f9, 1, 1);
  t.is(ports.read(0x3f8, 1), 0x63);
  await last;
  t.deepEqual(order, ['ab', 'c']);
  t.deepEqual(interrupts, [true, false, true, false]);
  t.is(ports.read(0x3fd, 1), 0x60);
  t.is(ports.read(0x3f8, 1), 0);
  ports.write(0x3fa, 1, 1);
  t.is(ports.read(0x3fa, 1), 0xc1, 'it has a buffer, since the guest asked for one');
});

test('a link of the PCI bus is raised as long as one of its pins is, and leads where the ISA bridge says', (t) => {
  class Device extends PciFunction {
    set(isRaised: boolean) {
      this.setInterrupt(isRaised);
    }
  }
  const ports = new PortBus();
  const lines: string[] = [];
  const bridge = new IsaBridge();
  const set = (link: number, isRaised: boolean) => lines.push(`${bridge.lineOf(link) ?? 'none'} ${isRaised}`);
  const bus = new PciBus(ports, { lines: LINK_LINES, set });
  bus.add(bridge);
  const [, second, , , , sixth] = Array.from({ length: 6 }, () => bus.add(new Device(identity)));
  t.is(second!.register(0x3c), 10);
  second!.set(true);
  sixth!.set(true);
  second!.set(false);
  sixth!.set(false);
  t.deepEqual(lines.splice(0), ['10 true', '10 true', '10 true', '10 false']);
  pci(ports).write(0x61, 1, 0x0b);
  second!.set(true);
  pci(ports).write(0x61, 1, 0x80);
  second!.set(false);
  t.deepEqual(lines, ['11 true', 'none false']);
});

test('power management switches the machine off at the sleep that is none, and tells time', (t) => {
  const ports = new PortBus();
  let offs = 0;
  const power = new PowerManagement(ports, () => offs++);
  t.is(ports.read(0x604, 2), 1, 'ACPI is on');
  ports.write(0x602, 2, 0x120);
  t.is(ports.read(0x602, 2), 0x120);
  t.is(ports.read(0x600, 4), 0x0120_0000);
  ports.write(0x604, 2, (3 << 10) | 1);
  t.is(ports.read(0x604, 2), (3 << 10) | 1);
  ports.write(0x604, 2, 0x2000 | (1 << 10));
  t.is(offs, 0, 'other kinds of sleep are none');
  ports.write(0x604, 2, 0x2000);
  t.is(offs, 1);
  power.reset();
  t.is(ports.read(0x602, 2), 0);
  const [first, start] = [ports.read(0x608, 4), performance.now()];
  while (performance.now() - start < 2);
  t.true(((ports.read(0x608, 4) - first) & 0xff_ffff) >= 2 * 3579, 'the timer counts 3 579 545 times a second');
});

test('functions beside function 0 are found, and the device says that it has them', (t) => {
  const ports = new PortBus();
  const bus = new PciBus(ports, { lines: LINK_LINES, set: () => {} });
  bus.add(new PciFunction(identity));
  bus.add(new PciFunction(identity));
  const beside = bus.addBeside(3, new PciFunction({ ...identity, device: 0x9999 }));
  const { read, write } = pci(ports);
  t.is(read(0x0802, 2), 0x5678);
  t.is(read(0x0b02, 2), 0x9999);
  t.deepEqual([read(0x0e, 1), read(0x080e, 1)], [0, 0x80]);
  for (const nowhere of [0x0300, 0x0900, 0x0c00, 0x1300]) t.is(read(nowhere, 4), 0xffff_ffff);
  write(0x0b04, 2, 2);
  t.is(beside.register(4, 2), 2);
  bus.reset();
  t.is(beside.register(4, 2), 0);
});

test('flash is memory while its array is seen, and a chip that takes commands when it is written', (t) => {
  using guest = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x10000 }] }).build();
  using object = SharedMemory.create(0x2000, { name: 'variables' });
  const { map, root, space, guestMemory } = guest;
  const AT = 0x40000;
  const flash = new Flash(map, root, AT, object);
  const isMemory = () => space.find(AT)?.region.kind === 'rom';
  const write = (offset: number, ...bytes: number[]) => flash.access(AT + offset, true, Uint8Array.from(bytes));
  const status = () => {
    const data = new Uint8Array(1);
    flash.access(AT, false, data);
    return data[0];
  };
  t.deepEqual(
    [flash.has(AT - 1), flash.has(AT), flash.has(AT + 0x1fff), flash.has(AT + 0x2000)],
    [false, true, true, false],
  );

  // As firmware finds out what it has.
  write(0, 0x50);
  t.true(isMemory());
  write(0, 0x70);
  t.false(isMemory());
  t.is(status(), 0);
  write(0, 0xff);
  t.true(isMemory());

  write(0x1005, 0x20);
  write(0x1005, 0xd0);
  t.is(status(), 0x80);
  write(0x1005, 0x10);
  write(0x1005, 0x5a, 0xa5);
  t.false(isMemory());
  write(0x1005, 0xff);
  t.is(guestMemory.readU32(AT + 0x1004), 0xffa5_5aff);
  t.is(guestMemory.readU32(AT), 0, 'the other block is as it was');

  write(0x1005, 0x40);
  write(0x1005, 0xf0);
  write(0x1005, 0xff);
  t.is(guestMemory.readU8(AT + 0x1005), 0x50, 'writing clears bits, and never sets them');

  write(0, 0x20);
  write(0, 0x11);
  t.is(status(), 0xb0, 'an erasure that is not confirmed is none');
  write(0x1fff, 0x40);
  write(0x1fff, 1, 2, 3, 4);
  t.is(status(), 0x80, 'bytes behind its end go nowhere');
  write(0, 0x99);
  t.false(isMemory());
  flash.reset();
  t.true(isMemory());
});

/** Classes of guest memory for a device, by the thread that each is for. */
const MEMORIES: readonly [where: string, memoryOf: (guest: GuestMemoryManager) => GuestMemory][] = [
  ['the thread of the map', (guest) => guest.guestMemory],
  ['another thread', (guest) => WorkerGuestMemory.fromToken(guest.va.token)],
];

/** GPAs of a disk's queue, and of the count in its ring of answers. */
const [QUEUE, ANSWERS] = [0x10000, 0x11002];
const [HEADER, DATA, STATUS] = [0x2000, 0x3000, 0x4000];

type Gpas = readonly [header: number | bigint, data: number | bigint, status: number | bigint];

function ram(t: ExecutionContext): GuestMemoryManager {
  const guest = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x10_0000 }] }).build();
  t.teardown(() => guest.close());
  return guest;
}

/** Writes the guest's request number `count`, for sector 7: a header, a sector and a status, by descriptors 0, 1 and
 *  2. */
function writeRequest(memory: GuestMemory, count: number, type: number, gpas: Gpas): void {
  const isRead = type !== 1;
  for (const [i, [length, flags]] of [
    [16, 1],
    [SECTOR, isRead ? 3 : 1],
    [1, 2],
  ].entries()) {
    const at = QUEUE + i * 16;
    memory.writeU64(at, gpas[i]!);
    memory.writeU32(at + 8, length!);
    memory.writeU16(at + 12, flags!);
    memory.writeU16(at + 14, i + 1);
  }
  memory.writeU32(HEADER, type);
  memory.writeU64(HEADER + 8, 7);
  memory.writeU8(STATUS, 0xff);
  memory.writeU16(QUEUE + 0x802, count);
}

/** A disk at port c000 of a guest with a MiB of RAM. */
function diskGuest(
  t: ExecutionContext,
  memoryOf: (guest: GuestMemoryManager) => GuestMemory,
  disk: DiskImage,
  failed: (error: unknown) => void = (error) => t.fail(`${error}`),
) {
  const guest = ram(t);
  const { guestMemory } = guest;
  const memory = memoryOf(guest);
  t.teardown(() => memory instanceof WorkerGuestMemory && memory.close());
  const ports = new PortBus();
  const device = new VirtioBlock(ports, memory, disk, failed);
  device.write(0x10, 4, 0xc000);
  device.write(0x04, 2, 1);
  ports.write(0xc008, 4, QUEUE / 0x1000);
  let requests = 0;
  return {
    guestMemory,
    /** Whether the queue has the answer to a request. */
    request(type: number, gpas: Gpas) {
      writeRequest(guestMemory, ++requests, type, gpas);
      ports.write(0xc010, 2, 0);
      return guestMemory.readU16(ANSWERS) === requests;
    },
  };
}

for (const [where, memoryOf] of MEMORIES) {
  test(`a disk in ${where} that fails is a failed request of the guest, and is told of once`, (t) => {
    const full = new Error('ENOSPC: no space left on device, write');
    const failures: unknown[] = [];
    const disk = {
      size: 0x10_0000,
      read: (_: number, into: Uint8Array) => into.fill(0x5a),
      write() {
        throw full;
      },
    };
    const { guestMemory, request } = diskGuest(t, memoryOf, disk, (error) => failures.push(error));
    const statusOf = (type: number) => {
      t.true(request(type, [HEADER, DATA, STATUS]), 'it was answered');
      return guestMemory.readU8(STATUS);
    };
    t.deepEqual([statusOf(1), statusOf(0), statusOf(1)], [1, 0, 1]);
    t.is(guestMemory.readU8(DATA), 0x5a);
    t.deepEqual(failures, [full]);
  });

  for (const gpa of [0x10_0000, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 8n, 2n ** 64n - 1n]) {
    const title = `a disk in ${where} fails the guest's request, or ends its queue, where a descriptor names ${formatHex(gpa)}`;
    test(title, (t) => {
      const disk = { size: 0x10_0000, read: (_: number, into: Uint8Array) => into.fill(0x5a) };
      for (const type of [0, 1, 4, 8]) {
        const { guestMemory, request } = diskGuest(t, memoryOf, disk);
        t.true(request(type, [gpa, DATA, STATUS]));
        t.is(guestMemory.readU8(STATUS), 1);
        t.true(request(type, [HEADER, gpa, STATUS]));
        t.is(guestMemory.readU8(STATUS), type === 4 ? 0 : 1);
        t.false(request(type, [HEADER, DATA, gpa]));
      }
    });
  }
}

/** A disk in a thread of its own, where sector n is full of n; each message to it is a notification of the guest. */
const DISK_THREAD = `
const { parentPort, workerData } = require('node:worker_threads');
const { library, monitor, token, queuePage, sector } = workerData;
Promise.all([import(library), import(monitor)]).then(([{ WorkerGuestMemory }, { PortBus, VirtioBlock }]) => {
  const memory = WorkerGuestMemory.fromToken(token);
  const ports = new PortBus();
  const image = { size: 0x100000, read: (offset, into) => into.fill(offset / sector) };
  const device = new VirtioBlock(ports, memory, image, { interrupt() {}, failed(error) { throw error; } });
  device.write(0x10, 4, 0xc000);
  device.write(0x04, 2, 1);
  ports.write(0xc008, 4, queuePage);
  parentPort.on('message', () => {
    ports.write(0xc010, 2, 0);
    parentPort.postMessage('served');
  });
  parentPort.postMessage('begun');
});
`;

test('a disk in a worker serves a guest whose memory is mapped in another thread', async (t) => {
  const guest = ram(t);
  const { guestMemory } = guest;
  const workerData = {
    library: artefact('index.js').href,
    monitor: artefact('vmm.js').href,
    token: guest.va.token,
    queuePage: QUEUE / 0x1000,
    sector: SECTOR,
  };
  const worker = new Worker(DISK_THREAD, { eval: true, workerData });
  t.teardown(() => worker.terminate());
  await once(worker, 'message');
  for (const [count, gpas, status] of [
    [1, [HEADER, DATA, STATUS], 0],
    [2, [HEADER, 2n ** 64n - 8n, STATUS], 1],
    [3, [HEADER, DATA, STATUS], 0],
  ] as const) {
    guestMemory.write(DATA, new Uint8Array(SECTOR));
    writeRequest(guestMemory, count, 0, gpas);
    const served = once(worker, 'message');
    worker.postMessage('notify');
    await served;
    t.deepEqual([guestMemory.readU16(ANSWERS), guestMemory.readU8(STATUS)], [count, status]);
    t.is(guestMemory.readU8(DATA + SECTOR - 1), status === 0 ? 7 : 0);
  }
});

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
