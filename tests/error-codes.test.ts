// The guide's page of error codes, beside the codes that there are.

import { readdirSync, readFileSync } from 'node:fs';
import test from 'ava';

/** Codes of the process's warnings, as the sources name them. */
const warnings = readdirSync('ts', { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .flatMap((path) => [...readFileSync(`ts/${path}`, 'utf8').matchAll(/'MembackingWarning', code: '([A-Z_]+)'/g)])
  .map(([, code]) => code!);

test('every code has a row that says what to do, and every row a code', (t) => {
  const types = readFileSync('ts/core/errors.ts', 'utf8').split('export class')[0]!;
  const codes = new Set([...types.matchAll(/'([A-Z][A-Z_]+)'/g)].map(([, code]) => code!));
  const rows = readFileSync('ts/guide/errors.md', 'utf8')
    .split('\n')
    .filter((line) => /^\| `/.test(line));
  const told = rows.flatMap((row) => [...row.split('|')[1]!.matchAll(/`([A-Z_]+)`/g)].map(([, code]) => code!));
  t.deepEqual([...told].sort(), [...codes, ...warnings].sort());
  t.true(warnings.length > 3);
  for (const row of rows)
    t.true(
      row
        .split('|')
        .slice(2, 4)
        .every((cell) => cell.trim() !== ''),
      row,
    );
});
