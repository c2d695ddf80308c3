// A monitor's own partition does what it is told before its methods return; one that cannot be paused is named.

import test from 'ava';
import { MemoryMap, type Partition, SharedMemory } from '../ts/index.ts';

const PAGE = 0x1000;

/** RAM of eight pages, and something that hides the fourth: then the memory slot of RAM is cut in two. */
function machine() {
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'system', kind: 'container', size: 8 * PAGE });
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size: 8 * PAGE });
  const memory = SharedMemory.create(8 * PAGE);
  ram.map({ object: memory });
  ram.place(root);
  const space = map.createAddressSpace({ name: 'guest', root });
  const va = map.attachVaSpace(space, { size: 8 * PAGE });
  const cut = map.createRegion({ name: 'registers', kind: 'mmio', size: PAGE });
  return {
    attach: (partition: Partition) => map.attachPartition(partition, { space, va }),
    cut: () => cut.place(root, { offset: 3 * PAGE, priority: 1 }),
    seen: () => space.flatView().map(({ region, length }) => `${region.name} ${Number(length) / PAGE}`),
    close() {
      map.close();
      memory.close();
    },
  };
}

const at: Partition = { name: 'mine', slotLimit: 8, addSlot() {}, deleteSlot() {}, pause() {}, resume() {} };
const later = async () => {
  throw new Error('nobody waits for this');
};
/** Partition that TypeScript refuses, and JavaScript does not. */
const withLater = (method: string): Partition => ({ ...at, [method]: later }) as Partition;

test('a partition that would add slots later has none', (t) => {
  const { attach, close } = machine();
  const message = /addSlot of a partition returned a promise: it must be done when it returns/;
  t.throws(() => attach(withLater('addSlot')), { code: 'PLAN_FAILED', message });
  attach(at).close();
  close();
});

test('a partition that would pause later stops the change', (t) => {
  const { attach, cut, seen, close } = machine();
  attach(withLater('pause'));
  const error = t.throws(cut, { code: 'PLAN_FAILED', message: /could not be paused/ });
  t.regex(`${error?.cause}`, /: pause of a partition returned a promise/);
  t.deepEqual(seen(), ['ram 8']);
  close();
});

test('a partition that would delete slots later keeps them, and nothing has changed', (t) => {
  const { attach, cut, seen, close } = machine();
  const partition = withLater('deleteSlot');
  attach(partition);
  t.throws(cut, { code: 'PLAN_FAILED', message: /deleteSlot of a partition returned a promise/ });
  t.deepEqual(seen(), ['ram 8']);
  partition.deleteSlot = at.deleteSlot;
  close();
});

test('a partition that would resume later is an error after the change', (t) => {
  const { attach, cut, seen, close } = machine();
  attach(withLater('resume'));
  t.throws(cut, { code: 'RESUME_FAILED', message: /resume of a partition returned a promise/ });
  t.deepEqual(seen(), ['ram 3', 'registers 1', 'ram 4']);
  close();
});

test.serial('a partition without pause is told of once, when its guest may miss bytes', async (t) => {
  const { attach, cut, close } = machine();
  const { pause: _, resume: __, ...unpausable } = at;
  const warnings: string[] = [];
  const note = (warning: Error & { code?: string }) => warnings.push(`${warning.code}: ${warning.message}`);
  process.on('warning', note);
  t.teardown(() => process.off('warning', note));
  attach(unpausable);
  cut().remove();
  await new Promise(setImmediate);
  close();
  t.deepEqual(warnings, [
    'NO_PAUSE: partition "mine" has no pause: its guest may miss bytes during a change that takes them away for a moment',
  ]);
});
