// Records what happens to a memory map as a trace. Only what came to something is written: a transaction's lines wait
// until the outermost one has ended well.

import type { Policy } from '../kinds.ts';
import type { TraceOperation } from './format.ts';
import { formatHeader, formatOperation } from './write.ts';

/** Takes the text of a trace, some lines at a time: a stream, or anything with this method. */
export interface TraceOutput {
  write(text: string): unknown;
}

export class TraceRecorder {
  readonly #output: TraceOutput;
  #lines: string[] = [];
  /** Where each open transaction's lines begin. */
  readonly #starts: number[] = [];

  constructor(output: TraceOutput, policy: Policy) {
    this.#output = output;
    output.write(`${formatHeader({ version: 1, policy })}\n`);
  }

  begin(): void {
    this.#starts.push(this.#lines.length);
  }

  record(operation: TraceOperation): void {
    this.#lines.push(formatOperation(operation));
  }

  abort(): void {
    this.#lines.length = this.#starts.pop()!;
  }

  commit(): void {
    this.#starts.pop();
    if (this.#starts.length > 0 || this.#lines.length === 0) return;
    const text = this.#lines.join('\n');
    const several = this.#lines.length > 1;
    this.#lines = [];
    this.#output.write(several ? `{"op":"begin"}\n${text}\n{"op":"commit"}\n` : `${text}\n`);
  }
}
