// State of KVM's vCPUs and virtual machines: the structs of linux/kvm.h and asm/kvm.h for x86-64, by the names that the
// addon has for them.

import { formatHex } from './address.ts';
import { MembackingError } from './errors.ts';
import type { StateHolder } from './native.ts';
import { bytes, type Codec, gap, list, type StructCodec, struct, u8, u16, u32, u64, type ValueOf } from './struct.ts';
import * as validate from './validate.ts';

// ---- Registers ---------------------------------------------------------------------------------

// biome-ignore format: in groups, in the kernel's order
export const REGISTERS = struct({
  rax: u64, rbx: u64, rcx: u64, rdx: u64, rsi: u64, rdi: u64, rsp: u64, rbp: u64,
  r8: u64, r9: u64, r10: u64, r11: u64, r12: u64, r13: u64, r14: u64, r15: u64,
  rip: u64, rflags: u64,
});

/** General registers of a vCPU, each of 64 bits. */
export type Registers = ValueOf<typeof REGISTERS>;

// biome-ignore format: in groups, in the kernel's order
const SEGMENT = struct({
  base: u64, limit: u32, selector: u16,
  type: u8, present: u8, dpl: u8, db: u8, s: u8, l: u8, g: u8, avl: u8, unusable: u8, _: gap(1),
});
const TABLE = struct({ base: u64, limit: u16, _: gap(6) });

/** A segment register: its selector, and what the processor has read with it. */
export type Segment = ValueOf<typeof SEGMENT>;

// biome-ignore format: in groups, in the kernel's order
export const SPECIAL_REGISTERS = struct({
  cs: SEGMENT, ds: SEGMENT, es: SEGMENT, fs: SEGMENT, gs: SEGMENT, ss: SEGMENT, tr: SEGMENT, ldt: SEGMENT,
  gdt: TABLE, idt: TABLE,
  cr0: u64, cr2: u64, cr3: u64, cr4: u64, cr8: u64, efer: u64, apicBase: u64,
  _pendingInterrupts: gap(32),
});

/** Segments, tables and control registers of a vCPU. */
export type SpecialRegisters = ValueOf<typeof SPECIAL_REGISTERS>;

// biome-ignore format: in groups, in the kernel's order
export const FPU = struct({
  registers: bytes(128), controlWord: u16, statusWord: u16, tagWord: u8, _1: gap(1), lastOpcode: u16,
  lastInstruction: u64, lastOperand: u64, xmm: bytes(256), mxcsr: u32, _2: gap(4),
});

/** Registers of the x87 unit, 16 bytes each, and of SSE. */
export type FpuState = ValueOf<typeof FPU>;

export const DEBUG_REGISTERS = struct({ addresses: list(4, u64), dr6: u64, dr7: u64, flags: u64, _: gap(72) });

/** Debug registers: DR0 to DR3 are the addresses. */
export type DebugRegisters = ValueOf<typeof DEBUG_REGISTERS>;

const MOST_XCRS = 16;
const XCR = struct({ index: u32, _: gap(4), value: u64 });

/** An extended control register. Number 0 says which state XSAVE has. */
export type Xcr = ValueOf<typeof XCR>;

const XCRS_AT = 8;
/** A list whose length stands before it; its room is fixed. */
export const XCRS: Codec<readonly Xcr[]> = {
  size: XCRS_AT + MOST_XCRS * XCR.size + 128,
  read(view, at) {
    const length = Math.min(view.getUint32(at, true), MOST_XCRS);
    return list(length, XCR).read(view, at + XCRS_AT);
  },
  write(view, at, value) {
    view.setUint32(at, value.length, true);
    list(value.length, XCR).write(view, at + XCRS_AT, value);
  },
  check(value, name) {
    if (Array.isArray(value) && value.length <= MOST_XCRS) return list(value.length, XCR).check(value, name);
    throw validate.invalid(`${name} must be an array of ${MOST_XCRS} at most`);
  },
};

/** A frequency. KVM gives one as the result of a call, where what is negative is an error. */
export const TSC_KHZ: Codec<number> = { ...u32, check: (value, name) => validate.integer(value, name, 1, 0x7fffffff) };

export const LOCAL_APIC = bytes(1024);

/** Names of KVM_MP_STATE_*, by number. */
const MP_STATES = [
  'runnable',
  'uninitialized',
  'init-received',
  'halted',
  'sipi-received',
  ...(['stopped', 'check-stop', 'operating', 'load', 'ap-reset-hold'] as const),
] as const;

/** Phase of a vCPU's life: it runs, or waits for INIT, SIPI or an interrupt. */
export type MpState = (typeof MP_STATES)[number];

export const MP_STATE: Codec<MpState> = {
  size: 4,
  read: (view, at) => validate.oneOf(MP_STATES, MP_STATES[view.getUint32(at, true)], 'the MP state of KVM'),
  write: (view, at, value) => view.setUint32(at, MP_STATES.indexOf(value), true),
  check: (value, name) => validate.oneOf(MP_STATES, value, name),
};

export const EVENTS = struct({
  exception: struct({ injected: u8, number: u8, hasErrorCode: u8, pending: u8, errorCode: u32 }),
  interrupt: struct({ injected: u8, number: u8, isSoft: u8, shadow: u8 }),
  nmi: struct({ injected: u8, pending: u8, masked: u8, _: gap(1) }),
  sipiVector: u32,
  flags: u32,
  smi: struct({ inMode: u8, pending: u8, insideNmi: u8, latchedInit: u8 }),
  tripleFault: u8,
  _: gap(26),
  exceptionHasPayload: u8,
  exceptionPayload: u64,
});

/** Events that wait for a vCPU, or that it is in. Flags are KVM_VCPUEVENT_*: which of them are valid. */
export type VcpuEvents = ValueOf<typeof EVENTS>;

const MSR = struct({ index: u32, _: gap(4), value: u64 });

/** A model-specific register. */
export type Msr = ValueOf<typeof MSR>;

// ---- Interrupt controllers, timer, clock -------------------------------------------------------

const CHIP_AT = 8;
const CHIP_SIZE = 512;

function chip<Value>(state: Codec<Value>): Codec<Value> {
  return {
    size: CHIP_AT + CHIP_SIZE,
    read: (view, at) => state.read(view, at + CHIP_AT),
    write: (view, at, value) => state.write(view, at + CHIP_AT, value),
    check: (value, name) => state.check(value, name),
  };
}

// biome-ignore format: in groups, in the kernel's order
export const PIC = chip(struct({
  lastLines: u8, requests: u8, mask: u8, inService: u8, priorityAdd: u8, base: u8, readSelect: u8, poll: u8,
  specialMask: u8, initState: u8, autoEnd: u8, rotateOnAutoEnd: u8, specialFullyNested: u8, init4: u8,
  levelTriggered: u8, levelTriggeredMask: u8,
}));

/** State of one of the two 8259 interrupt controllers. */
export type PicState = ValueOf<typeof PIC>;

export const IO_APIC = chip(
  struct({ base: u64, selected: u32, id: u32, requests: u32, _: gap(4), redirections: list(24, u64) }),
);

/** State of the I/O APIC. */
export type IoApicState = ValueOf<typeof IO_APIC>;

// biome-ignore format: in groups, in the kernel's order
const PIT_CHANNEL = struct({
  count: u32, latchedCount: u16, countLatched: u8, statusLatched: u8, status: u8, readState: u8, writeState: u8,
  writeLatch: u8, accessMode: u8, mode: u8, bcd: u8, gate: u8, loadedAt: u64,
});

export const PIT = struct({ channels: list(3, PIT_CHANNEL), flags: u32, _: gap(36) });

/** State of the 8254 timer. */
export type PitState = ValueOf<typeof PIT>;

export const CLOCK = struct({ nanoseconds: u64, flags: u32, _1: gap(4), realtime: u64, hostTsc: u64, _2: gap(16) });

/** The clock that KVM gives its guests. Flags are KVM_CLOCK_*: which of `realtime` and `hostTsc` are valid, and 2: the
 *  clock is the same on all vCPUs. */
export type ClockState = ValueOf<typeof CLOCK>;

// ---- Reading and writing -----------------------------------------------------------------------

/** Name of a state, and its shape. */
export interface State<Value> {
  readonly name: string;
  readonly codec: Codec<Value>;
}

export function readState<Value>(holder: StateHolder, { name, codec }: State<Value>): Value {
  return codec.read(readView(holder, name, codec.size), 0);
}

export function writeState<Value>(holder: StateHolder, { name, codec }: State<Value>, value: Value): void {
  holder.writeState(name, encoded(codec, value));
}

/** Changes the fields that are given. */
export function changeState<Value>(
  holder: StateHolder,
  { name, codec }: { readonly name: string; readonly codec: StructCodec<Value> },
  changes: Partial<Value>,
): void {
  const view = readView(holder, name, codec.size);
  codec.writeSome(view, 0, changes);
  holder.writeState(name, bytesOf(view));
}

/** A value as bytes, with zeroes in its gaps. */
export function encoded<Value>(codec: Codec<Value>, value: Value): Uint8Array {
  const view = new DataView(new ArrayBuffer(codec.size));
  codec.write(view, 0, value);
  return bytesOf(view);
}

function readView(holder: StateHolder, name: string, size: number): DataView {
  const view = new DataView(new ArrayBuffer(size));
  holder.readState(name, bytesOf(view));
  return view;
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

// ---- Lists -------------------------------------------------------------------------------------

const LIST_HEAD = 8;

export function checkedMsrs(value: unknown, name: string): readonly Msr[] {
  if (!Array.isArray(value)) throw validate.invalid(`${name} must be an array`);
  return list(value.length, MSR).check(value, name);
}

export function checkedMsrIndices(value: unknown, name: string): readonly number[] {
  if (!Array.isArray(value)) throw validate.invalid(`${name} must be an array`);
  return list(value.length, u32).check(value, name);
}

/** Error for a model-specific register that KVM refuses. */
export function msrRefused(what: string, index: number, deed: 'read' | 'written'): MembackingError {
  const message = `${what}: KVM does not let the model-specific register ${formatHex(index)} be ${deed}`;
  return new MembackingError('SYSTEM', message, { details: { index } });
}

function encodedList<Item>(item: Codec<Item>, items: readonly Item[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(LIST_HEAD + items.length * item.size));
  list(items.length, item).write(view, LIST_HEAD, items);
  return bytesOf(view);
}

/** Values of registers until one cannot be read: fewer than asked for then. */
export function readMsrs(vcpu: StateHolder, indices: readonly number[]): Msr[] {
  const list = encodedList(
    MSR,
    indices.map((index) => ({ index, value: 0n })),
  );
  const done = vcpu.readState('msrs', list);
  const view = new DataView(list.buffer);
  return Array.from({ length: done }, (_, at) => MSR.read(view, LIST_HEAD + at * MSR.size));
}

/** Writes registers until one is refused. How many were written. */
export function writeMsrs(vcpu: StateHolder, msrs: readonly Msr[]): number {
  return vcpu.writeState('msrs', encodedList(MSR, msrs));
}

/** More than any KVM has. */
const MOST_MSRS = 4096;

/** Indices of the registers that KVM saves. */
export function readMsrIndices(holder: StateHolder): number[] {
  const words = new Uint32Array(1 + MOST_MSRS);
  holder.readState('msrIndices', bytesOf(words));
  return [...words.subarray(1, 1 + words[0]!)];
}

const GSI_ROUTE = struct({ gsi: u32, kind: u32, _1: gap(8), first: u32, second: u32, third: u32, _2: gap(20) });

/** A way from a GSI to a controller's pin, or to a message. */
export type GsiRoute =
  | { readonly gsi: number; readonly chip: 'pic0' | 'pic1' | 'ioApic'; readonly pin: number }
  | { readonly gsi: number; readonly address: bigint; readonly data: number };

const CHIPS = ['pic0', 'pic1', 'ioApic'] as const;

export function checkedRoutes(value: unknown, name: string): readonly GsiRoute[] {
  if (!Array.isArray(value)) throw validate.invalid(`${name} must be an array`);
  return value.map((route, index) => {
    const path = `${name}[${index}]`;
    const given = validate.options<Record<string, unknown>>(
      route ?? null,
      ['gsi', 'chip', 'pin', 'address', 'data'],
      path,
    );
    const gsi = u32.check(given.gsi, `${path}.gsi`);
    if (given.chip === undefined) {
      return { gsi, address: u64.check(given.address, `${path}.address`), data: u32.check(given.data, `${path}.data`) };
    }
    return { gsi, chip: validate.oneOf(CHIPS, given.chip, `${path}.chip`), pin: u32.check(given.pin, `${path}.pin`) };
  });
}

export function writeRoutes(vm: StateHolder, routes: readonly GsiRoute[]): void {
  const [toChip, toMessage] = [1, 2];
  const entries = routes.map((route) =>
    'chip' in route
      ? { gsi: route.gsi, kind: toChip, first: CHIPS.indexOf(route.chip), second: route.pin, third: 0 }
      : { gsi: route.gsi, kind: toMessage, ...words(route.address), third: route.data },
  );
  vm.writeState('gsiRoutes', encodedList(GSI_ROUTE, entries));
}

function words(address: bigint): { first: number; second: number } {
  return { first: Number(BigInt.asUintN(32, address)), second: Number(address >> 32n) };
}

const MSI = struct({ address: u64, data: u32, flags: u32, _: gap(16) });

/** A message-signalled interrupt. */
export interface Msi {
  /** Address that it is written to: which local APICs are meant. */
  readonly address: bigint;
  /** Vector and kind, 32 bits. */
  readonly data: number;
}

export function checkedMsi(value: unknown, name: string): Msi {
  const { address, data } = validate.options<Partial<Msi>>(value ?? (null as never), ['address', 'data'], name);
  return { address: u64.check(address, 'address'), data: u32.check(data, 'data') };
}

/** Whether some vCPU took the message. */
export function signalMsi(vm: StateHolder, { address, data }: Msi): boolean {
  return vm.writeState('msi', encoded(MSI, { address, data, flags: 0 })) > 0;
}

const IRQFD = struct({ fd: u32, gsi: u32, flags: u32, resampleFd: u32, _: gap(16) });

/** An eventfd that raises an interrupt line. */
export interface Irqfd {
  /** The eventfd. */
  readonly fd: number;
  /** Number of the line. */
  readonly gsi: number;
  /** An eventfd that KVM writes to when the guest has served the line, which it lowers then: for lines that are
   *  level-triggered. Default: edge-triggered. */
  readonly resampleFd?: number;
}

export function checkedIrqfd(value: unknown, name: string): Irqfd {
  const given = validate.options<Partial<Irqfd>>(value ?? (null as never), ['fd', 'gsi', 'resampleFd'], name);
  const { fd, gsi, resampleFd } = given;
  const checked = { fd: validate.fd(fd, 'fd'), gsi: u32.check(gsi, 'gsi') };
  return resampleFd === undefined ? checked : { ...checked, resampleFd: validate.fd(resampleFd, 'resampleFd') };
}

export function setIrqfd(vm: StateHolder, { fd, gsi, resampleFd }: Irqfd, isAdded: boolean): void {
  const [deassign, resample] = [1, 2];
  const flags = (isAdded ? 0 : deassign) | (resampleFd === undefined ? 0 : resample);
  vm.writeState('irqfd', encoded(IRQFD, { fd, gsi, flags, resampleFd: resampleFd ?? 0 }));
}
