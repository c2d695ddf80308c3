// Eventfds, which Node.js cannot make: an addon of the tests does.

import { writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { artefact } from '../../ts/core/artefact.ts';

const require = createRequire(import.meta.url);

/** Makes an eventfd. It is the caller's to close. */
export function eventfd(): number {
  return require(artefact('obj/own-vm.node').pathname).eventfd();
}

/** Adds one to its counter. */
eventfd.signal = (fd: number): void => {
  writeSync(fd, new Uint8Array(new BigUint64Array([1n]).buffer));
};
