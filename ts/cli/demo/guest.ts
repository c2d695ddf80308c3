// A guest of 16 bytes of code: it reads a word of its memory, says what it read, writes another, says so, and begins
// anew. Where, and what it writes, it asks. It runs in long mode at CPL3, so that the processor itself does it.
//
//      0        1000      2000          8000  9000
//      +--------+---------+-------------+-----+
//      | zeroes | program | page tables | GDT |      GPA = linear address, up to 4 GiB
//      +--------+---------+-------------+-----+
//
// Page 0 is the I/O permission bitmap of a TSS at 0: all ports are free.

import { type Exit, type KvmPartition, MembackingError, type Vcpu } from '../../index.ts';

const PROGRAM_AT = 0x1000;
const TABLES_AT = 0x2000;
const GDT_AT = 0x8000;
const SIZE = 0x9000;

const ASK_WHERE = 0x20;
const SAY_READ = 0x21;
const ASK_WHAT = 0x22;
const SAY_WRITTEN = 0x23;

// biome-ignore format: one instruction a line
const PROGRAM = [
  0xe5, ASK_WHERE,   // again: in   eax, ASK_WHERE
  0x89, 0xc3,        //        mov  ebx, eax
  0x8b, 0x03,        //        mov  eax, [rbx]
  0xe7, SAY_READ,    //        out  SAY_READ, eax
  0xe5, ASK_WHAT,    //        in   eax, ASK_WHAT
  0x89, 0x03,        //        mov  [rbx], eax
  0xe7, SAY_WRITTEN, //        out  SAY_WRITTEN, eax
  0xeb, 0xf0,        //        jmp  again
];

/** Contents of the guest's memory from GPA 0 on, before it runs. */
export function guestImage(): Uint8Array {
  const image = new Uint8Array(SIZE);
  image.set(PROGRAM, PROGRAM_AT);
  const memory = new DataView(image.buffer);
  const present = 0x7n; // writable, for users
  const large = 0x80n; // 2 MiB
  memory.setBigUint64(TABLES_AT, BigInt(TABLES_AT + 0x1000) | present, true);
  for (let gib = 0; gib < 4; gib++) {
    const directory = TABLES_AT + 0x2000 + gib * 0x1000;
    memory.setBigUint64(TABLES_AT + 0x1000 + gib * 8, BigInt(directory) | present, true);
    for (let entry = 0; entry < 512; entry++) {
      memory.setBigUint64(directory + entry * 8, (BigInt(gib * 512 + entry) << 21n) | large | present, true);
    }
  }
  memory.setBigUint64(GDT_AT + 0x18, 0x00cff3000000ffffn, true); // data of users
  memory.setBigUint64(GDT_AT + 0x20, 0x00affb000000ffffn, true); // code of users, 64 bits
  return image;
}

export interface Seen {
  /** The word that the guest read. */
  readonly read: number;
  /** Whether its write went to memory; else it trapped. */
  readonly written: boolean;
}

export class Guest {
  readonly #vcpu: Vcpu;

  /** Makes the vCPU. Precondition: `guestImage` is in the guest's memory. */
  constructor(partition: KvmPartition) {
    this.#vcpu = partition.createVcpu(0);
    const flat = { base: 0n, limit: 0xffffffff, present: 1, dpl: 3, s: 1, g: 1, avl: 0, unusable: 0 };
    const data = { ...flat, selector: 0x1b, type: 0x3, db: 1, l: 0 };
    this.#vcpu.specialRegisters = {
      cs: { ...flat, selector: 0x23, type: 0xb, db: 0, l: 1 },
      ...{ ds: data, es: data, fs: data, gs: data, ss: data },
      gdt: { base: BigInt(GDT_AT), limit: 0x27 },
      ...{ cr0: 0x80050033n, cr3: BigInt(TABLES_AT), cr4: 0x20n, efer: 0x500n }, // paging, protection, long mode
    };
    this.#vcpu.registers = { rip: BigInt(PROGRAM_AT), rflags: 0x3002n }; // IOPL 3
  }

  /** Lets the guest read the word at `gpa`, and then write `value` there. */
  readAndWrite(gpa: number, value: number): Seen {
    let read = 0;
    let written = true;
    for (;;) {
      const exit = this.#vcpu.runToExit();
      if (exit.kind === 'mmio' && exit.isWrite) written = false;
      else if (exit.kind !== 'io') throw unexpected(exit);
      else if (exit.port === ASK_WHERE) answer(exit.data, gpa);
      else if (exit.port === ASK_WHAT) answer(exit.data, value);
      else if (exit.port === SAY_READ) read = wordIn(exit.data).getUint32(0, true);
      else return { read, written };
    }
  }

  close(): void {
    this.#vcpu.close();
  }
}

function answer(data: Uint8Array, value: number): void {
  wordIn(data).setUint32(0, value, true);
}

function wordIn(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

function unexpected(exit: Exit): MembackingError {
  return new MembackingError('SYSTEM', `the guest stopped unexpectedly: ${exit.kind}`, { details: { exit } });
}
