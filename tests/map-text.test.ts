// Text that console.log shows of a live map: everything, on its own, within something else and closed.

import { inspect } from 'node:util';
import test from 'ava';
import { PrivateMemory, renderExplanation } from '../ts/index.ts';
import { LoggingPartition, Machine } from './support/map-state.ts';
import { PAGE } from './support/shim-plan.ts';

/** RAM with a ROM over it that shows a part of it elsewhere, a device without memory, a partition. */
function makePc() {
  const machine = new Machine();
  const { map, root, ram, memory } = machine;
  const rom = map
    .createRegion({ name: 'rom', kind: 'rom', size: 4 * PAGE })
    .place(root, { offset: 4 * PAGE, priority: 1 });
  rom.map({ object: memory, objectOffset: 40 * PAGE, length: 2 * PAGE, writable: false });
  const mirror = map.createAlias({ name: 'mirror', target: ram, offset: 2 * PAGE, size: 4 * PAGE, readonly: true });
  mirror.place(root, { offset: 48 * PAGE, priority: -1 });
  const uart = map.createRegion({ name: 'uart', kind: 'mmio', size: 8 }).place(root, { offset: 60 * PAGE });
  const spare = map.createRegion({ name: 'spare', kind: 'container', size: PAGE });
  const attachment = machine.attach(new LoggingPartition('vm'));
  return Object.assign(machine, { rom, mirror, uart, spare, attachment });
}

const linesOf = (value: unknown) => inspect(value).split('\n');

test('everything shows itself', (t) => {
  const machine = makePc();
  const { map, root, ram, mirror, space, va, attachment, memory } = machine;
  const lease = va.memory.lock({ gpa: PAGE, length: PAGE }, 'write', { holder: 'disk' });
  const own = PrivateMemory.create(PAGE);
  const all = { map, root, ram, mirror, space, va, attachment, memory, own, lease, 'guest memory': va.memory };
  t.snapshot(Object.fromEntries(Object.entries(all).map(([name, value]) => [name, linesOf(value)])));
  t.snapshot(linesOf(all), 'within something else, each only says what it is');
  lease.release();
  own.close();
  map.close();
  t.snapshot(linesOf(all), 'closed');
  machine.end(t);
});

test('inside a transaction a map shows itself too, whatever was closed there', (t) => {
  const machine = makePc();
  const { map, root, uart, space, va, attachment, spare } = machine;
  map.transaction(() => {
    attachment.close();
    va.close();
    uart.remove();
    for (const handle of [uart, spare]) handle.close();
    const second = map.createAddressSpace({ name: 'second', root });
    second.close();
    t.snapshot(linesOf(map));
    t.true(inspect(space).startsWith('address space "guest"'));
  });
  machine.end(t);
});

test('long lists are cut, which says how much is left out', (t) => {
  const machine = new Machine();
  const { map, root, va, memory } = machine;
  const bus = map.createRegion({ name: 'bus', kind: 'container', size: 4096 * PAGE }).place(root, { priority: 1 });
  map.transaction(() => {
    for (let i = 0; i < 1000; i++) {
      const bar = map
        .createRegion({ name: `bar ${i}`, kind: 'device', size: PAGE })
        .place(bus, { offset: 2 * i * PAGE });
      if (i < 24) bar.map({ object: memory, objectOffset: i * PAGE, length: PAGE });
    }
  });
  const space = map.createAddressSpace({ name: 'bus', root: bus });
  const cut = (value: unknown) => inspect(value, { maxArrayLength: 3 }).split('\n');
  t.snapshot({ map: cut(map), space: cut(space), va: cut(va), bus: cut(bus) });
  const [shown, whole] = [inspect(map), inspect(map, { maxArrayLength: null })];
  t.true(shown.split('\n').length < 400);
  t.true(shown.includes('more ranges') && shown.includes('more regions'));
  t.true(whole.split('\n').length > 2000);
  t.false(whole.includes('more'));
  machine.end(t);
});

test('a name cannot do anything to a terminal', (t) => {
  const machine = new Machine();
  const region = machine.map.createRegion({ name: '\x1b[2J\nram', kind: 'ram', size: PAGE });
  t.false(/[^\n\x20-\x7e]/.test(inspect(region)));
  t.is(inspect([region]), String.raw`[ region "\x1b[2J\x0aram" ]`);
  machine.end(t);
});

test('why a byte is what it is: who is seen, what it hides, the memory, the slot', (t) => {
  const machine = makePc();
  const { space, rom, ram, mirror } = machine;
  const explained = (page: number) => renderExplanation(space.explain(page * PAGE + 8));
  t.snapshot({
    'a ROM over RAM': explained(4),
    'a ROM where nothing is mapped': explained(7),
    'RAM through an alias that shows the RAM behind the ROM': explained(50),
    'a device': renderExplanation(space.explain(60 * PAGE)),
    'a hole': explained(40),
    'the last one': explained(63),
  });
  const { visible, hidden, mapping, slots } = space.explain(4 * PAGE);
  t.is(visible?.region, rom);
  t.deepEqual(
    hidden.map(({ region }) => region),
    [ram],
  );
  t.deepEqual(mapping, { object: 'memory', kind: 'shared', offset: 40 * PAGE, writable: false });
  t.deepEqual(
    slots.map(({ sink, slot }) => [sink, slot]),
    [['vm', machine.attachment.slots().find(({ gpa }) => gpa === 4 * PAGE)?.slot]],
  );
  t.is(space.explain(48 * PAGE).visible?.via, mirror);
  machine.end(t);
});
