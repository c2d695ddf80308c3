// A PC-style monitor: one virtual machine with one vCPU, on which firmware or a Linux kernel starts.

import { writeSync } from 'node:fs';
import {
  type AttachedPartition,
  type DeviceMemoryMapper,
  type Exit,
  formatHex,
  GuestMemoryBuilder,
  type GuestMemoryManager,
  KvmPartition,
  type Region,
  SharedMemory,
  type TraceOutput,
  type Vcpu,
} from '../index.ts';
import { Cmos } from './cmos.ts';
import { isFirmware, placeFirmware } from './firmware.ts';
import { FwCfg, number } from './fw-cfg.ts';
import { HostBridge } from './host-bridge.ts';
import { invalid } from './invalid.ts';
import {
  e820,
  KVM_PAGES,
  MEMORY_LIMITS,
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
import { SerialPort } from './serial.ts';
import { SharedMemoryDevice } from './shared-memory-device.ts';
import { claimSystemPorts } from './system-ports.ts';
import { type DiskImage, VirtioBlock } from './virtio-block.ts';

export interface MonitorOptions {
  /** Bytes of RAM: whole MiB, from 4 MiB to 512 GiB. Default 64 MiB. */
  readonly memory?: number;
  /** First program of the machine: firmware (up to 256 KiB), or a kernel. */
  readonly start: { readonly firmware: Uint8Array } | { readonly linux: LinuxImage };
  readonly disk?: DiskImage;
  /** Files for the firmware (fw_cfg), by name. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
  /** Bytes that the firmware logs. */
  readonly onLog?: (byte: number) => void;
  /** Bytes that the guest sends to its first serial port. */
  readonly onSerial?: (byte: number) => void;
  /** The disk could not be read or written: told once. The guest gets to know of each time. */
  readonly onDiskError?: (error: unknown) => void;
  /** Takes a trace of the memory map's whole history. */
  readonly record?: TraceOutput;
}

/** Reasons why a run ended. */
export type Stop =
  /** The guest is done, and says how it went: 0 is well. */
  | { readonly kind: 'exit'; readonly status: number }
  /** `stop` was called. */
  | { readonly kind: 'stopped' }
  /** The vCPU cannot go on. */
  | { readonly kind: 'crashed'; readonly message: string };

const COM1 = { port: 0x3f8, interrupt: 4 } as const;
const DEFAULT_MEMORY = 0x400_0000;
const SHARED_MEMORY = 0x10_0000;

export class Monitor {
  readonly memory: GuestMemoryManager;
  readonly hostBridge: HostBridge;
  /** Memory that the device's BAR shows to the guest. */
  readonly sharedMemory: SharedMemory;
  readonly sharedMemoryDevice: SharedMemoryDevice;
  readonly ports = new PortBus();
  /** Since the monitor was made. */
  readonly counts = { portExits: 0, mmioExits: 0, resets: 0 };
  readonly #options: MonitorOptions;
  /** Things that `close` closes, the last first. */
  readonly #opened: { close(): void }[] = [];
  readonly #ram: SharedMemory;
  readonly #pci: PciBus;
  readonly #serial: SerialPort;
  #partition: KvmPartition | undefined;
  #attached: AttachedPartition | undefined;
  #vcpu: Vcpu | undefined;
  /** Request of a device or of `stop`, to be met before the vCPU goes on. */
  #wanted: 'reset' | Stop | undefined;

  /** Makes the machine. Throws MembackingError: INVALID_ARGUMENT for options out of range or a kernel that cannot be
   *  started, SYSTEM where there is no memory or no KVM. */
  constructor(options: MonitorOptions) {
    const { memory: bytes = DEFAULT_MEMORY, start, disk, files = {} } = checked(options);
    this.#options = options;
    try {
      this.#ram = this.#keep(SharedMemory.create(bytes, { name: 'guest RAM' }));
      this.memory = this.#keep(
        new GuestMemoryBuilder({ x86LegacySupport: true, ...(options.record && { record: options.record }) })
          .addRam({ ranges: ramRanges(bytes), backing: { kind: 'fd', fd: this.#ram.fd } })
          .build(),
      );
      const { map, root, deviceMapper, ramVisibility } = this.memory;

      if ('firmware' in start) placeFirmware(map, root, start.firmware);
      const reserved = map.createRegion({ name: 'interrupt controllers', kind: 'mmio', size: RESERVED.length });
      reserved.place(root, { offset: RESERVED.gpa, priority: PRIORITY.reserved });
      const window = this.#placeVgaWindow(deviceMapper);
      this.#addFirmwareDevices(bytes, files);
      this.#serial = new SerialPort(this.ports, COM1.port, {
        send: (byte) => options.onSerial?.(byte),
        interrupt: (isRaised) => this.#partition?.setIrqLine(COM1.interrupt, isRaised),
      });
      this.#pci = new PciBus(this.ports);
      this.hostBridge = this.#pci.add(new HostBridge(ramVisibility, window));
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
  #addFirmwareDevices(bytes: number, files: Readonly<Record<string, Uint8Array>>): void {
    claimSystemPorts(this.ports, {
      log: (byte) => this.#options.onLog?.(byte),
      reset: () => this.#want('reset'),
      exit: (status) => this.#want({ kind: 'exit', status }),
    });
    const sizes = splitRam(bytes);
    new Cmos(this.ports, sizes);
    new FwCfg(this.ports, sizes.low, {
      'etc/e820': e820(ramRanges(bytes)),
      'etc/sercon-port': number(COM1.port, 2),
      'etc/show-boot-menu': number(0, 1),
      ...files,
    });
  }

  #addDisk(disk: DiskImage): void {
    const wires = {
      interrupt: (line: number, isRaised: boolean) => this.#partition?.setIrqLine(line, isRaised),
      failed: (error: unknown) => this.#options.onDiskError?.(error),
    };
    this.#pci.add(new VirtioBlock(this.ports, this.memory.guestMemory, disk, wires));
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
      const crashed = this.handle(await this.#vcpu!.runAsync());
      if (crashed !== undefined) return { kind: 'crashed', message: `${crashed}, at ${this.#instruction()}` };
    }
  }

  /** The linear address of the instruction that the vCPU is at. */
  #instruction(): string {
    const { registers, specialRegisters } = this.#vcpu!;
    return formatHex(specialRegisters.cs.base + registers.rip);
  }

  /** Ends the run. */
  stop(): void {
    this.#want({ kind: 'stopped' });
    this.#vcpu?.kick();
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

  /** Answers an access where no device is: reads give ones, writes go to write-only RAM, or nowhere. */
  #accessMemory(gpa: number, isWrite: boolean, data: Uint8Array): void {
    if (!isWrite) data.fill(0xff);
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
    this.#powerOn();
  }

  /** A new partition: what KVM holds of a machine (vCPU, interrupt controllers, timer) begins as hardware does. */
  #powerOn(): void {
    this.#partition = KvmPartition.open({ name: 'machine' });
    this.#partition.setTssAddress(KVM_PAGES);
    this.#partition.createIrqchip();
    this.#partition.createPit();
    this.#attached = this.memory.attachPartition(this.#partition);
    this.#vcpu = this.#partition.createVcpu(0);
    const { start } = this.#options;
    if ('linux' in start) startLinux(this.memory.guestMemory, this.#vcpu, start.linux, visibleRam(this.memory.space));
  }

  #powerOff(): void {
    this.#vcpu?.close();
    this.#attached?.close();
    this.#partition?.close();
    this.#vcpu = this.#attached = this.#partition = undefined;
  }

  /** Gives everything back. Not during a run. */
  close(): void {
    this.#powerOff();
    for (const opened of this.#opened.splice(0).reverse()) opened.close();
  }
}

function checked(options: MonitorOptions): MonitorOptions {
  const { memory = DEFAULT_MEMORY, start } = options ?? {};
  const { least, most } = MEMORY_LIMITS;
  if (typeof memory !== 'number' || !(memory >= least && memory <= most && memory % 0x10_0000 === 0)) {
    throw invalid(`memory must be whole MiB, from ${least / 0x10_0000} MiB to ${most / 0x4000_0000} GiB, as a number`);
  }
  const { firmware, linux }: { firmware?: unknown; linux?: Partial<LinuxImage> } = start ?? {};
  if (linux !== undefined ? !(linux?.kernel instanceof Uint8Array) : !(firmware instanceof Uint8Array)) {
    throw invalid('start must be { firmware } or { linux: { kernel } }, as Uint8Array: what the machine starts with');
  }
  if (firmware instanceof Uint8Array && !isFirmware(firmware)) {
    throw invalid(`firmware must be whole 64 KiB, up to 256 KiB; this has ${firmware.length} bytes`);
  }
  return options;
}
