// Leases in the way of changes: a guest with memory that is leased, and a change that would take it away.

import test, { type ExecutionContext } from 'ava';
import type { GuestMemoryManager } from '../../ts/index.ts';
import { buildVm } from './vm.ts';

/** Memory that `hide` takes from the guest. */
export const PAM = { gpa: 0xc8000, length: 0x4000 };
/** A page of it. */
export const AT = 0xc9000;

export function hide(manager: GuestMemoryManager): void {
  manager.ramVisibility.set(PAM, 'unmapped');
}

/** A test with a guest of its own. */
export function leaseTest(
  title: string,
  body: (t: ExecutionContext, manager: GuestMemoryManager) => void | Promise<void>,
): void {
  test.serial(title, async (t) => {
    const manager = buildVm({ x86LegacySupport: true });
    try {
      await body(t, manager);
    } finally {
      manager.close();
    }
  });
}
