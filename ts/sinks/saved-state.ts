// State of vCPUs and virtual machines, saved as plain data and restored: all of it, or nothing.

import { MembackingError } from '../core/errors.ts';
import * as kvm from '../core/kvm-state.ts';
import type { SystemError, Vcpu, Vm } from '../core/native.ts';
import { bytes, type Codec } from '../core/struct.ts';
import * as validate from '../core/validate.ts';
import { type CpuidEntry, checkedCpuid, decodeCpuid, encodeCpuid } from './cpuid-entries.ts';

/** Version of saved states: another is refused. */
const VERSION = 1;

/** State of a vCPU, as `Vcpu.save` gives it: plain data for `structuredClone`, `postMessage` and `v8.serialize`. */
export interface VcpuState {
  /** Form of the state. */
  readonly version: 1;
  /** Answers of CPUID. */
  readonly cpuid: readonly Readonly<CpuidEntry>[];
  /** Frequency of its time stamp counter, in kHz. */
  readonly tscKhz: number;
  /** Phase of its life. */
  readonly mpState: kvm.MpState;
  /** General registers. */
  readonly registers: kvm.Registers;
  /** Segments, tables and control registers. */
  readonly specialRegisters: kvm.SpecialRegisters;
  /** Extended control registers. */
  readonly xcrs: readonly kvm.Xcr[];
  /** Everything that XSAVE saves, in its form. */
  readonly xsave: Uint8Array;
  /** Debug registers. */
  readonly debugRegisters: kvm.DebugRegisters;
  /** Registers of the local APIC; missing where the interrupt controllers are not KVM's. */
  readonly localApic?: Uint8Array;
  /** Model-specific registers, as many as KVM lists and this vCPU has. */
  readonly msrs: readonly kvm.Msr[];
  /** Events that wait for it, or that it is in. */
  readonly events: kvm.VcpuEvents;
}

/** State of a virtual machine beside its memory and its vCPUs, as `KvmPartition.save` gives it: plain data. */
export interface PartitionState {
  /** Form of the state. */
  readonly version: 1;
  /** The clock that KVM gives its guests. */
  readonly clock: kvm.ClockState;
  /** Interrupt controllers; missing where they are not KVM's. */
  readonly irqchip?: IrqchipState;
  /** Timer; missing where it is not KVM's. */
  readonly pit?: kvm.PitState;
  /** Routes that were set; missing for those that KVM begins with. */
  readonly gsiRoutes?: readonly kvm.GsiRoute[];
}

/** State of the interrupt controllers. */
export interface IrqchipState {
  /** The first 8259. */
  readonly pic0: kvm.PicState;
  /** The second 8259. */
  readonly pic1: kvm.PicState;
  /** The I/O APIC. */
  readonly ioApic: kvm.IoApicState;
}

type Step = () => void;

// ---- vCPUs -------------------------------------------------------------------------------------

/** Reads the state of a vCPU. Precondition: no instruction is half done. */
export function saveVcpu(vcpu: Vcpu): VcpuState {
  const read = <Value>(name: string, codec: Codec<Value>) => kvm.readState(vcpu, { name, codec });
  const localApic = whereThereIsOne(() => read('localApic', kvm.LOCAL_APIC));
  return {
    version: VERSION,
    cpuid: decodeCpuid(vcpu.readCpuid()),
    tscKhz: read('tscKhz', kvm.TSC_KHZ),
    mpState: read('mpState', kvm.MP_STATE),
    registers: read('registers', kvm.REGISTERS),
    specialRegisters: read('specialRegisters', kvm.SPECIAL_REGISTERS),
    xcrs: read('xcrs', kvm.XCRS),
    xsave: read('xsave', bytes(vcpu.stateSize('xsave'))),
    debugRegisters: read('debugRegisters', kvm.DEBUG_REGISTERS),
    ...(localApic === undefined ? {} : { localApic }),
    msrs: readableMsrs(vcpu),
    events: read('events', kvm.EVENTS),
  };
}

const VCPU_FIELDS = [
  ...(['version', 'cpuid', 'tscKhz', 'mpState', 'registers', 'specialRegisters', 'xcrs', 'xsave'] as const),
  ...(['debugRegisters', 'localApic', 'msrs', 'events'] as const),
];

/** The state in its one form. Throws INVALID_ARGUMENT. */
export function checkedVcpuState(value: unknown, vcpu: Vcpu): VcpuState {
  const given = checkedFields(value, VCPU_FIELDS);
  const apic = whereThereIsOne(() => kvm.readState(vcpu, { name: 'localApic', codec: kvm.LOCAL_APIC }));
  checkPresence(given.localApic, apic, 'localApic', 'createIrqchip before the vCPU is made');
  const check = <Value>(name: keyof VcpuState, codec: Codec<Value>) => codec.check(given[name], `state.${name}`);
  return {
    version: VERSION,
    cpuid: checkedCpuid(given.cpuid as CpuidEntry[]),
    tscKhz: check('tscKhz', kvm.TSC_KHZ),
    mpState: check('mpState', kvm.MP_STATE),
    registers: check('registers', kvm.REGISTERS),
    specialRegisters: check('specialRegisters', kvm.SPECIAL_REGISTERS),
    xcrs: check('xcrs', kvm.XCRS),
    xsave: check('xsave', bytes(vcpu.stateSize('xsave'))),
    debugRegisters: check('debugRegisters', kvm.DEBUG_REGISTERS),
    ...(apic === undefined ? {} : { localApic: check('localApic', kvm.LOCAL_APIC) }),
    msrs: kvm.checkedMsrs(given.msrs, 'state.msrs'),
    events: check('events', kvm.EVENTS),
  };
}

/** Restores a vCPU. Precondition: the state was checked, and no instruction is half done. */
export function restoreVcpu(vcpu: Vcpu, state: VcpuState, what: string): void {
  const before = saveVcpu(vcpu);
  carryOut(vcpuSteps(vcpu, state, what), vcpuSteps(vcpu, before, what), what);
}

/** Calls that restore a vCPU, in KVM's order: what others are checked against comes first. */
function vcpuSteps(vcpu: Vcpu, state: VcpuState, what: string): Step[] {
  const write =
    <Value>(name: string, codec: Codec<Value>, value: Value) =>
    () =>
      kvm.writeState(vcpu, { name, codec }, value);
  const change =
    <Value>(name: string, codec: Codec<Value>, value: Value) =>
    () => {
      if (kvm.readState(vcpu, { name, codec }) !== value) kvm.writeState(vcpu, { name, codec }, value);
    };
  const { localApic, xcrs } = state;
  return [
    () => vcpu.writeCpuid(encodeCpuid(state.cpuid)),
    change('tscKhz', kvm.TSC_KHZ, state.tscKhz),
    change('mpState', kvm.MP_STATE, state.mpState),
    write('registers', kvm.REGISTERS, state.registers),
    write('specialRegisters', kvm.SPECIAL_REGISTERS, state.specialRegisters),
    xcrs.length === 0 ? () => {} : write('xcrs', kvm.XCRS, xcrs),
    write('xsave', bytes(state.xsave.length), state.xsave),
    write('debugRegisters', kvm.DEBUG_REGISTERS, state.debugRegisters),
    localApic === undefined ? () => {} : write('localApic', kvm.LOCAL_APIC, localApic),
    () => changeMsrs(vcpu, state.msrs, what),
    write('events', kvm.EVENTS, state.events),
  ];
}

/** Registers of a guest's state, as many as this vCPU has. */
function readableMsrs(vcpu: Vcpu): kvm.Msr[] {
  const indices = kvm.readMsrIndices(vcpu);
  const msrs: kvm.Msr[] = [];
  for (let next = 0; next < indices.length; next++) {
    const read = kvm.readMsrs(vcpu, indices.slice(next));
    msrs.push(...read);
    next += read.length;
  }
  return msrs;
}

/** Writes the registers that have another value: some may be read only. */
function changeMsrs(vcpu: Vcpu, msrs: readonly kvm.Msr[], what: string): void {
  const now = new Map(readableMsrs(vcpu).map(({ index, value }) => [index, value]));
  const changed = msrs.filter(({ index, value }) => now.get(index) !== value);
  const done = kvm.writeMsrs(vcpu, changed);
  if (done < changed.length) throw kvm.msrRefused(what, changed[done]!.index, 'written');
}

// ---- Virtual machines --------------------------------------------------------------------------

export function savePartition(vm: Vm, gsiRoutes: readonly kvm.GsiRoute[] | undefined): PartitionState {
  const irqchip = whereThereIsOne(() => readIrqchip(vm));
  const pit = whereThereIsOne(() => kvm.readState(vm, { name: 'pit', codec: kvm.PIT }));
  return {
    version: VERSION,
    clock: kvm.readState(vm, { name: 'clock', codec: kvm.CLOCK }),
    ...(irqchip === undefined ? {} : { irqchip }),
    ...(pit === undefined ? {} : { pit }),
    ...(gsiRoutes === undefined ? {} : { gsiRoutes }),
  };
}

/** Whether the interrupt controllers are KVM's. */
export function hasIrqchip(vm: Vm): boolean {
  return whereThereIsOne(() => kvm.readState(vm, { name: 'pic0', codec: kvm.PIC })) !== undefined;
}

export function readIrqchip(vm: Vm): IrqchipState {
  return {
    pic0: kvm.readState(vm, { name: 'pic0', codec: kvm.PIC }),
    pic1: kvm.readState(vm, { name: 'pic1', codec: kvm.PIC }),
    ioApic: kvm.readState(vm, { name: 'ioApic', codec: kvm.IO_APIC }),
  };
}

/** The state in its one form. Throws INVALID_ARGUMENT. */
export function checkedPartitionState(value: unknown, vm: Vm): PartitionState {
  const given = checkedFields(value, ['version', 'clock', 'irqchip', 'pit', 'gsiRoutes'] as const);
  const { irqchip, pit } = savePartition(vm, undefined);
  checkPresence(given.irqchip, irqchip, 'irqchip', 'createIrqchip');
  checkPresence(given.pit, pit, 'pit', 'createPit');
  return {
    version: VERSION,
    clock: kvm.CLOCK.check(given.clock, 'state.clock'),
    ...(irqchip === undefined ? {} : { irqchip: checkedIrqchip(given.irqchip, 'state.irqchip') }),
    ...(pit === undefined ? {} : { pit: kvm.PIT.check(given.pit, 'state.pit') }),
    ...(given.gsiRoutes === undefined ? {} : { gsiRoutes: kvm.checkedRoutes(given.gsiRoutes, 'state.gsiRoutes') }),
  };
}

export function checkedIrqchip(value: unknown, name: string): IrqchipState {
  const given = validate.options<Partial<IrqchipState>>(value ?? (null as never), ['pic0', 'pic1', 'ioApic'], name);
  return {
    pic0: kvm.PIC.check(given.pic0, `${name}.pic0`),
    pic1: kvm.PIC.check(given.pic1, `${name}.pic1`),
    ioApic: kvm.IO_APIC.check(given.ioApic, `${name}.ioApic`),
  };
}

/** Restores a virtual machine. Precondition: the state was checked. */
export function restorePartition(vm: Vm, state: PartitionState, what: string): void {
  const before = savePartition(vm, undefined);
  carryOut(partitionSteps(vm, state), partitionSteps(vm, before), what);
}

export function irqchipSteps(vm: Vm, irqchip: IrqchipState): Step[] {
  return [
    () => kvm.writeState(vm, { name: 'pic0', codec: kvm.PIC }, irqchip.pic0),
    () => kvm.writeState(vm, { name: 'pic1', codec: kvm.PIC }, irqchip.pic1),
    () => kvm.writeState(vm, { name: 'ioApic', codec: kvm.IO_APIC }, irqchip.ioApic),
  ];
}

/** Calls that restore a virtual machine. Routes come last, as those that were before are not known. */
function partitionSteps(vm: Vm, { clock, irqchip, pit, gsiRoutes }: PartitionState): Step[] {
  return [
    ...(irqchip === undefined ? [] : irqchipSteps(vm, irqchip)),
    ...(pit === undefined ? [] : [() => kvm.writeState(vm, { name: 'pit', codec: kvm.PIT }, pit)]),
    // Without flags, the clock goes on from what it showed.
    () => kvm.writeState(vm, { name: 'clock', codec: kvm.CLOCK }, { ...clock, flags: 0 }),
    ...(gsiRoutes === undefined ? [] : [() => kvm.writeRoutes(vm, gsiRoutes)]),
  ];
}

// ---- Both --------------------------------------------------------------------------------------

/** Takes every step; or, when one throws, puts back what those up to it have changed. */
export function carryOut(steps: readonly Step[], back: readonly Step[], what: string): void {
  let begun = 0;
  try {
    for (const step of steps) {
      begun++;
      step();
    }
  } catch (error) {
    try {
      for (const step of back.slice(0, begun)) step();
    } catch (cause) {
      const message = `${what} has a part of another state, which could not be taken back: do not run it any more`;
      throw new MembackingError('SYSTEM', message, { cause });
    }
    throw error;
  }
}

/** Result of a call; undefined where KVM has no such device. */
function whereThereIsOne<Value>(call: () => Value): Value | undefined {
  try {
    return call();
  } catch (error) {
    const { code } = error as SystemError;
    if (code === 'ENXIO' || code === 'EINVAL') return undefined;
    throw error;
  }
}

/** An object of a version that is known, with no other fields. */
function checkedFields<Name extends string>(value: unknown, names: readonly Name[]): Partial<Record<Name, unknown>> {
  const given = validate.options<Partial<Record<Name, unknown>>>(value ?? (null as never), names, 'state');
  const { version } = given as { version?: unknown };
  if (version === VERSION) return given;
  throw validate.invalid(`state.version must be ${VERSION}: this package knows no other`);
}

/** Refuses a state that has a device which is not there, and the other way round. */
function checkPresence(given: unknown, there: unknown, name: string, remedy: string): void {
  if ((given === undefined) === (there === undefined)) return;
  const words = given === undefined ? 'is missing' : `is of a device that is not there: call ${remedy}`;
  throw validate.invalid(`state.${name} ${words}`);
}
