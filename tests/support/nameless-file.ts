// Files without a name: they are gone when their last descriptor is closed, however a test ends.

import { ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Makes a file of `length` zeroes, open to read and write. The descriptor is the caller's to close. */
export function namelessFile(length: number, place = tmpdir()): number {
  const folder = mkdtempSync(join(place, 'membacking-'));
  const fd = openSync(join(folder, 'file'), 'w+');
  rmSync(folder, { recursive: true });
  ftruncateSync(fd, length);
  return fd;
}
