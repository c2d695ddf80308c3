// A monitor's log: every virtual machine that it tells of, with the history of its slots and of the memory behind them.

import { type MemoryCall, monitorCall, type Slot, type SlotCall } from './calls.ts';
import { SpaceHistory } from './history.ts';
import type { Stretch } from './slot-table.ts';
import { StraceReader, type TracedCall } from './strace.ts';

/** A virtual machine. */
export interface Machine {
  /** Descriptor that the monitor has of it. */
  readonly descriptor: number;
  /** Address spaces by number: 0, and 1 for system management mode. */
  readonly spaces: ReadonlyMap<number, SpaceHistory>;
  /** Calls that changed what is behind its slots. */
  readonly memory: readonly ToldMemory[];
}

/** A call that changed what is behind a slot. */
export interface ToldMemory {
  readonly line: number;
  readonly what: string;
  readonly space: number;
  /** The part of the slot. */
  readonly part: Stretch;
}

interface OpenMachine extends Machine {
  readonly spaces: Map<number, SpaceHistory>;
  readonly memory: ToldMemory[];
}

interface Area {
  readonly hva: number;
  readonly pages: number;
  readonly name: string;
}

export class MonitorLog {
  readonly #reader: StraceReader;
  readonly #machines: OpenMachine[] = [];
  /** The machine of each descriptor: the last that was made with it. */
  readonly #open = new Map<number, OpenMachine>();
  readonly #files = new Map<number, string>();
  /** Memory that was mapped, the newest last. */
  readonly #areas: Area[] = [];
  #line = 0;

  constructor(file: string) {
    this.#reader = new StraceReader(file);
  }

  /** Takes the next line. Throws IMPORT_TEXT. */
  take(text: string): void {
    const call = this.#reader.read(text, ++this.#line);
    const told = call && monitorCall(call, this.#reader, (fd) => this.#files.get(fd) ?? `descriptor ${fd}`);
    switch (told?.kind) {
      case 'vm':
        this.#begin(told.vm);
        break;
      case 'file':
        this.#files.set(told.fd, told.name);
        break;
      case 'run':
        this.#endChanges(call!.thread);
        break;
      case 'memory':
        this.#takeMemory(told, call!);
        break;
      case 'slot':
        this.#takeSlot(told, call!);
    }
  }

  /** Every machine of which a slot was told. */
  end(): readonly Machine[] {
    for (const space of this.#spaces()) space.end();
    return this.#machines.filter(({ spaces }) => spaces.size > 0);
  }

  /** Name of the memory at an address of the monitor, with the offset in it, in pages. */
  memoryAt(hva: number): { name: string; offset: number } | undefined {
    const area = this.#areas.findLast((each) => hva >= each.hva && hva < each.hva + each.pages);
    return area === undefined ? undefined : { name: area.name, offset: hva - area.hva };
  }

  #begin(descriptor: number): OpenMachine {
    for (const space of this.#open.get(descriptor)?.spaces.values() ?? []) space.end();
    const machine = { descriptor, spaces: new Map(), memory: [] };
    this.#machines.push(machine);
    this.#open.set(descriptor, machine);
    return machine;
  }

  #takeSlot(told: SlotCall, call: TracedCall): void {
    const machine = this.#open.get(told.vm) ?? this.#begin(told.vm);
    const space = machine.spaces.get(told.space) ?? new SpaceHistory(told.space);
    machine.spaces.set(told.space, space);
    const problem = space.take(told, call.thread, call.line);
    if (problem !== undefined) throw this.#reader.wrong(call, problem);
  }

  #takeMemory(told: MemoryCall, call: TracedCall): void {
    if (told.what === 'mmap' || told.what === 'munmap') this.#endChanges(call.thread);
    if (told.name !== undefined) this.#areas.push({ hva: told.hva, pages: told.pages, name: told.name });
    for (const { memory, spaces } of this.#open.values()) {
      for (const [space, { table }] of spaces) {
        for (const slot of table.all) {
          const part = behind(slot, told);
          if (part !== undefined) memory.push({ line: call.line, what: told.what, space, part });
        }
      }
    }
  }

  #endChanges(thread: number): void {
    for (const space of this.#spaces()) space.end(thread);
  }

  *#spaces(): Iterable<SpaceHistory> {
    for (const { spaces } of this.#open.values()) yield* spaces.values();
  }
}

/** The part of a slot that is at some addresses of the monitor. */
function behind({ gpa, hva, pages }: Slot, at: MemoryCall): Stretch | undefined {
  const first = Math.max(hva, at.hva);
  const last = Math.min(hva + pages, at.hva + at.pages);
  return first < last ? { gpa: gpa + (first - hva), pages: last - first, hva: first } : undefined;
}
