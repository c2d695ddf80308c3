// Pages with memory and registers in them, on real memory: the monitor reads and writes the memory, and nothing else
// of the page; what the guest does there comes to the monitor.

import test, { type ExecutionContext } from 'ava';
import { native } from '../ts/core/native.ts';
import {
  type Exit,
  type GuestMemory,
  GuestMemoryBuilder,
  KvmPartition,
  MemoryMap,
  type MemoryObject,
  PrivateMemory,
  type Region,
  renderExplanation,
  SharedMemory,
  type TrappedAccess,
  type VaSpace,
  WorkerGuestMemory,
} from '../ts/index.ts';
import { enterUserMode, guestImage, kvmTest, runOnce, start } from './support/guest.ts';
import { PAGE } from './support/shim-plan.ts';

/** Registers of 0x28 bytes. */
const REGISTERS = 0x28;
const HERE = 4 * PAGE;

interface Machine {
  readonly map: MemoryMap;
  readonly ram: Region;
  readonly fuses: Region;
  readonly va: VaSpace;
  readonly object: MemoryObject;
}

/** Eight pages of RAM, each byte of which has the number of its page, and registers at the start of page 4. */
function machine(make: (size: number) => MemoryObject): Machine {
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'system', kind: 'container', size: 2 ** 32 });
  const object = make(8 * PAGE);
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size: 8 * PAGE }).place(root);
  ram.map({ object });
  const va = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }), { size: 2 ** 20 });
  for (let page = 0; page < 8; page++) va.memory.write(page * PAGE, new Uint8Array(PAGE).fill(page));
  const fuses = map
    .createRegion({ name: 'fuses', kind: 'mmio', size: REGISTERS })
    .place(root, { offset: HERE, priority: 1 });
  return { map, ram, fuses, va, object };
}

/** A test for memory of each kind. */
function cutTest(title: string, body: (t: ExecutionContext, machine: Machine) => void): void {
  for (const [kind, make] of [
    ['shared', (size: number) => SharedMemory.create(size)],
    ['private', (size: number) => PrivateMemory.create(size)],
  ] as const) {
    test(`${title}: ${kind} memory`, (t) => {
      const made = machine(make);
      body(t, made);
      made.map.close();
      made.object.close();
    });
  }
}

function bytes(memory: GuestMemory, gpa: number, length: number): string {
  const into = new Uint8Array(length);
  memory.read(gpa, into);
  return [...new Set(into)].join();
}

cutTest('the monitor reads and writes the memory beside registers, in this thread and in others', (t, { va }) => {
  const worker = WorkerGuestMemory.fromToken(va.token);
  for (const memory of [va.memory, worker]) {
    t.is(bytes(memory, HERE + REGISTERS, PAGE - REGISTERS), '4');
    t.is(bytes(memory, HERE + REGISTERS, 2 * PAGE - REGISTERS), '4,5');
    t.is(bytes(memory, HERE - PAGE, PAGE), '3');
    memory.writeU32(HERE + REGISTERS, 0x1234_5678);
    t.is(memory.readU32(HERE + REGISTERS), 0x1234_5678);
    memory.write(HERE + REGISTERS, new Uint8Array(4).fill(4));
    for (const [gpa, width] of [
      [HERE, 1],
      [HERE + REGISTERS - 1, 1],
      [HERE + REGISTERS - 2, 4],
      [HERE - 1, 2],
    ] as const) {
      const details = { fault: 'hole' };
      t.like(
        t.throws(() => bytes(memory, gpa, width), { code: 'GUEST_ACCESS' }),
        { details },
      );
      t.like(
        t.throws(() => memory.write(gpa, new Uint8Array(width)), { code: 'GUEST_ACCESS' }),
        { details },
      );
    }
    const error = t.throws(() => bytes(memory, HERE - PAGE, 2 * PAGE), { code: 'GUEST_ACCESS' });
    t.like(error, { details: { gpa: HERE } });
    memory.write(HERE - 1, new Uint8Array(1).fill(3));
  }
  worker.close();
});

cutTest('what lies under registers comes back when they go, and moves nowhere meanwhile', (t, { va, fuses }) => {
  fuses.move(HERE + 0x800);
  t.is(bytes(va.memory, HERE, 0x800), '4');
  t.throws(() => bytes(va.memory, HERE + 0x800, 1), { code: 'GUEST_ACCESS' });
  t.deepEqual(
    va.pieces().map(({ gpa, length, access }) => [gpa, length, access]),
    [[0, 8 * PAGE, 'rw']],
  );
  fuses.remove();
  t.is(bytes(va.memory, HERE, PAGE), '4');
});

cutTest('RAM that ends inside of a page has its last bytes', (t, { va, ram, fuses }) => {
  fuses.remove();
  ram.resize(7 * PAGE + 0x123);
  t.is(bytes(va.memory, 7 * PAGE, 0x123), '7');
  t.throws(() => va.memory.readU8(7 * PAGE + 0x123), { code: 'GUEST_ACCESS' });
});

cutTest('an array through which memory is read fast shows nothing of such a page', (t, { va, fuses }) => {
  const errors = new Set<unknown>();
  for (let i = 0; i < 5000; i++) {
    t.is(va.memory.readU8(HERE + REGISTERS + (i % (PAGE - REGISTERS))), 4);
    t.is(va.memory.readU8(HERE - 1), 3);
    try {
      va.memory.readU8(HERE + (i % REGISTERS));
    } catch (error) {
      errors.add((error as { code: string }).code);
    }
  }
  t.deepEqual([...errors], ['GUEST_ACCESS']);
  fuses.move(2 * PAGE + 0x400);
  t.throws(() => va.memory.readU8(2 * PAGE + 0x400), { code: 'GUEST_ACCESS' });
  t.is(va.memory.readU8(2 * PAGE + 0x400 + REGISTERS), 2);
  t.is(va.memory.readU8(HERE), 4);
});

cutTest('such a page is not leased, in words', (t, { va }) => {
  const lock = (gpa: number, length: number) => va.memory.lock({ gpa, length }, 'read', { holder: 'disk' });
  t.like(
    t.throws(() => lock(HERE + REGISTERS, 8), { code: 'GUEST_ACCESS', message: /traps for the guest/ }),
    {
      details: { gpa: HERE + REGISTERS, fault: 'trapping-page' },
    },
  );
  t.throws(() => lock(HERE + PAGE - 1, 2), { message: /traps for the guest/ });
  t.throws(() => lock(HERE, 1), { message: /has no memory/ });
  for (const [gpa, length] of [
    [0, HERE],
    [HERE + PAGE, PAGE],
  ] as const)
    lock(gpa, length).release();
});

cutTest('a lease of the pages around holds registers off', (t, { va, fuses }) => {
  const lease = va.memory.lock({ gpa: HERE + PAGE, length: PAGE }, 'write', { holder: 'disk' });
  t.throws(() => fuses.move(HERE + PAGE + 0x100), { code: 'LEASED' });
  fuses.move(HERE + 0x100);
  lease.release();
  fuses.move(HERE + PAGE + 0x100);
  t.is(bytes(va.memory, HERE, PAGE), '4');
});

cutTest(
  'one call answers what the guest does to the memory, and leaves registers to their device',
  (t, { va, ram }) => {
    const worker = WorkerGuestMemory.fromToken(va.token);
    for (const memory of [va.memory, worker]) {
      const access = (gpa: number, isWrite: boolean, ...data: number[]) => {
        const exit = { kind: 'mmio', gpa, isWrite, data: Uint8Array.from(data) };
        return [memory.answer(exit), ...exit.data];
      };
      t.deepEqual(access(HERE + 0x100, false, 0, 0, 0), [true, 4, 4, 4]);
      t.deepEqual(access(HERE + 0x100, true, 7, 8), [true, 7, 8]);
      t.deepEqual(access(HERE + 0x100, false, 0, 0, 0), [true, 7, 8, 4]);
      memory.write(HERE + 0x100, Uint8Array.of(4, 4));
      t.deepEqual(access(HERE, true, 1, 2, 3, 4), [false, 1, 2, 3, 4]);
      t.deepEqual(access(HERE + REGISTERS - 2, true, 9, 9, 9, 9), [false, 9, 9, 9, 9]);
      t.deepEqual(access(HERE - 2, true, 9, 9, 9, 9), [false, 9, 9, 9, 9], 'not even its bytes of memory');
      t.is(bytes(memory, HERE - 2, 2), '3');
      t.throws(() => memory.answer({ gpa: HERE, isWrite: 1 as never, data: new Uint8Array(1) }), {
        code: 'INVALID_ARGUMENT',
      });
      t.throws(() => memory.answer(undefined as never), { code: 'INVALID_ARGUMENT' });
    }
    ram.setFlags({ readonly: true });
    t.true(va.memory.answer({ gpa: HERE + 0x100, isWrite: false, data: new Uint8Array(4) }));
    t.false(worker.answer({ gpa: HERE + 0x100, isWrite: true, data: new Uint8Array(4) }), 'it is not to be written');
    worker.close();
  },
);

cutTest('explain says that the page traps, and with whom the memory shares it', (t, { va, ram, fuses }) => {
  const why = (gpa: number) =>
    renderExplanation(va.space.explain(gpa))
      .filter((line) => /^ *page/.test(line))
      .map((line) => line.trim().replace(/ +/g, ' '));
  t.deepEqual(why(HERE + 0x100), ['page traps "ram" shares it with "fuses"']);
  t.deepEqual(va.space.explain(HERE + 0x100).traps, {
    gpa: HERE,
    length: PAGE,
    why: 'shared',
    regions: ['fuses', 'ram'],
  });
  t.deepEqual(why(HERE), [], 'registers trap because they are registers');
  t.deepEqual(why(HERE + PAGE), []);
  fuses.remove();
  t.deepEqual(why(HERE + 0x100), []);
  ram.resize(7 * PAGE + 0x123);
  t.deepEqual(why(7 * PAGE), ['page traps "ram" does not fill it in one piece']);
  ram.move(0x10);
  t.deepEqual(why(PAGE), ['page traps "ram" does not begin with a page of the guest\'s']);
});

test('inspect lists the pages that trap although memory is seen in them', (t) => {
  const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 8 * PAGE }] }).build();
  const fuses = manager.map.createRegion({ name: 'fuses', kind: 'mmio', size: REGISTERS });
  t.deepEqual(manager.inspect().trappingPages, []);
  // RAM is above devices: registers come over it in a region of the monitor's own.
  fuses.place(manager.root, { offset: HERE, priority: 1_000_000 });
  const [found, ...others] = manager.inspect().trappingPages;
  t.like(found, { gpa: HERE, length: PAGE, why: 'shared' });
  t.is(found?.regions[0], 'fuses');
  t.is(others.length, 0);
  manager.close();
});

/** The word that the guest writes to a port. */
function word(exit: Exit): number | string {
  return exit.kind === 'io' ? new DataView(exit.data.slice().buffer).getUint32(0, true) : exit.kind;
}

kvmTest('a guest reads and writes RAM that shares its page with registers, by exits that one call answers', (t) => {
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'system', kind: 'container', size: 2 ** 32 });
  const object = SharedMemory.create(64 * PAGE);
  map
    .createRegion({ name: 'ram', kind: 'ram', size: 64 * PAGE })
    .place(root)
    .map({ object });
  const va = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }), { size: 2 ** 20 });
  va.memory.write(0, guestImage());
  const partition = KvmPartition.open();
  map.attachPartition(partition, { space: va.space, va });
  const vcpu = partition.createVcpu(0);
  const raw = native().Vcpu.fromToken(vcpu.token);
  enterUserMode(raw);
  const [page, value] = [40 * PAGE, 0xbeef];
  const fuses = map.createRegion({ name: 'fuses', kind: 'mmio', size: REGISTERS });
  fuses.place(root, { offset: page + 0x800, priority: 1 });
  va.memory.writeU32(page, 0x28);

  start(raw, 'read', { rbx: page });
  t.true(va.memory.answer(vcpu.runToExit() as TrappedAccess));
  t.is(word(vcpu.runToExit()), 0x28);
  start(raw, 'write', { rbx: page, rax: value });
  t.true(va.memory.answer(vcpu.runToExit() as TrappedAccess));
  t.is(word(vcpu.runToExit()), value);
  t.is(va.memory.readU32(page), value);

  start(raw, 'read', { rbx: page + 0x800 });
  const exit = vcpu.runToExit() as TrappedAccess;
  t.is(exit.gpa, page + 0x800);
  t.false(va.memory.answer(exit), "the registers are the device's");
  exit.data.fill(0x11);
  t.is(word(vcpu.runToExit()), 0x1111_1111);
  t.is(runOnce(raw, 'read', { rbx: page - PAGE }), 'out 10 = 0', 'pages around do not exit');

  fuses.remove();
  t.is(runOnce(raw, 'read', { rbx: page }), 'out 10 = beef');
  raw.close();
  vcpu.close();
  partition.close();
  map.close();
  object.close();
});
