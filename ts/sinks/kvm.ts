// KVM: a partition and its vCPUs.

import { MAX_SLOTS, PAGE_SIZE } from '../../assembly/abi.ts';
import { atOnce, type MayPause, type Pausable } from '../apply/runner.ts';
import { MembackingError } from '../core/errors.ts';
import { Handle } from '../core/handle.ts';
import { KVM_LARGEST_SLOT } from '../core/kvm-limits.ts';
import {
  type Vcpu as AddonVcpu,
  CPUID_FIELDS,
  type CpuidEntry,
  decodeCpuid,
  type Exit,
  encodeCpuid,
  getRegisters,
  getSpecialRegisters,
  KVM_CAP,
  type Kvm,
  native,
  type Registers,
  type SpecialRegisters,
  setRegisters,
  setSpecialRegisters,
  VcpuExit,
  type Vm,
} from '../core/native.ts';
import { obtainedFromSystem, systemError, wrapped } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import { type CpuidOptions, guestCpuid, MOST_CORES, withApicId } from './cpuid.ts';
import type { PartitionFacts } from './partition.ts';
import type { GpaStretch } from './sink.ts';
import { Unpausable } from './unpausable.ts';

/** Pages below 4 GiB. */
interface LowPages extends GpaStretch {
  readonly gpa: number;
  readonly length: number;
}

/** The largest number of a descriptor. */
const MOST_FD = 0x7fffffff;

/** GPA of the page that KVM keeps for the local APICs, where the processor helps with them. */
const APIC_PAGE = 0xfee0_0000;

/** An attachment, as far as its partition needs it. */
interface AttachedTo {
  /** The map. */
  readonly context: object;
  readonly closed: boolean;
  /** Takes the partition's slots out of pages, or gives them back. Throws IN_USE inside a transaction. */
  keep(pages: GpaStretch, kept: boolean): void;
  /** Ends it. Throws IN_USE inside a transaction. */
  letGo(): void;
}

/** Options of `KvmPartition.createVcpu`. */
export interface VcpuOptions {
  /** All that CPUID answers: functions that are not in the list answer as hardware does for those that it has not. */
  readonly cpuid?: readonly Readonly<CpuidEntry>[];
}

/** Options of `KvmPartition.adopt`. */
export interface AdoptOptions extends MayPause {
  /** Name for messages. Default "kvm". */
  readonly name?: string;
  /** The descriptor of /dev/kvm that the virtual machine was made with, which is duplicated. Default: /dev/kvm is
   *  opened. */
  readonly kvmFd?: number;
  /** KVM's number of the first memory slot that is this partition's: those below are its maker's. Default 0. */
  readonly slotBase?: number;
  /** Memory slots from `slotBase` on that are this partition's. Default: all that there are. */
  readonly slotLimit?: number;
}

const ADOPT_OPTIONS = ['name', 'kvmFd', 'slotBase', 'slotLimit', 'pause', 'resume'] as const;

/** The addon's handle of a partition. @internal */
export let vmOf: (partition: KvmPartition) => Vm;

/** A virtual machine of KVM. Closing it ends its attachments; it throws IN_USE inside a transaction of their map. */
export class KvmPartition extends Handle implements PartitionFacts {
  /** Name for messages. */
  readonly name: string;
  readonly slotLimit: number;
  readonly largestSlot = KVM_LARGEST_SLOT;
  /** KVM executes what it can read. */
  readonly canExecuteProtect = false;
  /** @internal */
  readonly attachments = new Set<AttachedTo>();
  readonly #kvm: Kvm;
  readonly #vm: Vm;
  readonly #keptPages: LowPages[] = [];
  /** Monitor that runs vCPUs which are not this partition's; undefined for none. */
  readonly #others: Pausable | undefined;
  #hasIrqchip = false;

  static {
    vmOf = (partition) => partition.#vm;
  }

  private constructor(name: string, kvm: Kvm, vm: Vm, others?: Pausable) {
    super();
    validate.madeBy('KvmPartition.open', vm);
    this.name = name;
    this.#kvm = kvm;
    this.#vm = vm;
    this.#others = others;
    this.slotLimit = vm.slotLimit;
  }

  /** Opens KVM and makes a virtual machine. Throws SYSTEM: ENOENT where there is no KVM, EACCES where this user may not
   *  use it, EOPNOTSUPP on another processor than x86-64. */
  static open(options?: { readonly name?: string }): KvmPartition {
    const { name = 'kvm' } = validate.options(options, ['name'], 'KvmPartition.open');
    const checkedName = validate.text(name, 'name');
    return obtainedFromSystem('a KVM virtual machine cannot be made', () => {
      const kvm = native().Kvm.open();
      try {
        return new KvmPartition(checkedName, kvm, kvm.createVm());
      } catch (error) {
        kvm.close();
        throw error;
      }
    });
  }

  /** A virtual machine that somebody else in this process has made and goes on using, by its descriptor, which is
   *  duplicated: closing the partition takes its own slots away, and nothing else. `pause` and `resume`, both or
   *  neither, hold the vCPUs that others run, as those of a `Partition` do; without them a warning (NO_PAUSE) says when
   *  a guest may miss bytes. A vCPU stays with whoever runs it: there is no `Vcpu.adopt`. Throws SYSTEM: ENOTTY for a
   *  descriptor of something else, ERANGE where there are no such slots; ENOENT, EACCES for /dev/kvm. */
  static adopt(vmFd: number, options?: AdoptOptions): KvmPartition {
    const given = validate.options(options, ADOPT_OPTIONS, 'KvmPartition.adopt');
    const { name = 'kvm', kvmFd, slotBase = 0, slotLimit, pause, resume } = given;
    const checkedName = validate.text(name, 'name');
    const checkedFd = validate.integer(vmFd, 'vmFd', 0, MOST_FD);
    const ofKvm = kvmFd === undefined ? undefined : validate.integer(kvmFd, 'kvmFd', 0, MOST_FD);
    const base = validate.integer(slotBase, 'slotBase', 0, MAX_SLOTS);
    const limit = slotLimit === undefined ? 0 : validate.integer(slotLimit, 'slotLimit', 1, MAX_SLOTS);
    if (typeof pause !== typeof resume || !['function', 'undefined'].includes(typeof pause)) {
      throw validate.invalid('KvmPartition.adopt takes both the functions pause and resume, or neither');
    }
    const others = pause === undefined ? new Unpausable(checkedName) : (given as Pausable);
    return obtainedFromSystem(`descriptor ${checkedFd} cannot be adopted as a KVM virtual machine`, () => {
      const { Kvm } = native();
      const kvm = ofKvm === undefined ? Kvm.open() : Kvm.adopt(ofKvm);
      try {
        return new KvmPartition(checkedName, kvm, kvm.adoptVm(checkedFd, base, limit), others);
      } catch (error) {
        kvm.close();
        throw error;
      }
    });
  }

  protected override get what(): string {
    return `partition "${this.name}"`;
  }

  /** The virtual machine's descriptor, for ioctls that this package does not make; it is the partition's to close. */
  get fd(): number {
    this.checkOpen();
    return this.#vm.fd;
  }

  /** The descriptor of /dev/kvm, for ioctls that this package does not make; it is the partition's to close. */
  get kvmFd(): number {
    this.checkOpen();
    return this.#kvm.fd;
  }

  /** KVM_CHECK_EXTENSION on the virtual machine: 0 is no, more is yes or how many. */
  checkExtension(capability: number): number {
    this.checkOpen();
    const checked = validate.integer(capability, 'capability', 0, 0xffffffff);
    return systemError(this.what, () => this.#vm.checkExtension(checked));
  }

  /** CPUID as it answers by default: everything that this machine and KVM can give a guest, that there is a hypervisor,
   *  and how many cores a package has. A list of the caller's own, to be edited and handed to `createVcpu`; after
   *  `createIrqchip`, where it is called, because it has the local APIC's timer then. Throws SYSTEM. */
  supportedCpuid(options?: CpuidOptions): CpuidEntry[] {
    this.checkOpen();
    const { cores = 1 } = validate.options(options, ['cores'], 'supportedCpuid');
    const checkedCores = validate.integer(cores, 'cores', 1, MOST_CORES);
    return systemError(this.what, () => {
      const hasDeadlineTimer = this.#hasIrqchip && this.#vm.checkExtension(KVM_CAP.TSC_DEADLINE_TIMER) > 0;
      return guestCpuid(decodeCpuid(this.#kvm.readSupportedCpuid()), { cores: checkedCores, hasDeadlineTimer });
    });
  }

  /** Makes a vCPU, to which CPUID answers by the entries of `cpuid`, default `supportedCpuid()`; its APIC ID, which is
   *  `id`, is put in wherever CPUID tells it. Throws SYSTEM; E2BIG for more entries than KVM takes. */
  createVcpu(id: number, options?: VcpuOptions): Vcpu {
    this.checkOpen();
    const checked = validate.integer(id, 'id', 0, 0x7fffffff);
    const { cpuid } = validate.options(options, ['cpuid'], 'createVcpu');
    const entries = cpuid === undefined ? this.supportedCpuid() : checkedCpuid(cpuid);
    return obtainedFromSystem(`vCPU ${checked} cannot be made`, () => {
      const vcpu = this.#vm.createVcpu(checked);
      try {
        vcpu.writeCpuid(encodeCpuid(withApicId(entries, checked)));
        return Vcpu.of(checked, vcpu);
      } catch (error) {
        vcpu.close();
        throw error;
      }
    });
  }

  /** Pages that KVM keeps for itself, whether or not this machine's processor makes it do so: the map gives the guest
   *  no slot there. */
  get keptPages(): readonly GpaStretch[] {
    return [...this.#keptPages];
  }

  /** Makes room for pages of KVM's own, and lets it take them. */
  #keep(pages: LowPages, take: () => void): void {
    const attachment = [...this.attachments].find(({ closed }) => !closed);
    attachment?.keep(pages, true);
    try {
      systemError(this.what, take);
    } catch (error) {
      // Pages that it was given before stay its own.
      const given = this.#keptPages.map(({ gpa, length }) => ({ start: gpa, end: gpa + length }));
      for (let gpa = pages.gpa; gpa < pages.gpa + pages.length; gpa += PAGE_SIZE) {
        if (!given.some(({ start, end }) => gpa >= start && gpa < end))
          attachment?.keep({ gpa, length: PAGE_SIZE }, false);
      }
      throw error;
    }
    this.#keptPages.push(pages);
  }

  // A PC's own devices, in the kernel: to be made before the first vCPU, in this order. Throw SYSTEM.

  /** Tells KVM where to put three pages of its own, below 4 GiB: `keptPages` from now on. */
  setTssAddress(gpa: number): void {
    this.checkOpen();
    const checked = validate.integer(gpa, 'gpa', 0, 0xffffffff);
    const start = checked - (checked % PAGE_SIZE);
    this.#keep({ gpa: start, length: 3 * PAGE_SIZE }, () => this.#vm.setTssAddress(checked));
  }

  /** The interrupt controllers: PICs, I/O APIC, local APICs. */
  createIrqchip(): void {
    this.checkOpen();
    this.#keep({ gpa: APIC_PAGE, length: PAGE_SIZE }, () => this.#vm.createIrqchip());
    this.#hasIrqchip = true;
  }

  /** The timer, with the speaker's port that shows its output. */
  createPit(): void {
    this.checkOpen();
    systemError(this.what, () => this.#vm.createPit());
  }

  /** Raises or lowers an interrupt line of the controllers. */
  setIrqLine(line: number, isRaised: boolean): void {
    this.checkOpen();
    systemError(this.what, () =>
      this.#vm.irqLine(validate.integer(line, 'line', 0, 0xffff), validate.flag(isRaised, 'isRaised')),
    );
  }

  /** Makes all its vCPUs stop running the guest, and waits until they have. Their runs go on at `resume`. Pauses
   *  nest. */
  pause(): void {
    this.checkOpen();
    systemError(this.what, () => this.#vm.pause());
    try {
      atOnce('pause', this.#others?.pause());
    } catch (error) {
      this.#vm.resume();
      throw error;
    }
  }

  /** Takes one `pause` back. Throws NOT_PAUSED. */
  resume(): void {
    this.checkOpen();
    systemError(this.what, () => this.#vm.resume());
    atOnce('resume', this.#others?.resume());
  }

  /** @internal Throws CLOSED; IN_USE while it is attached to another map: each gives out slot numbers of its own. */
  checkAttachable(context: object): void {
    this.checkOpen();
    for (const attachment of this.attachments) {
      if (attachment.context !== context && !attachment.closed) {
        throw new MembackingError(
          'IN_USE',
          `${this.what} is attached to another memory map: close that attachment first`,
        );
      }
    }
  }

  protected override release(): void {
    this.pause(); // no vCPU sees its memory go; runs end when the VM does
    try {
      for (const attachment of [...this.attachments]) attachment.letGo();
    } catch (error) {
      this.resume();
      throw error;
    }
    this.#vm.close();
    this.#kvm.close();
    atOnce('resume', this.#others?.resume());
  }
}

/** A virtual processor. Only one thread at a time runs it; another gets VCPU_RUNNING. */
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

  /** Registers as they are now: a frozen copy. */
  get registers(): Registers {
    return systemError(this.what, () => getRegisters(this.#vcpu));
  }
  /** Changes the registers that are given. */
  set registers(changes: Partial<Registers>) {
    checkShape(changes, this.registers, 'registers');
    systemError(this.what, () => setRegisters(this.#vcpu, changes));
  }
  /** Segments, tables and control registers as they are now: a frozen copy. */
  get specialRegisters(): SpecialRegisters {
    return systemError(this.what, () => getSpecialRegisters(this.#vcpu));
  }
  /** Changes the registers that are given; a segment or table is given whole. */
  set specialRegisters(changes: Partial<SpecialRegisters>) {
    checkShape(changes, this.specialRegisters, 'specialRegisters');
    systemError(this.what, () => setSpecialRegisters(this.#vcpu, changes));
  }

  /** CPUID as it answers now; some bits follow other registers, as hardware's do. */
  get cpuid(): CpuidEntry[] {
    return systemError(this.what, () => decodeCpuid(this.#vcpu.readCpuid()));
  }

  protected override release(): void {
    this.#vcpu.close();
  }
}

/** Checks that `given` has only fields of `there`, each of the same type. Throws INVALID_ARGUMENT. */
function checkShape(given: object, there: object, name: string): void {
  validate.options(given as Record<string, unknown>, Object.keys(there), name);
  for (const [key, value] of Object.entries(given)) {
    const current: unknown = there[key as keyof typeof there];
    const path = `${name}.${key}`;
    if (typeof current === 'number') validate.integer(value, path, 0, 0xffffffff);
    else if (typeof current === 'bigint') validate.u64(value, path);
    else {
      checkShape(value, current as object, path);
      const missing = Object.keys(current as object).find((field) => value[field] === undefined);
      if (missing !== undefined) throw validate.invalid(`${path} must be given whole: ${missing} is missing`);
    }
  }
}

/** Checks that `given` is a list of entries, whole ones. Throws INVALID_ARGUMENT. */
function checkedCpuid(given: readonly Readonly<CpuidEntry>[]): readonly Readonly<CpuidEntry>[] {
  if (!Array.isArray(given)) throw validate.invalid('cpuid must be an array of entries, as of supportedCpuid');
  return given.map((entry, index) => {
    const fields = validate.options<CpuidEntry>(entry ?? null, CPUID_FIELDS, `cpuid[${index}]`);
    const checked = CPUID_FIELDS.map((field) => [
      field,
      validate.integer(fields[field], `cpuid[${index}].${field}`, 0, 0xffffffff),
    ]);
    return Object.fromEntries(checked) as CpuidEntry;
  });
}
