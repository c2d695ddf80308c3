// Starting a Linux kernel without firmware, by its 64-bit boot protocol.
//
//   1000   GDT            2000   zero page (boot parameters)      4000   page tables: 4 GiB, one to one
//   20000  command line   low RAM's end: initrd                   the kernel's preferred address: the kernel

import { formatHex, type GuestMemory, type SpecialRegisters, type Vcpu } from '../index.ts';
import { invalid } from './invalid.ts';
import { e820, LOW_RAM_LIMIT } from './layout.ts';

/** A Linux kernel to start without firmware. */
export interface LinuxImage {
  /** The kernel: a bzImage of x86-64. */
  readonly kernel: Uint8Array;
  /** The first file system, as a cpio archive. Default: none. */
  readonly initrd?: Uint8Array;
  /** The kernel's command line. Default: empty. */
  readonly commandLine?: string;
}

const GDT_AT = 0x1000;
const ZERO_PAGE_AT = 0x2000;
const TABLES_AT = 0x4000;
const COMMAND_LINE_AT = 0x20000;
const COMMAND_LINE_MOST = 0x1000;
const LOW_FREE = 0x100000;

// The setup header, by its offsets in the image and in the zero page.
const SETUP_SECTORS = 0x1f1;
const CODE_SIZE = 0x1f4; // in 16 bytes
const HEADER_END = 0x201;
const MAGIC = 0x202;
const VERSION = 0x206;
const LOADER_TYPE = 0x210;
const RAMDISK_IMAGE = 0x218;
const RAMDISK_SIZE = 0x21c;
const COMMAND_LINE_POINTER = 0x228;
const INITRD_MAX = 0x22c;
const XLOAD_FLAGS = 0x236;
const COMMAND_LINE_SIZE = 0x238;
const PREFERRED_ADDRESS = 0x258;
const INIT_SIZE = 0x260;

const OLDEST_VERSION = 0x20c;
const HAS_64_BIT_ENTRY = 1;
const ENTRY_64 = 0x200;
const UNKNOWN_LOADER = 0xff;

// More fields of the zero page.
const ACPI_ROOT = 0x070;
const E820_COUNT = 0x1e8;
const E820_TABLE = 0x2d0;

const PRESENT_WRITABLE = 0x3n;
const LARGE = 0x80n;

/** Facts of the machine that the kernel is told. */
interface LinuxMachine {
  /** Ranges of RAM, in order of GPA. */
  readonly ram: readonly { gpa: number; length: number }[];
  /** GPA of ACPI's root pointer. */
  readonly acpiRoot: number;
}

/** Puts everything into guest memory and makes the vCPU begin there. Throws INVALID_ARGUMENT for a kernel that cannot
 *  be started so. */
export function startLinux(
  memory: GuestMemory,
  vcpu: Vcpu,
  { kernel, initrd, commandLine = '' }: LinuxImage,
  { ram, acpiRoot }: LinuxMachine,
): void {
  const image = Buffer.from(kernel.buffer, kernel.byteOffset, kernel.byteLength);
  const code = codeOf(image);
  const { kernelAt, initrdAt } = placed(image, code.length, initrd?.length ?? 0, ram);
  const text = Buffer.from(`${commandLine}\0`);
  if (text.length > Math.min(COMMAND_LINE_MOST, image.readUInt32LE(COMMAND_LINE_SIZE) + 1)) {
    throw invalid(`the command line has ${text.length - 1} bytes: too many for this kernel`);
  }

  const table = e820(ram);
  const zeroPage = Buffer.alloc(0x1000);
  image.copy(zeroPage, SETUP_SECTORS, SETUP_SECTORS, MAGIC + image[HEADER_END]!);
  zeroPage.writeUInt32LE(acpiRoot, ACPI_ROOT);
  zeroPage.writeUInt8(UNKNOWN_LOADER, LOADER_TYPE);
  zeroPage.writeUInt32LE(COMMAND_LINE_AT, COMMAND_LINE_POINTER);
  if (initrd !== undefined) {
    zeroPage.writeUInt32LE(initrdAt, RAMDISK_IMAGE);
    zeroPage.writeUInt32LE(initrd.length, RAMDISK_SIZE);
    memory.write(initrdAt, initrd);
  }
  zeroPage.writeUInt8(ram.length, E820_COUNT);
  table.copy(zeroPage, E820_TABLE);
  memory.write(ZERO_PAGE_AT, zeroPage);
  memory.write(COMMAND_LINE_AT, text);
  memory.write(kernelAt, code);
  writeTables(memory);
  enterLongMode(vcpu);
  vcpu.registers = { rip: BigInt(kernelAt + ENTRY_64), rsi: BigInt(ZERO_PAGE_AT), rflags: 0x2n };
}

/** The part of the image that runs in long mode. */
function codeOf(image: Buffer): Buffer {
  const isLinux = image.length > 0x1000 && image.toString('latin1', MAGIC, MAGIC + 4) === 'HdrS';
  if (!isLinux) throw invalid('this is no Linux kernel (bzImage)');
  const version = image.readUInt16LE(VERSION);
  if (version < OLDEST_VERSION || !(image.readUInt16LE(XLOAD_FLAGS) & HAS_64_BIT_ENTRY)) {
    throw invalid(`this kernel has no 64-bit entry (its boot protocol is ${version >> 8}.${version & 0xff})`);
  }
  const start = (image[SETUP_SECTORS]! || 4) * 512 + 512;
  const end = start + image.readUInt32LE(CODE_SIZE) * 16;
  // The size is rounded up, and not every kernel is filled up to it.
  if (end - 15 > image.length) {
    throw invalid(`this kernel is cut off: it should have ${end} bytes, and has ${image.length}`);
  }
  if (end - start <= ENTRY_64) throw invalid(`this kernel has no code: its header says ${end - start} bytes`);
  return image.subarray(start, end);
}

/** The kernel goes where it prefers to be, its initrd as high as RAM and the kernel allow. */
function placed(
  image: Buffer,
  codeSize: number,
  initrdSize: number,
  ram: readonly { gpa: number; length: number }[],
): { kernelAt: number; initrdAt: number } {
  const kernelAt = Number(image.readBigUInt64LE(PREFERRED_ADDRESS));
  const kernelEnd = kernelAt + Math.max(image.readUInt32LE(INIT_SIZE), codeSize);
  if (kernelAt < LOW_FREE || kernelEnd > LOW_RAM_LIMIT) {
    const here = `a kernel must lie between ${formatHex(LOW_FREE)} and ${formatHex(LOW_RAM_LIMIT)}`;
    throw invalid(`this kernel wants to lie at ${formatHex(kernelAt)} to ${formatHex(kernelEnd)}; here ${here}`);
  }
  const initrdBelow = (end: number) => Math.floor((end - initrdSize) / 0x1000) * 0x1000;
  const limit = initrdSize > 0 ? image.readUInt32LE(INITRD_MAX) + 1 : LOW_RAM_LIMIT;
  if (initrdBelow(limit) < kernelEnd) {
    const where = `between its end at ${formatHex(kernelEnd)} and ${formatHex(limit)}, its limit for that`;
    throw invalid(`this kernel has no place for an initrd of ${initrdSize} bytes: ${where}`);
  }
  const main = ram.find(({ gpa, length }) => gpa + length > LOW_FREE)!;
  const initrdAt = initrdBelow(Math.min(main.gpa + main.length, limit));
  if (initrdAt < kernelEnd) {
    const end = formatHex(kernelEnd + initrdSize);
    throw invalid(`the kernel and its initrd need RAM up to ${end} and more: give the guest more memory`);
  }
  return { kernelAt, initrdAt };
}

function writeTables(memory: GuestMemory): void {
  const directories = TABLES_AT + 0x2000;
  memory.writeU64(TABLES_AT, BigInt(TABLES_AT + 0x1000) | PRESENT_WRITABLE);
  const entries = new BigUint64Array(4 * 512);
  for (let i = 0; i < entries.length; i++) entries[i] = (BigInt(i) << 21n) | LARGE | PRESENT_WRITABLE;
  memory.write(directories, new Uint8Array(entries.buffer));
  for (let i = 0; i < 4; i++)
    memory.writeU64(TABLES_AT + 0x1000 + i * 8, BigInt(directories + i * 0x1000) | PRESENT_WRITABLE);
  memory.writeU64(GDT_AT + 0x10, 0x00af_9b00_0000_ffffn);
  memory.writeU64(GDT_AT + 0x18, 0x00cf_9300_0000_ffffn);
}

function enterLongMode(vcpu: Vcpu): void {
  const flat = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: 0, s: 1, g: 1, avl: 0, unusable: 0 };
  const code: SpecialRegisters['cs'] = { ...flat, selector: 0x10, type: 0xb, db: 0, l: 1 };
  const data: SpecialRegisters['ds'] = { ...flat, selector: 0x18, type: 0x3, db: 1, l: 0 };
  vcpu.specialRegisters = {
    ...{ cs: code, ds: data, es: data, fs: data, gs: data, ss: data },
    ...{ cr0: 0x8000_0001n, cr3: BigInt(TABLES_AT), cr4: 0x20n, efer: 0x500n },
    gdt: { base: BigInt(GDT_AT), limit: 0x1f },
  };
}
