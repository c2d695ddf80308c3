// The guide's pages and the README are programs: what they claim is run, against the package as it is shipped.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import test from 'ava';

/** Below build/, from where 'membacking' means this package. */
const FOLDER = 'build/guide';
const pages = ['README.md', ...readdirSync('ts/guide').map((name) => `ts/guide/${name}`)];

/** All examples of a page, one after the other. */
function programOf(page: string): string {
  return [...readFileSync(page, 'utf8').matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code).join('\n');
}

for (const page of pages) {
  test(`the examples of ${page} do what they say`, (t) => {
    const program = programOf(page);
    t.not(program, '');
    mkdirSync(FOLDER, { recursive: true });
    const file = `${FOLDER}/${basename(page, '.md')}.mjs`;
    writeFileSync(file, program);
    const { status, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8', timeout: 60_000 });
    t.is(status, 0, stderr);
  });
}
