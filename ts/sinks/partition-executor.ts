// Slot commands as calls of the methods of a monitor's own partition.

import * as abi from '../../assembly/abi.ts';
import { atOnce } from '../apply/holding.ts';
import type { Executor } from '../apply/runner.ts';
import type { Address } from '../core/address.ts';
import { assert } from '../core/assert.ts';
import type { Core } from '../core/core.ts';
import { accessName } from '../core/kinds.ts';
import type { Partition } from './partition.ts';

/** Executor of one attachment of a monitor's own partition. */
export class PartitionExecutor implements Executor {
  readonly #partition: Partition;
  /** HVA of a GPA of the VA space that its slots show, where a stretch has it. */
  readonly #addressOf: (gpa: Address) => bigint | undefined;
  failure: unknown;

  constructor(partition: Partition, addressOf: (gpa: Address) => bigint | undefined) {
    this.#partition = partition;
    this.#addressOf = addressOf;
  }

  execute(core: Core, first: number, count: number): number {
    for (let done = 0; done < count; done++) {
      const { op, slot, gpa, length, offset, access } = core.command(first + done);
      const hva = this.#addressOf(offset);
      assert(hva !== undefined, 'a slot lies in a stretch of its VA space');
      const facts = { slot, gpa, length, hva, access: accessName(access) };
      assert(op === abi.OP_SLOT_ADD || op === abi.OP_SLOT_DELETE, "a partition's own operations");
      const method = op === abi.OP_SLOT_ADD ? 'addSlot' : 'deleteSlot';
      try {
        const answer: unknown = this.#partition[method](facts);
        // Nothing is called once it has answered: a call stack that runs out there would say that nothing was done.
        if (answer !== undefined) atOnce(method, answer);
      } catch (error) {
        this.failure = error;
        return done;
      }
    }
    return count;
  }

  /** A slot that was not added is not there; one that was not deleted is tried once more. */
  secure(core: Core, index: number): number {
    if (core.command(index).op === abi.OP_SLOT_ADD || this.execute(core, index, 1) === 1) return abi.SECURED_CLOSED;
    this.shutDown();
    return abi.SECURED_DOWN;
  }

  shutDown(): void {
    try {
      atOnce('shutDown', this.#partition.shutDown?.());
    } catch (error) {
      this.failure = error;
    }
  }
}
