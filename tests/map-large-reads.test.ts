// Large reads of guest memory: they make nothing resident, and are otherwise reads like others.

import test from 'ava';
import { SharedMemory } from '../ts/index.ts';
import { Machine } from './support/map-state.ts';
import { PAGE } from './support/shim-plan.ts';

/** Pages of 4 MiB of RAM that are written, each with its number, before all of them are read at once. */
const TOUCHED: readonly [name: string, pages: readonly number[]][] = [
  ['nothing', []],
  ['the first page', [0]],
  ['the last page', [1023]],
  ['all but a page in the middle', Array.from({ length: 1024 }, (_, page) => page).filter((page) => page !== 300)],
  ['every other page of the first MiB', Array.from({ length: 128 }, (_, index) => 2 * index)],
];

test('of memory that nobody has touched, a large read makes nothing resident; it reads as zeroes', (t) => {
  const pages = 1024 + 2;
  for (const [name, touched] of TOUCHED) {
    for (const isClosed of [false, true]) {
      const machine = new Machine({ pages: 2 * pages, debug: false });
      const object = SharedMemory.create(pages * PAGE);
      machine.ram.map({ object });
      for (const page of touched) machine.va.memory.writeU32(page * PAGE, page + 1);
      const used = object.allocatedBytes;
      const watcher = SharedMemory.fromFd(object.fd);
      if (isClosed) object.close();
      const into = new Uint8Array(pages * PAGE - 24).fill(0xff);
      machine.va.memory.read(16, into);
      const expected = new Uint8Array(pages * PAGE);
      for (const page of touched) new DataView(expected.buffer).setUint32(page * PAGE, page + 1, true);
      t.deepEqual(Buffer.compare(into, expected.subarray(16, -8)), 0, name);
      // A file that its owner has closed is looked at where it is mapped.
      if (!isClosed) t.is(watcher.allocatedBytes, used, name);
      watcher.close();
      object.close();
      machine.end(t);
    }
  }
});

test('a large read ends at the first byte that may not be read, whether what is before was touched or not', (t) => {
  const machine = new Machine({ pages: 4096, debug: false });
  const { ram, va } = machine;
  ram.unmap(1500 * PAGE, PAGE);
  for (const touched of [false, true]) {
    if (touched) va.memory.write(0, new Uint8Array(1500 * PAGE).fill(7));
    const into = new Uint8Array(2 ** 23).fill(0xff);
    t.throws(() => va.memory.read(0, into), { code: 'GUEST_ACCESS', message: /0x5dc000 has no memory/ });
    t.true(into.subarray(0, 1500 * PAGE).every((byte) => byte === (touched ? 7 : 0)));
    t.is(into[1500 * PAGE], 0xff, 'nothing behind it');
  }
  t.throws(() => va.memory.read(Number.MAX_SAFE_INTEGER, new Uint8Array(2 ** 22)), { code: 'GUEST_ACCESS' });
  t.throws(() => va.memory.read(2n ** 63n, new Uint8Array(2 ** 22)), { code: 'GUEST_ACCESS' });
  va.protect({ gpa: 0, length: PAGE, access: 'none' });
  t.throws(() => va.memory.read(0, new Uint8Array(2 ** 22)), { code: 'GUEST_ACCESS' });
  machine.end(t);
});
