// Whole boots under QEMU, as the memory slots that it gave to KVM and took away. Each run of deletes followed by adds
// is one change of the map; for the same changes our plans need no more slot operations.

import test from 'ava';
import * as abi from '../assembly/abi.ts';
import { sinkKindOf } from '../ts/core/kinds.ts';
import { type Slot, type SlotHistory, slotHistories } from './support/qemu-cases.ts';
import { World } from './support/world.ts';

/** A machine that shows windows onto blocks of memory; a window for each of QEMU's slots. */
class Machine {
  readonly #world = new World();
  readonly #windows = new Map<string, string>();
  #count = 0;
  /** Slot commands of the last plan. */
  operations = 0;

  constructor({ changes }: SlotHistory) {
    const { runner } = this.#world;
    runner.observe((core, plan) => {
      const ops = Array.from({ length: plan.commands }, (_, i) => core.command(i).op);
      this.operations = ops.filter((op) => sinkKindOf(op).number === abi.SINK_PARTITION).length;
    });
    const sizes = new Map<string, number>();
    for (const { block, blockOffset, size } of changes.flatMap(({ added }) => added)) {
      sizes.set(block, Math.max(sizes.get(block) ?? 0, blockOffset + size));
    }
    const blocks = [...sizes].map(([block, size]) => `ram ${nameOf(block)} ${size.toString(16)}`);
    this.#world.change(`
      container system all
      ${blocks.join('\n')}
      space memory root system
      va va 100000000000 of memory
      partition vm 509
      attach vtl0 of vm to memory through va
    `);
  }

  change(removed: readonly Slot[], added: readonly Slot[]): void {
    const lines = [
      ...removed.map((slot) => `remove ${this.#windows.get(keyOf(slot))}`),
      ...added.flatMap((slot) => {
        const name = `window-${this.#count++}`;
        this.#windows.set(keyOf(slot), name);
        const where = `of ${nameOf(slot.block)} at ${slot.blockOffset.toString(16)}`;
        return [
          `alias ${name} ${slot.size.toString(16)} ${where} ${slot.readonly ? 'readonly' : ''}`,
          `place ${name} in system at ${slot.gpa.toString(16)}`,
        ];
      }),
    ];
    this.#world.change(lines.join('\n'));
    this.#world.checkSinks();
  }

  /** Bytes of blocks that each slot shows, in QEMU's words; slots that go on where another ends are one. */
  slots(): string[] {
    const rows = this.#world.core
      .sinkRows(this.#world.id('sink', 'vtl0'))
      .map(({ id, start, last, offset, flags }) => ({
        gpa: Number(start),
        size: Number(last) - Number(start) + 1,
        block: this.#world.names.regions.get(id) as string,
        blockOffset: Number(offset),
        readonly: (flags & abi.ACCESS_WRITE) === 0,
      }));
    return joined(rows);
  }
}

function nameOf(block: string): string {
  return block.replace(/\s+/g, '_');
}

function keyOf({ gpa, size, block, blockOffset, readonly }: Slot): string {
  return [gpa, size, block, blockOffset, readonly].join();
}

function joined(slots: readonly Slot[]): string[] {
  const runs: Slot[] = [];
  for (const slot of slots) {
    const run = runs.at(-1);
    const goesOn =
      run !== undefined &&
      run.gpa + run.size === slot.gpa &&
      run.block === slot.block &&
      run.blockOffset + run.size === slot.blockOffset &&
      run.readonly === slot.readonly;
    if (goesOn) runs[runs.length - 1] = { ...run, size: run.size + slot.size };
    else runs.push(slot);
  }
  return runs.map(keyOf);
}

for (const history of slotHistories()) {
  test(`${history.name}: what QEMU changed, with no more slot operations`, (t) => {
    const machine = new Machine(history);
    let ours = 0;
    let theirs = 0;
    for (const [i, { removed, added, after }] of history.changes.entries()) {
      machine.change(removed, added);
      const named = after.map((slot) => ({ ...slot, block: nameOf(slot.block) }));
      t.deepEqual(machine.slots(), joined(named), `the guest sees the same after change ${i}`);
      const count = removed.length + added.length;
      t.true(machine.operations <= count, `change ${i} takes ${machine.operations} slot operations, QEMU's ${count}`);
      ours += machine.operations;
      theirs += count;
    }
    t.true(theirs > 0);
    t.log(`${history.changes.length} changes: ${ours} slot operations, QEMU made ${theirs}`);
  });
}
