// Tests of dirty pages, where the kernel can track them.

import test, { type ExecutionContext } from 'ava';
import { GuestMemoryBuilder } from '../../ts/guest/builder.ts';

/** Reason why dirty pages cannot be tracked here; undefined where they can. */
export const trackingMissing = whyNotTracked();

function whyNotTracked(): string | undefined {
  const manager = new GuestMemoryBuilder().addRam({ ranges: [{ gpa: 0, length: 0x1000 }] }).build();
  try {
    manager.trackDirty().close();
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

/** Error that a call throws, if any. */
export function attempt(call: () => void): unknown {
  try {
    call();
    return undefined;
  } catch (error) {
    return error;
  }
}
