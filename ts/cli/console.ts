// Standard input as the guest's console. A terminal hands over each key as it is pressed, until Ctrl-A X.

const CTRL_A = 0x01;
const LEAVING = new Set([...'xX'].map((letter) => letter.charCodeAt(0)));
const KEEPING = new Set([...'sS'].map((letter) => letter.charCodeAt(0)));
/** Signals that end a program, and would leave the terminal as it is. */
const ENDINGS = ['SIGTERM', 'SIGHUP', 'SIGINT'] as const;

interface ConsoleUser {
  /** Takes bytes for the guest. Fulfilled when the guest has read them. */
  type(bytes: Uint8Array): Promise<void>;
  /** The user wants to leave. */
  leave(): void;
  /** The user wants a snapshot. */
  snapshot(): void;
}

export class Console {
  readonly #input = process.stdin;
  readonly #user: ConsoleUser;
  #isCommandNext = false;

  constructor(user: ConsoleUser) {
    this.#user = user;
    if (this.#input.isTTY) {
      this.#input.setRawMode(true);
      process.once('exit', this.#restore);
      for (const signal of ENDINGS) process.once(signal, this.#end);
    }
    this.#input.on('data', this.#take);
    this.#input.on('error', this.#ignore); // a terminal that has gone says nothing more
  }

  /** The terminal is what it was; nothing is read any more. */
  close(): void {
    this.#input.off('data', this.#take);
    this.#input.pause();
    this.#input.unref?.();
    this.#restore();
    process.off('exit', this.#restore);
    for (const signal of ENDINGS) process.off(signal, this.#end);
  }

  readonly #restore = () => {
    if (this.#input.isTTY) this.#input.setRawMode(false);
  };

  readonly #end = (signal: NodeJS.Signals) => {
    this.close();
    process.kill(process.pid, signal);
  };

  readonly #ignore = () => {};

  readonly #take = (bytes: Buffer) => {
    if (this.#input.isTTY) {
      void this.#user.type(this.#withoutCommands(bytes));
      return;
    }
    // A pipe is read as fast as the guest reads.
    this.#input.pause();
    void this.#user.type(bytes).then(() => this.#input.resume());
  };

  /** Ctrl-A X leaves, Ctrl-A S takes a snapshot, Ctrl-A Ctrl-A is Ctrl-A; another key after Ctrl-A does nothing. */
  #withoutCommands(bytes: Uint8Array): Uint8Array {
    return bytes.filter((byte) => {
      const isCommand = this.#isCommandNext;
      this.#isCommandNext = !isCommand && byte === CTRL_A;
      if (isCommand && LEAVING.has(byte)) this.#user.leave();
      if (isCommand && KEEPING.has(byte)) this.#user.snapshot();
      return isCommand ? byte === CTRL_A : !this.#isCommandNext;
    });
  }
}
