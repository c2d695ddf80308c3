// Copies of pages from files and private memory into files, past JavaScript: what is written, what stays a hole, what
// is summed, and what is refused.

import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import * as zlib from 'node:zlib';
import test from 'ava';
import { addonObjectOf } from '../ts/asked/object.ts';
import { native } from '../ts/core/native.ts';
import { MemoryMap, PrivateMemory, SharedMemory } from '../ts/index.ts';
import { joinedCrc32 } from '../ts/snapshot/crc32.ts';
import { namelessFile } from './support/nameless-file.ts';
import { Random } from './support/random.ts';
import { tempFolder } from './support/temp-folder.ts';

const PAGE = 4096;
const SIZE = 300 * PAGE;

/** A file of random pages, of which every fifth one, and all behind page 200, are zeroes. */
function makeSource(): { fd: number; bytes: Buffer } {
  const random = new Random(7);
  const bytes = Buffer.alloc(SIZE);
  for (let page = 0; page < 200; page++) {
    if (page % 5 !== 0) for (let i = 0; i < 8; i++) bytes[page * PAGE + random.below(PAGE)] = 1 + random.below(255);
  }
  const fd = namelessFile(SIZE);
  writeSync(fd, bytes, 0, SIZE, 0);
  return { fd, bytes };
}

/** Stretches of pages as the addon takes them. */
function stretches(...pages: readonly (readonly [first: number, count: number])[]): Float64Array {
  return Float64Array.from(pages.flatMap(([first, count]) => [first * PAGE, count * PAGE]));
}

test('pages are copied to their places, with the sum that zlib has of them', async (t) => {
  const { fd, bytes } = makeSource();
  const target = namelessFile(2 * SIZE);
  const asked = stretches([1, 3], [10, 90], [199, 1]);
  const { pages, crc32 } = await native().copyPages(fd, 0, target, SIZE, asked, false);
  t.deepEqual(pages, asked);
  const expected = Buffer.alloc(2 * SIZE);
  let sum = 0;
  for (let i = 0; i < asked.length; i += 2) {
    const [offset, length] = [asked[i]!, asked[i + 1]!];
    const part = bytes.subarray(offset, offset + length);
    part.copy(expected, SIZE + offset);
    sum = zlib.crc32(part, sum);
  }
  t.is(crc32, sum);
  const found = Buffer.alloc(2 * SIZE);
  readSync(target, found, 0, found.length, 0);
  t.true(found.equals(expected));
  for (const each of [fd, target]) closeSync(each);
});

test('pages of zeroes stay holes', async (t) => {
  const { fd, bytes } = makeSource();
  const target = namelessFile(SIZE);
  const { pages, crc32 } = await native().copyPages(fd, 0, target, 0, stretches([0, 12], [150, 150]), true);
  const expected = [[1, 4], [6, 4], [11, 1], ...Array.from({ length: 10 }, (_, i) => [151 + 5 * i, 4])];
  t.deepEqual(pages, stretches(...(expected as [number, number][])));
  const bytesIn = expected.reduce((all, [, count]) => all + count! * PAGE, 0);
  const onDisk = fstatSync(target).blocks * 512;
  // A file system may count blocks of its own.
  t.true(onDisk >= bytesIn && onDisk < bytesIn + 8 * PAGE, `${onDisk} bytes for ${bytesIn}`);
  const parts = expected.map(([first, count]) => bytes.subarray(first! * PAGE, (first! + count!) * PAGE));
  t.is(crc32, zlib.crc32(Buffer.concat(parts)));
  for (const each of [fd, target]) closeSync(each);
});

test('pages that are as in a base stay holes, wherever its files have them', async (t) => {
  const { fd, bytes } = makeSource();
  const [target, even, other] = [namelessFile(SIZE), namelessFile(SIZE), namelessFile(2 * SIZE)];
  // Pages 40 to 79 in one file, from 120 on in another one; 50 and 130 are others there, and so are all up to 39.
  writeSync(even, bytes, 40 * PAGE, 40 * PAGE, 0);
  writeSync(other, bytes, 120 * PAGE, 180 * PAGE, SIZE);
  for (const [file, place] of [
    [even, 10 * PAGE],
    [other, SIZE + 11 * PAGE],
  ] as const) {
    writeSync(file, Uint8Array.of(255), 0, 1, place + 99);
  }
  const parts = [
    [40, 40, 0, 0],
    [120, 180, 1, 300],
  ].flatMap(([at, count, file, place]) => [at! * PAGE, count! * PAGE, file!, place! * PAGE].map(BigInt));
  const asked = stretches([20, 2], [45, 20], [110, 150]);
  const base = [[even, other], BigUint64Array.from(parts)] as const;
  const { pages, crc32 } = await native().copyPages(fd, 0, target, 0, asked, true, ...base);
  const expected: [number, number][] = [
    [21, 1],
    [50, 1],
    [111, 4],
    [116, 4],
    [131, 1],
  ];
  t.deepEqual(pages, stretches(...expected));
  const copied = Buffer.alloc(SIZE);
  for (const [first, count] of expected) bytes.copy(copied, first * PAGE, first * PAGE, (first + count) * PAGE);
  const found = Buffer.alloc(SIZE);
  readSync(target, found, 0, SIZE, 0);
  t.true(found.equals(copied));
  t.is(
    crc32,
    zlib.crc32(Buffer.concat(expected.map(([first, count]) => bytes.subarray(first * PAGE, (first + count) * PAGE)))),
  );
  ftruncateSync(even, 20 * PAGE);
  await t.throwsAsync(native().copyPages(fd, 0, target, 0, asked, true, ...base), { code: 'ENXIO' });
  for (const each of [fd, target, even, other]) closeSync(each);
});

test('without a target they are summed', async (t) => {
  const { fd, bytes } = makeSource();
  const { crc32 } = await native().copyPages(fd, PAGE, undefined, undefined, stretches([0, 299]), false);
  t.is(crc32, zlib.crc32(bytes.subarray(PAGE)));
  closeSync(fd);
});

test('sums of parts make up the sum of all', (t) => {
  const random = new Random(1);
  for (const length of [0, 1, PAGE, 3 * PAGE, 100_003]) {
    const [first, second] = [PAGE, length].map((each) =>
      Buffer.from(Array.from({ length: each }, () => random.below(256))),
    );
    const joined = joinedCrc32(zlib.crc32(first!), zlib.crc32(second!), length);
    t.is(joined, zlib.crc32(Buffer.concat([first!, second!])));
  }
});

test('the page in which the source ends has zeroes behind it; where it has ended, there is an error', async (t) => {
  const path = join(tempFolder(t), 'source');
  const fd = openSync(path, 'w+');
  writeSync(fd, Buffer.alloc(PAGE + 10, 7), 0, PAGE + 10, 0);
  const { crc32 } = await native().copyPages(fd, 0, undefined, undefined, stretches([0, 2]), false);
  t.is(crc32, zlib.crc32(Buffer.concat([readFileSync(path), Buffer.alloc(PAGE - 10)])));
  ftruncateSync(fd, PAGE);
  const short = native().copyPages(fd, 0, undefined, undefined, stretches([0, 2]), false);
  await t.throwsAsync(short, { code: 'ENXIO', message: /pread/ });
  closeSync(fd);
});

test('memory that is read through a mapping is what it was: pages that nobody has touched stay away', async (t) => {
  const size = 64 * PAGE;
  const memory = native().MemoryObject.memfd('memory', size, 0);
  const bytes = Buffer.alloc(size);
  for (const page of [...Array(40).keys(), 50]) {
    const part = bytes.subarray(page * PAGE, (page + 1) * PAGE).fill(page + 1);
    memory.write(page * PAGE, part);
  }
  const before = memory.allocatedBytes;
  t.is(before, 41n * BigInt(PAGE));
  const target = namelessFile(size);
  for (const asked of [stretches([0, 64]), stretches([0, 32], [33, 1], [50, 14])]) {
    const { pages, crc32 } = await native().copyPages(memory, 0, target, 0, asked, true);
    t.is(memory.allocatedBytes, before);
    const copied: Buffer[] = [];
    for (let i = 0; i < pages.length; i += 2) copied.push(bytes.subarray(pages[i], pages[i]! + pages[i + 1]!));
    t.is(crc32, zlib.crc32(Buffer.concat(copied)));
  }
  const found = Buffer.alloc(size);
  readSync(target, found, 0, size, 0);
  t.true(found.equals(bytes));
  memory.discard(0, 32 * PAGE);
  const { pages } = await native().copyPages(memory, 0, target, 0, stretches([0, 40]), false);
  t.deepEqual(pages, stretches([0, 40]));
  t.is(memory.allocatedBytes, 9n * BigInt(PAGE));
  readSync(target, found, 0, size, 0);
  t.true(found.equals(bytes.fill(0, 0, 32 * PAGE)));
  memory.close();
  t.throws(() => native().copyPages(memory, 0, target, 0, stretches([0, 1]), false), { code: 'ERR_CLOSED' });
  closeSync(target);
});

test('private memory is copied from where it is, however often plans move it meanwhile', async (t) => {
  const { bytes } = makeSource();
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'container', size: SIZE });
  const [memory, other] = [PrivateMemory.create(SIZE), SharedMemory.create(SIZE)];
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size: SIZE });
  const below = map.createRegion({ name: 'below', kind: 'ram', size: SIZE });
  const va = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }));
  map.transaction(() => {
    ram.map({ object: memory });
    below.map({ object: other });
    below.place(root, { offset: 0 });
  });
  // Where it is shown, a part of it may not be read.
  va.protect({ gpa: 20 * PAGE, length: 10 * PAGE, access: 'none' });
  memory.write(0, bytes);
  other.write(0, Buffer.alloc(SIZE, 0xee));
  const target = namelessFile(SIZE);
  const asked = stretches([0, 300]);
  for (let round = 0; round < 40; round++) {
    const copying = native().copyPages(addonObjectOf(memory), 0, target, 0, asked, true);
    const summing = native().copyPages(addonObjectOf(memory), 0, undefined, undefined, asked, false);
    const [offset, length] = [7 * (round % 20) * PAGE, 100 * PAGE];
    map.transaction(() => ram.place(root, { offset: 0, priority: 1 }));
    map.transaction(() => ram.unmap(offset, length));
    map.transaction(() => ram.map({ object: memory, offset, objectOffset: offset, length }));
    map.transaction(() => ram.remove());
    t.is((await copying).pages.length, 2 * 40);
    t.is((await summing).crc32, zlib.crc32(bytes));
    const found = Buffer.alloc(SIZE);
    readSync(target, found, 0, SIZE, 0);
    t.true(found.equals(bytes));
  }
  map.transaction(() => ram.place(root, { offset: 0, priority: 1 }));
  const { crc32 } = await native().copyPages(addonObjectOf(memory), 0, undefined, undefined, asked, false);
  t.is(crc32, zlib.crc32(bytes));
  t.throws(() => native().copyPages(addonObjectOf(memory), 0, target, 0, stretches([300, 1]), false), {
    code: 'ERR_OUT_OF_RANGE',
  });
  for (const each of [map, memory, other]) each.close();
  closeSync(target);
});

test('of a copy of a file, pages are read from it that are said to be its own, and others from the file', async (t) => {
  const { fd, bytes } = makeSource();
  const memory = PrivateMemory.fromFile(fd, { fileOffset: PAGE });
  const now = Buffer.from(bytes.subarray(PAGE));
  for (const page of [0, 7, 8, 60, 298])
    memory.write(
      page * PAGE,
      now.fill(page + 1, page * PAGE, (page + 1) * PAGE).subarray(page * PAGE, (page + 1) * PAGE),
    );
  const own = stretches([0, 1], [7, 2], [60, 30], [298, 1]);
  const copy = (pages: Float64Array, ownPages: Float64Array) =>
    native().copyPages(addonObjectOf(memory), 0, undefined, undefined, pages, false, undefined, undefined, ownPages);
  for (const [first, count] of [
    [0, 299],
    [8, 60],
    [3, 1],
    [7, 1],
    [65, 2],
    [290, 9],
  ] as const) {
    const { crc32 } = await copy(stretches([first, count]), own);
    t.is(crc32, zlib.crc32(now.subarray(first * PAGE, (first + count) * PAGE)));
  }
  t.is((await copy(stretches([7, 1]), stretches())).crc32, zlib.crc32(bytes.subarray(8 * PAGE, 9 * PAGE)));
  t.throws(() => copy(stretches([0, 1]), stretches([1, 0])), { code: 'ERR_OUT_OF_RANGE' });
  memory.close();
  closeSync(fd);
});

test('private memory whose file has become shorter is not there', async (t) => {
  const path = join(tempFolder(t), 'source');
  const fd = openSync(path, 'w+');
  ftruncateSync(fd, 4 * PAGE);
  const memory = PrivateMemory.fromFile(fd);
  memory.write(PAGE, Uint8Array.of(1));
  ftruncateSync(fd, 2 * PAGE);
  const copy = (pages: Float64Array) => native().copyPages(addonObjectOf(memory), 0, undefined, undefined, pages, true);
  t.deepEqual((await copy(stretches([0, 2]))).pages, stretches([1, 1]));
  await t.throwsAsync(copy(stretches([0, 4])), { code: 'EIO', message: /pread/ });
  memory.close();
  closeSync(fd);
});

test('a failed write is said, and what is no stretch, place or file is refused at once', async (t) => {
  const { fd } = makeSource();
  const full = openSync('/dev/full', 'w');
  const copy = native().copyPages;
  await t.throwsAsync(copy(fd, 0, full, 0, stretches([0, 2]), false), { code: 'ENOSPC' });
  const refused: readonly (readonly [what: unknown[], code: string])[] = [
    [[fd, 0, full, 0, stretches([0, 0]), false], 'ERR_OUT_OF_RANGE'],
    [[fd, 0, full, 0, stretches([2, 1], [1, 1]), false], 'ERR_OUT_OF_RANGE'],
    [[fd, 0, full, 0, Float64Array.of(1, PAGE), false], 'ERR_OUT_OF_RANGE'],
    [[fd, 0, full, 0, Float64Array.of(0, Number.NaN), false], 'ERR_OUT_OF_RANGE'],
    [[fd, 0, full, 0, Float64Array.of(0, 2 ** 63), false], 'ERR_OUT_OF_RANGE'],
    [[fd, 2n ** 62n, full, 0, stretches([0, 1]), false], 'ERR_OUT_OF_RANGE'],
    [[fd, 0, full, 0, [0, PAGE], false], 'ERR_INVALID_ARG_TYPE'],
    [[fd, 0, full, 0, stretches([0, 1])], 'ERR_INVALID_ARG_TYPE'],
    [[-1, 0, full, 0, stretches([0, 1]), false], 'ERR_OUT_OF_RANGE'],
    [[2 ** 20, 0, full, 0, stretches([0, 1]), false], 'EBADF'],
    [[fd, 0, full, 0, stretches([0, 1]), true, [fd], BigUint64Array.of(0n, 1n, 0n, 0n)], 'ERR_OUT_OF_RANGE'],
    [[fd, 0, full, 0, stretches([0, 1]), true, [fd], BigUint64Array.of(0n, 4096n, 1n, 0n)], 'ERR_OUT_OF_RANGE'],
    [
      [fd, 0, full, 0, stretches([0, 1]), true, [fd], BigUint64Array.of(0n, 4096n, 2n ** 32n - 1n, 0n)],
      'ERR_OUT_OF_RANGE',
    ],
    [[fd, 0, full, 0, stretches([0, 1]), true, [fd]], 'ERR_INVALID_ARG_TYPE'],
  ];
  for (const [given, code] of refused) t.throws(() => copy(...(given as Parameters<typeof copy>)), { code });
  for (const each of [fd, full]) closeSync(each);
});
