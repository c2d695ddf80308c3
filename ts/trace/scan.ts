// Reads the lines that long traces consist of without a detour over JSON: the operations below, exactly as write.ts
// writes them, with numbers that a double holds. Whatever else a line is, it is left to JSON.parse and parseOperation,
// which give the same for these lines too: this is their speed, not another format, and a new operation needs none of
// it.

import { MAX_TRACE_ID } from './fields.ts';
import type { TraceOperation } from './operations.ts';

const [ZERO, NINE, A, F] = [0x30, 0x39, 0x61, 0x66];
const [MINUS, QUOTE, BRACE, NEWLINE] = [0x2d, 0x22, 0x7d, 0x0a];
/** Digits that a double holds exactly. */
const MAX_HEX_DIGITS = 13;
const MAX_DIGITS = 10;
/** Result of a field that is not as it must be. */
const ABSENT = -1;

const OPERATION = literal('{"op":"');
const TRUE = literal('true');
const FALSE = literal('false');

const MAP = literal('map","region":');
const UNMAP = literal('unmap","region":');
const OFFSET = literal(',"offset":"0x');
const LENGTH = literal(',"length":"0x');
const OBJECT = literal(',"object":');
const OBJECT_OFFSET = literal(',"objectOffset":"0x');
const WRITABLE = literal(',"writable":');
const MOVE = literal('move","id":');
const PLACE = literal('place","id":');
const PARENT = literal(',"parent":');
const PRIORITY = literal(',"priority":');
const REMOVE = literal('remove","id":');
const FLAGS = literal('flags","id":');
const READONLY = literal(',"readonly":');
const NONVOLATILE = literal(',"nonvolatile":');
const ENABLED = literal(',"enabled":');
const BEGIN = literal('begin"');
const COMMIT = literal('commit"');

/** Text that is compared four bytes at a time; the last four overlap the word before them. */
interface Literal {
  readonly length: number;
  readonly words: Uint32Array;
  readonly last: number;
}

/** Literal made of a text. Precondition: at least four characters, ASCII. */
function literal(text: string): Literal {
  const view = new DataView(new TextEncoder().encode(text).buffer);
  const words = Uint32Array.from({ length: text.length >> 2 }, (_, i) => view.getUint32(i * 4, true));
  return { length: text.length, words, last: view.getUint32(text.length - 4, true) };
}

export class OperationScanner {
  #bytes: Uint8Array = new Uint8Array();
  #view: DataView = new DataView(new ArrayBuffer(0));
  #at = 0;

  /** Offset of the next line, after `scan` gave an operation. */
  get end(): number {
    return this.#at;
  }

  /** The operation on the line at `start`, or undefined if it is not one that is known here. */
  scan(bytes: Uint8Array, start: number): TraceOperation | undefined {
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    this.#at = start;
    if (!this.#skip(OPERATION)) return undefined;
    const operation = this.#operation();
    if (bytes[this.#at] !== BRACE || bytes[this.#at + 1] !== NEWLINE) return undefined;
    this.#at += 2;
    return operation;
  }

  #operation(): TraceOperation | undefined {
    if (this.#skip(MAP)) return this.#map();
    if (this.#skip(UNMAP)) return this.#unmap();
    if (this.#skip(MOVE)) return this.#move();
    if (this.#skip(FLAGS)) return this.#flags();
    if (this.#skip(PLACE)) return this.#place();
    if (this.#skip(REMOVE)) return this.#remove();
    if (this.#skip(BEGIN)) return { op: 'begin' };
    if (this.#skip(COMMIT)) return { op: 'commit' };
    return undefined;
  }

  #map(): TraceOperation | undefined {
    const region = this.#id();
    const offset = this.#skip(OFFSET) ? this.#hex() : ABSENT;
    const length = this.#skip(LENGTH) ? this.#hex() : ABSENT;
    const object = this.#skip(OBJECT) ? this.#id() : ABSENT;
    const objectOffset = this.#skip(OBJECT_OFFSET) ? this.#hex() : ABSENT;
    if (region < 0 || offset < 0 || length < 0 || object < 0 || objectOffset < 0) return undefined;
    const writable = this.#flag(WRITABLE);
    return writable === undefined ? undefined : { op: 'map', region, offset, length, object, objectOffset, writable };
  }

  #unmap(): TraceOperation | undefined {
    const region = this.#id();
    const offset = this.#skip(OFFSET) ? this.#hex() : ABSENT;
    const length = this.#skip(LENGTH) ? this.#hex() : ABSENT;
    return region < 0 || offset < 0 || length < 0 ? undefined : { op: 'unmap', region, offset, length };
  }

  #move(): TraceOperation | undefined {
    const id = this.#id();
    const offset = this.#skip(OFFSET) ? this.#hex() : ABSENT;
    return id < 0 || offset < 0 ? undefined : { op: 'move', id, offset };
  }

  #flags(): TraceOperation | undefined {
    const id = this.#id();
    const readonly = this.#flag(READONLY);
    const nonvolatile = this.#flag(NONVOLATILE);
    const enabled = this.#flag(ENABLED);
    if (id < 0) return undefined;
    return {
      op: 'flags',
      id,
      ...(readonly === undefined ? {} : { readonly }),
      ...(nonvolatile === undefined ? {} : { nonvolatile }),
      ...(enabled === undefined ? {} : { enabled }),
    };
  }

  #place(): TraceOperation | undefined {
    const id = this.#id();
    const parent = this.#skip(PARENT) ? this.#id() : ABSENT;
    const offset = this.#skip(OFFSET) ? this.#hex() : ABSENT;
    if (id < 0 || parent < 0 || offset < 0) return undefined;
    if (!this.#skip(PRIORITY)) return { op: 'place', id, parent, offset, priority: 0 };
    const isNegative = this.#bytes[this.#at] === MINUS;
    if (isNegative) this.#at++;
    const priority = this.#id();
    if (priority < 0 || (isNegative && priority === 0)) return undefined;
    return { op: 'place', id, parent, offset, priority: isNegative ? -priority : priority };
  }

  #remove(): TraceOperation | undefined {
    const id = this.#id();
    return id < 0 ? undefined : { op: 'remove', id };
  }

  // ---- One field: its value, or ABSENT -------------------------------------------------------------

  #skip(expected: Literal): boolean {
    const view = this.#view;
    const at = this.#at;
    const end = at + expected.length;
    if (end > view.byteLength) return false;
    const { words, last } = expected;
    for (let i = 0; i < words.length; i++) if (view.getUint32(at + i * 4, true) !== words[i]) return false;
    if (view.getUint32(end - 4, true) !== last) return false;
    this.#at = end;
    return true;
  }

  /** Digits as JSON has them: no zero before others. */
  #id(): number {
    const bytes = this.#bytes;
    const start = this.#at;
    let at = start;
    let value = 0;
    for (let byte = bytes[at]!; byte >= ZERO && byte <= NINE; byte = bytes[++at]!) value = value * 10 + (byte - ZERO);
    this.#at = at;
    const digits = at - start;
    if (digits === 0 || digits > MAX_DIGITS || (digits > 1 && bytes[start] === ZERO)) return ABSENT;
    return value <= MAX_TRACE_ID ? value : ABSENT;
  }

  /** The digits of a hexadecimal string, and its end. */
  #hex(): number {
    const bytes = this.#bytes;
    const start = this.#at;
    let at = start;
    let value = 0;
    for (; ; at++) {
      const byte = bytes[at]!;
      if (byte >= ZERO && byte <= NINE) value = value * 16 + (byte - ZERO);
      else if (byte >= A && byte <= F) value = value * 16 + (byte - A + 10);
      else break;
    }
    this.#at = at + 1;
    return at > start && at - start <= MAX_HEX_DIGITS && bytes[at] === QUOTE ? value : ABSENT;
  }

  /** `name` and true or false; undefined, with nothing skipped, if that does not stand here. */
  #flag(name: Literal): boolean | undefined {
    const start = this.#at;
    if (this.#skip(name)) {
      if (this.#skip(TRUE)) return true;
      if (this.#skip(FALSE)) return false;
    }
    this.#at = start;
    return undefined;
  }
}
