// The subcommand `view`: a page, or a still picture, of a trace or a map.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type Address, formatTrace, MembackingError } from '../index.ts';
import { momentOf } from '../viewer/moment.ts';
import { pageOf } from '../viewer/page.ts';
import { stillOf, stillOfChange, stillOfExplanation, stillOfSlots, type Titled } from '../viewer/stills.ts';
import { Timeline } from '../viewer/timeline.ts';
import { addressFrom } from './address.ts';
import { type Arguments, type Command, checkFiles, EXIT, UsageError } from './command.ts';
import { jsonLine } from './json.ts';
import { complain, print, printLines } from './output.ts';
import { type History, readHistory } from './source.ts';

const HELP = `usage: membacking view FILE [--out FILE.html] [--open] [--json]
       membacking view FILE --svg [--change | --explain GPA | --slots] [OPTION...]

Writes one page that shows a trace or a map step by step: the regions as layers, what they hide, what the guest
sees, which memory is mapped there, the memory slots; each step's plan; why a byte is what it is. The page has
everything in it and asks no network; it works from a file, and a link to a step is its address.

  FILE         a trace or a map of QEMU, plain or gzipped; - for standard input
  --out FILE   where the page goes, - for standard output; without it, the input's name with .html in this folder
  --open       show it in the browser; without --out the page goes into a temporary folder

A still picture instead, as SVG to standard output, or to --out:

  --svg        of what an address space is after a step
  --change     of that before and after the step, with what differs marked
  --explain A  of who is seen at the guest-physical address A (hexadecimal), and what that hides
  --slots      of all memory slot operations in the trace, and of the plans around which vCPUs are held
  --step N     the step; without it, the last. A transaction is one step, and so is an operation outside of one
  --space NAME the address space; without it, the first that has memory slots, or shows anything
  --to-scale   every byte as wide as every other; without it, small ranges are drawn wide enough to be seen
  --json       of a page or picture that goes to a file: one line, {"file","out","bytes","steps","operations"}
  --help       print this

Examples:
  membacking view pc.jsonl --open
  membacking view mtree.txt --svg --to-scale > map.svg
  membacking view pc.jsonl --svg --change --step 12 --out change.svg
`;

type Options = Arguments['options'];

export const viewCommand: Command = {
  help: HELP,
  options: {
    out: { type: 'string' },
    open: { type: 'boolean' },
    svg: { type: 'boolean' },
    change: { type: 'boolean' },
    explain: { type: 'string' },
    slots: { type: 'boolean' },
    step: { type: 'string' },
    space: { type: 'string' },
    'to-scale': { type: 'boolean' },
    json: { type: 'boolean' },
  },
  async run({ options, operands: files }) {
    checkFiles(files);
    const [file, another] = files;
    if (file === undefined || another !== undefined) throw new UsageError('name one FILE');
    checkOptions(options);
    const history = await readHistory(file);
    const name = file === '-' ? 'membacking' : basename(file);
    const timeline = options.svg || options.json ? timelineOf(history) : undefined;
    const text = options.svg ? stillFrom(timeline!, name, options) : pageFrom(history, name);
    const path = pathFor(name, options);
    if (path === undefined) {
      await print(text);
      return EXIT.done;
    }
    write(path, text);
    if (options.json) {
      const counts = { bytes: Buffer.byteLength(text), steps: timeline!.length, operations: history.operations.length };
      await print(jsonLine({ file, out: path, ...counts }));
    } else if (!options.svg) await printLines([path]);
    if (options.open) await open(path);
    return EXIT.done;
  },
};

function timelineOf({ header, operations }: History): Timeline {
  const timeline = new Timeline(header);
  timeline.append(operations);
  return timeline;
}

function pageFrom({ header, operations }: History, name: string): string {
  const template = readFileSync(new URL('./viewer.html', import.meta.url), 'utf8');
  return pageOf(template, name, formatTrace(header, operations));
}

const OF_STILLS = ['change', 'explain', 'slots', 'step', 'space', 'to-scale'] as const;

function checkOptions(options: Options): void {
  const { svg, open: opened, out, change, explain, slots, json } = options;
  if (json && (out === '-' || (svg && out === undefined))) {
    throw new UsageError('--json takes standard output: give the page or picture a file with --out');
  }
  if (svg) {
    if (opened) throw new UsageError('--open is for a page, and --svg makes a picture');
    if ([change, explain, slots].filter((each) => each !== undefined).length > 1) {
      throw new UsageError('give one of --change, --explain and --slots');
    }
    return;
  }
  const misplaced = OF_STILLS.find((option) => options[option] !== undefined);
  if (misplaced !== undefined) throw new UsageError(`--${misplaced} is for a picture: add --svg`);
  if (opened && out === '-') throw new UsageError('a page on standard output cannot be opened');
}

// ---- Stills --------------------------------------------------------------------------------------

function stillFrom(timeline: Timeline, name: string, options: Options): string {
  if (options.slots) return stillOfSlots(timeline, `Memory slots of ${name}, ${timeline.length} steps`);
  const step = stepFrom(options.step, timeline.length);
  timeline.goTo(step);
  const space = spaceFrom(timeline, options.space);
  if (options.explain !== undefined) return stillOfExplanation(explanation(timeline, space, String(options.explain)));
  const scale = options['to-scale'] ? 'true' : 'compressed';
  const after = titled(timeline, space, name);
  if (!options.change) return stillOf(after, scale);
  if (step === 0) throw new UsageError('before step 0 there is nothing: name another --step');
  timeline.goTo(step - 1);
  const isThere = timeline.replay.spaces().some(({ id }) => id === space.id);
  const before = isThere
    ? titled(timeline, space, name)
    : {
        title: `${name}: step ${step - 1}, no such address space`,
        moment: { flat: [], layers: [], mappings: [], slots: [] },
      };
  return stillOfChange(before, after, scale);
}

interface Space {
  readonly id: number;
  readonly name: string;
}

function titled(timeline: Timeline, { id, name }: Space, file: string): Titled {
  const title = `${file}: address space ${name} after step ${timeline.step} of ${timeline.length}`;
  return { title, moment: momentOf(timeline.replay, id) };
}

function stepFrom(text: Options[string], length: number): number {
  if (text === undefined) return length;
  const step = /^\d{1,9}$/.test(String(text)) ? Number(text) : Number.NaN;
  if (step <= length) return step;
  throw new UsageError(`--step must be a number from 0 to ${length}, not "${text}"`);
}

function spaceFrom({ replay }: Timeline, name: Options[string]): Space {
  const spaces = replay.spaces();
  const [first] = spaces;
  if (first === undefined) throw new UsageError('there is no address space at that step');
  const found =
    name === undefined
      ? (spaces.find(({ id }) => replay.slots(id).length > 0) ??
        spaces.find(({ id }) => replay.flatView(id).length > 0) ??
        first)
      : spaces.find((space) => space.name === name);
  if (found !== undefined) return found;
  throw new UsageError(
    `there is no address space "${name}"; there are ${spaces.map((space) => space.name).join(', ')}`,
  );
}

function explanation({ replay }: Timeline, space: Space, gpa: string) {
  const address: Address = addressFrom(gpa);
  return replay.explain(address)[replay.spaces().findIndex(({ id }) => id === space.id)]!;
}

// ---- Where it goes -------------------------------------------------------------------------------

/** The file that is written; undefined for standard output. */
function pathFor(name: string, { out, open: opened, svg }: Options): string | undefined {
  if (out === '-' || (svg && out === undefined)) return undefined;
  if (typeof out === 'string') return out;
  const file = `${name.replace(/(\.jsonl|\.json|\.txt)?(\.gz)?$/, '')}.html`;
  return opened ? join(mkdtempSync(join(tmpdir(), 'membacking-')), file) : file;
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (cause) {
    throw new MembackingError('SYSTEM', `${path} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

/** Shows a file as its user's desktop does; where there is none, says so. */
function open(path: string): Promise<void> {
  return new Promise((resolve) => {
    const child = spawn('xdg-open', [path], { stdio: 'ignore', detached: true });
    child.once('error', () => {
      complain('note', 'there is no xdg-open here: open the page yourself');
      resolve();
    });
    child.once('spawn', () => {
      child.unref();
      resolve();
    });
  });
}
