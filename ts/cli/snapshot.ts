// The subcommand `snapshot`: snapshots on disk, without a guest.

import {
  compareSnapshots,
  formatHex,
  inspectSnapshot,
  mergeSnapshot,
  type PageRange,
  type SnapshotDifference,
  type SnapshotFacts,
  verifySnapshot,
} from '../index.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { jsonLine } from './json.ts';
import { print, printLines } from './output.ts';
import { withProgress } from './progress.ts';

const HELP = `usage: membacking snapshot info DIR... [--json]
       membacking snapshot verify DIR... [--json]
       membacking snapshot diff DIR DIR [--json]
       membacking snapshot merge DIR TARGET [--json]

Looks at snapshots of guest memory (manager.snapshot), which are folders with a layout.json and a memory file.

  info       what is in them: the RAM and how much of it is written, devices, whether the caller's state is there;
             of a diff, its bases too
  verify     reads them, with their bases, and says which RAM is not as it was written
  diff       the pages that the second one has otherwise than the first
  merge      writes a diff and its bases into TARGET as one snapshot that needs none
  --json     a line for each snapshot; for diff, each block of RAM that differs; for merge, the new one
  --help     print this

Exit codes: 0 done; 1 damaged, or no snapshot; 2 the usage is wrong. A diff of snapshots that differ ends with 0, too.

Examples:
  membacking snapshot info booted
  membacking snapshot verify booted later && echo whole
  membacking snapshot merge later all-in-one
`;

export const snapshotCommand: Command = {
  help: HELP,
  options: { json: { type: 'boolean' } },
  async run({ options: { json }, operands: [verb, ...folders] }) {
    const run = VERBS[verb ?? ''];
    if (run === undefined || !Object.hasOwn(VERBS, verb!)) {
      throw new UsageError(`say one of ${Object.keys(VERBS).join(', ')}, and name a folder`);
    }
    return run(folders, json === true);
  },
};

const VERBS: Readonly<Record<string, (folders: readonly string[], json: boolean) => Promise<number>>> = {
  info,
  verify,
  diff,
  merge,
};

async function info(folders: readonly string[], json: boolean): Promise<number> {
  checkSome(folders);
  for (const folder of folders) {
    const chain = await inspectSnapshot(folder);
    if (json) await print(jsonLine({ folder, chain: chain.map(chainJson) }));
    else await printLines(chain.flatMap(infoLines));
  }
  return EXIT.done;
}

async function verify(folders: readonly string[], json: boolean): Promise<number> {
  checkSome(folders);
  let isWhole = true;
  for (const folder of folders) {
    const damage = await withProgress(`verify ${folder}`, (work) => verifySnapshot(folder, work));
    isWhole &&= damage.length === 0;
    if (json) await print(jsonLine({ folder, damage }));
    else if (damage.length === 0) await printLines([`${folder}: whole`]);
    else await printLines(damage.map((each) => `${each.folder}: RAM "${each.ram}" is damaged`));
  }
  return isWhole ? EXIT.done : EXIT.wrongInput;
}

async function diff([first, second, ...more]: readonly string[], json: boolean): Promise<number> {
  if (first === undefined || second === undefined || more.length > 0) throw new UsageError('name two folders');
  const differences = await withProgress('diff', (work) => compareSnapshots(first, second, work));
  for (const difference of differences) {
    if (json) await print(jsonLine({ ...difference, pages: difference.pages.map(rangeJson) }));
    else await printLines(differenceLines(difference));
  }
  if (!json && differences.length === 0) await printLines(['no difference']);
  return EXIT.done;
}

async function merge([folder, target, ...more]: readonly string[], json: boolean): Promise<number> {
  if (folder === undefined || target === undefined || more.length > 0) {
    throw new UsageError('name the folder of a snapshot and the one to write');
  }
  const layout = await withProgress('merge', (work) => mergeSnapshot(folder, target, work));
  const facts = { folder: target, layout };
  if (json) await print(jsonLine(chainJson(facts)));
  else await printLines(infoLines(facts));
  return EXIT.done;
}

function checkSome(folders: readonly string[]): void {
  if (folders.length === 0) throw new UsageError('name at least one folder');
}

function infoLines({ folder, layout }: SnapshotFacts): string[] {
  const { id, base, ram, visibility, protections, devices, state } = layout;
  const names = Math.max(...ram.map(({ name }) => name.length), 0);
  return [
    `${folder}: snapshot ${id}${base === undefined ? '' : `, a diff of ${base.id}`}`,
    ...ram.map(({ name, kind, size, pages }) => {
      const share = `${bytesOf(pages) / 1024} of ${size / 1024} KiB written`;
      return `  RAM     ${name.padEnd(names)}  ${kind.padEnd(7)}  ${share}`;
    }),
    ...devices.map(({ name, length, gpa }) => {
      return `  device  ${name}, ${formatHex(length)} bytes, ${gpa === undefined ? 'not placed' : `at ${formatHex(gpa)}`}`;
    }),
    `  ${visibility.length} pieces of RAM switched, ${protections.length} protections, ${state === undefined ? 'no ' : ''}state of the caller`,
  ];
}

function differenceLines({ ram, change, pages }: SnapshotDifference): string[] {
  return [
    `RAM "${ram}" is ${change}: ${bytesOf(pages) / 1024} KiB`,
    ...pages.map(({ offset, length }) => `  ${formatHex(offset)}-${formatHex(offset + length - 1)}`),
  ];
}

function chainJson({ folder, layout: { id, base, ram, devices, state } }: SnapshotFacts): object {
  return {
    ...{ folder, id, base },
    ram: ram.map(({ name, kind, size, pages }) => ({ name, kind, size, bytesWritten: bytesOf(pages) })),
    devices: devices.map(({ name, length, gpa }) => ({ name, length, gpa: gpa === undefined ? null : formatHex(gpa) })),
    hasState: state !== undefined,
  };
}

function rangeJson({ offset, length }: PageRange): object {
  return { start: formatHex(offset), end: formatHex(offset + length - 1) };
}

function bytesOf(ranges: readonly PageRange[]): number {
  return ranges.reduce((bytes, { length }) => bytes + length, 0);
}
