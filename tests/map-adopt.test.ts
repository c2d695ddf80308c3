// A virtual machine that a monitor's own addon has made and runs (tests/native/own-vm.cc): membacking gives it memory
// beside its own, in slots of its own, and takes nothing else.

import { readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { ExecutionContext } from 'ava';
import { artefact } from '../ts/core/artefact.ts';
import { native, type Vcpu as RawVcpu } from '../ts/core/native.ts';
import {
  type AdoptOptions,
  GuestMemoryBuilder,
  KVM_CAP,
  KVM_EXIT,
  KVM_QUIRK,
  KvmPartition,
  MemoryMap,
  SharedMemory,
} from '../ts/index.ts';
import { enterUserMode, guestImage, type Inputs, kvmTest, type Program, registersFor } from './support/guest.ts';
import { refusal } from './support/map-state.ts';
import { footprint, PAGE } from './support/shim-plan.ts';

const MIB = 2 ** 20;
const OWN_SIZE = MIB;
const OURS = 2 * MIB;

interface OwnVm {
  readonly kvmFd: number;
  readonly vmFd: number;
  readonly vcpuFd: number;
  writeMemory(gpa: number, bytes: Uint8Array): void;
  control(request: number, bytes: Uint8Array): number;
  run(): [number, number, number];
  start(): void;
  stop(): number;
  close(): void;
}

const require = createRequire(import.meta.url);

/** Numbers of ioctls, as linux/kvm.h has them. */
const GET: Readonly<Record<string, number>> = { registers: 0x8090ae81, specialRegisters: 0x8138ae83 };
const SET: Readonly<Record<string, number>> = { registers: 0x4090ae82, specialRegisters: 0x4138ae84 };
const SET_CPUID2 = 0x4008ae90;

/** A monitor that does all by itself, with a CPL3 guest in its memory. */
function ownVm(): OwnVm {
  const vm: OwnVm = new (require(artefact('obj/own-vm.node').pathname).OwnVm)(OWN_SIZE);
  vm.writeMemory(0, guestImage());
  enterUserMode(controlled(vm));
  return vm;
}

/** The monitor's vCPU as a thing whose registers can be set. */
function controlled(vm: OwnVm): RawVcpu {
  const writeCpuid = (entries: Uint8Array) => {
    const list = new Uint8Array(8 + entries.length);
    new DataView(list.buffer).setUint32(0, entries.length / 40, true);
    list.set(entries, 8);
    vm.control(SET_CPUID2, list);
  };
  return {
    writeCpuid,
    readState: (name: string, bytes: Uint8Array) => vm.control(GET[name]!, bytes),
    writeState: (name: string, bytes: Uint8Array) => vm.control(SET[name]!, bytes),
  } as Partial<RawVcpu> as RawVcpu;
}

/** Runs a program of the guest until its first exit, in the monitor's own addon. */
function runOwn(vm: OwnVm, program: Program, inputs: Inputs): string {
  registersFor(controlled(vm), program, inputs);
  const [reason, where, value] = vm.run();
  const name = Object.entries(KVM_EXIT).find(([, number]) => number === reason)?.[0];
  return `${name} ${where.toString(16)}${name === 'MMIO' ? '' : ` = ${value.toString(16)}`}`;
}

/** A map with one region at OURS, shown to the monitor's virtual machine. */
function adopted(vm: OwnVm, options: AdoptOptions = {}) {
  const partition = KvmPartition.adopt(vm.vmFd, { kvmFd: vm.kvmFd, slotBase: 8, slotLimit: 4, ...options });
  const map = new MemoryMap({ debug: true });
  const root = map.createRegion({ name: 'system', kind: 'container', size: 16 * MIB });
  const ram = map.createRegion({ name: 'ram', kind: 'ram', size: MIB }).place(root, { offset: OURS });
  const memory = SharedMemory.create(MIB, { name: 'ours' });
  ram.map({ object: memory });
  const space = map.createAddressSpace({ name: 'guest', root });
  const va = map.attachVaSpace(space);
  const attachment = map.attachPartition(partition, { space, va });
  const close = () => {
    partition.close();
    map.close();
    memory.close();
  };
  return { partition, map, root, ram, memory, va, attachment, close };
}

function adoptTest(title: string, body: (t: ExecutionContext, vm: OwnVm) => void): void {
  kvmTest(title, (t) => {
    const before = footprint();
    const vm = ownVm();
    const owned = footprint();
    try {
      body(t, vm);
      t.deepEqual(footprint(), owned);
      t.is(readlinkSync(`/proc/self/fd/${vm.vmFd}`), 'anon_inode:kvm-vm', 'still open');
    } finally {
      vm.close();
    }
    t.deepEqual(footprint(), before);
  });
}

adoptTest('a guest of the monitor sees its own memory and ours, and keeps its own when ours goes', (t, vm) => {
  const { map, root, ram, memory, va, close } = adopted(vm);
  t.is(runOwn(vm, 'write', { rbx: OURS + PAGE, rax: 5 }), 'IO 11 = 5');
  t.is(va.memory.readU32(OURS + PAGE), 5);
  memory.write(PAGE, Uint8Array.of(6));
  t.is(runOwn(vm, 'read', { rbx: OURS + PAGE }), 'IO 10 = 6');
  const rom = map.createRegion({ name: 'rom', kind: 'rom', size: 2 * PAGE });
  rom.map({ object: memory, objectOffset: PAGE, length: PAGE });
  rom.place(root, { offset: OURS + 8 * PAGE, priority: 1 });
  t.is(runOwn(vm, 'write', { rbx: OURS + 8 * PAGE, rax: 7 }), `MMIO ${(OURS + 8 * PAGE).toString(16)}`);
  ram.move(4 * MIB);
  t.is(runOwn(vm, 'read', { rbx: 4 * MIB + PAGE }), 'IO 10 = 6');
  t.is(runOwn(vm, 'read', { rbx: OURS + PAGE }), `MMIO ${(OURS + PAGE).toString(16)}`);
  close();
  t.is(runOwn(vm, 'read', { rbx: 4 * MIB + PAGE }), `MMIO ${(4 * MIB + PAGE).toString(16)}`);
  t.is(runOwn(vm, 'write', { rbx: 0x8_0000, rax: 9 }), 'IO 11 = 9', "the monitor's own memory is where it was");
});

adoptTest(
  "a slot over the monitor's own is refused, and changes nothing; there are no more than were given",
  (t, vm) => {
    const { map, root, ram, attachment, close } = adopted(vm);
    const slots = attachment.slots();
    const refused = t.throws(() => ram.move(MIB / 2), { code: 'PLAN_FAILED' });
    t.like(refused?.cause, { code: 'EEXIST' });
    t.deepEqual(attachment.slots(), slots);
    t.is(runOwn(vm, 'write', { rbx: OURS, rax: 1 }), 'IO 11 = 1');
    const devices = Array.from({ length: 4 }, (_, at) => {
      const device = map.createRegion({ name: `device ${at}`, kind: 'mmio', size: PAGE });
      return () => device.place(root, { offset: OURS + (2 * at + 1) * PAGE, priority: 1 });
    });
    for (const place of devices.slice(0, 3)) place();
    t.throws(devices[3]!, { code: 'NO_SLOTS' });
    close();
  },
);

adoptTest('vCPUs that the monitor runs are held by the monitor, around plans that need it and the end', (t, vm) => {
  const calls: string[] = [];
  const pause = () => {
    calls.push('pause');
    t.is(vm.stop(), 0, 'the guest counts in our memory, and has missed none');
  };
  const resume = () => {
    calls.push('resume');
    vm.start();
  };
  // With no slot to spare, slots never stay cut.
  const { map, root, va, close } = adopted(vm, { pause, resume, slotLimit: 2 });
  registersFor(controlled(vm), 'count', { rbx: OURS });
  vm.start();
  const device = map.createRegion({ name: 'device', kind: 'mmio', size: PAGE });
  for (let round = 0; round < 20; round++) {
    const before = va.memory.readU32(OURS);
    device.place(root, { offset: OURS + 4 * PAGE, priority: 1 });
    device.remove();
    while (va.memory.readU32(OURS) === before);
  }
  t.deepEqual(calls, Array(40).fill(['pause', 'resume']).flat());
  vm.stop();
  close();
  t.deepEqual(calls.slice(80), ['pause', 'resume']);
  vm.stop();
});

adoptTest('a pause of the monitor that fails stops the change and the close', (t, vm) => {
  let reason = '';
  const pause = () => {
    if (reason !== '') throw new Error(reason);
  };
  const { map, root, attachment, partition, close } = adopted(vm, { pause, resume() {} });
  const device = map.createRegion({ name: 'device', kind: 'mmio', size: PAGE });
  reason = 'the vCPU is busy';
  t.throws(() => device.place(root, { offset: OURS + PAGE, priority: 1 }), { code: 'PLAN_FAILED' });
  t.throws(() => partition.close(), { message: reason });
  t.is(attachment.slots().length, 1);
  reason = '';
  close();
});

adoptTest('descriptors are there to read; what is none of a virtual machine is refused', (t, vm) => {
  const own = KvmPartition.open();
  const vcpu = own.createVcpu(0);
  const names = [own.kvmFd, own.fd, vcpu.fd].map((fd) => readlinkSync(`/proc/self/fd/${fd}`));
  t.deepEqual(names, ['/dev/kvm', 'anon_inode:kvm-vm', 'anon_inode:kvm-vcpu:0']);
  const codes = [
    () => KvmPartition.adopt(vm.kvmFd),
    () => KvmPartition.adopt(vcpu.fd),
    () => KvmPartition.adopt(0),
    () => KvmPartition.adopt(0x7fffffff),
    () => KvmPartition.adopt(vm.vmFd, { kvmFd: vm.vmFd }),
    () => KvmPartition.adopt(vm.vmFd, { slotBase: 65536 }),
    () => KvmPartition.adopt(vm.vmFd, { slotBase: 1, slotLimit: own.slotLimit }),
    () => KvmPartition.adopt(-1),
    () => KvmPartition.adopt(vm.vmFd, { pause() {} }),
    () => KvmPartition.adopt(vm.vmFd, { slotLimit: 0 }),
  ].map((adopt) => refusal(adopt).replaceAll(/descriptor \d+/g, 'descriptor N'));
  const refused = 'SYSTEM: descriptor N cannot be adopted as a KVM virtual machine:';
  t.deepEqual(codes, [
    ...Array(3).fill(`${refused} ENOTTY: the descriptor is no virtual machine's, KVM_CHECK_EXTENSION`),
    `${refused} EBADF: Bad file descriptor, fcntl`,
    `${refused} ENOTTY: Inappropriate ioctl for device, KVM_GET_API_VERSION`,
    ...Array(2).fill(`${refused} ERANGE: the virtual machine has not so many slots, KVM_CHECK_EXTENSION`),
    'INVALID_ARGUMENT: vmFd must be a whole number from 0 to 2147483647, not -1',
    'INVALID_ARGUMENT: KvmPartition.adopt takes both the functions pause and resume, or neither',
    'INVALID_ARGUMENT: slotLimit must be a whole number from 1 to 65536, not 0x0',
  ]);
  vcpu.close();
  own.close();
  t.throws(() => own.fd, { code: 'CLOSED' });
  t.throws(() => own.kvmFd, { code: 'CLOSED' });
  t.throws(() => vcpu.fd, { code: 'CLOSED' });
});

adoptTest(
  'a slot that goes leaves the page tables of others where KVM can, and nothing is changed for its maker',
  (t, vm) => {
    const [own, asItWas] = [KvmPartition.open(), KvmPartition.open({ zapAllSlots: true })];
    const canKeepOthers = (own.checkExtension(KVM_CAP.DISABLE_QUIRKS2) & KVM_QUIRK.SLOT_ZAP_ALL) !== 0;
    t.log(canKeepOthers ? 'KVM can' : 'KVM cannot');
    const { partition, close } = adopted(vm);
    t.deepEqual(
      [own, asItWas, partition].map(({ zapsAllSlots }) => zapsAllSlots),
      [!canKeepOthers, true, undefined],
    );
    const manager = new GuestMemoryBuilder().build();
    manager.attachPartition(own);
    t.is(manager.inspect().partitions[0]!.zapsAllSlots, !canKeepOthers);
    manager.close();
    own.close();
    asItWas.close();
    close();
  },
);

adoptTest('a virtual machine that is adopted can have vCPUs of ours too', (t, vm) => {
  const { partition, close } = adopted(vm, { pause() {}, resume() {} });
  const vcpu = partition.createVcpu(1);
  const raw = native().Vcpu.fromToken(vcpu.token);
  enterUserMode(raw);
  registersFor(raw, 'write', { rbx: OURS, rax: 3 });
  t.like(vcpu.runToExit(), { kind: 'io', port: 0x11 });
  vcpu.close();
  raw.close();
  close();
});
