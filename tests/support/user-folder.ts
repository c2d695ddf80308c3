// A folder outside of the tree, from where 'membacking' means this package, as it is for its users.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** While `body` runs. */
export function withUserFolder<Result>(body: (folder: string) => Result): Result {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-user-'));
  try {
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
    const modules = join(folder, 'node_modules');
    mkdirSync(modules);
    symlinkSync(process.cwd(), join(modules, 'membacking')); // ava runs in the project root
    symlinkSync(join(process.cwd(), 'node_modules/@types'), join(modules, '@types'));
    return body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
