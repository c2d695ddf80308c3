// A whole machine is kept and goes on: firmware, devices in the middle of their work, a kernel, as often as one likes.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { GuestMemoryBuilder, inspectSnapshot, type PlainState, SharedMemory } from '../ts/index.ts';
import { Cmos } from '../ts/vmm/cmos.ts';
import { Flash } from '../ts/vmm/flash.ts';
import { FwCfg } from '../ts/vmm/fw-cfg.ts';
import { Monitor, memoryDisk, overlayDisk, PciBus, PortBus, SECTOR, SerialPort, VirtioBlock } from '../ts/vmm/index.ts';
import { IsaBridge, LINK_LINES } from '../ts/vmm/isa-bridge.ts';
import { PowerManagement } from '../ts/vmm/power.ts';
import { type Device, like } from '../ts/vmm/state.ts';
import { footprint } from './support/footprint.ts';
import { kvmMissing } from './support/guest.ts';
import { PATIENCE } from './support/patience.ts';
import { bzImage, KERNEL_LEAVES, lookingAround, SEABIOS, seabiosMissing } from './support/pc-guests.ts';
import { tempFolder } from './support/temp-folder.ts';

/** Checks that nothing is left. Threads of vCPUs take a moment to end. */
async function leavesNothing(t: ExecutionContext, before: ReturnType<typeof footprint>): Promise<void> {
  const isLeft = () => JSON.stringify(footprint()) !== JSON.stringify(before);
  for (let tries = 0; tries < 100 && isLeft(); tries++) await setTimeout(50);
  t.deepEqual(footprint(), before);
}

/** Runs a machine to its end and the end of what was begun meanwhile, and gives what it has said from here on. */
async function rest(
  t: ExecutionContext,
  make: (say: (byte: number) => void) => Promise<Monitor>,
  begun: readonly Promise<unknown>[] = [],
): Promise<string> {
  let said = '';
  const monitor = await make((byte) => (said += String.fromCharCode(byte)));
  const stop = new AbortController();
  void setTimeout(PATIENCE, undefined, stop).then(
    () => monitor.stop(),
    () => {},
  );
  try {
    t.deepEqual(await monitor.run(), { kind: 'exit', status: 0 }, said);
    await Promise.all(begun);
    return said;
  } finally {
    stop.abort();
    monitor.close();
  }
}

/** One after the other, as they look at what is left. */
function machineTest(missing: string | undefined, title: string, body: (t: ExecutionContext) => Promise<void>): void {
  if (missing === undefined) test.serial(title, body);
  else test.serial.skip(`${title}: ${missing}`, body);
}

machineTest(
  kvmMissing ?? seabiosMissing,
  'SeaBIOS and what it boots are kept in the midst of it all, and go on from there, by copy and by map',
  async (t) => {
    t.timeout(2 * PATIENCE);
    const before = footprint();
    const folder = tempFolder(t);
    const disk = memoryDisk(lookingAround);
    // The firmware at work, between two PAM switches, and the memory map half printed after a reset.
    const moments: [sent: string, modes: readonly ('map' | 'copy')[]][] = [
      ['SeaBIOS (version', ['map']],
      [' 2222', ['copy']],
      ['e820 0000', ['map', 'copy']],
    ];
    const taken: Promise<unknown>[] = [];
    const whole = await rest(
      t,
      async (say) => {
        let sent = '';
        const monitor: Monitor = new Monitor({
          start: { firmware: readFileSync(SEABIOS) },
          disk,
          onSerial: (byte) => {
            say(byte);
            sent += String.fromCharCode(byte);
            const [next] = moments[taken.length] ?? [];
            if (next === undefined || !sent.endsWith(next)) return;
            sent = '';
            taken.push(monitor.snapshot(join(folder, String(taken.length))));
          },
        });
        return monitor;
      },
      taken,
    );
    t.is(taken.length, moments.length, whole);
    // The firmware sends a last full stop when it finds the time.
    const withoutStop = (text: string) => text.replaceAll('end.', 'end');
    let longest = whole.length;
    for (const [i, [moment, modes]] of moments.entries()) {
      for (const mode of modes) {
        const from = join(folder, String(i));
        const said = await rest(t, (onSerial) => Monitor.restore(from, { mode, disk, onSerial }));
        t.true(withoutStop(whole).endsWith(withoutStop(said)), `after ${moment} by ${mode}: ${said}`);
        t.true(said.length < longest);
        if (mode === modes.at(-1)) longest = said.length;
      }
    }
    await leavesNothing(t, before);
  },
);

machineTest(
  kvmMissing,
  'a kernel is kept after its end, with its BAR, and the snapshot of what goes on from it is one, too',
  async (t) => {
    const folder = tempFolder(t);
    const before = footprint();
    const monitor = new Monitor({ memory: 0x80_0000, cpus: 2, start: { linux: { kernel: bzImage() } } });
    t.deepEqual(await monitor.run(), { kind: 'exit', status: 0 });
    await monitor.snapshot(join(folder, '0'));
    monitor.close();
    for (let i = 0; i < 2; i++) {
      const again = await Monitor.restore(join(folder, String(i)));
      const { memory, sharedMemoryDevice, sharedMemory } = again;
      t.deepEqual(sharedMemoryDevice.bars, [KERNEL_LEAVES.bar]);
      t.is(memory.guestMemory.readU32(KERNEL_LEAVES.bar), KERNEL_LEAVES.word);
      t.is(memory.guestMemory.readU8(0xb8000), KERNEL_LEAVES.letter);
      sharedMemory.write(4, Buffer.from('later'));
      const running = again.run(); // it halts, for ever
      await again.snapshot(join(folder, String(i + 1)));
      again.stop();
      t.deepEqual(await running, { kind: 'stopped' });
      again.reset();
      t.is((await again.run()).kind, 'crashed', 'there is no kernel any more');
      again.close();
    }
    await leavesNothing(t, before);
  },
);

/** Devices in the middle of something, and fresh ones like them. */
function makeDevices(t: ExecutionContext) {
  const memory = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x10_0000 }] }).build();
  const flashMemory = SharedMemory.create(0x1000, { name: 'flash' });
  t.teardown(() => {
    memory.close();
    flashMemory.close();
  });
  const ports = new PortBus();
  const lines: string[] = [];
  const serial = new SerialPort(ports, 0x3f8, { send() {}, interrupt: (isRaised) => lines.push(`serial ${isRaised}`) });
  const pci = new PciBus(ports, { lines: LINK_LINES, set: (link, isRaised) => lines.push(`link ${link} ${isRaised}`) });
  pci.add(new IsaBridge());
  pci.addBeside(3, new PowerManagement(ports, () => {}));
  pci.add(new VirtioBlock(ports, memory.guestMemory, memoryDisk(new Uint8Array(SECTOR)), () => {}));
  const cmos = new Cmos(ports, { low: 0x10_0000, high: 0 }, 1);
  const fwCfg = new FwCfg(ports, 0x10_0000, 1, {});
  const flash = new Flash(memory.map, memory.root, 0xf000_0000, flashMemory);
  const devices: Record<string, Device> = { serial, pci, cmos, fwCfg, flash };
  return { ports, lines, serial, flash, memory, devices };
}

test.serial('devices in the middle of their work go on there', async (t) => {
  const { ports, serial, flash, memory, devices } = makeDevices(t);
  ports.write(0x3fb, 1, 0x83);
  ports.write(0x3f8, 1, 12);
  ports.write(0x3fb, 1, 0x03);
  ports.write(0x3f9, 1, 1);
  ports.write(0x3ff, 1, 0xa5);
  void serial.receive(Buffer.from('abc'));
  t.is(ports.read(0x3f8, 1), 'a'.charCodeAt(0));
  ports.write(0x70, 1, 0x50);
  ports.write(0x71, 1, 7);
  ports.write(0x510, 2, 0);
  t.is(ports.read(0x511, 1), 'Q'.charCodeAt(0));
  ports.write(0x604, 2, 0x0400);
  const config = (address: number, size: number, value: number) => {
    ports.write(0xcf8, 4, (0x8000_0000 | address) >>> 0);
    ports.write(0xcfc, size, value);
  };
  config((1 << 11) | 0x10, 4, 0xc000);
  config((1 << 11) | 0x04, 2, 1);
  ports.write(0xc008, 4, 0x20); // the queue, which asks for nothing
  ports.write(0xc012, 1, 7);
  ports.write(0xc010, 2, 0);
  flash.access(0xf000_0000, true, Uint8Array.of(0x40));
  const ticks = ports.read(0x608, 4);

  const states = structuredClone(
    Object.fromEntries(Object.entries(devices).map(([name, each]) => [name, each.save()])),
  );
  const fresh = makeDevices(t);
  for (const [name, device] of Object.entries(fresh.devices)) device.restore(like(device.save(), states[name], name));
  const again = fresh.ports;
  t.deepEqual(fresh.lines, ['serial true', 'link 0 true']);
  t.deepEqual([again.read(0x3f8, 1), again.read(0x3f8, 1), again.read(0x3fd, 1)], [98, 99, 0x60]);
  t.deepEqual([again.read(0x3fb, 1), again.read(0x3ff, 1)], [0x03, 0xa5]);
  again.write(0x3fb, 1, 0x83);
  t.is(again.read(0x3f8, 1), 12);
  t.is(again.read(0x71, 1), 7);
  t.is(again.read(0x511, 1), 'E'.charCodeAt(0));
  t.is(again.read(0x604, 2), 0x0401);
  t.true(((again.read(0x608, 4) - ticks) & 0xff_ffff) < 3_579_545 * 60, 'the timer goes on');
  t.deepEqual([again.read(0xc008, 4), again.read(0xc012, 1)], [0x20, 7]);
  t.is(again.read(0xc013, 1), 1);
  t.deepEqual(fresh.lines.slice(-1), ['link 0 false']);
  t.is(fresh.memory.space.find(0xf000_0000), undefined, 'the chip awaits the byte to program');
  fresh.flash.access(0xf000_0000, true, Uint8Array.of(0x12));
  t.is(memory.space.find(0xf000_0000), undefined);
});

test.serial('a disk over another one keeps what is written to it', (t) => {
  const below = memoryDisk(Buffer.alloc(4 * SECTOR, 'below'));
  const disk = overlayDisk(below);
  const read = (from: typeof disk) => {
    const bytes = Buffer.alloc(3 * SECTOR);
    from.read(0, bytes);
    return [0, 1, 2].map((sector) => bytes.toString('latin1', sector * SECTOR, sector * SECTOR + 5));
  };
  disk.write!(SECTOR, Buffer.alloc(SECTOR, 'above'));
  t.is(read(disk)[1], 'above');
  t.deepEqual([read(disk)[0], read(disk)[2]], [read(below)[0], read(below)[2]]);
  t.not(read(below)[1], 'above');
  t.deepEqual([disk.size, disk.file], [below.size, undefined]);
});

/** Every value of a state, by its path, and what sets it to something else. */
function* places(value: PlainState, path: readonly string[] = []): Generator<readonly string[]> {
  if (path.length > 0) yield path;
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return;
  for (const [name, part] of Object.entries(value)) yield* places(part as PlainState, [...path, name]);
}

machineTest(
  kvmMissing,
  'a state that somebody has made up is refused, or a machine all the same, and leaves nothing',
  async (t) => {
    t.timeout(PATIENCE);
    const folder = tempFolder(t);
    const firmware = new Uint8Array(0x1_0000).fill(0xf4);
    const firmwareVariables = SharedMemory.create(0x1000, { name: 'variables' });
    const monitor = new Monitor({
      memory: 0x40_0000,
      start: { firmware, firmwareVariables },
      disk: memoryDisk(firmware),
    });
    await monitor.snapshot(folder);
    monitor.close();
    firmwareVariables.close();
    const disk = memoryDisk(firmware);
    const [{ layout }] = (await inspectSnapshot(folder)) as [Awaited<ReturnType<typeof inspectSnapshot>>[0]];
    const before = footprint();
    const { fromSnapshot } = GuestMemoryBuilder;
    t.teardown(() => Object.assign(GuestMemoryBuilder, { fromSnapshot }));
    let state: PlainState | undefined;
    GuestMemoryBuilder.fromSnapshot = async (...args) => ({ ...(await fromSnapshot(...args)), state });
    const codes = new Set<string>();
    const attempt = async (made: PlainState | undefined, what: string) => {
      state = made;
      try {
        (await Monitor.restore(folder, { disk })).close();
      } catch (error) {
        codes.add((error as { code: string }).code);
      }
      t.deepEqual(footprint(), before, what);
    };
    // The processors' state is checked where it is made: tests/kvm-state.test.ts.
    const all = [...places(layout.state!)].filter(([first]) => first !== 'vcpus' && first !== 'partition');
    for (const path of [['vcpus'], ['partition'], ...all]) {
      for (const odd of [undefined, null, -1, 1e300, 'x', new Uint8Array(3), [], {}]) {
        const made = structuredClone(layout.state) as Record<string, unknown>;
        const holder = path.slice(0, -1).reduce((each, name) => each[name] as Record<string, unknown>, made);
        holder[path.at(-1)!] = odd;
        await attempt(made as PlainState, `${path.join('.')}: ${odd}`);
      }
    }
    for (const made of [undefined, null, 7, 'state', [], {}]) await attempt(made as PlainState, 'no state');
    t.deepEqual([...codes], ['INVALID_ARGUMENT']);
    await attempt(layout.state, 'as it was');
    await t.throwsAsync(Monitor.restore(folder), { code: 'INVALID_ARGUMENT', message: /had a disk of 1048576 bytes/ });
    t.deepEqual(footprint(), before);
  },
);
