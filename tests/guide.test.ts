// The guide's pages and the README are programs: what they claim is run, against the package as it is shipped.

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { PATIENCE } from './support/patience.ts';
import { withUserFolder } from './support/user-folder.ts';

const pages = [
  'README.md',
  ...readdirSync('ts/guide').flatMap((name) => (name.endsWith('.md') ? [`ts/guide/${name}`] : [])),
];

/** All examples of a page, one after the other. */
function programOf(page: string): string {
  return [...readFileSync(page, 'utf8').matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code).join('\n');
}

for (const page of pages) {
  test(`the examples of ${page} do what they say`, (t) => {
    const program = programOf(page);
    t.not(program, '');
    const { status, stderr } = withUserFolder((folder) => {
      const file = join(folder, 'examples.js');
      writeFileSync(file, program);
      return spawnSync(process.execPath, [file], { encoding: 'utf8', timeout: PATIENCE });
    });
    t.is(status, 0, stderr);
  });
}
