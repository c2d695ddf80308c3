// KVM: a partition and its vCPUs.

import { Handle } from './handle.ts';
import {
  type Exit,
  getRegisters,
  getSpecialRegisters,
  type Kvm,
  native,
  type Registers,
  type SpecialRegisters,
  setRegisters,
  setSpecialRegisters,
  type Vcpu as AddonVcpu,
  VcpuExit,
  type Vm,
} from './native.ts';
import type { PartitionFacts } from './partition.ts';
import { systemError } from './system.ts';
import * as validate from './validate.ts';

/** A virtual machine of KVM. */
export class KvmPartition extends Handle implements PartitionFacts {
  readonly name: string;
  readonly slotLimit: number;
  /** @internal */
  readonly vm: Vm;
  readonly #kvm: Kvm;

  private constructor(name: string, kvm: Kvm, vm: Vm) {
    super();
    this.name = name;
    this.#kvm = kvm;
    this.vm = vm;
    this.slotLimit = vm.slotLimit;
  }

  /** Throws SYSTEM: ENOENT where there is no KVM, EACCES where this user may not use it. */
  static open(options?: { readonly name?: string }): KvmPartition {
    const { name = 'kvm' } = validate.options(options, ['name'], 'KvmPartition.open');
    const checkedName = validate.text(name, 'name');
    return systemError('a KVM virtual machine cannot be made', () => {
      const kvm = native().Kvm.open();
      try {
        return new KvmPartition(checkedName, kvm, kvm.createVm());
      } catch (error) {
        kvm.close();
        throw error;
      }
    });
  }

  protected override get what(): string {
    return `partition "${this.name}"`;
  }

  /** KVM_CHECK_EXTENSION on the virtual machine: 0 is no, more is yes or how many. */
  checkExtension(capability: number): number {
    this.checkOpen();
    return systemError(this.what, () => this.vm.checkExtension(capability));
  }

  /** A vCPU that has the CPUID features of this machine. Throws SYSTEM. */
  createVcpu(id: number): Vcpu {
    this.checkOpen();
    return systemError(`vCPU ${id} cannot be made`, () => {
      const vcpu = this.vm.createVcpu(validate.integer(id, 'id', 0, 0x7fffffff));
      vcpu.setSupportedCpuid();
      return new Vcpu(id, vcpu);
    });
  }

  /** Makes all its vCPUs stop running the guest, and waits until they have. */
  pause(): void {
    this.vm.pause();
  }

  /** Lets them go on. */
  resume(): void {
    this.vm.resume();
  }

  protected override release(): void {
    this.vm.close();
    this.#kvm.close();
  }
}

/** A virtual processor. Only one thread at a time runs it. */
export class Vcpu extends Handle {
  readonly id: number;
  /** Facts of the last exit, read in place; data to answer it with goes there too. */
  readonly exit: VcpuExit;
  readonly #vcpu: AddonVcpu;

  /** @internal Made by KvmPartition. */
  constructor(id: number, vcpu: AddonVcpu) {
    super();
    this.id = id;
    this.#vcpu = vcpu;
    this.exit = new VcpuExit(vcpu);
  }

  /** The vCPU of another thread of this process, by its `token`, while that handle is open. */
  static fromToken(token: number): Vcpu {
    return systemError('there is no such vCPU', () => new Vcpu(-1, native().Vcpu.fromToken(token)));
  }

  protected override get what(): string {
    return `vCPU ${this.id}`;
  }

  /** For `Vcpu.fromToken` in another thread. */
  get token(): number {
    this.checkOpen();
    return this.#vcpu.token;
  }

  /** Runs the guest on this thread until an exit, and returns its reason (KVM_EXIT). */
  run(): number {
    return this.#vcpu.run();
  }

  /** The same, with the exit as an object. */
  runToExit(): Exit {
    systemError(this.what, () => this.#vcpu.run());
    return this.exit.describe();
  }

  /** The same on a thread of its own. */
  async runAsync(): Promise<Exit> {
    this.checkOpen();
    await this.#vcpu.runAsync();
    return this.exit.describe();
  }

  /** From any thread: the run that is going on, or else the next one, ends as `kicked`. */
  kick(): void {
    this.checkOpen();
    this.#vcpu.kick();
  }

  get registers(): Registers {
    return systemError(this.what, () => getRegisters(this.#vcpu));
  }
  /** Those that are given change. */
  set registers(changes: Partial<Registers>) {
    systemError(this.what, () => setRegisters(this.#vcpu, changes));
  }
  get specialRegisters(): SpecialRegisters {
    return systemError(this.what, () => getSpecialRegisters(this.#vcpu));
  }
  set specialRegisters(changes: Partial<SpecialRegisters>) {
    systemError(this.what, () => setSpecialRegisters(this.#vcpu, changes));
  }

  protected override release(): void {
    this.#vcpu.close();
  }
}
