// Folders that are gone when the test is over, with all that is in them.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** Path of a new, empty folder. */
export function tempFolder(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'membacking-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
