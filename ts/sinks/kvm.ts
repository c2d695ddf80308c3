// KVM: a partition and its vCPUs.

import { MAX_SLOTS, PAGE_SIZE } from '../../assembly/abi.ts';
import { atOnce, Holding, type MayPause, type Pausable } from '../apply/holding.ts';
import { MembackingError } from '../core/errors.ts';
import { Handle } from '../core/handle.ts';
import { KVM_CAP, KVM_LARGEST_SLOT, KVM_QUIRK } from '../core/kvm-numbers.ts';
import * as kvm from '../core/kvm-state.ts';
import { type Kvm, native, type Vm } from '../core/native.ts';
import { obtainedFromSystem, systemError, withRemedy } from '../core/system.ts';
import * as validate from '../core/validate.ts';
import { type CpuidOptions, guestCpuid, MOST_CORES, withApicId } from './cpuid.ts';
import { type CpuidEntry, checkedCpuid, decodeCpuid, encodeCpuid } from './cpuid-entries.ts';
import type { PartitionFacts } from './partition.ts';
import {
  carryOut,
  checkedIrqchip,
  checkedPartitionState,
  hasIrqchip,
  type IrqchipState,
  irqchipSteps,
  type PartitionState,
  readIrqchip,
  restorePartition,
  savePartition,
} from './saved-state.ts';
import type { GpaStretch } from './sink.ts';
import { Unpausable } from './unpausable.ts';
import { Vcpu } from './vcpu.ts';

/** Pages below 4 GiB. */
interface LowPages extends GpaStretch {
  readonly gpa: number;
  readonly length: number;
}

/** Page that KVM keeps for the local APICs, where the processor helps with them. */
const APIC: LowPages = { gpa: 0xfee0_0000, length: PAGE_SIZE };

// What to do about errors, by their codes.
const KVM_REMEDIES = {
  ENOENT: '/dev/kvm is not there; sudo modprobe kvm_intel (or kvm_amd), which fails where virtualization is off',
  ENXIO: '/dev/kvm has no driver; sudo modprobe kvm_intel (or kvm_amd)',
  ENODEV: '/dev/kvm has no driver; sudo modprobe kvm_intel (or kvm_amd)',
  EACCES: 'this user may not open /dev/kvm; sudo usermod -aG kvm "$USER", then log in again',
};
const IRQCHIP_REMEDIES = {
  EINVAL: 'interrupt controllers are made before the first vCPU',
  EEXIST: 'it has interrupt controllers already',
};

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

/** Options of `KvmPartition.open`. */
export interface KvmOptions {
  /** Name for messages. Default "kvm". */
  readonly name?: string;
  /** Whether KVM may forget its page tables of all memory slots when one of them goes, where it can do without (since
   *  Linux 6.12). Some devices that are assigned to the guest need it. Default false. */
  readonly zapAllSlots?: boolean;
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
  /** Whether a memory slot that goes costs the guest KVM's page tables of all others: so it is before Linux 6.12, and
   *  where `zapAllSlots` asks for it. Undefined for a virtual machine that somebody else has made. */
  readonly zapsAllSlots: boolean | undefined;
  /** @internal */
  readonly attachments = new Set<AttachedTo>();
  readonly #kvm: Kvm;
  readonly #vm: Vm;
  readonly #keptPages: LowPages[] = [];
  /** Monitor that runs vCPUs which are not this partition's; undefined for none. */
  readonly #others: Pausable | undefined;
  #gsiRoutes: readonly kvm.GsiRoute[] | undefined;

  static {
    vmOf = (partition) => partition.#vm;
  }

  private constructor(
    name: string,
    kvm: Kvm,
    vm: Vm,
    { zapsAllSlots, others }: { readonly zapsAllSlots?: boolean | undefined; readonly others?: Pausable } = {},
  ) {
    super();
    validate.madeBy('KvmPartition.open', vm);
    this.name = name;
    this.#kvm = kvm;
    this.#vm = vm;
    this.#others = others;
    this.zapsAllSlots = zapsAllSlots;
    this.slotLimit = vm.slotLimit;
    if (others !== undefined && hasIrqchip(vm)) this.#keptPages.push(APIC);
  }

  /** Opens KVM and makes a virtual machine. Throws SYSTEM: ENOENT where there is no KVM, EACCES where this user may not
   *  use it, EOPNOTSUPP on another processor than x86-64. */
  static open(options?: KvmOptions): KvmPartition {
    const given = validate.options(options, ['name', 'zapAllSlots'], 'KvmPartition.open');
    const { name = 'kvm', zapAllSlots = false } = given;
    const checkedName = validate.text(name, 'name');
    const mayZapAll = validate.flag(zapAllSlots, 'zapAllSlots');
    return obtainedFromSystem('a KVM virtual machine cannot be made', () => {
      const kvm = withRemedy(KVM_REMEDIES, () => native().Kvm.open());
      try {
        const { vm, zapsAllSlots } = madeVm(kvm, mayZapAll);
        const partition = new KvmPartition(checkedName, kvm, vm, { zapsAllSlots });
        partition.#rehearseHolding();
        return partition;
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
    const checkedFd = validate.fd(vmFd, 'vmFd');
    const ofKvm = kvmFd === undefined ? undefined : validate.fd(kvmFd, 'kvmFd');
    const base = validate.integer(slotBase, 'slotBase', 0, MAX_SLOTS);
    const limit = slotLimit === undefined ? 0 : validate.integer(slotLimit, 'slotLimit', 1, MAX_SLOTS);
    validate.allOrNone({ pause, resume }, 'KvmPartition.adopt takes both the functions');
    const others = pause === undefined ? new Unpausable(checkedName) : (given as Pausable);
    return obtainedFromSystem(`descriptor ${checkedFd} cannot be adopted as a KVM virtual machine`, () => {
      const { Kvm } = native();
      const kvm = ofKvm === undefined ? withRemedy(KVM_REMEDIES, () => Kvm.open()) : Kvm.adopt(ofKvm);
      try {
        return new KvmPartition(checkedName, kvm, kvm.adoptVm(checkedFd, base, limit), { others });
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
      const hasDeadlineTimer = hasIrqchip(this.#vm) && this.#vm.checkExtension(KVM_CAP.TSC_DEADLINE_TIMER) > 0;
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

  // A PC's own devices, in the kernel: to be made before the first vCPU, in this order.

  /** Tells KVM where to put three pages of its own, below 4 GiB: `keptPages` from now on. Intel processors need them to
   *  run real mode (KVM_SET_TSS_ADDR, Documentation/virt/kvm/api.rst). To be called before the first vCPU is made.
   *  Throws SYSTEM, and IN_USE inside a transaction. */
  setTssAddress(gpa: number): void {
    this.checkOpen();
    const checked = validate.integer(gpa, 'gpa', 0, 0xffffffff);
    const start = checked - (checked % PAGE_SIZE);
    this.#keep({ gpa: start, length: 3 * PAGE_SIZE }, () => this.#vm.setTssAddress(checked));
  }

  /** Makes the interrupt controllers in the kernel: PICs, I/O APIC, local APICs (KVM_CREATE_IRQCHIP). To be called
   *  before the first vCPU is made, and before `supportedCpuid`. Throws SYSTEM, and IN_USE inside a transaction. */
  createIrqchip(): void {
    this.checkOpen();
    this.#keep(APIC, () => withRemedy(IRQCHIP_REMEDIES, () => this.#vm.createIrqchip()));
  }

  /** Makes the timer in the kernel, with the speaker's port that shows its output (KVM_CREATE_PIT2); after
   *  `createIrqchip`. Throws SYSTEM. */
  createPit(): void {
    this.checkOpen();
    systemError(this.what, () => this.#vm.createPit());
  }

  /** Raises or lowers an interrupt line of the controllers (KVM_IRQ_LINE): `line` is a GSI, 0 to 65535. Throws SYSTEM
   *  without `createIrqchip`. */
  setIrqLine(line: number, isRaised: boolean): void {
    this.checkOpen();
    systemError(this.what, () =>
      this.#vm.irqLine(validate.integer(line, 'line', 0, 0xffff), validate.flag(isRaised, 'isRaised')),
    );
  }

  /** State of the interrupt controllers that `createIrqchip` has made. Throws SYSTEM: ENXIO without them. */
  get irqchip(): IrqchipState {
    this.checkOpen();
    return systemError(this.what, () => readIrqchip(this.#vm));
  }
  set irqchip(state: IrqchipState) {
    this.checkOpen();
    const [checked, before] = [checkedIrqchip(state, 'irqchip'), this.irqchip];
    systemError(this.what, () => carryOut(irqchipSteps(this.#vm, checked), irqchipSteps(this.#vm, before), this.what));
  }

  /** State of the timer that `createPit` has made. Throws SYSTEM: ENXIO without it. */
  get pit(): kvm.PitState {
    this.checkOpen();
    return systemError(this.what, () => kvm.readState(this.#vm, { name: 'pit', codec: kvm.PIT }));
  }
  set pit(state: kvm.PitState) {
    this.checkOpen();
    const checked = kvm.PIT.check(state, 'pit');
    systemError(this.what, () => kvm.writeState(this.#vm, { name: 'pit', codec: kvm.PIT }, checked));
  }

  /** The clock that KVM gives its guests. It is set with the flag 4 to what it has to show now at `realtime`. */
  get clock(): kvm.ClockState {
    this.checkOpen();
    return systemError(this.what, () => kvm.readState(this.#vm, { name: 'clock', codec: kvm.CLOCK }));
  }
  set clock(state: kvm.ClockState) {
    this.checkOpen();
    const checked = kvm.CLOCK.check(state, 'clock');
    systemError(this.what, () => kvm.writeState(this.#vm, { name: 'clock', codec: kvm.CLOCK }, checked));
  }

  /** Sends a message-signalled interrupt. Returns whether a vCPU took it: a guest may have masked it. Throws SYSTEM
   *  without interrupt controllers. */
  signalMsi(message: kvm.Msi): boolean {
    this.checkOpen();
    const checked = kvm.checkedMsi(message, 'signalMsi');
    return systemError(this.what, () => kvm.signalMsi(this.#vm, checked));
  }

  /** Says where the interrupt lines (GSIs) lead, in place of all that was said before. Throws SYSTEM for what there is
   *  not. */
  setGsiRoutes(routes: readonly kvm.GsiRoute[]): void {
    this.checkOpen();
    const checked = kvm.checkedRoutes(routes, 'routes');
    systemError(this.what, () => kvm.writeRoutes(this.#vm, checked));
    this.#gsiRoutes = checked;
  }

  /** Lets an eventfd raise an interrupt line, until `removeIrqfd` or the eventfd is closed. Throws SYSTEM: EBUSY for
   *  one that does so already. */
  addIrqfd(irqfd: kvm.Irqfd): void {
    this.checkOpen();
    const checked = kvm.checkedIrqfd(irqfd, 'addIrqfd');
    systemError(this.what, () => kvm.setIrqfd(this.#vm, checked, true));
  }

  /** Takes `addIrqfd` back. */
  removeIrqfd(irqfd: kvm.Irqfd): void {
    this.checkOpen();
    const checked = kvm.checkedIrqfd(irqfd, 'removeIrqfd');
    systemError(this.what, () => kvm.setIrqfd(this.#vm, checked, false));
  }

  /** State of the virtual machine beside its memory, its irqfds and its vCPUs (`Vcpu.save`): clock, interrupt
   *  controllers, timer, routes. Plain data that can be cloned, posted and kept. Throws SYSTEM. */
  save(): PartitionState {
    this.checkOpen();
    return systemError(this.what, () => savePartition(this.#vm, this.#gsiRoutes));
  }

  /** Makes its state what `save` gave, of this partition or of another that has the same devices; before its vCPUs are
   *  restored. Throws INVALID_ARGUMENT for what is no such state, SYSTEM where KVM refuses a part of it: its state is
   *  what it was then. */
  restore(state: PartitionState): void {
    this.checkOpen();
    const checked = systemError(this.what, () => checkedPartitionState(state, this.#vm));
    systemError(this.what, () => restorePartition(this.#vm, checked, this.what));
    this.#gsiRoutes = checked.gsiRoutes ?? this.#gsiRoutes;
  }

  /** Holds its vCPUs while there are none: the first change that needs it is not to wait until that is compiled. */
  #rehearseHolding(): void {
    const holding = new Holding();
    holding.hold(this);
    holding.end();
  }

  /** Makes all its vCPUs stop running the guest, and waits until they have. Their runs go on at `resume`. Pauses
   *  nest. */
  pause(): void {
    this.checkOpen();
    this.#vm.pause();
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
    systemError(
      () => this.what,
      () => this.#vm.resume(),
    );
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

/** Makes a virtual machine, and says whether a slot that goes costs it the page tables of all others. */
function madeVm(kvm: Kvm, mayZapAll: boolean): { readonly vm: Vm; readonly zapsAllSlots: boolean } {
  const vm = kvm.createVm();
  try {
    const canKeepOthers = (vm.checkExtension(KVM_CAP.DISABLE_QUIRKS2) & KVM_QUIRK.SLOT_ZAP_ALL) !== 0;
    if (canKeepOthers && !mayZapAll) vm.disableQuirks(KVM_QUIRK.SLOT_ZAP_ALL);
    return { vm, zapsAllSlots: mayZapAll || !canKeepOthers };
  } catch (error) {
    vm.close();
    throw error;
  }
}
