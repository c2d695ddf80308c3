// Guests and what they see of a memory map: real ones at CPL3 where there is KVM, and monitors' own hypervisors.

import test, { type ExecutionContext } from 'ava';
import { nativeOf } from '../ts/apply/native-executor.ts';
import type { Executor } from '../ts/apply/runner.ts';
import { DISTURBANCES, operationName } from '../ts/core/kinds.ts';
import { native, type Vcpu as RawVcpu } from '../ts/core/native.ts';
import {
  type Attachment,
  type Exit,
  GuestMemoryBuilder,
  KvmPartition,
  MemoryMap,
  PrivateMemory,
  SharedMemory,
  type Vcpu,
} from '../ts/index.ts';
import { vmOf } from '../ts/sinks/kvm.ts';
import { renderExplanation } from '../ts/text/render.ts';
import {
  enterUserMode,
  GUEST_SIZE,
  guestImage,
  kvmMissing,
  kvmTest,
  next,
  type Program,
  runOnce,
  start,
} from './support/guest.ts';
import { joinedSlots } from './support/joined-slots.ts';
import { LoggingPartition, Machine, wordAt } from './support/map-state.ts';
import { tries } from './support/random.ts';
import { footprint, PAGE } from './support/shim-plan.ts';

/** A machine whose RAM, pages 0 to 63, is the guest's: its own are the first 24, each from 32 on begins with its
 *  number. */
class Guest extends Machine {
  readonly partition: KvmPartition;
  readonly attachment: Attachment;
  readonly vcpu: Vcpu;
  readonly raw: RawVcpu;
  /** Number of plans of each disturbance class. */
  readonly classes: Record<string, number> = {};

  constructor({ debug = true } = {}) {
    super({ pages: 128, debug });
    this.va.memory.write(0, guestImage());
    this.fill(32);
    this.partition = KvmPartition.open();
    this.attachment = this.attach(this.partition);
    this.vcpu = this.partition.createVcpu(0);
    this.raw = native().Vcpu.fromToken(this.vcpu.token);
    enterUserMode(this.raw);
    this.context.runner.observe((_, { disturbance }) => {
      const name = DISTURBANCES[disturbance]!;
      this.classes[name] = (this.classes[name] ?? 0) + 1;
    });
  }

  /** Gives the guest's own pages a region of theirs, so that all other RAM may become read-only: where the CPU walks
   *  page tables for the hypervisor too, each walk is a write to them. */
  keepsItsOwn(): void {
    const { map, root, memory } = this;
    const own = map.createRegion({ name: 'own', kind: 'ram', size: GUEST_SIZE });
    own.map({ object: memory, length: GUEST_SIZE });
    own.place(root, { priority: 1 });
  }

  /** Result of a read of the word at the start of a page. */
  reads(page: number): string {
    return runOnce(this.raw, 'read', { rbx: page * PAGE });
  }

  writes(page: number, value: number): string {
    return runOnce(this.raw, 'write', { rbx: page * PAGE, rax: value });
  }

  /** Runs a program on a thread of its own, until it exits. */
  runs(program: Program, inputs: Parameters<typeof start>[2]): Promise<Exit> {
    start(this.raw, program, inputs);
    return this.vcpu.runAsync();
  }

  async close(t: ExecutionContext): Promise<void> {
    this.raw.close();
    this.vcpu.close();
    this.partition.close();
    this.map.close();
    this.memory.close();
    // The thread of a vCPU lets go of it when it ends.
    const isGone = () => footprint().length <= this.before.length;
    for (let tries = 0; tries < 2000 && !isGone(); tries++) await new Promise((resume) => setTimeout(resume, 5));
    this.end(t);
  }
}

/** Serial, because they look at what is left of them. */
function guestTest(
  title: string,
  body: (t: ExecutionContext, guest: Guest) => void | Promise<void>,
  options?: { debug: boolean },
): void {
  if (kvmMissing) {
    test.skip(`${title}: ${kvmMissing}`, () => {});
    return;
  }
  test.serial(title, async (t) => {
    const guest = new Guest(options);
    try {
      await body(t, guest);
    } finally {
      await guest.close(t);
    }
  });
}

const word = (exit: Exit) =>
  exit.kind === 'io' ? new DataView(exit.data.slice().buffer).getUint32(0, true) : exit.kind;

// ---- What a guest sees -------------------------------------------------------------------------

guestTest('a ROM overlay hides RAM and gives it back unchanged', (t, guest) => {
  const { map, root } = guest;
  const bios = SharedMemory.create(2 * PAGE, { name: 'bios' });
  const rom = map.createRegion({ name: 'rom', kind: 'rom', size: 2 * PAGE });
  rom.map({ object: bios });
  const look = () => [39, 40, 41, 42].map((page) => guest.reads(page));
  const before = ['out 10 = 27', 'out 10 = 28', 'out 10 = 29', 'out 10 = 2a'];
  t.deepEqual(look(), before);
  t.is(guest.writes(40, 0xbeef), 'out 11 = beef');
  rom.place(root, { offset: 40 * PAGE, priority: 1 });
  t.deepEqual(look(), ['out 10 = 27', 'out 10 = 0', 'out 10 = 0', 'out 10 = 2a']);
  t.is(guest.writes(40, 7), 'mmio write 28000 = 7');
  t.is(guest.writes(39, 7), 'out 11 = 7');
  t.is(wordAt(guest.va, 40 * PAGE), 0);
  rom.remove();
  t.deepEqual(look(), ['out 10 = 7', 'out 10 = beef', 'out 10 = 29', 'out 10 = 2a']);
  t.deepEqual(joinedSlots(guest.attachment.slots()), [{ gpa: 0, length: 64 * PAGE, access: 'rwx' }]);
  bios.close();
});

guestTest(
  'pages that KVM keeps for itself have no slot, whether taken before or after the map is attached',
  (t, guest) => {
    const { partition, attachment, space } = guest;
    const slots = () => attachment.slots().map(({ gpa, length }) => [Number(gpa) / PAGE, Number(length) / PAGE]);
    const isExplained = () =>
      renderExplanation(space.explain(41 * PAGE)).some((line) => line.includes('keeps the page'));
    t.deepEqual(slots(), [[0, 64]]);
    t.false(isExplained());
    partition.setTssAddress(40 * PAGE);
    const around = [
      [0, 40],
      [43, 21],
    ];
    t.deepEqual(slots(), around);
    t.true(isExplained());
    t.deepEqual([guest.reads(39), guest.reads(43)], ['out 10 = 27', 'out 10 = 2b']);
    t.is(wordAt(guest.va, 41 * PAGE), 41, 'the monitor has the memory there');
    t.throws(() => guest.map.transaction(() => partition.setTssAddress(50 * PAGE)), { code: 'IN_USE' });
    t.deepEqual(slots(), around);
    attachment.close();
    const again = guest.attach(partition);
    t.deepEqual(again.slots().length, 2);
  },
);

kvmTest('RAM around the page of the local APICs: vCPUs are made, what KVM refuses to take changes nothing', (t) => {
  const [end, apic] = [2 ** 32, 0xfee0_0000];
  const manager = new GuestMemoryBuilder({ debug: true }).addRam({ ranges: [{ gpa: 0, length: end }] }).build();
  const partition = KvmPartition.open();
  const { attachments } = manager.attachPartition(partition);
  const slots = () => attachments[0]!.slots().map(({ gpa, length }) => [gpa, length]);
  t.deepEqual(slots(), [[0, end]]);
  partition.createIrqchip();
  const around = [
    [0, apic],
    [apic + PAGE, end - apic - PAGE],
  ];
  t.deepEqual(slots(), around);
  t.throws(() => partition.createIrqchip(), { code: 'SYSTEM' });
  t.deepEqual(slots(), around);
  t.deepEqual(partition.keptPages, [{ gpa: apic, length: PAGE }]);
  partition.createVcpu(0).close();
  partition.close();
  manager.close();
});

guestTest('private memory is hidden, moved and brought back with what the guest wrote', (t, guest) => {
  const { map, root, memory } = guest;
  const own = PrivateMemory.create(2 * PAGE);
  const device = map
    .createRegion({ name: 'device', kind: 'device', size: 2 * PAGE })
    .place(root, { offset: 80 * PAGE });
  device.map({ object: own });
  t.is(guest.writes(81, 0xabc), 'out 11 = abc');
  const cover = map.createRegion({ name: 'cover', kind: 'ram', size: 2 * PAGE });
  cover.map({ object: memory, objectOffset: 100 * PAGE, length: 2 * PAGE });
  cover.place(root, { offset: 80 * PAGE, priority: 1 });
  t.is(guest.reads(81), 'out 10 = 0');
  device.move(90 * PAGE);
  t.is(guest.reads(91), 'out 10 = abc');
  cover.remove();
  t.is(guest.reads(81), 'mmio read 51000');
  device.setFlags({ enabled: false });
  t.is(guest.reads(91), 'mmio read 5b000');
  device.setFlags({ enabled: true });
  t.is(guest.reads(91), 'out 10 = abc');
  own.close();
});

guestTest('a write to read-only RAM exits, and nothing is written', (t, guest) => {
  const { map, root, ram, attachment } = guest;
  guest.keepsItsOwn();
  const ways: Readonly<Record<string, [on: () => void, off: () => void]>> = {
    'the region is read-only': [() => ram.setFlags({ readonly: true }), () => ram.setFlags({ readonly: false })],
    'it is seen through a read-only alias': [
      () => {
        const alias = map.createAlias({ name: 'pam', target: ram, offset: 48 * PAGE, size: PAGE, readonly: true });
        alias.place(root, { offset: 48 * PAGE, priority: 1 });
      },
      () => {
        const alias = guest.space.explain(48 * PAGE).visible!.via!;
        alias.remove();
        alias.close();
      },
    ],
    'this partition may only read it': [
      () => attachment.protect({ gpa: 48 * PAGE, length: PAGE, access: 'rx' }),
      () => attachment.protect({ gpa: 48 * PAGE, length: PAGE, access: 'rwx' }),
    ],
  };
  for (const [how, [on, off]] of Object.entries(ways)) {
    on();
    t.is(guest.writes(48, 1), 'mmio write 30000 = 1', how);
    t.is(guest.reads(48), 'out 10 = 30', how);
    off();
    t.is(guest.writes(48, 0x30), 'out 11 = 30', how);
  }
  t.is(joinedSlots(attachment.slots()).length, 1);
});

guestTest('what a partition may not even read exits like a hole', (t, guest) => {
  guest.attachment.protect({ gpa: 48 * PAGE, length: PAGE, access: 'none' });
  t.is(guest.reads(48), 'mmio read 30000');
  t.is(guest.reads(47), 'out 10 = 2f');
  t.is(wordAt(guest.va, 48 * PAGE), 48, 'the monitor may');
});

guestTest('an unmapped part under a slot faults; once it is mapped, the same instruction completes', (t, guest) => {
  const { ram, memory, attachment } = guest;
  ram.unmap(50 * PAGE, 2 * PAGE);
  t.is(attachment.slots().length, 1, 'the slot is not touched');
  t.is(guest.reads(50), 'memory-fault');
  ram.map({ offset: 50 * PAGE, object: memory, objectOffset: 33 * PAGE, length: PAGE });
  t.is(next(guest.raw), 'out 10 = 21');
  t.is(guest.writes(51, 6), 'memory-fault');
  ram.map({ offset: 51 * PAGE, object: memory, objectOffset: 51 * PAGE, length: PAGE });
  t.is(next(guest.raw), 'out 11 = 6');
  t.is(wordAt(guest.va, 51 * PAGE), 6);
});

// ---- While it runs -----------------------------------------------------------------------------

guestTest('a mapping is replaced under a live slot, and the running guest sees it', async (t, guest) => {
  const { ram, memory, attachment } = guest;
  for (let round = 0; round < 20; round++) {
    const value = Number(wordAt(guest.va, 60 * PAGE));
    const exit = guest.runs('watch', { rbx: 60 * PAGE, rcx: value });
    const objectOffset = (round % 2 === 0 ? 61 : 60) * PAGE;
    ram.map({ offset: 60 * PAGE, object: memory, objectOffset, length: PAGE });
    const seen = await exit;
    t.like(seen, { kind: 'io', port: 0x12 });
    t.is(word(seen), round % 2 === 0 ? 61 : 60);
  }
  t.is(attachment.slots().length, 1);
  t.deepEqual(guest.classes, { none: 20 });
});

const PLANS = tries(10_000);

guestTest(
  `a vCPU that spins on bytes that stay valid never exits over ${PLANS} plans of class none or changed`,
  async (t, guest) => {
    const { map, root, ram, memory, va } = guest;
    const device = map.createRegion({ name: 'bar', kind: 'device', size: 8 * PAGE }).place(root, { offset: 80 * PAGE });
    const card = map.createRegion({ name: 'card', kind: 'ram', size: 2 * PAGE });
    card.map({ object: memory, objectOffset: 96 * PAGE, length: 2 * PAGE });
    const twin = map.createRegion({ name: 'twin', kind: 'rom', size: 2 * PAGE });
    twin.map({ object: memory, objectOffset: 98 * PAGE, length: 2 * PAGE });
    const own = PrivateMemory.create(PAGE);
    const changes: readonly ((round: number) => void)[] = [
      () => card.place(root, { offset: 100 * PAGE }),
      (round) => device.map({ offset: (round % 8) * PAGE, object: memory, objectOffset: 110 * PAGE, length: PAGE }),
      // The neighbours of the bytes, in the same slot and the same mapping.
      (round) => ram.map({ offset: 59 * PAGE, object: memory, objectOffset: (round % 50) * PAGE, length: PAGE }),
      () => ram.unmap(61 * PAGE, PAGE),
      () => device.map({ offset: PAGE, object: own }),
      () => card.move(104 * PAGE),
      // A slot for another one at the same place.
      () =>
        map.transaction(() => {
          card.remove();
          twin.place(root, { offset: 104 * PAGE });
        }),
      () => ram.map({ offset: 61 * PAGE, object: memory, objectOffset: 61 * PAGE, length: PAGE }),
      // Mappings of the bytes as they are; a limit on what the monitor alone may do with them.
      () => ram.map({ offset: 60 * PAGE, object: memory, objectOffset: 60 * PAGE, length: PAGE }),
      () => va.protect({ gpa: 58 * PAGE, length: PAGE, access: 'r' }),
      () => device.unmap(0, 8 * PAGE),
      () => va.protect({ gpa: 58 * PAGE, length: PAGE, access: 'rwx' }),
      () => twin.remove(),
    ];
    let isOver = false;
    const exit = guest.runs('watch', { rbx: 60 * PAGE, rcx: 60 });
    exit.finally(() => {
      isOver = true;
    });
    for (let plan = 0; plan < PLANS; plan++) {
      changes[plan % changes.length]!(plan);
      if (plan % 500 === 499) {
        await new Promise(setImmediate);
        t.false(isOver, `after plan ${plan}`);
      }
    }
    va.memory.writeU32(60 * PAGE, 0xd00d);
    const seen = await exit;
    t.like(seen, { kind: 'io', port: 0x12 });
    t.is(word(seen), 0xd00d, 'it ran to the end');
    t.log(guest.classes);
    t.deepEqual(Object.keys(guest.classes).sort(), ['changed', 'none']);
    own.close();
  },
  { debug: false },
);

guestTest('vCPUs are held while bytes that stay valid are absent, and never notice', async (t, guest) => {
  const { map, root, ram, memory, va } = guest;
  // With few slots, they are joined again and again.
  guest.attachment.close();
  const attachment = guest.attach(guest.partition, { slotLimit: 5 });
  const overlay = map.createRegion({ name: 'overlay', kind: 'rom', size: PAGE });
  overlay.map({ object: memory, objectOffset: 100 * PAGE, length: PAGE });
  // The guest's code, its page tables and what it looks at are all in the slot that is deleted and added.
  const changes: readonly (() => void)[] = [
    () => overlay.place(root, { offset: 50 * PAGE, priority: 1 }),
    () => overlay.move(40 * PAGE),
    () => attachment.protect({ gpa: 45 * PAGE, length: PAGE, access: 'rx' }),
    () => overlay.remove(),
    () => attachment.protect({ gpa: 45 * PAGE, length: PAGE, access: 'rwx' }),
    () => ram.resize(63 * PAGE),
    () => ram.resize(64 * PAGE),
  ];
  const exit = guest.runs('watch', { rbx: 60 * PAGE, rcx: 60 });
  for (let plan = 0; plan < 40 * changes.length; plan++) changes[plan % changes.length]!();
  va.memory.writeU32(60 * PAGE, 0xd00d);
  const seen = await exit;
  t.like(seen, { kind: 'io', port: 0x12 });
  t.is(word(seen), 0xd00d);
  t.true(guest.classes['unchanged-bytes']! >= 40 * 2);
  t.log(`${guest.classes['unchanged-bytes']} plans of class unchanged-bytes`);
});

guestTest('a counting guest loses no count while its slot is taken and given back', async (t, guest) => {
  const { ram, va, vcpu } = guest;
  // With one slot, it cannot stay cut.
  guest.attachment.close();
  guest.attach(guest.partition, { slotLimit: 1 });
  va.memory.writeU32(40 * PAGE, 0);
  const exit = guest.runs('count', { rbx: 40 * PAGE });
  let last = 0;
  for (let plan = 0; plan < 200; plan++) {
    ram.resize((63 + (plan % 2)) * PAGE);
    const count = va.memory.readU32(40 * PAGE);
    t.true(count >= last);
    last = count;
  }
  vcpu.kick();
  t.deepEqual(await exit, { kind: 'kicked' });
  t.true(last > 0);
});

// ---- Several partitions, several views ---------------------------------------------------------

guestTest('two partitions on one map see the same, and one goes without the other', (t, guest) => {
  const { ram, memory } = guest;
  guest.keepsItsOwn();
  const partition = KvmPartition.open({ name: 'second' });
  const attachment = guest.attach(partition);
  const vcpu = vmOf(partition).createVcpu(0);
  enterUserMode(vcpu);
  const read = (page: number) => runOnce(vcpu, 'read', { rbx: page * PAGE });
  t.is(read(40), 'out 10 = 28');
  t.is(guest.writes(40, 5), 'out 11 = 5');
  t.is(read(40), 'out 10 = 5');
  ram.map({ offset: 40 * PAGE, object: memory, objectOffset: 41 * PAGE, length: PAGE });
  t.deepEqual([guest.reads(40), read(40)], ['out 10 = 29', 'out 10 = 29']);
  attachment.protect({ gpa: 41 * PAGE, length: PAGE, access: 'rx' });
  t.deepEqual(
    [guest.writes(41, 1), runOnce(vcpu, 'write', { rbx: 41 * PAGE, rax: 2 })],
    ['out 11 = 1', 'mmio write 29000 = 2'],
  );
  vcpu.close();
  partition.close();
  t.true(attachment.closed, 'an attachment is closed with its partition');
  t.is(guest.reads(40), 'out 10 = 1');
  ram.setFlags({ readonly: true });
  t.is(guest.writes(40, 9), 'mmio write 28000 = 9');
});

guestTest('one partition sees an address space again at an offset, even its private memory', (t, guest) => {
  const { map, root, space, va, partition, attachment } = guest;
  attachment.close();
  const low = map.attachPartition(partition, { space, va, lastGpa: 2 ** 21 - 1 });
  const high = map.attachPartition(partition, { space, va, gpaOffset: 2 ** 21 });
  const own = PrivateMemory.create(PAGE);
  map
    .createRegion({ name: 'own', kind: 'ram', size: PAGE })
    .place(root, { offset: 100 * PAGE })
    .map({ object: own });
  t.is(guest.writes(512 + 100, 0x4d), 'out 11 = 4d');
  t.is(guest.reads(100), 'out 10 = 4d');
  low.protect({ gpa: 100 * PAGE, length: PAGE, access: 'rx' });
  t.is(guest.writes(100, 1), 'mmio write 64000 = 1');
  t.is(guest.writes(612, 1), 'out 11 = 1');
  t.deepEqual(
    [low, high].map((each) => each.slots().map(({ slot, gpa }) => [slot, gpa])),
    [
      [
        [0, 0],
        [2, 100 * PAGE],
      ],
      [
        [1, 0],
        [3, 100 * PAGE],
      ],
    ],
  );
  high.close();
  t.is(guest.reads(612), 'mmio read 264000');
  own.close();
});

guestTest(
  'a closed partition leaves the map as it is, and a closed map leaves the partition free for another',
  (t, guest) => {
    const { partition, ram, map } = guest;
    guest.keepsItsOwn();
    const second = KvmPartition.open();
    guest.attach(second);
    second.close();
    ram.setFlags({ readonly: true });
    t.is(guest.writes(40, 1), 'mmio write 28000 = 1');
    map.close();
    t.false(partition.closed);
    // A guest without any memory is not run: it never leaves a stock KVM. A slot that was left would be in the way
    // here.
    const other = new Machine({ pages: 128 });
    other.va.memory.write(0, guestImage());
    other.va.memory.writeU32(40 * PAGE, 0x4d);
    other.attach(partition);
    t.is(guest.reads(40), 'out 10 = 4d');
    other.end(t);
  },
);

function permutations<Item>(items: readonly Item[]): Item[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item) => permutations(items.filter((other) => other !== item)).map((rest) => [item, ...rest]));
}

(kvmMissing ? test.skip : test.serial)('everything is closed in every order, and nothing is left', (t) => {
  const before = footprint();
  for (const order of permutations(['map', 'partition', 'vcpu', 'memory', 'attachment'] as const)) {
    const map = new MemoryMap();
    const root = map.createRegion({ name: 'system', kind: 'container', size: 16 * PAGE });
    const space = map.createAddressSpace({ name: 'guest', root });
    const va = map.attachVaSpace(space, { size: 16 * PAGE });
    const memory = SharedMemory.create(4 * PAGE);
    map
      .createRegion({ name: 'ram', kind: 'ram', size: 4 * PAGE })
      .place(root)
      .map({ object: memory });
    const partition = KvmPartition.open();
    const vcpu = partition.createVcpu(0);
    const attachment = map.attachPartition(partition, { space, va });
    const handles = { map, partition, vcpu, memory, attachment };
    for (const name of order) handles[name].close();
    t.deepEqual(
      Object.values(handles).map(({ closed }) => closed),
      [true, true, true, true, true],
      order.join(', '),
    );
  }
  t.deepEqual(footprint(), before);
});

// ---- Hypervisors of the monitor's own ----------------------------------------------------------

test('a partition of the monitor gets its commands in plan order, between those for this machine', (t) => {
  const machine = new Machine();
  const { context, map, ram, root, memory } = machine;
  const partition = new LoggingPartition();
  const attachment = machine.attach(partition);
  t.deepEqual(partition.calls, ['add 0: 0 + 20000 rwx']);
  t.is(partition.slots.get(0)?.hva, machine.va.base);
  const { runner } = context;
  const own = nativeOf(context);
  const listening: Executor = {
    execute: (core, first, count) => {
      for (let i = first; i < first + count; i++) {
        const { op, gpa } = core.command(i);
        partition.calls.push(`${operationName(op)} ${gpa.toString(16)}`);
      }
      return own.execute(core, first, count);
    },
    get failure() {
      return own.failure;
    },
  };
  runner.interpose((executor) => (executor === own ? listening : executor));
  const calls = (change: () => unknown) => {
    partition.calls.length = 0;
    change();
    return partition.calls;
  };
  t.deepEqual(
    calls(() => ram.move(32 * PAGE)),
    ['delete 0', 'va-unmap 0', 'va-map 20000', 'add 0: 20000 + 20000 rwx'],
  );
  t.deepEqual(
    calls(() => ram.unmap(0, PAGE)),
    ['va-unmap 20000'],
  );
  t.deepEqual(
    calls(() =>
      map.transaction(() => {
        ram.move(0);
        const rom = map.createRegion({ name: 'rom', kind: 'rom', size: PAGE });
        rom.place(root, { offset: 4 * PAGE, priority: 1 });
        rom.map({ object: memory, objectOffset: 60 * PAGE, length: PAGE });
      }),
    ),
    [
      'delete 0',
      'va-unmap 21000',
      'va-map 1000',
      'va-map 4000',
      'va-map 5000',
      'add 0: 0 + 4000 rwx',
      'add 1: 4000 + 1000 rx',
      'add 2: 5000 + 1b000 rwx',
    ],
  );
  t.deepEqual(
    calls(() => ram.setFlags({ nonvolatile: true })),
    [],
  );
  t.deepEqual(
    calls(() => ram.setPriority(2)),
    ['delete 1', 'va-map 4000', 'add 1: 4000 + 1000 rwx'],
  );
  t.deepEqual(
    calls(() => attachment.close()),
    ['delete 0', 'delete 1', 'delete 2'],
  );
  machine.end(t);
});

test('a partition that is attached twice is paused once', (t) => {
  const machine = new Machine();
  const { map, space, va, ram } = machine;
  const partition = new LoggingPartition();
  map.attachPartition(partition, { space, va, lastGpa: 2 ** 20 - 1 });
  map.attachPartition(partition, { space, va, gpaOffset: 2 ** 20 });
  partition.calls.length = 0;
  ram.resize(31 * PAGE);
  t.deepEqual(partition.calls, [
    'pause',
    'delete 0',
    'delete 1',
    'add 0: 0 + 1f000 rwx',
    'add 1: 100000 + 1f000 rwx',
    'resume',
  ]);
  machine.end(t);
});

test('wherever a partition of the monitor throws, nothing has happened', (t) => {
  const machine = new Machine();
  const { map, ram, root, memory } = machine;
  const [first, second] = [new LoggingPartition('first'), new LoggingPartition('second')];
  machine.attach(first);
  machine.attach(second);
  machine.fill();
  const change = () =>
    map.transaction(() => {
      const rom = map.createRegion({ name: 'rom', kind: 'rom', size: PAGE });
      rom.place(root, { offset: 4 * PAGE, priority: 1 });
      rom.map({ object: memory, objectOffset: 60 * PAGE, length: PAGE });
      ram.unmap(20 * PAGE, PAGE);
    });
  const view = () => [machine.state(), machine.contents(), [...first.slots], [...second.slots]];
  const before = view();
  for (const partition of [first, second]) {
    for (let after = 0; after < 4; after++) {
      partition.failsAfter = after;
      t.throws(change, { code: 'PLAN_FAILED', message: /the hypervisor refuses to/ }, `${partition.name} ${after}`);
      t.deepEqual(view(), before, `${partition.name} ${after}`);
    }
  }
  change();
  t.is(first.slots.size, 3);
  machine.end(t);
});

test('a pause that throws stops the change, and a resume that throws is told after it', (t) => {
  const machine = new Machine();
  const { ram, map, root } = machine;
  const [calm, partition] = [new LoggingPartition('calm'), new LoggingPartition()];
  machine.attach(calm);
  machine.attach(partition);
  const state = machine.state();
  calm.calls.length = 0;
  partition.pause = () => {
    throw new Error('it will not stand still');
  };
  t.throws(() => ram.resize(31 * PAGE), {
    code: 'PLAN_FAILED',
    message: 'a partition could not be paused for a change of its memory map; nothing was changed',
  });
  t.deepEqual(machine.state(), state);
  t.deepEqual(calm.calls, ['pause', 'resume']);
  partition.pause = () => {};
  partition.resume = () => {
    throw new Error('it sleeps');
  };
  t.throws(
    () =>
      map.transaction(() => {
        ram.resize(31 * PAGE);
        map.createRegion({ name: 'made', kind: 'mmio', size: PAGE }).place(root, { offset: 31 * PAGE });
      }),
    { code: 'RESUME_FAILED', message: /^the memory map was changed, but .*: it sleeps$/ },
  );
  t.is(ram.size, 31 * PAGE);
  t.deepEqual(
    machine.space.flatView().map(({ name, region }) => [name, region.closed]),
    [
      ['ram', false],
      ['made', false],
    ],
  );
  t.is(partition.slots.get(0)?.length, 31 * PAGE);
  t.deepEqual(calm.calls.slice(2), ['pause', 'delete 0', 'add 0: 0 + 1f000 rwx', 'resume']);
  partition.resume = () => {};
  ram.resize(32 * PAGE);
  machine.end(t);
});

test('what a partition does to the map while it is called is refused, and closes nothing', (t) => {
  const machine = new Machine();
  const { map, ram, va } = machine;
  const [gone, stray] = [SharedMemory.create(PAGE), SharedMemory.create(PAGE)];
  ram.map({ object: gone });
  ram.map({ object: machine.memory, length: PAGE });
  const partition = new LoggingPartition();
  const refused: unknown[] = [];
  const attempt = (body: () => unknown) => {
    try {
      body();
    } catch (error) {
      refused.push((error as { code: string }).code);
    }
  };
  const addSlot = partition.addSlot.bind(partition);
  partition.addSlot = (slot) => {
    attempt(() => ram.unmap(0, PAGE));
    attempt(() => map.transaction(() => {}));
    attempt(() => map.createRegion({ name: 'x', kind: 'ram', size: PAGE }));
    attempt(() => va.close());
    attempt(() => map.close());
    attempt(() => ram.map({ object: stray }));
    gone.close();
    addSlot(slot);
  };
  machine.attach(partition);
  const pending = 'PLAN_PENDING';
  t.deepEqual(refused, [pending, pending, pending, pending, 'IN_USE', pending]);
  t.false(map.closed);
  t.true(gone.closed);
  t.deepEqual([...machine.context.names.objects.values()], ['memory'], 'what was closed meanwhile is gone');
  t.deepEqual(machine.replay(), machine.plans);
  stray.close();
  machine.end(t);
});
