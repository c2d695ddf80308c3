// The tree of stretches against a plain list.

import test from 'ava';
import { RangeTree, type Stretch } from '../ts/core/range-tree.ts';
import { Random, SEED, tries } from './support/random.ts';

function inOrder(items: readonly Stretch[]): Stretch[] {
  return [...items].sort((a, b) => a.start - b.start || a.order - b.order);
}

const SHAPES: readonly [name: string, places: number, longest: number][] = [
  ['stretches all over the place', 100_000, 100],
  ['stretches that mostly overlap', 1000, 500],
  ['stretches that begin at the same few addresses', 4, 3],
];

for (const [name, places, longest] of SHAPES) {
  test(`${name} are found by what they touch, however many come and go`, (t) => {
    t.log(`seed ${SEED}`);
    const random = new Random(SEED + places);
    const tree = new RangeTree<Stretch>();
    const list: Stretch[] = [];
    let order = 0;
    // Mostly growing, then mostly shrinking, to nothing in the end.
    for (const growth of [9, 5, 2, 8, 0]) {
      for (let step = 0; step < tries(1500) || (growth === 0 && list.length > 0); step++) {
        if (random.below(10) < growth) {
          const start = random.below(places);
          const item = { start, end: start + 1 + random.below(longest), order: order++ };
          tree.add(item);
          list.push(item);
        } else if (list.length > 0) {
          tree.delete(list.splice(random.below(list.length), 1)[0]!);
        }
        if (step % 16 !== 0) continue;
        const start = random.below(places);
        const end = start + random.below(longest);
        const touched = inOrder(list.filter((item) => item.start < end && item.end > start));
        t.deepEqual(tree.overlapping(start, end), touched);
        t.is(tree.overlaps(start, end), touched.length > 0);
      }
      t.deepEqual(tree.all(), inOrder(list));
      t.is(tree.size, list.length);
    }
  });
}

test('what is not in the tree is not taken out of it', (t) => {
  const tree = new RangeTree<Stretch>();
  tree.add({ start: 0, end: 1, order: 0 });
  t.throws(() => tree.delete({ start: 0, end: 1, order: 0 }), { message: /assertion/ });
});
