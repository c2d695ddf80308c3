// Clients in other processes: what they cost a change of the map, what a first access of a lazy one takes, and accesses
// there beside those of the manager's own thread.

import { assert } from '../../ts/core/assert.ts';
import { type GuestMemory, GuestMemoryBuilder, type GuestMemoryManager, type ShareOptions } from '../../ts/index.ts';
import { DeviceProcess } from '../support/device-process.ts';
import { baseline as native } from './support/baseline.ts';
import { type Group, runGroup } from './support/group.ts';
import { compare, type Side, speedAtLeast } from './support/measure.ts';
import { eachPlacementOf } from './support/placement.ts';

const MIB = 2 ** 20;
const PAGE = 0x1000;
const UNIT = 2 * MIB;
const SIZE = 4096 * MIB;
/** RAM of which an access is the first one, however often one is made. */
const VAST = 2 ** 40;

/** A guest, and processes that have its memory. */
class Machine {
  readonly manager: GuestMemoryManager;
  readonly devices: DeviceProcess[] = [];

  constructor(size = SIZE) {
    this.manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: size }] }).build();
  }

  async open(count: number, options?: ShareOptions): Promise<this> {
    for (let i = 0; i < count; i++) {
      this.devices.push(await DeviceProcess.open(this.manager.client().share({ deadline: 60_000, ...options })));
    }
    return this;
  }

  /** A page is taken away and given back. */
  changing(operations: number): Side {
    const range = { gpa: MIB, length: PAGE };
    return {
      run: () => {
        for (let i = 0; i < operations / 2; i++) {
          this.manager.setVtlProtection(0, range, 'none');
          this.manager.setVtlProtection(0, range, 'rwx');
        }
      },
    };
  }

  async close(): Promise<void> {
    this.manager.close();
    await Promise.all(this.devices.map((each) => each.end()));
  }
}

async function changes(group: Group): Promise<void> {
  const operations = 100;
  const one = await new Machine().open(1);
  for (const [count, goals] of [
    [0, []],
    [4, []],
    [16, [speedAtLeast(0.5)]],
  ] as const) {
    const what = `a page is protected, ${count} clients`;
    group.doing(what);
    const machine = await new Machine().open(count);
    const ours = machine.changing(operations);
    const baseline = { what: '1 client', ...one.changing(operations) };
    await group.add(compare({ what, operations, goals, ours, baseline }));
    if (count > 0) await besideProcesses(group, machine);
    await machine.close();
  }
  await besideProcesses(group, one);
  await one.close();
}

/** Changes beside the least that processes do for one: a message to each, mprotect there, a message back. What it takes
 *  to wake somebody is up to where both are, and is the same for both sides. */
async function besideProcesses(group: Group, machine: Machine): Promise<void> {
  const operations = 100;
  const { devices } = machine;
  const followers = native.beginFollowers(devices.length);
  const ours = machine.changing(operations);
  const run = () => native.tellFollowers(operations);
  await eachPlacementOf([...followers, ...devices.map(({ pid }) => pid)], async (where) => {
    const what = `a page is protected, clients ${where} beside bare C: ${devices.length}`;
    group.doing(what);
    const goals = [speedAtLeast(0.5)];
    await group.add(compare({ what, operations, goals, ours, baseline: { what: 'processes in C', run } }));
  });
  native.endFollowers();
}

/** First accesses of a lazy client, unit by unit, beside descriptors that are given to a bare process: on either
 *  processor, as changes. */
async function firstAccesses(group: Group): Promise<void> {
  const operations = 64;
  const machine = await new Machine(VAST).open(1, { lazy: true });
  const [device] = machine.devices;
  let next = 0;
  const ours = {
    run: async () => {
      const start = next;
      next += operations * UNIT;
      await device!.run(`for (let i = 0; i < ${operations}; i++) memory.readU8(${start} + i * ${UNIT}); 0`);
    },
  };
  const followers = native.beginFollowers(1);
  const baseline = { what: 'a descriptor to a process in C', run: () => native.giveFollower(0, operations) };
  await eachPlacementOf([...followers, device!.pid], async (where) => {
    const what = `a first access of a lazy client, ${where}`;
    group.doing(what);
    await group.add(compare({ what, operations, leastPairs: 7, ours, baseline }));
  });
  assert(next <= VAST, 'all accesses were first ones');
  native.endFollowers();
  await machine.close();
}

/** Leases, one after the other, with views of them or without. It stands alone: a client runs its text, too. */
function leaseAll(memory: GuestMemory, operations: number, isViewed: boolean): void {
  for (let at = 0; at < operations; at++) {
    const lease = memory.lock({ gpa: at & 0xffff, length: 16 }, 'write', { holder: 'disk' });
    if (isViewed) void lease.view;
    lease.release();
  }
}

/** Leases of a client: no message is sent for one. */
async function leases(group: Group): Promise<void> {
  const operations = 20_000;
  const machine = await new Machine().open(1);
  const [device] = machine.devices;
  await device!.run(`globalThis.leaseAll = ${leaseAll.toString().replaceAll('; ', ';\n')}; 0`);
  for (const isViewed of [false, true]) {
    const what = `lease${isViewed ? ', view' : ''} and release, in a client`;
    group.doing(what);
    const ours = { run: async () => void (await device!.run(`leaseAll(memory, ${operations}, ${isViewed}); 0`)) };
    const run = () => leaseAll(machine.manager.guestMemory, operations, isViewed);
    await group.add(compare({ what, operations, ours, baseline: { what: "in the manager's thread", run } }));
  }
  await machine.close();
}

/** Accesses, one after the other. They stand alone, as `leaseAll`. */
const ACCESSES = {
  'a u32': (memory: GuestMemory, operations: number) => {
    let sum = 0;
    for (let at = 0; at < operations; at++) sum = (sum + memory.readU32(at & 0xffff)) | 0;
    return sum;
  },
  '4 KiB': (memory: GuestMemory, operations: number) => {
    const bytes = new Uint8Array(4096);
    for (let at = 0; at < operations; at++) memory.read((at & 0xf) << 12, bytes);
  },
};

/** Accesses of a client, by text that its process has compiled once, as a device's. */
async function accesses(group: Group): Promise<void> {
  const machine = await new Machine().open(1);
  const [device] = machine.devices;
  for (const [name, operations] of [
    ['a u32', 2_000_000],
    ['4 KiB', 200_000],
  ] as const) {
    const what = `${name} in a client`;
    group.doing(what);
    const access = ACCESSES[name];
    await device!.run(`globalThis.access = ${access.toString().replaceAll('; ', ';\n')}; 0`);
    const ours = { run: async () => void (await device!.run(`access(memory, ${operations}); 0`)) };
    const run = () => void access(machine.manager.guestMemory, operations);
    const goals = [speedAtLeast(0.8)];
    await group.add(compare({ what, operations, goals, ours, baseline: { what: "in the manager's thread", run } }));
  }
  await machine.close();
}

await runGroup(async (group) => {
  await changes(group);
  await firstAccesses(group);
  await leases(group);
  await accesses(group);
});
