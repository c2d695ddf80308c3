// A memory map on real memory: what is at each address of a VA space is what the map says, byte for byte.

import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import {
  type MembackingError,
  MemoryMap,
  type MemoryObject,
  PrivateMemory,
  type Region,
  SharedMemory,
} from '../ts/index.ts';
import { Failing } from './support/failing.ts';
import { FAULTS } from './support/faulty-system.ts';
import { homesOf, placesOf } from './support/homes.ts';
import { Machine, wordAt } from './support/map-state.ts';
import { Model } from './support/model.ts';
import { SEED, tries } from './support/random.ts';
import { footprint, mapsOf, PAGE } from './support/shim-plan.ts';

/** The words of some pages. */
function words({ va }: Machine, first: number, count: number): (number | string)[] {
  return Array.from({ length: count }, (_, index) => wordAt(va, (first + index) * PAGE));
}

/** Gives each page of an object a number of its own, from `base` on. */
function number(object: MemoryObject, base = 0): void {
  const map = new MemoryMap();
  const window = map.createRegion({ name: 'window', kind: 'ram', size: object.size });
  const space = map.createAddressSpace({ name: 'window', root: window });
  const { memory } = map.attachVaSpace(space, { size: object.size });
  window.map({ object });
  for (let page = 0; page < Number(object.size) / PAGE; page++) memory.writeU32(page * PAGE, base + page);
  map.close();
}

test('an overlay hides what is below, and gives it back', (t) => {
  const machine = new Machine();
  const { map, root, memory } = machine;
  number(memory);
  const rom = map.createRegion({ name: 'rom', kind: 'rom', size: 2 * PAGE });
  rom.map({ object: memory, objectOffset: 50 * PAGE, length: 2 * PAGE });
  rom.place(root, { offset: 4 * PAGE, priority: 1 });
  t.deepEqual(words(machine, 3, 4), [3, 50, 51, 6]);
  t.throws(() => machine.va.memory.writeU32(4 * PAGE, 1), {
    code: 'GUEST_ACCESS',
    message: 'write of guest memory: 0x4000 is read-only',
  });
  rom.move(5 * PAGE);
  t.deepEqual(words(machine, 3, 5), [3, 4, 50, 51, 7]);
  rom.setFlags({ enabled: false });
  t.deepEqual(words(machine, 3, 5), [3, 4, 5, 6, 7]);
  const mmio = map.createRegion({ name: 'mmio', kind: 'mmio', size: PAGE }).place(root, { offset: PAGE, priority: 2 });
  t.deepEqual(words(machine, 0, 3), [0, 'hole', 2]);
  mmio.remove();
  t.deepEqual(words(machine, 0, 3), [0, 1, 2]);
  machine.end(t);
});

test('private memory is hidden, cut, moved and brought back unchanged', (t) => {
  const machine = new Machine();
  const { map, root, memory, va } = machine;
  const own = PrivateMemory.create(4 * PAGE);
  const device = map
    .createRegion({ name: 'device', kind: 'device', size: 8 * PAGE })
    .place(root, { offset: 40 * PAGE });
  device.map({ object: own });
  for (let page = 0; page < 4; page++) va.memory.writeU32((40 + page) * PAGE, 100 + page);
  const cover = map.createRegion({ name: 'cover', kind: 'ram', size: 2 * PAGE });
  cover.map({ object: memory, objectOffset: 60 * PAGE, length: 2 * PAGE });
  cover.place(root, { offset: 41 * PAGE, priority: 1 });
  t.deepEqual(words(machine, 40, 4), [100, 0, 0, 103]);
  device.move(48 * PAGE);
  t.deepEqual([...words(machine, 40, 4), ...words(machine, 48, 4)], ['hole', 0, 0, 'hole', 100, 101, 102, 103]);
  device.unmap(PAGE, 2 * PAGE);
  t.deepEqual(words(machine, 48, 4), [100, 'hole', 'hole', 103]);
  device.map({ offset: 5 * PAGE, object: own, objectOffset: PAGE, length: PAGE, writable: false });
  t.deepEqual(words(machine, 48, 6), [100, 'hole', 'hole', 103, 'hole', 101]);
  device.unmap(0, 8 * PAGE);
  device.map({ offset: 4 * PAGE, object: own });
  t.deepEqual(words(machine, 52, 4), [100, 101, 102, 103], 'even what was mapped nowhere');
  own.close();
  t.deepEqual(words(machine, 52, 4), [100, 101, 102, 103], 'its owner has let go, the map has not');
  machine.end(t);
});

test('mappings overwrite and split each other like mmap', (t) => {
  const machine = new Machine();
  const { ram, memory } = machine;
  number(memory);
  ram.map({ offset: 4 * PAGE, object: memory, objectOffset: 40 * PAGE, length: 3 * PAGE });
  t.deepEqual(words(machine, 3, 5), [3, 40, 41, 42, 7]);
  ram.unmap(5 * PAGE, PAGE);
  t.deepEqual(words(machine, 3, 5), [3, 40, 'hole', 42, 7]);
  ram.map({ offset: 3 * PAGE, object: memory, objectOffset: 3 * PAGE, length: 5 * PAGE });
  t.deepEqual(words(machine, 3, 5), [3, 4, 5, 6, 7]);
  t.deepEqual(
    mapsOf(machine.va.base, BigInt(machine.va.size)).map((line) => line.split(' ').slice(0, 3).join(' ')),
    ['0 20000 rw-s', '20000 20000 ---p'],
    'what fits together is one mapping again',
  );
  machine.end(t);
});

test('where nothing is mapped, each access says so with its address, and nothing else happens', (t) => {
  const machine = new Machine();
  const { ram, va } = machine;
  machine.fill();
  ram.unmap(8 * PAGE, PAGE);
  const bytes = new Uint8Array(4 * PAGE).fill(7);
  const answer = (gpa: number, fault: string) => ({ code: 'GUEST_ACCESS', details: { gpa, fault } });
  t.like(
    t.throws(() => va.memory.read(6 * PAGE, bytes)),
    answer(8 * PAGE, 'hole'),
  );
  t.deepEqual([bytes[0], bytes[PAGE], bytes[2 * PAGE]], [6, 7, 7], 'what comes before is read');
  t.like(
    t.throws(() => va.memory.write(7 * PAGE, new Uint8Array(3 * PAGE))),
    answer(8 * PAGE, 'hole'),
  );
  t.deepEqual(words(machine, 6, 4), [6, 0, 'hole', 9], 'what comes before is written');
  t.throws(() => va.memory.writeU64(8 * PAGE - 4, 1), { code: 'GUEST_ACCESS' });
  t.is(va.memory.readU32(8 * PAGE - 4), 0, 'a value is written wholly or not');
  t.like(
    t.throws(() => va.memory.compareExchange(8 * PAGE, 4, 0, 1)),
    answer(8 * PAGE, 'hole'),
  );
  t.like(
    t.throws(() => va.memory.readU8(64 * PAGE)),
    answer(64 * PAGE, 'outside'),
  );
  machine.end(t);
});

test("a file of the caller's is written through, copied on write, and may be cut short under us", (t) => {
  const machine = new Machine();
  const { ram, va } = machine;
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  const fd = openSync(join(folder, 'file'), 'w+');
  ftruncateSync(fd, 4 * PAGE);
  writeSync(fd, Uint8Array.of(55), 0, 1, PAGE);
  const file = SharedMemory.fromFd(fd, { name: 'file' });
  const copy = PrivateMemory.fromFile(fd, { name: 'copy' });
  t.deepEqual([file.size, copy.size], [4 * PAGE, 4 * PAGE]);
  ram.map({ object: file });
  ram.map({ offset: 8 * PAGE, object: copy });
  t.deepEqual(words(machine, 0, 10), [0, 55, 0, 0, 0, 0, 0, 0, 0, 55]);
  va.memory.writeU32(2 * PAGE, 66);
  va.memory.writeU32(9 * PAGE, 77);
  const inFile = (page: number) => {
    const bytes = new Uint8Array(1);
    readSync(fd, bytes, 0, 1, page * PAGE);
    return bytes[0];
  };
  t.deepEqual([inFile(1), inFile(2)], [55, 66], 'the copy keeps what is written to it');
  ftruncateSync(fd, PAGE);
  t.deepEqual(words(machine, 0, 4), [0, 'gone', 'gone', 'gone']);
  t.deepEqual(words(machine, 8, 4), [0, 'gone', 'gone', 'gone'], 'so does the copy, with what was written to it');
  t.throws(() => va.memory.writeU8(PAGE, 1), { code: 'GUEST_ACCESS', message: /its file ends before$/ });
  ftruncateSync(fd, 4 * PAGE);
  t.deepEqual(words(machine, 0, 4), [0, 0, 0, 0], 'it may grow again');
  closeSync(fd);
  va.memory.writeU32(0, 5);
  t.is(wordAt(va, 0), 5, "the descriptor was the caller's to close");
  for (const object of [file, copy]) object.close();
  rmSync(folder, { recursive: true });
  machine.end(t);
});

test('an array that lies about its length is taken for what it is, also where memory is reached without the addon', (t) => {
  const machine = new Machine();
  const { memory } = machine.va;
  machine.fill();
  for (let turn = 0; turn < 3000; turn++) memory.writeU8(32 * PAGE - 9, memory.readU8(32 * PAGE - 9));
  for (const lies of [[0, 8], [8, 2 ** 30], [8, 8, 2 ** 30], [2 ** 30], [-1], [Number.NaN], ['9', {}]]) {
    let asked = 0;
    class Liar extends Uint8Array {
      override get length(): number {
        return lies[Math.min(asked++, lies.length - 1)] as number;
      }
      override get byteLength(): number {
        return this.length;
      }
    }
    const bytes = new Liar(new ArrayBuffer(24), 8, 8);
    memory.write(32 * PAGE - 8, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    memory.read(32 * PAGE - 8, bytes);
    const zeroes = new Array(8).fill(0);
    t.deepEqual([...new Uint8Array(bytes.buffer)], [...zeroes, 1, 2, 3, 4, 5, 6, 7, 8, ...zeroes]);
    memory.write(32 * PAGE - 16, bytes);
    t.is(memory.readU64(32 * PAGE - 16), 0x0807060504030201n);
    t.throws(() => memory.write(32 * PAGE - 7, bytes), { code: 'GUEST_ACCESS' });
  }
  machine.end(t);
});

test('a second map on the same memory sees the same bytes', (t) => {
  const before = footprint();
  const machine = new Machine();
  const other = new MemoryMap();
  const ram = other.createRegion({ name: 'ram', kind: 'ram', size: 64 * PAGE });
  const va = other.attachVaSpace(other.createAddressSpace({ name: 'guest', root: ram }), { size: 64 * PAGE });
  ram.map({ object: machine.memory });
  machine.va.memory.writeU32(3 * PAGE, 33);
  t.is(wordAt(va, 3 * PAGE), 33);
  va.memory.writeU32(4 * PAGE, 44);
  t.is(wordAt(machine.va, 4 * PAGE), 44);
  machine.map.close();
  t.is(wordAt(va, 3 * PAGE), 33);
  machine.memory.close();
  t.is(wordAt(va, 4 * PAGE), 44);
  other.close();
  t.deepEqual(footprint(), before);
});

test('a reservation of many TiB is address space, not memory, and is used to its last page', (t) => {
  const map = new MemoryMap();
  const root = map.createRegion({ name: 'system', kind: 'container', size: 2 ** 44 });
  const space = map.createAddressSpace({ name: 'guest', root });
  const standard = map.attachVaSpace(space, { maxStretches: 0 });
  t.is(standard.size, 2 ** 40);
  const wide = map.attachVaSpace(space, { size: 2 ** 44 });
  const memory = SharedMemory.create(2 * PAGE);
  const top = map.createRegion({ name: 'top', kind: 'ram', size: 2 * PAGE });
  top.map({ object: memory });
  t.throws(() => top.place(root, { offset: 2 ** 44 - 2 * PAGE }), { code: 'PAST_LIMIT', message: /"va of guest"/ });
  standard.close();
  top.place(root, { offset: 2 ** 44 - 2 * PAGE });
  wide.memory.writeU32(2 ** 44 - 4, 0xfeed);
  t.is(wide.memory.readU32(2 ** 44 - 4), 0xfeed);
  t.is(wordAt(wide, 2 ** 43), 'hole');
  t.is(wordAt(wide, 2 ** 44 - 3), 'outside');
  map.close();
  memory.close();
});

test('20 000 mappings of single pages are each where they belong, and leave nothing', (t) => {
  const pages = 2 ** 17;
  const count = 20_000;
  const machine = new Machine({ pages, debug: false });
  const { map, ram, memory, va } = machine;
  const objectPage = (i: number) => (i * 7919) % pages;
  ram.unmap(0, ram.size);
  map.transaction(() => {
    for (let i = 0; i < count; i++) {
      ram.map({ offset: 2 * i * PAGE, object: memory, objectOffset: objectPage(i) * PAGE, length: PAGE });
    }
  });
  t.is(ram.mappings().length, count);
  t.is(va.pieces().length, count);
  for (let i = 0; i < count; i++) va.memory.writeU32(2 * i * PAGE, i + 1);
  ram.map({ object: memory, length: ram.size });
  for (let i = 0; i < count; i++) {
    if (objectPage(i) < pages / 2 && wordAt(va, objectPage(i) * PAGE) !== i + 1) t.fail(`page ${objectPage(i)}`);
  }
  t.is(mapsOf(va.base, BigInt(va.size)).length, 2, 'what fits together is one mapping again');
  machine.end(t);
});

// ---- Random histories --------------------------------------------------------------------------

const SPACE_PAGES = 16;
const OBJECT_PAGES = 8;
/** Operations of a history: one that stands here more often is done more often. */
const OPERATIONS = [
  ...(['region', 'alias', 'place', 'place', 'place', 'remove', 'move', 'move', 'move', 'resize', 'priority'] as const),
  ...([
    'flags',
    'retarget',
    'map',
    'map',
    'map',
    'unmap',
    'protect',
    'destroy',
    'begin',
    'commit',
    'commit',
    'abort',
    'peer',
    'peer',
    'fail',
    'repair',
  ] as const),
];

interface Step {
  readonly op: (typeof OPERATIONS)[number];
  /** Number of a region; `b`: of another one. */
  readonly a: number;
  readonly b: number;
  readonly offset: number;
  readonly length: number;
  readonly flag: boolean;
}

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom(...OPERATIONS),
  a: fc.nat(11),
  b: fc.nat(11),
  offset: fc.nat(SPACE_PAGES - 1),
  length: fc.integer({ min: 1, max: 6 }),
  flag: fc.boolean(),
});

/** Refusals that a history may rightly meet, as it does not look before it leaps. */
const RIGHTLY_REFUSED = ['CYCLE', 'PRIVATE_TWICE', 'PLACED', 'NOT_PLACED', 'IN_USE', 'BAD_KIND', 'BAD_RANGE', 'CLOSED'];
/** Ends of changes that the system, or the test, lets fail. */
const FAILED = ['PLAN_FAILED', 'RANGE_LOST'];

/** A peer who shares a file with the map, and does with it what it likes. */
class Peer {
  static #system: PeerSystem | undefined;
  /** Contents of the file's pages; those behind its end are gone. */
  readonly pages: (number | 'gone')[] = Array.from({ length: OBJECT_PAGES }, (_, page) => PEER * 0x100 + page);
  readonly fd: number;
  isSealed = false;

  constructor() {
    const module = { exports: {} as PeerSystem };
    if (Peer.#system === undefined) process.dlopen(module, FAULTS);
    Peer.#system ??= module.exports;
    this.fd = Peer.#system.memfd(OBJECT_PAGES * PAGE);
  }

  /** One of 8 deeds; `page`: up to where. */
  act(deed: number, page: number): void {
    const { fd, pages } = this;
    if (deed < 3) {
      const length = deed === 2 ? OBJECT_PAGES : page;
      ftruncateSync(fd, length * PAGE);
      for (const [at, content] of pages.entries()) pages[at] = at >= length ? 'gone' : content === 'gone' ? 0 : content;
    } else if (deed === 3) {
      Peer.#system!.sealFutureWrites(fd);
      this.isSealed = true;
    } else if (!this.isSealed) {
      Peer.#system!.punch(fd, page * PAGE);
      for (const [at, content] of pages.entries()) if (at < page && content !== 'gone') pages[at] = 0;
    }
  }
}

/** Calls of tests/native/faults.cc. */
interface PeerSystem {
  memfd(length: number): number;
  sealFutureWrites(fd: number): void;
  /** Makes a hole of the first bytes. */
  punch(fd: number, length: number): void;
}

/** Number of the peer's file among the objects, from 1 on. */
const PEER = 4;

type Change = (model: Model, protections: Map<number, string>) => void;

/** One history in the live map and in the model. A change of the model is kept as a function: what has not happened is
 *  left out of the list, and the model made anew. */
class History {
  readonly map = new MemoryMap({ debug: true });
  readonly peer = new Peer();
  readonly regions: Region[] = [];
  readonly objects: readonly MemoryObject[] = [
    SharedMemory.create(OBJECT_PAGES * PAGE, { name: 'a' }),
    SharedMemory.create(OBJECT_PAGES * PAGE, { name: 'b' }),
    PrivateMemory.create(OBJECT_PAGES * PAGE, { name: 'own' }),
    SharedMemory.fromFd(this.peer.fd, { name: "peer's" }),
  ];
  readonly failing = new Failing(this.map.context);
  readonly va;
  readonly #done: Change[] = [];
  /** Length of the list when each open transaction began. */
  readonly #marks: number[] = [];
  refused = 0;
  /** Changes that failed, and of them those after which something was lost. */
  failed = 0;
  lost = 0;

  constructor() {
    for (const [index, object] of this.objects.entries()) number(object, (index + 1) * 0x100);
    const root = this.map.createRegion({ name: '0', kind: 'container', size: SPACE_PAGES * PAGE });
    this.regions.push(root);
    this.#done.push((model) => model.region(0, 'container', SPACE_PAGES));
    const space = this.map.createAddressSpace({ name: 'guest', root });
    this.va = this.map.attachVaSpace(space, { size: 2 * SPACE_PAGES * PAGE });
    const beginning: readonly Step[] = [
      ...[0, 1, 2, 4].map((b) => ({ op: 'region' as const, a: 0, b, offset: 0, length: 6, flag: true })),
      { op: 'alias', a: 1, b: 0, offset: 2, length: 4, flag: false },
      ...[0, 1, 2].map((a) => ({ op: 'map' as const, a, b: a, offset: 0, length: 6, flag: true })),
      ...[1, 2, 3, 5].map((a) => ({ op: 'place' as const, a: a - 1, b: 0, offset: 3 * a - 3, length: 3, flag: true })),
    ];
    for (const step of beginning) this.#change(step);
  }

  /** Content that each page must have. */
  expected(): string[] {
    const model = new Model();
    const protections = new Map<number, string>();
    for (const change of this.#done) change(model, protections);
    const lost = this.map.lost();
    const isLost = (page: number) =>
      lost.some(({ gpa, length }) => page * PAGE >= gpa && page * PAGE < Number(gpa) + Number(length));
    const shown = Array.from({ length: 2 * SPACE_PAGES }, (_, page) =>
      isLost(page) ? undefined : model.vaPage(0, page, 0, protections),
    );
    // The monitor has private memory at one of the places where it is seen.
    const places = placesOf(shown.length, (page) => {
      const seen = shown[page];
      return seen && this.objects[seen.object] instanceof PrivateMemory ? `page ${seen.page}` : undefined;
    });
    const homes = homesOf(places, (page) => wordAt(this.va, page * PAGE) !== 'hole');
    return shown.map((seen, page) => {
      if (seen === undefined || homes.has(page)) return 'hole';
      const number = seen.object + 1;
      const content = number === PEER ? this.peer.pages[seen.page]! : number * 0x100 + seen.page;
      return content === 'gone' ? content : `${content.toString(16)} ${seen.access}`;
    });
  }

  found(): string[] {
    const { memory } = this.va;
    return Array.from({ length: 2 * SPACE_PAGES }, (_, page) => {
      const word = wordAt(this.va, page * PAGE);
      if (typeof word === 'string') return word;
      try {
        memory.compareExchange(page * PAGE, 4, word, word);
        return `${word.toString(16)} rw`;
      } catch {
        return `${word.toString(16)} r`;
      }
    });
  }

  /** All steps, to the end of the list or of the innermost transaction that was begun here. */
  play(steps: Iterator<Step>, check: () => void): void {
    for (let next = steps.next(); !next.done; next = steps.next()) {
      const { op } = next.value;
      if (op === 'begin' && this.#marks.length < 3) this.#nest(steps, check);
      else if (op === 'commit' || op === 'abort') {
        if (this.#marks.length > 0 && op === 'abort') throw new Aborted();
        if (this.#marks.length > 0) return;
      } else if (op === 'peer' || op === 'fail' || op === 'repair') this.#interfere(next.value);
      else this.#attempt(() => this.#change(next.value));
      if (this.#marks.length === 0) check();
    }
  }

  #interfere({ op, a, b, offset }: Step): void {
    if (op === 'peer') {
      this.peer.act(b % 8, 1 + (offset % OBJECT_PAGES));
      return;
    }
    this.failing.after = op === 'fail' ? a % 4 : Number.POSITIVE_INFINITY;
    this.failing.unwindAfter = op === 'fail' ? b % 4 : Number.POSITIVE_INFINITY;
    if (op === 'fail' || this.#marks.length > 0) return;
    const left = this.map.repair();
    if (left.length > 0 && !this.peer.isSealed) throw new Error('not all that was lost is there again');
  }

  #nest(steps: Iterator<Step>, check: () => void): void {
    const regions = this.regions.length;
    this.#marks.push(this.#done.length);
    this.#attempt(
      () => this.map.transaction(() => this.play(steps, check)),
      () => {
        this.regions.length = regions;
        this.#done.length = this.#marks.at(-1)!;
      },
    );
    this.#marks.pop();
  }

  #attempt(body: () => void, takeBack?: () => void): void {
    const done = this.#done.length;
    try {
      body();
    } catch (error) {
      const { code } = error as MembackingError;
      if (FAILED.includes(code)) this.#fail(code);
      else if (!(error instanceof Aborted) && !RIGHTLY_REFUSED.includes(code)) throw error;
      this.refused++;
      if (takeBack) takeBack();
      else this.#done.length = done;
    }
  }

  /** A change has failed, as it was to. */
  #fail(code: string): void {
    if (this.failing.after > 0 && !this.peer.isSealed) throw new Error(`${code}, and nobody lets it fail`);
    this.failing.after = Number.POSITIVE_INFINITY;
    this.failing.unwindAfter = Number.POSITIVE_INFINITY;
    this.failed++;
    if (code === 'RANGE_LOST') this.lost++;
  }

  /** A region that the operation makes sense for, if there is one. */
  #pick(op: Step['op'], a: number): number {
    const { regions } = this;
    const ids = [...regions.keys()].filter((id) => {
      const { kind, closed } = regions[id]!;
      if (op === 'place') return !closed && id !== 0;
      if (op === 'map' || op === 'unmap') return !closed && ['ram', 'rom', 'device'].includes(kind);
      return op === 'retarget' ? !closed && kind === 'alias' : !closed;
    });
    return ids[a % ids.length] ?? 0;
  }

  #change({ op, a, b, offset, length, flag }: Step): void {
    const { map, regions } = this;
    const id = this.#pick(op, a);
    const region = regions[id]!;
    const at = offset * PAGE;
    const priority = length - 3;
    const keep = (change: Change) => this.#done.push(change);
    switch (op) {
      case 'region': {
        const kind = (['ram', 'rom', 'device', 'mmio', 'container'] as const)[b % 5]!;
        const made = regions.length;
        regions.push(map.createRegion({ name: `${made}`, kind, size: length * PAGE }));
        // Regions in a ROM are as read-only as the ROM.
        keep((model) => model.region(made, kind, length, { readonly: kind === 'rom' }));
        break;
      }
      case 'alias': {
        const made = regions.length;
        regions.push(
          map.createAlias({ name: `${made}`, target: region, offset: at, size: length * PAGE, readonly: flag }),
        );
        keep((model) => model.alias(made, id, offset, length, { readonly: flag }));
        break;
      }
      case 'place': {
        const parent = [0, 0, b % regions.length][b % 3]!;
        region.place(regions[parent]!, { offset: at, priority });
        keep((model) => model.place(id, parent, offset, priority));
        break;
      }
      case 'remove':
        region.remove();
        keep((model) => model.remove(id));
        break;
      case 'move':
        region.move(at);
        keep((model) => model.move(id, offset));
        break;
      case 'resize':
        // Memory that a VA space must show has to fit in it.
        if (id === 0) return;
        region.resize(length * PAGE);
        keep((model) => model.resize(id, length));
        break;
      case 'priority':
        region.setPriority(priority);
        keep((model) => model.setPriority(id, priority));
        break;
      case 'flags': {
        const flags = b % 2 === 0 ? { enabled: flag } : { readonly: flag };
        if (region.kind === 'rom') return;
        region.setFlags(flags);
        keep((model) => model.setFlags(id, flags));
        break;
      }
      case 'retarget':
        region.retarget(at);
        keep((model) => model.retarget(id, offset));
        break;
      case 'map': {
        const object = b % this.objects.length;
        const first = a % (OBJECT_PAGES - length + 1);
        const from = offset % 4;
        region.map({
          ...{ object: this.objects[object]!, offset: from * PAGE, objectOffset: first * PAGE },
          ...{ length: length * PAGE, writable: flag },
        });
        keep((model) => model.map(id, from, length, object, first, flag));
        break;
      }
      case 'unmap':
        region.unmap((offset % 4) * PAGE, length * PAGE);
        keep((model) => model.unmap(id, offset % 4, length));
        break;
      case 'protect': {
        const access = (['r', 'none', 'rwx'] as const)[b % 3]!;
        this.va.protect({ gpa: at, length: length * PAGE, access });
        keep((_, protections) => {
          for (let page = offset; page < offset + length; page++)
            protections.set(page, access === 'none' ? '' : access);
        });
        break;
      }
      case 'destroy':
        if (id === 0 || id !== regions.length - 1) return;
        region.close();
        // Handles stay in the list, closed: numbers are not given out again.
        keep((model) => model.destroy(id));
        break;
    }
  }

  close(): void {
    this.map.close();
    for (const object of this.objects) object.close();
    closeSync(this.peer.fd);
  }
}

class Aborted extends Error {}

test('after every step of random histories, every page of the VA space is what the model says', (t) => {
  const before = footprint();
  let steps = 0;
  let refused = 0;
  let failed = 0;
  let lost = 0;
  let memory = 0;
  const property = fc.property(fc.array(step, { minLength: 20, maxLength: 80, size: 'max' }), (list) => {
    const history = new History();
    try {
      history.play(list[Symbol.iterator](), () => {
        steps++;
        const found = history.found();
        memory += found.filter((page) => page !== 'hole').length;
        compare(found, history.expected());
      });
      compare(history.found(), history.expected());
      refused += history.refused;
      failed += history.failed;
      lost += history.lost;
    } finally {
      history.close();
    }
  });
  t.log(`seed ${SEED}`);
  fc.assert(property, { seed: SEED, numRuns: tries(80) });
  t.log(`${steps} steps compared, ${memory} pages of memory among them; ${refused} steps refused or aborted`);
  t.log(`${failed} changes failed, ${lost} of them with something lost`);
  t.true(memory > steps && failed > lost && lost > 0);
  t.deepEqual(footprint(), before);
});

/** Compares states, and throws for fast-check, which shrinks by what is thrown. */
function compare(found: readonly string[], expected: readonly string[]): void {
  for (const [page, line] of expected.entries()) {
    if (found[page] !== line) throw new Error(`page ${page} is ${found[page]}, and must be ${line}`);
  }
}
