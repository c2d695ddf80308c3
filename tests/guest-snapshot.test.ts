// Snapshots and what is made of them: guests that are as the first one was, whatever its memory was made of, again and
// again; diffs; what is on disk after a failure at any point; layouts and files that somebody has tampered with.

import { spawnSync } from 'node:child_process';
import { closeSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import {
  GuestMemoryBuilder,
  type GuestMemoryManager,
  MembackingError,
  type RamBacking,
  type RestoredGuest,
  type RestoreMode,
  type SnapshotOptions,
} from '../ts/index.ts';
import { footprint } from './support/footprint.ts';
import { lazyMissing, lazyTest, pagerThreads } from './support/lazy.ts';
import { namelessFile } from './support/nameless-file.ts';
import { PATIENCE } from './support/patience.ts';
import { Random, tries } from './support/random.ts';
import { tempFolder } from './support/temp-folder.ts';
import { trackingTest } from './support/tracking.ts';

const PAGE = 0x1000;
const MIB = 2 ** 20;
const LOW = 2 * MIB;
const HIGH = 0x1_0000_0000;
const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
const MODES: readonly RestoreMode[] = ['copy', 'map', ...(lazyMissing === undefined ? (['lazy'] as const) : [])];

/** A guest with RAM in two blocks, a piece of it hidden, another one read-only, a device and a protection. */
function makeGuest(): GuestMemoryManager {
  const manager = new GuestMemoryBuilder({ maxAddress: 2 * HIGH - 1, x86LegacySupport: true })
    .addRam({ name: 'low', ranges: [{ gpa: 0, length: LOW }] })
    .addRam({ name: 'high', ranges: [{ gpa: HIGH, length: 16 * PAGE }], backing: 'private' })
    .build();
  const { guestMemory, ramVisibility, deviceMapper } = manager;
  for (const gpa of [0x1000, 0xc0000, 0xf0000, HIGH + PAGE]) guestMemory.write(gpa, Buffer.from(`at ${gpa}`));
  ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'unmapped');
  ramVisibility.set({ gpa: 0xf0000, length: 0x10000 }, 'read-only');
  ramVisibility.keepWritable({ gpa: 0xf2000, length: PAGE });
  const { control, region } = deviceMapper.newRegion(4 * PAGE, 'bar', { holes: 'zero', priority: 3 });
  control.mapToGuest(0xe000_0000);
  const fd = namelessFile(PAGE);
  region.map(PAGE, fd, 0, PAGE);
  closeSync(fd);
  manager.setVtlProtection(2, { gpa: 0x7000, length: PAGE }, 'r');
  return manager;
}

/** Text at an address. */
function textAt(manager: GuestMemoryManager, gpa: number): string {
  const bytes = new Uint8Array(32);
  manager.guestMemory.read(gpa, bytes);
  return Buffer.from(bytes).toString().replace(/\0+$/, '');
}

/** Facts that a restored guest has, too. */
function factsOf(manager: GuestMemoryManager): unknown {
  const { maxAddress, ram, writableRam, devices, protections } = manager.inspect();
  return {
    ...{ maxAddress, writableRam, protections },
    ram: ram.map(({ name, size, pieces }) => ({ name, size, pieces })),
    devices: devices.map(({ mappings, ...rest }) => rest),
  };
}

/** A snapshot's folder as it is on disk: its layout, without what is another one each time. */
function layoutText(folder: string): string[] {
  return readFileSync(join(folder, 'layout.json'), 'utf8')
    .replaceAll(UUID, 'ID')
    .replaceAll(/"file": "\/.*"/g, '"file": "PATH"')
    .trimEnd()
    .split('\n');
}

/** Error of a restore that fails. */
async function refusalOf(folder: string, mode: RestoreMode = 'map'): Promise<string> {
  try {
    const { manager } = await GuestMemoryBuilder.fromSnapshot(folder, { mode });
    manager.close();
    return 'a guest';
  } catch (error) {
    if (!(error instanceof MembackingError)) throw error;
    return `${error.code}: ${error.message}`.replaceAll(folder, 'FOLDER').replaceAll(UUID, 'ID');
  }
}

for (const mode of MODES) {
  test.serial(`a guest from a snapshot is as the one was that it was taken of, by ${mode}`, async (t) => {
    const before = footprint();
    const folder = join(tempFolder(t), 'first');
    const first = makeGuest();
    const state = { size: 5, rip: 0xfff0n, apic: Uint8Array.of(1, 2, 3), lapics: [null, 'x', false, 1.5] };
    await first.snapshot(folder, { state });
    const restored = await GuestMemoryBuilder.fromSnapshot(folder, { mode, debug: true });
    const { manager, devices, writableRam } = restored;
    t.deepEqual(restored.state, state);
    t.deepEqual(factsOf(manager), factsOf(first));
    for (const gpa of [0x1000, 0xf0000, HIGH + PAGE]) t.is(textAt(manager, gpa), `at ${gpa}`);
    manager.ramVisibility.set({ gpa: 0xc0000, length: 0x4000 }, 'read-write');
    t.is(textAt(manager, 0xc0000), `at ${0xc0000}`);
    t.like(devices[0]!.mappings[0], { offset: PAGE, length: PAGE, fileOffset: 0, writable: false });
    t.is(devices[0]!.control.gpa, 0xe000_0000);
    writableRam[0]!.close();
    t.throws(() => manager.guestMemory.writeU8(0xf2000, 1), { code: 'GUEST_ACCESS' });
    manager.addRam({ name: 'dimm', ranges: [{ gpa: HIGH + MIB, length: MIB }] });
    manager.guestMemory.writeU8(HIGH + MIB, 1);
    manager.discard({ gpa: 0x1000, length: PAGE });
    t.is(textAt(manager, 0x1000), mode === 'map' ? `at ${0x1000}` : '');
    manager.close();
    first.close();
    t.deepEqual(footprint(), before);
  });
}

test.serial('a layout is what people read', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest();
  await manager.snapshot(join(folder, 'first'), { state: { rip: 0xfff0n } });
  manager.guestMemory.writeU8(0x2000, 1);
  await manager.snapshot(join(folder, 'second'), { base: join(folder, 'first') });
  t.snapshot(layoutText(join(folder, 'first')));
  t.snapshot(layoutText(join(folder, 'second')).slice(0, 12));
  manager.close();
});

test.serial('a memory file has the bytes of RAM where the layout says, and holes for the rest', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest();
  const { memory, ram } = await manager.snapshot(folder);
  const bytes = readFileSync(join(folder, memory.file));
  t.is(bytes.length, memory.size);
  t.is(bytes.toString('latin1', ram[1]!.fileOffset + PAGE, ram[1]!.fileOffset + PAGE + 5), 'at 42');
  t.deepEqual(
    ram[0]!.pages,
    [0x1000, 0xc0000, 0xf0000].map((offset) => ({ offset, length: PAGE })),
  );
  manager.close();
});

// ---- Histories -----------------------------------------------------------------------------------

const PAGES = 24;

/** RAM of each kind, with a model: the number in each page. */
class Story {
  readonly #random: Random;
  readonly #folder: string;
  readonly #mode: RestoreMode;
  readonly #model = new Map<string, number[]>();
  readonly #log: string[] = [];
  #manager: GuestMemoryManager;
  #snapshots: string[] = [];

  constructor(seed: number, folder: string) {
    this.#random = new Random(seed);
    this.#folder = folder;
    this.#mode = this.#random.pick(MODES);
    this.#manager = new GuestMemoryBuilder({ maxAddress: 2 ** 30 - 1, debug: true }).build();
    for (let i = 0; i < 3; i++) this.add();
  }

  get log(): string {
    return this.#log.join('\n');
  }

  async play(steps: number): Promise<void> {
    for (let i = 0; i < steps; i++) {
      const step = this.#random.pick([
        'write',
        'write',
        'write',
        'zero',
        'discard',
        'hide',
        'add',
        'remove',
        'snapshot',
      ]);
      this.#log.push(step);
      if (step === 'write') this.write(1 + this.#random.below(1000));
      else if (step === 'zero') this.write(0);
      else if (step === 'snapshot') await this.snapshot();
      else this[step as 'discard' | 'hide' | 'add' | 'remove']();
    }
    await this.snapshot();
    this.#manager.close();
  }

  /** Block and page, at random; undefined where there is no RAM. */
  #place(): { name: string; page: number; gpa: number } | undefined {
    const names = [...this.#model.keys()];
    if (names.length === 0) return undefined;
    const name = this.#random.pick(names);
    const page = this.#random.below(PAGES);
    return { name, page, gpa: Number(name) * MIB + page * PAGE };
  }

  write(value: number): void {
    const place = this.#place();
    if (place === undefined || this.#manager.ramVisibility.at(place.gpa) !== 'read-write') return;
    this.#manager.guestMemory.writeU32(place.gpa + 4 * this.#random.below(2), value);
    this.#manager.guestMemory.writeU32(place.gpa, value);
    this.#manager.guestMemory.writeU32(place.gpa + 4, value);
    this.#model.get(place.name)![place.page] = value;
  }

  discard(): void {
    const place = this.#place();
    if (place === undefined || this.#manager.ramVisibility.at(place.gpa) !== 'read-write') return;
    this.#manager.discard({ gpa: place.gpa, length: PAGE });
    // Of a file that is copied on write, the file's page comes back: whatever that is.
    this.#model.get(place.name)![place.page] = this.#manager.guestMemory.readU32(place.gpa);
  }

  hide(): void {
    const place = this.#place();
    if (place === undefined) return;
    const range = { gpa: Number(place.name) * MIB, length: PAGES * PAGE };
    this.#manager.ramVisibility.set(range, this.#random.pick(['unmapped', 'read-only', 'read-write']));
  }

  add(): void {
    const name = String(this.#random.below(6));
    if (this.#model.has(name)) return;
    const length = (PAGES / 2) * PAGE;
    const gpa = Number(name) * MIB;
    const fd = namelessFile(PAGES * PAGE);
    const backings: RamBacking[] = [
      { kind: 'shared' },
      { kind: 'private' },
      { kind: 'fd', fd },
      { kind: 'fd', fd, copyOnWrite: true },
    ];
    const ranges = [
      { gpa: gpa + length, length },
      { gpa, length },
    ];
    this.#manager.addRam({ name, ranges: this.#random.shuffled(ranges), backing: this.#random.pick(backings) });
    closeSync(fd);
    this.#model.set(name, new Array(PAGES).fill(0));
  }

  remove(): void {
    const place = this.#place();
    if (place === undefined || this.#model.size === 1) return;
    this.#manager.removeRam(place.name);
    this.#model.delete(place.name);
  }

  /** A snapshot, whole or a diff, from which the guest goes on. */
  async snapshot(): Promise<void> {
    const folder = join(this.#folder, String(this.#snapshots.length));
    const base = this.#random.below(3) === 0 ? undefined : this.#snapshots.at(-1);
    await this.#manager.snapshot(folder, base === undefined ? {} : { base });
    this.#snapshots.push(folder);
    const facts = factsOf(this.#manager);
    this.#manager.close();
    const { manager } = await GuestMemoryBuilder.fromSnapshot(folder, { mode: this.#mode, debug: true });
    this.#manager = manager;
    if (JSON.stringify(factsOf(manager)) !== JSON.stringify(facts)) throw new Error('other facts');
    this.#check();
  }

  #check(): void {
    const hidden = this.#manager.ramVisibility.ranges();
    for (const range of hidden) this.#manager.ramVisibility.set(range, 'read-write');
    for (const [name, pages] of this.#model) {
      const seen = pages.map((_, page) => this.#manager.guestMemory.readU32(Number(name) * MIB + page * PAGE));
      if (String(seen) !== String(pages)) throw new Error(`RAM "${name}" is ${seen}, and should be ${pages}`);
    }
    this.#manager.ramVisibility.setAll(hidden);
  }
}

test.serial(
  'histories of writes, discards, hidden RAM, hotplug and snapshots of restored diffs lose nothing',
  async (t) => {
    const before = footprint();
    for (let seed = 1; seed <= tries(20); seed++) {
      const story = new Story(seed, tempFolder(t));
      await t.notThrowsAsync(() => story.play(25), `seed ${seed}:\n${story.log}`);
    }
    t.deepEqual(footprint(), before);
  },
);

// ---- Templates -----------------------------------------------------------------------------------

test.serial('guests of a template are as the frozen one was, and none sees what another writes', async (t) => {
  const before = footprint();
  const parent = makeGuest();
  const steps: number[] = [];
  const template = await parent.freeze({ state: { rip: 1n }, progress: (done) => steps.push(done) });
  t.is(steps.at(-1), 4 * PAGE);
  t.is(template.allocatedBytes, 4 * PAGE);
  parent.guestMemory.write(0x1000, Buffer.from('parent'));
  const guests = Array.from({ length: 30 }, () => template.builder({ debug: true }).build());
  for (const [i, { manager, state }] of guests.entries()) {
    t.deepEqual(state, { rip: 1n });
    if (i === 0) t.deepEqual(factsOf(manager), factsOf(parent));
    manager.guestMemory.write(HIGH, Buffer.from(`guest ${i}`));
  }
  t.is(template.allocatedBytes, 5 * PAGE, 'a page of zeroes, too, that all of them have touched');
  const again = await guests[7]!.manager.freeze();
  template.close();
  t.throws(() => template.builder().build(), { code: 'CLOSED' });
  for (const [i, { manager }] of guests.entries()) {
    t.deepEqual([textAt(manager, HIGH), textAt(manager, 0x1000)], [`guest ${i}`, `at ${0x1000}`]);
    manager.close();
  }
  const child = again.builder().build().manager;
  again.close();
  t.deepEqual([textAt(child, HIGH), textAt(child, HIGH + PAGE)], ['guest 7', `at ${HIGH + PAGE}`]);
  child.addRam({ name: 'dimm', ranges: [{ gpa: HIGH + MIB, length: MIB }] });
  child.close();
  parent.close();
  t.deepEqual(footprint(), before);
});

test.serial('a template that cannot be had leaves nothing', async (t) => {
  const before = footprint();
  const empty = new GuestMemoryBuilder().build();
  const template = await empty.freeze();
  template.builder().build().manager.close();
  const controller = new AbortController();
  const manager = makeGuest();
  const givenUp = manager.freeze({ signal: controller.signal, progress: () => controller.abort() });
  await t.throwsAsync(givenUp, { code: 'ABORTED' });
  await t.throwsAsync(manager.freeze({ base: 'x' } as never), { code: 'INVALID_ARGUMENT' });
  await t.throwsAsync(manager.freeze({ state: Symbol('x') as never }), { code: 'INVALID_ARGUMENT' });
  t.throws(() => template.builder({ mode: 'map' } as never), { code: 'INVALID_ARGUMENT' });
  for (const each of [empty, manager, template]) each.close();
  await t.throwsAsync(manager.freeze(), { code: 'CLOSED' });
  t.deepEqual(footprint(), before);
});

// ---- Failures ------------------------------------------------------------------------------------

/** Ways in which the calls of a process come to an end. */
type End = 'killed' | 'failed';

/** A process that has a snapshot "old" in its folder and writes "new" there, with these options; its k-th call of the
 *  file system ends it, or fails: of the addon's copies, also in their midst. */
function writeUntil(folder: string, call: number, end: End, options: SnapshotOptions = {}) {
  const story = `
    import fs from 'node:fs';
    import promises from 'node:fs/promises';
    import { createRequire, syncBuiltinESMExports } from 'node:module';
    let left = Infinity, calls = 0;
    const counted = (make) => async function (...given) {
      calls++;
      if (left-- <= 0) {
        if (${end === 'killed'}) process.kill(process.pid, 'SIGKILL');
        throw Object.assign(new Error('no space left'), { code: 'ENOSPC', errno: -28, syscall: 'write' });
      }
      return make.apply(this, given);
    };
    const writeSync = fs.writeSync;
    fs.writeSync = (...given) => {
      calls++;
      if (left-- > 0) return writeSync(...given);
      if (${end === 'killed'}) process.kill(process.pid, 'SIGKILL');
      throw Object.assign(new Error('no space left'), { code: 'ENOSPC', errno: -28, syscall: 'write' });
    };
    const handle = await promises.open('/dev/null');
    const prototype = Object.getPrototypeOf(handle);
    await handle.close();
    for (const name of ['write', 'truncate', 'sync', 'writeFile', 'stat']) prototype[name] = counted(prototype[name]);
    for (const name of ['open', 'rename', 'mkdir']) promises[name] = counted(promises[name]);
    syncBuiltinESMExports();
    const addonFile = ${JSON.stringify(fileURLToPath(artefact('membacking.node')))};
    const addon = createRequire(addonFile)(addonFile);
    const { copyPages } = addon;
    addon.copyPages = counted(async (...given) => {
      const [from, offset, to, place, pages, ...rest] = given;
      if (pages.length > 2) await copyPages(from, offset, to, place, pages.subarray(0, 2), ...rest);
      return counted(copyPages)(...given);
    });
    const { GuestMemoryBuilder } = await import(${JSON.stringify(artefact('index.js').href)});
    const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x4000 }] }).build();
    const folder = ${JSON.stringify(folder)};
    manager.guestMemory.writeU8(0, 1);
    await manager.snapshot(folder, { state: 'old' });
    manager.guestMemory.writeU8(0, 2);
    manager.guestMemory.writeU8(0x2000, 2);
    calls = 0;
    left = ${call};
    let outcome = 'done';
    try {
      await manager.snapshot(folder, { ...${JSON.stringify(options)}, state: 'new' });
    } catch (error) {
      outcome = error.code;
    }
    console.log(JSON.stringify({ calls, outcome }));`;
  const spawned = { encoding: 'utf8', timeout: PATIENCE } as const;
  const { stdout, signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', story], spawned);
  if (signal === 'SIGKILL') return { calls: call, outcome: 'killed' };
  if (stdout === '') throw new Error(stderr);
  return JSON.parse(stdout) as { calls: number; outcome: string };
}

const ENDS: readonly (readonly [End, live: boolean])[] = [
  ['killed', false],
  ['failed', false],
  ['killed', true],
];

for (const [end, live] of ENDS) {
  (live ? trackingTest : test.serial)(
    `a process that is ${end} at any call while it writes${live ? ' live' : ''} leaves the old snapshot or the new one`,
    async (t: ExecutionContext) => {
      const { calls } = writeUntil(tempFolder(t), 1e9, end, { live });
      t.true(calls > 12);
      for (let call = 0; call < calls; call++) {
        const folder = tempFolder(t);
        const { outcome } = writeUntil(folder, call, end, { live });
        t.not(outcome, 'done');
        const { manager, state } = await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'map' });
        const isNew = state === 'new';
        t.deepEqual([manager.guestMemory.readU8(0), manager.guestMemory.readU8(0x2000)], isNew ? [2, 2] : [1, 0]);
        manager.close();
        if (end === 'failed') t.is(readdirSync(folder).length, isNew ? 3 : 2, 'nothing is left of what failed');
      }
    },
  );
}

/** Reason why no file system of its own can be had for a test; undefined where one can. */
function whyNoDisk(): string | undefined {
  const { status, error } = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', '-o', 'size=1m', 'x', '/mnt']);
  return status === 0 ? undefined : (error?.message ?? 'this user may mount none');
}

const noDisk = whyNoDisk();
const fullDisk = 'a disk that is full leaves the old snapshot, and the guest as it was';
(noDisk === undefined ? test.serial : test.serial.skip)(
  noDisk === undefined ? fullDisk : `${fullDisk}: ${noDisk}`,
  (t) => {
    const story = `
    import { appendFileSync, readdirSync } from 'node:fs';
    const { GuestMemoryBuilder, mergeSnapshot } = await import(${JSON.stringify(artefact('index.js').href)});
    const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: ${4 * MIB} }] }).build();
    manager.guestMemory.writeU8(0, 1);
    await manager.snapshot('/mnt/x');
    const told = [];
    for (const options of [{}, { base: '/mnt/x' }, { live: true }]) {
      manager.guestMemory.write(0, Buffer.alloc(${4 * MIB}, 2));
      const { code, details } = await manager.snapshot(options.base ? '/mnt/y' : '/mnt/x', options).then(String, (error) => error);
      told.push(code === 'NO_DIRTY_TRACKING' ? 'ENOSPC' : details.code);
    }
    const { manager: old } = await GuestMemoryBuilder.fromSnapshot('/mnt/x');
    const lazy = ${JSON.stringify(lazyMissing === undefined)} && (await GuestMemoryBuilder.fromSnapshot('/mnt/x', { mode: 'lazy' }));
    if (lazy) lazy.manager.guestMemory.readU8(0);
    try {
      for (;;) appendFileSync('/mnt/full', Buffer.alloc(4096, 1));
    } catch {}
    const before = readdirSync('/mnt', { recursive: true });
    const beside = [() => mergeSnapshot('/mnt/x', '/mnt/y'), () => (lazy ? lazy.lazy.saveWorkingSet() : mergeSnapshot('/mnt/x', '/mnt/z'))];
    for (const each of beside) told.push((await each().then(String, (error) => error)).details?.code);
    if (String(before) !== String(readdirSync('/mnt', { recursive: true }))) told.push('something is left');
    console.log(told.join(), old.guestMemory.readU8(0), manager.guestMemory.readU8(0));`;
    const disk = 'mount -t tmpfs -o size=1m x /mnt && exec "$@"';
    const node = [process.execPath, '--input-type=module', '-e', story];
    const options = { encoding: 'utf8', timeout: PATIENCE } as const;
    const { stdout, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', disk, 'sh', ...node], options);
    t.is(stdout.trim(), 'ENOSPC,ENOSPC,ENOSPC,ENOSPC,ENOSPC 1 2', stderr);
  },
);

test.serial('a snapshot that is given up leaves nothing, and no folder', async (t) => {
  const before = footprint();
  const folder = tempFolder(t);
  const manager = makeGuest();
  const reason = new Error('the user went away');
  const early = manager.snapshot(join(folder, 'a'), { signal: AbortSignal.abort(reason) });
  t.is((await t.throwsAsync(early, { code: 'ABORTED' }))!.cause, reason);
  const controller = new AbortController();
  const late = manager.snapshot(join(folder, 'a'), {
    signal: controller.signal,
    progress: () => controller.abort(reason),
  });
  await t.throwsAsync(late, { code: 'ABORTED' });
  t.deepEqual(readdirSync(folder), []);
  await manager.snapshot(join(folder, 'a'));
  const given = { signal: controller.signal };
  await t.throwsAsync(GuestMemoryBuilder.fromSnapshot(join(folder, 'a'), given), { code: 'ABORTED' });
  const smaller = manager.snapshot(join(folder, 'b'), { progress: () => manager.removeRam('high') });
  await t.throwsAsync(smaller, { code: 'CLOSED' });
  const gone = manager.snapshot(join(folder, 'b'));
  manager.close();
  await t.throwsAsync(gone, { code: 'CLOSED' });
  t.deepEqual(readdirSync(folder), ['a']);
  t.deepEqual(footprint(), before);
});

test.serial('what is not asked for as it must be is refused', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest();
  const codes = async (run: () => Promise<unknown>) => {
    const error = await t.throwsAsync(run, { instanceOf: MembackingError });
    return `${error!.code}: ${error!.message.replaceAll(folder, 'FOLDER')}`;
  };
  const asked: (() => Promise<unknown>)[] = [
    () => manager.snapshot(''),
    () => manager.snapshot(join(folder, 'x'), { base: join(folder, 'y/../x') }),
    () => manager.snapshot(join(folder, 'x'), { base: join(folder, 'y') }),
    () => manager.snapshot(join(folder, 'x/y')),
    () => manager.snapshot(join(folder, 'x'), { state: Symbol('x') as never }),
    () => manager.snapshot(join(folder, 'x'), { state: { list: [new Map()] } as never }),
    () => manager.snapshot(join(folder, 'x'), { state: { $bigint: 1 } }),
    () => manager.snapshot(join(folder, 'x'), { progress: 1 as never }),
    () => manager.snapshot(join(folder, 'x'), { lively: true } as never),
    () => manager.map.transaction(() => manager.snapshot(folder) as never),
    () => GuestMemoryBuilder.fromSnapshot(folder),
    () => GuestMemoryBuilder.fromSnapshot(folder, { mode: 'swap' as never }),
  ];
  const told: string[] = [];
  for (const each of asked) told.push(await codes(async () => each()));
  t.snapshot(told);
  t.deepEqual(readdirSync(folder), []);
  manager.close();
});

// ---- Hostile files -------------------------------------------------------------------------------

type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** Paths of all fields of a layout. */
function* pathsOf(json: Json, path: readonly (string | number)[] = []): Generator<readonly (string | number)[]> {
  if (path.length > 0) yield path;
  if (typeof json !== 'object' || json === null) return;
  for (const [key, value] of Object.entries(json)) yield* pathsOf(value, [...path, Array.isArray(json) ? +key : key]);
}

/** JSON with another value at a path; undefined: without it. */
function withValue(json: Json, path: readonly (string | number)[], value: Json | undefined): Json {
  const copy = structuredClone(json);
  const [last, ...rest] = [...path].reverse() as [string | number, ...(string | number)[]];
  const parent = rest.reverse().reduce<Json>((at, key) => (at as Record<string, Json>)[key] as Json, copy);
  if (value !== undefined) (parent as Record<string, Json>)[last] = value;
  else if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else delete (parent as Record<string, Json>)[last];
  return copy;
}

const HOSTILE: readonly (Json | undefined)[] = [
  undefined,
  null,
  true,
  -1,
  1.5,
  2 ** 60,
  '',
  'x',
  '\0',
  '../../etc/passwd',
  '0x1',
  '-0x1000',
  '0xffffffffffffffff',
  '0x10000000000000000',
  '0x7ffffffffffff000',
  '0xfffffffffffff',
  '0x100000000',
  '0+1 0+1',
  '999999999999+999999999999',
  [],
  [[]],
  {},
  { __proto__: null, gpa: '0x0' },
];

for (const mode of ['map', 'lazy'] as const) {
  const restoredTest = mode === 'lazy' ? lazyTest : test.serial;
  restoredTest(
    `a layout with any field removed, of another type, huge or negative is refused by its path, or is a guest: ${mode}`,
    async (t: ExecutionContext) => {
      const folder = tempFolder(t);
      const manager = makeGuest();
      await manager.snapshot(join(folder, 'base'));
      await manager.snapshot(join(folder, 'diff'), { base: join(folder, 'base'), state: { rip: 1n } });
      manager.close();
      const before = footprint();
      const path = join(folder, 'diff/layout.json');
      const good = JSON.parse(readFileSync(path, 'utf8')) as Json;
      const codes = new Map<string, number>();
      for (const field of pathsOf(good)) {
        if (field[0] === 'state' && field.length > 1) continue;
        for (const value of HOSTILE) {
          writeFileSync(path, JSON.stringify(withValue(good, field, value)));
          const outcome = await refusalOf(join(folder, 'diff'), mode);
          const code = outcome.split(':')[0]!;
          codes.set(code, (codes.get(code) ?? 0) + 1);
          if (code === 'SNAPSHOT_LAYOUT' && value !== undefined && !Array.isArray(value)) {
            t.true(outcome.includes(String(field[0])), `${field.join('.')}: ${outcome}`);
          }
        }
      }
      t.deepEqual([...codes.keys()].sort(), [
        'SNAPSHOT_BASE',
        'SNAPSHOT_DAMAGED',
        'SNAPSHOT_LAYOUT',
        'SNAPSHOT_VERSION',
        'SYSTEM',
        'a guest',
      ]);
      t.deepEqual(footprint(), before);
      t.is(pagerThreads(), 0);
    },
  );

  restoredTest(`files that are cut anywhere make no guest: ${mode}`, async (t: ExecutionContext) => {
    const folder = tempFolder(t);
    const manager = makeGuest();
    await manager.snapshot(join(folder, 'base'));
    manager.guestMemory.writeU32(0x1000, 7);
    const { memory } = await manager.snapshot(join(folder, 'diff'), { base: join(folder, 'base') });
    manager.close();
    const before = footprint();
    const layout = join(folder, 'diff/layout.json');
    const text = readFileSync(layout);
    for (let length = 0; length < text.length - 2; length += 61) {
      writeFileSync(layout, text.subarray(0, length));
      t.regex(await refusalOf(join(folder, 'diff'), mode), /^SNAPSHOT_LAYOUT/, `the layout ends at ${length}`);
    }
    writeFileSync(layout, text);
    for (let part = 7; part >= 0; part--) {
      truncateSync(join(folder, 'diff', memory.file), Math.floor((memory.size * part) / 8));
      t.regex(await refusalOf(join(folder, 'diff'), mode), /^SNAPSHOT_DAMAGED/, `${part} eighths of the memory`);
    }
    t.deepEqual(footprint(), before);
    t.is(pagerThreads(), 0);
  });
}

test.serial('files that are not what they were are refused with what is wrong', async (t) => {
  const folder = tempFolder(t);
  const told: string[] = [];
  const damage: Readonly<Record<string, (memory: string, layout: string) => void>> = {
    'nothing is wrong': () => {},
    'the memory file is shorter': (memory) => truncateSync(memory, PAGE),
    'the memory file is longer': (memory) => truncateSync(memory, 64 * MIB),
    'the layout is cut': (_, layout) => truncateSync(layout, 300),
    'the layout is empty': (_, layout) => truncateSync(layout, 0),
    'the layout is a huge hole': (_, layout) => truncateSync(layout, 2 ** 40),
    'the layout is something else': (_, layout) => writeFileSync(layout, '{"format":"qcow2"}'),
    'the layout is no object': (_, layout) => writeFileSync(layout, '[]'),
    'a newer version': (_, layout) =>
      writeFileSync(layout, readFileSync(layout, 'utf8').replace('"version": 1', '"version": 2')),
    'a field that nobody knows': (_, layout) =>
      writeFileSync(layout, readFileSync(layout, 'utf8').replace('"memory"', '"more": 1, "memory"')),
  };
  const manager = makeGuest();
  for (const [what, spoil] of Object.entries(damage)) {
    const { memory } = await manager.snapshot(join(folder, what));
    spoil(join(folder, what, memory.file), join(folder, what, 'layout.json'));
    told.push(`${what}: ${await refusalOf(join(folder, what))}`);
  }
  manager.close();
  t.snapshot(told);
});

test.serial('a base that has been replaced is told from the one that a diff was made from', async (t) => {
  const folder = tempFolder(t);
  const manager = makeGuest();
  await manager.snapshot(join(folder, 'base'));
  await manager.snapshot(join(folder, 'diff'), { base: join(folder, 'base') });
  await manager.snapshot(join(folder, 'base'));
  t.regex(await refusalOf(join(folder, 'diff')), /^SNAPSHOT_BASE: .* is not the one that the diff was made from/);
  manager.close();
});

test.serial('a mapped snapshot stays as it was, and so do its guests when the folder has another one', async (t) => {
  const folder = tempFolder(t);
  const first = makeGuest();
  await first.snapshot(folder);
  const guests: RestoredGuest[] = [];
  for (let i = 0; i < 3; i++) guests.push(await GuestMemoryBuilder.fromSnapshot(folder, { mode: 'map' }));
  for (const [i, { manager }] of guests.entries()) manager.guestMemory.writeU8(0x1000, 0x30 + i);
  first.guestMemory.writeU8(0x3000, 9);
  await first.snapshot(folder);
  t.is(readdirSync(folder).length, 2);
  t.deepEqual(
    guests.map(({ manager }) => [textAt(manager, 0x1000).slice(0, 2), manager.guestMemory.readU8(0x3000)]),
    [
      ['0t', 0],
      ['1t', 0],
      ['2t', 0],
    ],
  );
  for (const { manager } of guests) manager.close();
  first.close();
});
