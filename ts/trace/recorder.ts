// Records what happens to a memory map as a trace. Only what came to something is written: a transaction's lines wait
// until the outermost one has ended well. A trace that cannot be written ends: what is left is whole up to there, and
// the map, which is in the middle of its machine's life, goes on.

import type { Policy } from '../core/kinds.ts';
import type { TraceOperation } from './operations.ts';
import { formatHeader, formatOperation } from './write.ts';

/** Takes the text of a trace, some lines at a time: a stream, or anything with this method. */
export interface TraceOutput {
  write(text: string): unknown;
}

export class TraceRecorder {
  /** Output of the lines; undefined when the recording has ended. */
  #output: TraceOutput | undefined;
  /** Lines of the transactions that are open. */
  #lines: string[] = [];

  /** Writes the header. Throws what `write` throws. */
  constructor(output: TraceOutput, policy: Policy) {
    this.#output = output;
    output.write(`${formatHeader({ version: 1, policy })}\n`);
  }

  /** Adds an operation to the transactions that are open. */
  record(operation: TraceOperation): void {
    if (this.#output !== undefined) this.#lines.push(formatOperation(operation));
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
    try {
      this.#output?.write(text);
    } catch (error) {
      this.#output = undefined;
      const reason = error instanceof Error ? error.message : String(error);
      const message = `the recording of a memory map has ended: ${reason}; the map itself goes on`;
      process.emitWarning(message, { type: 'MembackingWarning', code: 'RECORDING_ENDED' });
    }
  }
}
