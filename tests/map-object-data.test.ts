// Data of memory objects: the parts that somebody has touched, found without touching the others.

import { closeSync, fstatSync, ftruncateSync, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import {
  GuestMemoryBuilder,
  type GuestMemoryManager,
  type MemoryObject,
  PrivateMemory,
  type RamBacking,
  SharedMemory,
} from '../ts/index.ts';
import { Machine, refusal } from './support/map-state.ts';
import { namelessFile } from './support/nameless-file.ts';
import { SEED, tries } from './support/random.ts';
import { PAGE } from './support/shim-plan.ts';
import { tempFolder } from './support/temp-folder.ts';

const PAGES = 16;
const SIZE = PAGES * PAGE;

/** A file of which the last page but one holds something. */
function fileWithData(): number {
  const fd = namelessFile(SIZE);
  writeSync(fd, Uint8Array.of(1), 0, 1, (PAGES - 2) * PAGE);
  return fd;
}

function ofFile(make: (fd: number) => MemoryObject): MemoryObject {
  const fd = fileWithData();
  try {
    return make(fd);
  } finally {
    closeSync(fd);
  }
}

const KINDS: Readonly<Record<string, { make: () => MemoryObject; begin: readonly number[] }>> = {
  'shared memory': { make: () => SharedMemory.create(SIZE), begin: [] },
  'a file': { make: () => ofFile((fd) => SharedMemory.fromFd(fd)), begin: [PAGES - 2] },
  'private memory': { make: () => PrivateMemory.create(SIZE), begin: [] },
  'a copy of a file': { make: () => ofFile((fd) => PrivateMemory.fromFile(fd)), begin: [PAGES - 2] },
};

/** A guest of four pages. */
function build(backing: RamBacking): GuestMemoryManager {
  return new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 4 * PAGE }], backing }).build();
}

function pagesOf(object: MemoryObject): number[] {
  const ranges = object.dataRanges();
  return ranges.flatMap(({ offset, length }) =>
    Array.from({ length: Number(length) / PAGE }, (_, i) => Number(offset) / PAGE + i),
  );
}

for (const [kind, { make, begin }] of Object.entries(KINDS)) {
  test(`data of ${kind} are the pages that were written, wherever a map shows them`, (t) => {
    const machine = new Machine({ debug: false });
    const { map, root, va } = machine;
    const object = make();
    const ram = map.createRegion({ name: 'ram', kind: 'ram', size: SIZE });
    const written = new Set(begin);
    const step = fc.record({ page: fc.nat(PAGES - 1), shown: fc.nat(PAGES - 1), at: fc.nat(40) });
    const property = fc.property(step, ({ page, shown, at }) => {
      map.transaction(() => {
        if (ram.offset !== undefined) ram.remove();
        ram.unmap(0, SIZE);
        ram.map({ object, objectOffset: shown * PAGE, length: SIZE - shown * PAGE });
        ram.place(root, { offset: at * PAGE, priority: 1 });
      });
      if (page < shown) object.write(page * PAGE, Uint8Array.of(7));
      else va.memory.writeU8((at + page - shown) * PAGE, 7);
      written.add(page);
      t.deepEqual(
        pagesOf(object),
        [...written].sort((a, b) => a - b),
      );
    });
    fc.assert(property, { numRuns: tries(12), seed: SEED });
    object.close();
    machine.end(t);
  });
}

test('asking for data, and reading them, allocates nothing', (t) => {
  const object = SharedMemory.create(SIZE);
  object.write(3 * PAGE, Uint8Array.of(1));
  const before = object.allocatedBytes;
  for (const { offset, length } of object.dataRanges()) object.read(offset, new Uint8Array(Number(length)));
  t.is(object.allocatedBytes, before);
  t.is(before, PAGE);
  object.close();
});

test('shared memory has no pages of its own', (t) => {
  const object = SharedMemory.create(SIZE);
  object.write(0, Uint8Array.of(1));
  t.deepEqual(object.ownRanges(), []);
  object.close();
});

test("the position of a caller's descriptor stays where it is", (t) => {
  const fd = fileWithData();
  readSync(fd, new Uint8Array(5));
  const object = SharedMemory.fromFd(fd, { writable: false });
  t.deepEqual(object.dataRanges(), [{ offset: (PAGES - 2) * PAGE, length: PAGE }]);
  const next = new Uint8Array(PAGE);
  t.is(readSync(fd, next), PAGE);
  t.is(readSync(fd, next, 0, PAGE, null), PAGE);
  t.is(fstatSync(fd).size, SIZE);
  object.close();
  closeSync(fd);
  t.throws(() => object.dataRanges(), { code: 'CLOSED' });
});

test('where a file does not say what it holds, all of it may be data', (t) => {
  const fd = openSync('/proc/self/exe', 'r');
  const object = SharedMemory.fromFd(fd, { size: SIZE, writable: false });
  t.deepEqual(object.dataRanges(), [{ offset: 0, length: SIZE }]);
  object.close();
  closeSync(fd);
});

test('a copy of a part of a file has the data of that part, and its own', (t) => {
  const fd = fileWithData();
  const object = PrivateMemory.fromFile(fd, { fileOffset: 4 * PAGE });
  t.is(object.size, SIZE - 4 * PAGE);
  const first = new Uint8Array(1);
  object.read((PAGES - 6) * PAGE, first);
  t.deepEqual(first, Uint8Array.of(1));
  object.write(0, Uint8Array.of(9));
  t.deepEqual(pagesOf(object), [0, PAGES - 6]);
  object.close();
  t.snapshot(
    [
      () => PrivateMemory.fromFile(fd, { fileOffset: 1, size: PAGE }),
      () => PrivateMemory.fromFile(fd, { fileOffset: SIZE, size: PAGE }),
      () => PrivateMemory.fromFile(fd, { fileOffset: SIZE + PAGE }),
      () => PrivateMemory.fromFile(fd, { fileOffset: 2n ** 63n, size: PAGE }),
      () => PrivateMemory.fromFile(fd, { fileOffset: PAGE, size: SIZE }),
      () => build({ kind: 'fd', fd, fileOffset: PAGE }),
    ].map((refused) => refusal(refused).replaceAll(/descriptor \d+ \(.*\)/g, 'descriptor')),
  );
  const guest = build({ kind: 'fd', fd, copyOnWrite: true, fileOffset: (PAGES - 4) * PAGE });
  t.is(guest.guestMemory.readU8(2 * PAGE), 1);
  guest.close();
  closeSync(fd);
});

test('what a copy has lost with the end of its file is data, and a snapshot says that it is not there', async (t) => {
  const folder = tempFolder(t);
  const fd = fileWithData();
  const manager = build({ kind: 'fd', fd, copyOnWrite: true });
  const { object } = manager.va.pieces()[0]!;
  manager.guestMemory.writeU8(0, 1);
  t.deepEqual(pagesOf(object), [0]);
  ftruncateSync(fd, 2 * PAGE);
  t.deepEqual(pagesOf(object), [0, 2, 3]);
  const refused = { code: 'GUEST_ACCESS', message: /0x2000 is not there: its file ends before/ };
  await t.throwsAsync(manager.snapshot(join(folder, 'a')), refused);
  t.deepEqual(readdirSync(folder), []);
  manager.close();
  closeSync(fd);
});
