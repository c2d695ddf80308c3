// Events of a live map: partitions are told of them by calls, in the plan that shows their region, and of nothing where
// a change fails. What a map takes for them goes with them.

import { closeSync, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import {
  EventFd,
  GuestMemoryBuilder,
  MemoryMap,
  type Partition,
  parseTrace,
  RecordingPartition,
  type Region,
  renderExplanation,
  SharedMemory,
  TraceReplay,
} from '../ts/index.ts';
import { footprint } from './support/footprint.ts';
import { refusal } from './support/map-state.ts';

const PAGE = 0x1000;

/** RAM, and a BAR with a page of registers that ring, seen by a partition. */
class Machine {
  readonly text: string[] = [];
  readonly map = new MemoryMap({ debug: true, record: { write: (text) => this.text.push(text) } });
  readonly memory = SharedMemory.create(0x10_0000, { name: 'ram' });
  readonly root = this.region('system', 'container', 0x40_0000);
  readonly bar = this.region('bar', 'device', 4 * PAGE);
  readonly notify = this.region('notify', 'mmio', PAGE);
  readonly space = this.map.createAddressSpace({ name: 'guest', root: this.root });
  readonly va = this.map.attachVaSpace(this.space, { size: 0x40_0000 });
  readonly bell = EventFd.create();

  constructor() {
    const ram = this.region('ram', 'ram', 0x10_0000);
    ram.map({ object: this.memory });
    ram.place(this.root);
    this.notify.place(this.bar, { offset: PAGE });
    this.bar.place(this.root, { offset: 0x20_0000 });
  }

  region(name: string, kind: 'ram' | 'container' | 'device' | 'mmio', size: number): Region {
    return this.map.createRegion({ name, kind, size });
  }

  attach(partition: Partition) {
    return this.map.attachPartition(partition, { space: this.space, va: this.va });
  }

  /** Plans of the trace that was recorded, as text, replayed through the core alone. */
  replayed(): string[] {
    const plans: string[] = [];
    const replay = new TraceReplay({ onPlan: (plan) => plans.push(...plan.render()) });
    for (const operation of parseTrace(this.text.join('')).operations) replay.apply(operation);
    return plans;
  }

  close(): void {
    this.map.close();
    this.memory.close();
    this.bell.close();
  }
}

/** Calls of a recording partition about events, as text. */
function told({ events }: RecordingPartition): string[] {
  const lines = events.flatMap((call) => {
    if (call.event !== 'add-event' && call.event !== 'remove-event') return [];
    const { event, gpa, length, match, kind, fd } = call;
    const when = match === undefined ? '' : ` when ${match}`;
    return [`${event} ${gpa.toString(16)}+${length} ${kind}${when}${fd === undefined ? '' : ', with a descriptor'}`];
  });
  events.length = 0;
  return lines;
}

test('a partition is told of events by calls, wherever their region goes', (t) => {
  const machine = new Machine();
  const { notify, bar, bell, root, map } = machine;
  const partition = new RecordingPartition();
  const attachment = machine.attach(partition);
  t.deepEqual(attachment.events(), []);
  const queue = notify.addEvent({ offset: 0x10, length: 4, match: 1, fd: bell });
  const kept = notify.coalesceWrites({ offset: 0x800 });
  const steps: Record<string, string[]> = { 'they come': told(partition) };
  bar.move(0x30_0000);
  steps['the BAR moves'] = told(partition);
  const cover = machine.region('cover', 'ram', PAGE).place(root, { offset: 0x30_1000, priority: 1 });
  steps['RAM covers them'] = told(partition);
  map.transaction(() => {
    bar.move(0x20_0000);
    cover.setPriority(0);
    cover.remove();
  });
  steps['it goes, and the BAR is back'] = told(partition);
  const late = new RecordingPartition({ name: 'late' });
  machine.attach(late);
  steps['another partition comes'] = told(late);
  queue.close();
  steps['one is closed'] = told(partition);
  attachment.close();
  steps['the partition goes'] = told(partition);
  t.is(partition.registered.size, 0);
  t.snapshot(steps);
  t.deepEqual([queue.closed, kept.closed, kept.fd], [true, false, undefined]);
  t.snapshot(machine.replayed(), 'the trace gives the same plans');
  machine.close();
  t.is(late.registered.size, 0);
});

test('flat view, explanation and inspection say them', (t) => {
  const machine = new Machine();
  const { notify, bell, space, map } = machine;
  machine.attach(new RecordingPartition());
  notify.addEvent({ offset: 0x10, length: 4, match: 1, fd: bell });
  notify.addEvent({ offset: 0x20, length: 0, fd: bell });
  notify.coalesceWrites({ offset: 0x100, length: 0x100 });
  t.snapshot(space.text(), 'the flat view');
  t.snapshot(map.text(), 'all of the map');
  t.snapshot(renderExplanation(space.explain(0x20_1012)), 'an explanation');
  t.is(space.explain(0x20_1012).events.length, 1);
  t.deepEqual(
    space.events().map(({ region, gpa, offsetInRegion, ...facts }) => ({ ...facts, gpa, at: offsetInRegion })),
    [
      { kind: 'eventfd', length: 4, match: 1, gpa: 0x20_1010, at: 0x10 },
      { kind: 'eventfd', length: 0, match: undefined, gpa: 0x20_1020, at: 0x20 },
      { kind: 'coalesced', length: 0x100, match: undefined, gpa: 0x20_1100, at: 0x100 },
    ],
  );
  machine.close();
  const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x10_0000 }] }).build();
  const uart = manager.map.createRegion({ name: 'uart', kind: 'mmio', size: 8 });
  uart.place(manager.root, { offset: 0x20_0000 });
  manager.attachPartition(new RecordingPartition());
  const fd = EventFd.create();
  uart.addEvent({ length: 8, match: 2n ** 60n, fd });
  const { events, partitions } = JSON.parse(JSON.stringify(manager.inspect()));
  t.deepEqual(events, [{ kind: 'eventfd', gpa: 0x20_0000, length: 8, match: `0x1${'0'.repeat(15)}`, region: 'uart' }]);
  t.is(partitions[0].events, 1);
  manager.close();
  fd.close();
});

test('wherever a change of events fails, nothing has happened, and nothing is left', (t) => {
  const before = footprint();
  const changes: Record<string, (machine: Machine) => void> = {
    'an event comes': ({ notify, bell }) => notify.addEvent({ offset: 0x40, length: 2, fd: bell }),
    'writes are kept': ({ notify }) => notify.coalesceWrites({ offset: 0x800 }),
    'the BAR moves': ({ bar }) => bar.move(0x30_0000),
    'a partition comes': (machine) => machine.attach(new RecordingPartition({ name: 'new' })),
    'many changes': ({ map, notify, bar, bell }) =>
      map.transaction(() => {
        bar.move(0x30_0000);
        notify.addEvent({ offset: 0x40, length: 2, fd: bell });
        bar.setFlags({ enabled: false });
        bar.setFlags({ enabled: true });
      }),
  };
  for (const [title, change] of Object.entries(changes)) {
    let failures = 0;
    for (let after = 0; ; after++) {
      const machine = new Machine();
      const partition = new RecordingPartition();
      const attachment = machine.attach(partition);
      for (const match of [0, 1, 2]) machine.notify.addEvent({ offset: 0x10, length: 4, match, fd: machine.bell });
      const matches = () => [...partition.registered].map(({ match }) => match).sort();
      const state = () => [attachment.events(), machine.map.text(), matches(), footprint()];
      const was = state();
      partition.failAfter = after;
      const answer = refusal(() => change(machine));
      const isDone = answer === 'nothing';
      if (!isDone) {
        failures++;
        t.regex(answer, /^PLAN_FAILED: command \d+ of .* failed: told to fail; nothing was changed$/, title);
        t.deepEqual(state(), was, `${title}, after ${after} calls`);
        change(machine);
      }
      partition.failAfter = Number.POSITIVE_INFINITY;
      t.notDeepEqual(state(), was, title);
      machine.close();
      if (isDone) break;
    }
    t.true(failures > 0 || title === 'a partition comes', title);
  }
  t.deepEqual(footprint(), before);
});

test('an event that a partition cannot be given back is lost with those of its page, until a repair', (t) => {
  const machine = new Machine();
  const { map, bar, notify, bell } = machine;
  let calls = Number.POSITIVE_INFINITY;
  const inner = new RecordingPartition();
  const step = () => {
    if (calls-- === 0) throw new Error('no more');
  };
  const partition: Partition = {
    ...{ name: 'weak', slotLimit: 8, addSlot() {}, deleteSlot() {}, pause() {}, resume() {} },
    addEvent: (event) => {
      step();
      inner.addEvent(event);
    },
    removeEvent: (event) => {
      step();
      inner.removeEvent(event);
    },
  };
  const attachment = machine.attach(partition);
  for (const match of [0, 1, 2]) notify.addEvent({ offset: 0x10, length: 4, match, fd: bell });
  const before = attachment.events();
  calls = 2;
  partition.addEvent = () => {
    throw new Error('never again');
  };
  const error = t.throws(() => bar.move(0x30_0000), { code: 'RANGE_LOST' });
  t.regex(error?.message ?? '', /event-remove at 0x201010\) failed.*at 0x201000 there is nothing now/);
  t.deepEqual(map.lost(), [{ sink: 'weak', gpa: 0x20_1000, length: PAGE }]);
  t.is(inner.registered.size, 0, 'what was still there is gone too');
  t.deepEqual(attachment.events(), []);
  calls = Number.POSITIVE_INFINITY;
  t.is(map.repair().length, 1, 'it still refuses');
  partition.addEvent = (event) => inner.addEvent(event);
  t.deepEqual(map.repair(), []);
  t.deepEqual(attachment.events(), before);
  t.is(inner.registered.size, 3);
  machine.close();
});

test('a partition that cannot be told of events has none, and half of the methods is refused', (t) => {
  const machine = new Machine();
  const plain = { name: 'plain', slotLimit: 8, addSlot() {}, deleteSlot() {} };
  const attachment = machine.attach(plain);
  machine.notify.addEvent({ length: 4, fd: machine.bell });
  t.deepEqual(attachment.events(), []);
  t.is(machine.space.events().length, 1);
  t.is(
    refusal(() => machine.attach({ ...plain, addEvent() {} } as Partition)),
    'INVALID_ARGUMENT: a partition must have both the methods addEvent and removeEvent, or neither',
  );
  const later = { ...plain, addEvent: async () => {}, removeEvent() {} } as unknown as Partition;
  t.regex(
    refusal(() => machine.attach(later)),
    /^PLAN_FAILED: .*addEvent of a partition returned a promise/,
  );
  machine.close();
});

test('a wrong event is refused, and changes nothing', (t) => {
  const machine = new Machine();
  const { notify, root, bell, map } = machine;
  const file = openSync('/dev/null', 'r');
  const before = [map.text(), footprint()];
  const add = (options: object) => refusal(() => notify.addEvent(options as never));
  t.snapshot({
    'no options': add({}),
    'three bytes': add({ length: 3, fd: bell }),
    'a value of more bytes': add({ length: 1, match: 256, fd: bell }),
    'a value of any length': add({ length: 0, match: 1, fd: bell }),
    'an option too many': add({ length: 1, fd: bell, name: 'x' }),
    'no descriptor': add({ length: 1 }),
    'past the end': add({ offset: PAGE - 2, length: 4, fd: bell }),
    'a container': refusal(() => root.addEvent({ length: 4, fd: bell })),
    'nothing of it': refusal(() => notify.coalesceWrites({ offset: PAGE })),
    'more than there is': refusal(() => notify.coalesceWrites({ offset: 8, length: PAGE })),
  });
  t.regex(add({ length: 4, fd: file }), /^SYSTEM: .*cannot be adopted as an eventfd: EINVAL/);
  t.regex(add({ length: 4, fd: 99_999 }), /^SYSTEM: .*EBADF/);
  t.deepEqual([map.text(), footprint()], before);
  closeSync(file);
  notify.addEvent({ length: 4, fd: bell });
  t.is(
    refusal(() => notify.addEvent({ length: 4, match: 1, fd: bell })),
    'EVENT_TAKEN: "notify" has an event at 0x0 already that a write there could be for: close that one first',
  );
  t.regex(
    refusal(() => notify.close()),
    /^PLACED/,
  );
  notify.remove();
  t.regex(
    refusal(() => notify.close()),
    /^IN_USE/,
  );
  machine.close();
});

test('a transaction that comes to nothing leaves no event, and a map that is closed closes all', (t) => {
  const before = footprint();
  const machine = new Machine();
  const partition = new RecordingPartition();
  machine.attach(partition);
  const open = footprint();
  let made: { closed: boolean } | undefined;
  t.throws(() =>
    machine.map.transaction(() => {
      made = machine.notify.addEvent({ length: 4, fd: machine.bell });
      throw new Error('no');
    }),
  );
  t.true(made?.closed);
  t.deepEqual(footprint(), open);
  t.deepEqual(told(partition), []);
  const event = machine.notify.addEvent({ length: 4, fd: machine.bell });
  t.not(event.fd, machine.bell.fd);
  machine.close();
  t.true(event.closed);
  t.deepEqual(footprint(), before);
});

// ---- Eventfds ----------------------------------------------------------------------------------

test.serial('an eventfd counts, and wakes who waits', async (t) => {
  const before = footprint();
  const bell = EventFd.create();
  const same = EventFd.adopt(bell.fd);
  t.is(bell.take(), 0n);
  bell.signal();
  same.signal(4);
  t.is(same.take(), 5n);
  const [first, other] = [bell.wait(), same.wait()];
  await t.throwsAsync(bell.wait(), { code: 'IN_USE' });
  bell.signal(2n ** 40n);
  const woken = await Promise.race([first, other]);
  t.is(woken, 2n ** 40n, 'one of them has the count, the other waits on');
  bell.signal();
  t.deepEqual([await first, await other].sort(), [1n, 2n ** 40n]);
  bell.signal(7);
  t.is(await same.wait(), 7n, 'what was signalled before is not missed');
  for (const count of [0, -1, 0.5, 2n ** 64n]) t.throws(() => bell.signal(count), { code: 'INVALID_ARGUMENT' });
  t.throws(() => bell.signal(2n ** 64n - 1n), { code: 'SYSTEM', message: /EINVAL/ });
  const waiting = same.wait();
  same.close();
  await t.throwsAsync(waiting, { code: 'CLOSED' });
  await t.throwsAsync(same.wait(), { code: 'CLOSED' });
  bell.close();
  t.throws(() => bell.take(), { code: 'CLOSED' });
  t.throws(() => new (EventFd as never as new () => unknown)(), { code: 'INVALID_ARGUMENT' });
  // What the thread that waits for all of them waits by stays.
  const own = footprint().descriptors.length - before.descriptors.length;
  t.true(own === 0 || own === 2, `${own} more`);
});

test.serial('a worker that waits for an eventfd ends when it is to', async (t) => {
  const code = `import(${JSON.stringify(artefact('index.js').href)}).then(({ EventFd }) => {
    EventFd.create().wait();
    require('node:worker_threads').parentPort.postMessage('waits');
  });`;
  const worker = new Worker(code, { eval: true });
  await new Promise((resolve) => worker.once('message', resolve));
  t.is(await worker.terminate(), 1);
});
