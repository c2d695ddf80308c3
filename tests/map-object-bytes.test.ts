// Bytes of memory objects: the monitor reads and writes them wherever they are shown, and whatever the guest may do
// there. A ROM is filled so, while the guest reads it.

import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, readSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import * as abi from '../assembly/abi.ts';
import { artefact } from '../ts/core/artefact.ts';
import { type MemoryObject, PrivateMemory, SharedMemory } from '../ts/index.ts';
import { FAULTS, FAULTY_ENV } from './support/faulty-system.ts';
import { kvmTest } from './support/guest.ts';
import { Machine, refusal } from './support/map-state.ts';
import { namelessFile } from './support/nameless-file.ts';
import { PATIENCE } from './support/patience.ts';
import { SEED, tries } from './support/random.ts';
import { footprint, makeWorld, PAGE, PRIVATE } from './support/shim-plan.ts';
import { buildVm, Guest, got } from './support/vm.ts';

const PAGES = 8;
const SIZE = PAGES * PAGE;
const ROM = 0x8000_0000;

function fromFile<Memory extends MemoryObject>(make: (fd: number) => Memory): Memory {
  const fd = namelessFile(SIZE);
  try {
    return make(fd);
  } finally {
    closeSync(fd);
  }
}

const KINDS: Readonly<Record<string, () => SharedMemory | PrivateMemory>> = {
  'shared memory': () => SharedMemory.create(SIZE),
  'a file': () => fromFile((fd) => SharedMemory.fromFd(fd)),
  'private memory': () => PrivateMemory.create(SIZE),
  'a copy of a file': () => fromFile((fd) => PrivateMemory.fromFile(fd)),
};

for (const [kind, make] of Object.entries(KINDS)) {
  test(`bytes of ${kind} are a model's, wherever a map shows them and however it protects them`, (t) => {
    const machine = new Machine({ debug: false });
    const { map, root } = machine;
    const object = make();
    const rom = map.createRegion({ name: 'rom', kind: 'rom', size: SIZE });
    const cover = map.createRegion({ name: 'cover', kind: 'mmio', size: 2 * PAGE });
    const model = new Uint8Array(SIZE);
    let value = 0;
    const place = fc.record({ page: fc.nat(40), part: fc.nat(PAGES - 1), covered: fc.option(fc.nat(48)) });
    const range = fc.record({ from: fc.nat(SIZE), length: fc.nat(3 * PAGE) });
    const property = fc.property(place, range, (where, { from, length }) => {
      map.transaction(() => {
        rom.unmap(0, SIZE);
        for (const region of [rom, cover]) if (region.offset !== undefined) region.remove();
        rom.map({ offset: 0, object, objectOffset: where.part * PAGE, length: (PAGES - where.part) * PAGE });
        rom.place(root, { offset: where.page * PAGE, priority: 1 });
        if (where.covered !== null) cover.place(root, { offset: where.covered * PAGE, priority: 2 });
      });
      const bytes = new Uint8Array(Math.min(length, SIZE - from)).fill(++value);
      object.write(from, bytes);
      model.set(bytes, from);
      const all = new Uint8Array(SIZE);
      object.read(0, all);
      t.deepEqual(all, model);
      const seen = new Uint8Array(PAGE);
      const isCovered = where.covered !== null && Math.abs(where.covered - where.page + 0.5) < 1;
      if (!isCovered) {
        machine.va.memory.read(where.page * PAGE, seen);
        t.deepEqual(seen, model.slice(where.part * PAGE, (where.part + 1) * PAGE));
      }
    });
    fc.assert(property, { numRuns: tries(60), seed: SEED });
    object.close();
    machine.end(t);
  });
}

test('bytes that are not asked for as they must be are refused, and nothing is copied', (t) => {
  const before = footprint();
  const object = SharedMemory.create(SIZE, { name: 'bios' });
  const readonly = fromFile((fd) => SharedMemory.fromFd(fd, { name: 'disk', writable: false }));
  const two = Uint8Array.of(1, 2);
  t.snapshot(
    [
      () => object.read(SIZE - 1, two),
      () => object.write(2n ** 64n - 1n, two),
      () => object.write(-1, two),
      () => object.write(0, [1] as never),
      () => readonly.write(0, two),
    ].map(refusal),
  );
  object.read(SIZE, new Uint8Array(0));
  t.deepEqual(two, Uint8Array.of(1, 2));
  readonly.read(0, two);
  t.deepEqual(two, Uint8Array.of(0, 0));
  object.close();
  t.throws(() => object.read(0, two), { code: 'CLOSED' });
  readonly.close();
  t.deepEqual(footprint(), before);
});

test('where a file has become shorter, the bytes before are copied, and the error says which is missing', (t) => {
  const fd = namelessFile(SIZE);
  const [shared, copy] = [SharedMemory.fromFd(fd), PrivateMemory.fromFile(fd)];
  ftruncateSync(fd, 2 * PAGE);
  for (const object of [shared, copy]) {
    const bytes = new Uint8Array(2 * PAGE).fill(7);
    const missing = { code: 'GUEST_ACCESS', message: /0x2000 is not there: its file ends before/ };
    const error = t.throws(() => object.write(PAGE, bytes), missing);
    t.like(error, { details: { offset: 2 * PAGE } });
    t.throws(() => object.read(PAGE + 1, bytes), missing);
  }
  const written = new Uint8Array(PAGE);
  readSync(fd, written, 0, PAGE, PAGE);
  t.deepEqual(written, new Uint8Array(PAGE).fill(7));
  for (const object of [shared, copy]) object.close();
  closeSync(fd);
});

test('a call of the system that fails is an error; no mapping is left of it', (t) => {
  const story = `
    import { readFileSync } from 'node:fs';
    import { SharedMemory } from ${JSON.stringify(artefact('index.js').href)};
    const module = { exports: {} };
    process.dlopen(module, ${JSON.stringify(FAULTS)});
    const memory = SharedMemory.create(4096);
    const mappings = () => readFileSync('/proc/self/maps', 'utf8').match(/memfd:/g)?.length ?? 0;
    const outcomes = [0, 1, 2].map((calls) => {
      module.exports.failAfter(calls);
      try {
        memory.write(1, Uint8Array.of(1));
        return 'done';
      } catch ({ code }) {
        return code;
      } finally {
        module.exports.heal();
      }
    });
    console.log(JSON.stringify([outcomes, mappings()]));`;
  const options = { encoding: 'utf8', env: FAULTY_ENV, timeout: PATIENCE } as const;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', story], options);
  t.deepEqual(stdout && JSON.parse(stdout), [['SYSTEM', 'SYSTEM', 'done'], 0], stderr);
});

test('private memory that went with its VA space is missed, and nothing else is read in its place', (t) => {
  const world = makeWorld({ objectSize: SIZE });
  world.private.write(PAGE, Uint8Array.of(7));
  world.run({ op: abi.OP_VA_UNPARK, object: PRIVATE, offset: PAGE, gpa: 4 * PAGE, length: PAGE });
  const bytes = new Uint8Array(SIZE);
  t.is(world.private.read(0, bytes), SIZE);
  t.is(bytes[PAGE], 7);
  world.executor.close();
  world.space.close();
  t.is(world.private.read(0, bytes), PAGE, 'as far as it is there');
  t.is(world.private.whyMissing(PAGE), 'it went with the VA space that showed it');
  t.is(world.private.read(2 * PAGE, bytes.subarray(2 * PAGE)), SIZE - 2 * PAGE);
  world.close();
});

for (const [kind, make] of Object.entries(KINDS)) {
  kvmTest(`a guest reads from its ROM, of ${kind}, what the monitor has written there since`, (t) => {
    const manager = buildVm();
    const object = make();
    const rom = manager.map.createRegion({ name: 'rom', kind: 'rom', size: SIZE });
    rom.map({ object });
    rom.place(manager.root, { offset: ROM });
    const guest = new Guest(manager);
    for (const value of [1, 2, 3]) {
      object.write(PAGE, Uint8Array.of(value, 0, 0, 0));
      t.is(guest.read(ROM + PAGE), got(value));
    }
    t.is(guest.write(ROM + PAGE, 9), `mmio write ${(ROM + PAGE).toString(16)} = 9`);
    guest.close();
    manager.close();
    object.close();
  });
}
