// Every command of every plan fails in turn, on real memory and under a real guest: afterwards nothing has happened.
// What was done before the failure is really done, and really taken back.

import test, { type ExecutionContext } from 'ava';
import * as abi from '../assembly/abi.ts';
import { nativeOf } from '../ts/apply/native-executor.ts';
import { addonObjectOf } from '../ts/asked/object.ts';
import { native, type Vcpu } from '../ts/core/native.ts';
import { KvmPartition, type MembackingError, PrivateMemory, type Region, SharedMemory } from '../ts/index.ts';
import { vmOf } from '../ts/sinks/kvm.ts';
import { Failing } from './support/failing.ts';
import { enterUserMode, guestImage, kvmMissing, kvmTest, runOnce } from './support/guest.ts';
import { joinedSlots } from './support/joined-slots.ts';
import { LoggingPartition, Machine, mappingCount, refusal, refusalOf, wordAt } from './support/map-state.ts';
import { encode, mapsOf, PAGE } from './support/shim-plan.ts';
import { alignRows } from './support/table.ts';

/** The guest itself has the first 24 pages, RAM ends at page 64. */
const FIRST = 32;
const PAGES = 128;

/** RAM, a ROM at hand, a device with private memory at page 80, a second VA space, a guest where there is KVM. */
class World extends Machine {
  /** Worlds of a test that has not ended well. */
  static readonly open = new Set<World>();
  readonly other = SharedMemory.create(8 * PAGE, { name: 'other' });
  readonly own = PrivateMemory.create(4 * PAGE, { name: 'own' });
  readonly rom: Region;
  readonly device: Region;
  readonly failing: Failing;
  readonly partition = kvmMissing ? undefined : KvmPartition.open();
  readonly vcpu: Vcpu | undefined;
  readonly attachment;

  constructor() {
    super({ pages: PAGES });
    const { map, root } = this;
    this.va.memory.write(0, guestImage());
    this.fill(FIRST);
    this.rom = map.createRegion({ name: 'rom', kind: 'rom', size: 4 * PAGE });
    this.rom.map({ object: this.other, length: 4 * PAGE });
    this.device = map
      .createRegion({ name: 'device', kind: 'device', size: 8 * PAGE })
      .place(root, { offset: 80 * PAGE });
    this.device.map({ object: this.own, offset: PAGE });
    for (let page = 0; page < 4; page++) this.va.memory.writeU32((81 + page) * PAGE, 0x900 + page);
    this.failing = new Failing(this.context);
    this.attachment = this.attach(this.partition ?? new LoggingPartition('stand-in', 32));
    this.vcpu = this.partition && vmOf(this.partition).createVcpu(0);
    if (this.vcpu) enterUserMode(this.vcpu);
    World.open.add(this);
  }

  /** Answers that the guest gets when it reads each page, and when it writes there what it read. */
  guestView(): string[] {
    const { vcpu } = this;
    if (vcpu === undefined) return [];
    return Array.from({ length: PAGES - FIRST }, (_, index) => {
      const rbx = (FIRST + index) * PAGE;
      const read = runOnce(vcpu, 'read', { rbx });
      return `${read}, ${runOnce(vcpu, 'write', { rbx, rax: Number.parseInt(read.split('= ')[1] ?? '0', 16) })}`;
    });
  }

  /** All of it. */
  view() {
    return { state: this.state(), contents: this.contents().slice(FIRST), guest: this.guestView() };
  }

  /** State that is seen, whatever numbers its slots have, and where they are cut. */
  visible() {
    return {
      slots: joinedSlots(this.attachment.slots()),
      pieces: this.va.text(),
      contents: this.contents().slice(FIRST),
      guest: this.guestView(),
    };
  }

  close(t: ExecutionContext): void {
    this.release();
    this.end(t);
  }

  release(): void {
    World.open.delete(this);
    this.failing.after = Number.POSITIVE_INFINITY;
    for (const handle of [this.vcpu, this.partition, this.other, this.own, this.map, this.memory]) handle?.close();
  }
}

test.afterEach.always(() => {
  for (const world of World.open) world.release();
});

/** One transaction each. */
const SCENARIOS: Readonly<Record<string, (world: World) => unknown>> = {
  'a ROM is put over RAM': ({ rom, root }) => rom.place(root, { offset: 40 * PAGE, priority: 1 }),
  'a ROM is put over private memory': ({ rom, root }) => rom.place(root, { offset: 82 * PAGE, priority: 1 }),
  'private memory moves': ({ device }) => device.move(82 * PAGE),
  'private memory is cut in two and its rear end moves': ({ map, device, own }) =>
    map.transaction(() => {
      device.unmap(2 * PAGE, 3 * PAGE);
      device.map({ offset: 6 * PAGE, object: own, objectOffset: 3 * PAGE });
    }),
  'private memory becomes read-only': ({ device }) => device.setFlags({ readonly: true }),
  'a mapping is replaced in the middle': ({ ram, other }) =>
    ram.map({ offset: 45 * PAGE, object: other, length: 3 * PAGE }),
  'pages are swapped': ({ map, ram, memory }) =>
    map.transaction(() => {
      ram.map({ offset: 40 * PAGE, object: memory, objectOffset: 41 * PAGE, length: PAGE });
      ram.map({ offset: 41 * PAGE, object: memory, objectOffset: 40 * PAGE, length: PAGE, writable: false });
    }),
  'a part is unmapped': ({ ram }) => ram.unmap(50 * PAGE, 2 * PAGE),
  'all RAM goes': ({ ram }) => ram.remove(),
  'all RAM moves': ({ ram }) => ram.move(16 * PAGE),
  'RAM shrinks': ({ ram }) => ram.resize(34 * PAGE),
  'RAM becomes read-only': ({ ram }) => ram.setFlags({ readonly: true }),
  'the monitor loses access to a part': ({ va }) => va.protect({ gpa: 33 * PAGE, length: 2 * PAGE, access: 'r' }),
  'the guest loses access to parts': ({ map, attachment }) =>
    map.transaction(() => {
      attachment.protect({ gpa: 33 * PAGE, length: 2 * PAGE, access: 'rx' });
      attachment.protect({ gpa: 50 * PAGE, length: 2 * PAGE, access: 'none' });
    }),
  'a mirror of RAM is made': ({ map, ram, root, other }) =>
    map.transaction(() => {
      const mirror = map.createAlias({ name: 'mirror', target: ram, offset: FIRST * PAGE, size: 8 * PAGE });
      mirror.place(root, { offset: 96 * PAGE });
      ram.map({ offset: (FIRST + 1) * PAGE, object: other, length: PAGE });
    }),
  'a second VA space and a second partition': ({ map, space, device, va }) =>
    map.transaction(() => {
      device.unmap(0, 8 * PAGE);
      map.attachVaSpace(space, { name: 'second', size: PAGES * PAGE });
      map.attachPartition(new LoggingPartition('other'), { space, va, gpaOffset: 2 ** 21 });
    }),
  'the partition is detached': ({ attachment }) => attachment.close(),
  'everything at once': ({ map, ram, rom, root, device, other, va, attachment }) =>
    map.transaction(() => {
      rom.place(root, { offset: 38 * PAGE, priority: 1 });
      ram.map({ offset: 50 * PAGE, object: other, objectOffset: 4 * PAGE });
      ram.unmap(60 * PAGE, PAGE);
      device.move(100 * PAGE);
      va.protect({ gpa: 37 * PAGE, length: 3 * PAGE, access: 'r' });
      attachment.protect({ gpa: 45 * PAGE, length: PAGE, access: 'rx' });
    }),
};

const behind = kvmMissing ? ` (without a guest: ${kvmMissing})` : '';

/** Ways to make a change; each says how it was refused. */
const WAYS: Readonly<Record<string, (world: World, change: (world: World) => unknown) => Promise<string>>> = {
  'at once': async (world, change) => refusal(() => change(world)),
  'in the background': (world, change) => refusalOf(world.map.transactionAsync(() => void change(world))),
};

for (const [way, make] of Object.entries(WAYS)) {
  test.serial(`wherever a plan that is carried out ${way} fails, nothing has happened${behind}`, async (t) => {
    const rows = [['', 'commands']];
    for (const [title, change] of Object.entries(SCENARIOS)) {
      const world = new World();
      const before = world.view();
      let after = 0;
      for (; ; after++) {
        world.failing.after = after;
        const answer = await make(world, change);
        if (answer === 'nothing') break;
        t.regex(answer, /^PLAN_FAILED: command \d+ of .*the test fails command \d+; nothing was changed$/, title);
        t.deepEqual(world.view(), before, `${title}, after ${after} commands`);
      }
      world.failing.after = Number.POSITIVE_INFINITY;
      t.true(after > 0, title);
      t.notDeepEqual(world.state(), before.state, title);
      rows.push([title, `${after}`]);
      world.close(t);
    }
    for (const row of alignRows(rows)) t.log(row);
  });
}

test('what cannot be taken back is lost; all else goes on, and a repair brings it back with what was in it', (t) => {
  let lost = 0;
  for (const [title, change] of Object.entries(SCENARIOS)) {
    for (const [after, unwindAfter] of [0, 1, 2, 4].flatMap((done) => [0, 1, 2].map((back) => [done, back] as const))) {
      const world = new World();
      const { map, failing, va } = world;
      const before = world.visible();
      const where = `${title}, after ${after} and ${unwindAfter} commands`;
      failing.after = after;
      failing.unwindAfter = unwindAfter;
      const answer = refusal(() => change(world));
      failing.after = Number.POSITIVE_INFINITY;
      failing.unwindAfter = Number.POSITIVE_INFINITY;
      if (answer.startsWith('RANGE_LOST')) {
        lost++;
        t.regex(
          answer,
          /the test fails command \d+; taking it back failed too: at 0x.* nothing now, until repair$/,
          where,
        );
        t.true(map.lost().length > 0, where);
        t.is(world.replay().at(-1), world.plans.at(-1), 'what was lost is in the trace');
        for (const { sink, gpa } of map.lost()) if (sink === 'va') t.is(wordAt(va, Number(gpa)), 'hole', where);
        map.createRegion({ name: 'x', kind: 'ram', size: PAGE }).close();
        t.deepEqual(map.repair(), [], where);
        t.deepEqual(world.visible(), before, where);
      } else if (answer !== 'nothing') {
        t.true(answer.startsWith('PLAN_FAILED'), answer);
        t.deepEqual(world.visible(), before, where);
      }
      world.close(t);
    }
  }
  t.true(lost > 10);
});

test('a map that has lost something is closed in any order', (t) => {
  for (const order of [
    ['map', 'partition', 'memory'],
    ['partition', 'memory', 'map'],
    ['memory', 'map', 'partition'],
  ] as const) {
    const world = new World();
    world.failing.after = 1;
    world.failing.unwindAfter = 0;
    t.throws(() => world.ram.move(16 * PAGE), { code: 'RANGE_LOST' });
    world.failing.after = Number.POSITIVE_INFINITY;
    world.failing.unwindAfter = Number.POSITIVE_INFINITY;
    for (const handle of order) world[handle]?.close();
    t.true(world.map.closed);
    world.close(t);
  }
});

// ---- Failures of the system's own --------------------------------------------------------------

test('an object that the machine has lost fails the plan, and nothing has happened', (t) => {
  const world = new World();
  const { context, ram, map, rom, root, other } = world;
  ram.map({ offset: 45 * PAGE, object: other, length: PAGE });
  const id = [...context.names.objects].find(([, name]) => name === 'other')![0];
  const before = world.view();
  nativeOf(context).addon.clearObject(id);
  const error = t.throws<MembackingError>(() =>
    map.transaction(() => {
      ram.unmap(60 * PAGE, PAGE);
      rom.place(root, { offset: 50 * PAGE, priority: 1 });
    }),
  );
  t.is(error?.code, 'PLAN_FAILED');
  t.regex(
    error?.message ?? '',
    /va-map at 0x32000\) failed: EINVAL: there is no such object, plan; nothing was changed$/,
  );
  t.deepEqual(world.view(), before);
  nativeOf(context).addon.setObject(id, addonObjectOf(other));
  rom.place(root, { offset: 50 * PAGE, priority: 1 });
  world.close(t);
});

kvmTest('a slot that somebody else gave the guest fails the plan, and nothing has happened', (t) => {
  const world = new World();
  const { map, ram, partition, device } = world;
  const foreign = native().Executor.create();
  const reservation = native().Reservation.create(PAGE);
  foreign.setSink(1, abi.SINK_VA, reservation);
  foreign.setSink(2, abi.SINK_PARTITION, vmOf(partition!));
  const slot = { sink: 2, va: 1, gpa: 110 * PAGE, slot: 30, access: abi.ACCESS_ALL };
  t.is(foreign.run(encode([{ op: abi.OP_SLOT_ADD, ...slot }]), 0, 1), 1);
  const before = world.view();
  const move = () =>
    map.transaction(() => {
      ram.unmap(60 * PAGE, PAGE);
      device.move(106 * PAGE);
    });
  const error = t.throws<MembackingError>(move);
  t.is(error?.code, 'PLAN_FAILED');
  t.regex(
    error?.message ?? '',
    /slot-add at 0x6a000\) failed: EEXIST: File exists, KVM_SET_USER_MEMORY_REGION; nothing/,
  );
  t.like(error?.cause, { code: 'EEXIST' });
  t.deepEqual(world.view(), before);
  t.is(foreign.run(encode([{ op: abi.OP_SLOT_DELETE, ...slot }]), 0, 1), 1);
  move();
  t.is(wordAt(world.va, 107 * PAGE), 0x900);
  foreign.close();
  reservation.close();
  world.close(t);
});

test('more mappings than a process may have fail the plan, and nothing has happened', (t) => {
  const pages = 2 ** 17;
  const machine = new Machine({ pages, debug: false });
  const { map, ram, memory } = machine;
  machine.va.memory.writeU32(PAGE, 5);
  // Cut at the same places again and again, which adds mappings, or none, as they have become one meanwhile, or not.
  for (let round = 0; round < 6; round++) {
    map.transaction(() => {
      for (let page = 0; page < 10_000; page += 2) {
        ram.map({ offset: page * PAGE, object: memory, objectOffset: (pages - 1 - page) * PAGE, length: PAGE });
      }
    });
    if (round % 2 === 1) ram.map({ offset: 0, object: memory, length: 10_000 * PAGE });
  }
  const [maps, mappings] = [mapsOf(machine.va.base, BigInt(machine.va.size)), mappingCount()];
  const error = t.throws<MembackingError>(() =>
    map.transaction(() => {
      for (let page = 0; page < pages / 2; page += 2) {
        ram.map({ offset: page * PAGE, object: memory, objectOffset: (pages - 1 - page) * PAGE, length: PAGE });
      }
    }),
  );
  t.is(error?.code, 'PLAN_FAILED');
  t.like(error?.cause, { code: 'ENOMEM', syscall: 'plan' }, 'it is not the system that refuses');
  const done = Number(error?.details.done);
  t.log(`${done} commands were taken back; the process has ${mappings} mappings`);
  t.true(done > 10_000);
  t.deepEqual(mapsOf(machine.va.base, BigInt(machine.va.size)), maps);
  t.is(ram.mappings().length, 1);
  t.is(wordAt(machine.va, PAGE), 5);
  ram.map({ offset: 0, object: memory, objectOffset: 9 * PAGE, length: PAGE });
  t.is(wordAt(machine.va, PAGE), 5);
  machine.end(t);
});
