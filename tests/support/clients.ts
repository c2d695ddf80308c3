// Guests whose memory processes of their own have, and tests of which nothing is left.

import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { GuestMemoryManager } from '../../ts/guest/manager.ts';
import { EventFd, type ShareOptions } from '../../ts/index.ts';
import { DeviceProcess } from './device-process.ts';
import { footprint } from './footprint.ts';
import { PATIENCE } from './patience.ts';
import { buildVm, MIB } from './vm.ts';

type Footprint = ReturnType<typeof footprint>;

export const PAGE = 0x1000;
/** A page of RAM. */
export const AT = 2 * MIB;
export const BAR = 0x8000_0000;

/** A test with a manager, of which nothing is left in this process at its end. */
export function clientTest(
  title: string,
  body: (t: ExecutionContext, manager: GuestMemoryManager) => Promise<void>,
  options: Parameters<typeof buildVm>[0] = {},
): void {
  test.serial(title, async (t) => {
    t.timeout(PATIENCE);
    beginWaiting();
    const before = footprint();
    const manager = buildVm(options);
    try {
      await body(t, manager);
    } finally {
      await DeviceProcess.killAll();
      manager.close();
    }
    t.deepEqual(left(footprint(), before), []);
  });
}

/** Makes the thread that waits for descriptors, which is there once for the process. */
function beginWaiting(): void {
  const eventFd = EventFd.create();
  eventFd.wait().catch(() => {});
  eventFd.close();
}

/** Descriptors and mappings that are there now and were not before. Sockets of earlier processes may have gone. */
function left(now: Footprint, before: Footprint): string[] {
  const counts = new Map<string, number>();
  for (const each of Object.values(before).flat()) counts.set(each, (counts.get(each) ?? 0) + 1);
  return Object.values(now)
    .flat()
    .filter((each) => {
      const count = counts.get(each) ?? 0;
      counts.set(each, count - 1);
      return count <= 0;
    });
}

/** A device process with a share of its own. */
export async function deviceOf(
  manager: GuestMemoryManager,
  options?: ShareOptions,
  vtl: 0 | 2 = 0,
): Promise<DeviceProcess> {
  return DeviceProcess.open(manager.client(vtl).share(options));
}

/** Waits for what happens by itself. */
export async function settled(t: ExecutionContext, isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(5);
  t.pass();
}
