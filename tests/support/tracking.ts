// Tests of dirty pages, where the kernel can track them.

import test, { type ExecutionContext } from 'ava';
import { GuestMemoryBuilder } from '../../ts/guest/builder.ts';
import type { DirtyMethod } from '../../ts/index.ts';

/** Reason why dirty pages cannot be tracked here; undefined where they can. */
export const trackingMissing = whyNotTracked();

function whyNotTracked(method?: DirtyMethod): string | undefined {
  const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x1000 }] }).build();
  try {
    manager.trackDirty(method && { method }).close();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  } finally {
    manager.close();
  }
}

/** A test that needs the tracking of dirty pages; where there is none, a skipped test that says so. One after the
 *  other. */
export function trackingTest(title: string, body: (t: ExecutionContext) => void | Promise<void>): void {
  if (trackingMissing === undefined) test.serial(title, body);
  else test.serial.skip(`${title}: ${trackingMissing}`, body);
}

/** Ways to track dirty pages, and why one cannot be had here. */
export const METHODS = (['scan', 'faults'] as const).map((method) => ({ method, missing: whyNotTracked(method) }));

/** A test of each way to track dirty pages; of one that cannot be had here, a skipped test that says so. */
export function eachMethodTest(
  title: string,
  body: (t: ExecutionContext, method: DirtyMethod) => void | Promise<void>,
): void {
  for (const { method, missing } of METHODS) {
    const run = (t: ExecutionContext) => body(t, method);
    if (missing === undefined) test.serial(`${title} (${method})`, run);
    else test.serial.skip(`${title} (${method}): ${missing}`, run);
  }
}

/** Error that a call throws, if any. */
export function attempt(call: () => void): unknown {
  try {
    call();
    return undefined;
  } catch (error) {
    return error;
  }
}
