// A PC-style monitor: one virtual machine, on which firmware or a Linux kernel starts.

import { writeSync } from 'node:fs';
import {
  type DeviceMemoryMapper,
  type Exit,
  formatHex,
  GuestMemoryBuilder,
  type GuestMemoryManager,
  type Region,
  SharedMemory,
  type TraceOutput,
  type Vcpu,
} from '../index.ts';
import { type Acpi, acpiFiles, acpiOf, placeAcpi } from './acpi.ts';
import { Cmos } from './cmos.ts';
import { type FirmwareImage, placeFirmware, whyNoFirmware } from './firmware.ts';
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
import { SharedMemoryDevice } from './shared-memory-device.ts';
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
  readonly #options: MonitorOptions;
  /** Things that `close` closes, the last first. */
  readonly #opened: { close(): void }[] = [];
  readonly #ram: SharedMemory;
  readonly #pci: PciBus;
  readonly #isaBridge: IsaBridge;
  readonly #serial: SerialPort;
  readonly #flash: Flash | undefined;
  readonly #acpi: Acpi;
  #processors: Processors | undefined;
  /** Request of a device or of `stop`, to be met before the guest goes on. */
  #wanted: 'reset' | Stop | undefined;

  /** Makes the machine. Throws MembackingError: INVALID_ARGUMENT for options out of range or a kernel that cannot be
   *  started, SYSTEM where there is no memory or no KVM. */
  constructor(options: MonitorOptions) {
    const { memory: bytes = DEFAULT_MEMORY, cpus = 1, start, disk, files = {} } = checked(options);
    this.#options = options;
    try {
      this.#ram = this.#keep(SharedMemory.create(bytes, { name: 'guest RAM' }));
      this.memory = this.#keep(
        new GuestMemoryBuilder({ x86LegacySupport: true, ...(options.record && { record: options.record }) })
          .addRam({ ranges: ramRanges(bytes), backing: { kind: 'fd', fd: this.#ram.fd } })
          .build(),
      );
      const { map, root, deviceMapper, ramVisibility } = this.memory;

      if ('firmware' in start) this.#flash = placeFirmware(map, root, start);
      const reserved = map.createRegion({ name: 'interrupt controllers', kind: 'mmio', size: RESERVED.length });
      reserved.place(root, { offset: RESERVED.gpa, priority: PRIORITY.reserved });
      const window = this.#placeVgaWindow(deviceMapper);
      this.#acpi = acpiOf({ cpus, pciMemory: PCI_MEMORY, serial: COM1 });
      this.#addFirmwareDevices(bytes, cpus, files);
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
      this.sharedMemoryDevice = this.#pci.add(new SharedMemoryDevice(deviceMapper, this.sharedMemory));
      if (disk !== undefined) this.#addDisk(disk);
      this.#powerOn();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Places the legacy window of a display, with memory that keeps what is written there. */
  #placeVgaWindow(deviceMapper: DeviceMemoryMapper): Region {
    const { control, region } = deviceMapper.newRegion(VGA_WINDOW.length, 'vga', { priority: PRIORITY.vgaWindow });
    const video = this.#keep(SharedMemory.create(VGA_WINDOW.length, { name: 'video memory' }));
    region.map(0, video.fd, 0, VGA_WINDOW.length, true);
    control.mapToGuest(VGA_WINDOW.gpa);
    return region.region;
  }

  /** Adds the ports that tell firmware about the machine, and by which it ends. `bytes`: of RAM. */
  #addFirmwareDevices(bytes: number, cpus: number, files: Readonly<Record<string, Uint8Array>>): void {
    claimSystemPorts(this.ports, {
      log: (byte) => this.#options.onLog?.(byte),
      reset: () => this.#want(this.#options.endsAtReset ? { kind: 'reset' } : 'reset'),
      exit: (status) => this.#want({ kind: 'exit', status }),
    });
    const sizes = splitRam(bytes);
    new Cmos(this.ports, sizes, cpus);
    new FwCfg(this.ports, sizes.low, cpus, {
      'etc/e820': e820(ramRanges(bytes)),
      'etc/sercon-port': number(COM1.port, 2),
      'etc/show-boot-menu': number(0, 1),
      ...acpiFiles(this.#acpi),
      ...files,
    });
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
    for (;;) {
      const wanted = this.#wanted;
      this.#wanted = undefined;
      if (wanted === 'reset') this.reset();
      else if (wanted !== undefined) return wanted;
      const answer = (exit: Exit, vcpu: Vcpu) => {
        const crash = this.handle(exit);
        if (crash !== undefined) this.#want({ kind: 'crashed', message: `${crash}, at ${instructionOf(vcpu)}` });
      };
      await this.#processors!.run(answer, () => this.#wanted !== undefined);
    }
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
    else if (this.hostBridge.isWriteOnly(gpa)) writeSync(this.#ram.fd, data, 0, data.length, gpa);
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
    if ('linux' in start) this.#startLinux(this.#processors.vcpus[0]!, start.linux);
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

function checked(options: MonitorOptions): MonitorOptions {
  const { memory = DEFAULT_MEMORY, cpus = 1, start } = options ?? {};
  const { least, most } = MEMORY_LIMITS;
  if (typeof memory !== 'number' || !(memory >= least && memory <= most && memory % 0x10_0000 === 0)) {
    throw invalid(`memory must be whole MiB, from ${least / 0x10_0000} MiB to ${most / 0x4000_0000} GiB, as a number`);
  }
  if (!Number.isInteger(cpus) || cpus < 1 || cpus > MOST_CPUS) throw invalid(`cpus must be from 1 to ${MOST_CPUS}`);
  const { firmware, linux }: { firmware?: unknown; linux?: Partial<LinuxImage> } = start ?? {};
  if (linux !== undefined ? !(linux?.kernel instanceof Uint8Array) : !(firmware instanceof Uint8Array)) {
    throw invalid('start must be { firmware } or { linux: { kernel } }, as Uint8Array: what the machine starts with');
  }
  const why = start !== undefined && 'firmware' in start ? whyNoFirmware(start) : undefined;
  if (why !== undefined) throw invalid(why);
  return options;
}
