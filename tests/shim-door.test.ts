// Handles of the addon in wrong hands: they do nothing, and say so.

import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { NativeExecutor } from '../ts/apply/native-executor.ts';
import { native } from '../ts/core/native.ts';
import * as api from '../ts/index.ts';
import { kvmMissing } from './support/guest.ts';
import { makeWorld, PAGE } from './support/shim-plan.ts';
import { tempFolder } from './support/temp-folder.ts';

type Class = { readonly name: string; readonly prototype: object };

const addon = native();
/** Classes of the addon: of its functions, those with a capital letter. */
const CLASSES = Object.entries(addon).flatMap(([name, value]) =>
  /^[A-Z]/.test(name) ? [value as never] : [],
) as Class[];

/** A handle of each class that this machine can make, by the name of the class; and what closes them. */
function makeHandles(t: ExecutionContext): { handles: Map<string, object>; close(): void } {
  const world = makeWorld();
  const eventFd = addon.EventFd.create();
  const [channel, other] = addon.Channel.pair();
  const listener = addon.Listener.listen(join(tempFolder(t), 'socket'), false);
  const mapper = addon.Mapper.create('client', false, 1000, false);
  const handles = new Map<string, object>([
    ['Reservation', world.space],
    ['MemoryObject', world.shared],
    ['Executor', world.executor],
    ['EventFd', eventFd],
    ['Channel', channel],
    ['Listener', listener],
    ['Mapper', mapper],
  ]);
  const closers = [world, eventFd, channel, other, listener, mapper];
  if (!kvmMissing) {
    const kvm = addon.Kvm.open();
    const vm = kvm.createVm();
    const vcpu = vm.createVcpu(0);
    for (const [name, handle] of Object.entries({ Kvm: kvm, Vm: vm, Vcpu: vcpu })) handles.set(name, handle);
    closers.unshift(vcpu as never, vm as never, kvm as never);
  }
  return { handles, close: () => closers.forEach((each) => void each.close()) };
}

/** The functions behind a class's members: of accessors those that read. */
function membersOf({ prototype }: Class): [name: string, member: (...args: unknown[]) => unknown][] {
  return Object.entries(Object.getOwnPropertyDescriptors(prototype))
    .filter(([name]) => name !== 'constructor')
    .map(([name, { get, value }]) => [name, get ?? value]);
}

test('every member of every class refuses every receiver that is not of the class', (t) => {
  const { handles, close } = makeHandles(t);
  const names = [
    'Channel',
    'EventFd',
    'Executor',
    'Follower',
    'Kvm',
    'Leavings',
    'Listener',
    'Mapper',
    'MemoryObject',
    'Pager',
    'Reservation',
    'Vcpu',
    'Vm',
  ];
  t.deepEqual(CLASSES.map(({ name }) => name).sort(), names);
  let refused = 0;
  for (const type of CLASSES) {
    const others = [...handles].filter(([name]) => name !== type.name).map(([, handle]) => handle);
    const own = handles.get(type.name);
    const lookalikes = [
      Object.create(type.prototype),
      ...(own === undefined ? [] : [Object.create(own), new Proxy(own, {})]),
    ];
    const receivers = [
      undefined,
      null,
      0,
      'x',
      5n,
      Symbol.iterator,
      {},
      [],
      () => {},
      globalThis,
      ...lookalikes,
      ...others,
    ];
    for (const [name, member] of membersOf(type)) {
      for (const receiver of receivers) {
        const error = t.throws(() => member.call(receiver), { instanceOf: TypeError }, `${type.name}.${name}`);
        t.regex(`${error?.message}`, /^(this must be a \w+|Illegal invocation)$/, `${type.name}.${name}`);
        refused++;
      }
    }
  }
  t.log(`${refused} calls refused`);
  close();
});

test('no class is made by new, nor by calling it', (t) => {
  for (const type of CLASSES) {
    t.throws(() => new (type as never as new () => object)(), { code: 'ERR_INVALID_ARG_TYPE' }, type.name);
    t.throws(() => (type as never as () => object)(), { instanceOf: TypeError }, type.name);
    class Derived extends (type as never as new () => object) {}
    t.throws(() => new Derived(), { code: 'ERR_INVALID_ARG_TYPE' }, type.name);
  }
});

test('tokens are not counted up', (t) => {
  const spaces = Array.from({ length: 64 }, () => addon.Reservation.create(PAGE));
  const tokens = spaces.map(({ token }) => token);
  t.is(new Set(tokens).size, tokens.length);
  // Tokens have half of their bits set on average: fewer than 40 of 64 in all of them together would be no chance.
  const seen = tokens.reduce((bits, token) => bits | token, 0n);
  t.true(seen.toString(2).replaceAll('0', '').length > 60, seen.toString(2));
  for (const token of tokens) {
    for (const guess of [token + 1n, token - 1n, 1n, 0n]) {
      if (guess >= 0n && guess < 2n ** 64n && !tokens.includes(guess)) {
        t.throws(() => addon.Reservation.fromToken(guess), { code: 'ERR_CLOSED' });
      }
    }
    addon.Reservation.fromToken(token).close();
  }
  for (const space of spaces) space.close();
});

/** Calls `look` with every object that properties lead to from `roots`, and with the way to it. */
function reach(roots: object, look: (found: object, path: string) => void): void {
  const seen = new Set<object>();
  const waiting: [value: unknown, path: string][] = Object.entries(roots).map(([name, root]) => [root, name]);
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const [value, path] = next;
    const isObject = (typeof value === 'object' && value !== null) || typeof value === 'function';
    if (!isObject || seen.has(value) || ArrayBuffer.isView(value)) continue;
    seen.add(value);
    look(value, path);
    if (value instanceof Map || value instanceof Set) for (const item of value) waiting.push([item, `${path}[]`]);
    for (const name of everyKey(value)) {
      try {
        waiting.push([Reflect.get(value, name), `${path}.${String(name)}`]);
      } catch {
        // A getter that says no leads nowhere.
      }
    }
  }
}

/** The keys of an object's own properties and of those that it inherits. */
function everyKey(value: object): PropertyKey[] {
  const inherited = Object.getPrototypeOf(value) as object | null;
  const isOurs = inherited !== null && inherited !== Object.prototype && inherited !== Function.prototype;
  return [...Reflect.ownKeys(value), ...(isOurs ? everyKey(inherited) : [])];
}

test('nothing that the package hands out leads to a handle of the addon, nor to what carries out plans', (t) => {
  const own = api.PrivateMemory.create(PAGE);
  const map = new api.MemoryMap();
  const root = map.createRegion({ name: 'root', kind: 'ram', size: PAGE });
  root.map({ object: own });
  const space = map.createAddressSpace({ name: 'space', root });
  const va = map.attachVaSpace(space, { size: PAGE });
  const attachment = map.attachPartition(new api.RecordingPartition(), { space, va });
  const lease = va.memory.lock({ gpa: 0, length: PAGE }, 'write', { holder: 'test' });
  const elsewhere = api.WorkerGuestMemory.fromToken(va.token);

  const manager = new api.GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x20_0000 }] }).build();
  const backing = manager.sharedMemory();
  const file = manager.deviceMapper.openFile(backing.parts()[0]!.fd, { writable: true });
  const bar = manager.deviceMapper.newRegion(PAGE, 'bar');
  bar.region.map(0, file, 0, PAGE);
  bar.control.mapToGuest(0x200_0000);
  const partition = kvmMissing ? undefined : api.KvmPartition.open();
  const attached = manager.attachPartition(partition ?? new api.RecordingPartition());
  const vcpu = partition?.createVcpu(0);

  const forbidden = [...CLASSES, NativeExecutor] as (new () => object)[];
  let met = 0;
  const look = (found: object, path: string) => {
    met++;
    const type = forbidden.find((each) => found instanceof each || found === each);
    if (type !== undefined) t.fail(`${path} is a ${type.name}`);
  };
  const handles = { own, map, root, space, va, attachment, lease, elsewhere, manager, backing, file, bar, attached };
  reach({ api, ...handles, partition, vcpu }, look);
  t.true(met > 500, String(met));
  for (const each of [lease, elsewhere, vcpu, backing, manager, partition, map, own]) each?.close();
});
