// ACPI's tables, as firmware puts them into memory by the steps that it is handed, and as the monitor does itself.

import test, { type ExecutionContext } from 'ava';
import { GuestMemoryBuilder } from '../ts/index.ts';
import { acpiFiles, acpiOf, placeAcpi } from '../ts/vmm/acpi.ts';

const MACHINE = {
  cpus: 3,
  pciMemory: { gpa: 0xc000_0000, length: 0x3ec0_0000 },
  serial: { port: 0x3f8, interrupt: 4 },
};
const AT = 0xf0000;

/** Memory after firmware has read the file of steps and taken them, with files where the monitor would put them. */
function asFirmware(files: Readonly<Record<string, Buffer>>): Buffer {
  const memory = Buffer.alloc(0x10000);
  const placed = new Map<string, number>();
  const steps = files['etc/table-loader']!;
  let end = 0;
  for (let at = 0; at < steps.length; at += 128) {
    const step = steps.subarray(at, at + 128);
    const text = (from: number) => step.toString('latin1', from, from + 56).replace(/\0.*$/s, '');
    const file = text(4);
    const base = placed.get(file)!;
    if (step.readUInt32LE(0) === 1) {
      const alignment = step.readUInt32LE(60);
      end = Math.ceil(end / alignment) * alignment;
      placed.set(file, end);
      files[file]!.copy(memory, end);
      end += files[file]!.length;
    } else if (step.readUInt32LE(0) === 2) {
      const offset = base + step.readUInt32LE(116);
      const size = step.readUInt8(120);
      const value = memory.readUIntLE(offset, Math.min(size, 6)) + AT + placed.get(text(60))!;
      memory.writeUIntLE(value, offset, Math.min(size, 6));
    } else {
      const [offset, start, length] = [60, 64, 68].map((each) => base + step.readUInt32LE(each)) as [
        number,
        number,
        number,
      ];
      memory[offset] = -memory.subarray(start, length + start - base).reduce((sum, byte) => sum + byte, 0);
    }
  }
  return memory;
}

interface Table {
  readonly at: number;
  readonly bytes: Buffer;
}

/** Every table that the root pointer leads to, by its signature. */
function tablesOf(memory: Buffer, root: number): Map<string, Table> {
  const tableAt = (gpa: number): Table => {
    const at = gpa - AT;
    return { at: gpa, bytes: memory.subarray(at, at + memory.readUInt32LE(at + 4)) };
  };
  const tables = new Map<string, Table>();
  const add = (table: Table) => tables.set(table.bytes.toString('latin1', 0, 4), table);
  const xsdt = tableAt(Number(memory.readBigUInt64LE(root - AT + 24)));
  add(xsdt);
  for (let at = 36; at < xsdt.bytes.length; at += 8) add(tableAt(Number(xsdt.bytes.readBigUInt64LE(at))));
  const fadt = tables.get('FACP')!.bytes;
  for (const at of [36, 40]) add(tableAt(fadt.readUInt32LE(at)));
  return tables;
}

function sum(bytes: Uint8Array): number {
  return bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
}

/** 64 KiB from AT on, with the tables, and where the root pointer is. */
function placed(t: ExecutionContext): { memory: Buffer; root: number } {
  const guest = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x10_0000 }] }).build();
  t.teardown(() => guest.close());
  const root = placeAcpi(guest.guestMemory, AT, acpiOf(MACHINE));
  const memory = Buffer.alloc(0x10000);
  guest.guestMemory.read(AT, memory);
  return { memory, root };
}

test('the root pointer leads to every table, and all sums are right', (t) => {
  const { memory, root } = placed(t);
  t.deepEqual(memory, asFirmware(acpiFiles(acpiOf(MACHINE))), 'firmware and monitor make the same of the same steps');

  const rsdp = memory.subarray(root - AT, root - AT + 36);
  t.is(rsdp.toString('latin1', 0, 8), 'RSD PTR ');
  t.is(root % 16, 0);
  t.deepEqual([sum(rsdp.subarray(0, 20)), sum(rsdp)], [0, 0]);
  const tables = tablesOf(memory, root);
  t.deepEqual([...tables.keys()].sort(), ['APIC', 'DSDT', 'FACP', 'FACS', 'XSDT']);
  for (const [name, { at, bytes }] of tables) {
    t.is(at % 64, 0, name);
    if (name !== 'FACS') t.is(sum(bytes), 0, name);
  }
});

test('each processor has its local APIC in the table, by its number', (t) => {
  const { memory, root } = placed(t);
  const { bytes } = tablesOf(memory, root).get('APIC')!;
  const entries: string[] = [];
  for (let at = 44; at < bytes.length; at += bytes[at + 1]!)
    entries.push(bytes.toString('hex', at, at + bytes[at + 1]!));
  t.deepEqual(entries, [
    '0008000001000000',
    '0008010101000000',
    '0008020201000000',
    '010c00000000c0fe00000000',
    '020a0009090000000d00',
  ]);
});

test('devices are described in the bytecode of ACPI', (t) => {
  const { memory, root } = placed(t);
  const { bytes } = tablesOf(memory, root).get('DSDT')!;
  t.snapshot(bytes.toString('hex', 36).match(/.{1,64}/g));
});
