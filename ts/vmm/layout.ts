// The guest-physical memory layout of the machine.
//
//   0        a0000    c0000     100000        low RAM ends      fec00000   4 GiB - firmware     4 GiB
//   +--------+--------+---------+-------------+-- … ------------+----------+--------------------+---------
//   | RAM    | VGA    | PAM     | RAM         | PCI: BARs       | APICs    | firmware           | high RAM
//   +--------+--------+---------+-------------+-----------------+----------+--------------------+---------

import type { AddressSpace, GpaRange } from '../index.ts';

const MIB = 0x10_0000;
export const FOUR_GIB = 0x1_0000_0000;
/** Above it, PCI memory begins. */
export const LOW_RAM_LIMIT = 0xc000_0000;
export const VGA_WINDOW: GpaRange = { gpa: 0xa0000, length: 0x20000 };
/** GPA of firmware's tables. */
export const FIRMWARE_TABLES = 0xf0000;
/** The interrupt controllers, and pages that KVM keeps for itself: devices do not show there. */
export const RESERVED: GpaRange = { gpa: 0xfec0_0000, length: 0x013c_0000 };
/** Range for BARs. */
export const PCI_MEMORY: GpaRange = { gpa: LOW_RAM_LIMIT, length: 0xfec0_0000 - LOW_RAM_LIMIT };
/** Three pages that KVM keeps for itself, among the reserved. */
export const KVM_PAGES = 0xfeff_d000;

/** Priorities in the root; RAM's is 255, a BAR's 0. */
export const PRIORITY = { firmware: 1, reserved: 1, vgaWindow: 256 } as const;

/** Bytes of RAM below and above 4 GiB. */
export function splitRam(memory: number): { low: number; high: number } {
  const low = Math.min(memory, LOW_RAM_LIMIT);
  return { low, high: memory - low };
}

/** RAM from 0 on, and what is more than fits below 4 GiB from there on. */
export function ramRanges(memory: number): { gpa: number; length: number }[] {
  const { low, high } = splitRam(memory);
  return [{ gpa: 0, length: low }, ...(high > 0 ? [{ gpa: FOUR_GIB, length: high }] : [])];
}

/** Ranges that the guest sees as RAM right now, in order of GPA. */
export function visibleRam(space: AddressSpace): { gpa: number; length: number }[] {
  const ranges: { gpa: number; length: number }[] = [];
  for (const { gpa, length, region, readonly } of space.flatView()) {
    if (region.kind !== 'ram' || readonly) continue;
    const before = ranges.at(-1);
    if (before !== undefined && before.gpa + before.length === gpa) before.length += Number(length);
    else ranges.push({ gpa: Number(gpa), length: Number(length) });
  }
  return ranges;
}

const E820_ENTRY = 20;
const E820_RAM = 1;

/** Ranges of RAM as firmware and kernels read them: start, length, type. */
export function e820(ranges: readonly { gpa: number; length: number }[]): Buffer {
  const table = Buffer.alloc(ranges.length * E820_ENTRY);
  for (const [i, { gpa, length }] of ranges.entries()) {
    table.writeBigUInt64LE(BigInt(gpa), i * E820_ENTRY);
    table.writeBigUInt64LE(BigInt(length), i * E820_ENTRY + 8);
    table.writeUInt32LE(E820_RAM, i * E820_ENTRY + 16);
  }
  return table;
}

/** Bytes that a guest of this monitor may have: whole MiB. */
export const MEMORY_LIMITS = { least: 4 * MIB, most: 0x80_0000_0000 } as const;
