// Single values of guest memory by the fast way must be what they are by the slow one, and end with the memory.

import { closeSync, ftruncateSync, openSync, unlinkSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test, { type ExecutionContext } from 'ava';
import { sourceOf, type WindowedMemory } from '../ts/access/windowed-memory.ts';
import { native } from '../ts/core/native.ts';
import {
  type Address,
  type GuestMemory,
  MembackingError,
  MemoryMap,
  type MemoryObject,
  PrivateMemory,
  type Region,
  SharedMemory,
  type VaSpace,
  WorkerGuestMemory,
} from '../ts/index.ts';
import { Random, SEED } from './support/random.ts';

const PAGE = 0x1000;
/** More than it takes until the fast way is tried. */
const MANY = 3000;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

interface Guest {
  readonly map: MemoryMap;
  readonly root: Region;
  readonly va: VaSpace;
  readonly memory: GuestMemory;
}

/** Guest memory of the thread that owns the map, and as other threads have it: these are shut by the addon. */
const KINDS: readonly (readonly [kind: string, memoryOf: (va: VaSpace) => GuestMemory])[] = [
  ['own', (va) => va.memory],
  ["another thread's", ({ token }) => WorkerGuestMemory.fromToken(token)],
];

/** Test with guest memory of each kind. */
function eachKind(title: string, body: (t: ExecutionContext, all: Guest, kind: string) => void): void {
  for (const [kind, memoryOf] of KINDS) {
    test.serial(`${kind}: ${title}`, (t) => {
      const map = new MemoryMap({ debug: true });
      const root = map.createRegion({ name: 'root', kind: 'container', size: 2 ** 40 });
      const space = map.createAddressSpace({ name: 'guest', root });
      const va = map.attachVaSpace(space, { size: 2 ** 34, maxStretches: 8 });
      body(t, { map, root, va, memory: memoryOf(va) }, kind);
      map.close();
    });
  }
}

/** RAM of two pages, its second one at `gpa + PAGE`. */
function addRam({ map, root }: Guest, gpa: Address, object: MemoryObject = SharedMemory.create(2 * PAGE)): Region {
  const region = map.createRegion({ name: `ram ${gpa}`, kind: 'ram', size: 2 * PAGE });
  region.map({ object, length: 2 * PAGE });
  return region.place(root, { offset: gpa });
}

/** Reads and writes until the fast way is used. */
function warmUp(memory: GuestMemory, gpa: number): void {
  for (let i = 0; i < MANY; i++) {
    memory.readU32(gpa);
    memory.writeU32(gpa, i);
  }
}

function fault(t: ExecutionContext, access: () => unknown): unknown {
  const error = t.throws(access, { instanceOf: MembackingError });
  return error?.details.fault ?? error?.code;
}

eachKind('values read and written in place are those of the addon, at every alignment', (t, all) => {
  const { memory } = all;
  addRam(all, 0x10000);
  addRam(all, 0x12000);
  warmUp(memory, 0x10000);
  const random = new Random();
  t.log(`seed ${SEED}`);
  const [slow, bytes] = [new DataView(new ArrayBuffer(8)), new Uint8Array(8)];
  for (let i = 0; i < 5000; i++) {
    const gpa = 0x10000 + random.below(4 * PAGE - 8);
    const value = BigInt(random.below(2 ** 32)) * 2n ** 32n + BigInt(random.below(2 ** 32));
    const low = Number(value & 0xffffffffn);
    const writes = [
      () => memory.writeU8(gpa, low & 0xff),
      () => memory.writeU16(gpa, low & 0xffff),
      () => memory.writeU32(gpa, low),
      () => memory.writeU64(gpa, value),
    ];
    random.pick(writes)();
    memory.read(gpa, bytes);
    for (const [index, byte] of bytes.entries()) slow.setUint8(index, byte);
    const read = [memory.readU8(gpa), memory.readU16(gpa), memory.readU32(gpa), memory.readU64(gpa)];
    t.deepEqual(read, [
      ...[slow.getUint8(0), slow.getUint16(0, true), slow.getUint32(0, true)],
      slow.getBigUint64(0, true),
    ]);
  }
});

eachKind('addresses and values that are none are refused on the fast way too', (t, all) => {
  const { memory } = all;
  addRam(all, 0);
  warmUp(memory, 0);
  for (const gpa of [-4, 0.5, 4.5, Number.NaN, 2 ** 53, '0', undefined]) {
    t.is(
      fault(t, () => memory.readU32(gpa as number)),
      'INVALID_ARGUMENT',
      String(gpa),
    );
    t.is(
      fault(t, () => memory.writeU32(gpa as number, 1)),
      'INVALID_ARGUMENT',
      String(gpa),
    );
  }
  for (const value of [-1, 0.5, 2 ** 32, 1n]) {
    t.is(
      fault(t, () => memory.writeU32(0, value as number)),
      'INVALID_ARGUMENT',
    );
  }
  memory.writeU32(4n, 7);
  t.is(memory.readU32(4n), 7);
  t.is(
    fault(t, () => memory.readU32(2 * PAGE)),
    'hole',
  );
  t.is(
    fault(t, () => memory.readU32(2 * PAGE - 2)),
    'hole',
  );
  t.is(
    fault(t, () => memory.readU32(2 ** 32)),
    'hole',
  );
});

eachKind('memory that is hidden, replaced, protected or closed is gone from the fast way', (t, all, kind) => {
  const { map, memory, root, va } = all;
  const ram = addRam(all, 0);
  const use = () => {
    warmUp(memory, 0);
    memory.writeU32(0, 0x11111111);
  };
  use();
  ram.setFlags({ enabled: false });
  t.is(
    fault(t, () => memory.readU32(0)),
    'hole',
  );
  ram.setFlags({ enabled: true });
  t.is(memory.readU32(0), 0x11111111);

  use();
  const rom = map.createRegion({ name: 'rom', kind: 'rom', size: PAGE });
  rom.map({ object: SharedMemory.create(PAGE) });
  rom.place(root, { priority: 1 });
  t.is(memory.readU32(0), 0);
  t.is(
    fault(t, () => memory.writeU32(0, 1)),
    'read-only',
  );
  for (let i = 0; i < MANY; i++) memory.readU32(0);
  t.is(
    fault(t, () => memory.writeU32(0, 1)),
    'read-only',
  );
  rom.remove();
  t.is(memory.readU32(0), 0x11111111);

  use();
  va.protect({ gpa: 0, length: PAGE, access: 'r' });
  t.is(
    fault(t, () => memory.writeU32(0, 1)),
    'read-only',
  );
  va.protect({ gpa: 0, length: PAGE, access: 'rwx' });

  use();
  map.close();
  t.is(
    fault(t, () => memory.readU32(0)),
    kind === 'own' ? 'CLOSED' : 'hole',
  );
});

eachKind('inside a transaction the memory is as before, and after one that fails as well', (t, all) => {
  const { map, memory } = all;
  const ram = addRam(all, 0);
  warmUp(memory, 0);
  memory.writeU32(0, 5);
  map.transaction(() => {
    ram.setFlags({ enabled: false });
    for (let i = 0; i < MANY; i++) t.is(memory.readU32(0), 5);
  });
  t.is(
    fault(t, () => memory.readU32(0)),
    'hole',
  );
  ram.setFlags({ enabled: true });
  warmUp(memory, 0);
  memory.writeU32(0, 6);
  t.throws(() =>
    map.transaction(() => {
      ram.setFlags({ enabled: false });
      throw new Error('no');
    }),
  );
  t.is(memory.readU32(0), 6);
});

eachKind('private memory is followed to where it is shown next', (t, all) => {
  const { memory } = all;
  const ram = addRam(all, 0, PrivateMemory.create(2 * PAGE));
  warmUp(memory, 0);
  memory.writeU32(0, 77);
  ram.move(0x100000);
  t.is(
    fault(t, () => memory.readU32(0)),
    'hole',
  );
  warmUp(memory, 0x100004);
  t.is(memory.readU32(0x100000), 77);
});

eachKind('a file that can become shorter is never touched in place', (t, all) => {
  const { memory } = all;
  const path = `/dev/shm/membacking-window-${process.pid}`;
  const fd = openSync(path, 'w+');
  unlinkSync(path);
  ftruncateSync(fd, 2 * PAGE);
  addRam(all, 0, SharedMemory.fromFd(fd));
  warmUp(memory, 0);
  ftruncateSync(fd, 0);
  t.is(
    fault(t, () => memory.readU32(0)),
    'gone',
  );
  closeSync(fd);
});

eachKind('a partition that reads guest memory while a plan is carried out sees no memory that is gone', (t, all) => {
  const { map, memory, va } = all;
  const ram = addRam(all, 0);
  const seen: unknown[] = [];
  const look = () => {
    try {
      for (let i = 0; i < MANY; i++) memory.readU32(0);
      seen.push('there');
    } catch (error) {
      seen.push((error as MembackingError).details.fault);
    }
  };
  const partition = { name: 'own', slotLimit: 8, addSlot: look, deleteSlot: look };
  map.attachPartition(partition, { space: va.space, va });
  ram.setFlags({ enabled: false });
  ram.setFlags({ enabled: true });
  t.deepEqual(seen, ['there', 'there', 'there']);
  t.is(memory.readU32(0), 0);
  ram.setFlags({ enabled: false });
  t.is(
    fault(t, () => memory.readU32(0)),
    'hole',
  );
});

eachKind('memory whose owner has let go of it is read and written in place as long as it is mapped', (t, all) => {
  const object = SharedMemory.create(2 * PAGE);
  const region = addRam(all, 0x10000, object);
  object.close();
  warmUp(all.memory, 0x10000);
  t.is(all.memory.readU32(0x10000), MANY - 1);
  region.unmap(0, 2 * PAGE);
  t.is(
    fault(t, () => all.memory.readU32(0x10000)),
    'hole',
  );
});

/** Counter of values that are read by the addon, from now on. */
function readsByAddon(memory: GuestMemory): () => number {
  const { reservation } = sourceOf(memory as WindowedMemory);
  const { load } = reservation;
  let calls = 0;
  Object.defineProperty(reservation, 'load', {
    value: (...args: Parameters<typeof load>) => {
      calls++;
      return load(...args);
    },
  });
  return () => calls;
}

eachKind('memory is read in place after some calls', (t, all) => {
  addRam(all, 0);
  // What other tests have left.
  collectGarbage();
  const before = process.memoryUsage().external;
  const calls = readsByAddon(all.memory);
  warmUp(all.memory, 0);
  const callsBefore = calls();
  for (let i = 0; i < 100; i++) all.memory.readU32(0);
  t.true(callsBefore > 0);
  t.is(calls(), callsBefore);
  const counted = process.memoryUsage().external - before >= 2 ** 31;
  t.is(counted, native().countsViews, 'V8 collects no garbage for memory that it does not count');
});

eachKind('who goes to and fro among many pieces with holes between reads each in place', (t, all) => {
  const { map, root, memory } = all;
  const count = 40;
  for (let i = 0; i < count; i++) addRam(all, i * 0x10_0000);
  for (let i = 0; i < count; i++) memory.writeU32(i * 0x10_0000, i);
  for (let turn = 0; turn < 100 * count; turn++) {
    for (let i = 0; i < count; i++) if (memory.readU32(i * 0x10_0000) !== i) t.fail(`${i}`);
  }
  map.createRegion({ name: 'mmio', kind: 'mmio', size: PAGE }).place(root, { offset: 7 * 0x10_0000, priority: 1 });
  t.is(
    fault(t, () => memory.readU32(7 * 0x10_0000)),
    'hole',
  );
  t.is(
    fault(t, () => memory.readU32(8 * 0x10_0000 - 4)),
    'hole',
  );
  for (let i = 8; i < count; i++) t.is(memory.readU32(i * 0x10_0000), i);
});

eachKind('pieces close together, far apart and behind the first stretch are read in place in turns', (t, all) => {
  const { memory } = all;
  const far = [0x7000_0000, 0x9000_0000, 0x1_7fff_0000, 2 ** 35, 2 ** 35 + 0x4000_0000];
  const gpas = [...Array.from({ length: 8 }, (_, i) => 3 * i * PAGE), ...far];
  for (const gpa of gpas) addRam(all, gpa);
  for (const gpa of gpas) warmUp(memory, gpa);
  for (const [i, gpa] of gpas.entries()) memory.writeU32(gpa + 2 * PAGE - 4, i);
  const calls = readsByAddon(memory);
  for (let turn = 0; turn < 3; turn++) {
    for (const [i, gpa] of gpas.entries()) t.is(memory.readU32(gpa + 2 * PAGE - 4), i);
  }
  t.is(calls(), 0);
  for (const gpa of gpas) t.throws(() => memory.readU32(gpa + 2 * PAGE - 3), { code: 'GUEST_ACCESS' });
});

eachKind('a window ends where the pages of registers begin, and where a view allows less', (t, all) => {
  const { map, root, memory } = all;
  addRam(all, 0);
  const registers = map.createRegion({ name: 'registers', kind: 'mmio', size: 16 });
  registers.place(root, { offset: PAGE + 8, priority: 1 });
  warmUp(memory, 0);
  warmUp(memory, PAGE);
  t.is(
    fault(t, () => memory.readU32(PAGE + 8)),
    'hole',
  );
  registers.remove();
  warmUp(memory, PAGE);
  t.is(memory.readU32(PAGE + 8), 0);
});

eachKind('copies of many pages are made in place, and end where memory does', (t, all) => {
  const { map, root, memory } = all;
  const size = 3 * 2 ** 20 + PAGE;
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size });
  ram.map({ object: SharedMemory.create(size) });
  ram.place(root);
  warmUp(memory, 0);
  const bytes = Uint8Array.from({ length: size }, (_, index) => index % 251);
  memory.write(0, bytes);
  const read = new Uint8Array(size);
  memory.read(0, read);
  t.true(Buffer.from(bytes).equals(read));
  t.is(
    fault(t, () => memory.read(PAGE, read)),
    'hole',
  );
  t.true(Buffer.from(bytes.subarray(PAGE)).equals(read.subarray(0, size - PAGE)));
});
