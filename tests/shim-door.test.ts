// Handles of the addon in wrong hands: they do nothing, and say so.

import test from 'ava';
import { native } from '../ts/core/native.ts';
import { GuestMemoryBuilder, KvmPartition, PrivateMemory } from '../ts/index.ts';
import { kvmMissing } from './support/guest.ts';
import { makeWorld, PAGE } from './support/shim-plan.ts';

type Class = { readonly name: string; readonly prototype: object };

const addon = native();
/** Classes of the addon: of its functions, those with a capital letter. */
const CLASSES = Object.entries(addon).flatMap(([name, value]) =>
  /^[A-Z]/.test(name) ? [value as never] : [],
) as Class[];

/** A handle of each class that this machine can make, by the name of the class; and what closes them. */
function makeHandles(): { handles: Map<string, object>; close(): void } {
  const world = makeWorld();
  const handles = new Map<string, object>([
    ['Reservation', world.space],
    ['MemoryObject', world.shared],
    ['Executor', world.executor],
  ]);
  const closers = [world];
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
  const { handles, close } = makeHandles();
  t.deepEqual(CLASSES.map(({ name }) => name).sort(), ['Executor', 'Kvm', 'MemoryObject', 'Reservation', 'Vcpu', 'Vm']);
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

test('nothing that the package hands out leads to a handle of the addon', (t) => {
  const manager = new GuestMemoryBuilder()
    .addRam({ ranges: [{ gpa: 0, length: 0x20_0000 }] })
    .addRam({ ranges: [{ gpa: 0x100_0000, length: 0x20_0000 }], backing: { kind: 'private' } })
    .build();
  const lease = manager.guestMemory.lock({ gpa: 0, length: PAGE }, 'write', { holder: 'test' });
  const own = PrivateMemory.create(PAGE);
  const partition = kvmMissing ? undefined : KvmPartition.open();
  if (partition) manager.attachPartition(partition);
  const vcpu = partition?.createVcpu(0);

  const seen = new Set<object>();
  const reach = (value: unknown, path: string) => {
    if (typeof value !== 'object' || value === null || seen.has(value) || ArrayBuffer.isView(value)) return;
    seen.add(value);
    const found = CLASSES.find((type) => value instanceof (type as never as new () => object));
    if (found) t.fail(`${path} is a ${found.name}`);
    if (value instanceof Map || value instanceof Set) for (const item of value) reach(item, `${path}[]`);
    for (
      let holder: object | null = value;
      holder && holder !== Object.prototype;
      holder = Object.getPrototypeOf(holder)
    ) {
      for (const name of Reflect.ownKeys(holder)) {
        let property: unknown;
        try {
          property = Reflect.get(holder, name, value);
        } catch {
          continue;
        }
        reach(property, `${path}.${String(name)}`);
      }
    }
  };
  for (const [name, root] of Object.entries({ manager, lease, own, partition, vcpu })) reach(root, name);
  t.true(seen.size > 50);
  lease.release();
  vcpu?.close();
  manager.close();
  partition?.close();
  own.close();
});
