// How long SeaBIOS takes to boot, and how much of that are changes of the memory map: beside the bare cost of the same
// memory slot operations, one ioctl each.

import { existsSync, readFileSync } from 'node:fs';
import * as abi from '../../assembly/abi.ts';
import { parseTrace, type TraceCommand, type TracePlan, TraceReplay } from '../../ts/index.ts';
import { native } from '../../ts/native.ts';
import { demoSector, Monitor, memoryDisk } from '../../ts/vmm/index.ts';
import { SEABIOS, seabiosMissing } from '../support/pc-guests.ts';
import { encode } from '../support/shim-plan.ts';

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
    return { milliseconds, changes, counts: monitor.counts, history: history.join('') };
  } finally {
    monitor.close();
  }
}

/** The commands and classes of all plans. */
function plansOf(history: string) {
  const commands: TraceCommand[] = [];
  const classes = new Map<string, number>();
  const onPlan = (plan: TracePlan) => {
    commands.push(...plan.commands());
    classes.set(plan.disturbance, (classes.get(plan.disturbance) ?? 0) + 1);
  };
  const { header, operations } = parseTrace(history);
  const replay = new TraceReplay({ policy: header.policy, onPlan });
  for (const operation of operations) replay.apply(operation);
  return { commands, classes };
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

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

const missing = existsSync('/dev/kvm') ? seabiosMissing : '/dev/kvm is not there';
if (missing !== undefined) {
  console.log(`boot: ${missing}`);
} else {
  const { milliseconds, changes, counts, history } = await boot();
  const { commands, classes } = plansOf(history);
  const slots = commands.filter(({ op }) => op === 'slot-add' || op === 'slot-delete');
  const bare = bareSlotOperations(slots);
  const list = [...classes].map(([name, count]) => `${name} ${count}`).join(', ');
  console.log(`SeaBIOS to its boot sector     ${(milliseconds / 1000).toFixed(2)} s, ${counts.portExits} port exits`);
  console.log(`plans of the whole run         ${sum([...classes.values()])} (${list}), ${commands.length} commands`);
  console.log(
    `changes by the running guest   ${changes.length}: ${sum(changes).toFixed(0)} µs, ${(sum(changes) / changes.length).toFixed(0)} µs each`,
  );
  console.log(
    `slot operations, bare          ${bare.length}: ${sum(bare).toFixed(0)} µs, ${(sum(bare) / bare.length).toFixed(1)} µs each`,
  );
}
