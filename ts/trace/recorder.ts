// Records what happens to a memory map as a trace. Only what came to something is written: a transaction's lines wait
// until the outermost one has ended well. A trace that cannot be written ends: what is left is whole up to there, and
// the map, which is in the middle of its machine's life, goes on.

import type { Policy } from '../core/kinds.ts';
import type { TraceOperation } from './operations.ts';
import { formatHeader, formatOperation } from './write.ts';

/** Takes the text of a trace, some lines at a time: a stream, or anything with this method. */
export interface TraceOutput {
  /** Takes whole lines. What it returns does not matter. */
  write(text: string): unknown;
}

export class TraceRecorder {
  readonly #policy: Policy;
  /** Outputs of the lines; none when the recording has ended. */
  readonly #outputs = new Set<TraceOutput>();
  /** Lines of the transactions that are open. */
  #lines: string[] = [];

  constructor(policy: Policy) {
    this.#policy = policy;
  }

  /** Adds an output, which gets a header and what happens from now on. Throws what `write` throws. Precondition: no
   *  transaction is open. */
  add(output: TraceOutput): void {
    output.write(`${formatHeader({ version: 1, policy: this.#policy })}\n`);
    this.#outputs.add(output);
  }

  remove(output: TraceOutput): void {
    this.#outputs.delete(output);
  }

  /** Adds an operation to the transactions that are open. */
  record(operation: TraceOperation): void {
    if (this.#outputs.size > 0) this.#lines.push(formatOperation(operation));
  }

  /** Returns what takes the lines back that are added from now on. */
  mark(): () => void {
    const length = this.#lines.length;
    return () => {
      this.#lines.length = length;
    };
  }

  /** Writes the lines, as one transaction: the outermost one has ended well. */
  flush(): void {
    if (this.#lines.length === 0) return;
    const text = this.#lines.join('\n');
    const several = this.#lines.length > 1;
    this.#lines = [];
    this.#write(several ? `{"op":"begin"}\n${text}\n{"op":"commit"}\n` : `${text}\n`);
  }

  #write(text: string): void {
    for (const output of this.#outputs) {
      try {
        output.write(text);
      } catch (error) {
        this.#outputs.delete(output);
        const reason = error instanceof Error ? error.message : String(error);
        const message = `the recording of a memory map has ended: ${reason}; the map itself goes on`;
        process.emitWarning(message, { type: 'MembackingWarning', code: 'RECORDING_ENDED' });
      }
    }
  }
}
