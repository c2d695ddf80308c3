// Tests of lazy restores, where the kernel can make them.

import { readdirSync, readFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { Pager } from '../../ts/asked/pager.ts';

/** Reason why nothing can be restored lazily here; undefined where it can. */
export const lazyMissing = whyNotLazy();

function whyNotLazy(): string | undefined {
  try {
    Pager.open().close();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Number of threads of this process that bring pages. */
export function pagerThreads(): number {
  const names = readdirSync('/proc/self/task').map((id) => readFileSync(`/proc/self/task/${id}/comm`, 'utf8'));
  return names.filter((name) => name === 'membacking-page\n').length;
}

/** A test that needs lazy restores; where there are none, a skipped test that says so. One after the other. */
export function lazyTest(title: string, body: (t: ExecutionContext) => void | Promise<void>): void {
  if (lazyMissing === undefined) test.serial(title, body);
  else test.serial.skip(`${title}: ${lazyMissing}`, body);
}
