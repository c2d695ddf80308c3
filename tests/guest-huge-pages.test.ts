// Huge pages that the guest sees only in part, on real ones: the VA space keeps the whole page, the guest and the
// monitor get what the flat view shows of it, and what cannot share a page is refused before anything is done.

import test, { type ExecutionContext } from 'ava';
import { WorkerGuestMemory } from '../ts/access/worker-guest-memory.ts';
import { SharedMemory } from '../ts/asked/object.ts';
import { GuestMemoryBuilder } from '../ts/guest/builder.ts';
import { PciBus, PortBus, SharedMemoryDevice } from '../ts/vmm/index.ts';
import { LINK_LINES } from '../ts/vmm/isa-bridge.ts';
import { hugePageTest } from './support/accounting.ts';
import { kvmMissing } from './support/guest.ts';
import { joinedSlots } from './support/joined-slots.ts';
import { LoggingPartition, Machine, refusal, wordAt } from './support/map-state.ts';
import { footprint } from './support/shim-plan.ts';
import { buildVm, Guest, got, wrote } from './support/vm.ts';

const PAGE = 0x1000;
const MIB = 2 ** 20;
const HUGE = 2 * MIB;

/** A machine whose RAM, 4 MiB at 8 MiB, is of huge pages, with a partition; each page begins with its number. */
function ready(t: ExecutionContext) {
  const machine = new Machine({ pages: 16 * 256 });
  const partition = new LoggingPartition();
  const attachment = machine.attach(partition);
  const memory = SharedMemory.create(2 * HUGE, { name: 'pool', hugePageSize: HUGE });
  const { map, root, va } = machine;
  const ram = map.createRegion({ name: 'huge', kind: 'ram', size: 2 * HUGE }).place(root, { offset: 8 * MIB });
  ram.map({ object: memory });
  for (let page = 0; page < 1024; page++) va.memory.writeU32(8 * MIB + page * PAGE, page);
  const slots = () =>
    joinedSlots(attachment.slots().filter(({ gpa }) => gpa >= 8 * MIB)).map(
      ({ gpa, length, access }) => `${gpa.toString(16)}+${length.toString(16)} ${access}`,
    );
  const words = (...pages: number[]) => pages.map((page) => wordAt(va, 8 * MIB + page * PAGE));
  /** `refused`: how many of the last plans came to nothing. */
  const end = (refused = 0) => {
    t.deepEqual(
      machine.replay().map((plan) => plan.length),
      machine.plans.slice(0, machine.plans.length - refused).map((plan) => plan.length),
      'the trace makes the same plans',
    );
    map.close();
    memory.close();
    machine.memory.close();
    t.deepEqual(footprint(), machine.before);
  };
  return { ...{ machine, map, root, va, ram, memory, partition, slots, words, end } };
}

hugePageTest('registers over a part of a huge page: nobody gets at what is behind them', HUGE, 2, (t) => {
  const { map, root, va, slots, words, end } = ready(t);
  const registers = map.createRegion({ name: 'registers', kind: 'mmio', size: PAGE });
  const worker = WorkerGuestMemory.fromToken(va.token);
  registers.place(root, { offset: 8 * MIB + 5 * PAGE, priority: 1 });
  t.deepEqual(slots(), ['800000+5000 rwx', '806000+3fa000 rwx']);
  t.deepEqual(words(4, 5, 6), [4, 'hole', 6]);
  const at = 8 * MIB + 5 * PAGE;
  const bytes = new Uint8Array(3 * PAGE).fill(0xee);
  const hole = { code: 'GUEST_ACCESS', message: /0x805000 has no memory/ };
  for (const memory of [va.memory, worker]) {
    t.throws(() => memory.read(at - PAGE, bytes), hole, 'read as far as there is memory');
    t.is(new DataView(bytes.buffer).getUint32(0, true), 4);
    t.is(bytes[PAGE], 0xee);
    t.throws(() => memory.write(at, bytes), hole);
    t.throws(() => memory.writeU8(at, 1), hole);
    t.throws(() => memory.compareExchange(at, 4, 5, 6), hole);
    t.throws(() => memory.readU64(at - 4), { code: 'GUEST_ACCESS', message: /has no memory/ });
  }
  t.throws(() => va.memory.lock({ gpa: at - PAGE, length: 2 * PAGE }, 'read', { holder: 'disk' }), hole);
  t.deepEqual(
    va.pieces().map(({ gpa, length }) => [gpa, length]),
    [
      [0, 8 * MIB],
      [8 * MIB, 2 * HUGE],
    ],
    'the VA space has the whole page',
  );
  registers.remove();
  t.deepEqual(words(4, 5, 6), [4, 5, 6]);
  t.deepEqual(slots(), ['800000+400000 rwx']);
  const lease = va.memory.lock({ gpa: at, length: PAGE }, 'write', { holder: 'disk' });
  t.regex(
    refusal(() => registers.place(root, { offset: at, priority: 1 })),
    /^LEASED: .*"disk"/,
  );
  lease.release();
  worker.close();
  end(1);
});

hugePageTest('a part of a huge page is unmapped, cut off, made read-only, and comes back', HUGE, 2, (t) => {
  const { map, root, va, ram, memory, slots, words, end } = ready(t);
  ram.unmap(0, PAGE);
  t.deepEqual([words(0, 1), slots()], [['hole', 1], ['801000+3ff000 rwx']]);
  ram.map({ object: memory, length: PAGE });
  t.deepEqual([words(0, 1), slots()], [[0, 1], ['800000+400000 rwx']]);
  ram.resize(2 * HUGE - 3 * PAGE);
  t.deepEqual(words(1020, 1021), [1020, 'hole']);
  ram.resize(2 * HUGE);
  t.deepEqual(words(1020, 1021), [1020, 'hole'], 'what was past the end is not mapped any more');
  ram.map({ object: memory });
  const shade = map
    .createAlias({ name: 'shade', target: ram, offset: HUGE + PAGE, size: PAGE, readonly: true })
    .place(root, { offset: 8 * MIB + HUGE + PAGE, priority: 1 });
  t.deepEqual(slots(), ['800000+201000 rwx', 'a01000+1000 rx', 'a02000+1fe000 rwx']);
  t.throws(() => va.memory.writeU32(8 * MIB + HUGE + PAGE, 7), { code: 'GUEST_ACCESS', message: /is read-only/ });
  t.is(va.memory.readU32(8 * MIB + HUGE + PAGE), 513);
  t.regex(
    refusal(() => shade.retarget(HUGE + 2 * PAGE)),
    /^UNALIGNED: "huge" shows "pool" at 0xa01000, where its huge pages do not begin and end with the guest's/,
  );
  shade.remove();
  t.deepEqual(slots(), ['800000+400000 rwx']);
  t.deepEqual(words(513, 1021), [513, 1021]);
  end();
});

hugePageTest(
  'other memory over a part of a huge page is refused with both names, and nothing has happened',
  HUGE,
  2,
  (t) => {
    const { machine, map, root, memory, ram, slots, words, end } = ready(t);
    const bar = map.createRegion({ name: 'bar', kind: 'device', size: PAGE }).place(root, { offset: 15 * MIB });
    bar.map({ object: machine.memory, length: PAGE });
    bar.setPriority(1);
    const before = [slots(), words(0, 1, 1023)];
    t.regex(
      refusal(() => bar.move(8 * MIB + PAGE)),
      /^SPLIT_PAGE: "bar" would show other memory at 0x801000, in the midst of a huge page of "huge"/,
    );
    t.regex(
      refusal(() => ram.move(8 * MIB + PAGE)),
      /^UNALIGNED: /,
    );
    t.regex(
      refusal(() => ram.map({ offset: PAGE, object: memory, objectOffset: 2 * PAGE, length: PAGE })),
      /^UNALIGNED: /,
    );
    t.deepEqual([slots(), words(0, 1, 1023)], before);
    t.is(bar.offset, 15 * MIB);
    // Over all of it, it may come: even with nothing mapped in most of it.
    bar.resize(HUGE);
    bar.move(8 * MIB);
    t.deepEqual(words(1, 512), ['hole', 512]);
    t.is(wordAt(machine.va, 8 * MIB), wordAt(machine.va, 0));
    bar.remove();
    t.deepEqual(words(0, 1, 1023), [0, 1, 1023]);
    end();
  },
);

for (const order of ['before', 'after'] as const) {
  hugePageTest(
    `a PC's RAM of huge pages, with a partition that comes ${order} its PAM registers are set`,
    HUGE,
    2,
    (t) => {
      const backing = { kind: 'shared', hugePageSize: HUGE } as const;
      const manager = new GuestMemoryBuilder({ x86LegacySupport: true, maxAddress: 2 ** 30 - 1 })
        .addRam({ name: 'ram', ranges: [{ gpa: 0, length: 2 * HUGE }], backing })
        .build();
      const partition = new LoggingPartition('vm', 32);
      if (order === 'before') manager.attachPartition(partition);
      manager.guestMemory.writeU32(0xc0000, 0xc0);
      manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'unmapped');
      manager.ramVisibility.set({ gpa: 0xc4000, length: 0x4000 }, 'read-only');
      if (order === 'after') manager.attachPartition(partition);
      const slots = [...partition.slots.values()].map(({ gpa, length, access }) => [gpa, length, access] as const);
      const at = (gpa: number) =>
        slots.find(([start, length]) => gpa >= start && gpa < Number(start) + Number(length))?.[2];
      t.deepEqual([0x9ffff, 0xc0000, 0xc4000, 0xc8000, 0x200000].map(at), ['rwx', undefined, 'rx', 'rwx', 'rwx']);
      t.throws(() => manager.guestMemory.readU32(0xc0000), { code: 'GUEST_ACCESS', message: /has no memory/ });
      t.throws(() => manager.guestMemory.writeU32(0xc4000, 1), { code: 'GUEST_ACCESS', message: /is read-only/ });
      manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'read-write');
      t.is(manager.guestMemory.readU32(0xc0000), 0xc0);
      manager.close();
    },
  );
}

hugePageTest('a trust level is kept from 4 KiB of a BAR of huge pages, and of RAM', HUGE, 4, (t) => {
  const backing = { kind: 'shared', hugePageSize: HUGE } as const;
  const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 30 - 1 })
    .addRam({ name: 'ram', ranges: [{ gpa: 0, length: 2 * HUGE }], backing })
    .build();
  const file = SharedMemory.create(HUGE, { name: 'file', hugePageSize: HUGE });
  const { control, region } = manager.deviceMapper.newRegion(HUGE, 'bar');
  region.map(0, file.fd, 0, HUGE, true);
  control.mapToGuest(64 * MIB);
  for (const gpa of [64 * MIB, 0]) {
    manager.guestMemory.writeU32(gpa + PAGE, 7);
    manager.setVtlProtection(0, { gpa: gpa + PAGE, length: PAGE }, 'none');
    t.throws(() => manager.client(0).memory.readU32(gpa + PAGE), { code: 'GUEST_ACCESS', message: /has no memory/ });
    t.is(manager.client(0).memory.readU32(gpa), 0);
    t.is(manager.va.memory.readU32(gpa + PAGE), 7, 'the monitor itself has all of it');
    manager.setVtlProtection(0, { gpa: gpa + PAGE, length: PAGE }, 'rwx');
    t.is(manager.client(0).memory.readU32(gpa + PAGE), 7);
  }
  manager.close();
  file.close();
});

const BAR_MOVES = 'a guest moves a BAR of 4 KiB into one of a huge page: it is decoded nowhere, and the guest goes on';
if (kvmMissing) test.skip(`${BAR_MOVES}: ${kvmMissing}`, () => {});
else
  hugePageTest(BAR_MOVES, HUGE, 1, (t) => {
    const manager = buildVm();
    const guest = new Guest(manager);
    const objects = [SharedMemory.create(PAGE), SharedMemory.create(HUGE, { hugePageSize: HUGE })];
    const ports = new PortBus();
    const bus = new PciBus(ports, { lines: LINK_LINES, set() {} });
    const [small, large] = objects.map((object) => bus.add(new SharedMemoryDevice(manager.deviceMapper, object)));
    const out = (port: number, value: number) => {
      t.is(guest.run('out', { rdx: port, rax: value }), `out ${port.toString(16)} = ${value.toString(16)}`);
      ports.write(port, 4, value);
    };
    const set = (slot: number, register: number, value: number) => {
      out(0xcf8, (0x8000_0000 | (slot << 11) | register) >>> 0);
      out(0xcfc, value);
    };
    const moveTo = (slot: number, at: number) => set(slot, 0x10, at);
    for (const [slot, at] of [0x8000_0000, 0x9000_0000].entries()) {
      moveTo(slot, at);
      set(slot, 0x04, 2);
    }
    t.is(guest.write(0x8000_0000, 5), wrote(5));
    t.is(guest.write(0x9000_1000, 7), wrote(7));
    moveTo(0, 0x9000_1000);
    t.deepEqual([small!.bars, large!.bars], [[undefined], [0x9000_0000]]);
    t.deepEqual(
      [0x8000_0000, 0x9000_1000].map((gpa) => guest.read(gpa)),
      ['mmio read 80000000', got(7)],
    );
    moveTo(0, 0xa000_0000);
    t.deepEqual([small!.bars, guest.read(0xa000_0000)], [[0xa000_0000], got(5)]);
    manager.close();
    guest.close();
    for (const object of objects) object.close();
  });
