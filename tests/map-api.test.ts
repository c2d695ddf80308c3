// The API by its word: each method in right use, transactions, handles that are closed.

import test from 'ava';
import {
  KvmPartition,
  MembackingError,
  type MemoryMap,
  PrivateMemory,
  type Region,
  SharedMemory,
  Vcpu,
} from '../ts/index.ts';
import { renderExplanation } from '../ts/text/render.ts';
import { kvmMissing, kvmTest } from './support/guest.ts';
import { LoggingPartition, Machine, refusal, wordAt } from './support/map-state.ts';
import { footprint, PAGE } from './support/shim-plan.ts';

// ---- Right use ---------------------------------------------------------------------------------

test('a region says what it is, and shows what is mapped', (t) => {
  const machine = new Machine();
  const { ram, memory, map, root } = machine;
  t.is(`${ram}`, 'ram "ram"');
  t.is(ram.kind, 'ram');
  t.is(ram.size, 32 * PAGE);
  t.deepEqual(ram.mappings(), [{ offset: 0, length: 32 * PAGE, object: memory, objectOffset: 0, writable: true }]);
  ram.unmap(4 * PAGE, 4 * PAGE);
  ram.map({ offset: 6 * PAGE, object: memory, objectOffset: 40 * PAGE, length: PAGE, writable: false });
  t.deepEqual(
    ram.mappings().map(({ offset, length, objectOffset, writable }) => [offset, length, objectOffset, writable]),
    [
      [0, 4 * PAGE, 0, true],
      [6 * PAGE, PAGE, 40 * PAGE, false],
      [8 * PAGE, 24 * PAGE, 8 * PAGE, true],
    ],
  );
  ram.resize(7 * PAGE);
  t.is(ram.mappings().length, 2, 'what is past the new end is gone');
  t.is(map.createRegion({ name: 'nothing', kind: 'mmio', size: 0 }).size, 0);
  t.is(map.createRegion({ name: 'all', kind: 'container', size: 2n ** 64n }).size, 2n ** 64n);
  t.is(map.createRegion({ name: 'most', kind: 'container', size: 2n ** 53n }).size, 2n ** 53n);
  t.is(map.createRegion({ name: 'big', kind: 'container', size: 12288n }).size, 0x3000, 'small bigints are numbers');
  t.is(root.kind, 'container');
  machine.end(t);
});

test('regions are placed, moved, hidden, shown and taken out', (t) => {
  const machine = new Machine();
  const { map, root, ram, space } = machine;
  const shape = () =>
    space.flatView().map((range) => {
      const rights = `${range.readonly ? 'r' : 'rw'}${range.nonvolatile ? ' nv' : ''}`;
      return `${range.gpa.toString(16)}+${range.length.toString(16)} ${range.name}@${range.offsetInRegion.toString(16)} ${rights}`;
    });
  const rom = map.createRegion({ name: 'rom', kind: 'rom', size: 4 * PAGE });
  t.is(rom.place(root, { offset: 8 * PAGE, priority: 1 }), rom);
  t.deepEqual(shape(), ['0+8000 ram@0 rw', '8000+4000 rom@0 r', 'c000+14000 ram@c000 rw']);
  rom.move(30 * PAGE);
  t.deepEqual(shape(), ['0+1e000 ram@0 rw', '1e000+4000 rom@0 r']);
  rom.setPriority(-1);
  t.deepEqual(shape(), ['0+20000 ram@0 rw', '20000+2000 rom@2000 r']);
  rom.setFlags({ nonvolatile: true });
  rom.setFlags({});
  t.deepEqual(shape(), ['0+20000 ram@0 rw', '20000+2000 rom@2000 r nv'], 'what is left out stays');
  rom.setFlags({ enabled: false });
  t.deepEqual(shape(), ['0+20000 ram@0 rw']);
  rom.setFlags({ enabled: true });
  rom.remove();
  const alias = map.createAlias({ name: 'mirror', target: ram, offset: PAGE, size: 2 * PAGE, readonly: true });
  alias.place(root, { offset: 32 * PAGE });
  t.deepEqual(shape(), ['0+20000 ram@0 rw', '20000+2000 ram@1000 r']);
  alias.retarget(4 * PAGE);
  t.deepEqual(shape(), ['0+20000 ram@0 rw', '20000+2000 ram@4000 r']);
  t.is(space.find(32 * PAGE)?.region, ram);
  t.is(space.find(40 * PAGE), undefined);
  const { visible, hidden } = space.explain(33 * PAGE);
  t.like(visible, { region: ram, via: alias, offset: 5 * PAGE, through: 'mirror' });
  t.deepEqual(hidden, []);
  alias.remove();
  alias.close();
  rom.close();
  t.true(alias.closed);
  t.is(machine.context.regions.size, 2, 'what was closed is not kept');
  const high = map.createAddressSpace({ name: 'high', root, offset: 2n ** 64n - 4096n });
  t.deepEqual(
    high.flatView().map(({ gpa, length }) => [gpa, length]),
    [[0xffff_ffff_ffff_f000n, PAGE]],
  );
  high.close();
  machine.end(t);
});

test('a VA space tells what is in it, and takes protections', (t) => {
  const machine = new Machine();
  const { va, memory } = machine;
  t.is(va.size, 64 * PAGE);
  t.is(typeof va.base, 'bigint');
  t.deepEqual(va.pieces(), [{ gpa: 0, length: 32 * PAGE, object: memory, objectOffset: 0, access: 'rw' }]);
  va.protect({ gpa: PAGE, length: PAGE, access: 'r' });
  va.protect({ gpa: 2 * PAGE, length: PAGE, access: 'none' });
  t.deepEqual(
    va.pieces().map(({ gpa, length, access }) => [gpa, length, access]),
    [
      [0, PAGE, 'rw'],
      [PAGE, PAGE, 'r'],
      [3 * PAGE, 29 * PAGE, 'rw'],
    ],
  );
  va.protect({ gpa: 0, length: 64 * PAGE, access: 'rwx' });
  t.is(va.pieces().length, 1);
  machine.end(t);
});

test('guest memory is read and written at every width', (t) => {
  const machine = new Machine();
  const { memory } = machine.va;
  memory.writeU64(0x100, 0x1122334455667788n);
  t.is(memory.readU64(0x100), 0x1122334455667788n);
  t.deepEqual([memory.readU8(0x100), memory.readU16(0x101), memory.readU32(0x102)], [0x88, 0x6677, 0x33445566]);
  memory.writeU8(0x100, 0xff);
  memory.writeU16(0x1ff, 0xabcd);
  memory.writeU32(PAGE - 2, 0xffffffff);
  memory.writeU64(0x300, 7);
  const bytes = new Uint8Array(4);
  memory.read(PAGE - 2, bytes);
  t.deepEqual([...bytes], [255, 255, 255, 255]);
  memory.write(0n, Buffer.from('guest'));
  memory.read(0, bytes);
  t.is(Buffer.from(bytes).toString(), 'gues');
  t.is(memory.compareExchange(0x300, 8, 7n, 2n ** 64n - 1n), 7n);
  t.is(memory.compareExchange(0x300, 8, 7, 0), 2n ** 64n - 1n, 'something else was there');
  t.is(memory.compareExchange(0x304, 4, 0xffffffff, 1), 0xffffffffn);
  t.is(memory.readU64(0x300), 0x1_ffffffffn);
  machine.end(t);
});

test('memory objects say what they are', (t) => {
  const before = footprint();
  const shared = SharedMemory.create(2 * PAGE);
  t.deepEqual([shared.name, shared.kind, shared.size, shared.writable], ['memory', 'shared', 2 * PAGE, true]);
  t.is(shared.allocatedBytes, 0);
  const view = SharedMemory.fromFd(shared.fd, { writable: false });
  t.deepEqual([view.name, view.size, view.writable], [`fd ${shared.fd}`, 2 * PAGE, false]);
  const half = SharedMemory.fromFd(shared.fd, { name: 'half', size: PAGE });
  t.deepEqual([half.name, half.size, half.writable], ['half', PAGE, true]);
  const own = PrivateMemory.create(PAGE, { name: 'own' });
  t.deepEqual(
    [own.name, own.kind, own.size, own.writable, own.allocatedBytes],
    ['own', 'private', PAGE, true, undefined],
  );
  const copy = PrivateMemory.fromFile(shared.fd);
  t.deepEqual([copy.name, copy.size], [`copy of fd ${shared.fd}`, 2 * PAGE]);
  for (const object of [copy, own, half, view, shared]) {
    object.close();
    object.close();
    t.true(object.closed);
  }
  t.deepEqual(footprint(), before);
});

test('an object that its owner closes keeps its contents while it is mapped, and then goes', (t) => {
  const machine = new Machine();
  machine.fill();
  const other = SharedMemory.create(PAGE, { name: 'other' });
  machine.ram.map({ object: other });
  machine.va.memory.writeU32(0, 77);
  other.close();
  machine.memory.close();
  t.is(wordAt(machine.va, 0), 77);
  t.is(wordAt(machine.va, PAGE), 1);
  t.is(machine.ram.mappings()[0]?.object, other);
  t.is(machine.context.names.objects.size, 2);
  machine.map.transaction(() => {
    machine.ram.unmap(0, 32 * PAGE);
    t.is(machine.context.names.objects.size, 2, 'it stays to the end of the transaction');
  });
  t.is(machine.context.names.objects.size, 0);
  t.false(footprint().some((line) => line.includes('memfd:other')));
  machine.end(t);
});

/** Does something, and undoes it. */
function undone(map: MemoryMap, body: () => void): void {
  const error = new Error('taken back');
  try {
    map.transaction(() => {
      body();
      throw error;
    });
  } catch (thrown) {
    if (thrown !== error) throw thrown;
  }
}

/** Fates of an object that its owner has closed, of which RAM shows the only page, and whether it is left. */
const LAST_MAPPINGS: readonly [name: string, what: (machine: Machine) => void, isLeft: boolean][] = [
  ['its page is unmapped', ({ ram }) => ram.unmap(0, PAGE), false],
  ['something else is mapped over it', ({ ram, memory }) => ram.map({ object: memory, length: PAGE }), false],
  ['its region becomes shorter', ({ ram }) => ram.resize(0), false],
  ['its region becomes shorter behind it', ({ ram }) => ram.resize(PAGE), true],
  ['what unmaps it is undone', ({ map, ram }) => undone(map, () => ram.unmap(0, PAGE)), true],
  [
    'what unmaps it is undone within another change',
    ({ map, ram }) =>
      map.transaction(() => {
        undone(map, () => ram.unmap(0, PAGE));
        ram.unmap(PAGE, PAGE);
      }),
    true,
  ],
];

/** Whether a map, or the system, knows an object. */
function isKnown({ context }: Machine, name: string): boolean[] {
  const isNamed = [...context.names.objects.values()].includes(name);
  return [isNamed, footprint().some((line) => line.includes(`memfd:${name}`))];
}

test('an object that its owner has closed goes with its last mapping, however it loses that', (t) => {
  for (const [name, what, isLeft] of LAST_MAPPINGS) {
    const machine = new Machine();
    const object = SharedMemory.create(PAGE, { name: 'closed' });
    machine.ram.map({ object });
    object.close();
    what(machine);
    t.deepEqual(isKnown(machine, 'closed'), [isLeft, isLeft], name);
    machine.ram.resize(0);
    t.deepEqual(isKnown(machine, 'closed'), [false, false], name);
    machine.end(t);
  }
});

test('an object may be closed in the transaction that takes its last mapping, before or behind that', (t) => {
  for (const order of ['before', 'behind', 'and it is mapped again']) {
    const machine = new Machine();
    const { map, ram } = machine;
    const object = SharedMemory.create(PAGE, { name: 'closed' });
    ram.map({ object });
    map.transaction(() => {
      if (order === 'before') object.close();
      ram.unmap(0, PAGE);
      if (order === 'and it is mapped again') ram.map({ offset: PAGE, object });
      object.close();
    });
    const isLeft = order === 'and it is mapped again';
    t.deepEqual(isKnown(machine, 'closed'), [isLeft, isLeft], order);
    ram.resize(0);
    t.deepEqual(isKnown(machine, 'closed'), [false, false], order);
    machine.end(t);
  }
});

// ---- Transactions ------------------------------------------------------------------------------

test('a transaction that throws has not happened, whatever it did', (t) => {
  const machine = new Machine();
  const { map, root, ram, va, space } = machine;
  const partition = new LoggingPartition();
  const attachment = machine.attach(partition);
  machine.fill();
  const state = machine.state();
  const contents = machine.contents();
  const made: { closed: boolean }[] = [];
  const other = SharedMemory.create(4 * PAGE, { name: 'other' });
  const closed = [ram, va, attachment];
  const error = t.throws(() =>
    map.transaction(() => {
      const rom = map.createRegion({ name: 'rom', kind: 'rom', size: 4 * PAGE }).place(root, { priority: 1 });
      rom.map({ object: other, writable: false });
      const space2 = map.createAddressSpace({ name: 'second', root });
      const va2 = map.attachVaSpace(space2, { size: 64 * PAGE });
      const late = map.attachPartition(new LoggingPartition('late'), { space: space2, va: va2 });
      made.push(rom, space2, va2, late);
      t.deepEqual(
        made.map((handle) => handle.closed),
        [false, false, false, false],
      );
      ram.unmap(0, PAGE);
      for (const handle of [attachment, va]) handle.close();
      t.throws(() => space.close(), { code: 'IN_USE' }, 'the VA space is attached to the end of the transaction');
      ram.remove();
      ram.close();
      t.deepEqual(
        closed.map((handle) => handle.closed),
        [true, true, true],
      );
      t.throws(() => ram.size, { code: 'CLOSED' });
      throw new Error('never mind');
    }),
  );
  t.is(error?.message, 'never mind');
  t.deepEqual(
    made.map((handle) => handle.closed),
    [true, true, true, true],
    'what was made is closed',
  );
  t.deepEqual(
    closed.map((handle) => handle.closed),
    [false, false, false],
    'what was closed is open',
  );
  t.deepEqual(machine.state(), state);
  t.deepEqual(machine.contents(), contents);
  t.is(machine.context.objects.knownId(other), undefined);
  other.close();
  t.deepEqual(partition.calls, ['add 0: 0 + 20000 rwx']);
  machine.end(t);
});

test('an inner transaction that throws takes back only its own', (t) => {
  const machine = new Machine();
  const { map, root, context } = machine;
  const make = (name: string) => map.createRegion({ name, kind: 'mmio', size: PAGE });
  const [first, lost, last] = map.transaction(() => {
    const first = make('first').place(root, { offset: 40 * PAGE });
    let lost: Region | undefined;
    t.throws(() =>
      map.transaction(() => {
        lost = make('lost').place(root, { offset: 41 * PAGE });
        map.transaction(() => make('lost too').place(root, { offset: 42 * PAGE }));
        throw new Error('inner');
      }),
    );
    t.throws(() => map.transaction(() => first.close()), { code: 'PLACED' });
    return [first, lost!, make('last').place(root, { offset: 43 * PAGE })] as const;
  });
  t.deepEqual([first.closed, lost.closed, last.closed], [false, true, false]);
  t.deepEqual([...context.names.regions.values()], ['system', 'ram', 'first', 'last']);
  t.deepEqual(
    machine.space.flatView().map(({ name }) => name),
    ['ram', 'first', 'last'],
  );
  t.false(machine.text.join('').includes('lost'));
  machine.end(t);
});

test('a refused change inside a transaction leaves the rest of it as it was', (t) => {
  const machine = new Machine();
  const { map, ram, root } = machine;
  map.transaction(() => {
    ram.unmap(0, PAGE);
    t.throws(() => ram.place(root), { code: 'PLACED' });
    t.throws(() => ram.unmap(1, PAGE), { code: 'UNALIGNED' });
    t.throws(() => ram.map({ object: machine.memory, offset: 32 * PAGE }), { code: 'BAD_RANGE' });
    ram.unmap(2 * PAGE, PAGE);
  });
  t.deepEqual(
    ram.mappings().map(({ offset }) => offset),
    [PAGE, 3 * PAGE],
  );
  t.deepEqual(machine.replay(), machine.plans);
  machine.end(t);
});

test.serial('a transaction gives back what its body returns, and does not wait', async (t) => {
  const machine = new Machine();
  t.is(
    machine.map.transaction(() => 7),
    7,
  );
  const state = machine.state();
  const bodies = [
    async () => machine.ram.unmap(0, PAGE),
    async () => {
      machine.ram.unmap(0, PAGE);
      throw new Error('nobody hears this');
    },
  ];
  for (const body of bodies)
    t.throws(() => machine.map.transaction(body as () => unknown), { code: 'INVALID_ARGUMENT', message: /async/ });
  await new Promise(setImmediate);
  t.deepEqual(machine.state(), state);
  machine.end(t);
});

test('transactions nest 64 deep', (t) => {
  const machine = new Machine();
  const state = machine.state();
  const nest = (depth: number): void =>
    machine.map.transaction(() => (depth > 1 ? nest(depth - 1) : machine.ram.unmap(0, PAGE)));
  t.throws(() => nest(65), { code: 'NESTING' });
  t.deepEqual(machine.state(), state);
  nest(64);
  t.is(machine.ram.mappings()[0]?.offset, PAGE);
  machine.end(t);
});

test('the recording of everything replays to the same plans', (t) => {
  const machine = new Machine();
  const { map, root, ram, space, va, memory } = machine;
  const partition = new LoggingPartition('recorder', 32);
  const attachment = map.attachPartition(partition, { space, va, lastGpa: 2 ** 20 - 1 });
  const own = PrivateMemory.create(4 * PAGE);
  const device = map
    .createRegion({ name: 'window', kind: 'device', size: 8 * PAGE })
    .place(root, { offset: 40 * PAGE });
  device.map({ object: own, offset: 2 * PAGE });
  device.map({ object: own, offset: 6 * PAGE, length: PAGE });
  t.is(wordAt(va, 46 * PAGE), 'hole', 'the monitor has private memory at one place');
  map.transaction(() => {
    const rom = map.createRegion({ name: 'rom', kind: 'rom', size: 4 * PAGE, nonvolatile: true });
    rom.place(root, { offset: 4 * PAGE, priority: 1 });
    rom.map({ object: memory, objectOffset: 60 * PAGE, writable: false });
    const closeAndUse = () => {
      rom.remove();
      rom.close();
      return rom.size;
    };
    t.throws(() => map.transaction(closeAndUse), { code: 'CLOSED' });
    rom.move(5 * PAGE);
    rom.resize(3 * PAGE);
  });
  const second = map.createAddressSpace({ name: 'second', root, offset: 64 * PAGE });
  t.throws(() => map.attachVaSpace(space), { code: 'PRIVATE_TWICE' }, 'private memory is in one VA space alone');
  device.unmap(0, 8 * PAGE);
  const va2 = map.attachVaSpace(space, { name: 'va2', size: 80 * PAGE });
  const alias = map
    .createAlias({ name: 'alias', target: ram, offset: 2 * PAGE, size: PAGE })
    .place(root, { offset: 50 * PAGE });
  va2.close();
  t.throws(() => map.attachVaSpace(second, { size: PAGE }), { code: 'PAST_LIMIT' });
  va.protect({ gpa: 8 * PAGE, length: PAGE, access: 'r' });
  attachment.protect({ gpa: 8 * PAGE, length: PAGE, access: 'rx' });
  alias.retarget(0);
  alias.setFlags({ readonly: true });
  alias.setPriority(5);
  const twin = map.attachPartition(partition, { space, va, gpaOffset: 2 ** 20, lastGpa: 2 ** 21 });
  attachment.close();
  twin.close();
  own.close();
  alias.remove();
  alias.close();
  second.close();
  map.close();
  const plans = machine.replay();
  t.deepEqual(plans, machine.plans);
  t.true(plans.filter((plan) => plan !== '').length > 10);
  machine.end(t);
});

// ---- Handles that are closed, and what they belong to ------------------------------------------

test('a closed map is closed to everybody', (t) => {
  const machine = new Machine();
  const { map, root, ram, space, va, memory } = machine;
  const attachment = machine.attach(new LoggingPartition());
  map.close();
  map.close();
  const handles = { map, root, ram, space, va, attachment };
  for (const [name, handle] of Object.entries(handles)) {
    t.true(handle.closed, name);
    handle.close();
  }
  const uses: (() => unknown)[] = [
    () => map.transaction(() => {}),
    () => map.createRegion({ name: 'x', kind: 'ram', size: PAGE }),
    () => map.createAlias({ name: 'x', target: ram, size: PAGE }),
    () => map.createAddressSpace({ name: 'x', root }),
    () => map.attachVaSpace(space),
    () => map.attachPartition(new LoggingPartition(), { space, va }),
    () => ram.size,
    () => ram.place(root),
    () => ram.remove(),
    () => ram.move(0),
    () => ram.resize(0),
    () => ram.setPriority(0),
    () => ram.setFlags({}),
    () => ram.retarget(0),
    () => ram.map({ object: memory }),
    () => ram.unmap(0, PAGE),
    () => ram.mappings(),
    () => space.flatView(),
    () => space.find(0),
    () => space.explain(0),
    () => va.pieces(),
    () => va.protect({ gpa: 0, length: PAGE, access: 'r' }),
    () => va.memory.readU8(0),
    () => va.memory.writeU64(0, 0),
    () => va.memory.read(0, new Uint8Array(1)),
    () => va.memory.compareExchange(0, 1, 0, 0),
    () => attachment.slots(),
    () => attachment.protect({ gpa: 0, length: PAGE, access: 'r' }),
  ];
  for (const use of uses) t.throws(use, { instanceOf: MembackingError, code: 'CLOSED' }, `${use}`);
  machine.end(t);
});

test('a handle that is still needed refuses to be closed, and stays open', (t) => {
  const machine = new Machine();
  const { map, root, ram, space, va } = machine;
  machine.attach(new LoggingPartition());
  const state = machine.state();
  const closeUnderAlias = () => {
    ram.remove();
    map.createAlias({ name: 'alias', target: ram, size: PAGE });
    ram.close();
  };
  t.throws(() => ram.close(), { code: 'PLACED' });
  t.throws(() => root.close(), { code: 'IN_USE' });
  t.throws(() => space.close(), { code: 'IN_USE' });
  t.throws(() => va.close(), { code: 'IN_USE' });
  t.throws(() => map.transaction(closeUnderAlias), { code: 'IN_USE' });
  t.throws(() => map.transaction(() => map.close()), { code: 'IN_USE' });
  t.deepEqual(
    [map, root, ram, space, va].map(({ closed }) => closed),
    [false, false, false, false, false],
  );
  t.deepEqual(machine.state(), state);
  machine.end(t);
});

test('handles are disposable', (t) => {
  const machine = new Machine();
  const region = machine.map.createRegion({ name: 'x', kind: 'ram', size: PAGE });
  region[Symbol.dispose]();
  t.true(region.closed);
  machine.map[Symbol.dispose]();
  machine.end(t);
});

// ---- KVM ---------------------------------------------------------------------------------------

/** Anything may be handed over by those who write JavaScript. */
// biome-ignore lint/suspicious/noExplicitAny: that is the point
type Anything = any;

kvmTest('a KVM partition and its vCPUs refuse what is not theirs', (t) => {
  const before = footprint();
  const partition = KvmPartition.open({ name: 'vm' });
  t.is(partition.name, 'vm');
  t.true(partition.slotLimit > 0);
  t.true(partition.checkExtension(10) > 0);
  const vcpu = partition.createVcpu(0);
  const second = Vcpu.fromToken(vcpu.token);
  t.is(vcpu.id, 0);
  t.is(second.id, undefined);
  vcpu.registers = { rax: 5n, rip: 0x1000n };
  t.is(second.registers.rax, 5n);
  vcpu.specialRegisters = { cr2: 0x123n, cs: { ...vcpu.specialRegisters.cs, base: 0x10000n } };
  t.is(vcpu.specialRegisters.cs.base, 0x10000n);
  const registers = vcpu.registers;
  const answers = [
    () => partition.checkExtension(-1),
    () => partition.createVcpu(0),
    () => partition.createVcpu(-1),
    () => partition.createVcpu('0' as Anything),
    () => partition.resume(),
    () => Object.assign(vcpu, { registers: { eax: 1n } }),
    () => Object.assign(vcpu, { registers: { rax: 1 } }),
    () => Object.assign(vcpu, { registers: { rax: 2n ** 64n } }),
    () => Object.assign(vcpu, { registers: null }),
    () => Object.assign(vcpu, { specialRegisters: { cs: { base: 0n } } }),
    () => Object.assign(vcpu, { specialRegisters: { gdt: 5 } }),
    () => Object.assign(vcpu, { specialRegisters: { cs: { ...vcpu.specialRegisters.cs, dpl: -1 } } }),
  ].map(refusal);
  t.snapshot(answers);
  t.deepEqual(vcpu.registers, registers);
  partition.pause();
  partition.pause();
  t.throws(() => vcpu.run(), { code: 'SYSTEM', message: /EBUSY/ });
  partition.resume();
  partition.resume();
  vcpu.close();
  vcpu.close();
  for (const use of [
    () => vcpu.run(),
    () => vcpu.runToExit(),
    () => vcpu.finish(),
    () => vcpu.kick(),
    () => vcpu.token,
    () => vcpu.registers,
    () => vcpu.specialRegisters,
  ]) {
    t.throws(use, { instanceOf: MembackingError, code: 'CLOSED' }, `${use}`);
  }
  partition.close();
  partition.close();
  t.throws(() => second.run(), { code: 'SYSTEM', message: /EBADF/ });
  second.close();
  for (const use of [
    () => partition.createVcpu(1),
    () => partition.checkExtension(1),
    () => partition.pause(),
    () => partition.resume(),
  ]) {
    t.throws(use, { instanceOf: MembackingError, code: 'CLOSED' }, `${use}`);
  }
  t.deepEqual(footprint(), before);
});

(kvmMissing ? test.skip : test.serial)(
  'a run on a thread of its own says what went wrong as every other call does',
  async (t) => {
    const partition = KvmPartition.open();
    const vcpu = partition.createVcpu(0);
    const run = vcpu.runAsync();
    await t.throwsAsync(vcpu.runAsync(), { code: 'VCPU_RUNNING' });
    t.throws(() => vcpu.registers, { code: 'VCPU_RUNNING' });
    vcpu.kick();
    await run.catch((error) => t.is(error.code, 'SYSTEM'));
    vcpu.close();
    await t.throwsAsync(vcpu.runAsync(), { code: 'CLOSED' });
    partition.close();
  },
);

kvmTest('a closed partition, or one of another map, cannot be attached', (t) => {
  const machine = new Machine();
  const elsewhere = new Machine();
  const partition = KvmPartition.open({ name: 'vm' });
  const attach = ({ map, space, va }: Machine) => map.attachPartition(partition, { space, va });
  const attachment = attach(machine);
  t.is(
    refusal(() => attach(elsewhere)),
    'IN_USE: partition "vm" is attached to another memory map: close that attachment first',
  );
  t.throws(() => machine.map.transaction(() => partition.close()), { code: 'IN_USE' });
  t.false(partition.closed);
  attachment.close();
  attach(elsewhere).close();
  partition.close();
  const state = machine.state();
  t.is(
    refusal(() => attach(machine)),
    'CLOSED: partition "vm" is closed',
  );
  t.deepEqual(machine.state(), state);
  elsewhere.map.close();
  elsewhere.memory.close();
  machine.end(t);
});

if (kvmMissing) {
  test('where there is no KVM, opening a partition says so', (t) => {
    t.throws(() => KvmPartition.open(), { code: 'SYSTEM' });
  });
}

test('pages that a partition keeps have no slot; explain says so, and the recording replays it', (t) => {
  const machine = new Machine();
  const partition = Object.assign(new LoggingPartition(), {
    keptPages: [
      { gpa: 2 * PAGE, length: PAGE },
      { gpa: 40 * PAGE, length: PAGE },
    ],
  });
  const attachment = machine.attach(partition);
  t.deepEqual(
    attachment.slots().map(({ gpa, length }) => [gpa, length]),
    [
      [0, 2 * PAGE],
      [3 * PAGE, 29 * PAGE],
    ],
  );
  t.deepEqual(renderExplanation(machine.space.explain(2 * PAGE)), [
    '00002000 in address space "guest"',
    '  visible  00000000-0001ffff  ram     ram + 2000     priority 0',
    '  mapping                     object  memory + 2000  writable',
    '  slot     none                                      "recorder" keeps the page for itself',
  ]);
  t.deepEqual(renderExplanation(machine.space.explain(40 * PAGE)), [
    '00028000 in address space "guest": nothing is visible (nothing above it)',
    '  slot  none      "recorder" keeps the page for itself',
  ]);
  t.deepEqual(machine.space.explain(3 * PAGE).keptBy, []);
  t.deepEqual(machine.replay(), machine.plans);
  machine.end(t);
});
