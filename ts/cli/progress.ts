// Progress of what takes long: a bar on standard error where that is a terminal, and nothing anywhere else.

/** Milliseconds before there is a bar: what is done sooner needs none. */
const PATIENCE = 500;
const PAUSE = 100;
const WIDTH = 30;
const CLEAR = '\r\x1b[K';

let shown: Progress | undefined;

/** Takes the bar away, for something else that is written: it comes again with the next advance. */
export function clearProgress(): void {
  shown?.clear();
}

/** Result of `run`, whose progress a bar shows. */
export async function withProgress<Result>(
  what: string,
  run: (work: { progress(done: number, total: number): void }) => Promise<Result>,
): Promise<Result> {
  const progress = new Progress(what);
  try {
    return await run({ progress: (done, total) => progress.advance(done, total) });
  } finally {
    progress.end();
  }
}

export class Progress {
  readonly #what: string;
  readonly #stream: NodeJS.WriteStream;
  readonly #now: () => number;
  #next: number;
  #isVisible = false;

  /** `what` is being done. */
  constructor(what: string, stream: NodeJS.WriteStream = process.stderr, now = performance.now.bind(performance)) {
    this.#what = what.replace(/\p{Cc}/gu, '?');
    this.#stream = stream;
    this.#now = now;
    this.#next = now() + PATIENCE;
    shown = this;
  }

  /** `done` bytes of `total`, which may not be known. */
  advance(done: number, total: number | undefined): void {
    if (!this.#stream.isTTY || this.#now() < this.#next) return;
    this.#next = this.#now() + PAUSE;
    this.#isVisible = true;
    this.#stream.write(`${CLEAR}${this.#what} ${bar(done, total)}`);
  }

  clear(): void {
    if (this.#isVisible) this.#stream.write(CLEAR);
    this.#isVisible = false;
  }

  end(): void {
    this.clear();
    if (shown === this) shown = undefined;
  }
}

function bar(done: number, total: number | undefined): string {
  const size = `${(done / 2 ** 20).toFixed(1)} MiB`;
  if (total === undefined || total === 0) return size;
  const part = Math.min(1, done / total);
  const filled = Math.round(part * WIDTH);
  return `[${'='.repeat(filled)}${' '.repeat(WIDTH - filled)}] ${String(Math.floor(part * 100)).padStart(3)} %  ${size}`;
}
