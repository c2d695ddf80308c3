// Recorded memory maps of whole boots: SeaBIOS 1.16.2, a boot sector, a reset, and the same again; and a kernel without
// firmware. Made with
//
//   membacking boot --disk IMAGE --trace FILE     (IMAGE: lookingAround of tests/support/pc-guests.ts)
//   membacking boot --kernel IMAGE --initrd FILE --memory 3328M --append "console=ttyS0 quiet" --trace FILE
//                                                 (IMAGE: bzImage of tests/support/pc-guests.ts)

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import test from 'ava';
import { parseTrace, type TracePlan, TraceReplay } from '../ts/index.ts';

for (const boot of ['seabios', 'kernel']) {
  test(`a recorded boot gives the same plans everywhere: ${boot}`, (t) => {
    const fixture = readFileSync(`tests/fixtures/${boot}-boot.trace.jsonl.gz`);
    const { header, operations } = parseTrace(gunzipSync(fixture).toString());
    const hash = createHash('sha256');
    const classes: Record<string, number> = {};
    const onPlan = (plan: TracePlan) => {
      hash.update(plan.bytes);
      classes[plan.disturbance] = (classes[plan.disturbance] ?? 0) + 1;
    };
    const replay = new TraceReplay({ policy: header.policy, onPlan });
    for (const operation of operations) replay.apply(operation);
    t.snapshot({ operations: operations.length, plans: classes, planHash: hash.digest('hex') });
    t.snapshot(replay.renderFlatViews());
  });
}
