// Output of `membacking boot`: lines of the guest with the time, or its bytes and nothing else.

import type { Monitor } from '../vmm/index.ts';
import { complain, print, remark, styled } from './output.ts';

/** Milliseconds without a word after which it is said that the guest still runs. */
const SILENT_MS = 10_000;
const NEW_LINE = 0x0a;
const LONGEST_LINE = 1000;

/** Takes bytes that the guest sends and its firmware logs. */
export interface GuestOutput {
  readonly started: number;
  serial(byte: number): void;
  log(byte: number): void;
  /** The guest begins to run. */
  watch(monitor: Monitor): void;
  /** Prints what has not been printed. */
  flush(): Promise<void>;
  end(): void;
}

/** Output of the guest's bytes as they are. */
export class RawOutput implements GuestOutput {
  readonly started = performance.now();
  #bytes: number[] = [];

  serial(byte: number): void {
    if (this.#bytes.push(byte) === 1) setImmediate(() => this.flush());
  }

  async flush(): Promise<void> {
    const bytes = Uint8Array.from(this.#bytes);
    this.#bytes = [];
    if (bytes.length > 0) await print(bytes);
  }

  log(): void {}
  watch(): void {}
  end(): void {}
}

/** Lines that say when and from where, without what a terminal would obey. */
export class LineOutput implements GuestOutput {
  readonly started = performance.now();
  readonly #lines: Record<'bios' | 'com1', string> = { bios: '', com1: '' };
  readonly #isRemark: boolean;
  readonly #prefix: string;
  #timer: NodeJS.Timeout | undefined;

  /** `isRemark`: the lines go to standard error. `prefix`: before the name of where a line is from. */
  constructor({ isRemark, prefix = '' }: { isRemark: boolean; prefix?: string }) {
    this.#isRemark = isRemark;
    this.#prefix = prefix;
  }

  serial(byte: number): void {
    this.#add('com1', byte);
  }

  log(byte: number): void {
    this.#add('bios', byte);
  }

  #add(from: 'bios' | 'com1', byte: number): void {
    if (byte !== NEW_LINE) this.#lines[from] += String.fromCharCode(byte);
    if (byte === NEW_LINE || this.#lines[from].length === LONGEST_LINE) void this.#flushLine(from);
  }

  async flush(): Promise<void> {
    await this.#flushLine('bios');
    await this.#flushLine('com1');
  }

  async #flushLine(from: 'bios' | 'com1'): Promise<void> {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    const text = this.#lines[from].replace(/\x1b(\[[\d;?]*[A-Za-z]|[^[])/g, '').replace(/[^\x20-\x7e]/g, '');
    this.#lines[from] = '';
    if (text === '') return;
    this.#timer?.refresh();
    const time = ((performance.now() - this.started) / 1000).toFixed(3).padStart(8);
    const stream = this.#isRemark ? process.stderr : process.stdout;
    await (this.#isRemark ? remark : print)(`${styled('dim', `${time} ${this.#prefix}${from} |`, stream)} ${text}\n`);
  }

  watch({ counts }: Monitor): void {
    this.#timer = setInterval(() => {
      const seconds = Math.round((performance.now() - this.started) / 1000);
      complain('note', `${seconds} s, ${counts.portExits + counts.mmioExits} exits: the guest runs, and says nothing`);
    }, SILENT_MS);
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
