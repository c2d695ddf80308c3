// How long SeaBIOS takes to boot, and how much of that are changes of the memory map: beside the bare cost of the same
// memory slot operations, one ioctl each.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { existsSync, readFileSync } from 'node:fs';
import * as abi from '../../assembly/abi.ts';
import type { Disturbance, PlanMessage } from '../../ts/index.ts';
import { DISTURBANCES } from '../../ts/kinds.ts';
import { native } from '../../ts/native.ts';
import { demoSector, Monitor, memoryDisk } from '../../ts/vmm/index.ts';
import { SEABIOS, seabiosMissing } from '../support/pc-guests.ts';
import { encode } from '../support/shim-plan.ts';
import { runGroup } from './support/group.ts';

const SINK = 1;

interface Plan {
  readonly disturbance: Disturbance;
  /** Milliseconds. */
  readonly duration: number;
  /** Whether it came from the guest's own doing: the others build the machine. */
  readonly isOfGuest: boolean;
  readonly slotOperations: readonly PlanMessage['commands'][number][];
}

async function boot() {
  const plans: Plan[] = [];
  let isRunning = false;
  const listener = (message: unknown) => {
    const { commands, disturbance, duration } = message as PlanMessage;
    const slotOperations = commands.filter(({ op }) => op === abi.OP_SLOT_ADD || op === abi.OP_SLOT_DELETE);
    plans.push({ disturbance, duration, isOfGuest: isRunning, slotOperations });
  };
  subscribe('membacking:plan', listener);
  const started = performance.now();
  const monitor = new Monitor({ start: { firmware: readFileSync(SEABIOS) }, disk: memoryDisk(demoSector()) });
  try {
    isRunning = true;
    const stop = await monitor.run();
    if (stop.kind !== 'exit') throw new Error(`the boot ended with ${stop.kind}`);
    return { milliseconds: performance.now() - started, plans };
  } finally {
    isRunning = false;
    unsubscribe('membacking:plan', listener);
    monitor.close();
  }
}

/** Milliseconds that the slot operations of each plan take in a VM of their own, one ioctl each. It never ran: KVM has no
 *  page tables to take down there, which is most of what deleting a slot of a real guest takes. */
function bareTimes(plans: readonly Plan[]): number[] {
  const kvm = native().Kvm.open();
  const vm = kvm.createVm();
  const space = native().Reservation.create(2 ** 40);
  const executor = native().Executor.create();
  executor.setVaSpace(0, space);
  executor.setPartition(SINK, vm);
  try {
    return plans.map(({ slotOperations }) => {
      const records = slotOperations.map(({ op, gpa, length, slot }) => {
        const place = { gpa: Number(gpa), offset: Number(gpa), length: Number(length) };
        return encode([{ op, sink: SINK, ...place, backing: 0, slot }]);
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

await runGroup(async (group) => {
  const missing = existsSync('/dev/kvm') ? seabiosMissing : '/dev/kvm is not there';
  if (missing !== undefined) {
    group.doing(missing);
    return;
  }
  group.doing('SeaBIOS');
  const { milliseconds, plans } = await boot();
  await group.add({ what: 'SeaBIOS to its boot sector', unit: 'ms', ours: milliseconds, goals: [] });
  const bare = bareTimes(plans);
  for (const disturbance of DISTURBANCES) {
    const indexes = plans.flatMap((plan, i) => (plan.isOfGuest && plan.disturbance === disturbance ? [i] : []));
    if (indexes.length === 0) continue;
    const ours = sum(indexes.map((i) => plans[i]!.duration)) * 1e6;
    const value = sum(indexes.map((i) => bare[i]!)) * 1e6;
    await group.add({
      ...{
        what: `its ${indexes.length} changes of the map of class ${disturbance}, together`,
        unit: 'ns',
        ours,
        goals: [],
      },
      baseline: {
        what: `their ${sum(indexes.map((i) => plans[i]!.slotOperations.length))} slot operations in a VM that never ran`,
        value,
      },
    });
  }
});
