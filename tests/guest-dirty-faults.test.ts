// Dirty pages on a system that fails, from whichever call on: too many may be reported, and never too few.

import type { ExecutionContext } from 'ava';
import type { DirtyMethod } from '../ts/index.ts';
import { run } from './support/faulty-system.ts';
import { eachMethodTest, trackingTest } from './support/tracking.ts';

/** A guest's RAM of 4 MiB, tracked. `unknown(…pages)`: those of which no `collect` has said that they are dirty. */
const TRACKED = `
  const track = (kind, method) => {
    const manager = new GuestMemoryBuilder({ maxAddress: 2 ** 33 - 1, x86LegacySupport: true, debug: true })
      .addRam({ backing: { kind }, ranges: [{ gpa: 0, length: 0x400000 }] })
      .build();
    const known = new Set();
    const tracker = manager.trackDirty({ method });
    const collect = () => {
      for (const { offset, length } of tracker.collect().byObject)
        for (let at = offset; at < offset + length; at += PAGE) known.add(at);
    };
    const unknown = (...pages) => pages.filter((page) => !known.delete(page));
    return { manager, memory: manager.guestMemory, known, collect, unknown };
  };
`;

/** Changes the visibility of dirty RAM while the system fails, from each call on. */
function losesNothing(t: ExecutionContext, method: DirtyMethod, kind: string, visibility: string): void {
  const story = `
    ${TRACKED}
    const problems = [];
    const ends = new Set();
    for (let calls = 0; calls < 30; calls++) {
      const { manager, memory, known, collect, unknown } = track('${kind}', '${method}');
      const ram = { gpa: 0xc0000, length: 0x8000 };
      memory.writeU8(0x1000, 1);
      memory.writeU8(0xc1000, 1);
      system.failAfter(calls);
      ends.add(code(() => manager.ramVisibility.set(ram, '${visibility}')));
      ends.add(code(collect));
      system.heal();
      manager.repair();
      collect();
      problems.push(...unknown(0x1000, 0xc1000).map((page) => [calls, 'lost', page]));
      manager.ramVisibility.set(ram, 'unmapped');
      manager.ramVisibility.set(ram, 'read-write');
      memory.writeU8(0x2000, 1);
      memory.writeU8(0xc2000, 1);
      collect();
      problems.push(...unknown(0x2000, 0xc2000).map((page) => [calls, 'lost later', page]));
      collect();
      known.clear();
      collect();
      if (known.size > 0) problems.push([calls, 'not exact again', [...known]]);
      manager.close();
    }
    return { problems, ends: [...ends].sort() };
  `;
  const { problems, ends } = run(story) as { problems: unknown[]; ends: string[] };
  t.deepEqual(problems, []);
  t.true(ends.includes('done') && ends.length > 1, ends.join());
}

for (const kind of ['shared', 'private']) {
  for (const visibility of ['unmapped', 'read-only']) {
    eachMethodTest(`${kind} RAM becomes ${visibility} while the system fails: no dirty page is lost`, (t, method) =>
      losesNothing(t, method, kind, visibility),
    );
  }
}

trackingTest('tracking begins wholly or not at all, and says why not', (t) => {
  const story = `
    const manager = build('shared');
    const ends = [];
    for (const error of [22, 1, 12]) {
      system.failAfter(0, error);
      ends.push(code(() => manager.trackDirty()));
      system.heal();
    }
    const tracker = manager.trackDirty();
    manager.guestMemory.writeU8(0x1000, 1);
    ends.push([...tracker.collect()].map(({ gpa }) => gpa));
    return ends;
  `;
  t.deepEqual(run(story), ['NO_DIRTY_TRACKING', 'NO_DIRTY_TRACKING', 'SYSTEM', [0x1000]]);
});

eachMethodTest('memory that the kernel does not watch counts as written as a whole, until it does', (t, method) => {
  const story = `
    const manager = build('private');
    let tracker;
    // The first calls open the watch.
    for (let calls = 0; tracker === undefined; calls++) {
      system.failAfter(calls);
      code(() => { tracker = manager.trackDirty({ method: '${method}' }); });
    }
    const sizes = [tracker.collect().bytes, tracker.collect().bytes];
    system.heal();
    sizes.push(tracker.collect().bytes, tracker.collect().bytes);
    return sizes;
  `;
  t.deepEqual(run(story), [0x100000, 0x100000, 0x100000, 0]);
});
