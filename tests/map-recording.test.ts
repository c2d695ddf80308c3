// The recording of a live map: it is what ran, or it has ended and says so; the map does not suffer from it.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import test from 'ava';
import { KvmPartition, MemoryMap, parseTrace, type Region, SharedMemory } from '../ts/index.ts';
import { kvmTest } from './support/guest.ts';
import { LoggingPartition, Machine, refusal } from './support/map-state.ts';
import { footprint, PAGE } from './support/shim-plan.ts';

/** Takes text until it is full. */
class Disk {
  readonly text: string[] = [];
  isFull = false;

  write(text: string): void {
    if (this.isFull) throw new Error('disk full');
    this.text.push(text);
  }
}

/** A map whose recording is full from now on. */
function recordingInVain() {
  const disk = new Disk();
  const map = new MemoryMap({ record: disk });
  const root = map.createRegion({ name: 'system', kind: 'container', size: 64 * PAGE });
  const space = map.createAddressSpace({ name: 'guest', root });
  const written = disk.text.join('');
  disk.isFull = true;
  return { disk, map, root, space, written };
}

test.serial('a recording that cannot be written ends, with a warning; what it was told of has happened', async (t) => {
  const { disk, map, root, written } = recordingInVain();
  const warned = once(process, 'warning');
  root.resize(32 * PAGE);
  t.is(root.size, 32 * PAGE);
  const [warning] = await warned;
  t.like(warning, { name: 'MembackingWarning', code: 'RECORDING_ENDED' });
  t.regex(warning.message, /^the recording of a memory map has ended: disk full;/);
  disk.isFull = false;
  root.resize(16 * PAGE);
  map.transaction(() => t.throws(() => map.transaction(() => root.resize('x' as never))));
  map.close();
  t.is(disk.text.join(''), written, 'nothing is left out in the middle of a trace');
  t.is(parseTrace(written).operations.length, 2);
});

test.serial('no handle is lost or kept when a recording ends', (t) => {
  const before = footprint();
  const memory = SharedMemory.create(PAGE);
  for (const make of [
    ({ map }: ReturnType<typeof recordingInVain>) => map.createRegion({ name: 'x', kind: 'ram', size: PAGE }),
    ({ map, root }: ReturnType<typeof recordingInVain>) => map.createAddressSpace({ name: 'x', root }),
    ({ map, space }: ReturnType<typeof recordingInVain>) => map.attachVaSpace(space, { size: 64 * PAGE }),
  ]) {
    const world = recordingInVain();
    const made = make(world);
    t.false(made.closed);
    made.close();
    t.true(made.closed);
    world.space.close();
    world.map.close();
  }
  const { map, root, space, disk } = recordingInVain();
  disk.isFull = false;
  const [ram, va] = [map.createRegion({ name: 'ram', kind: 'ram', size: PAGE }), map.attachVaSpace(space)];
  ram.map({ object: memory });
  ram.place(root);
  disk.isFull = true;
  const partition = new LoggingPartition();
  const attachment = map.attachPartition(partition, { space, va });
  t.deepEqual(partition.calls, ['add 0: 0 + 1000 rwx']);
  for (const handle of [attachment, va, space]) handle.close();
  ram.remove();
  ram.close();
  const next = map.createRegion({ name: 'next', kind: 'ram', size: 2 * PAGE });
  t.throws(() => ram.resize(5 * PAGE), { code: 'CLOSED' });
  t.is(next.size, 2 * PAGE, 'what came into its place is not touched through it');
  map.close();
  memory.close();
  t.deepEqual(footprint(), before);
});

kvmTest('a KVM partition is closed under a recording that cannot be written', (t) => {
  const { map, space } = recordingInVain();
  const va = map.attachVaSpace(space, { size: 64 * PAGE });
  const partition = KvmPartition.open();
  const attachment = map.attachPartition(partition, { space, va });
  partition.close();
  t.deepEqual([partition.closed, attachment.closed], [true, true]);
  va.close();
  map.close();
});

test('what cannot even be begun to be written comes out of the making of the map', (t) => {
  const disk = new Disk();
  disk.isFull = true;
  t.throws(() => new MemoryMap({ record: disk }), { message: 'disk full' });
});

// ---- Changes that are made too early -----------------------------------------------------------

/** Changes the map while another change of it is carried out, once; what it got for that. */
class Meddler {
  readonly answers: string[] = [];
  readonly #map: MemoryMap;
  readonly #region: Region;

  constructor(map: MemoryMap, region: Region) {
    this.#map = map;
    this.#region = region;
  }

  readonly meddle = (): void => {
    if (this.answers.length > 0) return;
    const changes = [
      () => this.#region.move(8 * PAGE),
      () => this.#map.transaction(() => {}),
      () => this.#map.createRegion({ name: 'early', kind: 'ram', size: PAGE }),
    ];
    this.answers.push(...changes.map(refusal));
  };
}

const EARLY = 'PLAN_PENDING: a change of the memory map is being carried out: make this one when that one has returned';

for (const place of ['pause', 'deleteSlot', 'addSlot', 'resume', 'write'] as const) {
  test(`a change that is made in ${place} is refused, and the recording is what ran`, (t) => {
    const machine = new Machine();
    const { map, ram, text } = machine;
    const partition = new LoggingPartition();
    machine.attach(partition);
    const { answers, meddle } = new Meddler(map, ram);
    const [target, method] = place === 'write' ? [text, 'push' as const] : [partition, place];
    const original = Reflect.get(target, method);
    Object.assign(target, {
      [method](...args: unknown[]) {
        meddle();
        return Reflect.apply(original, target, args);
      },
    });
    ram.setFlags({ readonly: true });
    t.deepEqual(answers, [EARLY, EARLY, EARLY]);
    ram.move(8 * PAGE);
    t.is(ram.offset, 8 * PAGE, 'afterwards it may be made');
    t.deepEqual(machine.replay(), machine.plans);
    machine.end(t);
  });
}

test('so is one that is made when a plan is announced', (t) => {
  const disk = new Disk();
  const map = new MemoryMap({ record: disk });
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size: PAGE });
  const root = map.createRegion({ name: 'system', kind: 'container', size: 64 * PAGE });
  const va = map.attachVaSpace(map.createAddressSpace({ name: 'guest', root }), { size: 64 * PAGE });
  const memory = SharedMemory.create(PAGE);
  ram.map({ object: memory });
  const { answers, meddle } = new Meddler(map, ram);
  subscribe('membacking:plan', meddle);
  ram.place(root);
  unsubscribe('membacking:plan', meddle);
  t.deepEqual(answers, [EARLY, EARLY, EARLY]);
  t.is(va.pieces()[0]?.gpa, 0);
  t.is(disk.text.at(-1), '{"op":"place","id":0,"parent":1,"offset":"0x0"}\n');
  map.close();
  memory.close();
});
