// Processors of threads that wake each other: how long a wake-up takes is up to where both are.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { threadsNamed } from '../../support/threads.ts';

/** Threads that answer faults: the addon's, and the baseline's. */
const HANDLERS: readonly string[] = ['membacking-page', 'membacking-dirt', 'bare-page'];

/** Calls `body` with the threads that answer faults on the main thread's processor, and then on another one. */
export async function eachPlacement(body: (where: string) => Promise<void>): Promise<void> {
  const [first, last] = processors();
  for (const [handler, where] of [
    [first, "on the toucher's processor"],
    [last, 'on another one'],
  ] as const) {
    place(first, (thread) => thread === 'node');
    place(handler, (thread) => HANDLERS.includes(thread));
    await body(where);
  }
  place(`${first}-${last}`, () => true);
}

/** The first and the last of the processors that this process may use. */
function processors(): [string, string] {
  const [, first, last = first] = /^Cpus_allowed_list:\s+(\d+)(?:.*\D(\d+))?$/m.exec(
    readFileSync('/proc/self/status', 'utf8'),
  )!;
  return [first!, last!];
}

/** Keeps threads of this process on processors. */
function place(processor: string, isMeant: (thread: string) => boolean): void {
  for (const thread of threadsNamed(isMeant)) execFileSync('taskset', ['-c', '-p', processor, thread]);
}
