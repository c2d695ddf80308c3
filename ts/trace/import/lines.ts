// The lines of a text that people pasted: what a terminal and a mail put into it is taken out.

import { MembackingError } from '../../core/errors.ts';

/** Longest line that is looked at. */
export const MAX_LINE = 4096;
/** Regions that one text may have. */
const MAX_REGIONS = 100_000;

export interface TextLine {
  /** Number of the line, from 1. */
  readonly number: number;
  /** Text without its end, quotation marks and terminal codes; tabs are spaces. */
  readonly text: string;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const ESCAPES = /\u001b\[[0-9;?]*[A-Za-z]|\u0000|^\ufeff/g;

export function* linesOf(text: string): Generator<TextLine> {
  let start = 0;
  for (let number = 1; start <= text.length; number++) {
    const end = text.indexOf('\n', start);
    const raw = text.slice(start, end < 0 ? text.length : end);
    yield {
      number,
      text: raw
        .replace(ESCAPES, '')
        .replace(/^(?:> ?)+/, '')
        .replace(/\t/g, '        ')
        .trimEnd(),
    };
    if (end < 0) return;
    start = end + 1;
  }
}

/** Counts the regions of a text. */
export class RegionCount {
  readonly #file: string;
  #count = 0;

  constructor(file: string) {
    this.#file = file;
  }

  /** Adds a line. Throws IMPORT_TEXT where there are more than a map may have. */
  add(line: TextLine): void {
    if (++this.#count > MAX_REGIONS) throw textError(this.#file, line, `more than ${MAX_REGIONS} regions`);
  }
}

/** IMPORT_TEXT, with the place in the text. */
export function textError(file: string, { number, text }: TextLine, problem: string): MembackingError {
  const column = text.search(/\S/) + 1;
  return new MembackingError('IMPORT_TEXT', `${file}: line ${number}, column ${column}: ${problem}`, {
    details: { file, line: number, column },
  });
}
