// Long random histories against the model: aliases, containers, mappings that split and overwrite, private memory, two
// spaces that share regions, two VA spaces, two partitions (one of them attached up to three times), protections, late
// attachments, nested transactions, aborts, commits that must be refused, commits that fail, and what cannot be put
// back after them.

import test from 'ava';
import fc from 'fast-check';
import { type Counts, History, type Step } from './support/history.ts';
import { SEED, tries } from './support/random.ts';
import { BUILDS } from './support/world.ts';

const ACTIONS = 26;
const number = fc.noBias(fc.nat({ max: 95 }));
const step: fc.Arbitrary<Step> = fc.record({
  action: fc.noBias(fc.nat({ max: ACTIONS - 1 })),
  a: number,
  b: number,
  c: number,
  d: number,
});

for (const build of BUILDS) {
  test(`random histories end up where the model does, step by step (${build}, seed ${SEED})`, (t) => {
    const total: Counts = { operations: 0, commits: 0, refused: 0, aborts: 0, failed: 0, lost: 0 };
    const histories = fc.property(fc.array(step, { minLength: 100, maxLength: 300, size: 'max' }), (steps) => {
      const history = new History(build);
      history.run(steps);
      for (const key of Object.keys(total) as (keyof Counts)[]) total[key] += history.counts[key];
    });
    const numRuns = tries(build === 'release' ? 150 : 40);
    fc.assert(histories, { seed: SEED, numRuns, includeErrorInReport: true } as fc.Parameters<[Step[]]>);
    t.log(total);
    t.true(total.commits > 20 * numRuns && total.refused >= numRuns / 2 && total.aborts > numRuns);
    t.true(total.failed >= numRuns / 2 && total.lost >= numRuns / 2);
  });
}
