// Faults of JSON: where a text stops being JSON. Engines say it in words of their own, or not at all.

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[ !#-[\]-\u{10ffff}]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/uy;
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

/** Line and column, from 1 on, of the first token that no JSON text has there; of the end, where a text ends early. */
export function jsonFault(text: string): { line: number; column: number } {
  const before = text.slice(0, new FaultFinder(text).offset()).split('\n');
  return { line: before.length, column: before.at(-1)!.length + 1 };
}

type Expected = 'value' | 'first value' | 'key' | 'first key' | 'end';

class FaultFinder {
  readonly #text: string;
  #at = 0;
  /** Brackets that close each list and object that is open, innermost last. */
  readonly #open: string[] = [];
  #expects: Expected = 'value';

  constructor(text: string) {
    this.#text = text;
  }

  offset(): number {
    while (this.#take(SPACE) || this.#at < this.#text.length) {
      if (this.#at < this.#text.length && !this.#step(this.#text[this.#at]!)) break;
    }
    return this.#at;
  }

  /** Goes over the token that begins with `next`; false where it may not stand there. */
  #step(next: string): boolean {
    const mayClose = this.#expects === 'end' || this.#expects.startsWith('first');
    if (mayClose && next === this.#open.at(-1)) return this.#pass('end', () => this.#open.pop());
    if (this.#expects === 'end') {
      return next === ',' && this.#open.length > 0 && this.#pass(this.#open.at(-1) === '}' ? 'key' : 'value');
    }
    if (this.#expects.endsWith('key')) {
      if (!this.#take(STRING)) return false;
      this.#take(SPACE);
      return this.#text[this.#at] === ':' && this.#pass('value');
    }
    if (next === '{') return this.#pass('first key', () => this.#open.push('}'));
    if (next === '[') return this.#pass('first value', () => this.#open.push(']'));
    this.#expects = 'end';
    return this.#take(STRING) || this.#take(SCALAR);
  }

  /** Goes over one character. */
  #pass(expects: Expected, action?: () => unknown): true {
    action?.();
    this.#at++;
    this.#expects = expects;
    return true;
  }

  #take(pattern: RegExp): boolean {
    pattern.lastIndex = this.#at;
    const length = pattern.exec(this.#text)?.[0].length ?? 0;
    this.#at += length;
    return length > 0;
  }
}
