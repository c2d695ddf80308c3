// Guests for tests: the guest itself, and whether this machine can run one.

import { existsSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { native } from '../../ts/core/native.ts';

export * from './cpl3-guest.ts';

/** Reason why no guest can run here; undefined where one can. */
export const kvmMissing = whyNoKvm();

function whyNoKvm(): string | undefined {
  if (!existsSync('/dev/kvm')) return '/dev/kvm is not there';
  if (process.arch !== 'x64') return 'the test guest is for x86-64';
  try {
    native().Kvm.open().close();
    return undefined;
  } catch (error) {
    return `/dev/kvm cannot be used (${(error as { code?: string }).code})`;
  }
}

/** A test that needs KVM; where there is none, a skipped test that says so. One after the other: some look at all that
 *  this process has mapped. */
export function kvmTest(title: string, body: (t: ExecutionContext) => void | Promise<void>): void {
  if (kvmMissing) test.skip(`${title}: ${kvmMissing}`, body);
  else test.serial(title, body);
}
