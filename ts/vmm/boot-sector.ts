// The boot sector of a machine without a disk: asks the firmware for the memory map, prints it by the firmware's own
// means, and leaves by the exit port.

import { assemble, type CodePart } from './assemble.ts';
import { EXIT_PORT } from './system-ports.ts';
import { SECTOR } from './virtio-block.ts';

/** Address at which firmware loads boot sectors. */
const ORIGIN = 0x7c00;
const SIGNATURE_AT = SECTOR - 2;

/** Beginning of code at ORIGIN: real mode, all segments at 0, the stack below. */
export const REAL_MODE_START: readonly CodePart[] = [
  [0x31, 0xc0], //                    xor  ax, ax
  [0x8e, 0xd8], //                    mov  ds, ax
  [0x8e, 0xc0], //                    mov  es, ax
  [0x8e, 0xd0], //                    mov  ss, ax
  [0xbc, 0x00, 0x7c], //              mov  sp, 7c00
  [0xfc], //                          cld
];

/** `print`: the text at SI, up to a 0. `hex`: the CX bytes that end at SI, the last one first. `put`: the character
 *  in AL. */
export const PRINTING: readonly CodePart[] = [
  { label: 'print' },
  [0xac], //                          lodsb
  [0x84, 0xc0], //                    test al, al
  { near: 'printed', code: [0x74] }, // jz  printed
  { far: 'put', code: [0xe8], width: 2 }, // call put
  { near: 'print', code: [0xeb] }, // jmp  print
  { label: 'printed' },
  [0xc3], //                          ret

  { label: 'hex' },
  [0x8a, 0x04], //                    mov  al, [si]
  [0xc0, 0xe8, 0x04], //              shr  al, 4
  { far: 'digit', code: [0xe8], width: 2 }, // call digit
  [0x8a, 0x04], //                    mov  al, [si]
  [0x24, 0x0f], //                    and  al, 0f
  { far: 'digit', code: [0xe8], width: 2 }, // call digit
  [0x4e], //                          dec  si
  { near: 'hex', code: [0xe2] }, //   loop hex
  [0xc3], //                          ret

  { label: 'digit' },
  [0x3c, 0x0a], //                    cmp  al, 10
  [0x72, 0x02], //                    jb   +2
  [0x04, 0x27], //                    add  al, 'a' - '0' - 10
  [0x04, 0x30], //                    add  al, '0'
  { label: 'put' },
  [0x60], //                          pusha
  [0xb4, 0x0e], //                    mov  ah, 0e
  [0xbb, 0x07, 0x00], //              mov  bx, 7
  [0xcd, 0x10], //                    int  10                 the firmware's teletype
  [0x61], //                          popa
  [0xc3], //                          ret
];

/** Prints the firmware's memory map (int 15, e820): a line for each entry, with start, length and type. */
export const PRINT_E820: readonly CodePart[] = [
  [0x66, 0x31, 0xdb], //              xor  ebx, ebx           the first entry
  { label: 'entry' },
  [0xbf, 0x00, 0x06], //              mov  di, 600            goes here
  [0x66, 0xb8, 0x20, 0xe8, 0, 0], //  mov  eax, e820
  [0x66, 0xba, 0x50, 0x41, 0x4d, 0x53], // mov edx, 'SMAP'
  [0x66, 0xb9, 20, 0, 0, 0], //       mov  ecx, 20
  [0xcd, 0x15], //                    int  15
  { near: 'no entry', code: [0x72] }, // jc  no entry
  { address: 'e820', code: [0xbe], width: 2 }, // mov si, "e820 "
  { far: 'print', code: [0xe8], width: 2 }, // call print
  [0xbe, 0x07, 0x06], //              mov  si, 607            start
  [0xb9, 8, 0], //                    mov  cx, 8
  { far: 'hex', code: [0xe8], width: 2 }, // call hex
  [0xb0, 0x20], //                    mov  al, ' '
  { far: 'put', code: [0xe8], width: 2 }, // call put
  [0xbe, 0x0f, 0x06], //              mov  si, 60f            length
  [0xb9, 8, 0], //                    mov  cx, 8
  { far: 'hex', code: [0xe8], width: 2 }, // call hex
  [0xb0, 0x20], //                    mov  al, ' '
  { far: 'put', code: [0xe8], width: 2 }, // call put
  [0xbe, 0x10, 0x06], //              mov  si, 610            type
  [0xb9, 1, 0], //                    mov  cx, 1
  { far: 'hex', code: [0xe8], width: 2 }, // call hex
  { address: 'new line', code: [0xbe], width: 2 }, // mov si, new line
  { far: 'print', code: [0xe8], width: 2 }, // call print
  [0x66, 0x85, 0xdb], //              test ebx, ebx
  { near: 'entry', code: [0x75] }, // jnz  entry
  { label: 'no entry' },
];

/** Texts that PRINT_E820 prints: to be put behind the code. */
export const E820_TEXTS: readonly CodePart[] = [
  { label: 'e820' },
  { text: 'e820 \0' },
  { label: 'new line' },
  { text: '\r\n\0' },
];

/** A disk of one sector with this code. Throws RangeError for code that does not fit. */
export function bootSector(parts: readonly CodePart[]): Uint8Array {
  const code = assemble(ORIGIN, parts);
  if (code.length > SIGNATURE_AT) throw new RangeError(`the code has ${code.length} bytes: too many for a boot sector`);
  const sector = new Uint8Array(SECTOR);
  sector.set(code);
  sector.set([0x55, 0xaa], SIGNATURE_AT);
  return sector;
}

/** Code that leaves by the exit port with `status`. */
export function leave(status: number): CodePart {
  return [0xb0, status, 0xe6, EXIT_PORT]; // mov al, status; out f4, al
}

/** Boot sector that prints the firmware's memory map, and leaves by the exit port. */
export function demoSector(): Uint8Array {
  return bootSector([
    ...REAL_MODE_START,
    { address: 'greeting', code: [0xbe], width: 2 }, // mov si, greeting
    { far: 'print', code: [0xe8], width: 2 }, // call print
    ...PRINT_E820,
    { address: 'farewell', code: [0xbe], width: 2 }, // mov si, farewell
    { far: 'print', code: [0xe8], width: 2 }, // call print
    leave(0),
    { label: 'halt' },
    [0xf4], //                        hlt
    { near: 'halt', code: [0xeb] }, // jmp halt
    ...PRINTING,
    ...E820_TEXTS,
    { label: 'greeting' },
    { text: 'This is a boot sector. The memory map of int 15h:\r\n\0' },
    { label: 'farewell' },
    { text: 'That is all.\r\n\r\n\0' }, // the firmware sends the last character only when another follows
  ]);
}
