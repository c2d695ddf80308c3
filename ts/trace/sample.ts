// The traces that come with the package.

import { fileURLToPath } from 'node:url';
import { artefact } from '../core/artefact.ts';

/** Path of the trace that comes with the package: the memory map of a PC with a QXL display, at three moments of its
 *  boot under QEMU. */
export function sampleTrace(): string {
  return fileURLToPath(artefact('samples/pc-boot.trace.jsonl'));
}
