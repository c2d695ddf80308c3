// How long SeaBIOS takes to boot, and how much of that are changes of the memory map: beside the bare cost of the same
// memory slot operations, one ioctl each.

import { existsSync, readFileSync } from 'node:fs';
import * as abi from '../../assembly/abi.ts';
import { parseTrace, type TraceCommand, TraceReplay } from '../../ts/index.ts';
import { native } from '../../ts/native.ts';
import { demoSector, Monitor, memoryDisk } from '../../ts/vmm/index.ts';
import { SEABIOS, seabiosMissing } from '../support/pc-guests.ts';
import { encode } from '../support/shim-plan.ts';
import { runGroup } from './support/group.ts';

const SINK = 1;

async function boot() {
  const history: string[] = [];
  const changes: number[] = [];
  const started = performance.now();
  const monitor = new Monitor({
    start: { firmware: readFileSync(SEABIOS) },
    disk: memoryDisk(demoSector()),
    record: { write: (text) => history.push(text) },
  });
  // An exit that writes history is one that changes the memory map.
  const handle = monitor.handle.bind(monitor);
  monitor.handle = (exit) => {
    const before = history.length;
    const begun = performance.now();
    const crashed = handle(exit);
    if (history.length > before) changes.push((performance.now() - begun) * 1000);
    return crashed;
  };
  try {
    const stop = await monitor.run();
    if (stop.kind !== 'exit') throw new Error(`the boot ended with ${stop.kind}`);
    const milliseconds = performance.now() - started;
    return { milliseconds, changes, history: history.join('') };
  } finally {
    monitor.close();
  }
}

/** Those of all plans. */
function slotOperationsOf(history: string): TraceCommand[] {
  const commands: TraceCommand[] = [];
  const { header, operations } = parseTrace(history);
  const replay = new TraceReplay({ policy: header.policy, onPlan: (plan) => commands.push(...plan.commands()) });
  for (const operation of operations) replay.apply(operation);
  return commands.filter(({ op }) => op === 'slot-add' || op === 'slot-delete');
}

/** Microseconds of each slot operation, alone. */
function bareSlotOperations(commands: readonly TraceCommand[]): number[] {
  const kvm = native().Kvm.open();
  const vm = kvm.createVm();
  const space = native().Reservation.create(2 ** 40);
  const executor = native().Executor.create();
  executor.setVaSpace(0, space);
  executor.setPartition(SINK, vm);
  try {
    return commands.map(({ op, gpa, length, slot }) => {
      const record = encode([
        {
          op: op === 'slot-add' ? abi.OP_SLOT_ADD : abi.OP_SLOT_DELETE,
          ...{ sink: SINK, gpa: Number(gpa), offset: Number(gpa), length: Number(length), backing: 0, slot: slot! },
        },
      ]);
      const begun = performance.now();
      if (executor.run(record, 0, 1) !== 1) throw executor.failure;
      return (performance.now() - begun) * 1000;
    });
  } finally {
    executor.close();
    vm.close();
    kvm.close();
    space.close();
  }
}

function mean(values: readonly number[]): number {
  return sum(values) / values.length;
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
  const { milliseconds, changes, history } = await boot();
  await group.add({ what: 'SeaBIOS to its boot sector', unit: 'ms', ours: milliseconds, goals: [] });
  const bare = bareSlotOperations(slotOperationsOf(history));
  const [ours, value] = [mean(changes) * 1000, (sum(bare) / changes.length) * 1000];
  await group.add({
    ...{ what: 'a change of the map by the booting guest', unit: 'ns', ours, goals: [] },
    baseline: { what: 'its slot operations alone', value },
    speed: { median: value / ours, p10: value / ours, p90: value / ours, pairs: 1 },
  });
});
