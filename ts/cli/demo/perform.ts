// The demonstration itself: a recorded PC on real memory, with a ROM put over its RAM and taken off again.

import { writeSync } from 'node:fs';
import {
  type Address,
  type GuestMemory,
  KvmPartition,
  MembackingError,
  MemoryMap,
  type Partition,
  parseTrace,
  readText,
  SharedMemory,
  sampleTrace,
  type TraceFlatRange,
  type TracePlan,
  TraceReplay,
} from '../../index.ts';
import { ReplayStatistics } from '../statistics.ts';
import { Guest, guestImage, type Seen } from './guest.ts';
import { Machine } from './machine.ts';

/** Address that the guest reads and writes: RAM of the PC, away from the guest's own. */
export const LOOK_AT = 0x80000;
const ROM_SIZE = 0x10000;
const ROM_WORD = 0xb105f00d;

/** Word that the guest read at `LOOK_AT`, and what became of the `value` that it wrote there. */
export interface Look extends Seen {
  readonly moment: string;
  readonly value: number;
  /** Byte that the flat view shows at the address. */
  readonly visible: Pick<TraceFlatRange, 'name' | 'offsetInRegion' | 'readonly'>;
}

export interface Performed {
  /** Counts of the recorded PC's replay. */
  readonly statistics: ReplayStatistics;
  readonly coreMemory: TraceReplay['coreMemory'];
  /** Host-virtual address of the VA space. */
  readonly base: Address;
  readonly pieces: number;
  readonly slots: number;
  /** Reason why there is no guest, and the monitor does what it would; undefined where there is one. */
  readonly missing: string | undefined;
  readonly looks: readonly Look[];
  /** Replay of the recording of all this. */
  readonly replay: TraceReplay;
}

/** Does it all. Throws MembackingError. */
export async function perform(): Promise<Performed> {
  const trace = parseTrace(await readText(sampleTrace()));
  const { header, operations } = trace;
  const statistics = new ReplayStatistics();
  statistics.addOperations(operations);
  const recorded = replayed(trace, (plan) => statistics.addPlan(plan, true));

  const { partition, missing } = openPartition();
  const lines: string[] = [];
  const map = new MemoryMap({ policy: header.policy, record: { write: (text) => lines.push(text) } });
  const machine = new Machine(map, partition ?? STAND_IN);
  try {
    machine.play(operations[Symbol.iterator]());
    const { va, attachment } = machine;
    const counts = { base: va.base, pieces: va.pieces().length, slots: attachment.slots().length };
    const looks = overlay(map, machine, partition);
    const { coreMemory } = recorded;
    return { statistics, coreMemory, ...counts, missing, looks, replay: replayed(parseTrace(lines.join(''))) };
  } finally {
    map.close();
    machine.close();
    partition?.close();
  }
}

function replayed(
  { header, operations }: ReturnType<typeof parseTrace>,
  onPlan?: (plan: TracePlan) => void,
): TraceReplay {
  const replay = new TraceReplay({ policy: header.policy, ...(onPlan && { onPlan }) });
  for (const operation of operations) replay.apply(operation);
  return replay;
}

function overlay(map: MemoryMap, machine: Machine, partition: KvmPartition | undefined): Look[] {
  const { memory } = machine.va;
  memory.write(0, guestImage());
  const content = SharedMemory.create(ROM_SIZE, { name: 'overlay.rom' });
  writeSync(content.fd, Uint32Array.of(ROM_WORD));
  const rom = map.createRegion({ name: 'overlay.rom', kind: 'rom', size: ROM_SIZE });
  const guest = partition && new Guest(partition);
  const look = (moment: string, value: number): Look => {
    const seen = guest?.readAndWrite(LOOK_AT, value) ?? monitorReadAndWrite(memory, LOOK_AT, value);
    return { moment, value, ...seen, visible: visibleAt(machine, LOOK_AT) };
  };
  try {
    rom.map({ object: content });
    const before = look('RAM', 0x11111111);
    rom.place(machine.root, { priority: 1000, offset: LOOK_AT });
    const covered = look('ROM put over it', 0x22222222);
    rom.remove();
    return [before, covered, look('ROM taken off', 0x33333333)];
  } finally {
    guest?.close();
    content.close();
  }
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

function visibleAt(machine: Machine, gpa: number): Look['visible'] {
  const { gpa: start, name, offsetInRegion, readonly } = machine.space.find(gpa)!;
  return { name, offsetInRegion: BigInt(offsetInRegion) + BigInt(gpa) - BigInt(start), readonly };
}
