// Working sets: pages that a guest wanted after a lazy restore, in order, beside the snapshot that it was made from.

import { MembackingError } from '../core/errors.ts';
import { Field, refused } from './field.ts';
import { readBeside, writeBeside } from './folder.ts';
import type { SnapshotLayout } from './layout.ts';
import { appendRange, PAGE, type PageRange, pageListText } from './page-list.ts';

const FORMAT = 'membacking-working-set';
const VERSION = 1;

/** Pages of one block of RAM that were wanted one after the other. */
export interface WantedPages {
  /** Name of the RAM. */
  readonly ram: string;
  /** Stretches in the order in which they were wanted. */
  readonly pages: readonly PageRange[];
}

function nameOf({ id }: SnapshotLayout): string {
  return `working-set-${id}.json`;
}

/** Working set of a snapshot in a folder; empty where there is none. Rejects with SYSTEM, SNAPSHOT_LAYOUT,
 *  SNAPSHOT_VERSION. */
export async function readWorkingSet(folder: string, layout: SnapshotLayout): Promise<WantedPages[]> {
  const text = await readBeside(folder, nameOf(layout));
  return text === undefined ? [] : parseWorkingSet(text, layout);
}

/** Writes the working set of a snapshot into its folder, in place of the one before. Rejects with SYSTEM. */
export async function writeWorkingSet(
  folder: string,
  layout: SnapshotLayout,
  wanted: readonly WantedPages[],
): Promise<void> {
  const lists = wanted.map(({ ram, pages }) => ({ ram, pages: pageListText(pages) }));
  const json = { format: FORMAT, version: VERSION, id: layout.id, wanted: lists };
  await writeBeside(folder, nameOf(layout), `${JSON.stringify(json, undefined, 2)}\n`);
}

/** Working set of a text that anybody may have written. */
function parseWorkingSet(text: string, layout: SnapshotLayout): WantedPages[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw refused('working set', 'must be JSON', cause);
  }
  const given = new Field(json, '').object(['format', 'version', 'id', 'wanted']);
  given.format.oneOf([FORMAT]);
  const version = given.version.integer(0, Number.MAX_SAFE_INTEGER);
  if (version !== VERSION) {
    const message = `the working set is of version ${version}, and this package reads ${VERSION}`;
    throw new MembackingError('SNAPSHOT_VERSION', message, { details: { version } });
  }
  given.id.oneOf([layout.id]);
  const sizes = new Map(layout.ram.map(({ name, size }) => [name, size]));
  return given.wanted.list((item) => {
    const { ram, pages } = item.object(['ram', 'pages']);
    const name = ram.oneOf([...sizes.keys()]);
    return { ram: name, pages: parseStretches(pages, sizes.get(name)!) };
  });
}

/** Stretches of a text, in any order, all within `size` bytes. */
function parseStretches(field: Field, size: number): PageRange[] {
  const text = field.matching(/^\d{1,12}\+\d{1,12}( \d{1,12}\+\d{1,12})*$/, 'pages such as "64+1 0+16"');
  return text.split(' ').map((item) => {
    const [first, count] = item.split('+').map(Number) as [number, number];
    if (count === 0 || (first + count) * PAGE > size) throw refused(field.path, 'must have pages of the RAM alone');
    return { offset: first * PAGE, length: count * PAGE };
  });
}

/** Pages in order as few stretches as they make up. */
export function inStretches(pages: Iterable<{ readonly ram: string; readonly offset: number }>): WantedPages[] {
  const wanted: { ram: string; pages: PageRange[] }[] = [];
  for (const { ram, offset } of pages) {
    let last = wanted.at(-1);
    if (last?.ram !== ram) {
      last = { ram, pages: [] };
      wanted.push(last);
    }
    const before = last.pages.at(-1);
    if (before !== undefined && before.offset + before.length === offset)
      appendRange(last.pages, { offset, length: PAGE });
    else last.pages.push({ offset, length: PAGE });
  }
  return wanted;
}

/** Stretches that are brought together, by pages. */
const TOGETHER = 1024;
/** Bytes between two stretches that are brought too, as one larger step is faster than two. */
const GAP = 2 * PAGE;

/** Larger stretches that have all of those that were wanted, and are about in the order of these. */
export function inLargeSteps(pages: readonly PageRange[]): PageRange[] {
  const steps: PageRange[] = [];
  for (let i = 0; i < pages.length; i += TOGETHER) {
    const batch = pages.slice(i, i + TOGETHER).sort((a, b) => a.offset - b.offset);
    let step = batch[0]!;
    for (const { offset, length } of batch) {
      const end = Math.max(step.offset + step.length, offset + length);
      if (offset <= step.offset + step.length + GAP) step = { offset: step.offset, length: end - step.offset };
      else {
        steps.push(step);
        step = { offset, length };
      }
    }
    steps.push(step);
  }
  return steps;
}
