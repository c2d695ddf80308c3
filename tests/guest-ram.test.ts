// RAM of a guest: what it is made of, where it lies, what the guest sees of it.

import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { SharedMemory } from '../ts/asked/object.ts';
import { artefact } from '../ts/core/artefact.ts';
import { GuestMemoryBuilder, type GuestMemoryOptions } from '../ts/guest/builder.ts';
import { MemoryBuildError } from '../ts/guest/errors.ts';
import type { RamOptions } from '../ts/guest/ram-options.ts';
import { RecordingPartition } from '../ts/guest/recording-partition.ts';
import { SharedMemoryBacking } from '../ts/guest/shared-backing.ts';
import { Failing } from './support/failing.ts';
import { footprint } from './support/footprint.ts';
import { guestImage, kvmTest } from './support/guest.ts';
import { tempFolder } from './support/temp-folder.ts';
import { buildVm, GIB, Guest, got, MIB, vmTest, wrote } from './support/vm.ts';

const PAGE = 0x1000;
/** A piece of RAM that a PAM register switches, and a window in it as KVM's vapic has one. */
const PAM = { gpa: 0xc8000, length: 0x4000 };
const VAPIC = { gpa: 0xc9000, length: 3 * PAGE };

// ---- What the guest sees -----------------------------------------------------------------------

vmTest(
  'RAM is seen where its ranges are, and nowhere else',
  {
    ram: [
      {
        ranges: [
          { gpa: 0, length: 2 * MIB },
          { gpa: 16 * MIB, length: MIB },
        ],
      },
      { name: 'high', ranges: [{ gpa: 1 * GIB, length: MIB }], backing: { kind: 'private' } },
    ],
  },
  (t, manager, guest) => {
    t.is(guest.write(16 * MIB, 0x1234), wrote(0x1234));
    t.is(guest.read(16 * MIB), got(0x1234));
    t.is(guest.write(GIB + 4, 0x77), wrote(0x77));
    t.is(guest.read(2 * MIB), 'mmio read 200000');
    t.is(guest.read(17 * MIB), 'mmio read 1100000');
    t.is(manager.guestMemory.readU32(16 * MIB), 0x1234);
    t.is(manager.guestMemory.readU32(GIB + 4), 0x77);
    const ram = manager.sharedMemory({ partial: true });
    const [part] = ram.parts();
    t.is(part!.size, 3 * MIB, 'the second range follows the first in the backing');
    ram.close();
  },
);

vmTest(
  'a PAM register hides RAM behind a ROM, write-protects it, and gives it back',
  {
    ram: [{ ranges: [{ gpa: 0, length: 4 * MIB }] }],
    x86LegacySupport: true,
  },
  (t, manager, guest) => {
    const pam = manager.ramVisibility;
    const segment = { gpa: 0xc8000, length: 0x4000 };
    const rom = manager.map.createRegion({ name: 'rom', kind: 'rom', size: 0x40000 });
    rom.place(manager.root, { offset: 0xc0000, priority: 0 });
    t.is(guest.write(0xc8000, 0xabcd), wrote(0xabcd));

    pam.set(segment, 'read-only');
    t.is(guest.read(0xc8000), got(0xabcd));
    t.is(guest.write(0xc8000, 1), 'mmio write c8000 = 1');
    t.is(guest.write(0xcc000, 1), wrote(1), 'the next segment is not concerned');
    t.is(pam.at(0xc8000), 'read-only');

    pam.setAll([
      { ...segment, visibility: 'unmapped' },
      { gpa: 0xcc000, length: 0x4000, visibility: 'read-only' },
    ]);
    t.is(guest.read(0xc8000), 'memory-fault', 'the ROM is seen, and nothing is mapped into it');
    t.is(guest.write(0xcc000, 2), 'mmio write cc000 = 2');

    pam.set({ gpa: 0xc8000, length: 0x8000 }, 'read-write');
    t.is(guest.read(0xc8000), got(0xabcd));
    t.is(guest.write(0xc8000, 2), wrote(2));
    t.deepEqual(
      manager.ramVisibility.ranges().map(({ visibility }) => visibility),
      Array.from({ length: 16 }, () => 'read-write'),
    );
  },
);

vmTest(
  'private RAM that is hidden comes back unchanged',
  {
    ram: [{ ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind: 'private' } }],
    x86LegacySupport: true,
  },
  (t, manager, guest) => {
    const range = { gpa: 0xc0000, length: 0x4000 };
    t.is(guest.write(0xc0010, 0x5a5a), wrote(0x5a5a));
    for (let i = 0; i < 3; i++) {
      manager.ramVisibility.set(range, 'unmapped');
      t.is(guest.read(0xc0010), 'mmio read c0010');
      t.throws(() => manager.guestMemory.readU32(0xc0010), { code: 'GUEST_ACCESS' });
      manager.ramVisibility.set(range, 'read-write');
      t.is(guest.read(0xc0010), got(0x5a5a));
    }
  },
);

for (const kind of ['shared', 'private'] as const) {
  vmTest(
    `a window of ${kind} RAM stays writable while the piece around it is write-protected, hidden and given back`,
    { ram: [{ ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind } }], x86LegacySupport: true },
    (t, { ramVisibility: pam }, guest) => {
      t.is(guest.write(VAPIC.gpa, 0x11), wrote(0x11));
      const window = pam.keepWritable(VAPIC);
      t.is(guest.read(VAPIC.gpa), got(0x11), 'the bytes are those that were there');

      pam.set(PAM, 'read-only');
      t.is(guest.write(PAM.gpa, 1), 'mmio write c8000 = 1');
      t.is(guest.write(VAPIC.gpa, 0x22), wrote(0x22));
      t.is(guest.write(VAPIC.gpa + VAPIC.length - 4, 0x33), wrote(0x33));
      pam.set(PAM, 'unmapped');
      t.is(guest.read(PAM.gpa), 'mmio read c8000');
      t.is(guest.read(VAPIC.gpa), got(0x22));

      pam.set(PAM, 'read-only');
      window.close();
      t.is(guest.write(VAPIC.gpa, 1), 'mmio write c9000 = 1');
      t.is(guest.read(VAPIC.gpa), got(0x22), 'what was written through the window is in the RAM');
    },
  );
}

for (const kind of ['shared', 'private'] as const) {
  test(`the monitor sees a window of ${kind} RAM as its guest does`, (t) => {
    const ram = [{ ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind } }];
    const manager = buildVm({ ram, x86LegacySupport: true });
    const { ramVisibility: pam, guestMemory } = manager;
    guestMemory.writeU32(VAPIC.gpa, 0x11);
    const before = manager.space.text();
    const window = pam.keepWritable(VAPIC);
    pam.set(PAM, 'read-only');
    t.is(guestMemory.readU32(VAPIC.gpa), 0x11);
    guestMemory.writeU32(VAPIC.gpa, 0x22);
    for (const gpa of [PAM.gpa, VAPIC.gpa - 4]) t.throws(() => guestMemory.writeU32(gpa, 1), { code: 'GUEST_ACCESS' });
    t.deepEqual(
      [PAM.gpa, VAPIC.gpa].map((gpa) => pam.at(gpa)),
      ['read-only', 'read-write'],
    );
    t.deepEqual(manager.inspect().writableRam, [VAPIC]);
    t.is(pam.ranges().length, 16, 'the pieces are what they were');

    window.close();
    t.throws(() => guestMemory.writeU32(VAPIC.gpa, 1), { code: 'GUEST_ACCESS' });
    t.is(guestMemory.readU32(VAPIC.gpa), 0x22);
    t.is(pam.at(VAPIC.gpa), 'read-only');
    pam.set(PAM, 'read-write');
    t.deepEqual(manager.space.text(), before);
    manager.close();
  });
}

for (const kind of ['shared', 'private'] as const) {
  test(`writes of the monitor reach ${kind} RAM that is hidden, and no further than a piece`, (t) => {
    const ram = [{ ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind } }];
    const manager = buildVm({ ram, x86LegacySupport: true });
    const { ramVisibility: pam, guestMemory } = manager;
    for (const visibility of ['unmapped', 'read-only', 'read-write'] as const) {
      pam.set(PAM, visibility);
      const bytes = Buffer.from(visibility);
      pam.write(PAM.gpa + 5, bytes);
      pam.set(PAM, 'read-write');
      const seen = Buffer.alloc(bytes.length);
      guestMemory.read(PAM.gpa + 5, seen);
      t.deepEqual(seen, bytes);
    }
    const wrong = { code: 'NOT_CONTROLLABLE' };
    t.throws(() => pam.write(Number(PAM.gpa) + Number(PAM.length) - 2, Buffer.alloc(4)), wrong);
    t.throws(() => pam.write(4 * MIB, Buffer.alloc(1)), wrong);
    t.throws(() => pam.write(2n ** 64n - 1n, Buffer.alloc(1)), wrong);
    t.throws(() => pam.write(0, 'bytes' as never), { code: 'INVALID_ARGUMENT' });
    manager.close();
  });
}

test('a window may lie over several pieces, ends with its RAM, and is not made where not all is RAM', (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  const { ramVisibility: pam, guestMemory, map } = manager;
  const dimm = manager.addRam({ ranges: [{ gpa: GIB, length: MIB }] });
  const regions = map.context.regions.size;
  for (const [range, code] of [
    [{ gpa: 4 * MIB - PAGE, length: 2 * PAGE }, 'NOT_CONTROLLABLE'],
    [{ gpa: 2 * GIB, length: PAGE }, 'NOT_CONTROLLABLE'],
    [{ gpa: 2n ** 64n - 1n, length: 2n ** 63n }, 'NOT_CONTROLLABLE'],
    [{ gpa: 0xc9800, length: PAGE }, 'UNALIGNED'],
    [{ gpa: 0xc9000, length: 0 }, 'INVALID_ARGUMENT'],
  ] as const) {
    t.throws(() => pam.keepWritable(range), { code }, `${range.gpa} of ${range.length} bytes`);
  }
  t.is(map.context.regions.size, regions, 'and nothing is left of them');

  guestMemory.writeU32(0xcc000, 0x44);
  const across = pam.keepWritable({ gpa: 0xcb000, length: 3 * PAGE });
  pam.set({ gpa: 0xc8000, length: 0x8000 }, 'unmapped');
  t.is(guestMemory.readU32(0xcc000), 0x44);
  t.throws(() => guestMemory.readU32(0xce000), { code: 'GUEST_ACCESS' });

  const above = pam.keepWritable({ gpa: GIB, length: PAGE });
  t.throws(() =>
    map.transaction(() => {
      dimm.remove();
      t.true(above.closed);
      throw new Error('not so');
    }),
  );
  t.deepEqual([above.closed, manager.inspect().writableRam.length], [false, 2]);
  dimm.remove();
  t.deepEqual([above.closed, across.closed], [true, false]);
  across.close();
  across.close();
  t.is(map.context.regions.size, regions - 1);
  manager.close();
});

test('a window that is taken back with its transaction was never there', (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  let window: { closed: boolean } | undefined;
  t.throws(() =>
    manager.map.transaction(() => {
      window = manager.ramVisibility.keepWritable(VAPIC);
      manager.ramVisibility.set(PAM, 'read-only');
      throw new Error('not so');
    }),
  );
  t.is(window?.closed, true);
  t.deepEqual(manager.inspect().writableRam, []);
  manager.guestMemory.writeU32(VAPIC.gpa, 1);
  manager.close();
});

test('what cannot be switched by itself is refused, with what can', (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  const before = manager.ramVisibility.ranges();
  for (const range of [
    { gpa: 0xc8000, length: PAGE },
    { gpa: 0xc2000, length: 0x4000 },
    { gpa: 8 * MIB, length: PAGE },
  ]) {
    const change = { ...range, visibility: 'unmapped' as const };
    const error = t.throws(
      () => manager.ramVisibility.setAll([{ gpa: 0, length: 0xa0000, visibility: 'unmapped' }, change]),
      {
        code: 'NOT_CONTROLLABLE',
      },
    );
    t.regex(error!.message, /0xc8000-0xcbfff/);
  }
  t.deepEqual(manager.ramVisibility.ranges(), before);
  manager.close();
});

test('a visibility that is taken back with its transaction was never there', (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  t.throws(() =>
    manager.map.transaction(() => {
      manager.ramVisibility.set({ gpa: 0xc8000, length: 0x4000 }, 'unmapped');
      t.is(manager.ramVisibility.at(0xc8000), 'unmapped');
      throw new Error('not so');
    }),
  );
  t.is(manager.ramVisibility.at(0xc8000), 'read-write');
  t.is(manager.ramVisibility.at(0x7fff_ffff), undefined);
  manager.close();
});

test('a switch is planned ahead when a partition is attached, and nothing is done', (t) => {
  const manager = buildVm();
  const { context } = manager.map;
  const { preview } = context;
  const planned: number[] = [];
  context.preview = (body, look) =>
    preview.call(context, body, (core, plan) => {
      planned.push(plan.commands);
      look(core, plan);
    });
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  t.deepEqual(planned, [3], 'a slot goes, comes back read-only, and so does the memory of the monitor');
  t.deepEqual([...new Set(partition.events.map(({ event }) => event))], ['add']);
  t.is(manager.ramVisibility.at(0), 'read-write');
  manager.close();
});

kvmTest('the first switch after a partition was attached compiles nothing that was not rehearsed', (t) => {
  const log = join(tempFolder(t), 'v8.log');
  const flags = ['--log-function-events', '--no-logfile-per-isolate', `--logfile=${log}`, '--input-type=module'];
  const program = `
    import { GuestMemoryBuilder, KvmPartition } from ${JSON.stringify(artefact('index.js').href)};
    const builder = new GuestMemoryBuilder({ x86LegacySupport: true });
    const manager = builder.addRam({ ranges: [{ gpa: 0, length: ${2 * MIB} }] }).build();
    manager.attachPartition(KvmPartition.open());
    function before() {}
    function after() {}
    before();
    manager.ramVisibility.set(${JSON.stringify(PAM)}, 'read-only');
    after();`;
  execFileSync(process.execPath, [...flags, '--eval', program]);
  const compiled = readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('function,full-parse,'))
    .map((line) => line.split(',')[7]);
  const whoseCommand = 'commandSink'; // of a plan that holds vCPUs alone
  t.deepEqual(compiled.slice(compiled.indexOf('before') + 1, compiled.indexOf('after')), [whoseCommand]);
});

test('legacy x86 cuts RAM at a0000, every 16 KiB from c0000 on, f0000 and 100000', (t) => {
  const manager = buildVm({ x86LegacySupport: true });
  t.deepEqual(
    manager.ramVisibility.ranges().map(({ gpa, length }) => `${gpa.toString(16)}+${length.toString(16)}`),
    [
      ...['0+a0000', 'a0000+20000'],
      ...Array.from({ length: 12 }, (_, i) => `${(0xc0000 + i * 0x4000).toString(16)}+4000`),
      ...['f0000+10000', '100000+300000'],
    ],
  );
  manager.close();
});

// ---- What it is made of ------------------------------------------------------------------------

function inFolder(body: (path: (name: string) => string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  try {
    body((name) => join(folder, name));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function ram(backing: RamOptions['backing']): RamOptions {
  return { ranges: [{ gpa: 0, length: MIB }], ...(backing ? { backing } : {}) };
}

test('RAM can be a file, which keeps what the guest wrote', (t) => {
  inFolder((path) => {
    writeFileSync(path('ram'), Buffer.concat([guestImage(), Buffer.alloc(MIB - guestImage().length)]));
    const first = buildVm({ ram: [ram({ kind: 'file', path: path('ram') })] });
    first.guestMemory.writeU32(0x20000, 0x600d);
    first.close();
    t.is(readFileSync(path('ram')).readUInt32LE(0x20000), 0x600d);

    const fd = openSync(path('ram'), 'r+');
    const second = buildVm({ ram: [ram({ kind: 'fd', fd })] });
    closeSync(fd);
    t.is(second.guestMemory.readU32(0x20000), 0x600d);
    second.close();
  });
});

test('a copy-on-write guest leaves its file as it was', (t) => {
  inFolder((path) => {
    writeFileSync(path('ram'), Buffer.alloc(MIB, 7));
    const manager = buildVm({ ram: [ram({ kind: 'file', path: path('ram'), copyOnWrite: true })] });
    manager.guestMemory.writeU8(0x30000, 1);
    t.is(manager.guestMemory.readU8(0x30001), 7);
    manager.close();
    t.is(readFileSync(path('ram'))[0x30000], 7);
  });
});

test('RAM handed to a new manager has the same bytes, whoever closes first', (t) => {
  const first = buildVm({ ram: [ram({ kind: 'shared' }), { name: 'more', ranges: [{ gpa: 16 * MIB, length: MIB }] }] });
  first.guestMemory.writeU32(16 * MIB, 0xbeef);
  const backing = first.sharedMemory();
  first.close();
  const handedOver = { kind: 'handed-over', backing } as const;
  const second = buildVm({
    ram: [
      { ...ram(handedOver), name: 'ram' },
      { name: 'more', ranges: [{ gpa: 32 * MIB, length: MIB }], backing: handedOver },
    ],
  });
  t.is(second.guestMemory.readU32(32 * MIB), 0xbeef);
  backing.close();
  t.is(second.guestMemory.readU32(32 * MIB), 0xbeef);
  second.close();
});

test('what is no list of parts of different names is no backing, and leaves no descriptor', (t) => {
  using memory = SharedMemory.create(MIB);
  const before = footprint();
  const part = { name: 'a', fd: memory.fd, size: MIB };
  for (const parts of [undefined, { ...part }, [part, part], [part, { ...part, name: '' }], [part, 7]] as never[]) {
    t.throws(() => SharedMemoryBacking.fromParts(parts), { code: 'INVALID_ARGUMENT' });
  }
  t.throws(() => SharedMemoryBacking.fromParts([part, { ...part, name: 'b', fd: 9999 }]), { code: 'SYSTEM' });
  t.deepEqual(footprint(), before);
});

test('a backing without the memory that is asked for says what it has', (t) => {
  const manager = buildVm();
  using backing = manager.sharedMemory();
  const handedOver = {
    name: 'dimm',
    ranges: [{ gpa: 0, length: MIB }],
    backing: { kind: 'handed-over', backing },
  } as const;
  t.throws(() => new GuestMemoryBuilder().addRam(handedOver).build(), {
    instanceOf: MemoryBuildError,
    code: 'MISSING_BACKING',
    message: /"dimm"; it has "ram"/,
  });
  manager.close();
});

test('clones of one image see neither each other nor change the parent', (t) => {
  const parent = buildVm();
  parent.guestMemory.writeU32(0x100000, 1);
  using backing = parent.sharedMemory();
  const clone = () =>
    buildVm({
      ram: [
        {
          name: 'ram',
          ranges: [{ gpa: 0, length: 4 * MIB }],
          backing: { kind: 'handed-over', backing, copyOnWrite: true },
        },
      ],
    });
  const clones = [clone(), clone()] as const;
  clones[0].guestMemory.writeU32(0x100000, 2);
  t.is(clones[0].guestMemory.readU32(0x100000), 2);
  t.is(clones[1].guestMemory.readU32(0x100000), 1);
  t.is(parent.guestMemory.readU32(0x100000), 1);
  for (const manager of [...clones, parent]) manager.close();
});

vmTest('two virtual machines on one memory see what the other writes', {}, (t, manager, guest) => {
  const other = new Guest(manager);
  t.is(guest.write(0x200000, 0x11), wrote(0x11));
  t.is(other.read(0x200000), got(0x11));
  const shared = manager.sharedMemory();
  const second = buildVm({
    ram: [{ name: 'ram', ranges: [{ gpa: 0, length: 4 * MIB }], backing: { kind: 'handed-over', backing: shared } }],
  });
  const third = new Guest(second);
  t.is(third.read(0x200000), got(0x11));
  t.is(third.write(0x200000, 0x22), wrote(0x22));
  t.is(guest.read(0x200000), got(0x22));
  second.close();
  shared.close();
  third.close();
  other.close();
});

// ---- What does not fit -------------------------------------------------------------------------

interface Misfit {
  code: string;
  options?: GuestMemoryOptions;
  ram: RamOptions[];
  message: RegExp;
}

const range = (gpa: number | bigint, length: number | bigint) => ({ ranges: [{ gpa, length }] });

const MISFITS: Record<string, Misfit> = {
  'an empty range': { code: 'RAM_EMPTY', ram: [range(0, 0)], message: /empty/ },
  'half a page': { code: 'RAM_UNALIGNED', ram: [range(0, 0x800)], message: /0x800/ },
  'an address within a page': { code: 'RAM_UNALIGNED', ram: [range(0x10, PAGE)], message: /0x10/ },
  'two ranges at one address': {
    code: 'RAM_OVERLAP',
    ram: [range(0, MIB), range(MIB - PAGE, MIB)],
    message: /0xff000/,
  },
  'RAM above the highest address': {
    code: 'RAM_TOO_LARGE',
    options: { maxAddress: GIB - 1 },
    ram: [range(GIB - PAGE, 2 * PAGE)],
    message: /0x3fffffff/,
  },
  'RAM up to the end of 2^64': {
    code: 'RAM_TOO_LARGE',
    ram: [range(2n ** 64n - 4096n, 4096n)],
    message: /0xffffffffffffffff/,
  },
  'legacy x86 without low RAM': {
    code: 'RAM_TOO_LOW',
    options: { x86LegacySupport: true },
    ram: [range(0, 0x100000)],
    message: /0x100000/,
  },
  'legacy x86 with a hole in low RAM': {
    code: 'RAM_TOO_LOW',
    options: { x86LegacySupport: true },
    ram: [range(0, PAGE), range(0x9f000, PAGE), range(0x100000, MIB)],
    message: /0xa0000.* without a hole/,
  },
  'an alias map within RAM': {
    code: 'ALIAS_MAP_MISFIT',
    options: { maxAddress: GIB - 1, vtl0AliasMap: 0x1000_0000 },
    ram: [range(0, MIB)],
    message: /0x10000000/,
  },
  'an alias map that ends past 2^64': {
    code: 'ALIAS_MAP_MISFIT',
    options: { maxAddress: GIB - 1, vtl0AliasMap: 2n ** 64n - 0x1000n },
    ram: [range(0, MIB)],
    message: /2\^64/,
  },
  'two blocks of one name': {
    code: 'NAME_TAKEN',
    ram: [
      { ...range(0, MIB), name: 'a' },
      { ...range(MIB, MIB), name: 'a' },
    ],
    message: /"a"/,
  },
  'a huge page size that no machine has': {
    code: 'HUGE_PAGE_SIZE',
    ram: [{ ...range(0, 3 * 0x3000), backing: { kind: 'shared', hugePageSize: 0x3000 } }],
    message: /0x3000/,
  },
  'a file that is not there': {
    code: 'ALLOCATION_FAILED',
    ram: [{ ...range(0, MIB), backing: { kind: 'file', path: '/nonexistent/ram' } }],
    message: /\/nonexistent\/ram/,
  },
  'a file that is too short': {
    code: 'ALLOCATION_FAILED',
    ram: [{ ...range(0, MIB), backing: { kind: 'file', path: '/proc/self/cmdline', copyOnWrite: true } }],
    message: /shorter|cannot be mapped/,
  },
  'more address space than there is': {
    code: 'ALLOCATION_FAILED',
    options: { maxAddress: 2n ** 60n - 1n },
    ram: [range(4 * GIB, 2 ** 48)],
    message: /reserved/,
  },
};

for (const [name, { code, options, ram: blocks, message }] of Object.entries(MISFITS)) {
  test(`${name} is refused with ${code}, and nothing is left behind`, (t) => {
    const before = footprint();
    const builder = new GuestMemoryBuilder({ maxAddress: 4 * GIB - 1, ...options });
    // RAM that comes before the misfit has to be given back.
    const first: RamOptions[] = code === 'RAM_TOO_LOW' ? [] : [{ ...range(2 * GIB, MIB), name: 'first' }];
    const all = options?.maxAddress === GIB - 1 ? blocks : [...first, ...blocks];
    for (const block of all) builder.addRam(block);
    const error = t.throws(() => builder.build(), { instanceOf: MemoryBuildError, message });
    t.is(error!.code as string, code);
    t.deepEqual(footprint(), before);
  });
}

test('what is no option is refused before anything is done', (t) => {
  const refuses = (body: () => unknown, message: RegExp) => t.throws(body, { code: 'INVALID_ARGUMENT', message });
  refuses(() => new GuestMemoryBuilder({ size: 1 } as never), /no option "size"/);
  refuses(() => new GuestMemoryBuilder({ maxAddress: 5000 }), /maxAddress/);
  refuses(() => new GuestMemoryBuilder({ slotBudget: 0 }), /slotBudget/);
  const builder = new GuestMemoryBuilder();
  refuses(() => builder.addRam({ ranges: [] }), /at least one range/);
  refuses(() => builder.addRam({ ranges: [{ gpa: -1, length: 1 }] }), /gpa/);
  refuses(() => builder.addRam({ ranges: [{ gpa: 0, length: 1, size: 2 } as never] }), /no option "size"/);
  refuses(() => builder.addRam({ ...range(0, PAGE), backing: { kind: 'tape' } as never }), /backing.kind/);
  refuses(() => builder.addRam({ ...range(0, PAGE), backing: null as never }), /backing/);
});

test.serial('RAM that a partition refuses is refused as every other change is', (t) => {
  const manager = new GuestMemoryBuilder({ maxAddress: GIB - 1 }).addRam(range(0, MIB)).build();
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  partition.failAfter = 0;
  t.throws(() => manager.addRam(range(2 * MIB, MIB)), { code: 'PLAN_FAILED', message: /told to fail/ });
  t.is(manager.inspect().ram.length, 1);
  manager.close();
});

test.serial('the backing in short, and memory that is handed over as large as its RAM', (t) => {
  const build = (options: Omit<RamOptions, 'ranges'>, length = MIB) =>
    new GuestMemoryBuilder({ maxAddress: GIB - 1 }).addRam({ ...range(0, length), ...options }).build();
  const kinds = (['shared', 'private'] as const).map((backing) => {
    using manager = build({ backing });
    return manager.inspect().ram[0]!.backing;
  });
  t.deepEqual(kinds, ['shared', 'private']);
  t.throws(() => build({ backing: 'file' as never }), { code: 'INVALID_ARGUMENT', message: /shared, private/ });

  using large = build({}, 4 * MIB);
  using backing = large.sharedMemory();
  t.throws(() => build({ backing: { kind: 'handed-over', backing } }), {
    code: 'BACKING_SIZE',
    message: 'the memory "ram" that is handed over has 0x400000 bytes, its RAM 0x100000',
  });

  using mixed = build({});
  mixed.addRam({ name: 'own', ...range(16 * MIB, MIB), backing: 'private' });
  t.throws(() => mixed.sharedMemory(), { code: 'NOT_SHARED', message: /"own" is private/ });
  using part = mixed.sharedMemory({ partial: true });
  t.deepEqual(
    part.parts().map(({ name }) => name),
    ['ram'],
  );
});

test.serial('a manager whose memory cannot be taken down in order is closed all the same', (t) => {
  const before = footprint();
  const manager = buildVm();
  const failing = new Failing(manager.map.context);
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  failing.after = 1; // after the partition's slot
  manager.close();
  t.true(manager.closed);
  t.is(partition.slots.size, 0);
  t.deepEqual(footprint(), before);
});

test.serial('a manager of which a vCPU cannot be resumed is closed, and says so', (t) => {
  const before = footprint();
  const manager = buildVm();
  const partition = new RecordingPartition();
  manager.attachPartition(partition);
  partition.resume = () => {
    throw new Error('no');
  };
  try {
    manager.close();
  } catch (error) {
    t.like(error, { code: 'RESUME_FAILED' });
  }
  t.true(manager.closed);
  t.deepEqual(footprint(), before);
});
