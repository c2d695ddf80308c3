// vCPUs of KVM: how they run, their state, and all of it saved and restored.

import { MembackingError } from '../core/errors.ts';
import { Handle } from '../core/handle.ts';
import { KVM_EXIT } from '../core/kvm-numbers.ts';
import * as kvm from '../core/kvm-state.ts';
import { type Vcpu as AddonVcpu, native } from '../core/native.ts';
import { bytes as bytesOf, type Codec, type StructCodec } from '../core/struct.ts';
import { systemError, wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import { type CoalescedWrite, decodeWrites } from './coalesced.ts';
import { type CpuidEntry, decodeCpuid } from './cpuid-entries.ts';
import { checkedVcpuState, restoreVcpu, saveVcpu, type VcpuState } from './saved-state.ts';
import { type Exit, VcpuExit } from './vcpu-exit.ts';

/** A virtual processor. Only one thread at a time runs it; another gets VCPU_RUNNING. Each member that reads or writes
 *  its state throws SYSTEM where KVM refuses. */
export class Vcpu extends Handle {
  /** Number of the vCPU; undefined for one that another thread made. */
  readonly id: number | undefined;
  /** Facts of the last exit, read in place; data to answer it with goes there too. */
  readonly exit: VcpuExit;
  readonly #vcpu: AddonVcpu;

  private constructor(id: number | undefined, vcpu: AddonVcpu) {
    super();
    validate.madeBy('KvmPartition.createVcpu', vcpu);
    this.id = id;
    this.#vcpu = vcpu;
    this.exit = new VcpuExit(vcpu);
  }

  /** @internal Made by KvmPartition. */
  static of(id: number, vcpu: AddonVcpu): Vcpu {
    return new Vcpu(id, vcpu);
  }

  /** The vCPU of another thread of this process, by its `token`, while that handle is open. Throws CLOSED. */
  static fromToken(token: bigint): Vcpu {
    const checked = validate.u64(token, 'token');
    return systemError('there is no such vCPU', () => new Vcpu(undefined, native().Vcpu.fromToken(checked)));
  }

  protected override get what(): string {
    return this.id === undefined ? 'the vCPU of another thread' : `vCPU ${this.id}`;
  }

  /** The vCPU's descriptor, for ioctls that this package does not make, while it does not run; it is this object's to
   *  close. */
  get fd(): number {
    this.checkOpen();
    return this.#vcpu.fd;
  }

  /** Token for `Vcpu.fromToken` in another thread of this process, to which it can be posted. Nobody guesses it. */
  get token(): bigint {
    this.checkOpen();
    return this.#vcpu.token;
  }

  /** Runs the guest on this thread until an exit, and returns its reason (KVM_EXIT). Throws SYSTEM: EBUSY while this
   *  thread holds the partition paused, EBADF when the partition was closed before: closing ends a run as `kicked`. */
  run(): number {
    try {
      return this.#vcpu.run();
    } catch (error) {
      throw wrapped(this.what, error);
    }
  }

  /** `run`, with the exit as an object. */
  runToExit(): Exit {
    this.run();
    return this.exit.describe();
  }

  /** `runToExit` on a thread of its own. */
  async runAsync(): Promise<Exit> {
    try {
      await this.#vcpu.runAsync();
    } catch (error) {
      throw wrapped(this.what, error);
    }
    return this.exit.describe();
  }

  /** Takes the writes of the guest that were kept because of `Region.coalesceWrites`, of all vCPUs of the partition, in
   *  order. To be asked before each exit is answered, as devices rely on the order of accesses; and
   *  before the map is changed, as GPAs are those of their time. A write that KVM has no room for exits: it keeps about
   *  170. Any vCPU of the partition gives all of them, in any thread. Throws SYSTEM. */
  takeWrites(): CoalescedWrite[] {
    this.checkOpen();
    return systemError(this.what, () => decodeWrites(this.#vcpu.takeWrites()));
  }

  /** Finishes the instruction that the last exit interrupted, and does not go on: returns KVM_EXIT.INTR, or another
   *  exit if it has more to ask. Before that, registers are those of an instruction half done. */
  finish(): number {
    return systemError(this.what, () => this.#vcpu.finish());
  }

  /** Ends the run that is going on, or else the next one, as `kicked`. May be called from any thread. */
  kick(): void {
    this.checkOpen();
    this.#vcpu.kick();
  }

  // State, as it is now: what is read is a frozen copy. Of structs, a setter changes the fields that are given; one
  // within another is given whole. Throws SYSTEM where KVM refuses; VCPU_RUNNING.

  /** General registers. */
  get registers(): kvm.Registers {
    return this.#read('registers', kvm.REGISTERS);
  }
  set registers(changes: Partial<kvm.Registers>) {
    this.#change('registers', kvm.REGISTERS, changes);
  }
  /** Segments, tables and control registers. */
  get specialRegisters(): kvm.SpecialRegisters {
    return this.#read('specialRegisters', kvm.SPECIAL_REGISTERS);
  }
  set specialRegisters(changes: Partial<kvm.SpecialRegisters>) {
    this.#change('specialRegisters', kvm.SPECIAL_REGISTERS, changes);
  }
  /** Registers of the x87 unit and of SSE; `xsave` has them too, and all others. */
  get fpu(): kvm.FpuState {
    return this.#read('fpu', kvm.FPU);
  }
  set fpu(changes: Partial<kvm.FpuState>) {
    this.#change('fpu', kvm.FPU, changes);
  }
  /** Everything that the XSAVE instruction saves, in its form. As large as this machine has it. */
  get xsave(): Uint8Array {
    return this.#read('xsave', this.#xsaveBytes());
  }
  set xsave(bytes: Uint8Array) {
    this.#write('xsave', this.#xsaveBytes(), bytes);
  }
  /** Extended control registers. */
  get xcrs(): readonly kvm.Xcr[] {
    return this.#read('xcrs', kvm.XCRS);
  }
  set xcrs(xcrs: readonly kvm.Xcr[]) {
    this.#write('xcrs', kvm.XCRS, xcrs);
  }
  /** Debug registers. */
  get debugRegisters(): kvm.DebugRegisters {
    return this.#read('debugRegisters', kvm.DEBUG_REGISTERS);
  }
  set debugRegisters(changes: Partial<kvm.DebugRegisters>) {
    this.#change('debugRegisters', kvm.DEBUG_REGISTERS, changes);
  }
  /** Registers of the local APIC, as its page has them: EINVAL where `createIrqchip` was not called. */
  get localApic(): Uint8Array {
    return this.#read('localApic', kvm.LOCAL_APIC);
  }
  set localApic(page: Uint8Array) {
    this.#write('localApic', kvm.LOCAL_APIC, page);
  }
  /** Phase of its life, where the interrupt controllers are KVM's; else it is always runnable. */
  get mpState(): kvm.MpState {
    return this.#read('mpState', kvm.MP_STATE);
  }
  set mpState(state: kvm.MpState) {
    this.#write('mpState', kvm.MP_STATE, state);
  }
  /** Events that wait for it, or that it is in. */
  get events(): kvm.VcpuEvents {
    return this.#read('events', kvm.EVENTS);
  }
  set events(changes: Partial<kvm.VcpuEvents>) {
    this.#change('events', kvm.EVENTS, changes);
  }
  /** Frequency of its time stamp counter, in kHz. Another than the machine's needs KVM_CAP.TSC_CONTROL. */
  get tscKhz(): number {
    return this.#read('tscKhz', kvm.TSC_KHZ);
  }
  set tscKhz(kilohertz: number) {
    this.#write('tscKhz', kvm.TSC_KHZ, kilohertz);
  }

  /** Indices of the model-specific registers that are a part of a guest's state, as KVM lists them. */
  msrIndices(): number[] {
    return systemError(this.what, () => kvm.readMsrIndices(this.#vcpu));
  }

  /** Model-specific registers, in the order of `indices`. Throws SYSTEM at the first that this vCPU has not. */
  readMsrs(indices: readonly number[]): kvm.Msr[] {
    const checked = kvm.checkedMsrIndices(indices, 'indices');
    return systemError(this.what, () => {
      const msrs = kvm.readMsrs(this.#vcpu, checked);
      if (msrs.length < checked.length) throw kvm.msrRefused(this.what, checked[msrs.length]!, 'read');
      return msrs;
    });
  }

  /** Writes model-specific registers, in order. Throws SYSTEM at the first that KVM refuses: those before are
   *  written. */
  writeMsrs(msrs: readonly kvm.Msr[]): void {
    const checked = kvm.checkedMsrs(msrs, 'msrs');
    systemError(this.what, () => {
      const done = kvm.writeMsrs(this.#vcpu, checked);
      if (done < checked.length) throw kvm.msrRefused(this.what, checked[done]!.index, 'written');
    });
  }

  /** All of its state, as plain data that can be cloned, posted and kept. An instruction that an exit has interrupted
   *  is finished first, with the answer that was given, also while this thread holds the partition paused; throws
   *  IN_USE where it has more to ask: then run it on. Throws SYSTEM, VCPU_RUNNING. */
  save(): VcpuState {
    this.#finishWhole('saved');
    return systemError(this.what, () => saveVcpu(this.#vcpu));
  }

  /** Makes its state what `save` gave, of this vCPU or of another with the same number on a machine like this. The
   *  guest's memory and the partition's state are to be the same, too. Throws INVALID_ARGUMENT for what is no such
   *  state, SYSTEM where KVM refuses a part of it (CPUID of a vCPU that has run already, say): its state is what it was
   *  then. */
  restore(state: VcpuState): void {
    const checked = systemError(this.what, () => checkedVcpuState(state, this.#vcpu));
    this.#finishWhole('restored');
    systemError(this.what, () => restoreVcpu(this.#vcpu, checked, this.what));
  }

  /** CPUID as it answers now; some bits follow other registers, as hardware's do. */
  get cpuid(): CpuidEntry[] {
    return systemError(this.what, () => decodeCpuid(this.#vcpu.readCpuid()));
  }

  #finishWhole(deed: string): void {
    if (this.finish() === KVM_EXIT.INTR) return;
    const message = `${this.what} cannot be ${deed} in the middle of an instruction: answer its exit, and run it on`;
    throw new MembackingError('IN_USE', message);
  }

  #xsaveBytes(): Codec<Uint8Array> {
    return bytesOf(systemError(this.what, () => this.#vcpu.stateSize('xsave')));
  }

  #read<Value>(name: string, codec: Codec<Value>): Value {
    return systemError(this.what, () => kvm.readState(this.#vcpu, { name, codec }));
  }

  #write<Value>(name: string, codec: Codec<Value>, value: Value): void {
    const checked = codec.check(value, name);
    systemError(this.what, () => kvm.writeState(this.#vcpu, { name, codec }, checked));
  }

  #change<Value>(name: string, codec: StructCodec<Value>, changes: Partial<Value>): void {
    const checked = codec.checkSome(changes, name);
    systemError(this.what, () => kvm.changeState(this.#vcpu, { name, codec }, checked));
  }

  protected override release(): void {
    this.#vcpu.close();
  }
}
