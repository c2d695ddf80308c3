// Everything that can be handed to the API wrongly: a clear error with a code, nothing changed, nothing left over.

import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Lease } from '../ts/access/lease.ts';
import { LocalGuestMemory } from '../ts/access/local-guest-memory.ts';
import { Region } from '../ts/asked/region.ts';
import { AddressSpace } from '../ts/asked/space.ts';
import { KvmPartition, MembackingError, MemoryMap, PrivateMemory, SharedMemory, Vcpu } from '../ts/index.ts';
import { Attachment } from '../ts/sinks/attachment.ts';
import { VaSpace } from '../ts/sinks/va-space.ts';
import { LoggingPartition, Machine, refusal } from './support/map-state.ts';
import { footprint, PAGE } from './support/shim-plan.ts';

/** Values that are no address. */
const NO_ADDRESSES = [
  -1,
  0.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  2 ** 53,
  -1n,
  2n ** 64n,
  '0x1000',
  null,
  {},
  true,
  Symbol('a'),
];

/** A size may be 2^64. */
const sizeLike = (bad: Anything) => (bad === 2n ** 64n ? 2n ** 64n + 1n : bad);

/** Anything may be handed over by those who write JavaScript. */
// biome-ignore lint/suspicious/noExplicitAny: that is the point
type Anything = any;

test('what is no address is refused by everything that takes one', (t) => {
  const machine = new Machine();
  const { map, root, ram, space, va, memory } = machine;
  const attachment = machine.attach(new LoggingPartition());
  const alias = map.createAlias({ name: 'alias', target: ram, size: PAGE });
  const state = machine.state();
  const takers: Readonly<Record<string, (bad: Anything) => unknown>> = {
    'region size': (size) => map.createRegion({ name: 'x', kind: 'ram', size: sizeLike(size) }),
    'alias offset': (offset) => map.createAlias({ name: 'x', target: ram, offset: offset ?? -1, size: PAGE }),
    'alias size': (size) => map.createAlias({ name: 'x', target: ram, size: sizeLike(size) }),
    'space offset': (offset) => map.createAddressSpace({ name: 'x', root, offset: offset ?? -1 }),
    'va size': (size) => map.attachVaSpace(space, { size: sizeLike(size ?? -1) }),
    gpaOffset: (gpaOffset) => map.attachPartition(new LoggingPartition(), { space, va, gpaOffset: gpaOffset ?? -1 }),
    lastGpa: (lastGpa) => map.attachPartition(new LoggingPartition(), { space, va, lastGpa: lastGpa ?? -1 }),
    'place offset': (offset) => alias.place(root, { offset }),
    move: (offset) => ram.move(offset),
    resize: (size) => ram.resize(sizeLike(size)),
    retarget: (offset) => alias.retarget(offset),
    'map offset': (offset) => ram.map({ object: memory, offset }),
    'map objectOffset': (objectOffset) => ram.map({ object: memory, objectOffset }),
    'map length': (length) => ram.map({ object: memory, length: sizeLike(length) }),
    'unmap offset': (offset) => ram.unmap(offset, PAGE),
    'unmap length': (length) => ram.unmap(0, sizeLike(length)),
    find: (gpa) => space.find(gpa),
    explain: (gpa) => space.explain(gpa),
    'protect gpa': (gpa) => va.protect({ gpa, length: PAGE, access: 'r' }),
    'protect length': (length) => attachment.protect({ gpa: 0, length: sizeLike(length), access: 'r' }),
    readU8: (gpa) => va.memory.readU8(gpa),
    readU64: (gpa) => va.memory.readU64(gpa),
    read: (gpa) => va.memory.read(gpa, new Uint8Array(1)),
    write: (gpa) => va.memory.write(gpa, new Uint8Array(1)),
    writeU16: (gpa) => va.memory.writeU16(gpa, 1),
    'exchange gpa': (gpa) => va.memory.compareExchange(gpa, 1, 0, 0),
    'exchange expected': (value) => va.memory.compareExchange(0, 8, value, 0),
    writeU64: (value) => va.memory.writeU64(0, value),
    'shared size': (size) => SharedMemory.create(sizeLike(size)),
    'private size': (size) => PrivateMemory.create(sizeLike(size)),
    'file size': (size) => SharedMemory.fromFd(memory.fd, { size: sizeLike(size ?? -1) }),
  };
  for (const [what, take] of Object.entries(takers)) {
    for (const bad of NO_ADDRESSES) {
      const error = t.throws(
        () => take(bad),
        { instanceOf: MembackingError, code: 'INVALID_ARGUMENT' },
        `${what} ${String(bad)}`,
      );
      t.regex(error?.message ?? '', /^[a-zA-Z]+ must be .*, not /, what);
    }
  }
  t.deepEqual(machine.state(), state);
  machine.end(t);
});

interface Fixture extends Machine {
  readonly attachment: Attachment;
  readonly elsewhere: Machine;
  readonly folder: string;
  readonly partition: LoggingPartition;
}

/** Input that is wrong, and how it is given: the answers are the snapshot. */
const BAD_INPUT: readonly (readonly [string, (fixture: Fixture) => unknown])[] = [
  ['map options of another type', () => new MemoryMap('layered' as Anything)],
  ['an unknown option', () => new MemoryMap({ polcy: 'nested' } as Anything)],
  ['an unknown policy', () => new MemoryMap({ policy: 'strict' as Anything })],
  ['a recorder that cannot write', () => new MemoryMap({ record: {} as Anything })],
  ['too little memory for the core', () => new MemoryMap({ maxMemory: 4096 })],
  ['debug that is no boolean', () => new MemoryMap({ debug: 1 as Anything })],
  ['a transaction without a function', ({ map }) => map.transaction('body' as Anything)],

  ['no options for a region', ({ map }) => map.createRegion(undefined as Anything)],
  ['null options for a region', ({ map }) => map.createRegion(null as Anything)],
  ['a list of options', ({ map }) => map.createRegion([] as Anything)],
  ['a region without a name', ({ map }) => map.createRegion({ name: '', kind: 'ram', size: PAGE })],
  ['a region of an unknown kind', ({ map }) => map.createRegion({ name: 'x', kind: 'alias' as Anything, size: PAGE })],
  [
    'a region with a misspelt option',
    ({ map }) => map.createRegion({ name: 'x', kind: 'ram', size: PAGE, readOnly: true } as Anything),
  ],
  [
    'a flag that is no boolean',
    ({ map }) => map.createRegion({ name: 'x', kind: 'ram', size: PAGE, readonly: 'yes' as Anything }),
  ],
  ['an alias of nothing', ({ map }) => map.createAlias({ name: 'x', target: undefined as Anything, size: PAGE })],
  [
    'an alias of another map',
    ({ map, elsewhere }) => map.createAlias({ name: 'x', target: elsewhere.ram, size: PAGE }),
  ],
  ['an address space without a root', ({ map }) => map.createAddressSpace({ name: 'x', root: {} as Anything })],
  ['an address space of another map', ({ map, elsewhere }) => map.attachVaSpace(elsewhere.space)],
  ['a VA space of half a page', ({ map, space }) => map.attachVaSpace(space, { size: 2048 })],
  ['a VA space larger than there are addresses', ({ map, space }) => map.attachVaSpace(space, { size: 2n ** 56n })],
  ['a VA space that is too small for what is seen', ({ map, space }) => map.attachVaSpace(space, { size: PAGE })],

  [
    'a region placed in itself',
    ({ map }) => {
      const region = map.createRegion({ name: 'self', kind: 'container', size: PAGE });
      try {
        region.place(region);
      } finally {
        region.close();
      }
    },
  ],
  ['a region placed twice', ({ ram, root }) => ram.place(root)],
  ['a region placed in another map', ({ ram, elsewhere }) => ram.place(elsewhere.root)],
  ['a region placed in a number', ({ ram }) => ram.place(0 as Anything)],
  ['a priority of 33 bits', ({ ram, root }) => ram.place(root, { priority: 2 ** 31 })],
  ['a priority with a fraction', ({ ram }) => ram.setPriority(0.5)],
  ['a region moved that is not placed', ({ root }) => root.move(PAGE)],
  ['a region removed that is not placed', ({ root }) => root.remove()],
  ['flags that do not exist', ({ ram }) => ram.setFlags({ visible: true } as Anything)],
  ['a RAM region retargeted', ({ ram }) => ram.retarget(0)],

  ['nothing mapped', ({ ram }) => ram.map({} as Anything)],
  ['a number mapped', ({ ram }) => ram.map({ object: 3 as Anything, length: PAGE })],
  ['a mapping into a container', ({ root, memory }) => root.map({ object: memory })],
  ['a mapping at half a page', ({ ram, memory }) => ram.map({ object: memory, offset: 2048, length: PAGE })],
  ['a mapping of half a page', ({ ram, memory }) => ram.map({ object: memory, length: 2048 })],
  ['a mapping from half a page', ({ ram, memory }) => ram.map({ object: memory, objectOffset: 2048, length: PAGE })],
  ['a mapping of nothing', ({ ram, memory }) => ram.map({ object: memory, length: 0 })],
  [
    'a mapping past the end of the region',
    ({ ram, memory }) => ram.map({ object: memory, offset: 31 * PAGE, length: 2 * PAGE }),
  ],
  [
    'a mapping past the end of the object',
    ({ ram, memory }) => ram.map({ object: memory, objectOffset: 63 * PAGE, length: 2 * PAGE }),
  ],
  ['a mapping from behind the object', ({ ram, memory }) => ram.map({ object: memory, objectOffset: 64 * PAGE })],
  [
    'a mapping past 2^64',
    ({ ram, memory }) => ram.map({ object: memory, offset: 2n ** 64n - 4096n, length: 2 * PAGE }),
  ],
  ['a mapping of 2^64 bytes', ({ ram, memory }) => ram.map({ object: memory, length: 2n ** 64n })],
  [
    'writable memory that is read-only',
    ({ ram, memory }) => {
      const view = SharedMemory.fromFd(memory.fd, { name: 'view', writable: false });
      try {
        ram.map({ object: view, writable: true, length: PAGE });
      } finally {
        view.close();
      }
    },
  ],
  [
    'a closed object',
    ({ ram }) => {
      const object = SharedMemory.create(PAGE, { name: 'gone' });
      object.close();
      ram.map({ object });
    },
  ],
  [
    'private memory in two VA spaces',
    ({ map, space, ram }) => {
      const own = PrivateMemory.create(PAGE, { name: 'own' });
      try {
        ram.map({ object: own });
        map.attachVaSpace(space);
      } finally {
        ram.map({ object: ram.mappings()[1]!.object, length: PAGE });
        own.close();
      }
    },
  ],
  ['an unmap of half a page', ({ ram }) => ram.unmap(0, 2048)],
  ['an unmap of nothing', ({ ram }) => ram.unmap(0, 0)],
  ['an unmap past the end', ({ ram }) => ram.unmap(32 * PAGE, PAGE)],

  ['a partition that is none', ({ map, space, va }) => map.attachPartition({ name: 'x' } as Anything, { space, va })],
  ['a partition that is undefined', ({ map, space, va }) => map.attachPartition(undefined as Anything, { space, va })],
  ['a partition without a name', ({ map, space, va }) => map.attachPartition(new LoggingPartition(''), { space, va })],
  [
    'a partition without slots',
    ({ map, space, va }) => map.attachPartition(new LoggingPartition('x', 0), { space, va }),
  ],
  [
    'a partition whose largest slot is less than a page',
    ({ map, space, va }) => {
      const partition = Object.assign(new LoggingPartition(), { largestSlot: 0xfff });
      return map.attachPartition(partition, { space, va });
    },
  ],
  [
    'a partition that keeps parts of pages',
    ({ map, space, va }) => {
      const partition = Object.assign(new LoggingPartition(), { keptPages: [{ gpa: 0x800, length: PAGE }] });
      return map.attachPartition(partition, { space, va });
    },
  ],
  [
    'a partition that keeps what is no address',
    ({ map, space, va }) => {
      const partition = Object.assign(new LoggingPartition(), { keptPages: [{ gpa: -1, length: PAGE }] });
      return map.attachPartition(partition, { space, va });
    },
  ],
  [
    'a partition that cannot resume',
    ({ map, space, va }) =>
      map.attachPartition({ name: 'x', slotLimit: 1, addSlot() {}, deleteSlot() {}, pause() {} }, { space, va }),
  ],
  [
    'an attachment without a VA space',
    ({ map, space, partition }) => map.attachPartition(partition, { space } as Anything),
  ],
  ['an attachment without options', ({ map, partition }) => map.attachPartition(partition, undefined as Anything)],
  [
    'a VA space of another map',
    ({ map, space, partition, elsewhere }) => map.attachPartition(partition, { space, va: elsewhere.va }),
  ],
  [
    'a VA space of another address space',
    ({ map, root, va, partition }) => {
      const other = map.createAddressSpace({ name: 'other', root });
      try {
        map.attachPartition(partition, { space: other, va });
      } finally {
        other.close();
      }
    },
  ],
  [
    'an attachment at half a page',
    ({ map, space, va, partition }) => map.attachPartition(partition, { space, va, gpaOffset: 2048 }),
  ],
  ['an attachment over another', ({ map, space, va, partition }) => map.attachPartition(partition, { space, va })],
  [
    'an attachment that ends before it begins',
    ({ map, space, va }) =>
      map.attachPartition(new LoggingPartition(), { space, va, gpaOffset: 2 * PAGE, lastGpa: PAGE }),
  ],
  [
    'an attachment that what is seen does not fit in',
    ({ map, space, va }) => map.attachPartition(new LoggingPartition('small'), { space, va, lastGpa: PAGE - 1 }),
  ],
  [
    'a partition with too few slots',
    ({ map, space, va, root }) =>
      map.transaction(() => {
        map.createRegion({ name: 'rom', kind: 'rom', size: PAGE }).place(root, { offset: PAGE, priority: 1 });
        map.attachPartition(new LoggingPartition('poor', 2), { space, va });
      }),
  ],
  [
    'a hypervisor that refuses',
    ({ map, space, va }) => {
      const partition = new LoggingPartition('unwilling');
      partition.failsAfter = 0;
      map.attachPartition(partition, { space, va });
    },
  ],

  ['a protection of half a page', ({ va }) => va.protect({ gpa: 0, length: 2048, access: 'r' })],
  ['a protection from half a page', ({ attachment }) => attachment.protect({ gpa: 2048, length: PAGE, access: 'r' })],
  ['a protection past the end', ({ va }) => va.protect({ gpa: 63 * PAGE, length: 2 * PAGE, access: 'r' })],
  [
    'a protection past 2^64',
    ({ attachment }) => attachment.protect({ gpa: 2n ** 64n - 4096n, length: 2 * PAGE, access: 'r' }),
  ],
  ['a protection of nothing', ({ va }) => va.protect({ gpa: 0, length: 0, access: 'r' })],
  ['an access that does not exist', ({ va }) => va.protect({ gpa: 0, length: PAGE, access: 'wr' as Anything })],
  ['a protection without an access', ({ va }) => va.protect({ gpa: 0, length: PAGE } as Anything)],

  ['a read of a hole', ({ va }) => va.memory.readU32(40 * PAGE)],
  ['a read that runs into a hole', ({ va }) => va.memory.read(32 * PAGE - 2, new Uint8Array(4))],
  ['a read past the end', ({ va }) => va.memory.readU64(64 * PAGE)],
  ['a read far past the end', ({ va }) => va.memory.readU8(2n ** 64n - 1n)],
  ['a write past the end', ({ va }) => va.memory.write(2 ** 53 - 1, new Uint8Array(1))],
  ['a read into a list', ({ va }) => va.memory.read(0, [1, 2] as Anything)],
  ['a read into other numbers', ({ va }) => va.memory.read(0, new Uint32Array(2) as Anything)],
  ['a read into memory that was given away', ({ va }) => va.memory.read(0, detached())],
  ['a write of memory that was given away', ({ va }) => va.memory.write(0, detached())],
  ['a read into what only looks like bytes', ({ va }) => va.memory.read(0, Object.create(Uint8Array.prototype))],
  ['a write of what only looks like bytes', ({ va }) => va.memory.write(0, new Proxy(new Uint8Array(4), {}))],
  ['a write of a string', ({ va }) => va.memory.write(0, 'guest' as Anything)],
  ['a byte of 9 bits', ({ va }) => va.memory.writeU8(0, 256)],
  ['a byte below 0', ({ va }) => va.memory.writeU8(0, -1)],
  ['half a word', ({ va }) => va.memory.writeU16(0, 0.5)],
  ['no number', ({ va }) => va.memory.writeU32(0, Number.NaN)],
  ['a bigint for 32 bits', ({ va }) => va.memory.writeU32(0, 1n as Anything)],
  ['an exchange of 3 bytes', ({ va }) => va.memory.compareExchange(0, 3 as Anything, 0, 0)],
  ['an exchange of too large a value', ({ va }) => va.memory.compareExchange(0, 2, 0, 65536)],
  ['an exchange at an odd address', ({ va }) => va.memory.compareExchange(1, 4, 0, 0)],

  ['memory of nothing', () => SharedMemory.create(0)],
  ['memory of half a page', () => SharedMemory.create(2048)],
  ['memory of 2^63 bytes', () => SharedMemory.create(2n ** 63n)],
  ['private memory of half a page', () => PrivateMemory.create(2048)],
  ['more private memory than there are addresses', () => PrivateMemory.create(2n ** 60n)],
  ['memory without a name', () => SharedMemory.create(PAGE, { name: '' })],
  ['memory with an unknown option', () => SharedMemory.create(PAGE, { hugePages: true } as Anything)],
  ['huge pages of an odd size', () => SharedMemory.create(PAGE, { hugePageSize: 5000 })],
  ['a descriptor that is closed', () => SharedMemory.fromFd(1_000_000)],
  ['a descriptor below 0', () => SharedMemory.fromFd(-1)],
  ['a descriptor that is a name', () => SharedMemory.fromFd('/dev/null' as Anything)],
  ['a descriptor that is a symbol', () => PrivateMemory.fromFile(Symbol('fd') as Anything)],
  ['a folder', ({ folder }) => withFile(folder, 'r', (fd) => SharedMemory.fromFd(fd, { writable: false }))],
  ['a folder to copy', ({ folder }) => withFile(folder, 'r', (fd) => PrivateMemory.fromFile(fd, { size: PAGE }))],
  ['a device that is no memory', () => withFile('/dev/null', 'r+', (fd) => SharedMemory.fromFd(fd, { size: PAGE }))],
  ['a file that is only read', ({ folder }) => withFile(join(folder, 'page'), 'r', (fd) => SharedMemory.fromFd(fd))],
  [
    'a file that is only written',
    ({ folder }) => withFile(join(folder, 'page'), 'a', (fd) => SharedMemory.fromFd(fd, { writable: false })),
  ],
  ['an empty file', ({ folder }) => withFile(join(folder, 'empty'), 'r+', (fd) => SharedMemory.fromFd(fd))],
  [
    'a file that is too short',
    ({ folder }) => withFile(join(folder, 'page'), 'r+', (fd) => SharedMemory.fromFd(fd, { size: 2 * PAGE })),
  ],
  [
    'a file too short to copy',
    ({ folder }) => withFile(join(folder, 'page'), 'r', (fd) => PrivateMemory.fromFile(fd, { size: 2 * PAGE })),
  ],
  ['a file of half a page more', ({ folder }) => withFile(join(folder, 'odd'), 'r+', (fd) => SharedMemory.fromFd(fd))],

  ['a pipe', () => withPipe((fd) => SharedMemory.fromFd(fd))],
  ['a pipe to copy', () => withPipe((fd) => PrivateMemory.fromFile(fd))],

  ['a region that is made with new', () => new (Region as Anything)()],
  ['an address space that is made with new', () => new (AddressSpace as Anything)()],
  ['a VA space that is made with new', () => new (VaSpace as Anything)()],
  ['an attachment that is made with new', () => new (Attachment as Anything)()],
  ['shared memory that is made with new', () => new (SharedMemory as Anything)()],
  ['private memory that is made with new', () => new (PrivateMemory as Anything)()],
  ['a KVM partition that is made with new', () => new (KvmPartition as Anything)()],
  ['a vCPU that is made with new', () => new (Vcpu as Anything)()],
  ['guest memory that is made with new', () => new (LocalGuestMemory as Anything)()],
  ['a lease that is made with new', () => new (Lease as Anything)()],
  ['what only looks like a region', ({ ram }) => ram.place(Object.create(Region.prototype))],
  ['what only looks like an address space', ({ map }) => map.attachVaSpace(Object.create(AddressSpace.prototype))],

  ['a partition with an unknown option', () => KvmPartition.open({ slots: 4 } as Anything)],
  ['a partition whose name is a number', () => KvmPartition.open({ name: 4 as Anything })],
  ['a vCPU token that is none', () => Vcpu.fromToken(-1n)],
  ['a vCPU token of nobody', () => Vcpu.fromToken(4_000_000_000n)],
];

function withFile(path: string, flags: string, use: (fd: number) => unknown): void {
  const fd = openSync(path, flags);
  try {
    use(fd);
  } finally {
    closeSync(fd);
  }
}

/** Bytes of which the memory is somebody else's now. */
function detached(): Uint8Array {
  const bytes = new Uint8Array(4);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  return bytes;
}

/** Calls `use` with the end of a pipe that is read from. */
function withPipe(use: (fd: number) => unknown): void {
  const path = join(tmpdir(), `membacking-pipe-${process.pid}-${Math.random()}`);
  execFileSync('mkfifo', [path]);
  try {
    // Open for both, so that nobody waits for the other end.
    withFile(path, 'r+', use);
  } finally {
    rmSync(path);
  }
}

test('bad input is refused with a code and a reason, and changes nothing', (t) => {
  const before = footprint();
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  for (const [name, size] of [
    ['page', PAGE],
    ['empty', 0],
    ['odd', PAGE + 2048],
  ] as const) {
    withFile(join(folder, name), 'w', (fd) => ftruncateSync(fd, size));
  }
  const machine = new Machine();
  const elsewhere = new Machine();
  const partition = new LoggingPartition();
  const attachment = machine.attach(partition);
  const fixture = Object.assign(machine, { elsewhere, folder, partition, attachment });
  machine.fill();
  const core = () => machine.state().filter((line) => !line.startsWith('{'));
  const [state, contents, prints] = [core(), machine.contents(), footprint()];
  const answers = BAD_INPUT.map(([title, attempt]) => {
    const answer = refusal(() => attempt(fixture))
      .replace(/\bfd \d+|descriptor \d+/, (found) => found.replace(/\d+/, 'N'))
      .replace(/ \(\/[^,]*, /, ' (PATH, ');
    t.deepEqual(core(), state, title);
    t.deepEqual(footprint(), prints, title);
    return `${title}: ${answer}`;
  });
  t.deepEqual(machine.contents(), contents);
  t.deepEqual(partition.calls, ['add 0: 0 + 20000 rwx']);
  t.deepEqual(
    answers.filter((answer) => !/: [A-Z_]{5,}: /.test(answer)),
    [],
    'all of them have a code',
  );
  t.snapshot(answers);
  elsewhere.map.close();
  elsewhere.memory.close();
  machine.map.close();
  machine.memory.close();
  rmSync(folder, { recursive: true });
  t.deepEqual(footprint(), before);
});

test('a closed handle of each kind is refused as an argument', (t) => {
  const machine = new Machine();
  const { map, root, ram, space, va } = machine;
  const region = map.createRegion({ name: 'gone', kind: 'ram', size: PAGE });
  const oldSpace = map.createAddressSpace({ name: 'gone', root });
  const oldVa = map.attachVaSpace(space, { name: 'gone', size: 64 * PAGE });
  for (const handle of [region, oldSpace, oldVa]) handle.close();
  const state = machine.state();
  const partition = new LoggingPartition();
  t.deepEqual(
    [
      () => region.place(root),
      () => ram.place(region),
      () => map.createAlias({ name: 'x', target: region, size: PAGE }),
      () => map.createAddressSpace({ name: 'x', root: region }),
      () => map.attachVaSpace(oldSpace),
      () => map.attachPartition(partition, { space: oldSpace, va }),
      () => map.attachPartition(partition, { space, va: oldVa }),
      () => oldVa.memory.readU8(0),
    ].map(refusal),
    [
      'CLOSED: region "gone" is closed',
      'CLOSED: region "gone" is closed',
      'CLOSED: region "gone" is closed',
      'CLOSED: region "gone" is closed',
      'CLOSED: address space "gone" is closed',
      'CLOSED: address space "gone" is closed',
      'CLOSED: VA space "gone" is closed',
      'CLOSED: VA space "gone" is closed',
    ],
  );
  t.deepEqual(machine.state(), state);
  machine.end(t);
});
