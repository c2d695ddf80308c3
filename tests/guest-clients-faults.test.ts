// Failures inside of clients: whatever step of whatever change fails in whichever of three clients, the change has not
// happened anywhere, nobody has lost anything, and no descriptor is left.

import { execFileSync } from 'node:child_process';
import type { ExecutionContext } from 'ava';
import { type GuestMemoryManager, SharedMemory, type ShareOptions } from '../ts/index.ts';
import { AT, BAR, clientTest, PAGE, settled } from './support/clients.ts';
import { DeviceProcess } from './support/device-process.ts';
import { PAM } from './support/leases.ts';
import { MIB } from './support/vm.ts';

const HIGH_BAR = 0x2_0000_0000;
/** Pages at which a change may be seen. */
const PLACES = [AT, AT + PAGE, PAM.gpa, BAR, BAR + PAGE, HIGH_BAR];
const SHARES: readonly ShareOptions[] = [
  { name: 'eager' },
  { name: 'lazy', lazy: true },
  { name: 'read-only', readOnly: true },
];

/** Statement by which a client has the length of a line of its mappings. */
const LENGTH =
  "const length = (line) => line.split(' ')[0].split('-').map((at) => -parseInt(at, 16)).reduce((a, b) => a - b)";

/** A guest with a BAR of two pages, and three clients that have looked at all of it. */
class World {
  readonly manager: GuestMemoryManager;
  readonly devices: readonly DeviceProcess[];
  readonly files: readonly SharedMemory[];
  readonly #bar;

  private constructor(manager: GuestMemoryManager, devices: readonly DeviceProcess[]) {
    this.manager = manager;
    this.devices = devices;
    this.files = [1, 2].map((byte) => {
      const file = SharedMemory.create(2 * PAGE, { name: 'bar' });
      file.write(0, new Uint8Array(2 * PAGE).fill(byte));
      return file;
    });
    this.#bar = manager.deviceMapper.newRegion(2 * PAGE, 'bar');
    this.map(0);
    for (const [index, gpa] of PLACES.slice(0, 3).entries()) manager.guestMemory.writeU8(gpa, 10 + index);
  }

  static async make(manager: GuestMemoryManager, shares = SHARES): Promise<World> {
    const tickets = shares.map((options) => manager.client().share(options));
    const world = new World(manager, await Promise.all(tickets.map((ticket) => DeviceProcess.openFaulty(ticket))));
    await world.seen();
    return world;
  }

  map(file: number): void {
    this.#bar.region.map(0, this.files[file]!.fd, 0, 2 * PAGE, true);
  }
  get control() {
    return this.#bar.control;
  }

  /** Bytes that every client sees at the places, and the descriptors and mapped bytes that it holds. */
  async seen(): Promise<unknown[]> {
    const bytes = PLACES.map((gpa) => `byte(${gpa})`).join(', ');
    const byte =
      'const byte = (gpa) => { try { return memory.readU8(gpa) } catch (error) { return error.details.fault } }';
    const held = 'descriptors(/memfd:/).length, mappings(/memfd:(ram|bar)/).map(length).reduce((a, b) => a + b)';
    return Promise.all(this.devices.map((each) => each.run(`${byte}; ${LENGTH}; [${bytes}, ${held}]`)));
  }

  async close(): Promise<void> {
    for (const file of this.files) file.close();
    await Promise.all(this.devices.map((each) => each.end()));
  }
}

function protectThree(manager: GuestMemoryManager, access: 'none' | 'rwx'): void {
  manager.map.transaction(() => {
    for (const gpa of [AT, AT + 2 * PAGE, AT + 4 * PAGE]) manager.setVtlProtection(0, { gpa, length: PAGE }, access);
  });
}

/** Changes, and what takes them back. */
const CHANGES: Readonly<Record<string, readonly [change: (world: World) => void, undo: (world: World) => void]>> = {
  'a page is hidden': [
    ({ manager }) => manager.setVtlProtection(0, { gpa: AT, length: PAGE }, 'none'),
    ({ manager }) => manager.setVtlProtection(0, { gpa: AT, length: PAGE }, 'rwx'),
  ],
  'PAM makes ROM of RAM': [
    ({ manager }) => manager.ramVisibility.set(PAM, 'read-only'),
    ({ manager }) => manager.ramVisibility.set(PAM, 'read-write'),
  ],
  'PAM hides RAM': [
    ({ manager }) => manager.ramVisibility.set(PAM, 'unmapped'),
    ({ manager }) => manager.ramVisibility.set(PAM, 'read-write'),
  ],
  'a BAR comes': [({ control }) => control.mapToGuest(BAR), ({ control }) => control.unmapFromGuest()],
  'three pages are hidden at once': [
    ({ manager }) => protectThree(manager, 'none'),
    ({ manager }) => protectThree(manager, 'rwx'),
  ],
  'a BAR moves': [
    ({ control }) => control.mapToGuest(HIGH_BAR),
    ({ control }) => {
      control.mapToGuest(BAR);
    },
  ],
  'a BAR goes': [({ control }) => control.unmapFromGuest(), ({ control }) => control.mapToGuest(BAR)],
  'a DAX mapping is replaced': [(world) => world.map(1), (world) => world.map(0)],
};

const NEEDS_BAR = ['a BAR moves', 'a BAR goes', 'a DAX mapping is replaced'];

clientTest(
  'a call that fails once in a client takes the change back everywhere',
  async (t, manager) => {
    const world = await World.make(manager);
    const failures: string[] = [];
    for (const [what, [change, undo]] of Object.entries(CHANGES)) {
      if (NEEDS_BAR.includes(what)) world.control.mapToGuest(BAR);
      await world.seen();
      for (const [client, device] of world.devices.entries()) {
        const count = await failEach(t, world, device, change);
        failures.push(`${what}, ${SHARES[client]!.name}: ${count}`);
        undo(world);
        await world.seen();
      }
      if (NEEDS_BAR.includes(what)) world.control.unmapFromGuest();
    }
    t.snapshot(failures);
    await world.close();
  },
  { x86LegacySupport: true },
);

/** Has the first call of a change fail in a client, then the second, until it happens. Returns how often it failed. */
async function failEach(
  t: ExecutionContext,
  world: World,
  device: DeviceProcess,
  change: (world: World) => void,
): Promise<number> {
  const before = await world.seen();
  for (let calls = 0; ; calls++) {
    await device.run(`loaded.exports.failOnceAfter(${calls})`);
    try {
      change(world);
      return calls;
    } catch (error) {
      t.like(error, { code: 'PLAN_FAILED', cause: { code: 'ENOMEM' } });
    } finally {
      await device.run('loaded.exports.heal()');
    }
    await settled(t, async () => JSON.stringify(await world.seen()) === JSON.stringify(before));
  }
}

for (const client of SHARES.keys()) {
  clientTest(`where client ${client} cannot take a change back either, it alone is cut off`, async (t, manager) => {
    const world = await World.make(manager);
    const device = world.devices[client]!;
    const others = world.devices.filter((each) => each !== device);
    const bytes = () =>
      Promise.all(others.map((each) => each.run(`[memory.readU8(${AT}), memory.readU8(${AT} + ${PAGE})]`)));
    const before = await bytes();
    await device.run('loaded.exports.failAfter(1)');
    t.throws(() => protectThree(manager, 'none'), { code: 'PLAN_FAILED' });
    t.is(await device.ended, 'SIGKILL');
    t.deepEqual(await bytes(), before);
    protectThree(manager, 'none');
    t.deepEqual(
      await bytes(),
      others.map(() => 'GUEST_ACCESS hole'),
    );
    for (const file of world.files) file.close();
    await Promise.all(others.map((each) => each.end()));
  });
}

clientTest('a client without room for descriptors refuses what needs them', async (t, manager) => {
  const world = await World.make(manager, [{ name: 'one' }, { name: 'other' }, { name: 'third', lazy: true }]);
  for (const device of world.devices) {
    const before = await world.seen();
    const free = await device.run('const free = fs.openSync("/dev/null"); fs.closeSync(free); free');
    limit(device, `${free}:`);
    t.like(
      t.throws(() => world.control.mapToGuest(BAR)),
      { code: 'PLAN_FAILED', cause: { code: 'EMFILE' } },
    );
    limit(device, '1024:');
    await settled(t, async () => JSON.stringify(await world.seen()) === JSON.stringify(before));
    world.control.mapToGuest(BAR);
    await world.seen();
    world.control.unmapFromGuest();
    // What is not mapped any more is forgotten after the change.
    await settled(t, async () => (await device.run('descriptors(/memfd:bar/).length')) === 0);
  }
  await world.close();
});

function limit(device: DeviceProcess, descriptors: string): void {
  execFileSync('prlimit', ['--pid', `${device.pid}`, `--nofile=${descriptors}`]);
}

clientTest('a lazy client that cannot become eager stays lazy', async (t, manager) => {
  const client = manager.client();
  const tickets = [client.share({ lazy: true }), client.share(), client.share()];
  const device = new DeviceProcess(tickets, DeviceProcess.FAULTY);
  await device.run('await open(3); process.dlopen(loaded, process.argv[2]); globalThis.first = client; 0');
  const read = (gpa: number) => device.run(`first.memory.readU8(${gpa})`);
  t.is(await read(AT), 0);
  const bytes = () => device.run(`${LENGTH}; mappings(/memfd:ram/).map(length).reduce((a, b) => a + b)`);
  const before = await bytes();
  await device.run('loaded.exports.failOnceAfter(0)');
  t.is(await device.run('await open(4); 0'), 'SYSTEM');
  await device.run('loaded.exports.heal()');
  t.is(await device.run('await open(4); 0'), 'CLOSED', 'a ticket is for one attempt');
  t.is(await bytes(), before);
  manager.setVtlProtection(0, { gpa: AT, length: PAGE }, 'none');
  t.is(await read(AT), 'GUEST_ACCESS hole');
  manager.setVtlProtection(0, { gpa: AT, length: PAGE }, 'rwx');
  t.is(await read(PAGE), await read(PAGE), 'it goes on asking for what it uses');
  t.not(await bytes(), before);
  t.is(await device.run('await open(5); 0'), 0);
  t.is(await bytes(), 4 * MIB);
  await device.end();
});
