// ACPI tables: what the machine has, for guests that do not know it by heart. They are put together without knowing
// where they will lie; a few steps then make addresses and checksums right. Firmware takes those steps from a file
// (fw_cfg's loader); without firmware, `placeAcpi` does.

import type { GpaRange, GuestMemory } from '../index.ts';
import * as aml from './aml.ts';
import { LINK_LINES } from './isa-bridge.ts';
import { linkOf, PCI_SLOTS } from './pci.ts';
import { POWER_OFF, POWER_PORTS } from './power.ts';
import { RESET_NOW, RESET_PORT } from './system-ports.ts';

interface AcpiMachine {
  readonly cpus: number;
  /** Range for BARs, below 4 GiB. */
  readonly pciMemory: GpaRange;
  readonly serial: { readonly port: number; readonly interrupt: number };
}

type Step =
  /** The file gets a place. */
  | { readonly kind: 'allocate'; readonly file: string; readonly alignment: number; readonly isBelow1Mib: boolean }
  /** Adds the address of the file `to` to the number at `at`. */
  | { readonly kind: 'point'; readonly file: string; readonly at: number; readonly size: number; readonly to: string }
  /** The byte at `at` makes the sum of all in the range 0. */
  | {
      readonly kind: 'sum';
      readonly file: string;
      readonly at: number;
      readonly start: number;
      readonly length: number;
    };

export interface Acpi {
  readonly files: Readonly<Record<string, Buffer>>;
  readonly steps: readonly Step[];
}

const RSDP = 'etc/acpi/rsdp';
const TABLES = 'etc/acpi/tables';
const ALIGNMENT = 64;
const HEADER = 36;
const CHECKSUM_AT = 9;
const LOCAL_APIC = 0xfee0_0000;
const IO_APIC = 0xfec0_0000;
const SCI = 9;

export function acpiOf(machine: AcpiMachine): Acpi {
  const tables = new Tables();
  const facs = tables.add(facsTable());
  const dsdt = tables.addSummed(table('DSDT', 2, Buffer.from(devices(machine))));
  const fadt = tables.add(fadtTable(facs, dsdt));
  for (const at of [36, 40]) tables.point(fadt + at, 4);
  tables.sum(fadt);
  const madt = tables.addSummed(table('APIC', 3, interruptControllers(machine.cpus)));
  const xsdt = tables.add(table('XSDT', 1, numbers(8, fadt, madt)));
  for (const at of [0, 8]) tables.point(xsdt + HEADER + at, 8);
  tables.sum(xsdt);
  return { files: { [TABLES]: tables.content, [RSDP]: rsdpTable(xsdt) }, steps: [...tables.steps, ...RSDP_STEPS] };
}

/** One file of tables, each at a multiple of 64 bytes, and the steps that make it right. */
class Tables {
  content = Buffer.alloc(0);
  readonly steps: Step[] = [{ kind: 'allocate', file: TABLES, alignment: ALIGNMENT, isBelow1Mib: false }];

  /** Returns its offset. */
  add(content: Buffer): number {
    const offset = this.content.length;
    this.content = Buffer.concat([this.content, content, Buffer.alloc(-content.length & (ALIGNMENT - 1))]);
    return offset;
  }

  addSummed(content: Buffer): number {
    const offset = this.add(content);
    this.sum(offset);
    return offset;
  }

  /** The number at `at` is an offset in the file, and is to become an address. */
  point(at: number, size: number): void {
    this.steps.push({ kind: 'point', file: TABLES, at, size, to: TABLES });
  }

  sum(table: number): void {
    const length = this.content.readUInt32LE(table + 4);
    this.steps.push({ kind: 'sum', file: TABLES, at: table + CHECKSUM_AT, start: table, length });
  }
}

// ---- The tables --------------------------------------------------------------------------------

function table(signature: string, revision: number, content: Buffer): Buffer {
  const header = Buffer.alloc(HEADER);
  header.write(signature, 0, 'latin1');
  header.writeUInt32LE(HEADER + content.length, 4);
  header.writeUInt8(revision, 8);
  header.write('MEMBCKMACHINE \0\0\0\0MBCK', 10, 'latin1');
  return Buffer.concat([header, content]);
}

/** The root pointer, to the list of tables. */
function rsdpTable(xsdt: number): Buffer {
  const rsdp = Buffer.alloc(36);
  rsdp.write('RSD PTR \0MEMBCK', 0, 'latin1');
  rsdp.writeUInt8(2, 15);
  rsdp.writeUInt32LE(rsdp.length, 20);
  rsdp.writeUInt32LE(xsdt, 24);
  return rsdp;
}

const RSDP_STEPS: readonly Step[] = [
  { kind: 'allocate', file: RSDP, alignment: 16, isBelow1Mib: true },
  { kind: 'point', file: RSDP, at: 24, size: 8, to: TABLES },
  { kind: 'sum', file: RSDP, at: 8, start: 0, length: 20 },
  { kind: 'sum', file: RSDP, at: 32, start: 0, length: 36 },
];

/** Memory that firmware and system share; nothing is in it here. */
function facsTable(): Buffer {
  const facs = Buffer.alloc(64);
  facs.write('FACS', 0, 'latin1');
  facs.writeUInt32LE(facs.length, 4);
  return facs;
}

/** Registers of the machine itself, and what it lacks. */
function fadtTable(facs: number, dsdt: number): Buffer {
  const fadt = table('FACP', 3, Buffer.alloc(244 - HEADER));
  fadt.writeUInt32LE(facs, 36);
  fadt.writeUInt32LE(dsdt, 40);
  fadt.writeUInt16LE(SCI, 46);
  fadt.writeUInt32LE(POWER_PORTS.event, 56);
  fadt.writeUInt32LE(POWER_PORTS.control, 64);
  fadt.writeUInt32LE(POWER_PORTS.timer, 76);
  fadt.set([4, 2, 0, 4], 88); // bytes of each; there is no second control register
  for (const latency of [96, 98]) fadt.writeUInt16LE(0xfff, latency); // no deeper idle states
  fadt.writeUInt8(0x32, 108); // the century, in CMOS
  fadt.writeUInt16LE(0x5, 109); // devices of old are there, VGA and the keyboard are not
  fadt.writeUInt32LE(0x435, 112); // no buttons here; HLT works; the reset register is there
  fadt.set([1, 8, 0, 1], 116); // a port of 8 bits
  fadt.writeUInt32LE(RESET_PORT, 120);
  fadt.writeUInt8(RESET_NOW | 2, 128);
  return fadt;
}

function interruptControllers(cpus: number): Buffer {
  const localApics = Array.from({ length: cpus }, (_, id) => [0, 8, id, id, 1, 0, 0, 0]);
  const ioApic = [1, 12, 0, 0, ...numbers(4, IO_APIC, 0)];
  const sciIsLevel = [2, 10, 0, SCI, SCI, 0, 0, 0, 0x0d, 0];
  return Buffer.concat([numbers(4, LOCAL_APIC, 1), Buffer.from([...localApics.flat(), ...ioApic, ...sciIsLevel])]);
}

function devices({ pciMemory: { gpa, length }, serial }: AcpiMachine): aml.Aml {
  const slots = Array.from({ length: PCI_SLOTS }, (_, slot) => slot);
  // The first pin of each slot leads to a line.
  const routes = slots.map((slot) => [slot * 0x10000 + 0xffff, 0, 0, LINK_LINES[linkOf(slot)]!].map(aml.integer));
  const pci = aml.device(
    'PCI0',
    aml.name('_HID', aml.pnpId('PNP0A03')),
    aml.name('_UID', aml.integer(0)),
    aml.name(
      '_CRS',
      aml.resources(
        aml.window('buses', 0, 0),
        aml.ports(0xcf8, 8),
        aml.window('ports', 0, 0xcf7),
        aml.window('ports', 0xd00, 0xffff),
        aml.window('memory', 0xa0000, 0xbffff),
        aml.window('memory', Number(gpa), Number(gpa) + Number(length) - 1),
      ),
    ),
    aml.name('_PRT', aml.list(...routes.map((route) => aml.list(...route)))),
  );
  const com1 = aml.device(
    'COM1',
    aml.name('_HID', aml.pnpId('PNP0501')),
    aml.name('_UID', aml.integer(1)),
    aml.name('_CRS', aml.resources(aml.ports(serial.port, 8), aml.interrupt(serial.interrupt))),
  );
  const off = aml.list(aml.integer(POWER_OFF), ...[0, 0, 0].map(aml.integer));
  return [...aml.scope('\\_SB', pci, com1), ...aml.name('\\_S5', off)];
}

/** Little-endian. */
function numbers(size: number, ...values: readonly number[]): Buffer {
  const content = Buffer.alloc(size * values.length);
  for (const [i, value] of values.entries()) content.writeUInt32LE(value, i * size);
  return content;
}

// ---- The steps ---------------------------------------------------------------------------------

/** Puts the tables into guest memory from `gpa` on, a multiple of 64. Returns the root pointer's address. */
export function placeAcpi(memory: GuestMemory, gpa: number, { files, steps }: Acpi): number {
  const placed = new Map<string, { readonly at: number; readonly content: Buffer }>();
  let end = gpa;
  for (const step of steps) {
    if (step.kind === 'allocate') {
      placed.set(step.file, { at: end, content: Buffer.from(files[step.file]!) });
      end += Math.ceil(files[step.file]!.length / ALIGNMENT) * ALIGNMENT;
      continue;
    }
    const { content } = placed.get(step.file)!;
    if (step.kind === 'point') {
      content.writeUInt32LE(content.readUInt32LE(step.at) + placed.get(step.to)!.at, step.at);
    } else {
      content[step.at] = -content.subarray(step.start, step.start + step.length).reduce((sum, byte) => sum + byte, 0);
    }
  }
  for (const { at, content } of placed.values()) memory.write(at, content);
  return placed.get(RSDP)!.at;
}

const STEP_SIZE = 128;
const NAME_SIZE = 56;

/** Files for firmware: the tables, and the steps as it reads them. */
export function acpiFiles({ files, steps }: Acpi): Record<string, Buffer> {
  return { ...files, 'etc/table-loader': Buffer.concat(steps.map(stepForFirmware)) };
}

function stepForFirmware(step: Step): Buffer {
  const bytes = Buffer.alloc(STEP_SIZE);
  const name = (at: number, file: string) => bytes.write(file, at, 'latin1');
  const first = 4 + NAME_SIZE;
  name(4, step.file);
  if (step.kind === 'allocate') {
    bytes.writeUInt32LE(1, 0);
    bytes.writeUInt32LE(step.alignment, first);
    bytes.writeUInt8(step.isBelow1Mib ? 2 : 1, first + 4);
  } else if (step.kind === 'point') {
    bytes.writeUInt32LE(2, 0);
    name(first, step.to);
    bytes.writeUInt32LE(step.at, first + NAME_SIZE);
    bytes.writeUInt8(step.size, first + NAME_SIZE + 4);
  } else {
    bytes.writeUInt32LE(3, 0);
    for (const [i, value] of [step.at, step.start, step.length].entries()) bytes.writeUInt32LE(value, first + 4 * i);
  }
  return bytes;
}
