// State of vCPUs and virtual machines: what is read is what KVM has; saved states go on elsewhere bit by bit; a state
// that is wrong in any field is refused, and changes nothing. Structs are checked without KVM, too.

import { deserialize, serialize } from 'node:v8';
import test, { type ExecutionContext } from 'ava';
import * as kvm from '../ts/core/kvm-state.ts';
import { native, type StateHolder } from '../ts/core/native.ts';
import type { Codec } from '../ts/core/struct.ts';
import {
  type AttachedPartition,
  EventFd,
  type Exit,
  KvmPartition,
  type MembackingError,
  type Vcpu,
  type VcpuState,
} from '../ts/index.ts';
import { vmOf } from '../ts/sinks/kvm.ts';
import { restorePartition, restoreVcpu } from '../ts/sinks/saved-state.ts';
import { enterUserMode, kvmTest } from './support/guest.ts';
import { refusal } from './support/map-state.ts';
import { footprint } from './support/shim-plan.ts';
import { buildVm } from './support/vm.ts';

// ---- Structs -----------------------------------------------------------------------------------

const { REGISTERS, SPECIAL_REGISTERS, FPU, XCRS, DEBUG_REGISTERS, LOCAL_APIC } = kvm;
const { MP_STATE, EVENTS, PIC, IO_APIC, PIT, CLOCK } = kvm;
const STRUCTS = { REGISTERS, SPECIAL_REGISTERS, FPU, XCRS, DEBUG_REGISTERS, LOCAL_APIC, MP_STATE, EVENTS };
const DEVICES = { PIC, IO_APIC, PIT, CLOCK };
const SIZES = [144, 312, 416, 392, 128, 1024, 4, 64, 520, 520, 112, 48];

for (const [index, [name, struct]] of Object.entries({ ...STRUCTS, ...DEVICES }).entries()) {
  test(`${name} is as large as the kernel's struct, and what is read of it is written back the same`, (t) => {
    const codec = struct as Codec<unknown>;
    t.is(codec.size, SIZES[index]!);
    const bytes = Uint8Array.from({ length: codec.size }, (_, at) => at);
    if (name === 'XCRS') bytes.set([2, 0, 0, 0]);
    if (name === 'MP_STATE') bytes.set([3, 0, 0, 0]);
    const value = codec.read(new DataView(bytes.buffer), 0);
    const again = kvm.encoded(codec, codec.check(structuredClone(value), 'state'));
    t.deepEqual(codec.read(new DataView(again.buffer), 0), value);
    t.true(Object.isFrozen(value) || name === 'LOCAL_APIC');
  });
}

test('a field that is not what it must be is named by the way to it', (t) => {
  const special = kvm.SPECIAL_REGISTERS.read(new DataView(new ArrayBuffer(312)), 0);
  const { selector: _, ...cut } = special.cs;
  t.deepEqual(
    [
      () => kvm.SPECIAL_REGISTERS.check({ ...special, cs: { ...special.cs, selector: 0x10000 } }, 'state'),
      () => kvm.SPECIAL_REGISTERS.check({ ...special, cs: cut }, 'state'),
      () => kvm.SPECIAL_REGISTERS.check({ ...special, cr0: 1 }, 'state'),
      () => kvm.SPECIAL_REGISTERS.check({ ...special, cr9: 1n }, 'state'),
      () => kvm.DEBUG_REGISTERS.check({ addresses: [0n], dr6: 0n, dr7: 0n, flags: 0n }, 'state'),
      () => kvm.LOCAL_APIC.check(new Uint8Array(4), 'state'),
      () => kvm.MP_STATE.check('asleep', 'state'),
      () => kvm.checkedRoutes([{ gsi: 1, chip: 'pic2', pin: 0 }], 'routes'),
      () => kvm.REGISTERS.check(null, 'state'),
    ].map(refusal),
    [
      'INVALID_ARGUMENT: state.cs.selector must be a whole number from 0 to 65535, not 0x10000',
      'INVALID_ARGUMENT: state.cs must be given whole: selector is missing',
      'INVALID_ARGUMENT: state.cr0 must be a bigint from 0 to 2^64 - 1, not 0x1',
      `INVALID_ARGUMENT: state has no option "cr9"; there are ${Object.keys(special).join(', ')}`,
      'INVALID_ARGUMENT: state.addresses must be an array of 4',
      'INVALID_ARGUMENT: state must be 1024 bytes, not 4',
      'INVALID_ARGUMENT: state must be one of runnable, uninitialized, init-received, halted, sipi-received, stopped, check-stop, operating, load, ap-reset-hold, not "asleep"',
      'INVALID_ARGUMENT: routes[0].chip must be one of pic0, pic1, ioApic, not "pic2"',
      `INVALID_ARGUMENT: state takes an object with ${Object.keys(kvm.REGISTERS.read(new DataView(new ArrayBuffer(144)), 0)).join(', ')}, not null`,
    ],
  );
});

// ---- A guest that computes ---------------------------------------------------------------------

const PROGRAM = 0x2_0000;
const SCRATCH = 0x3_0000;
const ROUNDS = 1_000_000;

/** RAX = RAX * RBX + RCX, stored at RSI and added up in XMM0, RDX times; then both, mixed, go to port 10, and it begins
 *  anew with RDX = R8. */
// biome-ignore format: an instruction a line
const COMPUTE = [
  0x48, 0x0f, 0xaf, 0xc3,
  0x48, 0x01, 0xc8,
  0x48, 0x89, 0x06,
  0x66, 0x48, 0x0f, 0x6e, 0xc8,
  0x66, 0x0f, 0xd4, 0xc1,
  0x48, 0xff, 0xca,
  0x75, 0xe8,
  0x66, 0x48, 0x0f, 0x7e, 0xc7,
  0x48, 0x31, 0xf8,
  0xe7, 0x10,
  0x4c, 0x89, 0xc2,
  0xeb, 0xd9,
];

interface Machine {
  readonly partition: KvmPartition;
  readonly attached: AttachedPartition;
  readonly vcpu: Vcpu;
  close(): void;
}

type Manager = ReturnType<typeof buildVm>;

function machine(manager: Manager, { irqchip = false } = {}): Machine {
  const partition = KvmPartition.open();
  if (irqchip) {
    partition.createIrqchip();
    partition.createPit();
  }
  const attached = manager.attachPartition(partition);
  const vcpu = partition.createVcpu(0);
  return {
    ...{ partition, attached, vcpu },
    close() {
      vcpu.close();
      partition.close();
    },
  };
}

function startComputing({ vcpu }: Pick<Machine, 'vcpu'>, rounds: number): void {
  const raw = native().Vcpu.fromToken(vcpu.token);
  enterUserMode(raw);
  raw.close();
  vcpu.specialRegisters = { cr4: 0x220n };
  vcpu.registers = {
    ...{ rip: BigInt(PROGRAM), rflags: 0x3002n, rax: 1n, rbx: 6364136223846793005n, rcx: 1442695040888963407n },
    ...{ rdx: BigInt(rounds), r8: BigInt(rounds), rsi: BigInt(SCRATCH) },
  };
}

/** Number that went to port 10. */
function numberOf(exit: Exit): number {
  if (exit.kind !== 'io') throw new Error(exit.kind);
  return new DataView(exit.data.buffer, exit.data.byteOffset).getUint32(0, true);
}

function stateTest(title: string, body: (t: ExecutionContext, manager: Manager) => void | Promise<void>): void {
  kvmTest(title, async (t) => {
    const before = footprint();
    const manager = buildVm();
    manager.guestMemory.write(PROGRAM, Uint8Array.from(COMPUTE));
    try {
      await body(t, manager);
    } finally {
      manager.close();
    }
    // What a run in the background has held goes in a turn of its own.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    t.deepEqual(footprint(), before);
  });
}

for (const irqchip of [false, true]) {
  const where = irqchip ? ' with interrupt controllers and a timer in KVM' : '';
  stateTest(`a guest that is kicked, saved and restored elsewhere goes on bit by bit${where}`, async (t, manager) => {
    const undisturbed = machine(manager, { irqchip });
    startComputing(undisturbed, ROUNDS);
    const expected = Array.from({ length: 6 }, () => numberOf(undisturbed.vcpu.runToExit()));
    undisturbed.close();
    let now = machine(manager, { irqchip });
    startComputing(now, ROUNDS);
    const seen: number[] = [];
    while (seen.length < expected.length) {
      const run = now.vcpu.runAsync();
      const kick = setTimeout(() => now.vcpu.kick(), 1);
      const exit = await run;
      clearTimeout(kick);
      if (exit.kind !== 'kicked') seen.push(numberOf(exit));
      const states = deserialize(serialize([now.partition.save(), now.vcpu.save()]));
      now.close();
      now = machine(manager, { irqchip });
      now.partition.restore(states[0]);
      now.vcpu.restore(states[1]);
      t.deepEqual(without(now.vcpu.save(), TIME), without(states[1], TIME));
    }
    t.deepEqual(seen, expected);
    now.close();
  });
}

stateTest('an exit that was answered is finished by saving; the port was read once', (t, manager) => {
  const first = machine(manager);
  manager.guestMemory.write(PROGRAM, Uint8Array.of(0xe5, 0x13, 0xe7, 0x14, 0xeb, 0xfe)); // in eax, 13; out 14, eax
  startComputing(first, 1);
  const exit = first.vcpu.runToExit();
  if (exit.kind !== 'io') return t.fail(exit.kind);
  exit.data.set([7, 0, 0, 0]);
  const state = first.vcpu.save();
  t.is(state.registers.rax, 7n);
  first.close();
  const second = machine(manager);
  second.vcpu.restore(state);
  t.is(numberOf(second.vcpu.runToExit()), 7);
  second.close();
});

// ---- Hostile states ----------------------------------------------------------------------------

/** Registers that go on by themselves: the time stamp counter, and the clocks that KVM and Hyper-V have. */
const TIME = [0x10, 0x11, 0x12, 0x3a, 0x6e0, 0x4000_0010, 0x4000_0020];

/** A state without what no two moments share. */
function without(state: VcpuState, indices: readonly number[]): unknown {
  const { msrs, localApic: _, ...rest } = state;
  return { ...rest, msrs: msrs.filter(({ index }) => !indices.includes(index)) };
}

/** Every leaf of a state, as a function that gives a copy in which it is something else. */
function leaves(value: unknown, path: string[] = []): string[][] {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]))];
}

function replaced(state: unknown, path: readonly string[], wrong: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return wrong;
  const copy: Record<string, unknown> = Array.isArray(state)
    ? ([...state] as never)
    : { ...(state as Record<string, unknown>) };
  copy[key] = replaced(copy[key], rest, wrong);
  return copy;
}

const WRONG: readonly unknown[] = [undefined, null, -1, 1.5, 2 ** 53, 'x', -1n, 2n ** 64n, {}, [], new Uint8Array(1)];
const EXTREME: readonly unknown[] = [0xff, 0xffff, 0xffff_ffff, 2n ** 64n - 1n];

stateTest('a state that is wrong in any field is refused, or is taken by KVM as it is', (t, manager) => {
  const { vcpu, close } = machine(manager, { irqchip: true });
  startComputing({ vcpu }, 100);
  const good = vcpu.save();
  const seen = without(good, TIME);
  // Of the long lists of like entries, the first few.
  const paths = leaves(good).filter(([name, index]) => !['msrs', 'cpuid'].includes(name!) || Number(index ?? 0) < 2);
  const outcomes: Record<string, number> = {};
  for (const path of paths) {
    for (const wrong of [...WRONG, ...EXTREME]) {
      const name = path.join('.');
      const state = replaced(good, path, wrong) as VcpuState;
      const outcome = codeOf(() => vcpu.restore(state));
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      if (outcome === 'done') {
        if (!EXTREME.includes(wrong) && !isLike(state, good, path)) t.fail(`${name} = ${String(wrong)} was taken`);
        vcpu.restore(good);
      } else {
        t.true(outcome === 'INVALID_ARGUMENT' || outcome === 'SYSTEM', `${name}: ${outcome}`);
        if (outcome === 'SYSTEM') t.deepEqual(without(vcpu.save(), TIME), seen, `${name} = ${String(wrong)}`);
      }
    }
  }
  t.deepEqual(without(vcpu.save(), TIME), seen);
  t.true(outcomes.INVALID_ARGUMENT! > 1000 && outcomes.SYSTEM! > 10, JSON.stringify(outcomes));
  t.log(outcomes);
  close();
});

/** Whether the wrong value is one that may stand there: an empty list of MSRs, a missing field that may be. */
function isLike(state: VcpuState, good: VcpuState, path: readonly string[]): boolean {
  const [name] = path;
  if (path.length === 1 && (name === 'msrs' || name === 'cpuid' || name === 'xcrs')) return true;
  return JSON.stringify(Object.keys(state)) === JSON.stringify(Object.keys(good)) && path.length === 0;
}

function codeOf(body: () => unknown): string {
  try {
    body();
    return 'done';
  } catch (error) {
    return (error as MembackingError).code ?? String(error);
  }
}

/** A vCPU or virtual machine of which the call with this number fails, from 0 on, of those that change something. */
function failingAt<Holder extends StateHolder>(
  holder: Holder,
  failing: number,
): { holder: Holder; calls: () => number } {
  let calls = 0;
  const changing = ['writeState', 'writeCpuid'];
  const get = (_: object, name: string) => {
    const method = holder[name as keyof Holder] as (...args: unknown[]) => unknown;
    return (...args: unknown[]) => {
      if (changing.includes(name) && calls++ === failing) throw Object.assign(new Error('refused'), { code: 'EIO' });
      return method.apply(holder, args);
    };
  };
  return { holder: new Proxy({}, { get }) as Holder, calls: () => calls };
}

stateTest('a restore of which any call fails has changed nothing', (t, manager) => {
  const [source, target] = [machine(manager, { irqchip: true }), machine(manager, { irqchip: true })];
  startComputing(source, 7);
  source.vcpu.runToExit();
  source.partition.irqchip = { ...source.partition.irqchip, ioApic: { ...source.partition.irqchip.ioApic, id: 5 } };
  const [state, partitionState] = [source.vcpu.save(), source.partition.save()];
  source.close();
  const before = without(target.vcpu.save(), TIME);
  const raw = native().Vcpu.fromToken(target.vcpu.token);
  let failing = 0;
  for (; ; failing++) {
    const { holder, calls } = failingAt(raw, failing);
    if (refusal(() => restoreVcpu(holder, state, 'the vCPU')) === 'nothing') break;
    t.true(calls() > failing);
    t.deepEqual(without(target.vcpu.save(), TIME), before, `call ${failing}`);
  }
  t.true(failing >= 8);
  t.deepEqual(without(target.vcpu.save(), TIME), without(state, TIME));
  const { irqchip } = target.partition;
  for (failing = 0; ; failing++) {
    const { holder } = failingAt(vmOf(target.partition), failing);
    if (refusal(() => restorePartition(holder, partitionState, 'the partition')) === 'nothing') break;
    t.deepEqual(target.partition.irqchip, irqchip, `call ${failing}`);
  }
  t.is(failing, 5);
  t.is(target.partition.irqchip.ioApic.id, 5);
  raw.close();
  target.close();
});

stateTest('devices that are not there, and states of other versions, are said', (t, manager) => {
  const [bare, whole] = [machine(manager), machine(manager, { irqchip: true })];
  const [vcpuState, state] = [whole.vcpu.save(), whole.partition.save()];
  t.deepEqual(
    [
      () => bare.vcpu.restore(vcpuState),
      () => whole.vcpu.restore(bare.vcpu.save()),
      () => bare.partition.restore(state),
      () => whole.partition.restore(bare.partition.save()),
      () => whole.vcpu.restore({ ...vcpuState, version: 2 } as never),
      () => whole.partition.restore({} as never),
      () => whole.partition.restore({ ...state, pit: { ...state.pit!, channels: [] } }),
    ].map(refusal),
    [
      'INVALID_ARGUMENT: state.localApic is of a device that is not there: call createIrqchip before the vCPU is made',
      'INVALID_ARGUMENT: state.localApic is missing',
      'INVALID_ARGUMENT: state.irqchip is of a device that is not there: call createIrqchip',
      'INVALID_ARGUMENT: state.irqchip is missing',
      'INVALID_ARGUMENT: state.version must be 1: this package knows no other',
      'INVALID_ARGUMENT: state.version must be 1: this package knows no other',
      'INVALID_ARGUMENT: state.pit.channels must be an array of 3',
    ],
  );
  for (const read of [() => bare.partition.irqchip, () => bare.partition.pit]) t.throws(read, { code: 'SYSTEM' });
  bare.close();
  whole.close();
});

stateTest('devices that are made too late, or twice, are told of with what to do', (t, manager) => {
  const { partition, close } = machine(manager);
  t.throws(() => partition.createIrqchip(), { code: 'SYSTEM', message: /made before the first vCPU$/ });
  close();
  const second = KvmPartition.open();
  second.createIrqchip();
  t.throws(() => second.createIrqchip(), { code: 'SYSTEM', message: /already$/ });
  second.close();
});

// ---- One by one --------------------------------------------------------------------------------

stateTest('each part of the state is read, changed in part, and read back', (t, manager) => {
  const { vcpu, partition, close } = machine(manager, { irqchip: true });
  startComputing({ vcpu }, 1);
  vcpu.fpu = { controlWord: 0x27f };
  t.is(vcpu.fpu.controlWord, 0x27f);
  vcpu.debugRegisters = { addresses: [1n, 2n, 3n, 4n] };
  t.deepEqual(vcpu.debugRegisters.addresses, [1n, 2n, 3n, 4n]);
  vcpu.events = { nmi: { injected: 0, pending: 1, masked: 0 }, flags: 1 };
  t.is(vcpu.events.nmi.pending, 1);
  vcpu.mpState = 'halted';
  t.is(vcpu.mpState, 'halted');
  const { xsave, xcrs, localApic, tscKhz } = vcpu;
  Object.assign(vcpu, { xsave, xcrs, localApic, tscKhz });
  t.deepEqual([vcpu.xsave, vcpu.xcrs, vcpu.tscKhz], [xsave, xcrs, tscKhz]);
  const [LSTAR, MISSING] = [0xc0000082, 0x12345];
  t.true(vcpu.msrIndices().includes(LSTAR));
  vcpu.writeMsrs([{ index: LSTAR, value: 0x1234n }]);
  t.deepEqual(vcpu.readMsrs([LSTAR]), [{ index: LSTAR, value: 0x1234n }]);
  t.throws(() => vcpu.readMsrs([LSTAR, MISSING]), { code: 'SYSTEM', message: /0x12345 be read/ });
  const irqchip = partition.irqchip;
  partition.irqchip = { ...irqchip, ioApic: { ...irqchip.ioApic, id: 3 } };
  t.is(partition.irqchip.ioApic.id, 3);
  const { pit } = partition;
  partition.pit = { ...pit, flags: 1 };
  t.is(partition.pit.flags, 1);
  partition.clock = { ...partition.clock, nanoseconds: 10n ** 15n, flags: 0 };
  t.true(partition.clock.nanoseconds >= 10n ** 15n);
  close();
});

stateTest('messages, routes and eventfds reach the local APIC of a vCPU', async (t, manager) => {
  const { vcpu, partition, close } = machine(manager, { irqchip: true });
  const [REQUESTS, SPURIOUS] = [0x200, 0xf0];
  const apic = vcpu.localApic;
  apic.set([0xff, 1], SPURIOUS); // switched on
  vcpu.localApic = apic;
  const isRequested = (vector: number) => {
    const word = new DataView(vcpu.localApic.buffer).getUint32(REQUESTS + (vector >> 5) * 16, true);
    return ((word >>> (vector & 31)) & 1) === 1;
  };
  t.true(partition.signalMsi({ address: 0xfee00000n, data: 0x41 }));
  t.true(isRequested(0x41));
  partition.setGsiRoutes([
    { gsi: 30, address: 0xfee00000n, data: 0x52 },
    { gsi: 4, chip: 'ioApic', pin: 4 },
  ]);
  const bell = EventFd.create();
  const { fd } = bell;
  partition.addIrqfd({ gsi: 30, fd });
  t.throws(() => partition.addIrqfd({ gsi: 30, fd }), { code: 'SYSTEM', message: /EBUSY/ });
  t.false(isRequested(0x52));
  bell.signal();
  for (let waited = 0; waited < 200 && !isRequested(0x52); waited++) await new Promise((done) => setTimeout(done, 5));
  t.true(isRequested(0x52));
  partition.removeIrqfd({ gsi: 30, fd });
  t.deepEqual(partition.save().gsiRoutes?.length, 2);
  t.throws(() => partition.addIrqfd({ gsi: 30, fd: 0 }), { code: 'SYSTEM' });
  bell.close();
  close();
});
