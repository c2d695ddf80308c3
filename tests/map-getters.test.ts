// Accessors of handles, against a model that is told the same: before, inside and after every change, and when all is
// closed. Every accessor of every handle is asked, so that one that is added needs its line here.

import { closeSync } from 'node:fs';
import test from 'ava';
import { SharedMemory } from '../ts/asked/object.ts';
import { RecordingPartition } from '../ts/guest/recording-partition.ts';
import { namelessFile } from './support/nameless-file.ts';
import { buildVm, MIB } from './support/vm.ts';

const PAGE = 0x1000;
const BAR = 0xfebf_0000;
const DIMM = 0x1_0000_0000;
const FLAGS = { readonly: false, nonvolatile: false, enabled: true };

function makeWorld() {
  const manager = buildVm();
  const { map, root, space, va, deviceMapper: mapper } = manager;
  const { region: device, control } = mapper.newRegion(4 * PAGE, 'bar');
  const fd = namelessFile(8 * PAGE);
  device.map(0, fd, 0, 4 * PAGE, true);
  closeSync(fd);
  const bar = device.region;
  const mirror = map.createAlias({ name: 'mirror', target: bar, size: 4 * PAGE });
  const dimm = manager.addRam({ name: 'dimm', ranges: [{ gpa: DIMM, length: MIB }] });
  const attachment = map.attachPartition(new RecordingPartition(), { space, va });
  const lease = manager.guestMemory.lock({ gpa: PAGE, length: 8 }, 'read', { holder: 'disk' });
  const memory = SharedMemory.create(PAGE);
  const handles = { manager, space, va, attachment, client: manager.client(), mapper, device, control, bar, mirror };
  return { ...handles, dimm, lease, memory, root };
}

type World = ReturnType<typeof makeWorld>;
type Facts = Readonly<Record<string, unknown>>;
type Model = Readonly<Partial<Record<keyof World, Facts>>>;

const BEFORE: Model = {
  manager: { closed: false, guestMemory: 'a LocalGuestMemory' },
  space: { closed: false, hidden: [] },
  va: { closed: false, token: 'a bigint', nativeInterface: 'a bigint' },
  attachment: { closed: false, isShutDown: false, slotSplits: 0 },
  client: { token: 'a bigint' },
  mapper: { regions: ['device region "bar"'] },
  device: { closed: false, length: 4 * PAGE },
  control: { gpa: undefined },
  bar: { closed: false, size: 4 * PAGE, offset: undefined, flags: FLAGS },
  mirror: { closed: false, size: 4 * PAGE, offset: undefined, flags: FLAGS },
  dimm: { closed: false, name: 'dimm' },
  lease: {
    facts: { holder: 'disk', mode: 'read', gpa: PAGE, length: 8 },
    released: false,
    view: 'a Uint8Array',
  },
  memory: { closed: false, allocatedBytes: 0, fd: 'a number', ownFd: 'a number', isLasting: true },
};

/** Each change, and what it makes of what was said before. Last: what is still different inside the transaction, in
 *  which nothing is seen that was not before. */
const CHANGES: readonly [title: string, change: (world: World) => void, after: Model, inside?: Model][] = [
  [
    'the BAR is placed',
    ({ control }) => control.mapToGuest(BAR),
    { bar: { offset: BAR }, control: { gpa: BAR } },
    { space: { hidden: ['region "bar"'] } },
  ],
  [
    'it is moved above 4 GiB',
    ({ control }) => control.mapToGuest(2 * DIMM),
    { bar: { offset: 2 * DIMM }, control: { gpa: 2 * DIMM } },
  ],
  [
    'it is made larger',
    ({ device }) => device.resize(8 * PAGE),
    { bar: { size: 8 * PAGE }, device: { length: 8 * PAGE }, attachment: { slotSplits: 1 } },
    { attachment: { slotSplits: 0 } },
  ],
  [
    'it is made smaller as a region',
    ({ bar }) => bar.resize(2 * PAGE),
    { bar: { size: 2 * PAGE }, device: { length: 2 * PAGE }, attachment: { slotSplits: 0 } },
    { attachment: { slotSplits: 1 } },
  ],
  [
    'it is placed read-only',
    ({ control }) => control.mapToGuest(BAR, { writable: false }),
    { bar: { offset: BAR, flags: { ...FLAGS, readonly: true } }, control: { gpa: BAR } },
  ],
  [
    'it is disabled',
    ({ bar }) => bar.setFlags({ enabled: false }),
    { bar: { flags: { ...FLAGS, readonly: true, enabled: false } } },
  ],
  [
    'it is enabled',
    ({ bar }) => bar.setFlags({ enabled: true, readonly: false, nonvolatile: true }),
    { bar: { flags: { ...FLAGS, nonvolatile: true } } },
    { space: { hidden: ['region "bar"'] } },
  ],
  [
    'RAM lies over it',
    ({ control }) => control.mapToGuest(DIMM),
    { bar: { offset: DIMM }, control: { gpa: DIMM }, space: { hidden: ['region "bar"'] } },
    { space: { hidden: [] } },
  ],
  [
    'it is seen through an alias alone',
    ({ mirror, root }) => mirror.place(root, { offset: 3 * DIMM }),
    { mirror: { offset: 3 * DIMM }, space: { hidden: [] } },
    { space: { hidden: ['region "bar"'] } },
  ],
  ['the alias is resized', ({ mirror }) => mirror.resize(PAGE), { mirror: { size: PAGE } }],
  ['the alias is moved', ({ mirror }) => mirror.move(2 * DIMM + PAGE), { mirror: { offset: 2 * DIMM + PAGE } }],
  ['the alias shows another part', ({ mirror }) => mirror.retarget(PAGE), {}],
  [
    'the alias is read-only',
    ({ mirror }) => mirror.setFlags({ readonly: true }),
    { mirror: { flags: { ...FLAGS, readonly: true } } },
  ],
  [
    'the alias is removed',
    ({ mirror }) => mirror.remove(),
    { mirror: { offset: undefined }, space: { hidden: ['region "bar"'] } },
    { space: { hidden: [] } },
  ],
  [
    'the RAM goes',
    ({ dimm }) => dimm.close(),
    { dimm: { closed: true }, space: { hidden: [] } },
    { space: { hidden: ['region "bar"'] } },
  ],
  [
    'the BAR is moved to the very end',
    ({ bar }) => bar.move(2n ** 64n - 1n),
    { bar: { offset: 2n ** 64n - 1n }, control: { gpa: 2n ** 64n - 1n }, space: { hidden: ['region "bar"'] } },
    { space: { hidden: [] } },
  ],
  [
    'the BAR is emptied',
    ({ bar }) => bar.resize(0),
    { bar: { size: 0 }, device: { length: 0 }, space: { hidden: [] } },
  ],
  [
    'the BAR is taken from the guest',
    ({ control }) => control.unmapFromGuest(),
    { bar: { offset: undefined }, control: { gpa: undefined } },
  ],
  [
    'the partition is detached',
    ({ attachment }) => attachment.close(),
    { attachment: { closed: true, isShutDown: 'CLOSED', slotSplits: 'CLOSED' } },
  ],
  [
    'the alias ends',
    ({ mirror }) => mirror.close(),
    { mirror: { closed: true, size: 'CLOSED', offset: 'CLOSED', flags: 'CLOSED' } },
  ],
  [
    'the device ends',
    ({ device }) => device.close(),
    {
      device: { closed: true, length: 'CLOSED' },
      control: { gpa: 'CLOSED' },
      bar: { closed: true, size: 'CLOSED', offset: 'CLOSED', flags: 'CLOSED' },
      mapper: { regions: [] },
    },
  ],
];

/** Changes that no transaction takes back. */
const ENDS: typeof CHANGES = [
  ['the lease ends', ({ lease }) => lease.release(), { lease: { released: true, view: 'CLOSED' } }],
  [
    'the object is closed',
    ({ memory }) => memory.close(),
    { memory: { closed: true, allocatedBytes: 'CLOSED', fd: 'CLOSED', ownFd: 'CLOSED' } },
  ],
  [
    'the manager is closed',
    ({ manager }) => manager.close(),
    {
      manager: { closed: true, guestMemory: 'CLOSED' },
      space: { closed: true, hidden: 'CLOSED' },
      va: { closed: true, token: 'CLOSED', nativeInterface: 'CLOSED' },
      client: { token: 'CLOSED' },
    },
  ],
];

/** Asks every accessor of a handle; of what one throws there is the code. */
function said(handle: object): Facts {
  const facts: Record<string, unknown> = {};
  for (let each = Object.getPrototypeOf(handle); each !== Object.prototype; each = Object.getPrototypeOf(each)) {
    for (const [name, { get }] of Object.entries(Object.getOwnPropertyDescriptors(each))) {
      if (get !== undefined && name !== 'what' && !(name in facts)) facts[name] = answerOf(handle, name);
    }
  }
  return facts;
}

/** Asks one accessor: a matter of the machine is said by its type, handles by what they are. */
function answerOf(handle: object, name: string): unknown {
  let value: unknown;
  try {
    value = Reflect.get(handle, name);
  } catch (error) {
    return (error as { code: string }).code;
  }
  if (['token', 'fd', 'ownFd', 'nativeInterface'].includes(name)) return `a ${typeof value}`;
  if (name === 'view' || name === 'guestMemory') return `a ${(value as object).constructor.name}`;
  return Array.isArray(value) ? value.map(whatOf) : value;
}

const whatOf = (handle: { readonly what: string }) => handle.what;

function merged(model: Model, changes: Model = {}): Model {
  const all = Object.entries({ ...model, ...changes }) as [keyof World, Facts][];
  return Object.fromEntries(all.map(([name, facts]) => [name, { ...model[name], ...facts }]));
}

test('every handle says what is, in every state: alone, in a transaction, and when that was taken back', (t) => {
  const world = makeWorld();
  const all = (of: Model) =>
    Object.fromEntries(Object.keys(of).map((name) => [name, said(world[name as keyof World])]));
  let model = BEFORE;
  t.deepEqual(all(model), model, 'made');
  for (const [title, change, after, inside] of CHANGES) {
    const next = merged(model, after);
    t.throws(
      () =>
        world.manager.map.transaction(() => {
          change(world);
          t.deepEqual(all(next), merged(next, inside), `${title}, inside the transaction`);
          throw new Error('not this time');
        }),
      { message: 'not this time' },
    );
    t.deepEqual(all(model), model, `${title}, and taken back`);
    change(world);
    t.deepEqual(all(next), next, title);
    model = next;
  }
  for (const [title, change, after] of ENDS) {
    change(world);
    model = merged(model, after);
    t.deepEqual(all(model), model, title);
  }
});
