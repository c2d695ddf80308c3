// A guest in a few bytes: long mode at CPL3, 4 GiB seen one to one, so that it runs natively and faults for real.
//
// It needs GUEST_SIZE bytes of RAM at GPA 0:
//
//      0        1000      10000          17000   18000
//      +--------+---------+--------------+-------+
//      | zeroes | program | page tables  | GDT   |
//      +--------+---------+--------------+-------+
//
// Page 0 is the I/O permission bitmap of a TSS at 0: port instructions are free.

import { KVM_EXIT } from '../../ts/core/kvm-numbers.ts';
import type { Segment } from '../../ts/core/kvm-state.ts';
import { native, type Vcpu } from '../../ts/core/native.ts';
import { VcpuExit } from '../../ts/sinks/vcpu-exit.ts';
import { setRegisters, setSpecialRegisters } from './registers.ts';

/** Bytes of RAM at GPA 0 that the guest itself uses. */
export const GUEST_SIZE = 0x18000;

const PROGRAM_AT = 0x1000;
const TABLES_AT = 0x10000;
const GDT_AT = 0x17000;

/** Programs of the guest, which run for ever: RBX is an address, RAX a value, RCX another. A result goes to a port, in
 *  EAX. */
const PROGRAMS = {
  /** Reads 32 bits at RBX, and sends them to port 10. */
  read: [0x8b, 0x03, 0xe7, 0x10, 0xeb, 0xfa],
  /** Writes EAX at RBX, and sends it to port 11. */
  write: [0x89, 0x03, 0xe7, 0x11, 0xeb, 0xfa],
  /** Reads 32 bits at RBX until they are not ECX; then sends them to port 12, and begins anew. */
  watch: [0x8b, 0x03, 0x39, 0xc8, 0x74, 0xfa, 0xe7, 0x12, 0xeb, 0xf6],
  /** Reads port 13 and sends what came to port 14. */
  echo: [0xe5, 0x13, 0xe7, 0x14, 0xeb, 0xfa],
  /** Sends the RCX bytes at RSI to port DX with one instruction, and then nothing more: it spins. */
  send: [0xf3, 0x6e, 0xeb, 0xfe],
  spin: [0xeb, 0xfe],
  /** Counts the 32 bits at RBX up. */
  count: [0xff, 0x03, 0xeb, 0xfc],
  /** Does what no CPU can, without a handler for it. */
  fall: [0x0f, 0x0b],
  /** Sends EAX to port DX. */
  out: [0xef, 0xeb, 0xfd],
  /** Goes through the pages from RBX to RCX, each of which begins with EAX, and counts that up; then counts EAX up,
   *  sends it to port 15, and begins anew. A page that begins with something else ends that: RSI, its address, goes to
   *  port 16. */
  sweep: [
    ...[0x48, 0x89, 0xde, 0x39, 0x06, 0x75, 0x14, 0xff, 0x06, 0x48, 0x81, 0xc6, 0x00, 0x10, 0x00, 0x00],
    ...[0x48, 0x39, 0xce, 0x72, 0xee, 0xff, 0xc0, 0xe7, 0x15, 0xeb, 0xe5, 0x89, 0xf0, 0xe7, 0x16, 0xeb, 0xfc],
  ],
} as const;

export type Program = keyof typeof PROGRAMS;

const programAt = Object.fromEntries(
  Object.keys(PROGRAMS).map((program, index) => [program, PROGRAM_AT + index * 0x40]),
) as Record<Program, number>;

/** Memory that the guest needs before it runs, for GPA 0: page tables, GDT and all programs. */
export function guestImage(): Uint8Array {
  const image = new Uint8Array(GUEST_SIZE);
  for (const [program, code] of Object.entries(PROGRAMS)) image.set(code, programAt[program as Program]);
  const memory = new DataView(image.buffer);
  const present = 0x7n; // writable, for users
  const large = 0x80n;
  const directories = TABLES_AT + 0x2000;
  memory.setBigUint64(TABLES_AT, BigInt(TABLES_AT + 0x1000) | present, true);
  for (let gib = 0; gib < 4; gib++) {
    const directory = directories + gib * 0x1000;
    memory.setBigUint64(TABLES_AT + 0x1000 + gib * 8, BigInt(directory) | present, true);
    for (let entry = 0; entry < 512; entry++) {
      const gpa = BigInt(gib * 512 + entry) << 21n;
      memory.setBigUint64(directory + entry * 8, gpa | large | present, true);
    }
  }
  const [userData, userCode] = [0x00cff3000000ffffn, 0x00affb000000ffffn];
  memory.setBigUint64(GDT_AT + 0x18, userData, true);
  memory.setBigUint64(GDT_AT + 0x20, userCode, true);
  return image;
}

/** CPUID of this machine. */
function machineCpuid(): Uint8Array {
  const kvm = native().Kvm.open();
  const entries = kvm.readSupportedCpuid();
  kvm.close();
  return entries;
}

/** Address at which the guest sees what `aim` says. */
export const FAR_WINDOW = 4 * 2 ** 30;

/** Bytes to be in memory before the guest runs, with the GPA of each, so that it sees 2 MiB from `gpa` on at
 *  FAR_WINDOW: its programs reach no further than that by themselves. */
export function aim(gpa: bigint): { readonly gpa: number; readonly bytes: Uint8Array }[] {
  const directory = TABLES_AT + 0x6000;
  const entry = (value: bigint) => new Uint8Array(new BigUint64Array([value]).buffer);
  return [
    { gpa: TABLES_AT + 0x1000 + 4 * 8, bytes: entry(BigInt(directory) | 0x7n) },
    { gpa: directory, bytes: entry(gpa | 0x87n) },
  ];
}

/** Makes the vCPU a CPL3 one; once for each. */
export function enterUserMode(vcpu: Vcpu): void {
  const flat = { base: 0n, limit: 0xffffffff, present: 1, dpl: 3, s: 1, g: 1, avl: 0, unusable: 0 };
  const code: Segment = { ...flat, selector: 0x23, type: 0xb, db: 0, l: 1 };
  const data: Segment = { ...flat, selector: 0x1b, type: 0x3, db: 1, l: 0 };
  vcpu.writeCpuid(machineCpuid());
  setSpecialRegisters(vcpu, {
    ...{ cs: code, ds: data, es: data, fs: data, gs: data, ss: data },
    ...{ cr0: 0x80050033n, cr3: BigInt(TABLES_AT), cr4: 0x20n, efer: 0x500n },
    gdt: { base: BigInt(GDT_AT), limit: 39 },
  });
}

export interface Inputs {
  rax?: number;
  rbx?: number;
  rcx?: number;
  rdx?: number;
  rsi?: number;
}

/** The next run starts the program from its beginning. What an exit before interrupted is finished first. */
export function start(vcpu: Vcpu, program: Program, inputs: Inputs = {}): void {
  while (vcpu.finish() !== KVM_EXIT.INTR);
  registersFor(vcpu, program, inputs);
}

/** Sets the registers for a program's beginning. */
export function registersFor(vcpu: Vcpu, program: Program, inputs: Inputs): void {
  const values = { rax: 0, rbx: 0, rcx: 0, rdx: 0, rsi: 0, ...inputs };
  const registers = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, BigInt(value)]));
  const portsForAll = 0x3002n; // IOPL 3
  setRegisters(vcpu, { ...registers, rip: BigInt(programAt[program]), rflags: portsForAll });
}

/** Runs the program until its first exit, in words: "out 10 = deadbeef", "mmio write c8000 = 1", "memory-fault". */
export function runOnce(vcpu: Vcpu, program: Program, inputs: Inputs = {}): string {
  start(vcpu, program, inputs);
  return next(vcpu);
}

/** Goes on until the next exit. */
export function next(vcpu: Vcpu): string {
  const exit = new VcpuExit(vcpu);
  do vcpu.run();
  while (exit.reason === KVM_EXIT.INTR && !exit.isKicked);
  return inWords(exit);
}

export function inWords(exit: VcpuExit): string {
  const facts = exit.describe();
  if (facts.kind !== 'io' && facts.kind !== 'mmio') return facts.kind;
  const value = facts.data.length <= 4 ? [...facts.data].reduceRight((high, byte) => high * 256 + byte, 0) : 0;
  const shown = facts.isWrite ? ` = ${value.toString(16)}` : '';
  if (facts.kind === 'io') return `${facts.isWrite ? 'out' : 'in'} ${facts.port.toString(16)}${shown}`;
  return `mmio ${facts.isWrite ? 'write' : 'read'} ${facts.gpa.toString(16)}${shown}`;
}
