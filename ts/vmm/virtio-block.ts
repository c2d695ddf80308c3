// A disk: virtio-blk in its first form (virtio 0.9), with registers at I/O ports and one queue in guest memory.

import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { type GuestMemory, MembackingError } from '../index.ts';
import { type FunctionState, PciFunction, portBar } from './pci.ts';
import { littleEndian, type PortBus } from './ports.ts';

/** Bytes of a sector. */
export const SECTOR = 512;

/** The firmware boots from nothing smaller than a cylinder. */
const DISK_GRANULARITY = 0x10_0000;

/** Storage of a disk's bytes. Offsets and lengths are whole sectors, inside of it. An error thrown by `read` or
 *  `write` fails the guest's request. */
export interface DiskImage {
  /** Bytes, whole sectors. */
  readonly size: number;
  /** Path of the file that it is, for snapshots, which do not keep the bytes. */
  readonly file?: string;
  /** `into` is zeroed. */
  read(offset: number, into: Uint8Array): void;
  /** Writes `from` at `offset`. Absent for an image that cannot be written. */
  write?(offset: number, from: Uint8Array): void;
}

/** A file as a disk of whole MiB: what the file lacks is zeroes. Throws the system's errors. */
export class FileDisk implements DiskImage {
  readonly size: number;
  readonly file: string;
  readonly #fd: number;

  /** Opens a file, for reading and writing; with 'r', for reading alone. */
  constructor(path: string, flags: 'r' | 'r+' = 'r+') {
    this.file = resolve(path);
    this.#fd = openSync(path, flags);
    this.size = wholeMib(fstatSync(this.#fd).size);
  }

  read(offset: number, into: Uint8Array): void {
    readSync(this.#fd, into, 0, into.length, offset);
  }

  write(offset: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; ) done += writeSync(this.#fd, from, done, from.length - done, offset + done);
  }

  /** Closes the file. */
  close(): void {
    closeSync(this.#fd);
  }
}

/** Bytes as a disk of whole MiB that cannot be written. */
export function memoryDisk(content: Uint8Array): DiskImage {
  const read = (offset: number, into: Uint8Array) => into.set(content.subarray(offset, offset + into.length));
  return { size: wholeMib(content.length), read };
}

/** A disk that begins as another one, and keeps what is written to it in memory. */
export function overlayDisk(image: DiskImage): DiskImage {
  const sectors = new Map<number, Uint8Array>();
  return {
    size: image.size,
    ...(image.file !== undefined && { file: image.file }),
    read: (offset, into) => {
      image.read(offset, into);
      for (let at = 0; at < into.length; at += SECTOR) into.set(sectors.get(offset + at) ?? [], at);
    },
    write: (offset, from) => {
      for (let at = 0; at < from.length; at += SECTOR) sectors.set(offset + at, from.slice(at, at + SECTOR));
    },
  };
}

function wholeMib(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / DISK_GRANULARITY)) * DISK_GRANULARITY;
}

// Registers, by their offset in the BAR.
const HOST_FEATURES = 0x00;
const QUEUE_PAGE = 0x08;
const QUEUE_SIZE = 0x0c;
const QUEUE_SELECT = 0x0e;
const QUEUE_NOTIFY = 0x10;
const STATUS = 0x12;
const INTERRUPT_STATUS = 0x13;
const CAPACITY = 0x14;
const REGISTERS = 0x40;

const READ_ONLY_FEATURE = 1 << 5;
/** Descriptors of the queue. */
const DESCRIPTORS = 128;
const PAGE = 4096;
/** Bytes of one request at most. */
const MAX_TRANSFER = 16 * 1024 * 1024;

const HAS_NEXT = 1;
const DEVICE_WRITES = 2;

const REQUEST_READ = 0;
const REQUEST_WRITE = 1;
const REQUEST_FLUSH = 4;
const REQUEST_IDENTIFY = 8;
const DONE = 0;
const FAILED = 1;
const UNSUPPORTED = 2;

const HEADER = 16;

interface Descriptor {
  /** All 64 bits, as the guest says it: with them, guest memory says what is there. Nothing is added to it. */
  readonly gpa: bigint;
  readonly length: number;
  readonly isWritable: boolean;
}

export class VirtioBlock extends PciFunction {
  readonly #memory: GuestMemory;
  readonly #disk: DiskImage;
  readonly #failed: (error: unknown) => void;
  #hasFailed = false;
  readonly #state = {
    selected: 0,
    /** GPA of the queue; 0 while there is none. */
    queue: 0,
    status: 0,
    interruptStatus: 0,
    /** Requests taken from the queue so far, as the guest counts them: modulo 2^16. */
    taken: 0,
  };

  /** `failed` is told, once, that the image could not be read or written. The guest hears of it each time. */
  constructor(ports: PortBus, memory: GuestMemory, disk: DiskImage, failed: (error: unknown) => void) {
    super({ vendor: 0x1af4, device: 0x1001, classCode: 0x010000, subsystem: 2 });
    this.#memory = memory;
    this.#disk = disk;
    this.#failed = failed;
    this.useInterruptPin();
    this.addBar(
      0,
      portBar(ports, REGISTERS, {
        widest: 4,
        read: (register, size) => this.#read(register, size),
        write: (register, _, value) => this.#write(register, value),
      }),
    );
  }

  override reset(): void {
    super.reset();
    this.#resetDevice();
  }

  #resetDevice(): void {
    this.#setInterruptStatus(0);
    Object.assign(this.#state, { selected: 0, queue: 0, status: 0, taken: 0 });
  }

  override save(): FunctionState {
    return { ...super.save(), device: { ...this.#state } };
  }

  override restore(state: FunctionState): void {
    super.restore(state);
    Object.assign(this.#state, state.device);
    this.setInterrupt(this.#state.interruptStatus !== 0);
  }

  #read(register: number, size: number): number {
    switch (register) {
      case HOST_FEATURES:
        return this.#disk.write === undefined ? READ_ONLY_FEATURE : 0;
      case QUEUE_PAGE:
        return this.#state.selected === 0 ? this.#state.queue / PAGE : 0;
      case QUEUE_SIZE:
        return this.#state.selected === 0 ? DESCRIPTORS : 0;
      case STATUS:
        return this.#state.status;
      case INTERRUPT_STATUS: {
        const status = this.#state.interruptStatus;
        this.#setInterruptStatus(0);
        return status;
      }
      default:
        return register >= CAPACITY
          ? littleEndian(
              this.#configuration()
                .subarray(register - CAPACITY)
                .subarray(0, size),
            )
          : 0;
    }
  }

  /** The capacity in sectors; then nothing that this disk has to say. */
  #configuration(): Uint8Array {
    const bytes = Buffer.alloc(REGISTERS - CAPACITY);
    bytes.writeBigUInt64LE(BigInt(this.#disk.size / SECTOR));
    return bytes;
  }

  #write(register: number, value: number): void {
    switch (register) {
      case QUEUE_PAGE:
        if (this.#state.selected === 0) this.#state.queue = value * PAGE;
        break;
      case QUEUE_SELECT:
        this.#state.selected = value & 0xffff;
        break;
      case QUEUE_NOTIFY:
        this.#serve();
        break;
      case STATUS:
        this.#state.status = value & 0xff;
        if (value === 0) this.#resetDevice();
        break;
    }
  }

  #setInterruptStatus(status: number): void {
    if (status === this.#state.interruptStatus) return;
    this.#state.interruptStatus = status;
    this.setInterrupt(status !== 0);
  }

  // ---- The queue: descriptors, then the ring of requests, then, on a page of its own, the ring of answers ----

  /** Everything that waits. A queue that lies where no memory is ends the work until the guest resets the device. */
  #serve(): void {
    if (this.#state.queue === 0) return;
    const requests = this.#state.queue + DESCRIPTORS * 16;
    const answers = this.#state.queue + Math.ceil((DESCRIPTORS * 16 + 6 + DESCRIPTORS * 2) / PAGE) * PAGE;
    try {
      const wanted = this.#memory.readU16(requests + 2);
      for (let served = 0; this.#state.taken !== wanted && served < DESCRIPTORS; served++) {
        const head = this.#memory.readU16(requests + 4 + (this.#state.taken % DESCRIPTORS) * 2);
        const written = this.#answer(this.#chain(head));
        const slot = answers + 4 + (this.#state.taken % DESCRIPTORS) * 8;
        this.#memory.writeU32(slot, head);
        this.#memory.writeU32(slot + 4, written);
        this.#state.taken = (this.#state.taken + 1) % 0x10000;
        this.#memory.writeU16(answers + 2, this.#state.taken);
      }
      this.#setInterruptStatus(1);
    } catch (error) {
      if (!isGuestFault(error)) throw error;
      this.#state.queue = 0;
    }
  }

  /** A chain that does not end is cut off. */
  #chain(head: number): Descriptor[] {
    const chain: Descriptor[] = [];
    for (let index = head; chain.length < DESCRIPTORS; ) {
      const at = this.#state.queue + (index % DESCRIPTORS) * 16;
      const flags = this.#memory.readU16(at + 12);
      chain.push({
        gpa: this.#memory.readU64(at),
        length: this.#memory.readU32(at + 8),
        isWritable: (flags & DEVICE_WRITES) !== 0,
      });
      if (!(flags & HAS_NEXT)) break;
      index = this.#memory.readU16(at + 14);
    }
    return chain;
  }

  /** Carries a request out and gives the bytes written to guest memory: a header, data, and a byte for the status. */
  #answer(chain: readonly Descriptor[]): number {
    const [header, ...data] = chain;
    const status = data.pop();
    if (header === undefined || status === undefined) return 0;
    let result = FAILED;
    let written = 0;
    try {
      const request = Buffer.alloc(HEADER);
      this.#memory.read(header.gpa, request);
      const offset = Number(request.readBigUInt64LE(8)) * SECTOR;
      [result, written] = this.#transfer(request.readUInt32LE(0), offset, data);
    } catch (error) {
      if (!isGuestFault(error)) throw error;
    }
    this.#memory.writeU8(status.gpa, result);
    return written + 1;
  }

  #transfer(type: number, offset: number, data: readonly Descriptor[]): [result: number, written: number] {
    if (type === REQUEST_FLUSH) return [DONE, 0];
    if (type === REQUEST_IDENTIFY) {
      const name = Buffer.from('membacking\0').subarray(0, data[0]?.length);
      if (data[0]?.isWritable) this.#memory.write(data[0].gpa, name);
      return [DONE, name.length];
    }
    if (type !== REQUEST_READ && type !== REQUEST_WRITE) return [UNSUPPORTED, 0];
    const isRead = type === REQUEST_READ;
    const bytes = data.reduce((total, { length }) => total + length, 0);
    const fits = bytes % SECTOR === 0 && bytes <= MAX_TRANSFER && offset + bytes <= this.#disk.size;
    if (!fits || data.some(({ isWritable }) => isWritable !== isRead)) return [FAILED, 0];
    if (!isRead && this.#disk.write === undefined) return [FAILED, 0];
    const buffer = new Uint8Array(bytes);
    if (isRead && !this.#works(() => this.#disk.read(offset, buffer))) return [FAILED, 0];
    let at = 0;
    for (const { gpa, length } of data) {
      const part = buffer.subarray(at, at + length);
      at += length;
      if (isRead) this.#memory.write(gpa, part);
      else this.#memory.read(gpa, part);
    }
    if (!isRead && !this.#works(() => this.#disk.write?.(offset, buffer))) return [FAILED, 0];
    return [DONE, isRead ? bytes : 0];
  }

  #works(access: () => void): boolean {
    try {
      access();
      return true;
    } catch (error) {
      if (!this.#hasFailed) this.#failed(error);
      this.#hasFailed = true;
      return false;
    }
  }
}

/** Whether the guest named memory that is not there. */
function isGuestFault(error: unknown): boolean {
  return error instanceof MembackingError && error.code === 'GUEST_ACCESS';
}
