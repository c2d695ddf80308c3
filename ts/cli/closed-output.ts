// Whether standard output was closed by a shell (`>&-`). Node.js opens /dev/null in its place and says nothing.

import { readFileSync, readlinkSync } from 'node:fs';

const WRITE_AND_READ = 0o2;

/** A shell's `> /dev/null` is open for writing alone; one that a program gives is the shell's own as well, or comes
 *  from no shell. */
export function isOutputClosed(): boolean {
  try {
    const parent = `/proc/${process.ppid}`;
    return (
      isOpenedByNode('/proc/self') &&
      /^(ba|da|z|k|fi|a|)sh\n$/.test(readFileSync(`${parent}/comm`, 'utf8')) &&
      !isOpenedByNode(parent)
    );
  } catch {
    return false; // nothing can be known
  }
}

/** Whether the standard output of a process is what Node.js opens where there is none. */
function isOpenedByNode(process: string): boolean {
  try {
    if (readlinkSync(`${process}/fd/1`) !== '/dev/null') return false;
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`${process}/fdinfo/1`, 'utf8'))?.[1] ?? '0';
    return (Number.parseInt(flags, 8) & 0o3) === WRITE_AND_READ;
  } catch {
    return false; // it is closed there
  }
}
