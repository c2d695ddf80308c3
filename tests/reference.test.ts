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
