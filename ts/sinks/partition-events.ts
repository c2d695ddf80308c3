// Event commands as calls of the methods of a monitor's own partition.

import * as abi from '../../assembly/abi.ts';
import { atOnce } from '../apply/holding.ts';
import type { Executor } from '../apply/runner.ts';
import { type Address, pageEnd, pageStart, sum } from '../core/address.ts';
import { assert } from '../core/assert.ts';
import type { Command, Core } from '../core/core.ts';
import { eventFacts } from '../core/kinds.ts';
import type { Partition, PartitionEvent } from './partition.ts';

/** Executor of the events of one attachment of a monitor's own partition. */
export class PartitionEvents implements Executor {
  readonly #partition: Partition;
  readonly #fdOf: (event: number) => number | undefined;
  /** Events that the partition has, with the first and last page of each, by number and GPA. */
  readonly #registered = new Map<string, { event: PartitionEvent; first: bigint; last: bigint }>();
  failure: unknown;

  /** Makes one for a partition that has `addEvent` and `removeEvent`. */
  constructor(partition: Partition, fdOf: (event: number) => number | undefined) {
    this.#partition = partition;
    this.#fdOf = fdOf;
  }

  execute(core: Core, first: number, count: number): number {
    for (let done = 0; done < count; done++) {
      try {
        this.#carryOut(core.command(first + done));
      } catch (error) {
        this.failure = error;
        return done;
      }
    }
    return count;
  }

  #carryOut(command: Command): void {
    const { op, gpa, event: id, slot: flags, length, match } = command;
    assert(op === abi.OP_EVENT_ADD || op === abi.OP_EVENT_REMOVE, "an event's own operations");
    const key = `${id} ${gpa}`;
    if (op === abi.OP_EVENT_ADD) {
      const event = { gpa, ...eventFacts(flags, length, match), fd: this.#fdOf(id!) };
      const answer: unknown = this.#partition.addEvent!(event);
      this.#registered.set(key, { event, ...pagesOf(command) });
      if (answer !== undefined) atOnce('addEvent', answer);
      return;
    }
    const { event } = this.#registered.get(key)!;
    const answer: unknown = this.#partition.removeEvent!(event);
    this.#registered.delete(key);
    if (answer !== undefined) atOnce('removeEvent', answer);
  }

  /** None is left in the pages of a command that could not be taken back; one that cannot be removed only rings. */
  secure(core: Core, index: number): number {
    const { first, last } = pagesOf(core.command(index));
    for (const [key, registered] of this.#registered) {
      if (registered.last < first || registered.first > last) continue;
      this.#registered.delete(key);
      try {
        this.#partition.removeEvent!(registered.event);
      } catch (error) {
        this.failure = error;
      }
    }
    return abi.SECURED_CLOSED;
  }
}

/** First and last byte of the pages that an event is in. */
function pagesOf({ gpa, length }: { gpa: Address; length: Address }): { first: bigint; last: bigint } {
  return { first: pageStart(BigInt(gpa)), last: pageEnd(BigInt(sum(gpa, length))) - 1n };
}
