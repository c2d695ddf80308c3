// A PC-style monitor: one virtual machine, on which firmware or a Linux kernel starts.

import {
  type DeviceMemoryMapper,
  type Exit,
  formatHex,
  GuestMemoryBuilder,
  type GuestMemoryManager,
  MembackingError,
  type PlainState,
  type Region,
  type RestoredGuest,
  type RestoreOptions,
  SharedMemory,
  type SnapshotLayout,
  type SnapshotWork,
  type TraceOutput,
  type Vcpu,
} from '../index.ts';
import { type Acpi, acpiFiles, acpiOf, placeAcpi } from './acpi.ts';
import { Cmos } from './cmos.ts';
import { type FirmwareImage, MOST_FLASH, placeFirmware, whyNoFirmware } from './firmware.ts';
import type { Flash } from './flash.ts';
import { FwCfg, number } from './fw-cfg.ts';
import { HostBridge } from './host-bridge.ts';
import { invalid } from './invalid.ts';
import { IsaBridge, LINK_LINES } from './isa-bridge.ts';
import {
  e820,
  FIRMWARE_TABLES,
  MEMORY_LIMITS,
  PCI_MEMORY,
  PRIORITY,
  RESERVED,
  ramRanges,
  splitRam,
  VGA_WINDOW,
  visibleRam,
} from './layout.ts';
import { type LinuxImage, startLinux } from './linux.ts';
import { PciBus } from './pci.ts';
import { PortBus } from './ports.ts';
import { POWER_FUNCTION, PowerManagement } from './power.ts';
import { Processors } from './processors.ts';
import { SerialPort } from './serial.ts';
import { type RegionMaker, SharedMemoryDevice } from './shared-memory-device.ts';
import { type Device, like, machineState, packed, plain, STATE_VERSION, unpacked } from './state.ts';
import { claimSystemPorts } from './system-ports.ts';
import { type DiskImage, VirtioBlock } from './virtio-block.ts';

/** Options of a monitor. */
export interface MonitorOptions {
  /** Bytes of RAM: whole MiB, from 4 MiB to 512 GiB. Default 64 MiB. */
  readonly memory?: number;
  /** Processors, from 1 to 64. Default 1. */
  readonly cpus?: number;
  /** First program of the machine: firmware, or a kernel. */
  readonly start: FirmwareImage | { readonly linux: LinuxImage };
  /** Disk of the machine. Default: none. */
  readonly disk?: DiskImage;
  /** Files for the firmware (fw_cfg), by name. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
  /** Bytes that the firmware logs. */
  readonly onLog?: (byte: number) => void;
  /** Bytes that the guest sends to its first serial port. */
  readonly onSerial?: (byte: number) => void;
  /** The disk could not be read or written: told once. The guest gets to know of each time. */
  readonly onDiskError?: (error: unknown) => void;
  /** Whether a reset ends the run. Default false: the machine begins anew. */
  readonly endsAtReset?: boolean;
  /** Takes a trace of the memory map's whole history. */
  readonly record?: TraceOutput;
}

/** Options of a monitor that goes on from a snapshot: the machine is what it was. */
export type MonitorRestoreOptions = Omit<MonitorOptions, 'memory' | 'cpus' | 'start'> &
  Pick<RestoreOptions, 'mode' | 'signal' | 'progress'>;

/** Reasons why a run ended. */
export type Stop =
  /** The guest is done, and says how it went: 0 is well. Switching the machine off is well. */
  | { readonly kind: 'exit'; readonly status: number }
  /** The guest wanted to begin anew, and `endsAtReset` says no. */
  | { readonly kind: 'reset' }
  /** `stop` was called. */
  | { readonly kind: 'stopped' }
  /** A vCPU cannot go on. */
  | { readonly kind: 'crashed'; readonly message: string };

/** A machine as it is made; one from a snapshot of a kernel has nothing to start with again. */
type Machine = Omit<MonitorOptions, 'start'> & { readonly start?: MonitorOptions['start'] };

const COM1 = { port: 0x3f8, interrupt: 4 } as const;
const DEFAULT_MEMORY = 0x400_0000;
const MOST_CPUS = 64;
const SHARED_MEMORY = 0x10_0000;

/** A PC: RAM, firmware or a kernel, a PCI bus with a disk and a piece of shared memory, a serial port, and processors
 *  on KVM. */
export class Monitor {
  /** The guest's memory. */
  readonly memory: GuestMemoryManager;
  /** Host bridge, whose PAM registers switch RAM. */
  readonly hostBridge: HostBridge;
  /** Memory that the device's BAR shows to the guest. */
  readonly sharedMemory: SharedMemory;
  /** PCI device whose BAR is `sharedMemory`. */
  readonly sharedMemoryDevice: SharedMemoryDevice;
  /** I/O ports, for devices of one's own. */
  readonly ports = new PortBus();
  /** Since the monitor was made. */
  readonly counts = { portExits: 0, mmioExits: 0, resets: 0 };
  readonly #options: Machine;
  /** Things that `close` closes, the last first. */
  readonly #opened: { close(): void }[] = [];
  readonly #video: SharedMemory;
  readonly #pci: PciBus;
  readonly #isaBridge: IsaBridge;
  /** Parts whose state a snapshot keeps, by name. */
  readonly #devices: Readonly<Record<string, Device>>;
  readonly #serial: SerialPort;
  readonly #flash: Flash | undefined;
  readonly #acpi: Acpi;
  #processors: Processors | undefined;
  /** Request of a device or of `stop`, to be met before the guest goes on. */
  #wanted: 'reset' | Stop | undefined;
  /** Wish that all vCPUs rest until it is over. */
  #rest: { reached(): void; readonly isOver: Promise<void> } | undefined;
  #isRunning = false;

  /** Makes the machine. Throws MembackingError: INVALID_ARGUMENT for options out of range or a kernel that cannot be
   *  started, SYSTEM where there is no memory or no KVM. */
  constructor(options: MonitorOptions);
  /** @internal Makes it on the memory of one that was, for `Monitor.restore`. */
  constructor(options: Machine, guest: RestoredGuest);
  constructor(options: Machine, guest?: RestoredGuest) {
    const { memory: bytes = DEFAULT_MEMORY, cpus = 1, start, disk, files = {} } = checked(options, guest);
    this.#options = options;
    try {
      this.memory = this.#keep(guest?.manager ?? newMemory(bytes, options.record));
      const { map, root, ramVisibility } = this.memory;
      const regions = regionsOf(this.memory.deviceMapper, guest);

      if (start !== undefined && 'firmware' in start) this.#flash = placeFirmware(map, root, start);
      const reserved = map.createRegion({ name: 'interrupt controllers', kind: 'mmio', size: RESERVED.length });
      reserved.place(root, { offset: RESERVED.gpa, priority: PRIORITY.reserved });
      this.#video = this.#keep(SharedMemory.create(VGA_WINDOW.length, { name: 'video memory' }));
      const window = placeVgaWindow(regions, this.#video);
      this.#acpi = acpiOf({ cpus, pciMemory: PCI_MEMORY, serial: COM1 });
      const firmwareDevices = this.#addFirmwareDevices(bytes, cpus, files);
      this.#serial = new SerialPort(this.ports, COM1.port, {
        send: (byte) => options.onSerial?.(byte),
        interrupt: (isRaised) => this.#setLine(COM1.interrupt, isRaised),
      });
      this.#pci = new PciBus(this.ports, {
        lines: LINK_LINES,
        set: (link, isRaised) => this.#setLine(this.#isaBridge.lineOf(link), isRaised),
      });
      this.hostBridge = this.#pci.add(new HostBridge(ramVisibility, window));
      this.#isaBridge = this.#pci.add(new IsaBridge());
      const off = () => this.#want({ kind: 'exit', status: 0 });
      this.#pci.addBeside(POWER_FUNCTION, new PowerManagement(this.ports, off));
      this.sharedMemory = this.#keep(SharedMemory.create(SHARED_MEMORY, { name: 'shared memory' }));
      this.sharedMemoryDevice = this.#pci.add(new SharedMemoryDevice(regions, this.sharedMemory));
      if (disk !== undefined) this.#addDisk(disk);
      const flash = this.#flash && { flash: this.#flash };
      this.#devices = { serial: this.#serial, pci: this.#pci, ...firmwareDevices, ...flash };
      if (guest === undefined) this.#powerOn();
      else this.#goOnFrom(guest.state);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Makes the machine of a snapshot, as it was: `run` goes on with it. The disk is the one that it had, as it was
   *  then. A guest that was started as a kernel ends when it resets itself. Rejects with what
   *  `GuestMemoryBuilder.fromSnapshot` rejects with, INVALID_ARGUMENT where the snapshot is of no such machine, and
   *  what the constructor throws. Nothing is left then. */
  static async restore(folder: string, options: MonitorRestoreOptions = {}): Promise<Monitor> {
    const { mode = 'map', signal, progress, ...own } = options;
    const { record } = own;
    const work = { ...(signal && { signal }), ...(progress && { progress }), ...(record && { record }) };
    const guest = await GuestMemoryBuilder.fromSnapshot(folder, { mode, ...work });
    let firmwareVariables: SharedMemory | undefined;
    try {
      const { memory, cpus, memories } = machineState(guest.state);
      const { firmware, variables } = memories;
      if (variables !== undefined) firmwareVariables = flashOf(unpacked(variables, MOST_FLASH, 'variables'));
      const start = firmware && {
        firmware: unpacked(firmware, MOST_FLASH, 'firmware'),
        ...(firmwareVariables && { firmwareVariables }),
      };
      const monitor = new Monitor({ ...own, memory, cpus, ...(start && { start }) }, guest);
      if (firmwareVariables !== undefined) monitor.#opened.unshift(firmwareVariables);
      return monitor;
    } catch (error) {
      guest.manager.close();
      firmwareVariables?.close();
      throw error;
    }
  }

  /** Adds the ports that tell firmware about the machine, and by which it ends. `bytes`: of RAM. Returns those of them
   *  that have a state. */
  #addFirmwareDevices(bytes: number, cpus: number, files: Readonly<Record<string, Uint8Array>>) {
    const { endsAtReset, start } = this.#options;
    claimSystemPorts(this.ports, {
      log: (byte) => this.#options.onLog?.(byte),
      reset: () => this.#want(endsAtReset || start === undefined ? { kind: 'reset' } : 'reset'),
      exit: (status) => this.#want({ kind: 'exit', status }),
    });
    const sizes = splitRam(bytes);
    const cmos = new Cmos(this.ports, sizes, cpus);
    const firmwareConfiguration = new FwCfg(this.ports, sizes.low, cpus, {
      'etc/e820': e820(ramRanges(bytes)),
      'etc/sercon-port': number(COM1.port, 2),
      'etc/show-boot-menu': number(0, 1),
      ...acpiFiles(this.#acpi),
      ...files,
    });
    return { cmos, firmwareConfiguration };
  }

  #addDisk(disk: DiskImage): void {
    const failed = (error: unknown) => this.#options.onDiskError?.(error);
    this.#pci.add(new VirtioBlock(this.ports, this.memory.guestMemory, disk, failed));
  }

  #keep<Opened extends { close(): void }>(opened: Opened): Opened {
    this.#opened.push(opened);
    return opened;
  }

  /** Runs the guest until it ends, or `stop`. Other work of this thread goes on meanwhile. Once at a time. Throws
   *  MembackingError for a change of the memory map that this machine refuses. */
  async run(): Promise<Stop> {
    this.#isRunning = true;
    const answer = (exit: Exit, vcpu: Vcpu) => {
      const crash = this.handle(exit);
      if (crash !== undefined) this.#want({ kind: 'crashed', message: `${crash}, at ${instructionOf(vcpu)}` });
    };
    try {
      for (;;) {
        this.#rest?.reached();
        await this.#rest?.isOver;
        const wanted = this.#wanted;
        this.#wanted = undefined;
        if (wanted === 'reset') this.reset();
        else if (wanted !== undefined) return wanted;
        await this.#processors!.run(answer, () => this.#wanted !== undefined || this.#rest !== undefined);
      }
    } finally {
      this.#isRunning = false;
      this.#rest?.reached();
    }
  }

  /** Writes a snapshot of the machine into a folder: memory, devices, processors; of the disk, nothing but which one
   *  it is. With `live`, which is the default, a guest that runs goes on meanwhile, and is held for the last round of
   *  copying alone. Without it, and where the kernel does not track what the guest writes, the guest is held from now
   *  on until all is written. Rejects as `GuestMemoryManager.snapshot` does. */
  async snapshot(folder: string, options: SnapshotWork & { readonly live?: boolean } = {}): Promise<SnapshotLayout> {
    const { live = true, ...work } = options;
    const held = () => this.#atRest(() => this.memory.snapshot(folder, { ...work, state: this.#save() }));
    if (!live) return held();
    const state = () => this.#atRest(() => this.#save());
    try {
      return await this.memory.snapshot(folder, { ...work, live: true, state });
    } catch (error) {
      if (!(error instanceof MembackingError) || error.code !== 'NO_DIRTY_TRACKING') throw error;
      return held();
    }
  }

  /** Result of `body`, which is called when all exits are answered and no vCPU runs. */
  async #atRest<Result>(body: () => Result | Promise<Result>): Promise<Result> {
    if (this.#rest !== undefined) throw invalid('a snapshot is being taken: one at a time');
    let goOn = () => {};
    const isOver = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const isReached = new Promise<void>((reached) => {
      this.#rest = { reached, isOver };
    });
    try {
      this.#processors?.kick();
      if (this.#isRunning) await isReached;
      return await body();
    } finally {
      // Later: the memory is copied before anything else is done.
      setImmediate(() => {
        this.#rest = undefined;
        goOn();
      });
    }
  }

  /** State of everything but RAM, as plain data. Precondition: the machine is at rest. */
  #save(): PlainState {
    const { memory = DEFAULT_MEMORY, cpus = 1, start, disk } = this.#options;
    const { partition, vcpus } = this.#processors!;
    const { firmware, firmwareVariables } = start !== undefined && 'firmware' in start ? start : {};
    return plain({
      ...{ version: STATE_VERSION, memory, cpus, isResetWanted: this.#wanted === 'reset' },
      disk: disk && { size: disk.size, file: disk.file },
      partition: partition.save(),
      vcpus: vcpus.map((vcpu) => vcpu.save()),
      devices: Object.fromEntries(Object.entries(this.#devices).map(([name, device]) => [name, device.save()])),
      memories: {
        video: packed(bytesOf(this.#video)),
        shared: packed(bytesOf(this.sharedMemory)),
        firmware: firmware && packed(firmware),
        variables: firmwareVariables && packed(bytesOf(firmwareVariables)),
      },
    });
  }

  /** Goes on from a state that `#save` gave. The interrupt controllers come before the devices that have lines raised,
   *  and those before the processors, which may know of it already. Throws INVALID_ARGUMENT, SYSTEM. */
  #goOnFrom(given: PlainState | undefined): void {
    const { isResetWanted, disk, partition, vcpus, devices, memories } = machineState(given);
    const { cpus = 1, disk: now } = this.#options;
    if (disk?.size !== now?.size) {
      throw invalid(`the machine ${disk ? `had a disk of ${disk.size} bytes: give it as disk` : 'had no disk'}`);
    }
    this.#video.write(0, unpacked(memories.video, Number(VGA_WINDOW.length), 'memories.video'));
    this.sharedMemory.write(0, unpacked(memories.shared, SHARED_MEMORY, 'memories.shared'));
    const processors = new Processors(this.memory, cpus);
    this.#processors = processors;
    processors.partition.restore(partition);
    for (const [name, device] of Object.entries(this.#devices)) {
      device.restore(like(device.save(), devices[name], `devices.${name}`));
    }
    for (const [i, vcpu] of processors.vcpus.entries()) vcpu.restore(vcpus[i]!);
    if (isResetWanted) this.#want('reset');
  }

  /** Gives the guest bytes at its first serial port. Fulfilled when it has taken them all. */
  type(bytes: Uint8Array): Promise<void> {
    return this.#serial.receive(bytes);
  }

  /** Ends the run. */
  stop(): void {
    this.#want({ kind: 'stopped' });
    this.#processors?.kick();
  }

  /** Does what a guest's exit asks for. Returns why the vCPU cannot go on, where it cannot. */
  handle(exit: Exit): string | undefined {
    switch (exit.kind) {
      case 'io':
        this.counts.portExits++;
        this.ports.access(exit.port, exit.size, exit.isWrite, exit.data);
        return undefined;
      case 'mmio':
        this.counts.mmioExits++;
        this.#accessMemory(exit.gpa, exit.isWrite, exit.data);
        return undefined;
      case 'kicked':
      case 'interrupted':
        return undefined;
      case 'shutdown':
        return 'the guest has no way to go on: a triple fault';
      case 'internal-error':
        return `KVM cannot emulate what the guest does (internal error ${exit.suberror})`;
      case 'memory-fault':
        return `what is behind guest memory${exit.gpa === undefined ? '' : ` at ${formatHex(exit.gpa)}`} cannot be accessed`;
      default:
        return `the vCPU ended with ${exit.kind}`;
    }
  }

  #setLine(line: number | undefined, isRaised: boolean): void {
    if (line !== undefined) this.#processors?.partition.setIrqLine(line, isRaised);
  }

  /** Answers an access that trapped. RAM that shares its page with registers is accessed; where no device is reads give
   *  ones, and writes go to write-only RAM or nowhere. */
  #accessMemory(gpa: number, isWrite: boolean, data: Uint8Array): void {
    if (this.#flash?.has(gpa)) this.#flash.access(gpa, isWrite, data);
    else if (this.memory.guestMemory.answer({ gpa, isWrite, data })) return;
    else if (!isWrite) data.fill(0xff);
    else if (this.hostBridge.isWriteOnly(gpa)) this.memory.ramVisibility.write(gpa, data);
  }

  /** The first wish to end holds: a guest that resets itself again and again does not undo it. */
  #want(what: 'reset' | Stop): void {
    if (typeof this.#wanted !== 'object') this.#wanted = what;
  }

  /** Resets the machine as its reset line does; RAM keeps its contents. Not during a run. */
  reset(): void {
    this.counts.resets++;
    this.#powerOff();
    this.#pci.reset();
    this.#serial.reset();
    this.#flash?.reset();
    this.#powerOn();
  }

  /** New processors, with a new partition: what KVM holds of a machine begins as hardware does. */
  #powerOn(): void {
    const { cpus = 1, start } = this.#options;
    this.#processors = new Processors(this.memory, cpus);
    if (start !== undefined && 'linux' in start) this.#startLinux(this.#processors.vcpus[0]!, start.linux);
  }

  /** Does what firmware would: its tables lie below 1 MiB, in RAM that cannot be written any more. All RAM from c0000
   *  on is readable, because kernels search it. */
  #startLinux(vcpu: Vcpu, image: LinuxImage): void {
    const { guestMemory, space } = this.memory;
    this.hostBridge.setLegacyArea('read-write');
    const acpiRoot = placeAcpi(guestMemory, FIRMWARE_TABLES, this.#acpi);
    this.hostBridge.setLegacyArea('read-only');
    startLinux(guestMemory, vcpu, image, { ram: visibleRam(space), acpiRoot });
  }

  #powerOff(): void {
    this.#processors?.close();
    this.#processors = undefined;
  }

  /** Gives everything back. Not during a run. */
  close(): void {
    this.#powerOff();
    for (const opened of this.#opened.splice(0).reverse()) opened.close();
  }
}

/** The linear address of the instruction that a vCPU is at. */
function instructionOf({ registers, specialRegisters }: Vcpu): string {
  return formatHex(specialRegisters.cs.base + registers.rip);
}

function newMemory(bytes: number, record: TraceOutput | undefined): GuestMemoryManager {
  return new GuestMemoryBuilder({ x86LegacySupport: true, ...(record && { record }) })
    .addRam({ ranges: ramRanges(bytes) })
    .build();
}

/** Maker of device regions, which takes those that a snapshot had: they are nowhere, as new ones are. */
function regionsOf(mapper: DeviceMemoryMapper, guest: RestoredGuest | undefined): RegionMaker {
  return {
    newRegion: (length, name, options) => {
      const known = guest?.devices.find(({ region }) => region.region.name === name && region.length === length);
      known?.control.unmapFromGuest();
      return known ?? mapper.newRegion(length, name, options);
    },
  };
}

/** Places the legacy window of a display, with memory that keeps what is written there. */
function placeVgaWindow(regions: RegionMaker, video: SharedMemory): Region {
  const { control, region } = regions.newRegion(VGA_WINDOW.length, 'vga', { priority: PRIORITY.vgaWindow });
  region.map(0, video.fd, 0, VGA_WINDOW.length, true);
  control.mapToGuest(VGA_WINDOW.gpa);
  return region.region;
}

function bytesOf(memory: SharedMemory): Uint8Array {
  const bytes = new Uint8Array(Number(memory.size));
  memory.read(0, bytes);
  return bytes;
}

function flashOf(bytes: Uint8Array): SharedMemory {
  const memory = SharedMemory.create(bytes.length, { name: 'firmware variables' });
  memory.write(0, bytes);
  return memory;
}

function checked(options: Machine, guest: RestoredGuest | undefined): Machine {
  const { memory = DEFAULT_MEMORY, cpus = 1, start } = options ?? {};
  const { least, most } = MEMORY_LIMITS;
  if (typeof memory !== 'number' || !(memory >= least && memory <= most && memory % 0x10_0000 === 0)) {
    throw invalid(`memory must be whole MiB, from ${least / 0x10_0000} MiB to ${most / 0x4000_0000} GiB, as a number`);
  }
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > MOST_CPUS) throw invalid(`cpus must be from 1 to ${MOST_CPUS}`);
  const { firmware, linux }: { firmware?: unknown; linux?: Partial<LinuxImage> } = start ?? {};
  if (start === undefined && guest !== undefined) return options;
  if (linux !== undefined ? !(linux?.kernel instanceof Uint8Array) : !(firmware instanceof Uint8Array)) {
    throw invalid('start must be { firmware } or { linux: { kernel } }, as Uint8Array: what the machine starts with');
  }
  const why = start !== undefined && 'firmware' in start ? whyNoFirmware(start) : undefined;
  if (why !== undefined) throw invalid(why);
  return options;
}
