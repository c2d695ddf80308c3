// Tests of lazy restores, where the kernel can make them.

import test, { type ExecutionContext } from 'ava';
import { Pager } from '../../ts/asked/pager.ts';

const missing = whyNotLazy();

function whyNotLazy(): string | undefined {
  try {
    Pager.open().addon.close();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** A test that needs lazy restores; where there are none, a skipped test that says so. One after the other. */
export function lazyTest(title: string, body: (t: ExecutionContext) => void | Promise<void>): void {
  if (missing === undefined) test.serial(title, body);
  else test.serial.skip(`${title}: ${missing}`, body);
}
