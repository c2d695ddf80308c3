// Guests for the monitor: a boot sector that looks around from inside, a kernel of a few bytes, firmware that echoes.

import { existsSync } from 'node:fs';
import {
  assemble,
  bootSector,
  type CodePart,
  E820_TEXTS,
  leave,
  PRINT_E820,
  PRINTING,
  REAL_MODE_START,
} from '../../ts/vmm/index.ts';

export const SEABIOS = '/usr/share/seabios/bios-256k.bin';
/** Reason why SeaBIOS cannot boot here; undefined where it can. */
export const seabiosMissing = existsSync(SEABIOS) ? undefined : `${SEABIOS} is not there (Debian: seabios)`;

// ---- A boot sector -----------------------------------------------------------------------------

/** Writes a word at ES:0, reads it back and prints what came. */
function probe(value: number): CodePart[] {
  return [
    [0x26, 0xc7, 0x06, 0, 0, value & 0xff, value >> 8], // mov word [es:0], value
    [0x26, 0xa1, 0, 0], //                    mov  ax, [es:0]
    { far: 'word', code: [0xe8], width: 2 }, // call word
  ];
}

/** Sets PAM register 5a, which has c0000-c7fff. */
function setPam(value: number): CodePart[] {
  return [
    [0x66, 0xb8, 0x58, 0, 0, 0x80], //        mov  eax, 80000058
    [0xba, 0xf8, 0x0c], //                    mov  dx, cf8
    [0x66, 0xef], //                          out  dx, eax
    [0xba, 0xfe, 0x0c], //                    mov  dx, cfe
    [0xb0, value], //                         mov  al, value
    [0xee], //                                out  dx, al
  ];
}

function setEs(segment: number): CodePart[] {
  return [
    [0xb8, segment & 0xff, segment >> 8], //  mov  ax, segment
    [0x8e, 0xc0], //                          mov  es, ax
  ];
}

/** Prints the firmware's memory map and what PAM registers do to writes; then resets the machine once, and does it all
 *  again. A byte of CMOS says which time it is. */
export const lookingAround = bootSector([
  ...REAL_MODE_START,
  ...PRINT_E820,
  { address: 'pam', code: [0xbe], width: 2 }, //  mov  si, "pam"
  { far: 'print', code: [0xe8], width: 2 }, //    call print
  ...setEs(0xc000),
  ...probe(0x1111), // as the firmware left it
  ...setPam(0x33),
  ...probe(0x2222), // RAM
  ...setPam(0x22),
  ...probe(0x3333), // RAM for writes only
  ...setPam(0x11),
  ...probe(0x4444), // RAM for reads only
  ...setEs(0xf000),
  ...probe(0x5555), // the firmware itself
  { address: 'end', code: [0xbe], width: 2 }, //  mov  si, end
  { far: 'print', code: [0xe8], width: 2 }, //    call print
  [0xb0, 0x50, 0xe6, 0x70], //                    mov  al, 50; out 70, al
  [0xe4, 0x71], //                                in   al, 71
  [0x84, 0xc0], //                                test al, al
  { near: 'again', code: [0x75] }, //             jnz  again
  [0xb0, 1, 0xe6, 0x71], //                       mov  al, 1; out 71, al
  [0xba, 0xf9, 0x0c, 0xb0, 6, 0xee], //           mov  dx, cf9; mov al, 6; out dx, al
  { label: 'again' },
  leave(0),
  { label: 'halt' },
  [0xf4], //                                      hlt
  { near: 'halt', code: [0xeb] }, //              jmp  halt

  { label: 'word' }, // prints " " and AX
  [0xa3, 0x20, 0x06], //                          mov  [620], ax
  [0xb0, 0x20], //                                mov  al, ' '
  { far: 'put', code: [0xe8], width: 2 }, //      call put
  [0xbe, 0x21, 0x06], //                          mov  si, 621
  [0xb9, 2, 0], //                                mov  cx, 2
  { far: 'hex', code: [0xe9], width: 2 }, //      jmp  hex
  ...PRINTING,
  ...E820_TEXTS,
  { label: 'pam' },
  { text: 'pam\0' },
  { label: 'end' },
  { text: ' end.\0' }, // the firmware sends the last character only when another follows
]);

// ---- A kernel ----------------------------------------------------------------------------------

const COM1 = [0x66, 0xba, 0xf8, 0x03]; // mov dx, 3f8

/** Writes a register of the PCI function 00:02.0. */
function pciWrite(register: number, value: readonly number[]): CodePart[] {
  return [
    [0xb8, register, 0x10, 0, 0x80], //       mov  eax, 80001000 + register
    [0x66, 0xba, 0xf8, 0x0c], //              mov  dx, cf8
    [0xef], //                                out  dx, eax
    [0xb8, ...value], //                      mov  eax, value
    [0x66, 0xba, 0xfc, 0x0c], //              mov  dx, cfc
    [0xef], //                                out  dx, eax
  ];
}

const WHERE_BAR_WAS = [0, 0, 0, 0xe0];
const WHERE_BAR_IS = [0, 0, 0, 0xd0];

/** State that the kernel leaves: where the BAR is, and what it wrote there while the BAR was elsewhere. */
export const KERNEL_LEAVES = { bar: 0xd000_0000, word: 0x1234_5678, letter: 'V'.charCodeAt(0) } as const;

/** Sends its command line, the count and entries of its e820 table, the first bytes of its initrd, and a word that it
 *  wrote into a BAR and reads from it elsewhere. In long mode, with RSI at the zero page. */
const KERNEL_CODE = assemble(0, [
  [0x89, 0xf3], //                            mov  ebx, esi
  [0x8b, 0xb3, 0x28, 0x02, 0, 0], //          mov  esi, [rbx + 228]     command line
  COM1,
  { label: 'character' },
  [0xac], //                                  lodsb
  [0xee], //                                  out  dx, al
  [0x84, 0xc0], //                            test al, al
  { near: 'character', code: [0x75] }, //     jnz  character
  [0x8a, 0x83, 0xe8, 0x01, 0, 0], //          mov  al, [rbx + 1e8]      entries of the e820 table
  [0xee], //                                  out  dx, al
  [0x0f, 0xb6, 0xc8], //                      movzx ecx, al
  [0x6b, 0xc9, 20], //                        imul ecx, ecx, 20
  [0x48, 0x8d, 0xb3, 0xd0, 0x02, 0, 0], //    lea  rsi, [rbx + 2d0]
  [0xf3, 0x6e], //                            rep  outsb
  [0x8b, 0xb3, 0x18, 0x02, 0, 0], //          mov  esi, [rbx + 218]     initrd
  [0xb9, 4, 0, 0, 0], //                      mov  ecx, 4
  [0xf3, 0x6e], //                            rep  outsb
  ...pciWrite(0x10, WHERE_BAR_WAS),
  ...pciWrite(0x04, [2, 0, 0, 0]),
  [0xbf, ...WHERE_BAR_WAS], //                mov  edi, e0000000
  [0xc7, 0x07, 0x78, 0x56, 0x34, 0x12], //    mov  dword [rdi], 12345678
  ...pciWrite(0x10, WHERE_BAR_IS),
  [0xbe, ...WHERE_BAR_IS], //                 mov  esi, d0000000
  COM1,
  [0xb9, 4, 0, 0, 0], //                      mov  ecx, 4
  [0xf3, 0x6e], //                            rep  outsb
  [0xbf, 0, 0x80, 0x0b, 0], //                mov  edi, b8000
  [0xc6, 0x07, KERNEL_LEAVES.letter], //      mov  byte [rdi], 'V'
  leave(0),
  { label: 'halt' },
  [0xf4], //                                  hlt
  { near: 'halt', code: [0xeb] }, //          jmp  halt
]);

/** A bzImage: boot protocol 2.15, 64-bit entry, at 1 MiB. */
export function bzImage({
  hasEntry64 = true,
  preferredAddress = 0x10_0000n,
  initrdLimit = 0x7fff_ffff,
  setupSectors = 1,
} = {}): Uint8Array {
  const code = Buffer.alloc(0x200 + 0xe00);
  code.set(KERNEL_CODE, 0x200);
  const setup = Buffer.alloc(1024);
  setup.writeUInt8(setupSectors, 0x1f1); // besides the first
  setup.writeUInt32LE(code.length / 16, 0x1f4);
  setup.writeUInt16LE(0xaa55, 0x1fe);
  setup.set([0xeb, 0x66], 0x200); // the header ends at 268
  setup.write('HdrS', 0x202, 'latin1');
  setup.writeUInt16LE(0x20f, 0x206);
  setup.writeUInt32LE(initrdLimit, 0x22c); // the initrd's highest address
  setup.writeUInt16LE(hasEntry64 ? 1 : 0, 0x236);
  setup.writeUInt32LE(255, 0x238); // bytes of command line
  setup.writeBigUInt64LE(preferredAddress, 0x258);
  setup.writeUInt32LE(0x1_0000, 0x260); // memory that it needs there
  return Buffer.concat([setup, code]);
}

// ---- Firmware ----------------------------------------------------------------------------------

/** Firmware that sends ">", and then back what it receives, until Ctrl-D. */
export const echo = Buffer.alloc(0x10000);
echo.set([0xe9, 0x07, 0xff], 0xfff0); // jmp fefa
echo.set([0xba, 0xf8, 0x03, 0xb0, 0x3e, 0xee], 0xfefa); // mov dx, 3f8; mov al, '>'; out dx, al
echo.set([0xba, 0xfd, 0x03, 0xec], 0xff00); // mov dx, 3fd; in al, dx
echo.set([0xa8, 0x01, 0x74, 0xf8], 0xff04); // test al, 1; jz ff00
echo.set([0xba, 0xf8, 0x03, 0xec], 0xff08); // mov dx, 3f8; in al, dx
echo.set([0x3c, 0x04, 0x74, 0x03], 0xff0c); // cmp al, 4; je ff13
echo.set([0xee, 0xeb, 0xed], 0xff10); //       out dx, al; jmp ff00
echo.set([0xb0, 0x00, 0xe6, 0xf4], 0xff13); // mov al, 0; out f4, al
echo.set([0xf4, 0xeb, 0xfd], 0xff17); //       hlt; jmp to it
