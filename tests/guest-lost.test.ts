// Undo that fails: it costs its range, and nothing else. A peer seals, cuts and empties the file behind a BAR, a
// hypervisor of the monitor's own refuses everything, the system fails from some call on. Each story runs in a process
// of its own, whose system calls tests/native/faults.cc can make fail.

import test from 'ava';
import { type Address, type MembackingError, RecordingPartition } from '../ts/index.ts';
import { run } from './support/faulty-system.ts';
import { buildVm, MIB } from './support/vm.ts';

/** A BAR that shows two pages of a peer's file, and what becomes of it when the peer has done something and the guest
 *  moves it. */
const moveBarAfter = (deed: string) => `
  const manager = build('shared');
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  const fd = system.memfd(2 * PAGE);
  const { region, control } = manager.deviceMapper.newRegion(2 * PAGE, 'bar');
  region.map(0, fd, 0, 2 * PAGE, true);
  control.mapToGuest(BAR);
  const memory = manager.guestMemory;
  memory.writeU32(BAR, 7);
  memory.writeU32(0x5000, 5);
  ${deed}
  const moved = code(() => control.mapToGuest(2 * BAR - PAGE * 16));
  const lost = manager.inspect().lost.map(({ gpa, length }) => [gpa, length]);
  const slots = [...partition.slots.values()].map(({ gpa }) => gpa);
  const [bar, ram] = [seen(memory, BAR), seen(memory, 0x5000)];
  const others = code(() => manager.ramVisibility.set({ gpa: 0, length: 0x100000 }, 'read-only'));
  const again = code(() => control.mapToGuest(2 * BAR - PAGE * 16));
  const hidden = code(() => control.unmapFromGuest());
  return { moved, lost, slots, bar, ram, others, again, hidden, left: manager.repair() };
`;

test('a peer seals the file of a BAR, and the guest moves it: the BAR is lost, all else goes on', (t) => {
  const BAR = 0x8000_0000;
  t.deepEqual(run(moveBarAfter('system.sealFutureWrites(fd);')), {
    ...{ moved: 'RANGE_LOST', lost: [[BAR, 0x2000]], slots: [0], bar: 'hole', ram: 5 },
    ...{ others: 'done', again: 'PLAN_FAILED', hidden: 'done', left: [] },
  });
});

for (const [title, deed] of [
  ['cuts', 'ftruncateSync(fd, 0);'],
  ['empties', 'ftruncateSync(fd, 0); ftruncateSync(fd, 2 * PAGE);'],
  ['punches a hole into', 'system.punch(fd, PAGE);'],
  ['writes over', "writeSync(fd, 'something else', 0);"],
] as const) {
  test(`a peer ${title} the file of a BAR, and the guest moves it: nothing is lost`, (t) => {
    t.like(run(moveBarAfter(deed)), { moved: 'done', lost: [], ram: 5, others: 'done', again: 'done', hidden: 'done' });
  });
}

test('private RAM is hidden while the system fails, from whichever call on: what is in it stays', (t) => {
  const story = `
    const failures = {};
    const problems = [];
    for (const visibility of ['unmapped', 'read-only']) {
      for (let calls = 0; calls < 12; calls++) {
        const manager = build('private');
        const memory = manager.guestMemory;
        const ram = { gpa: 0, length: 0x100000 };
        for (let page = 0; page < 4; page++) memory.writeU32(page * PAGE, 0x1234 + page);
        for (let i = 0; i < 3000; i++) memory.readU32(0);
        const lease = memory.lock({ gpa: 0, length: PAGE }, 'read', { holder: 'disk' });
        if (visibility === 'read-only') lease.view;
        else lease.release();
        system.failAfter(calls);
        const end = code(() => manager.ramVisibility.set(ram, visibility));
        failures[end] = (failures[end] ?? 0) + 1;
        // Neither the fast view nor a lease's leads to what is not there.
        const now = seen(memory, 0);
        const isLost = manager.inspect().lost.length > 0;
        if (now !== (isLost || (end === 'done' && visibility === 'unmapped') ? 'hole' : 0x1234)) problems.push([visibility, calls, end, now]);
        if (isLost && !lease.released) problems.push(['a lease goes on', calls]);
        if (!lease.released && lease.view[0] !== 0x34) problems.push(['a view shows something else', calls]);
        if (!lease.released) lease.release();
        system.heal();
        const left = manager.repair();
        manager.ramVisibility.set(ram, 'unmapped');
        manager.ramVisibility.set(ram, 'read-write');
        const words = [0, 1, 2, 3].map((page) => seen(memory, page * PAGE));
        if (left.length > 0 || words.some((word, page) => word !== 0x1234 + page)) problems.push([visibility, calls, end, left, words]);
        manager.close();
      }
    }
    return { ends: Object.keys(failures).sort(), problems };
  `;
  t.deepEqual(run(story), { ends: ['PLAN_FAILED', 'RANGE_LOST', 'done'], problems: [] });
});

/** A hypervisor that refuses everything from some call on, and is asked to shut down in the end. */
class Refusing extends RecordingPartition {
  calls = Number.POSITIVE_INFINITY;
  isDown = false;

  override addSlot(slot: Parameters<RecordingPartition['addSlot']>[0]): void {
    this.#count();
    super.addSlot(slot);
  }
  override deleteSlot(slot: Parameters<RecordingPartition['deleteSlot']>[0]): void {
    this.#count();
    super.deleteSlot(slot);
  }
  shutDown(): void {
    this.isDown = true;
    this.slots.clear();
  }
  #count(): void {
    if (this.calls-- <= 0) throw new Error('no');
  }
}

test('a hypervisor refuses everything from some call on: it has no slot that it should not have, and all else goes on', (t) => {
  const ends = new Set<string>();
  for (let calls = 0; calls < 4; calls++) {
    const ram = [0, MIB].map((gpa) => ({ name: `ram${gpa}`, ranges: [{ gpa, length: MIB }] }));
    const manager = buildVm({ ram });
    const [partition, other] = [new Refusing(), new RecordingPartition()];
    for (const each of [partition, other]) manager.attachPartition(each);
    partition.calls = calls;
    const code = codeOf(() =>
      manager.ramVisibility.setAll([0, MIB].map((gpa) => ({ gpa, length: MIB, visibility: 'read-only' as const }))),
    );
    ends.add(code);
    const [facts] = manager.inspect().partitions;
    t.is(facts!.isShutDown, partition.isDown);
    t.deepEqual(gpasOf(manager.map, 0), [...partition.slots.values()].map(({ gpa }) => gpa).sort());
    t.is(other.slots.size, 2);
    manager.ramVisibility.set({ gpa: MIB, length: MIB }, 'read-write');
    partition.calls = Number.POSITIVE_INFINITY;
    t.deepEqual(manager.repair(), []);
    if (!partition.isDown) t.is(partition.slots.size, 2);
    manager.close();
  }
  t.true(ends.has('RANGE_LOST'));
});

function codeOf(body: () => void): string {
  try {
    body();
    return 'done';
  } catch (error) {
    return (error as MembackingError).code;
  }
}

function gpasOf(map: { readonly context: { readonly sinks: Iterable<object> } }, index: number): Address[] {
  const attachments = [...map.context.sinks].filter((sink) => 'slots' in sink);
  return (attachments[index] as { slots(): { gpa: Address }[] }).slots().map(({ gpa }) => gpa);
}
