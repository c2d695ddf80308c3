// The reference is what the declarations say, and the declarations say something of all that is exported.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { REFERENCE_MAKER } from '../ts/dev/build.mjs';
import { PATIENCE } from './support/patience.ts';
import { withUserFolder } from './support/user-folder.ts';

const PAGES = 'ts/guide/reference';

/** Text of each page in a folder, by its name. */
function pagesIn(folder: string): Record<string, string> {
  return Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
}

if (existsSync(REFERENCE_MAKER)) {
  test('the pages are what the declarations say: npm run reference makes them anew', (t) => {
    withUserFolder((folder) => {
      const made = join(folder, 'reference');
      const { status, stderr, stdout } = spawnSync(process.execPath, [REFERENCE_MAKER, made], {
        encoding: 'utf8',
        timeout: PATIENCE,
      });
      t.is(status, 0, stdout + stderr);
      const [committed, wanted] = [pagesIn(PAGES), pagesIn(made)];
      t.deepEqual(Object.keys(committed), Object.keys(wanted));
      for (const [name, text] of Object.entries(wanted)) t.is(committed[name], text, name);
    });
  });
} else {
  test.skip('the pages are what the declarations say: node ts/dev/task.mjs reference-set-up installs what that needs', () => {});
}

test('links lead to a page, and to a heading of it', (t) => {
  const pages = pagesIn(PAGES);
  for (const [page, text] of Object.entries(pages)) {
    for (const [link, name, anchor] of text.matchAll(/\]\(([\w.-]+\.md)(?:#([\w-]+))?\)/g)) {
      const headings = [...(pages[name!] ?? '').matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading!.toLowerCase());
      t.true(headings.length > 0 && (anchor === undefined || headings.includes(anchor)), `${page}: ${link}`);
    }
  }
});

/** Members of classes, and fields, with their declaration and what is said of them. */
function* quantities(): Generator<[place: string, comment: string]> {
  const type = /: [^\n]*\b(?:number|bigint|Address|PlainAddress)\b/;
  for (const [page, text] of Object.entries(pagesIn(PAGES))) {
    for (const [, declaration, comment] of text.matchAll(/^```ts\n([^\n]*);\n```\n\n([^`#]*?)\n\n/gm)) {
      if (/^(?:readonly |get )/.test(declaration!) && type.test(declaration!))
        yield [`${page}: ${declaration}`, comment!];
    }
    for (const [, comment, field] of text.matchAll(
      /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n +(?:readonly )?(\w+\??: [^\n]*)/g,
    )) {
      if (type.test(field!)) yield [`${page}: ${field}`, comment!];
    }
  }
}

/** Words that say what a number counts, or is the number of. */
const UNITS = new RegExp(
  `\\b(${[
    'GPAs? HVAs? bytes? pages? sectors? MiB TiB offsets? address bits? milliseconds signed priority value version',
    'numbers? count ids? index descriptors? ports? registers? slots? vCPUs? cores processors nodes? token line link',
    'eventfd kHz kilohertz frequency plans? commands leases? ranges operations regions items capability reason groups',
  ]
    .join(' ')
    .replaceAll(' ', '|')})\\b`,
  'i',
);

test('a number says what it counts', (t) => {
  const all = [...quantities()];
  t.true(all.length > 150, 'they are found');
  const silent = all.filter(([, comment]) => !UNITS.test(comment)).map(([place]) => place);
  t.deepEqual(silent, [], 'Name the unit, or what it is the number of.');
});

test('what is thrown is a code that there is', (t) => {
  const types = readFileSync('ts/core/errors.ts', 'utf8').split('export class')[0]!;
  const codes = new Set([...types.matchAll(/'([A-Z][A-Z_]+)'/g)].map(([, code]) => code!));
  for (const [page, text] of Object.entries(pagesIn(PAGES))) {
    for (const [, thrown] of text.matchAll(/\bThrows((?:,?;? +(?:and )?[A-Z][A-Z_]{3,}\b)+)/g)) {
      for (const [code] of thrown!.matchAll(/[A-Z_]{4,}/g)) t.true(codes.has(code), `${page}: ${code}`);
    }
  }
});
