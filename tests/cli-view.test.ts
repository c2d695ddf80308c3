// `membacking view` as a command: where the page goes, and still pictures.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { lines, membacking, SMALL_TRACE, withFiles } from './support/cli.ts';

const FILES = { 'small.trace.jsonl': SMALL_TRACE, 'broken.jsonl': SMALL_TRACE.replace('"priority":1', '"parent":9') };

function still(...args: string[]): string {
  return withFiles(FILES, (cwd) => {
    const { code, out, err } = membacking(['view', 'small.trace.jsonl', '--svg', ...args], { cwd });
    if (code !== 0) throw new Error(err);
    return out;
  });
}

test('the page is written beside nobody asks, or where it is said', (t) => {
  withFiles(FILES, (cwd) => {
    t.deepEqual(membacking(['view', 'small.trace.jsonl'], { cwd }), { code: 0, out: 'small.trace.html\n', err: '' });
    const page = readFileSync(join(cwd, 'small.trace.html'), 'utf8');
    t.regex(page, /^<!doctype html>/);
    t.regex(page, /<title>small\.trace\.jsonl<\/title>/);
    t.notRegex(page, /\{\{|https?:\/\/(?!www\.w3\.org)/);
    t.is(membacking(['view', '-', '--out', '-'], { cwd, input: SMALL_TRACE }).out.slice(0, 15), '<!doctype html>');
    t.is(membacking(['view', 'small.trace.jsonl', '--out', 'other.html'], { cwd }).out, 'other.html\n');
    t.true(existsSync(join(cwd, 'other.html')));
  });
});

test('as JSON: where the page or picture is, how long it is, and how long its history is', (t) => {
  withFiles(FILES, (cwd) => {
    for (const [args, out] of [
      [[], 'small.trace.html'],
      [['--svg', '--out', 'still.svg'], 'still.svg'],
    ] as const) {
      const { code, out: said, err } = membacking(['view', 'small.trace.jsonl', '--json', ...args], { cwd });
      t.is(code, 0, err);
      const bytes = readFileSync(join(cwd, out)).length;
      t.deepEqual(JSON.parse(said), { file: 'small.trace.jsonl', out, bytes, steps: 2, operations: 20 });
    }
  });
});

test('what cannot be read, carried out or written is said, and leaves nothing behind', (t) => {
  withFiles(FILES, (cwd) => {
    for (const [args, message] of [
      [['absent.jsonl'], /^membacking: absent\.jsonl: cannot be read/],
      [['broken.jsonl'], /^membacking: broken\.jsonl: line 21: /],
      [['small.trace.jsonl', '--out', 'no/such/folder.html'], /folder\.html cannot be written/],
    ] as const) {
      const { code, out, err } = membacking(['view', ...args], { cwd });
      t.is(code, 1);
      t.is(out, '');
      t.regex(err, message);
    }
    t.false(existsSync(join(cwd, 'broken.html')));
  });
});

test('options that do not belong together are wrong usage', (t) => {
  const wrong = [
    [],
    ['a', 'b'],
    ['small.trace.jsonl', '--step', '1'],
    ['small.trace.jsonl', '--svg', '--open'],
    ['small.trace.jsonl', '--svg', '--change', '--slots'],
    ['small.trace.jsonl', '--open', '--out', '-'],
    ['small.trace.jsonl', '--json', '--out', '-'],
    ['small.trace.jsonl', '--json', '--svg'],
    ['small.trace.jsonl', '--svg', '--step', '3'],
    ['small.trace.jsonl', '--svg', '--step', 'last'],
    ['small.trace.jsonl', '--svg', '--step', '0'],
    ['small.trace.jsonl', '--svg', '--space', 'io'],
    ['small.trace.jsonl', '--svg', '--explain', 'ram'],
  ];
  withFiles(FILES, (cwd) => {
    t.snapshot(
      wrong.map((args) => {
        const { code, out, err } = membacking(['view', ...args], { cwd });
        t.is(code, 2, args.join(' '));
        t.is(out, '');
        return [`membacking view ${args.join(' ')}`, ...lines(err.trimEnd())];
      }),
    );
  });
});

const STILLS = {
  'of the last step': [],
  'to scale': ['--to-scale', '--space', 'dma'],
  'before and after a step': ['--change'],
  'of a step in which the address space appears': ['--change', '--step', '1'],
  'of a byte and what it hides': ['--explain', '0xf8000'],
  'of a hole': ['--explain', '0x150000'],
  'of all slot operations': ['--slots'],
};

for (const [what, args] of Object.entries(STILLS)) {
  test(`a still ${what}`, (t) => {
    const svg = still(...args);
    t.regex(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" width="960" [\s\S]*<\/svg>\n$/);
    t.is(svg, still(...args));
    t.snapshot([...svg.matchAll(/<text [^>]*>(.*?)<\/text>/g)].map(([, text]) => text));
  });
}
