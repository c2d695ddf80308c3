// `membacking boot`: the example monitor as a command.

import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { MembackingError, parseTrace, type TraceOutput, TraceReplay } from '../index.ts';
import { demoSector, FileDisk, type LinuxImage, Monitor, memoryDisk, type Stop } from '../vmm/index.ts';
import { type Arguments, type Command, EXIT, UsageError } from './command.ts';
import { complain, print, printLines, styled } from './output.ts';
import { ReplayStatistics } from './statistics.ts';

const HELP = `usage: membacking boot [--disk FILE] [--firmware FILE] [OPTION...]
       membacking boot --kernel FILE [--initrd FILE] [--append TEXT] [OPTION...]

Starts a small PC on KVM, and prints what its firmware logs and what it sends to its serial port, until the guest
ends by writing a byte to port f4.

  --disk FILE      the disk to boot from, as raw bytes; the guest may write to it. Without it, the guest boots from a
                   sector that prints the firmware's memory map
  --firmware FILE  up to 256 KiB; without it, SeaBIOS as it is installed (Debian: apt-get install seabios)
  --kernel FILE    a Linux kernel (bzImage) to start without firmware
  --initrd FILE    its initial RAM disk
  --append TEXT    its command line, such as "earlyprintk=serial console=ttyS0"
  --memory SIZE    RAM, in MiB, or with K, M or G behind the number; without it, 64M, or 512M for a kernel
  --trace FILE     write the whole history of the memory map there, for "membacking replay"
  --map            print the memory map before and after
  --timeout S      stop after S seconds
  --help           print this

Exit codes: 0 the guest is done and well, 1 it could not be started, crashed, or said that it failed, 2 the usage is
wrong, 124 the time was up.

Examples:
  membacking boot --map
  membacking boot --disk disk.img --trace boot.jsonl --timeout 60
  membacking boot --kernel vmlinuz --initrd initrd.img --append "earlyprintk=serial console=ttyS0"
`;

const TIME_UP = 124;
/** Milliseconds without a word after which it is said that the guest still runs. */
const SILENT_MS = 10_000;
const FIRMWARE = ['/usr/share/seabios/bios-256k.bin', '/usr/share/qemu/bios-256k.bin', '/usr/share/seabios/bios.bin'];
const MIB = 0x10_0000;
const UNITS: Readonly<Record<string, number>> = { K: 1024, '': MIB, M: MIB, G: 1024 * MIB };

export const bootCommand: Command = {
  help: HELP,
  options: {
    disk: { type: 'string' },
    firmware: { type: 'string' },
    kernel: { type: 'string' },
    initrd: { type: 'string' },
    append: { type: 'string' },
    memory: { type: 'string' },
    trace: { type: 'string' },
    map: { type: 'boolean' },
    timeout: { type: 'string' },
  },
  async run({ options, operands }) {
    if (operands.length > 0) throw new UsageError('the files are named with options');
    const timeout = seconds(options.timeout);
    const memory = bytes(options.memory);
    const start = startOf(options);
    const image = typeof options.disk === 'string' ? disk(options.disk) : undefined;
    const history = new History(options.trace);
    const started = performance.now();
    const silence = new Silence(started);
    const firmwareLog = new LineLog('bios', started, silence);
    const serial = new LineLog('com1', started, silence);
    let monitor: Monitor | undefined;
    let timer: NodeJS.Timeout | undefined;
    try {
      monitor = new Monitor({
        memory: memory ?? ('linux' in start ? 512 * MIB : 64 * MIB),
        start,
        disk: image ?? memoryDisk(demoSector()),
        onLog: (byte) => firmwareLog.add(byte),
        onSerial: (byte) => serial.add(byte),
        onDiskError: (error) => complain('note', `${options.disk}: ${(error as Error).message}; the guest was told`),
        record: history,
      });
      if (options.map) await printMap('The memory map as the guest starts', history);
      if (timeout !== undefined) timer = setTimeout(() => monitor!.stop(), timeout * 1000);
      history.stopOnFailure(() => monitor!.stop());
      silence.watch(monitor);
      const stop = await monitor.run();
      firmwareLog.flush();
      serial.flush();
      if (history.failure !== undefined) throw history.failure;
      if (options.map) await printMap('The memory map as the guest ends', history);
      await printLines(summary(monitor, history, performance.now() - started));
      return exitCode(stop);
    } finally {
      clearTimeout(timer);
      silence.end();
      monitor?.close();
      image?.close();
      history.close();
    }
  },
};

type Options = Arguments['options'];

function startOf({ firmware, kernel, initrd, append }: Options): { firmware: Uint8Array } | { linux: LinuxImage } {
  if (kernel === undefined) {
    if (initrd !== undefined || append !== undefined) throw new UsageError('--initrd and --append are for a --kernel');
    const file = firmware ?? FIRMWARE.find((path) => existsSync(path));
    if (typeof file === 'string') return { firmware: content(file) };
    const message = 'no SeaBIOS is installed here: name a --firmware, or install it (Debian: apt-get install seabios)';
    throw new MembackingError('SYSTEM', message);
  }
  if (firmware !== undefined) throw new UsageError('give a --kernel or a --firmware, not both');
  return {
    linux: {
      kernel: content(String(kernel)),
      ...(typeof initrd === 'string' && { initrd: content(initrd) }),
      ...(typeof append === 'string' && { commandLine: append }),
    },
  };
}

/** A system call whose failure is the user's to mend. */
function wanted<Result>(file: string, what: string, action: () => Result): Result {
  try {
    return action();
  } catch (cause) {
    throw new MembackingError('SYSTEM', `${file} cannot be ${what}: ${(cause as Error).message}`, { cause });
  }
}

function content(file: string): Uint8Array {
  return wanted(file, 'read', () => readFileSync(file));
}

function disk(file: string): FileDisk {
  return wanted(file, 'opened for reading and writing', () => new FileDisk(file));
}

function bytes(size: Options[string]): number | undefined {
  if (size === undefined) return undefined;
  const [, digits, unit] = /^(\d{1,9})([KMG]?)$/.exec(String(size)) ?? [];
  if (digits === undefined) throw new UsageError(`--memory must be a size such as 64M, not "${size}"`);
  return Number(digits) * UNITS[unit!]!;
}

function seconds(time: Options[string]): number | undefined {
  if (time === undefined) return undefined;
  const value = Number(time);
  if (value > 0 && value <= 2 ** 31 / 1000) return value;
  throw new UsageError(`--timeout must be a number of seconds above 0, such as 60, not "${time}"`);
}

/** The history of the memory map: kept, and written to the file that was named. */
class History implements TraceOutput {
  readonly #file: string;
  readonly #fd: number | undefined;
  readonly #parts: string[] = [];
  /** Reason why the file cannot be written any more. */
  failure: unknown;
  #stop = () => {};

  constructor(file: Options[string]) {
    this.#file = String(file);
    if (file !== undefined) this.#fd = wanted(this.#file, 'written', () => openSync(this.#file, 'w'));
  }

  write(text: string): void {
    this.#parts.push(text);
    const fd = this.#fd;
    if (fd === undefined || this.failure !== undefined) return;
    try {
      wanted(this.#file, 'written', () => writeSync(fd, text));
    } catch (error) {
      this.failure = error;
      this.#stop();
    }
  }

  /** `stop` is called when the file cannot be written any more. */
  stopOnFailure(stop: () => void): void {
    this.#stop = stop;
    if (this.failure !== undefined) stop();
  }

  /** The core alone makes everything again, from the history so far. */
  replay(statistics?: ReplayStatistics): TraceReplay {
    const { header, operations } = parseTrace(this.#parts.join(''));
    const replay = new TraceReplay({ policy: header.policy, onPlan: (plan) => statistics?.addPlan(plan, true) });
    statistics?.addOperations(operations);
    for (const operation of operations) replay.apply(operation);
    return replay;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
  }
}

/** Says from time to time that a guest of which nothing is heard still runs. */
class Silence {
  readonly #started: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(started: number) {
    this.#started = started;
  }

  watch({ counts }: Monitor): void {
    this.#timer = setInterval(() => {
      const seconds = Math.round((performance.now() - this.#started) / 1000);
      complain('note', `${seconds} s, ${counts.portExits + counts.mmioExits} exits: the guest runs, and says nothing`);
    }, SILENT_MS);
  }

  /** Something was heard. */
  broken(): void {
    this.#timer?.refresh();
  }

  end(): void {
    clearInterval(this.#timer);
  }
}

/** Lines of what a guest sends, with the time; what a terminal would obey is left out. */
class LineLog {
  readonly #name: string;
  readonly #started: number;
  readonly #silence: Silence;
  #line = '';

  constructor(name: string, started: number, silence: Silence) {
    this.#name = name;
    this.#started = started;
    this.#silence = silence;
  }

  add(byte: number): void {
    if (byte !== 0x0a) this.#line += String.fromCharCode(byte);
    if (byte === 0x0a || this.#line.length === 1000) this.flush();
  }

  flush(): void {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    const text = this.#line.replace(/\x1b(\[[\d;?]*[A-Za-z]|[^[])/g, '').replace(/[^\x20-\x7e]/g, '');
    this.#line = '';
    if (text === '') return;
    this.#silence.broken();
    const time = ((performance.now() - this.#started) / 1000).toFixed(3).padStart(8);
    void print(`${styled('dim', `${time} ${this.#name} |`)} ${text}\n`);
  }
}

async function printMap(title: string, history: History): Promise<void> {
  await printLines(['', styled('bold', title), ...history.replay().renderFlatViews(), '']);
}

function summary({ counts }: Monitor, history: History, milliseconds: number): string[] {
  const statistics = new ReplayStatistics();
  const { coreMemory } = history.replay(statistics);
  return [
    '',
    `${(milliseconds / 1000).toFixed(1)} s, ${counts.portExits} port exits, ${counts.mmioExits} MMIO exits, ${counts.resets} resets; the memory map:`,
    ...statistics.lines(coreMemory).map((line) => `  ${line}`),
  ];
}

function exitCode(stop: Stop): number {
  if (stop.kind === 'exit' && stop.status === 0) return EXIT.done;
  if (stop.kind === 'stopped') {
    complain('note', 'the time was up');
    return TIME_UP;
  }
  complain('error', stop.kind === 'exit' ? `the guest says that it failed: ${stop.status}` : stop.message);
  return EXIT.wrongInput;
}
