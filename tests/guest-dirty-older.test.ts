// Dirty pages on an older kernel, which notes no writes: lazy restores and tracking share a descriptor there, and who
// writes waits for the thread that brings pages.

import { spawnSync } from 'node:child_process';
import { AVA } from '../ts/dev/run-tests.mjs';
import { FAULTY_ENV } from './support/faulty-system.ts';
import { lazyTest } from './support/lazy.ts';
import { PATIENCE } from './support/patience.ts';

const NAMES = ['guest-dirty-histories', 'guest-lazy', 'guest-lazy-histories'];

lazyTest('what is restored lazily is tracked on Linux 6.6, too', (t) => {
  const env = { ...FAULTY_ENV, LINUX_6_6: '1' };
  const args = [AVA, '--tap', ...NAMES.map((name) => `build/tests/${name}.test.js`)];
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8', env, timeout: PATIENCE });
  t.is(status, 0, stdout + stderr);
  t.regex(stdout, /^ok .* is dirty \(scan\): .* Linux has it since 6\.7 # SKIP$/m);
  t.regex(stdout, /^ok .* while pages are coming: exactly what was written is dirty \(faults\)$/m);
});
