// Events: where a region is seen, a guest's writes to its events do not exit. They come and go with what is seen, each
// as a whole, in the same plan; what stays where it is, is not touched.

import test from 'ava';
import * as abi from '../assembly/abi.ts';
import { agreed, type Build, World } from './support/world.ts';

/** A BAR of memory and registers that ring; a ROM, RAM, and a bus that may show the BAR again. */
function machine(build: Build): World {
  return new World(build)
    .place(`
      name    kind       size    in      at     priority  shows  flags
      system  container  400000
      ram     ram        40000   system  0      -1
      bar     device     8000    system  100000
      notify  mmio       1000    bar     2000
      rom     rom        2000    system  8000   1                disabled
      cover   ram        1000    system  0      2                disabled
      window  alias      8000    system  200000           bar    disabled
    `)
    .change(`
      object file 100000
      map ram 0 40000 file 0
      map bar 0 2000 file 40000
      map bar 3000 5000 file 43000
      map rom 0 2000 file 50000
      map cover 0 1000 file 60000
      space memory root system
      va va 400000 of memory
      partition vm 32
      attach vtl0 of vm to memory through va end 3fffff
      event queue0 of notify at 10 length 4 match 0
      event queue1 of notify at 10 length 4 match 1
      event wide of notify at 10 length 8
      event kept of notify at 100 length f00 coalesced
      event flash of rom at fff length 2
      events told of vtl0 to memory end 3fffff
    `);
}

/** Changes of the machine, and what a partition is told of each. */
const STEPS: readonly (readonly [title: string, change: string])[] = [
  ['the BAR is moved: its events go with it', 'move bar to 180000'],
  ['the bus shows it again: they are there twice', 'set window enabled'],
  ['RAM covers the registers: of that place, no event is left', 'move cover to 182000\nset cover enabled'],
  ['the RAM moves on, beside them: they are back', 'move cover to 181000'],
  ['a ROM rings where it hides RAM', 'set rom enabled'],
  ['a ROM of which a byte is covered does not ring there', 'place cover2 in system at 9000 priority 3'],
  ['the BAR has another priority, and all stays', 'priority bar 1'],
  ['registers become read-only from outside, and still ring', 'set notify readonly'],
  ['events come and go, and others stay', 'close-event wide\nevent any of notify at 20 length 0'],
  ['the BAR shrinks by what rings', 'resize bar to 2800'],
  ['it grows, and they are back', 'resize bar to 8000'],
  ['a transaction that ends where it began plans nothing', 'move bar to 190000\nmove bar to 180000'],
];

test('events go where their region is seen', (t) => {
  const answer = (build: Build) => {
    const world = machine(build);
    world.run('ram cover2 800');
    const steps = [{ title: 'they are there', plan: world.sinkEvents('told') }];
    for (const [title, change] of STEPS) {
      world.change(change);
      world.checkSinks();
      t.deepEqual(world.sinkEvents('told'), world.events(), title);
      if (world.planLines.every((line) => line.startsWith('event'))) t.is(world.disturbance, 'none', title);
      steps.push({ title, plan: [...world.planLines.filter((line) => line.startsWith('event'))] });
    }
    return [...steps, { title: 'in the end', plan: world.events() }];
  };
  t.snapshot(agreed(t, answer));
});

test('an attachment has no event past its last address, and its own addresses are those of the partition', (t) => {
  const world = machine('debug').change(`
    detach told
    attach high of vm to memory through va at 1000000 end 11fffff
    events up of high to memory at 1000000 end 11fffff
  `);
  t.deepEqual(world.sinkEvents('up'), world.events());
  t.true(world.planLines.some((line) => /event-add +up +1102010\+4 /.test(line)));
  world.change('alias echo 1000 of notify at 0\nplace echo in system at 300000');
  t.is(world.events().length, 2 * world.sinkEvents('up').length, 'what is past the end traps');
});

test('a thousand events at one address are read in order, and closed one by one', (t) => {
  const world = machine('release');
  const lines = Array.from({ length: 1000 }, (_, i) => `event q${i} of notify at 40 length 2 match ${i.toString(16)}`);
  world.change(lines.join('\n'));
  const rows = world.core.events(world.id('space', 'memory')).filter(({ start }) => start === 0x102040);
  t.deepEqual(
    rows.map(({ match }) => match),
    lines.map((_, i) => i),
  );
  world.checkSinks();
  world.change(lines.map((_, i) => `close-event q${i}`).join('\n'));
  t.is(world.events().length, 4);
  t.is(world.planLines.length, 1000);
  world.checkSinks();
});

test('what a partition has of a page that could not be put back is lost with it, and a repair brings it back', (t) => {
  const world = machine('debug');
  const told = world.id('sink', 'told');
  const before = world.sinkEvents('told');
  // The last removal fails, and then the second addition that takes the others back.
  world.failing.plan(3, 1);
  const error = t.throws(() => world.change('move bar to 180000'), { code: 'RANGE_LOST' });
  t.regex(error?.message ?? '', /event-remove at 0x102100\) failed.*: at 0x102000 there is nothing now, until repair/);
  world.failing.plan();
  t.deepEqual(
    world.core.lost(told).map(({ start, last }) => [start, last]),
    [[0x102000, 0x102fff]],
  );
  t.deepEqual(world.sinkEvents('told'), []);
  t.is(world.events().length, 4, 'they are seen all the same');
  world.checkSinks();
  world.change('event more of notify at 80 length 1');
  t.deepEqual(world.core.lost(told), [], 'a change that touches the page makes it again');
  world.change('close-event more');
  t.deepEqual(world.sinkEvents('told'), before);
  world.checkSinks();
});

test('a command says all that a partition needs', (t) => {
  const world = machine('release');
  world.change('set rom enabled');
  const commands = Array.from({ length: 6 }, (_, i) => i < world.planLines.length && world.plan.subarray(i * 64));
  const flash = commands.find(
    (bytes) => bytes && new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) === abi.OP_EVENT_ADD,
  );
  const view = new DataView((flash as Uint8Array).buffer, (flash as Uint8Array).byteOffset);
  t.is(view.getBigUint64(abi.COMMAND_GPA, true), 0x8fffn);
  t.is(view.getBigUint64(abi.COMMAND_LENGTH, true), 2n);
  t.is(view.getUint32(abi.COMMAND_SLOT, true), 0);
  t.is(view.getUint32(abi.COMMAND_ACCESS, true), abi.ACCESS_WRITE);
});
