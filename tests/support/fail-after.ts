// A double that carries commands out by the recorder, and fails where it is told to.

import * as abi from '../../assembly/abi.ts';
import type { Executor } from '../../ts/apply/runner.ts';
import type { Command, Core } from '../../ts/core/core.ts';
import { isAboutAddresses } from '../../ts/core/kinds.ts';
import type { Recorder } from './recorder.ts';

/** Lets commands through until it is to fail. */
export class FailAfter implements Executor {
  readonly failure = new Error('told to fail');
  answer: number = abi.ANSWER_DONE;
  moved = 0;
  /** Pages that have moved when a command fails half done; undefined: it fails with nothing done. */
  half: number | undefined = 0;
  readonly #recorder: Recorder;
  /** Commands that succeed before the next failure, and before the one after that. */
  #schedule: number[] = [];

  constructor(recorder: Recorder) {
    this.#recorder = recorder;
  }

  plan(...schedule: number[]): void {
    this.#schedule = schedule;
  }

  execute(core: Core, first: number, count: number): number {
    // What is given back when a plan has been adopted never fails.
    if (core.command(first).op === abi.OP_VA_RELEASE) return this.#recorder.execute(core, first, count);
    return this.unwind(core, first, count);
  }

  unwind(core: Core, first: number, count: number): number {
    const left = this.#schedule[0] ?? Number.POSITIVE_INFINITY;
    if (left >= count) {
      this.#schedule[0] = left - count;
      return this.#recorder.execute(core, first, count);
    }
    this.#recorder.execute(core, first, left);
    this.#fail(core.command(first + left));
    this.#recorder.takeBack();
    this.#schedule.shift();
    return left;
  }

  #fail(command: Command): void {
    const isWhole = command.va !== undefined || command.event !== undefined || isAboutAddresses(command.op);
    this.answer = this.half === undefined || isWhole ? abi.ANSWER_NOT_DONE : abi.ANSWER_HALF_DONE;
    this.moved = this.half === undefined ? 0 : this.#recorder.spoil(command, this.half) * abi.PAGE_SIZE;
  }

  secure(core: Core, index: number): number {
    return this.#recorder.secure(core, index);
  }

  shutDown(sink: number): void {
    this.#recorder.shutDown(sink);
  }
}
