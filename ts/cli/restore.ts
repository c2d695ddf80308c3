// `membacking restore`: a machine of the example monitor goes on from a snapshot, once or as many clones.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { inspectSnapshot, type PageRange, type RestoreMode } from '../index.ts';
import { type DiskImage, demoSector, FileDisk, Monitor, memoryDisk, overlayDisk, type Stop } from '../vmm/index.ts';
import { type Arguments, type Command, UsageError } from './command.ts';
import { type GuestOutput, LineOutput, RawOutput } from './guest-output.ts';
import { exitCode, runGuest, seconds } from './guest-run.ts';
import { SNAPSHOT_HELP, SNAPSHOT_OPTIONS, Snapshots } from './guest-snapshots.ts';
import { jsonLine } from './json.ts';
import { complain, print, printLines } from './output.ts';
import { withProgress } from './progress.ts';

const HELP = `usage: membacking restore DIR [--map | --copy | --lazy] [--clones N] [OPTION...]

Goes on with the machine that "membacking boot --snapshot DIR" has kept, as often as one likes. Its disk is read, and what
the guest writes to it is kept in memory, and lost at the end.

  --map            the guest reads the snapshot's memory file, and has its own copy of each page that it writes; this is
                   so without the option, too
  --copy           read all of the memory first
  --lazy           read each page when it is touched first
  --clones N       N machines at once, 1 to 1000, that share what they do not change; standard input is the first one's
  --disk FILE      the disk as it was, if it is not where it was
${SNAPSHOT_HELP}
  --timeout S      stop after S seconds
  --quiet          print the bytes that the guest sends, and nothing else
  --json           one line for each clone at the end, {"clone","end","restoreSeconds","seconds","ownBytes","sharedBytes",
                   "portExits","mmioExits","resets"}; what the guests say goes to standard error
  --help           print this

Exit codes: as of boot; of several clones, the highest.

Examples:
  membacking boot --disk disk.img --snapshot booted --snapshot-at "login: " --timeout 60
  membacking restore booted
  membacking restore booted --clones 10 --timeout 5
`;

const MOST_CLONES = 1000;

export const restoreCommand: Command = {
  help: HELP,
  options: {
    map: { type: 'boolean' },
    copy: { type: 'boolean' },
    lazy: { type: 'boolean' },
    clones: { type: 'string' },
    disk: { type: 'string' },
    ...SNAPSHOT_OPTIONS,
    timeout: { type: 'string' },
    quiet: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  async run({ options, operands: [folder, ...more] }) {
    if (folder === undefined || more.length > 0) throw new UsageError('name the folder of one snapshot');
    if (options.quiet && options.json) throw new UsageError('give --quiet or --json, not both');
    const mode = modeOf(options);
    const count = clones(options.clones);
    if (count > 1 && options.quiet) throw new UsageError('--quiet is for one guest: give --json, or neither');
    if (count > 1 && options.snapshot !== undefined) throw new UsageError('--snapshot is for one guest');
    const timeout = seconds(options.timeout);
    const snapshots = new Snapshots(options);
    const source = await openSource(folder, options.disk);
    const made: Clone[] = [];
    try {
      for (let i = 1; i <= count; i++) {
        const isOneOfMany = count > 1;
        const output = options.quiet
          ? new RawOutput()
          : new LineOutput({ isRemark: options.json === true, prefix: isOneOfMany ? `${i} ` : '' });
        made.push(await Clone.make(source, { number: i, isOneOfMany, mode, output, snapshots }));
      }
      const run = (clone: Clone) => clone.run({ timeout, snapshots, hasInput: clone === made[0] });
      const codes = await Promise.all(made.map(run));
      if (options.json) for (const clone of made) await print(jsonLine(clone.facts()));
      else if (!options.quiet) await printLines(['', ...made.map((clone) => clone.line())]);
      return Math.max(...codes);
    } finally {
      for (const clone of made) clone.close();
      source.disk?.close();
    }
  },
};

function modeOf(options: Arguments['options']): RestoreMode {
  const named = (['map', 'copy', 'lazy'] as const).filter((mode) => options[mode]);
  if (named.length > 1) throw new UsageError('give one of --map, --copy, --lazy');
  return named[0] ?? 'map';
}

function clones(count: Arguments['options'][string]): number {
  if (count === undefined) return 1;
  if (/^\d{1,4}$/.test(String(count)) && Number(count) >= 1 && Number(count) <= MOST_CLONES) return Number(count);
  throw new UsageError(`--clones must be a number from 1 to ${MOST_CLONES}, not "${count}"`);
}

const HOW: Readonly<Record<RestoreMode, string>> = { map: 'by map', copy: 'by copy', lazy: 'lazily' };

/** A snapshot, and the disk of its machine. */
interface Source {
  readonly folder: string;
  /** Pages that the memory file has which clones share. */
  readonly pages: readonly PageRange[];
  readonly image: DiskImage | undefined;
  /** Disk that is to be closed. */
  readonly disk: FileDisk | undefined;
}

async function openSource(folder: string, named: Arguments['options'][string]): Promise<Source> {
  const chain = await inspectSnapshot(folder);
  const { disk } = Object(chain[0]!.layout.state) as { disk?: { file?: unknown } };
  const file = named ?? disk?.file;
  const pages = chain.at(-1)!.layout.ram[0]?.pages ?? [];
  if (typeof file !== 'string') {
    return { folder, pages, image: disk && memoryDisk(demoSector()), disk: undefined };
  }
  const image = new FileDisk(file, 'r');
  if (statSync(file).mtimeMs > statSync(join(folder, 'layout.json')).mtimeMs) {
    complain('note', `${file} has been written since the snapshot was: the guest may find what it does not expect`);
  }
  return { folder, pages, image, disk: image };
}

/** Way in which a clone is made. */
interface Making {
  readonly number: number;
  readonly isOneOfMany: boolean;
  readonly mode: RestoreMode;
  readonly output: GuestOutput;
  readonly snapshots: Snapshots;
}

/** One machine from the snapshot. */
class Clone {
  readonly #source: Source;
  readonly #making: Making;
  readonly #monitor: Monitor;
  readonly #restoreMs: number;
  #runMs = 0;
  #end: Stop | undefined;

  private constructor(source: Source, making: Making, monitor: Monitor, restoreMs: number) {
    this.#source = source;
    this.#making = making;
    this.#monitor = monitor;
    this.#restoreMs = restoreMs;
  }

  static async make(source: Source, making: Making): Promise<Clone> {
    const { folder, image } = source;
    const { number, mode, output, snapshots } = making;
    const began = performance.now();
    const monitor = await withProgress(`restore ${folder}, ${number}`, (work) =>
      Monitor.restore(folder, {
        ...{ ...work, mode },
        ...(image !== undefined && { disk: image.file === undefined ? image : overlayDisk(image) }),
        onLog: (byte) => output.log(byte),
        onSerial: (byte) => {
          output.serial(byte);
          snapshots.serial(byte);
        },
        onDiskError: (error) => complain('note', `${image?.file}: ${(error as Error).message}; the guest was told`),
      }),
    );
    return new Clone(source, making, monitor, performance.now() - began);
  }

  /** Runs it, and gives the exit code. */
  async run(surroundings: Omit<Parameters<typeof runGuest>[1], 'output'>): Promise<number> {
    const { output } = this.#making;
    const began = performance.now();
    try {
      this.#end = await runGuest(this.#monitor, { ...surroundings, output });
    } finally {
      output.end();
    }
    this.#runMs = performance.now() - began;
    return exitCode(this.#end, this.#making.isOneOfMany ? `clone ${this.#making.number}` : undefined);
  }

  /** Facts for programs. */
  facts(): object {
    const { kind, ...how } = this.#end ?? { kind: 'left' };
    const times = { restoreSeconds: this.#restoreMs / 1000, seconds: this.#runMs / 1000 };
    const { own, shared } = this.#bytes();
    const bytes = { ownBytes: own, sharedBytes: shared };
    return { clone: this.#making.number, end: kind, ...how, ...times, ...bytes, ...this.#monitor.counts };
  }

  /** Text for people. */
  line(): string {
    const { own, shared } = this.#bytes();
    const kib = (bytes: number) => `${bytes / 1024} KiB`;
    const { number, mode } = this.#making;
    const times = `restored ${HOW[mode]} in ${this.#restoreMs.toFixed(1)} ms, ran ${(this.#runMs / 1000).toFixed(1)} s`;
    return `clone ${number}: ${times}; RAM: ${kib(own)} of its own, ${kib(shared)} shared with the snapshot`;
  }

  /** Bytes of RAM that are the clone's own, and those that it shares with the snapshot's file. */
  #bytes(): { readonly own: number; readonly shared: number } {
    const { object } = this.#monitor.memory.space.find(0)!.region.mappings()[0]!;
    if (object.kind !== 'private') return { own: Number(object.allocatedBytes), shared: 0 };
    const own = object.ownRanges().map(({ offset, length }) => ({ offset: Number(offset), length: Number(length) }));
    const { pages } = this.#source;
    return { own: total(own), shared: total(pages) - common(pages, own) };
  }

  close(): void {
    this.#monitor.close();
  }
}

function total(ranges: readonly PageRange[]): number {
  return ranges.reduce((bytes, { length }) => bytes + length, 0);
}

/** Bytes that two lists, in order, have in common. */
function common(a: readonly PageRange[], b: readonly PageRange[]): number {
  let bytes = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const [endOfA, endOfB] = [a[i]!.offset + a[i]!.length, b[j]!.offset + b[j]!.length];
    bytes += Math.max(0, Math.min(endOfA, endOfB) - Math.max(a[i]!.offset, b[j]!.offset));
    if (endOfA < endOfB) i++;
    else j++;
  }
  return bytes;
}
