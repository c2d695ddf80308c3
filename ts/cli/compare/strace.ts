// Logs of strace: lines of any of its formats, as calls that have returned. A call that another thread's lines
// interrupt comes when it is resumed.

import { MembackingError, readChunks } from '../../index.ts';
import { Progress } from '../progress.ts';

/** A system call that has returned. */
export interface TracedCall {
  /** Line on which its arguments stand, from 1. */
  readonly line: number;
  /** Number of the thread; 0 where the log names none. */
  readonly thread: number;
  readonly name: string;
  /** Text between the parentheses, and the column of its first character. */
  readonly args: string;
  readonly column: number;
  /** Text behind the equals sign. */
  readonly result: string;
}

/** Place in a log, for messages. */
interface Place {
  readonly line: number;
  readonly column: number;
}

const PREFIX = /^(?:\[pid +(\d+)\] |(\d+) +)?(?:\d+:\d\d:\d\d(?:\.\d+)? |\d+\.\d+ | +\d+\.\d+ )?/;
const CALL = /^(\w+)\(/;
const RESUMED = /^<\.\.\. (\w+) resumed> ?/;
const UNFINISHED = / ?<unfinished \.\.\.>$/;
const OTHER = /^(?:\+\+\+ .* \+\+\+|--- .* ---|strace: .*)?$/;
/** Characters of a line: strace cuts strings and lists, so that its own are far shorter. */
const LONGEST = 0x1_0000;

/** Calls of a log, in the order in which they return. */
export class StraceReader {
  readonly #file: string;
  /** Calls that have not returned, by their thread. */
  readonly #begun = new Map<number, TracedCall>();

  constructor(file: string) {
    this.#file = file;
  }

  /** Call that a line ends; undefined where it ends none. Throws IMPORT_TEXT. */
  read(text: string, line: number): TracedCall | undefined {
    if (text.length > LONGEST) throw this.wrong({ line, column: LONGEST }, 'the line is longer than any of strace');
    const prefix = PREFIX.exec(text) as RegExpExecArray;
    const thread = Number(prefix[1] ?? prefix[2] ?? 0);
    const column = prefix[0].length + 1;
    const body = text.slice(prefix[0].length);
    const resumed = RESUMED.exec(body);
    if (resumed !== null) return this.#resume(thread, resumed[1] as string, body.slice(resumed[0].length));
    const call = CALL.exec(body);
    if (call === null) {
      if (OTHER.test(body)) return undefined;
      throw this.wrong({ line, column }, 'this is no line of strace: write its log with strace -o FILE');
    }
    const name = call[1] as string;
    const begun = { line, thread, name, args: body.slice(call[0].length), column: column + call[0].length, result: '' };
    if (!UNFINISHED.test(body)) return this.#returned(begun);
    this.#begun.set(thread, { ...begun, args: begun.args.replace(UNFINISHED, '') });
    return undefined;
  }

  /** Error about a place in the log. */
  wrong({ line, column }: Place, problem: string): MembackingError {
    const details = { file: this.#file, line, column };
    return new MembackingError('IMPORT_TEXT', `${this.#file}:${line}:${column}: ${problem}`, { details });
  }

  /** A call that began before the log did is none. */
  #resume(thread: number, name: string, rest: string): TracedCall | undefined {
    const begun = this.#begun.get(thread);
    this.#begun.delete(thread);
    return begun?.name === name ? this.#returned({ ...begun, args: begun.args + rest }) : undefined;
  }

  #returned(call: TracedCall): TracedCall {
    const { args, line, column } = call;
    const ends = [...args.matchAll(/\)\s*= (?=\S)/g)];
    const end = ends.at(-1);
    if (end === undefined) throw this.wrong({ line, column: column + args.length }, 'the call breaks off');
    return { ...call, args: args.slice(0, end.index), result: args.slice(end.index + end[0].length) };
  }
}

/** Lines of a file, or of standard input for `-`. Throws INPUT_UNREADABLE, INPUT_DAMAGED. */
export async function* linesOf(file: string): AsyncGenerator<string> {
  const progress = new Progress(file);
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for await (const chunk of readChunks(file, { progress: progress.advance.bind(progress) })) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() as string;
      yield* lines;
      // A line without an end is not kept whole.
      rest = rest.slice(0, LONGEST + 1);
    }
    if (rest !== '') yield rest;
  } finally {
    progress.end();
  }
}
