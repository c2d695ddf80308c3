// Events as a double of partitions has them, through each sink of events. Counted in bytes.

import * as abi from '../../assembly/abi.ts';
import type { Command } from '../../ts/core/core.ts';

/** An event, at a GPA of the address space. */
export interface RecordedEvent {
  readonly event: number;
  readonly gpa: number;
  readonly length: number;
  readonly flags: number;
  readonly match: number;
}

interface EventSink {
  /** Bytes between a GPA of the address space and the partition's own. */
  readonly gpaOffset: number;
  readonly registered: Map<string, RecordedEvent>;
}

export class RecordedEvents {
  readonly #sinks = new Map<number, EventSink>();

  add(sink: number, gpaOffset: number): void {
    this.#sinks.set(sink, { gpaOffset, registered: new Map() });
  }

  delete(sink: number): void {
    this.#sinks.delete(sink);
  }

  get sinks(): number[] {
    return [...this.#sinks.keys()];
  }

  /** Events that a partition has through a sink, in order of GPA and number. */
  of(sink: number): RecordedEvent[] {
    return [...this.#get(sink).registered.values()].sort((a, b) => a.gpa - b.gpa || a.event - b.event);
  }

  lines(): string[] {
    return this.sinks.flatMap((sink) => this.of(sink).map((event) => `events ${sink} ${JSON.stringify(event)}`));
  }

  /** Carries out a command. Throws for one that a partition would refuse. */
  carryOut({ op, sink, gpa, offset, length, event, slot: flags, match }: Command): void {
    const { gpaOffset, registered } = this.#get(sink);
    if (Number(gpa) !== Number(offset) + gpaOffset) fail('the event is elsewhere');
    const facts = { event: event!, gpa: Number(offset), length: Number(length), flags, match: Number(match) };
    const key = `${event} ${offset}`;
    if (op === abi.OP_EVENT_REMOVE) {
      if (JSON.stringify(registered.get(key)) !== JSON.stringify(facts)) fail('the event is another one');
      registered.delete(key);
      return;
    }
    for (const other of registered.values()) if (collide(other, facts)) fail('a write is for two events');
    registered.set(key, facts);
  }

  /** Leaves none in the pages of a command. */
  secure({ sink, offset, length }: Command): void {
    const { registered } = this.#get(sink);
    const pageOf = (at: number) => Math.floor(at / abi.PAGE_SIZE);
    const [first, last] = [pageOf(Number(offset)), pageOf(Number(offset) + Number(length) - 1)];
    for (const [key, event] of registered) {
      if (pageOf(event.gpa) <= last && pageOf(event.gpa + event.length - 1) >= first) registered.delete(key);
    }
  }

  #get(sink: number): EventSink {
    return this.#sinks.get(sink) ?? fail(`sink ${sink} has no events`);
  }
}

/** Whether KVM would refuse the one where the other is. */
function collide(one: RecordedEvent, other: RecordedEvent): boolean {
  const flags = one.flags | other.flags;
  if (flags & abi.EVENT_COALESCED) return one.gpa < other.gpa + other.length && other.gpa < one.gpa + one.length;
  if (one.gpa !== other.gpa) return false;
  if (flags & abi.EVENT_ANY_LENGTH) return true;
  const bothMatch = (one.flags & other.flags & abi.EVENT_MATCH) !== 0;
  return one.length === other.length && (!bothMatch || one.match === other.match);
}

function fail(problem: string): never {
  throw new Error(`the plan is wrong: ${problem}`);
}
