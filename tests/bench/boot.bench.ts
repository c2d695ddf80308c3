// Boots: of SeaBIOS, and in the lab of Debian's kernels to a program that ends. How long they take, how often the guest
// leaves to the monitor, how much of the time are changes of the memory map, and how much of those are the system's
// calls, beside the bare cost of the same memory slot operations, one ioctl each.
//
// Most of a change is in the system's calls: holding the vCPU takes less than 50 µs of each. In a guest that boots, KVM
// was seen to take 60 to 80 µs for a slot that comes and twice that for one that goes, in a VM that is idle 6 to 13 µs.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { existsSync, readFileSync } from 'node:fs';
import * as abi from '../../assembly/abi.ts';
import { NativeExecutor } from '../../ts/apply/native-executor.ts';
import { DISTURBANCES, sinkKindOf } from '../../ts/core/kinds.ts';
import { native } from '../../ts/core/native.ts';
import type { Disturbance, PlanMessage } from '../../ts/index.ts';
import { demoSector, Monitor, type MonitorOptions, memoryDisk } from '../../ts/vmm/index.ts';
import { Conversation, DEBIAN_GUESTS, DEBIAN_MEMORY, startOf } from '../support/debian-guests.ts';
import { SEABIOS, seabiosMissing } from '../support/pc-guests.ts';
import { encode } from '../support/shim-plan.ts';
import { type Group, runGroup } from './support/group.ts';

const SINK = 1;

interface Plan {
  readonly disturbance: Disturbance;
  /** Milliseconds. */
  readonly duration: number;
  /** Milliseconds of it in the addon. */
  readonly inCalls: number;
  /** Whether it came from the guest's own doing: the others build the machine. */
  readonly isOfGuest: boolean;
  readonly slotOperations: readonly PlanMessage['commands'][number][];
}

/** A guest that ends by itself. */
interface Guest {
  readonly name: string;
  readonly options: () => MonitorOptions;
}

async function boot({ name, options }: Guest) {
  const plans: Plan[] = [];
  let isRunning = false;
  let inCalls = 0;
  const { execute } = NativeExecutor.prototype;
  NativeExecutor.prototype.execute = function (...args) {
    const begun = performance.now();
    const done = execute.apply(this, args);
    inCalls += performance.now() - begun;
    return done;
  };
  const listener = (message: unknown) => {
    const { commands, disturbance, duration } = message as PlanMessage;
    const slotOperations = commands.filter(({ op }) => sinkKindOf(op).number === abi.SINK_PARTITION);
    plans.push({ disturbance, duration, inCalls, isOfGuest: isRunning, slotOperations });
    inCalls = 0;
  };
  subscribe('membacking:plan', listener);
  const started = performance.now();
  const conversation = new Conversation();
  const onSerial = (byte: number) => conversation.hear(monitor, byte);
  const monitor = new Monitor({ ...options(), endsAtReset: true, onSerial });
  try {
    isRunning = true;
    const stop = await monitor.run();
    if (stop.kind !== 'exit') throw new Error(`the boot of ${name} ended with ${stop.kind}`);
    const { portExits, mmioExits } = monitor.counts;
    return { milliseconds: performance.now() - started, portExits, mmioExits, plans };
  } finally {
    isRunning = false;
    unsubscribe('membacking:plan', listener);
    NativeExecutor.prototype.execute = execute;
    monitor.close();
  }
}

/** Milliseconds that the slot operations of each plan take in a VM of their own that never runs, one ioctl each. */
function bareTimes(plans: readonly Plan[]): number[] {
  const kvm = native().Kvm.open();
  const vm = kvm.createVm();
  const space = native().Reservation.create(2 ** 40);
  const executor = native().Executor.create();
  executor.setSink(0, abi.SINK_VA, space);
  executor.setSink(SINK, abi.SINK_PARTITION, vm);
  try {
    return plans.map(({ slotOperations }) => {
      const records = slotOperations.map(({ op, gpa, length, slot }) => {
        const place = { gpa: Number(gpa), offset: Number(gpa), length: Number(length) };
        return encode([{ op, sink: SINK, ...place, va: 0, slot }]);
      });
      const begun = performance.now();
      for (const record of records) if (executor.run(record, 0, 1) !== 1) throw executor.failure;
      return performance.now() - begun;
    });
  } finally {
    executor.close();
    vm.close();
    kvm.close();
    space.close();
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

async function measure(group: Group, guest: Guest): Promise<void> {
  const { name } = guest;
  group.doing(name);
  const { milliseconds, portExits, mmioExits, plans } = await boot(guest);
  await group.add({ what: `${name}, to its end`, unit: 'ms', ours: milliseconds, goals: [] });
  await group.add({ what: `${name}: exits for ports`, unit: 'count', ours: portExits, goals: [] });
  await group.add({ what: `${name}: exits for MMIO`, unit: 'count', ours: mmioExits, goals: [] });
  const bare = bareTimes(plans);
  for (const disturbance of DISTURBANCES) {
    const indexes = plans.flatMap((plan, i) => (plan.isOfGuest && plan.disturbance === disturbance ? [i] : []));
    if (indexes.length === 0) continue;
    const total = (part: (index: number) => number) => sum(indexes.map(part)) * 1e6;
    const changes = total((i) => plans[i]!.duration);
    await group.add({
      what: `${name}: ${indexes.length} changes of the map of class ${disturbance}`,
      unit: 'ns',
      ours: changes,
      baseline: { what: 'the whole boot', value: milliseconds * 1e6 },
      goals: [],
    });
    const operations = sum(indexes.map((i) => plans[i]!.slotOperations.length));
    await group.add({
      what: `${name}: system calls of class ${disturbance}, a part of that`,
      unit: 'ns',
      ours: total((i) => plans[i]!.inCalls),
      baseline: { what: `their ${operations} slot operations in a VM that never ran`, value: total((i) => bare[i]!) },
      goals: [],
    });
  }
}

await runGroup(async (group) => {
  const missing = existsSync('/dev/kvm') ? seabiosMissing : '/dev/kvm is not there';
  if (missing !== undefined) {
    group.doing(missing);
    return;
  }
  const firmware = readFileSync(SEABIOS);
  await measure(group, {
    name: 'SeaBIOS with a boot sector',
    options: () => ({ start: { firmware }, disk: memoryDisk(demoSector()) }),
  });
  for (const guest of DEBIAN_GUESTS) {
    await measure(group, { name: guest.name, options: () => ({ ...startOf(guest), memory: DEBIAN_MEMORY }) });
  }
});
