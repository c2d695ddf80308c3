// Processors of threads that wake each other: how long a wake-up takes is up to where both are.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { threadsNamed } from '../../support/threads.ts';

/** Threads that answer faults: the addon's, and the baseline's. */
const HANDLERS: readonly string[] = ['membacking-page', 'membacking-dirt', 'bare-page'];

type Body = (where: string) => Promise<void>;

/** Calls `body` with the threads that answer faults on the main thread's processor, and then on another one. */
export async function eachPlacement(body: Body): Promise<void> {
  const put = (processor: string) => place(processor, (thread) => HANDLERS.includes(thread));
  await eachProcessor("on the toucher's processor", put, body);
}

/** Calls `body` with other processes on the main thread's processor, and then on another one. */
export async function eachPlacementOf(processes: readonly number[], body: Body): Promise<void> {
  const put = (processor: string) => {
    for (const pid of processes) execFileSync('taskset', ['-a', '-c', '-p', processor, `${pid}`]);
  };
  await eachProcessor("on the manager's processor", put, body);
}

/** Calls `body` with what is `put` on the main thread's processor, which is `here`, and then on another one. */
async function eachProcessor(here: string, put: (processor: string) => void, body: Body): Promise<void> {
  const [first, last] = processors();
  for (const [processor, where] of [
    [first, here],
    [last, 'on another one'],
  ] as const) {
    place(first, (thread) => thread === 'node');
    put(processor);
    await body(where);
  }
  place(`${first}-${last}`, () => true);
  put(`${first}-${last}`);
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
