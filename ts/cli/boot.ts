// `membacking boot`: the example monitor as a command.

import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { MembackingError, parseTrace, SharedMemory, type TraceOutput, TraceReplay } from '../index.ts';
import { demoSector, FileDisk, Monitor, type MonitorOptions, memoryDisk } from '../vmm/index.ts';
import { Report } from './boot-report.ts';
import { type Arguments, type Command, UsageError } from './command.ts';
import { LineOutput, RawOutput } from './guest-output.ts';
import { exitCode, runGuest, seconds } from './guest-run.ts';
import { SNAPSHOT_HELP, SNAPSHOT_OPTIONS, Snapshots } from './guest-snapshots.ts';
import { complain } from './output.ts';
import type { ReplayStatistics } from './statistics.ts';

const HELP = `usage: membacking boot [--disk FILE] [--firmware FILE [--firmware-vars FILE]] [OPTION...]
       membacking boot --kernel FILE [--initrd FILE] [--append TEXT] [OPTION...]

Starts a small PC on KVM, and prints what its firmware logs and what it sends to its serial port, until the guest
switches itself off (or writes a byte to port f4). Standard input is what the serial port receives; on a terminal, each
key as it is pressed, and Ctrl-A X leaves.

  --disk FILE      the disk to boot from, as raw bytes; the guest may write to it. Without it, the guest boots from a
                   sector that prints the firmware's memory map
  --firmware FILE  up to 16 MiB; without it, SeaBIOS as it is installed (Debian: apt-get install seabios)
  --firmware-vars FILE
                   flash in which firmware keeps its variables, such as a copy of OVMF_VARS_4M.fd; the guest may write
                   to it
  --kernel FILE    a Linux kernel (bzImage) to start without firmware
  --initrd FILE    its initial RAM disk
  --append TEXT    its command line, such as "earlyprintk=serial console=ttyS0"
  --cpus N         processors, 1 to 64; without it, 1
  --memory SIZE    RAM, in MiB, or with K, M or G behind the number; without it, 64M, or 512M for a kernel
  --trace FILE     write the whole history of the memory map there, for "membacking replay"
  --map            print the memory map before and after
${SNAPSHOT_HELP}
  --timeout S      stop after S seconds
  --no-reboot      end when the guest resets itself
  --quiet          print the bytes that the guest sends, and nothing else
  --json           one line at the end, {"end","seconds","portExits","mmioExits","resets","map"}, and with --map
                   "atStart" and "atEnd"; what the guest says goes to standard error
  --help           print this

Exit codes: 0 the guest is done and well, or Ctrl-A X, 1 it could not be started, crashed, said that it failed, or reset
itself with --no-reboot, 2 the usage is wrong, 124 the time was up.

Examples:
  membacking boot --map
  membacking boot --disk disk.img --trace boot.jsonl --timeout 60
  membacking boot --firmware OVMF_CODE_4M.fd --firmware-vars vars.fd --disk disk.img --memory 256M
  membacking boot --disk disk.img --snapshot booted --snapshot-at "login: "
  membacking boot --kernel vmlinuz --initrd initrd.img --append console=ttyS0 --cpus 2 --quiet
`;

const FIRMWARE = ['/usr/share/seabios/bios-256k.bin', '/usr/share/qemu/bios-256k.bin', '/usr/share/seabios/bios.bin'];
const MIB = 0x10_0000;
const UNITS: Readonly<Record<string, number>> = { K: 1024, '': MIB, M: MIB, G: 1024 * MIB };

export const bootCommand: Command = {
  help: HELP,
  options: {
    disk: { type: 'string' },
    firmware: { type: 'string' },
    'firmware-vars': { type: 'string' },
    kernel: { type: 'string' },
    initrd: { type: 'string' },
    append: { type: 'string' },
    cpus: { type: 'string' },
    memory: { type: 'string' },
    trace: { type: 'string' },
    map: { type: 'boolean' },
    ...SNAPSHOT_OPTIONS,
    timeout: { type: 'string' },
    'no-reboot': { type: 'boolean' },
    quiet: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  async run({ options, operands }) {
    if (operands.length > 0) throw new UsageError('the files are named with options');
    if (options.quiet && options.json) throw new UsageError('give --quiet or --json, not both');
    const timeout = seconds(options.timeout);
    const snapshots = new Snapshots(options);
    const machine = machineOf(options);
    const image = typeof options.disk === 'string' ? disk(options.disk) : undefined;
    const history = new History(options.trace);
    const output = options.quiet ? new RawOutput() : new LineOutput({ isRemark: options.json === true });
    let monitor: Monitor | undefined;
    try {
      monitor = new Monitor({
        ...machine,
        disk: image ?? memoryDisk(demoSector()),
        onLog: (byte) => output.log(byte),
        onSerial: (byte) => {
          output.serial(byte);
          snapshots.serial(byte);
        },
        onDiskError: (error) => complain('note', `${options.disk}: ${(error as Error).message}; the guest was told`),
        record: history,
      });
      const report = new Report({ monitor, history, options, started: output.started });
      await report.begin();
      history.stopOnFailure(() => monitor?.stop());
      const end = await runGuest(monitor, { timeout, output, snapshots, hasInput: true });
      if (history.failure !== undefined) throw history.failure;
      await report.end(end);
      return exitCode(end);
    } finally {
      output.end();
      monitor?.close();
      image?.close();
      history.close();
    }
  },
};

type Options = Arguments['options'];

/** The machine that the options describe, without its disk. */
function machineOf(options: Options): Pick<MonitorOptions, 'memory' | 'cpus' | 'start' | 'endsAtReset'> {
  const memory = bytes(options.memory);
  const cpus = processors(options.cpus);
  const start = startOf(options);
  return {
    memory: memory ?? ('linux' in start ? 512 * MIB : 64 * MIB),
    cpus,
    start,
    endsAtReset: options['no-reboot'] === true,
  };
}

function startOf(options: Options): MonitorOptions['start'] {
  const { firmware, 'firmware-vars': variables, kernel, initrd, append } = options;
  if (variables !== undefined && firmware === undefined && kernel === undefined) {
    throw new UsageError('--firmware-vars is for a --firmware');
  }
  if (kernel === undefined) {
    if (initrd !== undefined || append !== undefined) throw new UsageError('--initrd and --append are for a --kernel');
    const file = firmware ?? FIRMWARE.find((path) => existsSync(path));
    if (typeof file === 'string') {
      const firmwareVariables = typeof variables === 'string' ? variablesIn(variables) : undefined;
      return { firmware: content(file), ...(firmwareVariables && { firmwareVariables }) };
    }
    const message = 'no SeaBIOS is installed here: name a --firmware, or install it (Debian: apt-get install seabios)';
    throw new MembackingError('SYSTEM', message);
  }
  if (firmware !== undefined || variables !== undefined) {
    throw new UsageError('give a --kernel or a --firmware, not both');
  }
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

/** Memory of a file, which stays as long as this process. */
function variablesIn(file: string): SharedMemory {
  const fd = wanted(file, 'opened for reading and writing', () => openSync(file, 'r+'));
  try {
    return wanted(file, 'mapped', () => SharedMemory.fromFd(fd, { name: 'firmware variables' }));
  } finally {
    closeSync(fd);
  }
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

function processors(count: Options[string]): number {
  if (count === undefined) return 1;
  if (/^\d{1,2}$/.test(String(count)) && Number(count) >= 1 && Number(count) <= 64) return Number(count);
  throw new UsageError(`--cpus must be a number from 1 to 64, not "${count}"`);
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
