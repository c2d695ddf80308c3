// `membacking demo`: a recorded memory map, replayed on real memory under a real guest.

import { writeSync } from 'node:fs';
import {
  formatHex,
  type GuestMemory,
  KvmPartition,
  MembackingError,
  MemoryMap,
  type Partition,
  parseTrace,
  readText,
  SharedMemory,
  sampleTrace,
  TraceReplay,
} from '../index.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { Guest, guestImage, type Seen } from './demo/guest.ts';
import { Machine } from './demo/machine.ts';
import { print, printLines, styled } from './output.ts';
import { ReplayStatistics } from './statistics.ts';

const HELP = `usage: membacking demo

Puts the recorded memory map of a PC on real memory, lets a small guest read and write through a ROM that is
put over its RAM and taken off again, and prints what the guest saw beside what the flat view said; then the
whole map. Where /dev/kvm cannot be opened there is no guest; everything else is done.

  --help     print this

Examples:
  membacking demo
`;

/** Address that the guest reads and writes: RAM of the PC, away from the guest's own. */
const LOOK_AT = 0x80000;
const ROM_SIZE = 0x10000;
const ROM_WORD = 0xb105f00d;

export const demoCommand: Command = {
  help: HELP,
  options: {},
  async run({ operands }) {
    if (operands.length > 0) throw new UsageError('the demo takes no arguments');
    await heading('A recorded PC: its memory map while it booted, replayed through the core');
    const { header, operations } = parseTrace(await readText(sampleTrace()));
    const statistics = new ReplayStatistics();
    statistics.addOperations(operations);
    const onPlan = (plan: Parameters<ReplayStatistics['addPlan']>[0]) => statistics.addPlan(plan, true);
    const recorded = new TraceReplay({ policy: header.policy, onPlan });
    for (const operation of operations) recorded.apply(operation);
    await printLines(statistics.lines(recorded.coreMemory).map((line) => `  ${line}`));

    const { partition, missing } = openPartition();
    const lines: string[] = [];
    const map = new MemoryMap({ policy: header.policy, record: { write: (text) => lines.push(text) } });
    const machine = new Machine(map, partition ?? STAND_IN);
    let recording: string;
    try {
      await heading('The same on real memory');
      machine.play(operations[Symbol.iterator]());
      const { va, attachment } = machine;
      await printLines([
        `  VA space      ${va.pieces().length} pieces of memory, from ${formatHex(va.base)} on in this process`,
        `  partition     ${attachment.slots().length} memory slots ${partition === undefined ? 'for nobody' : 'of a KVM guest'}`,
        ...(missing === undefined
          ? []
          : [`  no guest      KVM cannot be used here (${missing}): the monitor does what the guest would`]),
      ]);
      await heading(`A ROM is put over RAM at ${formatHex(LOOK_AT)}, and taken off again`);
      await overlay(map, machine, partition);
      recording = lines.join('');
    } finally {
      map.close();
      machine.close();
      partition?.close();
    }

    await heading('The map now, as a replay of the recording of all this shows it');
    await printLines(flatViewsOf(recording).map((line) => `  ${line}`));
    return EXIT.done;
  },
};

/** Text of the flat views at the end of a recording. */
function flatViewsOf(recording: string): string[] {
  const { header, operations } = parseTrace(recording);
  const replay = new TraceReplay({ policy: header.policy });
  for (const operation of operations) replay.apply(operation);
  return replay.renderFlatViews();
}

async function overlay(map: MemoryMap, machine: Machine, partition: KvmPartition | undefined): Promise<void> {
  const { memory } = machine.va;
  memory.write(0, guestImage());
  const content = SharedMemory.create(ROM_SIZE, { name: 'overlay.rom' });
  writeSync(content.fd, Uint32Array.of(ROM_WORD));
  const rom = map.createRegion({ name: 'overlay.rom', kind: 'rom', size: ROM_SIZE });
  const guest = partition && new Guest(partition);
  const who = guest ? 'guest' : 'monitor';
  const rows = [['', `${who} reads`, `${who} writes`, 'flat view says']];
  const look = (moment: string, value: number) => {
    const { read, written } = guest?.readAndWrite(LOOK_AT, value) ?? monitorReadAndWrite(memory, LOOK_AT, value);
    rows.push([moment, word(read), `${word(value)} ${written ? 'done' : 'trapped'}`, visibleAt(machine, LOOK_AT)]);
  };
  try {
    rom.map({ object: content });
    look('RAM', 0x11111111);
    rom.place(machine.root, { priority: 1000, offset: LOOK_AT });
    look('ROM put over it', 0x22222222);
    rom.remove();
    look('ROM taken off', 0x33333333);
  } finally {
    guest?.close();
    content.close();
  }
  await printLines(table(rows));
}

/** Does what the guest would do, where there is no KVM to run one. */
function monitorReadAndWrite(memory: GuestMemory, gpa: number, value: number): Seen {
  const read = memory.readU32(gpa);
  try {
    memory.writeU32(gpa, value);
    return { read, written: true };
  } catch (error) {
    if (error instanceof MembackingError && error.code === 'GUEST_ACCESS') return { read, written: false };
    throw error;
  }
}

function openPartition(): { partition?: KvmPartition; missing?: string } {
  try {
    return { partition: KvmPartition.open() };
  } catch (error) {
    if (error instanceof MembackingError && error.code === 'SYSTEM')
      return { missing: String(error.details.code ?? error.message) };
    throw error;
  }
}

/** Takes memory slots, and does nothing with them. */
const STAND_IN: Partition = {
  name: 'stand-in',
  slotLimit: 509,
  addSlot() {},
  deleteSlot() {},
  pause() {},
  resume() {},
};

function visibleAt(machine: Machine, gpa: number): string {
  const { gpa: start, name, offsetInRegion, readonly } = machine.space.find(gpa)!;
  const offset = BigInt(offsetInRegion) + BigInt(gpa) - BigInt(start);
  return `${name} + ${offset.toString(16)}, ${readonly ? 'read-only' : 'writable'}`;
}

function word(value: number): string {
  return value.toString(16).padStart(8, '0');
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join('   ')}`.trimEnd());
}

async function heading(text: string): Promise<void> {
  await print(`\n${styled('bold', text)}\n\n`);
}
