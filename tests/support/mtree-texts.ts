// Texts that QEMU's monitor printed for "info mtree" and "info mtree -f", unpacked from tests/fixtures (made by
// ts/dev/pack-fixtures.mjs), and what their flat views say.

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { importMaps, type TraceOperation, TraceReplay } from '../../ts/index.ts';

interface MtreeText {
  readonly name: string;
  readonly text: string;
}

/** Flat views as lines, one for each row, by the name of the address space; of several with one name in any order. */
type Views = Readonly<Record<string, readonly string[]>>;

export function mtreeTexts(): MtreeText[] {
  const packed = readFileSync('tests/fixtures/qemu-mtree.jsonl.gz'); // ava runs in the project root
  return gunzipSync(packed)
    .toString('utf8')
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [name, text] = JSON.parse(line);
      return { name, text };
    });
}

export function mtreeText(name: string): string {
  return (mtreeTexts().find((each) => each.name === name) as MtreeText).text;
}

/** The tree without the flat view, and the flat view without the tree. */
export function parted(text: string): { tree: string; flat: string } {
  const at = text.indexOf('FlatView #0');
  return { tree: text.slice(0, at), flat: text.slice(at) };
}

/** Views that the last answer to "info mtree -f" in a text says. */
export function saidBy(text: string): Views {
  const views: Record<string, string[]> = {};
  for (const view of text.slice(text.lastIndexOf('FlatView #0')).split('FlatView #').slice(1)) {
    const rows = [
      ...view.matchAll(/^ {2}(\w+)-(\w+) \(prio -?\d+, ([^)]+)\): (.+?)( @\w+)?( owner:.*| parent:.*)?\r?$/gm),
    ];
    const lines = rows.map(([, start, end, type, name, offset]) => {
      const plain = (hex = '0') => BigInt(`0x${hex.replace(' @', '')}`).toString(16);
      return `${plain(start)}-${plain(end)} ${name} + ${plain(offset)}${type === 'rom' ? ' read-only' : ''}`;
    });
    for (const [, space] of view.matchAll(/^ AS "(.*)", root: /gm)) add(views, space as string, lines);
  }
  return views;
}

/** Views that the core makes of a text. */
export function shownBy(text: string): { views: Views; notes: readonly string[] } {
  const { operations, notes } = importMaps([{ name: 'text', text }]);
  return { views: viewsOf(operations), notes };
}

export function viewsOf(operations: readonly TraceOperation[]): Views {
  const replay = new TraceReplay();
  for (const operation of operations) if (!SINKS.includes(operation.op)) replay.apply(operation);
  const views: Record<string, string[]> = {};
  for (const { name, ranges } of replay.flatViews()) {
    const lines = ranges.map((range) => {
      const [start, length] = [BigInt(range.gpa), BigInt(range.length)];
      const rows = `${start.toString(16)}-${(start + length - 1n).toString(16)}`;
      return `${rows} ${range.name} + ${range.offsetInRegion.toString(16)}${range.readonly ? ' read-only' : ''}`;
    });
    add(views, name, lines);
  }
  return views;
}

const SINKS: readonly string[] = ['va', 'partition', 'attach'];

/** Address spaces with one name come in any order. */
function add(views: Record<string, string[]>, name: string, lines: readonly string[]): void {
  views[name] = [...(views[name] ?? []), lines.join('\n')].sort();
}
